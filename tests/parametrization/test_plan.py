"""Roles, plans and their errors."""

import copy
import pickle
from collections import OrderedDict

import pytest
import torch
from nets import MLP, ConvNet, Transformer
from torch import nn

from mutransfer import Role, scaling_plan
from mutransfer.errors import UserError


class Bare(nn.Module):
    """One bare parameter of a given shape, owned by a module that the plan does not know."""

    def __init__(self, *shape):
        super().__init__()
        self.p = nn.Parameter(torch.randn(*shape))


def one_shape(w):
    """(vocab, d) is an input in nn.Embedding and an output in nn.Linear: the shape alone cannot tell."""
    return nn.ModuleList([nn.Embedding(50, w), nn.Linear(w, 50, bias=False)])


def depthwise(w):
    """Depthwise kernels have a finite fan_in; transposed ones have their dimensions the other way round."""
    return nn.ModuleList([nn.Conv2d(w, w, 3, groups=w, bias=False), nn.ConvTranspose2d(w, 3, 3, bias=False)])


# what holds its matrices itself has them in nn.Linear's layout; a kernel is a map for each position (App. B.1)
ROLES = [
    (
        Transformer,
        {"input": "embed.weight blocks.1.ln1.weight blocks.0.mlp.0.bias", "output": "readout.weight"}
        | {"hidden": "blocks.0.attn.qkv.weight blocks.1.mlp.2.weight"},
    ),
    (
        ConvNet,
        {"input": "conv1.weight bn1.weight bn1.bias conv2.bias bn2.weight bn2.bias", "hidden": "conv2.weight"}
        | {"output": "fc.weight", "scalar": "fc.bias"},
    ),
    (depthwise, {"input": "0.weight", "output": "1.weight"}),
    (one_shape, {"input": "0.weight", "output": "1.weight"}),
    (lambda w: nn.LSTM(5, w), {"input": "weight_ih_l0 bias_ih_l0 bias_hh_l0", "hidden": "weight_hh_l0"}),
    (lambda w: nn.MultiheadAttention(w, 2, add_bias_kv=True), {"input": "bias_k", "hidden": "in_proj_weight"}),
    (lambda w: Bare(1, 10, w), {"input": "p"}),  # learned positions
    (lambda w: Bare(w), {"input": "p"}),
]


@pytest.mark.parametrize(("build", "roles"), ROLES)
def test_roles(build, roles):
    """Embeddings, biases and norm gains are inputs, matrices hidden, the readout an output."""
    plan = scaling_plan(build(32), build(64))
    for role, names in roles.items():
        assert {plan[name].role for name in names.split()} == {Role(role)}


UNCLEAR = [
    (Bare(4, 4, 4), Bare(8, 8, 8), "three or more growing"),
    (nn.Bilinear(4, 4, 4), nn.Bilinear(8, 8, 8), "three or more growing"),
    (Bare(10, 4), Bare(10, 8), "roles="),
    (Bare(4, 6), Bare(8, 24), "roles="),
    (nn.Conv1d(4, 4, 3, bias=False), nn.Conv1d(4, 8, 5, bias=False), "kernel grows"),
    (nn.Embedding(10, 4), nn.Embedding(20, 8), "vocabulary"),
    (Bare(4), Bare(4, 4), "number of dimensions"),
]


@pytest.mark.parametrize(("base", "target", "says"), UNCLEAR)
def test_what_cannot_be_classified_is_refused(base, target, says):
    """A guess would be a silent SP: the error names the tensor, both shapes and the way out."""
    name, p = next(target.named_parameters())
    with pytest.raises(ValueError, match=says) as e:
        scaling_plan(base, target)
    assert f"'{name}'" in str(e.value) and str(list(p.shape)) in str(e.value)


