"""initialize(): measured, exact, and gone at base width. What it leaves behind survives."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from nets import MLP, Transformer, tokens, vectors
from torch import nn

from mutransfer import scaling_plan
from mutransfer.errors import UserError
from mutransfer.parametrization import InitError

INITS = {
    "pytorch": lambda m: None,
    "constant": lambda m: [nn.init.normal_(p, std=0.02) for p in m.parameters() if p.ndim > 1],
    "lecun": lambda m: [nn.init.kaiming_normal_(p, nonlinearity="linear") for p in m.parameters() if p.ndim > 1],
    "xavier": lambda m: [nn.init.xavier_uniform_(p) for p in m.parameters() if p.ndim > 1],
    "orthogonal": lambda m: [nn.init.orthogonal_(p) for p in m.parameters() if p.ndim > 1],
    "already_mup": lambda m: nn.init.normal_(m.readout.weight, std=1 / m.readout.in_features),
}


def initialized(base, model, **options):
    """The plan, after its `initialize`."""
    plan = scaling_plan(base, model, **options)
    plan.initialize(model, base)
    return plan


@pytest.mark.parametrize("init", INITS)
def test_any_init_convention_ends_in_the_same_scaling(init):
    """Whatever power of width the model's own init has, the result has the table's."""
    torch.manual_seed(0)
    base, model = MLP(128, d_in=4), MLP(512, d_in=4)
    for m in (base, model):
        INITS[init](m)
    initialized(base, model)
    # xavier and orthogonal inits of a (width x 4) matrix do shrink with width; the rule for inputs is 1
    want = {"readout.weight": (1 / 4, 0.1), "blocks.0.weight": (1 / 2, 0.03), "embed.weight": (1, 0.1)}
    for name, (ratio, rel) in {**want, "blocks.0.bias": (1, 0.2)}.items():
        stds = [m.get_parameter(name).std().item() for m in (model, base)]
        assert stds[0] / stds[1] == pytest.approx(ratio, rel=rel), name


@pytest.mark.parametrize("width", [8, 16, 64])
def test_factors_are_exact_not_measured(width):
    """The power is measured, the factor is not: weights are the drawn ones times an exact power of the ratio. A bias of
    8 numbers cannot be measured from itself, but fresh draws of its module can. The caller's random state stays."""
    for seed in range(6):
        torch.manual_seed(seed)
        base, model = MLP(width), MLP(4 * width)
        drawn, state = copy.deepcopy(model), torch.random.get_rng_state()
        initialized(base, model)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert torch.equal(model.readout.weight, drawn.readout.weight / 2)  # has 1/sqrt(n), lacks 1/sqrt(4)
        assert torch.equal(model.blocks[0].bias, drawn.blocks[0].bias * 2)  # PyTorch draws biases with 1/sqrt(fan_in)
        assert torch.equal(model.readout.bias, drawn.readout.bias * 2)
        assert torch.equal(model.blocks[0].weight, drawn.blocks[0].weight)
        assert torch.equal(model.embed.bias, drawn.embed.bias)


@pytest.mark.parametrize("table", ["mup", "mup_table9"])
def test_constants_keep_their_effective_value(table):
    """Zeros and ones have no std to scale; under a multiplier a gain of 1 must still act as 1."""
    base, model = Transformer(32), Transformer(128)
    for m in (base, model):
        nn.init.zeros_(m.readout.weight)
    initialized(base, model, parametrization=table)
    assert torch.equal(model.readout.weight, torch.zeros(50, 128))
    torch.testing.assert_close(model.ln.weight, torch.ones(128))
    if table == "mup":
        assert torch.equal(model.ln.weight, torch.ones(128))


