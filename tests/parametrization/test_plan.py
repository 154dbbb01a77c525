"""Roles, plans and their errors."""

import copy
import pickle
from collections import OrderedDict

import pytest
import torch
from nets import MLP, ConvNet, Transformer, tokens
from torch import nn

from mutransfer import Plan, Role, scaling_plan
from mutransfer.errors import UserError


class Bare(nn.Module):
    """One bare parameter of a given shape, owned by a module that the plan does not know."""

    def __init__(self, *shape):
        super().__init__()
        self.p = nn.Parameter(torch.randn(*shape))


def roles(plan):
    return {name: s.role.value for name, s in plan.items()}


def test_roles_of_a_transformer():
    """Embeddings, biases and norm gains are inputs, matrices hidden, the readout an output."""
    found = roles(scaling_plan(Transformer(32), Transformer(128, depth=2)))
    assert found["embed.weight"] == found["blocks.1.ln1.weight"] == found["blocks.0.mlp.0.bias"] == "input"
    assert found["blocks.0.attn.qkv.weight"] == found["blocks.1.mlp.2.weight"] == "hidden"
    assert found["readout.weight"] == "output"


def test_roles_of_convolutions():
    """A kernel is a map for each position (App. B.1); depthwise ones have a finite fan_in."""
    assert roles(scaling_plan(ConvNet(8), ConvNet(16))) == {
        "conv1.weight": "input",
        "bn1.weight": "input",
        "bn1.bias": "input",
        "conv2.weight": "hidden",
        "conv2.bias": "input",
        "bn2.weight": "input",
        "bn2.bias": "input",
        "fc.weight": "output",
        "fc.bias": "scalar",
    }

    def net(w):
        return nn.ModuleList([nn.Conv2d(w, w, 3, groups=w, bias=False), nn.ConvTranspose2d(w, 3, 3, bias=False)])

    assert roles(scaling_plan(net(8), net(16))) == {"0.weight": "input", "1.weight": "output"}


def test_embedding_and_readout_of_one_shape_differ():
    """(vocab, d) is an input in nn.Embedding and an output in nn.Linear: the shape alone cannot tell."""
    plan = scaling_plan(
        nn.ModuleList([nn.Embedding(50, 8), nn.Linear(8, 50, bias=False)]),
        nn.ModuleList([nn.Embedding(50, 32), nn.Linear(32, 50, bias=False)]),
    )
    assert roles(plan) == {"0.weight": "input", "1.weight": "output"}


def test_torch_modules_with_their_own_weights():
    """LSTM and MultiheadAttention hold their matrices themselves, in nn.Linear's layout."""
    plan = scaling_plan(nn.LSTM(5, 8), nn.LSTM(5, 16))
    assert roles(plan) == {
        "weight_ih_l0": "input",
        "weight_hh_l0": "hidden",
        "bias_ih_l0": "input",
        "bias_hh_l0": "input",
    }
    plan = scaling_plan(nn.MultiheadAttention(8, 2, add_bias_kv=True), nn.MultiheadAttention(16, 2, add_bias_kv=True))
    assert plan["in_proj_weight"].role is Role.HIDDEN and plan["bias_k"].role is Role.INPUT


@pytest.mark.parametrize(
    ("base", "target", "says"),
    [
        (Bare(4, 4, 4), Bare(8, 8, 8), "three or more growing"),
        (nn.Bilinear(4, 4, 4), nn.Bilinear(8, 8, 8), "three or more growing"),
        (Bare(10, 4), Bare(10, 8), "roles="),
        (Bare(4, 6), Bare(8, 24), "roles="),
        (nn.Conv1d(4, 4, 3, bias=False), nn.Conv1d(4, 8, 5, bias=False), "kernel grows"),
        (nn.Embedding(10, 4), nn.Embedding(20, 8), "vocabulary"),
        (Bare(4), Bare(4, 4), "number of dimensions"),
    ],
)
def test_what_cannot_be_classified_is_refused(base, target, says):
    """A guess would be a silent SP: the error names the tensor, both shapes and the way out."""
    name = next(n for n, _ in target.named_parameters())
    with pytest.raises(ValueError, match=says) as e:
        scaling_plan(base, target)
    assert f"'{name}'" in str(e.value) and str(list(dict(target.named_parameters())[name].shape)) in str(e.value)


