"""Checks of lab 1: every number is computed here again, from the student's own runs."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from labs.checks.base import call, choices, exercise, number, numbers, slip, table
from mutransfer.results import TransferReport
from mutransfer.results.estimate import Estimate
from mutransfer.results.transfer import TOLERANCE, decide

NAMES = ("sp", "mup")
WORDS = ("lower", "same", "higher")
FIGURE_3 = {"sp": "lower", "mup": "same"}
"""What the paper's Figure 3 shows; the measure where the runs decide nothing."""
INTERVALS = ((-0.87, -0.44), (-0.20, -0.05), (-0.40, 0.10), (0.30, 0.50))
"""Of exercise 1f."""


@exercise("1a")
def ex1a(answer: object) -> str | None:
    """A factor of 10 downwards in log2(8192 / 256) doublings, in octaves per doubling."""
    drift, doublings, octaves = number(answer, "the move"), math.log2(8192 / 256), math.log2(10)
    expected = -octaves / doublings
    if abs(drift - expected) < 0.02:
        return None
    slips = [
        (-expected, "the size is right; does the best learning rate rise or fall with width?"),
        ([octaves, 3.3], "that is the whole move from 256 to 8192. How many doublings lie between them?"),
        ([10 / doublings, 10], "a factor of 10 is not 10 octaves; an octave is a factor of 2."),
        ([1 / doublings, math.log(10) / doublings], "that is in another logarithm. Octaves are counted by log2."),
    ]
    otherwise = "divide the number of octaves in a factor of 10 by the number of doublings, with its sign."
    return f"you gave {drift:g}: {slip(abs(drift), slips, otherwise, abs_tol=0.02)}"


@exercise("1b")
def ex1b(prediction: object, report: TransferReport) -> str | None:
    """The words must be those of the measured drift; where that is undecided, those of Figure 3."""
    for name, said in choices(prediction, "prediction", NAMES, WORDS).items():
        result = report.parametrizations[name]
        seen, source = FIGURE_3[name], "Your runs decide nothing, but the paper's Figure 3 shows something else"
        if result.verdict != "undecided":
            seen = "same" if result.verdict == "stable" else "lower" if result.slope.value < 0 else "higher"
            source = f"Your own runs say {result.slope.value:+.2f} octaves per doubling, {result.verdict}"
        if said != seen:
            return (
                f"you predicted '{said}' for {name}. {source}. Look where the dots go from width to width, and say "
                "what could make a wide network need that, before you change the word."
            )
    return None


@exercise("1c")
def ex1c(function: object, runs: pd.DataFrame) -> str | None:
    """The grid point of least mean loss, at every width of both parametrizations."""
    for name in NAMES:
        expected, answer = optima(runs, name), call(function, runs, name)
        if isinstance(answer, pd.Series):
            answer = answer.to_dict()
        for width, given in numbers(answer, f"best_log2_lr(runs, {name!r})", expected).items():
            if given != expected[width]:
                return f"{name} at width {width}: you gave {given:g}. " + _why_not_best(given, runs, name, width)
    return None


def _why_not_best(given: float, runs: pd.DataFrame, name: str, width: int) -> str:
    cell = runs[(runs["parametrization"] == name) & (runs["width"] == width)]
    mean = mean_losses(runs, name, width)
    if given not in mean.index:
        if given > 0 and math.log2(given) in mean.index:
            return "That is a learning rate; its log2 is asked for."
        return f"That is no learning rate of the grid ({', '.join(f'{x:g}' for x in mean.index)})."
    (other,) = set(NAMES) - {name}
    others, luckiest = optima(runs, other).get(width, math.nan), cell.loc[cell["train_loss"].idxmin(), "log2_lr"]
    slips = [
        (mean.idxmax(), "There the mean loss is greatest."),
        (luckiest, "There one seed has the least loss of all; take the mean over the seeds first."),
        (others, "That is the optimum of the other parametrization: does your function use its second argument?"),
        (mean.index[np.isinf(mean)], "There a seed diverged, so its mean is infinite."),
    ]
    otherwise = f"The mean loss there is {mean[given]:.4f}, and another learning rate of this width has less."
    return slip(given, slips, otherwise)


@exercise("1d")
def ex1d(answer: object, runs: pd.DataFrame) -> str | None:
    """Least squares on the grid's optima or on the report's refined ones: either will do."""
    from mutransfer import transfer_report

    report = transfer_report(runs)
    for name, given in numbers(answer, "drift", NAMES).items():
        best, refined = optima(runs, name), report.parametrizations[name].slope.value
        if min(abs(given - slope(best)), abs(given - refined)) >= 0.02:
            return f"{name}: you gave {given:.3g}. " + _why_not_slope(given, best, refined)
    return None


