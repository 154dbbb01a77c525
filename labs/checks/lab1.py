"""Checks of lab 1: every number is computed here again, from the student's own runs."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from labs.checks.base import call, choice, exercise, number, table
from mutransfer.results.drift import TOLERANCE, decide
from mutransfer.results.estimate import Estimate
from mutransfer.results.transfer import TransferReport

NAMES = ("sp", "mup")
WORDS = ("lower", "same", "higher")
FIGURE_3 = {"sp": "lower", "mup": "same"}
"""What the paper's Figure 3 shows; the measure where the runs decide nothing."""
INTERVALS = ((-0.87, -0.44), (-0.20, -0.05), (-0.40, 0.10), (0.30, 0.50))
"""Of exercise 1f."""


@exercise("1a")
def ex1a(answer: object) -> str | None:
    """A factor of 10 downwards in log2(8192 / 256) doublings, in octaves per doubling."""
    drift, doublings = number(answer, "the move"), math.log2(8192 / 256)
    expected = -math.log2(10) / doublings
    if abs(drift - expected) < 0.02:
        return None
    if abs(drift + expected) < 0.02:
        return f"you gave {drift:g}: the size is right; does the best learning rate rise or fall with width?"
    if abs(abs(drift) - math.log2(10)) < 0.05:
        return f"you gave {drift:g}: that is the whole move from 256 to 8192. How many doublings lie between them?"
    if abs(abs(drift) - 10 / doublings) < 0.02 or abs(abs(drift) - 10) < 0.02:
        return f"you gave {drift:g}: a factor of 10 is not 10 octaves; an octave is a factor of 2."
    if abs(abs(drift) - 1 / doublings) < 0.02 or abs(abs(drift) - math.log(10) / doublings) < 0.02:
        return f"you gave {drift:g}: that is in another logarithm. Octaves are counted by log2."
    return (
        f"you gave {drift:g}: divide the number of octaves in a factor of 10 by the number of doublings, with its sign."
    )


@exercise("1b")
def ex1b(prediction: object, report: TransferReport) -> str | None:
    """The words must be those of the measured drift; where that is undecided, those of Figure 3."""
    words = table(prediction, "prediction", NAMES)
    for name in NAMES:
        said = choice(words[name], "word", WORDS)
        result = report.parametrizations[name]
        found, source = FIGURE_3[name], "Your runs decide nothing, but the paper's Figure 3 shows something else"
        if result.verdict != "undecided":
            found = "same" if result.verdict == "stable" else "lower" if result.slope.value < 0 else "higher"
            source = f"Your own runs say {result.slope.value:+.2f} octaves per doubling, {result.verdict}"
        if said != found:
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
        found = table(answer, f"best_log2_lr(runs, {name!r})", expected)
        for width, best in expected.items():
            given = number(found[width], f"the best log2 learning rate of {name} at width {width}")
            if given == best:
                continue
            return f"{name} at width {width}: you gave {given:g}. " + _why_not_best(given, runs, name, width)
    return None


def _why_not_best(given: float, runs: pd.DataFrame, name: str, width: int) -> str:
    cell = runs[(runs["parametrization"] == name) & (runs["width"] == width)]
    mean = mean_losses(runs, name, width)
    if given not in mean.index:
        if given > 0 and math.log2(given) in mean.index:
            return "That is a learning rate; its log2 is asked for."
        return f"That is no learning rate of the grid ({', '.join(f'{x:g}' for x in mean.index)})."
    if given == mean.idxmax():
        return "There the mean loss is greatest."
    if given == cell.loc[cell["train_loss"].idxmin(), "log2_lr"]:
        return "There one seed has the least loss of all; take the mean over the seeds first."
    other = next(n for n in NAMES if n != name)
    if optima(runs, other).get(width) == given:
        return "That is the optimum of the other parametrization: does your function use its second argument?"
    if not math.isfinite(mean[given]):
        return "There a seed diverged, so its mean is infinite."
    return f"The mean loss there is {mean[given]:.4f}, and another learning rate of this width has less."


