"""initialize(): measured, exact, and gone at base width. What it leaves behind survives."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from nets import MLP, ConvNet, Transformer, tokens, vectors
from torch import nn

from mutransfer import scaling_plan
from mutransfer.errors import UserError
from mutransfer.parametrization import InitError


def std_ratio(model, base, name):
    return (dict(model.named_parameters())[name].std() / dict(base.named_parameters())[name].std()).item()


INITS = {
    "pytorch": lambda m: None,
    "constant": lambda m: [nn.init.normal_(p, std=0.02) for p in m.parameters() if p.ndim > 1],
    "lecun": lambda m: [nn.init.kaiming_normal_(p, nonlinearity="linear") for p in m.parameters() if p.ndim > 1],
    "xavier": lambda m: [nn.init.xavier_uniform_(p) for p in m.parameters() if p.ndim > 1],
    "orthogonal": lambda m: [nn.init.orthogonal_(p) for p in m.parameters() if p.ndim > 1],
    "already_mup": lambda m: nn.init.normal_(m.readout.weight, std=1 / m.readout.in_features),
}


@pytest.mark.parametrize("init", INITS)
def test_any_init_convention_ends_in_the_same_scaling(init):
    """Whatever power of width the model's own init has, the result has the table's."""
    torch.manual_seed(0)
    base, model = MLP(128, d_in=4), MLP(512, d_in=4)
    for m in (base, model):
        INITS[init](m)
    scaling_plan(base, model).initialize(model, base)
    assert std_ratio(model, base, "readout.weight") == pytest.approx(1 / 4, rel=0.1)
    assert std_ratio(model, base, "blocks.0.weight") == pytest.approx(1 / 2, rel=0.03)
    # xavier and orthogonal inits of a (width x 4) matrix do shrink with width; the rule for inputs is 1
    assert std_ratio(model, base, "embed.weight") == pytest.approx(1, rel=0.1)
    assert std_ratio(model, base, "blocks.0.bias") == pytest.approx(1, rel=0.2)


def test_factors_are_exact_not_measured():
    """The power is measured, the factor is not: weights are the drawn ones times an exact power of the ratio."""
    torch.manual_seed(0)
    base, model = MLP(64), MLP(256)
    drawn = copy.deepcopy(model)
    scaling_plan(base, model).initialize(model, base)
    assert torch.equal(model.readout.weight, drawn.readout.weight / 2)  # has 1/sqrt(n), lacks 1/sqrt(4)
    assert torch.equal(model.blocks[0].bias, drawn.blocks[0].bias * 2)  # PyTorch draws biases with 1/sqrt(fan_in)
    assert torch.equal(model.readout.bias, drawn.readout.bias * 2)
    assert torch.equal(model.blocks[0].weight, drawn.blocks[0].weight)


@pytest.mark.parametrize("width", [8, 16, 64])
def test_tiny_tensors_are_not_misread(width):
    """A bias of 8 numbers cannot be measured from itself; fresh draws of its module can. 6 seeds, none misread."""
    for seed in range(6):
        torch.manual_seed(seed)
        base, model = MLP(width), MLP(2 * width)
        drawn = copy.deepcopy(model)
        scaling_plan(base, model).initialize(model, base)
        torch.testing.assert_close(model.blocks[0].bias, drawn.blocks[0].bias * 2**0.5)
        assert torch.equal(model.embed.bias, drawn.embed.bias)


def test_measuring_leaves_the_random_stream_alone():
    """initialize() draws nothing from the user's generator."""
    base, model = MLP(8), MLP(16)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    scaling_plan(base, model).initialize(model, base)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("table", ["mup", "mup_table9"])
def test_constants_keep_their_effective_value(table):
    """Zeros and ones have no std to scale; under a multiplier a gain of 1 must still act as 1."""
    base, model = Transformer(32), Transformer(128)
    nn.init.zeros_(base.readout.weight)
    nn.init.zeros_(model.readout.weight)
    scaling_plan(base, model, parametrization=table).initialize(model, base)
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


