"""Lab 5: its notebook runs, its solution is right, and each typical wrong answer is told what is wrong with it."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from labs.checks import lab5 as check
from mutransfer.results import Estimate

FIGURE_4 = pd.read_csv(check.FIGURES / "figure_4" / "runs.csv")
DEPTH = FIGURE_4[FIGURE_4["panel"] == "mup/depth/log2_lr"]


def test_5a(said):
    assert said(check.ex5a, check.TABLE_1) == "right"
    assert "How much regularisation" in said(check.ex5a, {**check.TABLE_1, "dropout": True})
    assert "Table 1 lists it" in said(check.ex5a, {**check.TABLE_1, "output multiplier": False})
    assert "'weight decay' must be True or False, you gave 'no'" in said(
        check.ex5a, {**check.TABLE_1, "weight decay": "no"}
    )
    assert "not done yet" in said(check.ex5a, {**check.TABLE_1, "weight decay": ...})


def test_5b_follows_the_runs(said):
    runs = pd.DataFrame({"width": [256, 512], "depth": [2, 8], "batch": [4, 4], "length": [128, 256], "steps": 5000})
    right = {"width": True, "depth": False, "batch": False, "length": True, "steps": True}
    assert said(check.ex5b, right, runs) == "right"
    assert "2, 8, and the smallest is below 4" in said(check.ex5b, {**right, "depth": True}, runs)
    assert "you gave True for 'batch': these runs have 4" in said(check.ex5b, {**right, "batch": True}, runs)
    assert "you gave False for 'length'" in said(check.ex5b, {**right, "length": False}, runs)
    assert said(check.ex5b, {**right, "width": False, "steps": False}, DEPTH) == "right"


def lines(panel, how="mean"):
    """Loss by x of the first and of the last line."""
    table = panel.groupby(["line", "x"])["train_loss"].agg(how).unstack("x")
    return table.loc[table.index.min()], table.loc[table.index.max()]


def student(panel, how="mean", sign=1, back=False, own=True, mixed=False):
    """A student's `regret`, right but for one slip."""
    first, last = lines(panel, how)[:: -1 if back else 1]
    least = (first if mixed else last).min() if own else 0.0
    return sign * (last[first.idxmin()] - least)


@pytest.mark.parametrize(
    ("slip", "hint"),
    [
        ({}, "right"),
        ({"sign": -1}, "The size is right"),
        ({"back": True}, "copies from the largest line to the smallest"),
        ({"how": "min"}, "Take the mean over the seeds"),
        ({"own": False}, "That is the loss itself"),
        ({"mixed": True}, "both losses are of the largest one"),
    ],
)
def test_5c(said, slip, hint):
    """On a panel made for it: seeds disagree, and the best choice moves."""
    rows = []
    for line, x, seed in itertools.product((2, 8), range(-9, -3), range(2)):
        best = -7 if line == 2 else -5
        loss = 2.5 - 0.01 * line + 0.01 * line * (x - best) ** 2 - 0.5 * (seed == 1 and x == -8 and line == 2)
        loss += 0.5 * (seed == 0 and x == -8 and line == 2)
        rows.append(("mup/depth/log2_lr", x, line, seed, "finished", loss))
    runs = pd.DataFrame(rows, columns=["panel", "x", "line", "seed", "status", "train_loss"])
    assert hint in said(check.ex5c, lambda panel: student(panel, **slip), runs)


def test_5c_on_the_committed_runs(said):
    assert said(check.ex5c, student, FIGURE_4) == "right"
    assert "at which two choices of x" in said(check.ex5c, lambda panel: 1.0, FIGURE_4)


def test_5d(said):
    right = {
        statement: report.verdict if (report := check.reports(figure).get(key)) else "not tested"
        for statement, (figure, key) in check.STATEMENTS.items()
    }
    assert set(right.values()) == set(check.VERDICTS)  # an answer of each kind
    assert said(check.ex5d, right) == "right"
    for statement, (figure, key) in check.STATEMENTS.items():
        for word in set(check.VERDICTS) - {right[statement]}:
            hint = said(check.ex5d, {**right, statement: word})
            assert statement in hint
            if right[statement] == "not tested":
                assert f"{figure} has no panel {key}" in hint
            elif word == "not tested":
                assert "it was tested" in hint
            elif right[statement] == "undecided":
                assert "outside of the grid" in hint
            else:
                assert "interval" in hint
    assert "'transferrs'" in said(check.ex5d, {**right, statement: "transferrs"})


def measured(exponents):
    rows = [
        (alpha, depth, seed, *(3.0 * depth**k for k in exponents[alpha]))
        for alpha, depth, seed in itertools.product(exponents, (4, 8, 16), range(2))
    ]
    return pd.DataFrame(rows, columns=["alpha", "depth", "seed", "init", "change"])