def test_roles_argument_decides_and_is_checked():
    """A bare (T, d) is what the user says it is; a wrong name or role is answered with the nearest."""
    assert scaling_plan(Bare(10, 4), Bare(10, 8), optimizer="sgd", roles={"p": "input"})["p"].lr == 2
    assert scaling_plan(Bare(10, 4), Bare(10, 8), optimizer="sgd", roles={"p": "output"})["p"].lr == 1 / 2
    assert scaling_plan(Bare(3, 4, 4), Bare(3, 8, 8), roles={"p": Role.HIDDEN})["p"].lr == 1 / 2
    with pytest.raises(UserError, match="'p'"):
        scaling_plan(Bare(10, 4), Bare(10, 8), roles={"pp": "input"})
    with pytest.raises(UserError, match="'input'"):
        scaling_plan(Bare(10, 4), Bare(10, 8), roles={"p": "inptu"})
    assert scaling_plan(Bare(1, 10, 4), Bare(1, 10, 8))["p"].role is Role.INPUT  # learned positions


def test_fans_that_grow_apart():
    """SGD's hidden LR is fan_out/fan_in, Adam's 1/fan_in: seen only where the two fans grow differently."""

    def net(d, f):
        return nn.Sequential(nn.Linear(d, f, bias=False), nn.Linear(f, d, bias=False))

    sgd = scaling_plan(net(8, 8), net(16, 64), optimizer="sgd")
    assert [s.lr for s in sgd.values()] == [4, 1 / 4]
    adam = scaling_plan(net(8, 8), net(16, 64), optimizer="adam")
    assert [s.lr for s in adam.values()] == [1 / 2, 1 / 8]


def test_meta_models_and_builders():
    """A 6.7B-like target costs no memory: shapes are all a plan reads."""
    with torch.device("meta"):
        target = Transformer(4096, depth=32)
    plan = scaling_plan(lambda: Transformer(256, depth=32), target)
    assert sum(p.numel() for p in target.parameters()) > 6e9
    assert plan["blocks.31.attn.qkv.weight"].lr == 1 / 16
    assert "(x32)" in str(plan) and len(str(plan).splitlines()) < 20


def test_depth_may_differ():
    """Blocks are matched by name; one that only the target has scales like its sibling, whichever is deeper."""
    deep = scaling_plan(Transformer(32, depth=2), Transformer(128, depth=5))
    assert deep["blocks.4.mlp.2.weight"] == deep["blocks.1.mlp.2.weight"]
    assert len(deep) == len(list(Transformer(128, depth=5).parameters()))
    assert scaling_plan(Transformer(32, depth=5), Transformer(128, depth=2))["blocks.1.attn.out.weight"].lr == 1 / 4


def test_depth_in_a_plain_sequential_is_refused():
    """There '4.weight' is the readout of one model and a hidden layer of the other: matching by name would lie."""

    def net(w, depth):
        return nn.Sequential(nn.Linear(3, w), *(nn.Linear(w, w) for _ in range(depth)), nn.Linear(w, 10))

    for depths in ((1, 2), (2, 1)):
        with pytest.raises(ValueError, match="weight"):
            scaling_plan(net(8, depths[0]), net(16, depths[1]))


def test_different_architectures_are_refused():
    """A parameter without a counterpart is named; it is never dropped."""
    with pytest.raises(ValueError, match=r"'embed\.weight'"):
        scaling_plan(nn.Sequential(nn.Linear(3, 8)), MLP(16))


def test_no_parameter_one_parameter_thousands():
    """The edges of size: an empty plan, a single tensor, three thousand tensors."""
    assert len(scaling_plan(nn.ReLU(), nn.ReLU())) == 0
    assert scaling_plan(nn.ReLU(), nn.ReLU()).param_groups(nn.ReLU(), lr=1) == []
    assert scaling_plan(Bare(4), Bare(8))["p"].role is Role.INPUT
    with torch.device("meta"):
        many = scaling_plan(Transformer(32, depth=100), Transformer(64, depth=100))
        assert len(many) == 1004 and len(many.param_groups(Transformer(64, depth=100), lr=1)) == 3


def test_shared_buffers_frozen():
    """A shared hidden matrix is one tensor in one group; buffers have no scale; frozen parameters get no group."""

    class Net(nn.Module):
        def __init__(self, w):
            super().__init__()
            self.a, self.b = nn.Linear(w, w, bias=False), nn.Linear(w, w, bias=False)
            self.b.weight = self.a.weight
            self.norm = nn.BatchNorm1d(w)
            self.norm.bias.requires_grad_(False)

    plan, model = scaling_plan(Net(8), Net(16)), Net(16)
    assert set(plan) == {"a.weight", "b.weight", "norm.weight", "norm.bias"} and plan["a.weight"] == plan["b.weight"]
    params = [p for g in plan.param_groups(model, lr=1) for p in g["params"]]
    assert len(params) == 2 and all(p is not model.norm.bias for p in params)