def test_ambiguous_init_raises_and_leaves_the_model_as_it_was():
    """An init that goes as width^(1/4) fits no rule: say so, with the tensor's name, before anything is touched."""
    torch.manual_seed(0)
    base, model = MLP(64), MLP(1024)
    nn.init.normal_(model.blocks[0].weight, std=base.blocks[0].weight.std().item() * 16**-0.25)
    before = copy.deepcopy(model.state_dict())
    plan = scaling_plan(base, model)
    with pytest.raises(InitError, match=r"blocks\.0\.weight.*own_init"):
        plan.initialize(model, base)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    plan.initialize(model, base, own_init={"blocks.0.weight": -0.25})
    torch.testing.assert_close(model.blocks[0].weight, before["blocks.0.weight"] * 16**-0.25)


def test_misuse_is_refused():
    """A constant on one side only, meta tensors, a wrong base and a second call each raise."""
    base, model = MLP(32), MLP(64)
    plan = scaling_plan(base, model, parametrization="mup_table8")
    with pytest.raises(InitError, match=r"readout\.weight"):
        plan.initialize(model, MLP(32, zero_readout=True))
    with pytest.raises(ValueError, match="meta"):
        plan.initialize(MLP(64).to("meta"), base)
    with pytest.raises(ValueError, match="base"):
        plan.initialize(model, MLP(16))
    with pytest.raises(UserError, match=r"readout\.weight"):
        plan.initialize(model, base, own_init={"readout.wieght": 0})
    plan.initialize(model, base)
    with pytest.raises(ValueError, match="once"):
        plan.initialize(model, base)


@pytest.mark.parametrize("table", ["mup", "mup_table8", "mup_table9", "ntk", "mean_field"])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_at_base_width_every_parametrization_is_sp_bit_for_bit(table, optimizer):
    """Design rule: base-width training is the user's own, to the last bit."""
    x, y = tokens()
    torch.manual_seed(0)
    plain = Transformer(32, tied=True)
    scaled = copy.deepcopy(plain)
    plan = initialized(Transformer(32, tied=True), scaled, parametrization=table, optimizer="adamw")
    groups = [{"params": list(plain.parameters()), "lr": 0.01, "weight_decay": 0.1}]
    for model, given in ((plain, groups), (scaled, plan.param_groups(scaled, lr=0.01, weight_decay=0.1))):
        opt = optimizer(given)
        for _ in range(5):
            opt.zero_grad()
            F.cross_entropy(model(x).flatten(0, -2), y.flatten()).backward()
            opt.step()
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), scaled.parameters(), strict=True))


def settings(groups):
    return [(g["lr"], g["weight_decay"], g["eps"], [p.shape for p in g["params"]]) for g in groups]


@pytest.mark.parametrize("table", ["mup", "mup_table9"])
def test_plan_and_groups_survive(table):
    """deepcopy, pickling, load_state_dict(assign=True): nothing hangs on a tensor, so nothing is lost with one."""
    base, model = Transformer(32, tied=True), Transformer(64, tied=True)
    plan = initialized(base, model, parametrization=table)
    groups = plan.param_groups(model, lr=1.0, weight_decay=0.1)
    want = settings(groups)
    assert len(want) > 1
    assert settings(plan.param_groups(copy.deepcopy(model), lr=1.0, weight_decay=0.1)) == want
    assert settings(pickle.loads(pickle.dumps(groups))) == want
    model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()}, assign=True)
    # assign=True breaks the tie itself, as it does without a plan; the scales of the then separate tensors stay
    assert {s[:3] for s in settings(plan.param_groups(model, lr=1.0, weight_decay=0.1))} == {s[:3] for s in want}


@pytest.mark.parametrize("table", ["mup", "mup_table9"])
def test_compile_and_export(table):
    """The scaled model compiles without a graph break and exports, with the same outputs, groups and plain names."""
    x, _ = vectors()
    base, model = MLP(32), MLP(64)
    plan = initialized(base, model, parametrization=table)
    compiled, names = torch.compile(model, fullgraph=True, backend="aot_eager"), []
    torch.testing.assert_close(compiled(x), model(x))
    again = plan.param_groups(compiled, lr=lambda name: names.append(name) or 1.0)
    assert settings(again) == settings(plan.param_groups(model, lr=1.0)) and set(names) == set(plan)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), model(x))


