"""Lab 4: its notebook runs, its solution is right, and each typical wrong answer is told what is wrong with it."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from labs.checks import lab4 as check
from mutransfer import scaling_plan
from mutransfer.models.mlp import MLP

BASE = 16


@pytest.mark.parametrize(
    ("function", "hint"),
    [
        (lambda w, b, d, c: 2 * b * (2 * d * w + 3 * w * w + 3 * w * c), "right"),
        (lambda w, b, d, c: b * (2 * d * w + 3 * w * w + 3 * w * c), "are two operations"),
        (lambda w, b, d, c: 2 * (2 * d * w + 3 * w * w + 3 * w * c), "a step has a batch"),
        (lambda w, b, d, c: 2 * b * (d * w + w * w + w * c), "That is the forward pass"),
        (lambda w, b, d, c: 6 * b * (d * w + w * w + w * c), "which gradient does nobody ask for"),
        (lambda w, b, d, c: 4 * b * (d * w + w * w + w * c), "need a third one"),
        (lambda w, b, d, c: 6 * b * (w * w + w * c), "left out the first layer"),
        (lambda w, b, d, c: 2 * b * (2 * d * w + 3 * w * w), "left out the readout"),
        (lambda w, b, d, c: b * w, "Add up"),
        (lambda w, b, d: 1.0, "your function raised TypeError"),
        (lambda w, b, d, c: ..., "not done yet"),
        (12.0, "expected a function"),
    ],
)
def test_4a(said, function, hint):
    assert hint in said(check.ex4a, function)


@pytest.mark.parametrize(
    ("direct", "transfer", "hint"),
    [
        (lambda b, p, t: int(b // t), lambda b, p, t: int((b - t) // p), "right"),
        (lambda b, p, t: int(b // t), lambda b, p, t: int(b // p), "less than the target's own run"),
        (lambda b, p, t: int(b // t), lambda b, p, t: int((b + t) // p), "too much"),
        (lambda b, p, t: int(b // t), lambda b, p, t: int((b - 2 * t) // p), "still train the target once"),
        (lambda b, p, t: int(b // t) - 1, lambda b, p, t: int((b - t) // p), "it trains none again"),
        (lambda b, p, t: math.ceil(b / t) + 1, lambda b, p, t: int((b - t) // p), "more than the budget"),
        (lambda b, p, t: int(b // t), lambda b, p, t: (b - t) / p, "Part of a run is no sample"),
    ],
)
def test_4b(said, direct, transfer, hint):
    assert hint in said(check.ex4b, lambda *costs: {"direct": direct(*costs), "transfer": transfer(*costs)})


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (40e6 * (350 * 4e9 + 117 * 16e9) / (6.7e9 * 300e9), "right"),
        (0.065, "right"),
        (0.07, "sum parameters x tokens"),
        (6.5, "that is a percentage"),
        (10.9, "fewer parameters"),
        (0.00597, "how long, and how often"),
        (0.0279, "the 117 longer runs are missing"),
        (0.0373, "the 350 shorter runs are missing"),
        (0.000398, "run many times"),
        (15.36, "the other way round"),
    ],
)
def test_4c(said, answer, hint):
    assert hint in said(check.ex4c, answer)


def test_4d(said):
    assert said(check.ex4d, lambda n: 0) == "right"
    assert "trains every sample again" in said(check.ex4d, lambda n: n)
    assert "for n = 10 you gave 5" in said(check.ex4d, lambda n: n / 2)


def copied(hps, width, name, *, swapped=False, optimizer="adam", table=None, plain=False, own=None, alpha=None):
    """A student's `transfer`, right but for one slip."""
    alpha = alpha or hps["alpha_output"]
    base, model = MLP(BASE, inputs=8, output_mult=alpha), MLP(width, inputs=8, output_mult=alpha)
    pair = (model, base) if swapped else (base, model)
    plan = scaling_plan(*pair, parametrization=table or name, optimizer=optimizer)
    if swapped:  # the plan fits the other model only, so the student reads the factors by hand
        groups = [{"params": [p], "lr": hps["lr"] * plan[n].lr} for n, p in model.named_parameters()]
        return model, torch.optim.Adam(groups)
    plan.initialize(model, base)
    if plain:
        return model, torch.optim.Adam(model.parameters(), lr=hps["lr"])
    return model, (own or torch.optim.Adam)(plan.param_groups(model, lr=hps["lr"]))


@pytest.mark.parametrize(
    ("slip", "hint"),
    [
        ({}, "right"),
        ({"plain": True}, "All tensors have the one learning rate"),
        ({"table": "mup"}, "does your function use its third argument"),
        ({"table": "sp"}, "All tensors have the one learning rate"),
        ({"swapped": True}, "its first argument is the base"),
        ({"optimizer": "sgd"}, "These are the rules of SGD"),
        ({"own": torch.optim.SGD}, "the optimizer is SGD"),
        ({"alpha": 1.0}, "alpha_output is 1, expected 4"),
    ],
)
def test_4e(said, slip, hint):
    assert hint in said(check.ex4e, lambda hps, width, name: copied(hps, width, name, **slip), BASE)