def test_shared_tensor_of_two_growths_is_refused():
    """One tensor has one init and one LR; a use that needs others must be an error."""

    class Net(nn.Module):
        def __init__(self, w):
            super().__init__()
            self.a = nn.Linear(w, w, bias=False)
            self.p = self.a.weight

    with pytest.raises(ValueError, match="shared"):
        scaling_plan(Net(8), Net(16), roles={"p": "input"})


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_tied_readout(optimizer):
    """Only Table 8's form can tie (section 1.2): one LR and init, and the readout's 1/fan_in in the forward pass."""
    plan = scaling_plan(Transformer(32, tied=True), Transformer(128, tied=True), optimizer=optimizer)
    table8 = scaling_plan(Transformer(32), Transformer(128), parametrization="mup_table8", optimizer=optimizer)
    for name in ("embed.weight", "readout.weight"):
        assert plan[name] == table8[name]
    base, model = Transformer(32, tied=True), Transformer(128, tied=True)
    plan.initialize(model, base)
    x = torch.randn(3, 128)
    torch.testing.assert_close(model.readout(x), x @ model.embed.weight.T / 4)
    assert len([p for g in plan.param_groups(model, lr=1) for p in g["params"]]) == len(list(model.parameters()))


def test_weight_decay_conventions():
    """independent keeps lr * weight_decay constant in width, coupled keeps weight_decay."""
    for optimizer in ("sgd", "adamw"):
        plan = scaling_plan(MLP(32), MLP(128), optimizer=optimizer)
        for g in plan.param_groups(MLP(128), lr=0.1, weight_decay=0.3):
            assert g["lr"] * g["weight_decay"] == pytest.approx(0.03)
        plan = scaling_plan(MLP(32), MLP(128), optimizer=optimizer, weight_decay="coupled")
        assert {g["weight_decay"] for g in plan.param_groups(MLP(128), lr=0.1, weight_decay=0.3)} == {0.3}
    with pytest.raises(UserError, match="independent"):
        scaling_plan(MLP(32), MLP(64), weight_decay="independant")


def test_eps_follows_the_gradient():
    """App. B.3: eps falls as the gradient does. Measured gradients of two widths are the judge, not the table."""
    x = tokens()[0]
    rms = {}
    for width in (64, 1024):
        torch.manual_seed(0)
        base, model = MLP(64), MLP(width)
        plan = scaling_plan(base, model, optimizer="adam")
        plan.initialize(model, base)
        x, y = torch.randn(64, 32), torch.randint(0, 10, (64,))
        nn.functional.cross_entropy(model(x), y).backward()
        rms[width] = {n: p.grad.square().mean().sqrt() for n, p in model.named_parameters()}
    for name, scale in plan.items():
        assert rms[1024][name] / rms[64][name] == pytest.approx(scale.eps, rel=0.6), name
    assert plan["embed.weight"].eps == 1 / 16 and plan["readout.weight"].eps == 1
    groups = plan.param_groups(model, lr=1, eps=1e-6)
    assert {g["eps"] for g in groups} == {1e-6, 1e-6 / 16}


def test_json_and_pickle_and_deepcopy_give_the_plan_back():
    """A plan is plain data keyed by name."""
    plan = scaling_plan(Transformer(32, tied=True), Transformer(96, tied=True), parametrization="mup_table9")
    for again in (Plan.from_json(plan.to_json()), pickle.loads(pickle.dumps(plan)), copy.deepcopy(plan)):
        assert again == plan and str(again) == str(plan)
    assert plan != scaling_plan(Transformer(32, tied=True), Transformer(96, tied=True))
    with pytest.raises(ValueError, match="not a plan"):
        Plan.from_json('{"tensors": 3}')


def test_lookup_errors_and_immutability():
    """A wrong name gets the nearest; a plan cannot be edited into something that its table does not say."""
    plan = scaling_plan(MLP(8), MLP(16))
    with pytest.raises(KeyError, match=r"readout\.weight"):
        plan["readout.wieght"]
    with pytest.raises(TypeError):
        plan["readout.weight"] = plan["embed.weight"]
    with pytest.raises(AttributeError):
        plan["readout.weight"].lr = 3


def test_groups_of_the_wrong_model_are_refused():
    """A plan for width 16 says nothing of width 32, nor of a model with other names."""
    plan = scaling_plan(MLP(8), MLP(16))
    with pytest.raises(ValueError, match=r"embed\.weight.*\[32, 32\]"):
        plan.param_groups(MLP(32), lr=1)
    with pytest.raises(ValueError, match=r"unknown parameter 'norm\.weight'"):
        plan.param_groups(nn.Sequential(OrderedDict(norm=nn.LayerNorm(16))), lr=1)


def test_a_forgotten_multiplier_is_refused():
    """With Table 8 and without initialize() the readout would run in SP: param_groups does not let that pass."""
    plan = scaling_plan(MLP(8), MLP(16), parametrization="mup_table8")
    with pytest.raises(ValueError, match="initialize"):
        plan.param_groups(MLP(16), lr=1)