@exercise("1d")
def ex1d(answer: object, runs: pd.DataFrame) -> str | None:
    """Least squares on the grid's optima or on the report's refined ones: either will do."""
    from mutransfer import transfer_report

    drift, report = table(answer, "drift", NAMES), transfer_report(runs)
    for name in NAMES:
        given = number(drift[name], f"the drift of {name}")
        best = optima(runs, name)
        refined = report.parametrizations[name].slope.value
        if min(abs(given - slope(best)), abs(given - refined)) < 0.02:
            continue
        return f"{name}: you gave {given:.3g}. " + _why_not_slope(given, best, refined)
    return None


def _why_not_slope(given: float, best: dict[int, float], refined: float) -> str:
    width, log2_lr = np.array(list(best), float), np.array(list(best.values()))

    def near(*candidates: float) -> bool:
        return any(abs(c) > 1e-9 and abs(given - c) <= 0.02 * abs(c) for c in candidates)

    whole = log2_lr[-1] - log2_lr[0]
    octaves = math.log2(10)
    if near(-slope(best), -refined):
        return "The size is right, the sign is not: does the best learning rate rise or fall?"
    if near(float(np.polyfit(width, log2_lr, 1)[0])):
        return "That is the slope on the width itself, octaves per unit of width: take log2 of the widths."
    if near(slope(best) * octaves, refined * octaves, slope(best) / math.log(2), refined / math.log(2)):
        return "That is the slope on another logarithm of the width: a doubling is one unit of log2."
    if near(slope(best) / octaves, refined / octaves, slope(best) * math.log(2), refined * math.log(2)):
        return "That is the slope of another logarithm of the learning rate: an octave is one unit of log2."
    if near(whole):
        return f"That is the whole move; there are {math.log2(width[-1] / width[0]):g} doublings in it."
    return "Expected the least-squares slope of the best log2 learning rates on log2 width, over all widths."


@exercise("1e")
def ex1e(answer: object, runs: pd.DataFrame) -> str | None:
    """Loss of the widest at the narrowest's best, less its own least loss."""
    given = table(answer, "regret", NAMES)
    for name in NAMES:
        best = optima(runs, name)
        narrow, wide = min(best), max(best)
        losses = {width: mean_losses(runs, name, width) for width in (narrow, wide)}
        expected = losses[wide][best[narrow]] - losses[wide][best[wide]]
        if given[name] == math.inf == expected:
            continue
        found = number(given[name], f"the regret of {name}")
        if not math.isfinite(expected):
            return (
                f"{name}: you gave {found:.4f}, but width {wide} diverged at the best learning rate of width {narrow}."
            )
        if abs(found - expected) < 0.0005:
            continue
        said = f"{name}: you gave {found:.4f}. "
        if abs(found + expected) < 0.0005:
            return said + "The size is right; a regret is never negative: which loss is the larger?"
        if abs(found - (losses[narrow][best[wide]] - losses[narrow][best[narrow]])) < 0.0005:
            return (
                said + f"That is what width {narrow} loses with the learning rate of width {wide}: the other way round."
            )
        if abs(found - (losses[wide][best[narrow]] - losses[narrow][best[narrow]])) < 0.0005:
            return said + f"That compares two widths. Both losses are those of width {wide}, at two learning rates."
        if abs(found - losses[wide][best[narrow]]) < 0.0005:
            return said + f"That is the loss itself; take from it the least loss that width {wide} can have."
        if found < 0:
            return said + "A regret is never negative: nothing is better than a width's own best."
        return said + f"Expected a difference of two mean losses of width {wide}: at which two learning rates?"
    return None


@exercise("1f")
def ex1f(answer: object) -> str | None:
    """The suite's own rule on each interval."""
    for interval, said in table(answer, "verdicts", INTERVALS).items():
        word, (low, high) = choice(said, "verdict", ("stable", "drifts", "undecided")), interval
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