def test_5e_follows_the_measure(said):
    runs = measured({0.0: (0.47, 1.1), 0.5: (0.02, 0.45), 1.0: (-0.03, -0.05)})
    right = {0.0: {"init": 0.5, "change": 1}, 0.5: {"init": 0, "change": 0.5}, 1.0: {"init": 0, "change": 0}}
    assert said(check.ex5e, right, runs) == "right"
    assert "sizes or variances" in said(check.ex5e, {**right, 0.0: {"init": 1, "change": 1}}, runs)
    assert "the changes of L branches add up" in said(check.ex5e, {**right, 0.0: {"init": 0.5, "change": 0.5}}, runs)
    assert "begins with an embedding" in said(check.ex5e, {**right, 1.0: {"init": -0.5, "change": 0}}, runs)
    assert "measured +1.50" in said(check.ex5e, right, measured({0.0: (1.5, 1), 0.5: (0, 0.5), 1.0: (0, 0)}))


def test_5f_follows_the_intervals(said):
    drifts = {"pre-LN": Estimate(0.4, 0.1, 1.3), "post-LN": Estimate(0.31, 0.23, 0.36)}
    right = {"pre-LN": {0.5, 1}, "post-LN": set()}
    assert said(check.ex5f, right, drifts) == "right"
    assert said(check.ex5f, {"pre-LN": [1, 0.5], "post-LN": []}, drifts) == "right"
    assert "1 (linear) is compatible, too" in said(check.ex5f, {**right, "pre-LN": {0.5}}, drifts)
    assert "0 (copy) is not compatible" in said(check.ex5f, {**right, "pre-LN": {0, 0.5, 1}}, drifts)
    assert "speaks against it" in said(check.ex5f, {**right, "post-LN": {0.5}}, drifts)
    assert "expected a set" in said(check.ex5f, {**right, "post-LN": 0.5}, drifts)
    assert "none of the exponents" in said(check.ex5f, {**right, "post-LN": {2}}, drifts)


def share(lr, decay, m, steps, convention):
    return (1 - lr / m * decay * (m if convention == "independent" else 1)) ** steps


@pytest.mark.parametrize(
    ("function", "hint"),
    [
        (share, "right"),
        (lambda lr, decay, m, steps, c: share(lr, decay, m, steps, "coupled"), "That is the coupled convention"),
        (lambda lr, decay, m, steps, c: share(lr, decay, m, steps, "independent"), "the independent convention"),
        (
            lambda lr, decay, m, steps, c: (1 - lr * decay * (m if c == "independent" else 1)) ** steps,
            "falls by m, too",
        ),
        (lambda lr, decay, m, steps, c: share(lr, decay, m, 1, c), "after one step"),
        (lambda *given: 1 - share(*given), "the share that is lost"),
        (lambda lr, decay, m, steps, c: math.exp(-steps * (1 - share(lr, decay, m, 1, c))), "the limit of small steps"),
        (lambda *given: 0.5, "Each step multiplies"),
    ],
)
def test_5g(said, function, hint):
    assert hint in said(check.ex5g, function)


def test_5h(said):
    assert said(check.ex5h, {"independent": 0, "coupled": 3}) == "right"
    assert "A factor of 8 is not 8 octaves" in said(check.ex5h, {"independent": 0, "coupled": 8})
    assert "0.12 times as fast" in said(check.ex5h, {"independent": 0, "coupled": 0})
    assert "0.016 times as fast" in said(check.ex5h, {"independent": 0, "coupled": -3})
    assert " 8 times as fast" in said(check.ex5h, {"independent": 3, "coupled": 3})
    assert "far off" in said(check.ex5h, {"independent": 0, "coupled": 512})


def test_5i_follows_the_test_loss(said):
    best = {"independent": {64: 2, 512: 2}, "coupled": {64: 2, 512: 4}}
    rows = []
    for convention, width, x, seed in itertools.product(best, (64, 512), range(6), range(2)):
        test_loss = 1.8 + 0.1 * (x - best[convention][width]) ** 2
        test_loss += 0.3 * (-1 if seed else 1) * (x == 5)  # one lucky seed
        test_loss -= 2.0 * (x == 5 and seed == 1 and width == 64) - 2.0 * (x == 5 and seed == 0 and width == 64)
        rows.append((convention, x, width, seed, 0.2 + 0.3 * x, test_loss))
    runs = pd.DataFrame(rows, columns=["panel", "x", "line", "seed", "train_loss", "test_loss"])
    assert said(check.ex5i, best, runs) == "right"
    assert said(check.ex5i, {c: {w: np.int64(k) for w, k in ks.items()} for c, ks in best.items()}, runs) == "right"

    def answer(k):
        return said(check.ex5i, {**best, "independent": {64: k, 512: 2}}, runs)

    assert "There the training loss is least" in answer(0)
    assert "one seed has the least test loss" in answer(5)
    assert "another one has less" in answer(3)
    assert "The tested values" in answer(4.5)
    assert "lacks the key 512" in said(check.ex5i, {**best, "coupled": {64: 2}}, runs)