def _why_not_slope(given: float, best: dict[int, float], refined: float) -> str:
    widths, log2_lrs = np.array(list(best)), list(best.values())
    right, log2_10, ln_2 = np.array([slope(best), refined]), math.log2(10), math.log(2)
    by_width, whole = np.polyfit(widths, log2_lrs, 1)[0], log2_lrs[-1] - log2_lrs[0]
    other_x, other_y = [*right * log2_10, *right / ln_2], [*right / log2_10, *right * ln_2]
    slips = [
        (-right, "The size is right, the sign is not: does the best learning rate rise or fall?"),
        (by_width, "That is the slope on the width itself, octaves per unit of width: take log2 of the widths."),
        (other_x, "That is the slope on another logarithm of the width: a doubling is one unit of log2."),
        (other_y, "That is the slope of another logarithm of the learning rate: an octave is one unit of log2."),
        (whole, f"That is the whole move; there are {math.log2(widths[-1] / widths[0]):g} doublings in it."),
    ]
    otherwise = "Expected the least-squares slope of the best log2 learning rates on log2 width, over all widths."
    return slip(given, slips, otherwise, rel_tol=0.02)


@exercise("1e")
def ex1e(answer: object, runs: pd.DataFrame) -> str | None:
    """Loss of the widest at the narrowest's best, less its own least loss."""
    for name, value in table(answer, "regret", NAMES).items():
        best = optima(runs, name)
        narrow, wide = min(best), max(best)
        of_narrow, of_wide = mean_losses(runs, name, narrow), mean_losses(runs, name, wide)
        copied, least = of_wide[best[narrow]], of_narrow[best[narrow]]
        expected, back = copied - of_wide[best[wide]], of_narrow[best[wide]] - least
        if value == math.inf == expected:
            continue
        given = number(value, f"the regret of {name}")
        said = f"{name}: you gave {given:.4f}"
        if not math.isfinite(expected):
            return f"{said}, but width {wide} diverged at the best learning rate of width {narrow}."
        if abs(given - expected) < 0.0005:
            continue
        across = copied - least
        slips = [
            (-expected, "The size is right; a regret is never negative: which loss is the larger?"),
            (back, f"That is what width {narrow} loses at the learning rate of width {wide}: the other way round."),
            (across, f"That compares two widths. Both losses are those of width {wide}, at two learning rates."),
            (copied, f"That is the loss itself; take from it the least loss that width {wide} can have."),
        ]
        otherwise = f"Expected a difference of two mean losses of width {wide}: at which two learning rates?"
        if given < 0:
            otherwise = "A regret is never negative: nothing is better than a width's own best."
        return f"{said}. {slip(given, slips, otherwise, abs_tol=0.0005)}"
    return None


@exercise("1f")
def ex1f(answer: object) -> str | None:
    """The suite's own rule on each interval."""
    for (low, high), word in choices(answer, "verdicts", INTERVALS, ("stable", "drifts", "undecided")).items():
        if word == decide(Estimate((low + high) / 2, low, high)):
            continue
        inside = "wholly" if low >= -TOLERANCE and high <= TOLERANCE else "partly"
        if high < -TOLERANCE or low > TOLERANCE:
            inside = "nowhere"
        note = " That it lies on one side of zero does not matter." if word == "drifts" and low * high > 0 else ""
        return f"[{low:g}, {high:g}] is not '{word}': it lies {inside} within ±{TOLERANCE}.{note}"
    return None


def mean_losses(runs: pd.DataFrame, name: str, width: int) -> pd.Series:
    """Mean training loss over seeds by log2 learning rate; infinite where a seed diverged."""
    cell = runs[(runs["parametrization"] == name) & (runs["width"] == width)]
    return cell.groupby("log2_lr")["train_loss"].mean()


def optima(runs: pd.DataFrame, name: str) -> dict[int, float]:
    """The log2 learning rate of least mean loss by width, narrow to wide."""
    widths = sorted(runs.loc[runs["parametrization"] == name, "width"].unique())
    return {int(width): float(mean_losses(runs, name, width).idxmin()) for width in widths}


def slope(best: dict[int, float]) -> float:
    """Octaves per doubling: least squares of log2 learning rate on log2 width."""
    return float(np.polyfit(np.log2(list(best)), list(best.values()), 1)[0])
