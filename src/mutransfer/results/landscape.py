"""Does the best choice of a hyperparameter stay where it is from the first line of a panel to the last?

A panel is the loss against one hyperparameter x, a line for every value of another (width, depth, batch, ...);
x is a number (a learning rate's log2) or a word (a schedule). The rule, declared before any result:

- The best choice of a line is the x with the least *mean* training loss over seeds (or another loss, if the figure
  is of that; see `rule`). A choice at which any seed
  diverged cannot win, in no draw either. Of equals the lowest x is named, or the first word. Where x is a
  number the choice is refined by a parabola, as in `optimum`; the lowest and the highest x are *edges*.
- The interval of a line's choice: every choice that wins (alone or among equals) in at least 2.5% of the
  draws, and the best choice itself; for numbers the span from the lowest to the highest of them, for words the
  set. Draws are those of `optimum`: per line n-1 of the n seeds with replacement. One seed gives no interval.
- Verdict: ``transfers`` if the first (smallest) line's best choice lies in the last (largest) line's interval
  and no seed of the last line diverged at it; else ``does not transfer``. ``undecided`` with one seed, or where
  the first or the last line's best choice is an edge of a numeric grid: it is only bounded there. A wide
  interval makes ``transfers`` easy to reach, so the regret always stands beside it.
- Regret of a line: mean loss at the first line's best choice, less the line's own least mean loss; +inf if a
  seed diverged. As in `transfer`, every draw picks the first line's choice anew, while a line's own best stays
  that of all seeds; both losses of a draw are of the same seeds.
- Drift, where x and the lines are numbers: as in `drift`, in units of x per doubling of the line's value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from mutransfer.errors import UserError
from mutransfer.results.drift import freedom, stretch
from mutransfer.results.estimate import Estimate, number, span
from mutransfer.results.frame import Curves
from mutransfer.results.optimum import Optima
from mutransfer.results.panels import Axis, Panel, draw_optima, read_panels
from mutransfer.results.quality import line

WINS = 0.025
"""Least share of the draws that a choice must win to be in the interval."""


def rule(metric_label: str = "training loss") -> str:
    """The rule in words, for a landscape of this loss."""
    return (
        f"The best choice of a line is the one with the least mean {metric_label} over seeds (one at which a seed "
        "diverged cannot win); the refined value is a parabola's. The interval holds every choice that wins at least "
        f"{WINS:.1%} of the bootstrap draws over seeds (numbers: the span of them). `transfers`: the smallest line's "
        "best choice lies in the largest line's interval, and no seed of the largest line diverged there; else "
        "`does not transfer`. With one seed, or where either of the two best choices is an edge of a numeric grid, the "
        "verdict is `undecided`. Regret: mean loss at the smallest line's best choice, less the line's own least mean "
        "loss, with its 95% bootstrap interval."
    )


RULE = rule()

Verdict = Literal["transfers", "does not transfer", "undecided"]


@dataclass(frozen=True)
class LineResult:
    """What one line of a panel says."""

    value: float
    """Of the line's hyperparameter."""
    best: int
    """Index of the best choice."""
    refined: float
    """x of the parabola's vertex; that of the best choice where no parabola could refine it."""
    on_edge: bool
    """Whether the best choice is the lowest or the highest of a numeric grid."""
    interval: tuple[int, ...]
    """Indices of the choices in the interval, ascending; empty with one seed."""
    loss: float
    loss_se: float
    """Standard error over seeds; NaN with one."""
    regret: Estimate


@dataclass(frozen=True)
class PanelReport:
    """The claim of one panel; ``str`` gives it in one sentence."""

    panel: Panel
    lines: tuple[LineResult, ...]
    verdict: Verdict
    reason: str
    """Why it is undecided, in three words; else empty."""
    drift: Estimate | None
    """Units of x per doubling of the line's value; None for words, or lines that have no doubling."""

    @property
    def line_name(self) -> str:
        """What the lines are values of."""
        return self.panel.axis.line_name

    @property
    def regret(self) -> Estimate:
        """Of the last line."""
        return self.lines[-1].regret

    @property
    def text(self) -> str:
        """``transfers`` or ``undecided (on the edge)``."""
        return f"{self.verdict} ({self.reason})" if self.reason else self.verdict

    def interval_text(self, which: int = -1) -> str:
        """The interval of one line: ``[-7, -6]``, ``{cosine, linear}``; with a word where the grid may cut it off."""
        inside = self.lines[which].interval
        if not inside:
            return "no interval"
        names = [self.panel.choice(i) for i in inside]
        if self.panel.words:
            return f"{{{', '.join(names)}}}"
        cut = inside[0] == 0 or inside[-1] == len(self.panel.x) - 1
        return f"[{names[0]}, {names[-1]}]" + (" (reaches the edge of the grid)" if cut else "")

    def __str__(self) -> str:
        first, last, name = self.lines[0], self.lines[-1], self.line_name
        low, high = (self.panel.choice(one.best) for one in (first, last))
        interval = f", interval {self.interval_text()}" if last.interval else ""
        seeds = f"{self.panel.seeds} seed{'s' if self.panel.seeds > 1 else ''}"
        return (
            f"{self.panel.key}: {self.text}. Best {low} at {name} {first.value:g}, {high} at {name} {last.value:g}"
            f"{interval}; regret of {low} there {regret_text(self.regret)} ({seeds})."
        )