def test_4e_the_answer_is_the_wide_model_with_its_own_optimizer(said):
    base = MLP(BASE, inputs=8, output_mult=4.0)
    hint = said(check.ex4e, lambda hps, width, name: (base, torch.optim.Adam(base.parameters(), lr=0.01)), BASE)
    assert "Which of the two models do you return?" in hint
    other = said(check.ex4e, lambda *given: (copied(*given)[0], copied(*given)[1]), BASE)
    assert "the optimizer does not have input.weight" in other
    assert "`return model, optimizer`" in said(check.ex4e, lambda *given: copied(*given)[0], BASE)
    assert "in this order, you gave (Adam, MLP)" in said(check.ex4e, lambda *given: copied(*given)[::-1], BASE)

    def shrunk(*given):
        model, optimizer = copied(*given)
        with torch.no_grad():
            model.hidden.weight.mul_(0.5)
        return model, optimizer

    assert "the init std of hidden.weight" in said(check.ex4e, shrunk, BASE)
    assert said(check.ex4e, lambda *given: (..., ...), BASE).startswith("not done yet")


def around(half):
    return lambda x: (np.mean(x) - half(x), np.mean(x) + half(x))


def student_t(x, level=0.975, freedom=-1):
    from scipy import stats

    return stats.t.ppf(level, len(x) + freedom)


@pytest.mark.parametrize(
    ("function", "hint"),
    [
        (around(lambda x: student_t(x) * np.std(x, ddof=1) / len(x) ** 0.5), "right"),
        (around(lambda x: 1.96 * np.std(x, ddof=1) / len(x) ** 0.5), "the normal's 1.96"),
        (around(lambda x: student_t(x) * np.std(x, ddof=1)), "a single difference"),
        (around(lambda x: student_t(x) * np.std(x) / len(x) ** 0.5), "ddof=1"),
        (around(lambda x: 1.96 * np.std(x) / len(x) ** 0.5), "1.96"),
        (around(lambda x: student_t(x, freedom=0) * np.std(x, ddof=1) / len(x) ** 0.5), "n - 1 degrees"),
        (around(lambda x: student_t(x, level=0.95) * np.std(x, ddof=1) / len(x) ** 0.5), "a 90% interval"),
        (around(lambda x: np.std(x, ddof=1) / len(x) ** 0.5), "one standard error"),
        (around(lambda x: 7.0), "times the expected one"),
        (lambda x: (1.0, 0.0), "low comes first"),
        (lambda x: (0.0, 1.0), "Its middle is not the mean"),
        (lambda x: 0.5, "expected (low, high)"),
    ],
)
def test_4f(said, function, hint):
    assert hint in said(check.ex4f, function)


def results(transfer, direct, naive):
    """A table of results: judged losses by method; searched ones are lower by 0.01, 0.02, 0.03."""
    optimism = {"transfer": 0.01, "direct": 0.02, "naive": 0.03}
    judged = {"transfer": transfer, "direct": direct, "naive": naive}
    rows = [
        {"search": k, "method": name, "judged_loss": loss, "search_loss": loss - optimism[name]}
        for name, losses in judged.items()
        for k, loss in enumerate(losses)
    ]
    return pd.DataFrame(rows)


MIXED = results(transfer=[1.50, 1.52, 1.51], direct=[1.60, 1.63, 1.61], naive=[1.40, 1.60, 1.53])


def test_4g(said):
    right = {"direct": "better", "naive": "undecided"}
    assert said(check.ex4g, right, MIXED) == "right"
    assert "'better' against naive says too much" in said(check.ex4g, {**right, "naive": "better"}, MIXED)
    assert "says too little" in said(check.ex4g, {**right, "direct": "undecided"}, MIXED)
    assert "The lower loss is the better one" in said(check.ex4g, {**right, "direct": "worse"}, MIXED)
    other = results(transfer=[1.6, 1.62, 1.61], direct=[1.5, 1.51, 1.5], naive=[2.3, 2.3, 2.3])
    assert said(check.ex4g, {"direct": "worse", "naive": "better"}, other) == "right"  # the data decide, not the paper
    none = pd.DataFrame({"search": [0] * 3, "method": list(check.METHODS), "search_loss": math.nan})
    assert "no results yet" in said(check.ex4g, right, none.assign(judged_loss=math.nan))
    assert "not done yet" in said(check.ex4g, {"direct": ..., "naive": "better"}, MIXED)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (0.02, "right"),
        (-0.02, "the judged loss comes first"),
        (0.01, "That is of 'transfer'"),
        (0.03, "That is of 'naive'"),
        (0.5, "Expected the mean"),
    ],
)
def test_4h(said, answer, hint):
    assert hint in said(check.ex4h, answer, MIXED)


def test_4h_mean_over_all_methods(said):
    uneven = MIXED.assign(search_loss=MIXED["search_loss"] - 0.3 * (MIXED["method"] == "naive"))
    assert "two of them the search was on the proxy" in said(check.ex4h, (0.01 + 0.02 + 0.33) / 3, uneven)
