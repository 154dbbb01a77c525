"""Curves of a loss, a line for every value of what is scaled: mean, band, and a strip of crosses for diverged runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import ScaledTranslation, blended_transform_factory

from mutransfer.results.draw.page import Entry, new_page, set_ticks, write_title
from mutransfer.results.draw.style import MARKERS, MUTED, Look, palette, paper_style, save
from mutransfer.results.estimate import Array
from mutransfer.results.frame import Curves
from mutransfer.results.transfer import interpolate

TRANSFERRED: Look = {"color": MUTED, "linestyle": (0, (2, 2)), "linewidth": 0.9}
"""Of the choice that is copied from the smallest line."""


@dataclass(frozen=True, kw_only=True)
class CurvePanel:
    """One panel of a figure of final losses, a line for every value of what is scaled."""

    lines: Mapping[float, Curves]
    line_name: str  # what they are values of
    x_label: str
    title: Sequence[tuple[str, Look]]
    mark: Callable[[Axes, Mapping[float, Look]], None] = lambda axes, looks: None  # draws more, given the lines' looks
    y_label: str = ""
    words: Sequence[str] = ()  # at the choices, if they are words
    row: int = 0
    column: int = 0

    @property
    def curves(self) -> list[Curves]:
        return list(self.lines.values())

    def x_limits(self, panels: Iterable[CurvePanel]) -> tuple[float, float]:
        """Of all ``panels`` with the same x, so that the eye can compare them."""
        same = [curve.log2_lr for panel in panels if panel.x_label == self.x_label for curve in panel.curves]
        grid = np.unique(np.concatenate(same))
        margin = max(0.5 * float(np.diff(grid).min()) if len(grid) > 1 else 0.5, 0.04 * float(np.ptp(grid)))
        return float(grid[0]) - margin, float(grid[-1]) + margin


def curve_figure(
    panels: Sequence[CurvePanel],
    out: Path,
    stem: str,
    *,
    signs: Sequence[Entry] = (),
    caption: str = "",
    banner: str = "",
    ceiling: float | None = None,
    limits: tuple[float, float] | None = None,
) -> list[Path]:
    """Draw ``out/<stem>.png`` and ``.svg``; returns the two paths.

    Mean losses over seeds with their standard errors. The loss axis of a row ends where the basins stay readable: what
    lies above has a triangle at its upper end, a diverged run a cross in a strip above it, faint where not all seeds
    did. The legend has the lines of every row, ``signs``, and those two where they occur. ceiling: a loss above which
    nothing is drawn (say, that of the untrained model). limits: of the loss axis, in place of `loss_limits`.
    """
    rows, columns = 1 + max(panel.row for panel in panels), 1 + max(panel.column for panel in panels)
    by_row = [[panel for panel in panels if panel.row == row] for row in range(rows)]
    looks = [line_looks(sorted({value for panel in row for value in panel.lines})) for row in by_row]
    every = [[curve for panel in row for curve in panel.curves] for row in by_row]
    ends = [limits or loss_limits(curves, ceiling) for curves in every]
    named = {(row[0].line_name, tuple(look)): look for row, look in zip(by_row, looks, strict=True)}
    legends = [*(line_signs(name, look) for (name, _), look in named.items()), [*signs, *_signs(every, ends)]]
    is_small = len(panels) > 2
    tall = 3.6 if not is_small else 2.6 if columns < 3 else 2.1
    with paper_style(small=is_small):
        figure, axes = new_page(rows, columns, tall, legends=legends, caption=caption, banner=banner, sharey="row")
        for empty in {*np.ndindex(axes.shape)} - {(panel.row, panel.column) for panel in panels}:
            axes[empty].set_axis_off()
        for panel in panels:
            here, look, curves = axes[panel.row, panel.column], looks[panel.row], every[panel.row]
            here.set(xlabel=panel.x_label, xlim=panel.x_limits(panels), ylim=ends[panel.row])
            if panel.column == 0:
                here.set_ylabel(panel.y_label)
            if panel.words:
                x = panel.curves[0].log2_lr
                here.set_xticks(x, panel.words, rotation=25, ha="right", rotation_mode="anchor")
            else:
                set_ticks(here.xaxis, count=24 // columns)
            draw_curves(here, panel.lines, look)
            _mark_lost(here, panel.lines, look, has_strip=any(np.isinf(curve.loss).any() for curve in curves))
            panel.mark(here, look)
            write_title(here, *panel.title)
        return save(figure, out, stem)


def line_looks(values: Sequence[float]) -> dict[float, Look]:
    """Colour and marker of every line value, dark for the smallest."""
    signs = zip(values, palette(len(values)), itertools.cycle(MARKERS), strict=False)
    edge: Look = {"markeredgecolor": "white", "markeredgewidth": 0.4}
    return {value: {"color": color, "marker": marker, **edge} for value, color, marker in signs}


def line_signs(name: str, looks: Mapping[float, Look]) -> list[Entry]:
    """The entries of a legend: ``width 32``, ``width 64``, ..."""
    return [(f"{name} {value:g}", look) for value, look in looks.items()]


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


def _mark_lost(axes: Axes, lines: Mapping[float, Curves], looks: Mapping[float, Look], *, has_strip: bool) -> None:
    """Triangles where curves leave the axis; dots lead on to diverged runs: crosses in the strip, one row per line."""
    bottom, top = axes.get_ylim()
    strip = add_strip(axes, (-1, len(looks)), 0.05 * (len(looks) + 1)) if has_strip else None
    for value, curve in lines.items():
        x, mean, lost = curve.log2_lr, curve.loss.mean(axis=0), np.isinf(curve.loss).mean(axis=0)
        color = looks[value]["color"]
        leads = np.where(lost > 0, top + 0.02 * (top - bottom), mean)
        axes.plot(x, leads, ":", color=color, linewidth=0.9, zorder=2)
        for above in x[np.isfinite(mean) & (mean > top)]:
            axes.plot(above, top, "^", color=color, clip_on=False, zorder=3)
        for at, share in zip(x[lost > 0], lost[lost > 0], strict=True):
            if strip:
                strip.plot(at, [*looks].index(value), "x", alpha=1.0 if share == 1 else 0.4, color=color)


def _signs(rows: Sequence[Sequence[Curves]], ends: Sequence[tuple[float, float]]) -> list[Entry]:
    """Of the legend: what `_mark_lost` marks in this figure."""
    black: Look = {"color": "black", "linestyle": "none"}
    means = np.concatenate([c.loss.mean(axis=0) - top for row, (_, top) in zip(rows, ends, strict=True) for c in row])
    share = np.concatenate([np.isinf(curve.loss).mean(axis=0) for row in rows for curve in row])
    signs: list[Entry] = []
    if (np.isfinite(means) & (means > 0)).any():
        signs.append(("above the axis", {"marker": "^", **black}))
    if share.any():
        signs.append((f"diverged{' (faint: some seeds)' * bool((share % 1).any())}", {"marker": "x", **black}))
    return signs


def add_strip(axes: Axes, rows: tuple[float, float], tall: float) -> Axes:
    """A grey strip on top of a panel. rows: its lower and its upper end; tall: inches."""
    upper = ScaledTranslation(0, 1, axes.transAxes)  # type: ignore[arg-type]
    place = blended_transform_factory(axes.transAxes, axes.figure.dpi_scale_trans + upper)
    strip = axes.inset_axes((0, 0, 1, tall), transform=place, sharex=axes, zorder=0)
    strip.set(ylim=rows, yticks=())
    strip.tick_params(labelbottom=False, length=0)
    strip.set_facecolor("#f2f2f2")
    strip.spines[:].set_visible(False)
    return strip


def star(axes: Axes, curve: Curves, at: float, least: float, color: str) -> float:
    """A star on the mean curve, or at ``least`` where the curve is not known; returns its height."""
    y = float(interpolate(curve.log2_lr, curve.loss.mean(axis=0)[None], np.array([at]))[0])
    y = least if np.isnan(y) else y
    size = 2.3 * matplotlib.rcParams["lines.markersize"]
    axes.plot(at, y, "*", color=color, markersize=size, markeredgecolor="black", markeredgewidth=0.5, zorder=5)
    return y


def loss_limits(table: Sequence[Curves], ceiling: float | None = None) -> tuple[float, float]:
    """The loss axis: from below the least loss to where a typical curve is two octaves off its optimum, and some."""
    facts = []
    for curve in table:
        mean = curve.loss.mean(axis=0)
        if (known := np.isfinite(mean)).any():
            near = known & (np.abs(curve.log2_lr - curve.log2_lr[mean.argmin()]) <= 2)
            facts.append((mean.min(), mean[near].max() - mean.min(), mean[known].max()))
    if not facts:
        return 0.0, 1.0  # every run diverged
    best, rise, most = map(np.array, zip(*facts, strict=True))
    top = min(best.max() + 1.5 * float(np.median(rise)), most.max(), np.inf if ceiling is None else ceiling)
    return _with_margin(best.min(), top, max(top, best.max()), 1)


def curve_limits(curves: Sequence[Array], early: Sequence[Array]) -> tuple[float, float]:
    """The loss axis of learning curves: from below the least mean loss to where a typical steep start is over.

    It reaches up to the worst end of a curve, but no further than twice that span, lest one bad curve flatten all
    others. early: of each curve, the last loss of its start, or nothing.
    """
    ends = np.array([mean[-1] for mean in curves])
    known, started, ends = (x[np.isfinite(x)] for x in (np.concatenate(curves), np.concatenate(early), ends))
    if not len(known):
        return 0.0, 1.0  # every run diverged before the first logged step: crosses alone
    bottom = float(known.min())
    top = float(np.median(started)) if len(started) else bottom
    top = max(top, min(float(ends.max(initial=top)), bottom + 2 * (top - bottom)))
    return _with_margin(bottom, top, top, 2)


def _with_margin(bottom: float, top: float, upper: float, times: int) -> tuple[float, float]:
    margin = 0.05 * max(top - bottom, 1e-3 * abs(bottom), 1e-9)
    return float(bottom - margin), float(upper + times * margin)