def landscape_report(
    runs: pd.DataFrame,
    *,
    axes: Mapping[str, Axis] | None = None,
    draws: int = 2000,
    seed: int = 0,
    metric: str = "train_loss",
) -> dict[str, PanelReport]:
    """The report of every panel of a runs table that `read_panels` can read; ``axes`` say what its columns mean.

    ``metric``: the column that holds the loss.

    The same runs and ``seed`` give the same reports, whatever the order of a panel's rows.

    Raises `UserError` as `read_panels` does, and for a panel with one line, or a line without a choice at which
    all seeds finished.
    """
    if draws < 100:
        raise UserError(f"draws={draws} is too few for a 95% interval; use at least 100.")
    return {key: _report(panel, draws, seed) for key, panel in read_panels(runs, axes, metric=metric).items()}


def regret_text(regret: Estimate, digits: int = 4) -> str:
    """``0.0031 [0.0010, 0.0060]``, without an interval where there is none or the loss diverged."""
    has_interval = math.isfinite(regret.value) and not math.isnan(regret.low)
    return number(regret.value, digits) + (f" {span(regret.low, regret.high, digits)}" if has_interval else "")


def _report(panel: Panel, draws: int, seed: int) -> PanelReport:
    if len(panel.lines) < 2:
        raise UserError(f"panel '{panel.key}' has one line only ({panel.lines[0]:g}); transfer needs two or more.")
    masked = []
    for value, one in zip(panel.lines, panel.curves, strict=True):
        diverged = np.isinf(one.loss).any(axis=0)
        if diverged.all():
            raise UserError(
                f"panel '{panel.key}' has no choice at which all seeds of {panel.axis.line_name} {value:g} finished "
                f"({len(panel.x)} tested); extend the grid."
            )
        masked.append(Curves(one.width, one.log2_lr, np.where(diverged, np.inf, one.loss)))
    optima = draw_optima(panel, masked, draws, seed)
    lines = tuple(
        _line(panel, value, one, found, optima[0])
        for value, one, found in zip(panel.lines, masked, optima, strict=True)
    )
    verdict, reason = _decide(panel, lines)
    return PanelReport(panel, lines, verdict, reason, _drift(panel, lines, optima))


def _line(panel: Panel, value: float, one: Curves, found: Optima, base: Optima) -> LineResult:
    best, draws = int(found.index[0]), found.curve[1:]
    inside: list[int] = []
    if len(draws):
        share = (draws == draws.min(axis=1, keepdims=True)).mean(axis=0)
        won = np.flatnonzero(share >= WINS).tolist()
        inside = sorted({best, *won})
        if not panel.words:
            inside = list(range(inside[0], inside[-1] + 1))
    at = one.loss[:, best]
    return LineResult(
        value=value,
        best=best,
        refined=math.nan if panel.words else float(found.log2_lr[0]),
        on_edge=bool(found.edge[0]) and not panel.words,
        interval=tuple(inside),
        loss=float(at.mean()),
        loss_se=float(at.std(ddof=1) / math.sqrt(len(at))) if len(at) > 1 else math.nan,
        regret=Estimate.of(found.curve[np.arange(len(base.index)), base.index] - found.curve[:, best]),
    )


def _decide(panel: Panel, lines: Sequence[LineResult]) -> tuple[Verdict, str]:
    first, last = lines[0], lines[-1]
    if first.on_edge or last.on_edge:
        return "undecided", "on the edge"
    if not last.interval:
        return "undecided", "one seed"
    is_inside = first.best in last.interval and math.isfinite(last.regret.value)
    return ("transfers" if is_inside else "does not transfer"), ""


def _drift(panel: Panel, lines: Sequence[LineResult], optima: Sequence[Optima]) -> Estimate | None:
    if panel.words or panel.lines[0] <= 0:
        return None
    log2_line = np.log2(np.array(panel.lines))
    best, shift = (np.stack([getattr(one, part) for one in optima], axis=1) for part in ("log2_lr", "shift"))
    slope, _ = line(log2_line, best)
    if any(one.on_edge for one in lines):
        return Estimate(float(slope[0]), reason="an optimum on the edge of the grid is only bounded")
    wide = stretch(freedom(log2_line), panel.seeds)
    return Estimate.of(slope[0] + wide * (slope - slope[0]) + line(log2_line, shift)[0])
