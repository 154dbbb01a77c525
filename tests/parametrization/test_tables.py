"""The tables against the paper, and against each other."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from nets import MLP, ConvNet, Transformer, tokens, vectors

from mutransfer import MUP, SP, Role, attention_scale, scaling_plan
from mutransfer.errors import UserError
from mutransfer.parametrization import FAN_IN, FAN_OUT, MEAN_FIELD, MUP_TABLE8, MUP_TABLE9, NTK, ONE
from mutransfer.parametrization.tables import family_of

INPUT, HIDDEN, OUTPUT = Role.INPUT, Role.HIDDEN, Role.OUTPUT


def cells(table, family, field):
    return [getattr(table.rules[family][role], field) for role in (INPUT, OUTPUT, HIDDEN)]


def grown(powers):
    """The factors when fan_in and fan_out grow 4x where they grow at all: what the paper's columns say."""
    ratios = [(1, 4), (4, 1), (4, 4)]
    return [p(*r) for p, r in zip(powers, ratios, strict=True)]


def test_table_3():
    """Typed here from the paper a second time: init variances 1/fan_in, 1/fan_in^2, 1/fan_in and the two LR rows."""
    assert cells(MUP, "sgd", "init_std") == cells(MUP, "adam", "init_std") == [FAN_IN**-0.5, FAN_IN**-1, FAN_IN**-0.5]
    assert grown(cells(MUP, "sgd", "lr")) == [4, 1 / 4, 1]
    assert grown(cells(MUP, "adam", "lr")) == [1, 1 / 4, 1 / 4]
    assert cells(SP, "sgd", "init_std") == [FAN_IN**-0.5] * 3
    for family in ("sgd", "adam"):
        assert cells(SP, family, "lr") == cells(MUP, family, "multiplier") == [ONE] * 3


def test_shifts_compose_and_invert():
    """A shift and its inverse give the table back exactly: exponents are rational, not floating-point."""
    for table in (SP, MUP, NTK, MEAN_FIELD):
        back = table.shifted(input=0.3, hidden=-0.5, output=-1).shifted(input=-0.3, hidden=0.5, output=1)
        assert back.rules == table.rules


def test_ntk_is_a_kernel_and_mean_field_is_mup():
    """NTK's effective LR (LR times squared multiplier, SGD) is 1/width of SP's; mean-field shifts back to µP."""
    rules = [NTK.rules["sgd"][role] for role in (INPUT, OUTPUT, HIDDEN)]
    assert grown([rule.lr * rule.multiplier**2 for rule in rules]) == [1, 1 / 4, 1 / 4]
    assert MEAN_FIELD.shifted(hidden=0.5, output=1).rules == MUP.rules


def test_attention_scale():
    """1/d_head in µP, 1/sqrt(d_head) in SP, and the same at the base d_head (Def. 4.1)."""
    for p in ("sp", "mup"):
        assert attention_scale(64, 64, parametrization=p) == pytest.approx(1 / 8)
    assert attention_scale(256, 64) == pytest.approx(1 / 32)
    assert attention_scale(256, 64, parametrization="sp") == pytest.approx(1 / 16)
    assert attention_scale(256, 64, alpha_attn=3) == pytest.approx(3 / 32)


def test_printed_table_reads_like_the_paper():
    """The printed form names fan_in and fan_out, so that it can be held beside the paper."""
    text = str(MUP)
    assert "adam lr" in text and "1/fan_in" in text and "fan_out/fan_in" in text
    assert str(FAN_OUT**0.5 / FAN_IN) == "sqrt(fan_out)/fan_in"


def test_unknown_names_get_the_nearest():
    """A typo in a parametrization or optimizer is answered with the valid name, not with a KeyError."""
    with pytest.raises(UserError, match="'mup'"):
        scaling_plan(MLP(8), MLP(16), parametrization="mupp")
    with pytest.raises(UserError, match="'adamw'"):
        family_of("adamww")


def conv_batch():
    g = torch.Generator().manual_seed(0)
    return torch.randn(8, 3, 6, 6, generator=g), torch.randint(0, 10, (8,), generator=g)


CASES = {
    "mlp": (MLP, vectors),
    "conv": (ConvNet, conv_batch),
    "transformer": (Transformer, lambda: tokens(4, 8)),
    "tied": (lambda w: Transformer(w, tied=True), lambda: tokens(4, 8)),
}


@pytest.mark.parametrize(("net", "optimizer"), list(itertools.product(CASES, ("sgd", "adam"))))
def test_tables_3_8_9_train_alike(net, optimizer):
    """Lemma J.1: one function, three ways to write it. 6 steps, float64, 1e-9 (biases, norms and ties included)."""
    build, data = CASES[net]
    x, y = data()
    x = x.double() if x.is_floating_point() else x
    curves = []
    for table in (MUP, MUP_TABLE8, MUP_TABLE9, MEAN_FIELD):
        torch.manual_seed(0)
        base, model = build(32).double(), build(64).double()
        plan = scaling_plan(base, model, parametrization=table, optimizer=optimizer)
        plan.initialize(model, base)
        if optimizer == "sgd":
            opt = torch.optim.SGD(plan.param_groups(model, lr=0.05), lr=0.05, momentum=0.9)
        else:
            opt = torch.optim.Adam(plan.param_groups(model, lr=3e-3, eps=1e-6))
        losses = []
        for _ in range(6):
            loss = F.cross_entropy(model(x).flatten(0, -2), y.flatten())
            opt.zero_grad()
            loss.backward()
            opt.step()
            losses.append(loss.item())
        curves.append(torch.tensor(losses, dtype=torch.float64))
    assert curves[0][-1] < 0.98 * curves[0][0]  # it trains, so that there is something to compare
    for other in curves[1:]:
        torch.testing.assert_close(other, curves[0], rtol=1e-9, atol=0)