def test_multiplier_reaches_functional_weights():
    """nn.MultiheadAttention never calls its projections as modules; a multiplier on the parameter reaches them."""
    torch.manual_seed(0)
    base, model = (nn.MultiheadAttention(n, 2, batch_first=True) for n in (16, 64))
    plain, x = copy.deepcopy(model), torch.randn(2, 3, 64)
    initialized(base, model, parametrization="ntk")
    torch.testing.assert_close(model(x, x, x)[0], plain(x, x, x)[0])  # 1/sqrt(m) in front, sqrt(m) more in the weights


def test_rates_and_decay_by_name():
    """Functions of the name give each tensor its own base value; the plan's factor stands on top of it."""
    model = MLP(64)
    plan = scaling_plan(MLP(32), model, optimizer="adamw")

    def by_parameter(**options):
        groups = plan.param_groups(model, **options)
        return {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}

    named = by_parameter(lr=lambda n: 8.0 if "bias" in n else 1.0, weight_decay=lambda n: 0.0 if "bias" in n else 1.0)
    for name, p in model.named_parameters():
        lr, decay = by_parameter(lr=1.0, weight_decay=1.0)[id(p)]
        assert named[id(p)] == ((8 * lr, 0) if "bias" in name else (lr, decay))


@pytest.mark.parametrize("depths", [(2, 2), (2, 5), (5, 2), (1, 3)])
@pytest.mark.parametrize(("table", "factor"), [("sp", 0.5), ("mup", 0.5), ("mean_field", 1.0)])
def test_every_block_gets_its_init(depths, table, factor):
    """0.02 at every width, as in GPT-2, BERT and most of Hugging Face, times the factor that is missing from 64 to 256,
    once; and no block becomes another's copy."""
    torch.manual_seed(0)
    base, model = MLP(64, depths[0] + 1), MLP(256, depths[1] + 1)
    for m in (base, model):
        INITS["constant"](m)
    before = [block.weight.clone() for block in model.blocks]
    plan = initialized(base, model, parametrization=table)
    for i, (block, old) in enumerate(zip(model.blocks, before, strict=True)):
        torch.testing.assert_close(block.weight, old * factor * plan[f"blocks.{i}.weight"].multiplier)


class Table(nn.Module):
    """Two rows, as BERT's token types; drawn by the model, as in nanoGPT and Hugging Face, not by the module."""

    def __init__(self, width, draw):
        super().__init__()
        self.table, self._init_weights = nn.Embedding(2, width), draw
        nn.init.normal_(self.table.weight, std=0.02)


DRAWS = {
    "its own": lambda module: nn.init.normal_(module.weight, std=0.02),
    "of another std": lambda module: nn.init.normal_(module.weight, std=0.05),
    "none of tensors that were loaded": lambda module: None,
    "of no module, as torchvision has it": lambda: None,
}


@pytest.mark.parametrize(("draw", "is_told"), [(name, name == "its own") for name in DRAWS])
def test_a_small_tensor_is_told_by_fresh_draws_of_its_model(draw, is_told):
    """Never refused, and found to lack nothing; draws that say nothing, cannot be asked for, or look otherwise, are not
    believed, and some of those tensors are refused."""
    refused = 0
    for seed in range(30):
        torch.manual_seed(seed)
        base, model = Table(64, DRAWS[draw]), Table(128, DRAWS[draw])
        before, state = model.table.weight.clone(), torch.random.get_rng_state()
        try:
            initialized(base, model)
        except InitError:
            refused += 1
        assert torch.equal(model.table.weight, before) and torch.equal(torch.random.get_rng_state(), state)
    assert (refused == 0) == is_told
