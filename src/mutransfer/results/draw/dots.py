"""Outcomes by method: a dot for every trial, the centre as a bar over its interval, diverged ones counted in a strip.

Two panels in a row; under every panel stand the numbers of its columns. Of losses the strip lies on top, of scores,
where higher is better, below: always on the side of the worse.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from mutransfer.results.draw.style import WIDTH, Look, new_figure, palette, paper_style, save, wrapped, write_banner
from mutransfer.results.estimate import Array, Estimate

POINTS, SMALL, HEADING = 7.5, 6.5, 8.5
STRETCH = 2
"""The axis reaches from the best value to so many times the worst finite centre's distance."""
STEP = 0.06
"""Inches between dots that would lie on one another."""
DIVERGED: Look = {"marker": "x", "markeredgewidth": 1.4}
BAR: Look = {"color": "black", "linewidth": 1.6, "zorder": 2, "solid_capstyle": "butt"}
DOT: Look = {
    "linestyle": "none", "markeredgecolor": "white", "markeredgewidth": 0.4, "zorder": 3, "clip_on": False
}  # fmt: skip
SHADE = "#d4d4d4"
# Inches.
LEFT, RIGHT, GAP, STRIP, TITLE, TICK, ROW, LEGEND, CAPTION_LINE, BANNER = (
    0.78, 0.1, 0.5, 0.36, 0.25, 0.36, 0.14, 0.2, 0.143, 0.3,
)  # fmt: skip
PANEL = (WIDTH - LEFT - RIGHT - GAP) / 2
COLUMNS = 2


@dataclass(frozen=True)
class Column:
    """One method."""

    tick: str
    values: Array
    """[n], infinite where diverged."""
    center: Estimate
    """A band for its interval where it has one."""
    look: Look
    cells: tuple[str, ...]
    """What stands under it, a line each."""