def train(model, groups, x, y, optimizer=torch.optim.SGD, steps=5):
    opt = optimizer(groups)
    for _ in range(steps):
        loss = F.cross_entropy(model(x).flatten(0, -2), y.flatten())
        opt.zero_grad()
        loss.backward()
        opt.step()
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("table", ["mup", "mup_table8", "mup_table9", "ntk", "mean_field"])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_at_base_width_every_parametrization_is_sp_bit_for_bit(table, optimizer):
    """Design rule: base-width training is the user's own, to the last bit."""
    x, y = tokens()
    torch.manual_seed(0)
    plain = Transformer(32, tied=True)
    scaled = copy.deepcopy(plain)
    plan = scaling_plan(Transformer(32, tied=True), scaled, parametrization=table, optimizer="adamw")
    plan.initialize(scaled, Transformer(32, tied=True))
    want = train(plain, [{"params": list(plain.parameters()), "lr": 0.01, "weight_decay": 0.1}], x, y, optimizer)
    got = train(scaled, plan.param_groups(scaled, lr=0.01, weight_decay=0.1), x, y, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(want, got, strict=True))


@pytest.mark.parametrize("table", ["mup", "mup_table9"])
def test_plan_and_groups_survive(table):
    """deepcopy, pickling, load_state_dict(assign=True): nothing hangs on a tensor, so nothing is lost with one."""
    base, model = Transformer(32, tied=True), Transformer(64, tied=True)
    plan = scaling_plan(base, model, parametrization=table)
    plan.initialize(model, base)

    def settings(m):
        groups = plan.param_groups(m, lr=1.0, weight_decay=0.1)
        return [(g["lr"], g["weight_decay"], g["eps"], [p.shape for p in g["params"]]) for g in groups]

    want = settings(model)
    assert len(want) > 1
    assert settings(copy.deepcopy(model)) == want
    groups = pickle.loads(pickle.dumps(plan.param_groups(model, lr=1.0, weight_decay=0.1)))
    assert [(g["lr"], g["weight_decay"], g["eps"], [p.shape for p in g["params"]]) for g in groups] == want
    assert pickle.loads(pickle.dumps(plan)) == plan
    model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()}, assign=True)
    # assign=True breaks the tie itself, as it does without a plan; the scales of the then separate tensors stay
    assert {s[:3] for s in settings(model)} == {s[:3] for s in want}


@pytest.mark.parametrize("table", ["mup", "mup_table9"])
def test_compile_and_export(table):
    """The scaled model compiles without a graph break and exports, with the same outputs and the same groups."""
    x, _ = vectors()
    base, model = MLP(32), MLP(64)
    plan = scaling_plan(base, model, parametrization=table)
    plan.initialize(model, base)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), model(x))
    shapes = [[p.shape for p in g["params"]] for g in plan.param_groups(model, lr=1.0)]
    assert [[p.shape for p in g["params"]] for g in plan.param_groups(compiled, lr=1.0)] == shapes
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), model(x))


def test_a_multiplicative_schedule_keeps_the_ratios():
    """Schedules multiply: LambdaLR leaves every group's share of the LR as the plan set it."""
    base, model = MLP(32), MLP(256)
    opt = torch.optim.Adam(scaling_plan(base, model).param_groups(model, lr=1.0))
    start = [g["lr"] for g in opt.param_groups]
    assert len(set(start)) > 1
    schedule = torch.optim.lr_scheduler.LambdaLR(opt, lambda step: 1 / (1 + step))
    for step in range(1, 5):
        opt.step()
        schedule.step()
        assert [g["lr"] for g in opt.param_groups] == [lr / (1 + step) for lr in start]


def test_multiplier_reaches_functional_weights():
    """nn.MultiheadAttention never calls its projections as modules; a multiplier on the parameter reaches them."""

    class Net(nn.Module):
        def __init__(self, w):
            super().__init__()
            self.attn = nn.MultiheadAttention(w, 2, batch_first=True)

        def forward(self, x):
            return self.attn(x, x, x, need_weights=False)[0]

    torch.manual_seed(0)
    base, model = Net(16), Net(64)
    plain = copy.deepcopy(model)
    scaling_plan(base, model, parametrization="ntk").initialize(model, base)
    x = torch.randn(2, 3, 64)
    torch.testing.assert_close(model(x), plain(x))  # 1/sqrt(m) in front, sqrt(m) more in the weights