def test_roles_argument_decides_and_is_checked():
    """A bare (T, d) is what the user says it is; a wrong name or role is answered with the nearest."""
    for shapes, role, lr in (((10, 4), (10, 8)), "input", 2), (((10, 4), (10, 8)), "output", 1 / 2):
        assert scaling_plan(*(Bare(*x) for x in shapes), optimizer="sgd", roles={"p": role})["p"].lr == lr
    assert scaling_plan(Bare(3, 4, 4), Bare(3, 8, 8), roles={"p": Role.HIDDEN})["p"].lr == 1 / 2
    with pytest.raises(UserError, match="'p'"):
        scaling_plan(Bare(10, 4), Bare(10, 8), roles={"pp": "input"})
    with pytest.raises(UserError, match="'input'"):
        scaling_plan(Bare(10, 4), Bare(10, 8), roles={"p": "inptu"})


def test_fans_that_grow_apart():
    """SGD's hidden LR is fan_out/fan_in, Adam's 1/fan_in: seen only where the two fans grow differently."""

    def net(d, f):
        return nn.Sequential(nn.Linear(d, f, bias=False), nn.Linear(f, d, bias=False))

    for optimizer, lrs in (("sgd", [4, 1 / 4]), ("adam", [1 / 2, 1 / 8])):
        assert [s.lr for s in scaling_plan(net(8, 8), net(16, 64), optimizer=optimizer).values()] == lrs


def test_meta_models_builders_and_many_tensors():
    """A 6.7B-like target costs no memory: shapes are all a plan reads. Empty models have empty plans."""
    with torch.device("meta"):
        target = Transformer(4096, depth=32)
    plan = scaling_plan(lambda: Transformer(256, depth=32), target)
    assert sum(p.numel() for p in target.parameters()) > 6e9
    assert plan["blocks.31.attn.qkv.weight"].lr == 1 / 16
    assert "(x32)" in str(plan) and len(str(plan).splitlines()) < 20
    assert len(plan) == 324 and len(plan.param_groups(target, lr=1)) == 3
    assert scaling_plan(nn.ReLU(), nn.ReLU()).param_groups(nn.ReLU(), lr=1) == []


def test_depth_may_differ():
    """Blocks are matched by name; one that only the target has scales like its sibling, whichever is deeper."""
    deep = scaling_plan(Transformer(32, depth=2), Transformer(128, depth=5))
    assert deep["blocks.4.mlp.2.weight"] == deep["blocks.1.mlp.2.weight"]
    assert len(deep) == len(list(Transformer(128, depth=5).parameters()))
    assert scaling_plan(Transformer(32, depth=5), Transformer(128, depth=2))["blocks.1.attn.out.weight"].lr == 1 / 4


def plain(w, depth):
    """In a plain nn.Sequential '4.weight' may be a readout or a hidden layer: matching by name would lie."""
    return nn.Sequential(nn.Linear(3, w), *(nn.Linear(w, w) for _ in range(depth)), nn.Linear(w, 10))


def test_different_architectures_are_refused():
    """A parameter without a counterpart is named; it is never dropped."""
    for base, target, name in ((plain(8, 1), plain(16, 2), "3.weight"), (plain(8, 2), plain(16, 1), "weight")):
        with pytest.raises(ValueError, match=name):
            scaling_plan(base, target)
    with pytest.raises(ValueError, match=r"embed\.weight"):
        scaling_plan(plain(8, 0), MLP(16))


