"""Curves of a loss, a line for every value of what is scaled: mean, band, and a strip of crosses for diverged runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation, blended_transform_factory

from mutransfer.results.draw.page import sign
from mutransfer.results.draw.style import MARKERS, MUTED, Look, palette
from mutransfer.results.estimate import Array
from mutransfer.results.frame import Curves
from mutransfer.results.quality import interpolate

TRANSFERRED: Look = {"color": MUTED, "linestyle": (0, (2, 2)), "linewidth": 0.9}
"""Of the choice that is copied from the smallest line."""
OUTLINED: Look = {"markeredgecolor": "white", "markeredgewidth": 0.4}


def line_looks(values: Iterable[float]) -> dict[float, Look]:
    """Colour and marker of every line value, dark for the smallest."""
    values = list(values)
    signs = zip(values, palette(len(values)), itertools.cycle(MARKERS), strict=False)
    return {value: {"color": color, "marker": marker, **OUTLINED} for value, color, marker in signs}


def line_signs(name: str, looks: Mapping[float, Look]) -> list[Line2D]:
    """The entries of a legend: ``width 32``, ``width 64``, ..."""
    return [sign(f"{name} {value:g}", **look) for value, look in looks.items()]


def draw_curves(axes: Axes, lines: Mapping[float, Curves], looks: Mapping[float, Look]) -> None:
    """Line value -> its curves: means over seeds with their standard errors."""
    for value, curve in lines.items():
        mean = curve.loss.mean(axis=0)
        shown = np.where(np.isfinite(mean), mean, np.nan)
        axes.plot(curve.log2_lr, shown, **{"zorder": 3, **looks[value]})
        if len(curve.loss) > 1:
            finite = np.where(np.isfinite(curve.loss), curve.loss, np.nan)
            error = finite.std(axis=0, ddof=1) / np.sqrt(len(curve.loss))
            look: Look = {"color": looks[value]["color"], "alpha": 0.25, "linewidth": 0}
            axes.fill_between(curve.log2_lr, shown - error, shown + error, **look, zorder=2)


def curve_panel(
    axes: Axes,
    lines: Mapping[float, Curves],
    looks: Mapping[float, Look],
    x_limits: tuple[float, float],
    limits: tuple[float, float],
    *,
    has_strip: bool,
) -> None:
    """`draw_curves`; dots lead on to diverged runs, each a cross in the strip on top, faint where not all seeds did.

    A triangle stands where a curve leaves the axis. The rows of the strip are those of ``looks``, the first one lowest.
    """
    axes.set(xlim=x_limits, ylim=limits)
    draw_curves(axes, lines, looks)
    beyond = limits[1] + 0.02 * (limits[1] - limits[0])
    strip = add_strip(axes, (-1, len(looks)), 0.06 * (len(looks) + 1)) if has_strip else None
    for value, curve in lines.items():
        x, mean, lost = curve.log2_lr, curve.loss.mean(axis=0), np.isinf(curve.loss).mean(axis=0)
        color = looks[value]["color"]
        axes.plot(x, np.where(lost > 0, beyond, mean), ":", color=color, linewidth=0.9, zorder=2)
        for over in x[np.isfinite(mean) & (mean > limits[1])]:
            axes.plot(over, limits[1], "^", color=color, clip_on=False, zorder=3)
        for chosen, alpha in ((lost == 1, 1.0), ((lost > 0) & (lost < 1), 0.4)) if strip else ():
            y = np.full(chosen.sum(), [*looks].index(value))
            strip.plot(x[chosen], y, "x", alpha=alpha, color=color, markeredgewidth=1.0)


def add_strip(axes: Axes, rows: tuple[float, float], tall: float) -> Axes:
    """A grey strip on top of a panel. rows: its lower and its upper end; tall: inches."""
    inches = axes.figure.dpi_scale_trans + ScaledTranslation(0, 1, axes.transAxes)  # from the panel's upper end
    place = blended_transform_factory(axes.transAxes, inches)
    strip = axes.inset_axes((0, 0, 1, tall), transform=place, sharex=axes, zorder=0)
    strip.set(ylim=rows, yticks=())
    strip.tick_params(labelbottom=False, length=0)
    strip.set_facecolor("#f2f2f2")
    strip.spines[:].set_visible(False)
    return strip


def any_diverged(curves: Iterable[Curves]) -> bool:
    """Whether a run of any of the curves did."""
    return any(np.isinf(curve.loss).any() for curve in curves)


def star(axes: Axes, curve: Curves, at: float, least: float, **look: object) -> float:
    """A star on the mean curve, or at ``least`` where the curve is not known; returns its height."""
    y = float(interpolate(curve.log2_lr, curve.loss.mean(axis=0)[None], np.array([at]))[0])
    y = least if np.isnan(y) else y
    axes.plot(at, y, "*", **look)  # type: ignore[arg-type]
    return y


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