def test_conv_net_trains_in_every_table():
    """BatchNorm buffers and kernels go through the same door."""
    for table in ("sp", "mup", "ntk"):
        base, model = ConvNet(8), ConvNet(32)
        plan = scaling_plan(base, model, parametrization=table, optimizer="sgd")
        plan.initialize(model, base)
        x, y = torch.randn(8, 3, 8, 8), torch.randint(0, 10, (8,))
        assert all(p.isfinite().all() for p in train(model, plan.param_groups(model, lr=0.1), x, y))


def test_rates_and_decay_by_name():
    """Functions of the name give each tensor its own base value; the plan's factor stands on top of it."""
    base, model = MLP(32), MLP(64)
    plan = scaling_plan(base, model, optimizer="adamw")
    plan.initialize(model, base)

    def by_parameter(groups, what):
        return {id(p): g[what] for g in groups for p in g["params"]}

    plain = plan.param_groups(model, lr=1.0, weight_decay=1.0)
    named = plan.param_groups(
        model,
        lr=lambda name: 8.0 if name.endswith("bias") else 1.0,
        weight_decay=lambda name: 0.0 if name.endswith("bias") else 1.0,
    )
    lrs, decays = by_parameter(named, "lr"), by_parameter(named, "weight_decay")
    assert any(name.endswith("bias") for name, _ in model.named_parameters())
    for name, p in model.named_parameters():
        is_bias = name.endswith("bias")
        assert lrs[id(p)] == by_parameter(plain, "lr")[id(p)] * (8 if is_bias else 1)
        assert decays[id(p)] == (0 if is_bias else by_parameter(plain, "weight_decay")[id(p)])


# ---- depth -----------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """Every weight has std 0.02 at every width, as in GPT-2, BERT and most of Hugging Face: µP has to shrink it."""

    def __init__(self, width, depth):
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.readout = nn.Linear(width, 4)
        for module in (self.embed, *self.blocks, self.readout):
            nn.init.normal_(module.weight, std=0.02)


@pytest.mark.parametrize("depths", [(2, 2), (2, 5), (5, 2), (1, 3)])
@pytest.mark.parametrize(("table", "factor"), [("sp", 0.5), ("mup", 0.5), ("mean_field", 1.0)])
def test_every_block_gets_its_init(depths, table, factor):
    """0.02 times the factor that is missing from 64 to 256, once; and no block becomes another's copy."""
    torch.manual_seed(0)
    base, model = Net(64, depths[0]), Net(256, depths[1])
    before = [block.weight.clone() for block in model.blocks]
    plan = scaling_plan(base, model, parametrization=table)
    plan.initialize(model, base)
    for i, (block, old) in enumerate(zip(model.blocks, before, strict=True)):
        torch.testing.assert_close(block.weight, old * factor * plan[f"blocks.{i}.weight"].multiplier)


# ---- small tensors ---------------------------------------------------------------------------------------------------


class Table(nn.Module):
    """Two rows, as BERT's token types; drawn by the model, as in nanoGPT and Hugging Face, not by the module."""

    def __init__(self, width, std=0.02):
        super().__init__()
        self.table = nn.Embedding(2, width)
        self.std = std
        nn.init.normal_(self.table.weight, std=0.02)

    def _init_weights(self, module):
        nn.init.normal_(module.weight, std=self.std)


class Loaded(Table):
    """`_init_weights` passes over tensors that were loaded."""

    def _init_weights(self, module):
        pass


class Other(Table):
    """A method of that name, as torchvision has it."""

    def _init_weights(self):
        nn.init.normal_(self.table.weight, std=self.std)


def refused(build, seeds=30):
    """In how many draws `initialize` cannot tell; where it can, it finds that nothing is missing."""
    count = 0
    for seed in range(seeds):
        torch.manual_seed(seed)
        base, model = build(64), build(128)
        before = model.table.weight.clone()
        try:
            scaling_plan(base, model).initialize(model, base)
        except InitError:
            count += 1
        assert torch.equal(model.table.weight, before)
    return count


def test_drawn_by_its_model():
    """Never refused, and the random state of the caller is as it was."""
    assert refused(Table) == 0
    torch.manual_seed(2)
    base, model = Table(64), Table(128)
    state = torch.random.get_rng_state()
    scaling_plan(base, model).initialize(model, base)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("build", [Loaded, Other, lambda width: Table(width, std=0.05)])
def test_fresh_draws_that_say_nothing_are_not_believed(build):
    """The negative: no draw, none that can be asked for, or one that does not look like the tensor."""
    assert refused(build) > 0