class Shared(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.a, self.b = nn.Linear(w, w, bias=False), nn.Linear(w, w, bias=False)
        self.b.weight = self.a.weight
        self.p = self.a.weight
        self.norm = nn.BatchNorm1d(w)
        self.norm.bias.requires_grad_(False)


def test_shared_buffers_frozen():
    """A shared hidden matrix is one tensor in one group; buffers have no scale; frozen parameters get no group. It has
    one init and one LR; a use that needs others must be an error."""
    plan, model = scaling_plan(Shared(8), Shared(16)), Shared(16)
    assert set(plan) == {"a.weight", "b.weight", "p", "norm.weight", "norm.bias"} and plan["a.weight"] == plan["p"]
    params = [p for g in plan.param_groups(model, lr=1) for p in g["params"]]
    assert len(params) == 2 and all(p is not model.norm.bias for p in params)
    with pytest.raises(ValueError, match="shared"):
        scaling_plan(Shared(8), Shared(16), roles={"p": "input"})


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_tied_readout(optimizer):
    """Only Table 8's form can tie (section 1.2): one LR and init, and the readout's 1/fan_in in the forward pass."""
    base, model = Transformer(32, tied=True), Transformer(128, tied=True)
    plan = scaling_plan(base, model, optimizer=optimizer)
    table8 = scaling_plan(Transformer(32), Transformer(128), parametrization="mup_table8", optimizer=optimizer)
    for name in ("embed.weight", "readout.weight"):
        assert plan[name] == table8[name]
    plan.initialize(model, base)
    x = torch.randn(3, 128)
    torch.testing.assert_close(model.readout(x), x @ model.embed.weight.T / 4)
    assert len([p for g in plan.param_groups(model, lr=1) for p in g["params"]]) == len(list(model.parameters()))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_weight_decay_conventions(optimizer):
    """independent keeps lr * weight_decay constant in width, coupled keeps weight_decay."""
    plan = scaling_plan(MLP(32), MLP(128), optimizer=optimizer)
    for g in plan.param_groups(MLP(128), lr=0.1, weight_decay=0.3):
        assert g["lr"] * g["weight_decay"] == pytest.approx(0.03)
    plan = scaling_plan(MLP(32), MLP(128), optimizer=optimizer, weight_decay="coupled")
    assert {g["weight_decay"] for g in plan.param_groups(MLP(128), lr=0.1, weight_decay=0.3)} == {0.3}
    with pytest.raises(UserError, match="independent"):
        scaling_plan(MLP(32), MLP(64), weight_decay="independant")


def test_eps_follows_the_gradient():
    """App. B.3: eps falls as the gradient does. Measured gradients of two widths are the judge, not the table."""
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


def test_a_plan_is_plain_data():
    """Keyed by name: JSON, pickle and deepcopy give it back; a wrong name gets the nearest; it cannot be edited."""
    plan = scaling_plan(Transformer(32, tied=True), Transformer(96, tied=True), parametrization="mup_table9")
    for again in (type(plan).from_json(plan.to_json()), pickle.loads(pickle.dumps(plan)), copy.deepcopy(plan)):
        assert again == plan and str(again) == str(plan)
    assert plan != scaling_plan(Transformer(32, tied=True), Transformer(96, tied=True))
    for text in ('{"tensors": 3}', "no JSON"):
        with pytest.raises(ValueError, match="not a plan"):
            type(plan).from_json(text)
    with pytest.raises(TypeError, match=r"must return a torch\.nn\.Module, got int"):
        scaling_plan(lambda: 3, MLP(16))
    with pytest.raises(KeyError, match=r"readout\.weight"):
        plan["readout.wieght"]
    with pytest.raises(TypeError):
        plan["readout.weight"] = plan["embed.weight"]
    with pytest.raises(AttributeError):
        plan["readout.weight"].lr = 3


def test_groups_of_the_wrong_model_are_refused():
    """A plan for width 16 says nothing of width 32, nor of a model with other names. With Table 8 and without
    initialize() the readout would run in SP: that does not pass either."""
    plan = scaling_plan(MLP(8), MLP(16), parametrization="mup_table8")
    other = nn.Sequential(OrderedDict(norm=nn.LayerNorm(16)))
    wrong = {r"embed\.weight.*\[32, 32\]": MLP(32), r"unknown parameter 'norm\.weight'": other, "initialize": MLP(16)}
    for says, model in wrong.items():
        with pytest.raises(ValueError, match=says):
            plan.param_groups(model, lr=1)