@dataclass(frozen=True)
class Panel:
    """Columns on one axis."""

    title: str
    columns: tuple[Column, ...]
    y_label: str = ""
    strip_label: str = ""

    def limits(self, higher_is_better: bool) -> tuple[float, float]:
        """Of the axis."""
        return limits([c.values for c in self.columns], [c.center for c in self.columns], higher_is_better)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a picture of dots differs from the others."""

    stem: str
    rows: tuple[str, ...]
    """Names of the lines under the first panel of a row."""
    trial: str
    """In the legend: what a dot is, what the bar is, and what was lost."""
    center: str
    lost: str
    higher_is_better: bool = False
    has_bands: bool = True
    half: float = 0.46
    """Of a bar; a column is one unit wide."""
    within: float = np.inf
    """Dots that would lie farther from the middle of their column are squeezed into it."""
    size: float = 4
    title: float = HEADING
    tall: float = 2.4
    """Inches: of a panel, and under a row of panels."""
    foot: float = 0.0
    ticks: int = 6
    legend_columns: int = 5
    legend_points: float | None = SMALL
    names_first: bool = False
    """Whether the names of the rows come before all of their cells: the order of elements in the SVG."""


def marks(best_first: Sequence[str], signs: str) -> dict[str, Look]:
    """The look of every method, the first one darkest. No triangle or cross among ``signs``: they mean something."""
    colors = palette(len(best_first))
    return {name: {"color": c, "marker": m} for name, c, m in zip(best_first, colors, signs, strict=True)}


def dots(panels: Sequence[Panel], layout: Layout, *, out: Path, caption: str, banner: str) -> list[Path]:
    """Draw ``out/<stem>.png`` and ``.svg``; returns the two paths."""
    lower, upper = (STRIP, layout.tall) if layout.higher_is_better else (layout.tall, STRIP)
    under, more = len(layout.rows) * ROW + TICK + layout.foot, -(-len(panels) // COLUMNS) - 1
    block = TITLE + STRIP + layout.tall + TICK + len(layout.rows) * ROW + layout.foot
    with paper_style():
        text = wrapped(caption, WIDTH - 0.2, POINTS)
        below = foot_height(text) + 0.08
        height = below + under + lower + upper + TITLE + more * block + BANNER * bool(banner)
        figure = new_figure(height)
        for k, panel in enumerate(panels):
            column, floor = k % COLUMNS, below + under + (more - k // COLUMNS) * block
            left, top = (LEFT + column * (PANEL + GAP)) / WIDTH, floor + lower + upper
            low, strip_low = (floor + lower, floor) if layout.higher_is_better else (floor, floor + lower)
            axes = figure.add_axes((left, low / height, PANEL / WIDTH, layout.tall / height), zorder=2)
            box = (left, strip_low / height, PANEL / WIDTH, STRIP / height)
            _draw(axes, figure.add_axes(box, sharex=axes), panel, layout)
            axes.set_ylabel(panel.y_label)
            figure.text(left, (top + 0.05) / height, panel.title, fontweight="bold", fontsize=layout.title, va="bottom")
            names = [(row, -1, name) for row, name in enumerate(layout.rows)] if column == 0 else []
            cells = [(row, at, cell) for at, c in enumerate(panel.columns) for row, cell in enumerate(c.cells)]
            for row, at, words in [*names, *sorted(cells)] if layout.names_first else sorted([*names, *cells]):
                y = (floor - TICK - (row + 1) * ROW) / height
                if at < 0:
                    figure.text(0.1 / WIDTH, y, words, fontsize=SMALL, va="bottom", fontweight="bold")
                else:
                    x = left + (at + 0.5) / len(panel.columns) * PANEL / WIDTH
                    figure.text(x, y, words, fontsize=SMALL, va="bottom", ha="center")
        end = below - 0.12 + layout.foot / 2
        write_foot(figure, _legend(panels, layout), end, text, banner, layout.legend_columns, layout.legend_points)
        return save(figure, Path(out), layout.stem)


def foot_height(text: str) -> float:
    """Inches that legend and caption need."""
    return 0.12 + (text.count("\n") + 1) * CAPTION_LINE * bool(text) + LEGEND


def write_foot(
    figure: Figure, handles: Sequence[Artist], top: float, text: str, banner: str,
    columns: int = 5, points: float | None = SMALL,
) -> None:  # fmt: skip
    """The legend, its upper edge ``top`` inches from below, the caption under it, and the banner.

    points: of the legend; None: the style's.
    """
    height = figure.get_size_inches()[1]
    look: Look = {"frameon": False, "borderpad": 0, "borderaxespad": 0, "fontsize": points, "ncols": columns}
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, top / height), **look)
    figure.text(0.1 / WIDTH, 0.06 / height, text, fontsize=POINTS, va="bottom", linespacing=1.25)
    write_banner(figure, banner)


def limits(values: Iterable[Array], centers: Iterable[Estimate], higher_is_better: bool) -> tuple[float, float]:
    """Ends of the axis; what lies beyond the worse one is marked by triangles there."""
    sign, centers = (-1 if higher_is_better else 1), [*centers]
    every = sign * np.concatenate([*values, *([c.low, c.high] for c in centers)])
    every = every[np.isfinite(every)]
    if not len(every):
        return 0.0, 1.0
    low, high = float(every.min()), float(every.max())
    worst = max((sign * c.value for c in centers if np.isfinite(c.value)), default=high)
    high = min(high, low + STRETCH * (worst - low)) if worst > low else high
    margin = 0.06 * max(high - low, 1e-3 * abs(low), 1e-9)
    ends = sorted((sign * (low - margin), sign * (high + margin)))
    return ends[0], ends[1]


def spread(values: Array, near: float, step: float) -> Array:
    """Sideways offsets, in steps of ``step`` from the middle, so that values within ``near`` stay apart."""
    offsets = np.zeros(len(values))
    done: list[int] = []
    for i in np.argsort(values, kind="stable"):
        taken = {float(offsets[j]) for j in done if abs(values[j] - values[i]) < near}
        candidates = (sign * k * step for k in range(len(values) + 1) for sign in (1, -1))
        offsets[i] = next(offset for offset in candidates if offset not in taken)
        done.append(int(i))
    return offsets


def draw_strip(strip: Axes, name: str) -> None:
    """The grey ground of diverged outcomes."""
    strip.set_ylim(0, 1)
    strip.set_yticks([0.5], [name])
    strip.tick_params(axis="both", length=0, labelsize=SMALL)
    strip.set_facecolor("#f2f2f2")
    for spine in strip.spines.values():
        spine.set_visible(False)


def _draw(axes: Axes, strip: Axes, panel: Panel, layout: Layout) -> None:
    low, high = panel.limits(layout.higher_is_better)
    axes.set(xlim=(-0.5, len(panel.columns) - 0.5), ylim=(low, high))
    axes.yaxis.set_major_locator(MaxNLocator(layout.ticks))
    axes.tick_params(axis="x", length=0, labelbottom=not layout.higher_is_better)
    axes.grid(axis="y", alpha=0.25, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.patch.set_visible(False)
    axes.spines["bottom"].set_visible(not layout.higher_is_better)
    inch, half = PANEL / len(panel.columns), layout.half
    for k, column in enumerate(panel.columns):
        finite = np.sort(column.values[np.isfinite(column.values)])
        drawn = np.clip(finite, low, high)
        aside = spread(drawn, 0.9 * STEP * (high - low) / layout.tall, STEP / inch)
        x = k + aside * min(1.0, layout.within / max(abs(aside).max(initial=0.0), 1e-9))
        beyond = drawn != finite
        triangle = "v" if layout.higher_is_better else "^"
        for chosen, marker in ((~beyond, column.look["marker"]), (beyond, triangle)):
            look: Look = {**column.look, **DOT, "marker": marker, "markersize": layout.size}
            axes.plot(x[chosen], drawn[chosen], **look)
        center = column.center
        if layout.has_bands and not np.isnan(center.low) and center.high > low:
            bottom, top = np.clip([center.low, center.high], low, high)
            axes.fill_between([k - half, k + half], bottom, top, color=SHADE, linewidth=0, zorder=1)
        if np.isfinite(center.value):
            axes.plot([k - half, k + half], [center.value, center.value], **BAR)
        if lost := len(column.values) - len(finite):
            strip.plot(k, 0.72, **DIVERGED, color="black", markersize=5)
            strip.text(k, 0.16, f"{lost} of {len(column.values)}", ha="center", va="bottom", fontsize=6)
    draw_strip(strip, panel.strip_label)
    strip.tick_params(labelbottom=layout.higher_is_better)
    ticks = [column.tick for column in panel.columns]
    (strip if layout.higher_is_better else axes).set_xticks(range(len(ticks)), ticks, fontsize=SMALL)


def _legend(panels: Sequence[Panel], layout: Layout) -> list[Artist]:
    """The signs that occur in this figure."""
    plain: Look = {"color": "black", "linestyle": "none", "markersize": 4}
    signs: list[Artist] = [
        Line2D([], [], marker="o", label=layout.trial, **plain),
        Line2D([], [], color="black", linewidth=1.6, label=layout.center),
    ]
    every = [(column, panel.limits(layout.higher_is_better)) for panel in panels for column in panel.columns]
    if layout.has_bands:
        signs.append(Patch(color=SHADE, linewidth=0, label="its 95% interval"))
    beyond = (np.isfinite(c.values) & ((c.values < low) | (c.values > high)) for c, (low, high) in every)
    if any(values.any() for values in beyond):
        marker, words = ("v", "below the axis") if layout.higher_is_better else ("^", "above the axis")
        signs.append(Line2D([], [], marker=marker, label=words, **plain))
    if any(np.isinf(column.values).any() for column, _ in every):
        signs.append(Line2D([], [], **DIVERGED, label=layout.lost, **plain))
    return signs
