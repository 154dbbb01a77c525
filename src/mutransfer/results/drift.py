"""The rule that turns a slope with its interval into a verdict (`RULE`, declared before any result), and its words.

The slope is unweighted, its interval the percentiles 2.5 and 97.5 of the draws. The bootstrap's own spread is known
from few seeds only: the seeds' part of the interval is widened by Student's t over the normal's 1.96, without which two
seeds at three widths would hold the truth in 65% of sweeps, not 95%.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtri, stdtrit

from mutransfer.results.estimate import LEVEL, Array, Estimate, label, listing, number, span
from mutransfer.results.optimum import Optima, Side
from mutransfer.results.quality import line

Verdict = Literal["stable", "drifts", "undecided"]

TOLERANCE = 0.25
"""Octaves per doubling of width within which an optimum counts as staying."""
MOST_SEEDS = 100
"""More seeds than this are not suggested to anyone."""
RULE = (
    "The optimum LR* of a width is the learning rate with the least mean training loss over seeds, refined "
    "by a parabola in log2 LR; intervals are 95% bootstrap intervals over seeds. The drift is the "
    "least-squares slope of log2 LR* against log2 width, its interval widened by Student's t for few seeds. "
    f"`stable`: its whole interval lies within ±{TOLERANCE} octave per doubling of width; `drifts`: it lies "
    f"wholly below -{TOLERANCE} or wholly above {TOLERANCE}; else `undecided`. With one seed, or an optimum "
    "on the edge of the tested grid, the verdict is `undecided`."
)


@dataclass(frozen=True)
class DriftResult:
    """What the runs of one parametrization say about transfer; octaves per doubling of width unless said
    otherwise.
    """

    name: str
    widths: tuple[int, ...]
    seeds: int
    """Fewest seeds of any width."""
    slope: Estimate
    verdict: Verdict
    E: Estimate
    """Octaves."""
    kappa: Estimate
    """Log2 of loss per doubling of width."""
    kappa_widths: int
    """How many widths kappa could use; the others have a side of LR* that diverged or was not tested."""
    l_inf: Estimate
    """Loss."""
    r_inf: Estimate
    """Loss."""
    regret: Estimate
    """Loss; of the widest width."""
    edges: tuple[tuple[int, Side], ...]
    """Widths whose optimum lies on an edge of the tested grid, and on which."""
    seeds_needed: int | None
    """About how many seeds would decide an undecided verdict; None if decided, or if no number up to 100
    would.
    """
    sentence: str

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the slope."""
        return self.slope.low, self.slope.high


def decide(slope: Estimate, *, on_edge: bool = False) -> Verdict:
    """The verdict on a slope with its interval, by `RULE`."""
    if on_edge or math.isnan(slope.low):
        return "undecided"
    if slope.high < -TOLERANCE or slope.low > TOLERANCE:
        return "drifts"
    return "stable" if slope.low >= -TOLERANCE and slope.high <= TOLERANCE else "undecided"


def freedom(log2_width: Array) -> float:
    """Degrees of freedom of the slope's error per extra seed (Welch and Satterthwaite, equal noise).

    Fewer than the widths, because the outer ones carry most of a slope: 2 at three widths, 2.9 at five.
    """
    square = (log2_width - log2_width.mean()) ** 2
    return float(square.sum() ** 2 / (square**2).sum())


def stretch(freedom: float, seeds: int) -> float:
    """Student's t over the normal quantile, with ``freedom`` degrees of freedom per extra seed."""
    if seeds < 2:
        return 1.0
    return float(stdtrit(freedom * (seeds - 1), (1 + LEVEL) / 2) / ndtri((1 + LEVEL) / 2))


def slopes(x: Array, optima: Sequence[Optima], seeds: int) -> Array:
    """Slope [1 + draws] of LR* (or another refined choice) against ``x`` [K], stretched for few seeds."""
    best, shift = (np.stack(part, axis=1) for part in zip(*((o.log2_lr, o.shift) for o in optima), strict=True))
    slope, _ = line(x, best)
    return slope[0] + stretch(freedom(x), seeds) * (slope - slope[0]) + line(x, shift)[0]


def seeds_to_decide(slope: Estimate, seeds: int, freedom: float) -> int | None:
    """About how many seeds would take the interval off the nearer boundary if the slope stayed, up to 100.

    The half-width shrinks as `stretch` / sqrt(seeds).
    """
    distance, half = abs(abs(slope.value) - TOLERANCE), (slope.high - slope.low) / 2
    unit = half * math.sqrt(seeds) / stretch(freedom, seeds)
    for more in range(seeds + 1, MOST_SEEDS + 1):
        if unit * stretch(freedom, more) / math.sqrt(more) < distance:
            return more
    return None


def describe_drift(
    name: str,
    slope: Estimate,
    verdict: Verdict,
    *,
    seeds: int,
    needed: int | None,
    edges: list[tuple[int, Side]],
    kept: list[int],
) -> str:
    """The verdict in one sentence; ``kept`` are the widths whose optimum no parabola could refine."""
    head = f"{label(name)}: {verdict}. The best learning rate moves by {number(slope.value)} octaves"
    head += " per doubling of width"
    count = f"({seeds} seed{'s' if seeds > 1 else ''})"
    head += f" {count}" if math.isnan(slope.low) else f", 95% interval {span(slope.low, slope.high)} {count}"
    if edges:
        where = listing([f"{side} edge at width {width}" for width, side in edges])
        return (
            f"{head}; but the optimum lies on the edge of the tested grid ({where}), so that LR* is only "
            "bounded there: extend the grid."
        )
    if math.isnan(slope.low):
        return f"{head}; one seed gives no interval, run at least two."
    if verdict == "stable":
        return f"{head}, wholly within ±{TOLERANCE}."
    if verdict == "drifts":
        return f"{head}, wholly {'below -' if slope.value < 0 else 'above '}{TOLERANCE}."
    many = f"about {needed}" if needed else f"no reasonable number of (up to {MOST_SEEDS})"
    finer = ""
    if kept:
        where = listing([str(width) for width in kept])
        finer = f"; a finer grid would help more than seeds at width {where}, where LR* lies beside divergence"
    return f"{head}, which reaches across ±{TOLERANCE}; {many} seeds would decide it{finer}."
