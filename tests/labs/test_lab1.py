"""Lab 1: its notebook runs, its solution is right, and each typical wrong answer is told what is wrong with it."""

import math

import numpy as np
import pandas as pd
import pytest

from labs.checks import lab1 as check
from mutransfer import transfer_report

WIDTHS = (64, 128, 256)


def sweep(sp: float = -1.0, mup: float = 0.0, lucky: bool = False, shuffled: bool = False) -> pd.DataFrame:
    """Parabolas around an optimum that moves by so many octaves a doubling; seed 1 of the highest LR diverges in SP."""
    rows = []
    for name, drift in (("sp", sp), ("mup", mup)):
        for k, width in enumerate(WIDTHS):
            for log2_lr in range(-9, -2):
                for seed in range(3):
                    loss = 1.6 - 0.1 * k + 0.03 * (log2_lr + 5 - drift * k + 0.1) ** 2 + 0.0001 * seed
                    # one lucky seed at a poor learning rate: the mean must be taken first
                    loss -= 0.4 * (lucky and width == 64 and seed == 2 and log2_lr == -8)
                    diverged = name == "sp" and log2_lr == -3 and seed == 1
                    rows.append((name, width, log2_lr, seed, math.inf if diverged else loss))
    runs = pd.DataFrame(rows, columns=["parametrization", "width", "log2_lr", "seed", "train_loss"])
    return runs.sample(frac=1, random_state=0) if shuffled else runs


RUNS = sweep()
BEST = {"sp": {64: -5.0, 128: -6.0, 256: -7.0}, "mup": {64: -5.0, 128: -5.0, 256: -5.0}}


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (-math.log2(10) / 5, "right"),
        (-0.66, "right"),
        (0.66, "rise or fall"),
        (-3.32, "How many doublings"),
        (-2.0, "a factor of 10 is not 10 octaves"),
        (-0.2, "another logarithm"),
        (-7, "divide the number"),
        ("-0.66", "must be a number, you gave '-0.66'"),
        (math.nan, "finite"),
    ],
)
def test_1a(said, answer, hint):
    assert hint in said(check.ex1a, answer)


def test_1b_follows_the_measure_and_the_paper_where_it_decides_nothing(said):
    report = transfer_report(RUNS)
    assert [report.verdict(name) for name in ("sp", "mup")] == ["drifts", "stable"]
    right = {"sp": "lower", "mup": "same"}
    assert said(check.ex1b, right, report) == "right"
    assert "you predicted 'higher' for sp" in said(check.ex1b, {**right, "sp": "higher"}, report)
    assert "-1.00 octaves per doubling, drifts" in said(check.ex1b, {**right, "sp": "same"}, report)
    assert "Did you mean 'lower'?" in said(check.ex1b, {**right, "sp": "lowr"}, report)
    other = transfer_report(sweep(sp=0.0, mup=0.5))  # were these the runs, the paper's answer would be wrong
    assert said(check.ex1b, {"sp": "same", "mup": "higher"}, other) == "right"
    assert said(check.ex1b, right, other).startswith("not yet. you predicted 'lower' for sp")
    undecided = transfer_report(RUNS[RUNS["seed"] == 0])
    assert said(check.ex1b, right, undecided) == "right"
    assert "Your runs decide nothing" in said(check.ex1b, {"sp": "same", "mup": "same"}, undecided)


def best(runs, name):
    mean = runs[runs["parametrization"] == name].groupby(["width", "log2_lr"])["train_loss"].mean()
    return {width: mean[width].idxmin() for width in WIDTHS}


def with_change(change):
    return lambda runs, name: {w: change(runs[runs["parametrization"] == name], w, x) for w, x in BEST[name].items()}


