"""Curves of a loss, a line for every value of what is scaled: mean, band, and a strip of crosses for diverged runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from mutransfer.results.draw.page import LETTER, Page, sign
from mutransfer.results.draw.style import MARKERS, MUTED, WIDTH, Look, palette
from mutransfer.results.estimate import Array
from mutransfer.results.frame import Curves
from mutransfer.results.transfer import interpolate

TRANSFERRED: Look = {"color": MUTED, "linestyle": (0, (2, 2)), "linewidth": 0.9}
"""Of the choice that is copied from the smallest line."""


@dataclass(frozen=True)
class Marks:
    """How the parts of a panel of curves are drawn."""

    line: Look
    edge: Look
    """Of the markers, here and in the legend."""
    above: Look
    """The triangle where a curve leaves the axis; empty: not marked."""
    cross: Look
    """In the strip; empty: there is no strip of diverged runs."""
    strip_row: float
    """Inches of the strip for every line."""
    ticks: Look
    leads: bool = False
    """Whether dots lead the eye from a curve to its crosses in the strip."""
    all_have_strips: bool = False
    """Whether a panel without diverged runs has a strip where another one of its row has."""


LARGE_MARKS = Marks(
    line={},
    edge={"markeredgecolor": "white", "markeredgewidth": 0.4},
    above={"markersize": 4, "zorder": 3},
    cross={"markersize": 3.8, "markeredgewidth": 1.2},
    strip_row=0.085,
    ticks={},
    leads=True,
    all_have_strips=True,
)
SMALL_MARKS = Marks(
    line={"linewidth": 1.0},
    edge={"markeredgecolor": "white", "markeredgewidth": 0.3},
    above={"markersize": 3},
    cross={"markersize": 2.8, "markeredgewidth": 0.9},
    strip_row=0.045,
    ticks={"labelsize": 6.5, "length": 2, "pad": 1.5},
)


def line_looks(values: Iterable[float], **more: object) -> dict[float, Look]:
    """Colour and marker of every line value, dark for the smallest; what is ``more`` is the same for all."""
    values = list(values)
    signs = zip(values, palette(len(values)), itertools.cycle(MARKERS), strict=False)
    return {value: {"color": color, "marker": marker, **more} for value, color, marker in signs}


def curve_panel(
    page: Page,
    row: int,
    column: int,
    lines: Mapping[float, Curves],
    looks: Mapping[float, Look],
    x_limits: tuple[float, float],
    limits: tuple[float, float],
    marks: Marks,
    *,
    first: bool,
) -> Axes:
    """Line value -> its curves, means over seeds with their standard errors; diverged runs in the strip on top.

    Only the ``first`` panel of a row has y labels.
    """
    axes, top = page.axes(row, column), limits[1]
    axes.set_zorder(2)
    axes.patch.set_visible(False)  # the signs at its upper end reach into the strip above
    axes.set(xlim=x_limits, ylim=limits)
    axes.tick_params(labelleft=first, **marks.ticks)
    for value, curve in lines.items():
        look, x, mean = looks[value], curve.log2_lr, curve.loss.mean(axis=0)
        shown = np.where(np.isfinite(mean), mean, np.nan)
        axes.plot(x, shown, **{"zorder": 3, **marks.line, **marks.edge, **look})
        for here, there in ((i, j) for i in range(len(x)) for j in (i - 1, i + 1) if marks.leads and 0 <= j < len(x)):
            if shown[here] < top and np.isinf(mean[there]):
                axes.plot(x[[here, there]], [shown[here], top], ":", color=look["color"], linewidth=0.9, zorder=2)
        if len(curve.loss) > 1:
            finite = np.where(np.isfinite(curve.loss), curve.loss, np.nan)
            error = finite.std(axis=0, ddof=1) / np.sqrt(len(curve.loss))
            axes.fill_between(x, shown - error, shown + error, color=look["color"], alpha=0.25, linewidth=0, zorder=2)
        if marks.above:
            over = shown > top
            axes.plot(x[over], np.full(over.sum(), top), "^", color=look["color"], clip_on=False, **marks.above)
    lost = {value: np.isinf(curve.loss).mean(axis=0) for value, curve in lines.items()}
    if marks.cross and page.strips[row] and (marks.all_have_strips or any(share.any() for share in lost.values())):
        # one row for every line, the smallest lowest; a cross where runs diverged, faint where not all seeds did
        strip = page.strip(row, column, axes, (-1, len(looks)), "diverged" if first else "", **marks.ticks)
        for value, share in lost.items():
            look = {**marks.cross, "color": looks[value]["color"]}
            for chosen, alpha in ((share == 1, 1.0), ((share > 0) & (share < 1), 0.4)):
                y = np.full(chosen.sum(), [*looks].index(value))
                strip.plot(lines[value].log2_lr[chosen], y, "x", alpha=alpha, **look)
    return axes


def strip_height(panels: Iterable[Iterable[Curves]], lines: int, marks: Marks) -> float:
    """What the diverged runs of a row of panels with so many ``lines`` need; 0 if there are none."""
    return marks.strip_row * (lines + 1) if any(np.isinf(curve.loss).any() for p in panels for curve in p) else 0.0


def star(axes: Axes, curve: Curves, at: float, least: float, **look: object) -> float:
    """A star on the mean curve, or at ``least`` where the curve is not known; returns its height."""
    y = float(interpolate(curve.log2_lr, curve.loss.mean(axis=0)[None], np.array([at]))[0])
    y = least if np.isnan(y) else y
    axes.plot(at, y, "*", **look)  # type: ignore[arg-type]
    return y


def line_legend(page: Page, row: int, name: str, looks: Mapping[float, Look], marks: Marks) -> None:
    """The line values of a row of panels, below it: ``width 32``, ``width 64``, ...

    The name stands at the first value only where a line has no room for all.
    """
    points = page.layout.points
    full = [f"{name} {value:g}" for value in looks]
    has_room = sum(0.45 + len(text) * LETTER * points / 72 for text in full) < WIDTH - 0.3
    labels = full if has_room else [full[0], *(f"{value:g}" for value in [*looks][1:])]
    page.legend(row, [sign(label, **look, **marks.edge) for label, look in zip(labels, looks.values(), strict=True)])


def loss_limits(table: Sequence[Curves], ceiling: float | None = None) -> tuple[float, float]:
    """The loss axis: from below the least loss to where a typical curve is two octaves off its optimum, and some."""
    means = [curve.loss.mean(axis=0) for curve in table]
    best = np.array([mean.min() for mean in means])
    rise = []
    for curve, mean in zip(table, means, strict=True):
        near = (np.abs(curve.log2_lr - curve.log2_lr[mean.argmin()]) <= 2) & np.isfinite(mean)
        rise.append(mean[near].max() - mean.min())
    top = best.max() + 1.5 * float(np.median(rise))
    finite = np.concatenate([mean[np.isfinite(mean)] for mean in means])
    top = min(top, float(finite.max()), ceiling if ceiling is not None else np.inf)
    return _with_margin(best.min(), top, max(top, best.max()), 1)


def curve_limits(curves: Sequence[Array], early: Sequence[Array]) -> tuple[float, float]:
    """The loss axis of learning curves: from below the least mean loss to where a typical steep start is over.

    It reaches up to the worst end of a curve, but no further than twice that span, lest one bad curve flatten all
    others. early: of each curve, the last loss of its start, or nothing.
    """
    known = np.concatenate(curves)
    if not np.isfinite(known).any():
        return 0.0, 1.0  # every run diverged before the first logged step: crosses alone
    bottom = float(known[np.isfinite(known)].min())
    started, ends = np.concatenate(early), np.array([mean[-1] for mean in curves])
    top = float(np.median(started[np.isfinite(started)])) if np.isfinite(started).any() else bottom
    worst = float(ends[np.isfinite(ends)].max()) if np.isfinite(ends).any() else top
    top = max(top, min(worst, bottom + 2 * (top - bottom)))
    return _with_margin(bottom, top, top, 2)


def _with_margin(bottom: float, top: float, upper: float, times: int) -> tuple[float, float]:
    margin = 0.05 * max(top - bottom, 1e-3 * abs(bottom), 1e-9)
    return float(bottom - margin), float(upper + times * margin)