@pytest.mark.parametrize(
    ("function", "hint"),
    [
        (best, "right"),
        (lambda runs, name: pd.Series(best(runs, name)), "right"),
        (with_change(lambda runs, w, x: 2.0**x), "its log2 is asked for"),
        (with_change(lambda runs, w, x: -2.5), "no learning rate of the grid"),
        (with_change(lambda runs, w, x: -3), "the mean loss is greatest"),
        (with_change(lambda runs, w, x: -8), "one seed has the least loss"),
        (with_change(lambda runs, w, x: x + 1), "The mean loss there is"),
        (lambda runs, name: BEST["mup"], "does your function use its second argument?"),
        (lambda runs, name: {64: -5}, "lacks the key 128"),
        (lambda runs, name: ..., "not done yet"),
        (lambda runs: {}, "your function raised TypeError"),
        (BEST["sp"], "expected a function"),
    ],
)
def test_1c(said, function, hint):
    assert hint in said(check.ex1c, function, sweep(lucky=True))


def test_1c_of_rows_in_any_order(said):
    assert said(check.ex1c, best, sweep(lucky=True, shuffled=True)) == "right"


LOG2_WIDTHS = np.log2(WIDTHS)


def slope(name, x=LOG2_WIDTHS, scale=1.0):
    return np.polyfit(x, np.array(list(BEST[name].values())) * scale, 1)[0]


@pytest.mark.parametrize(
    ("sp", "hint"),
    [
        (slope("sp"), "right"),
        (transfer_report(RUNS).parametrizations["sp"].slope.value, "right"),
        (-slope("sp"), "the sign is not"),
        (slope("sp", WIDTHS), "the slope on the width itself"),
        (slope("sp", np.log10(WIDTHS)), "another logarithm of the width"),
        (slope("sp", np.log(WIDTHS)), "another logarithm of the width"),
        (slope("sp", scale=math.log10(2)), "another logarithm of the learning rate"),
        (-2.0, "That is the whole move; there are 2 doublings in it"),
        (-0.1, "least-squares slope"),
    ],
)
def test_1d(said, sp, hint):
    assert hint in said(check.ex1d, {"sp": sp, "mup": 0.0}, RUNS)


def mean(width, log2_lr):
    cell = RUNS.query("parametrization == 'sp' and width == @width and log2_lr == @log2_lr")
    return cell["train_loss"].mean()


@pytest.mark.parametrize(
    ("sp", "hint"),
    [
        (mean(256, -5) - mean(256, -7), "right"),
        (mean(256, -7) - mean(256, -5), "never negative: which loss is the larger"),
        (mean(64, -7) - mean(64, -5), "the other way round"),
        (mean(256, -5) - mean(64, -5), "That compares two widths"),
        (mean(256, -5), "That is the loss itself"),
        (0.02, "at which two learning rates"),
        (math.inf, "must be a finite number"),
    ],
)
def test_1e(said, sp, hint):
    assert hint in said(check.ex1e, {"sp": sp, "mup": 0.0}, RUNS)


def test_1e_where_the_copy_diverges(said):
    """An infinite regret is the right answer there, and a finite one is not."""
    runs = RUNS.copy()
    runs.loc[runs.eval("parametrization == 'sp' and width == 256 and log2_lr == -5"), "train_loss"] = math.inf
    assert said(check.ex1e, {"sp": math.inf, "mup": 0.0}, runs) == "right"
    assert "width 256 diverged at the best learning rate" in said(check.ex1e, {"sp": 0.1, "mup": 0.0}, runs)


def test_1f(said):
    right = dict(zip(check.INTERVALS, ("drifts", "stable", "undecided", "drifts"), strict=True))
    assert said(check.ex1f, right) == "right"
    assert "one side of zero does not matter" in said(check.ex1f, {**right, (-0.2, -0.05): "drifts"})
    assert "it lies partly within ±0.25" in said(check.ex1f, {**right, (-0.4, 0.1): "stable"})
    assert "it lies nowhere within ±0.25" in said(check.ex1f, {**right, (0.3, 0.5): "undecided"})
    assert "Did you mean 'undecided'?" in said(check.ex1f, {**right, (-0.4, 0.1): "undecied"})
    assert "lacks the key" in said(check.ex1f, {(-0.87, -0.44): "drifts"})
    assert "not done yet" in said(check.ex1f, {**right, (0.3, 0.5): ...})
