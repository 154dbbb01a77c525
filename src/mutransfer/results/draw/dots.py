"""Outcomes by method: a dot for every trial, the centre as a bar over its interval, diverged ones counted in a strip.

Two panels in a row; under every column of a panel stand its numbers. The strip lies on the side of the worse.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from mutransfer.results.draw.page import legend, sheet
from mutransfer.results.draw.style import Look, paper_style, save
from mutransfer.results.estimate import Array, Estimate

SMALL = 6.5
STRETCH = 2
"""The axis reaches from the best value to so many times the worst finite centre's distance."""
DIVERGED: Look = {"marker": "x", "markeredgewidth": 1.4, "color": "black"}
DOT: Look = {"linestyle": "none", "markeredgecolor": "white", "markeredgewidth": 0.4, "zorder": 3, "clip_on": False}
PLAIN: Look = {"color": "black", "linestyle": "none", "markersize": 4}
SHADE = "#d4d4d4"
ROWS = ("center", "µTransfer is", "compute", "samples")
"""Of the numbers under the columns."""


@dataclass(frozen=True)
class Column:
    """One method."""

    name: str
    values: Array  # [n], infinite where diverged
    center: Estimate  # a band for its interval where it has one
    look: Look
    cells: tuple[str, ...]  # what stands under it, below `ROWS`


@dataclass(frozen=True)
class Panel:
    """Columns on one axis."""

    title: str
    y_label: str
    columns: tuple[Column, ...]
    higher_is_better: bool = False


def dots(panels: Sequence[Panel], signs: tuple[str, str, str], stem: Path, caption: str, banner: str) -> list[Path]:
    """Draw ``<stem>.png`` and ``.svg``; returns the two paths. ``signs``: what a dot, a bar and a cross are."""
    lines = -(-len(panels) // 2)
    with paper_style():
        figure, part = sheet(0.25 + 3.6 * lines, caption, banner)
        grid = part.subplots(lines, 2, squeeze=False)
        known: list[Artist] = [Line2D([], [], marker="o", label=signs[0], **PLAIN)]
        known.append(Line2D([], [], color="black", linewidth=1.6, label=signs[1]))
        for axes, panel in zip(grid.flat, panels, strict=False):
            known += _draw(axes, panel, axes in grid[:, 0], signs[2])
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        legend(part, known)
        return save(figure, stem.parent, stem.name)


Line = tuple[str, Look, Array, Array]
"""Of a method by sizes of its searches: its name and look, x [points], quartiles [points, 3], -inf where diverged."""


def fronts(
    panels: Mapping[str, tuple[str, Sequence[Line]]], y_label: str, stem: Path, caption: str, banner: str
) -> list[Path]:
    """Draw ``<stem>.png`` and ``.svg``: medians of scores with a band of quartiles; returns the two paths.

    panels: title -> label of the x axis, and lines; a line is interrupted where its median diverged.
    """
    every = [quartiles for _, lines in panels.values() for *_, quartiles in lines]
    ends = limits([q.ravel() for q in every], [Estimate(value) for q in every for value in q[:, 1]], True)
    has_lost = any(np.isinf(q[:, 1]).any() for q in every)
    with paper_style():
        figure, part = sheet(3.3, caption, banner)
        signs: list[Artist] = []
        for axes, (title, (x_label, lines)) in zip(part.subplots(1, len(panels)), panels.items(), strict=True):
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set(ylim=ends, ylabel=y_label)
            axes.grid(alpha=0.25, linewidth=0.5)
            axes.set_title(title, loc="left", fontweight="bold", fontsize=7.5)
            strip = strip_at(axes, True, "diverged") if has_lost else axes
            strip.set_xlabel(x_label)
            for row, (name, look, places, quartiles) in enumerate(lines):
                order, color = np.argsort(places, kind="stable"), look["color"]
                finite, x = np.isfinite(quartiles[order, 1]), places[order]
                low, median, high = np.where(finite, quartiles[order].T, np.nan)
                axes.fill_between(x, np.clip(low, *ends), high, color=color, alpha=0.22, linewidth=0, zorder=1)
                signs += axes.plot(x, median, **look | DOT | {"linestyle": "-"}, markersize=5, label=name)
                for at in x[median < ends[0]]:
                    axes.plot(at, ends[0], "v", color=color, clip_on=False, markersize=4)
                for at in x[~finite]:
                    strip.plot(at, 0.7 - 0.4 * row, **DIVERGED | {"color": color})
        signs.append(Patch(label="25th to 75th percentile of the searches", color="black", alpha=0.22, linewidth=0))
        if has_lost:
            signs.append(Line2D([], [], label="the median search diverged", **PLAIN | DIVERGED))
        legend(part, signs)
        return save(figure, stem.parent, stem.name)


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


def spread(values: Array, near: float, most: float = 0.4) -> Array:
    """Sideways offsets, at ``most`` so large, so that values within ``near`` stay apart."""
    offsets = np.zeros(len(values))
    for k, i in enumerate(order := np.argsort(values, kind="stable")):
        taken = {offsets[j] for j in order[:k] if values[i] - values[j] < near}
        places = (sign * n for n in range(len(values) + 1) for sign in (1, -1))
        offsets[i] = next(place for place in places if place not in taken)
    return offsets * min(0.1, most / max(abs(offsets).max(initial=0), 1))


def strip_at(axes: Axes, below: bool, name: str) -> Axes:
    """The grey ground of diverged outcomes at the lower or the upper end of a panel."""
    strip = axes.inset_axes((0, -0.13 if below else 1, 1, 0.13), sharex=axes)
    strip.set_ylim(0, 1)
    strip.set_yticks([0.5], [name])
    strip.tick_params(axis="both", length=0, labelsize=SMALL, labelbottom=below)
    strip.set_facecolor("#f2f2f2")
    strip.spines[:].set_visible(False)
    axes.tick_params(axis="x", length=0, labelbottom=not below)
    return strip


def _draw(axes: Axes, panel: Panel, has_names: bool, lost_sign: str) -> list[Artist]:
    """Returns the signs that occur, for the legend."""
    low, high = limits([c.values for c in panel.columns], [c.center for c in panel.columns], panel.higher_is_better)
    out, out_sign = ("v", "below the axis") if panel.higher_is_better else ("^", "above the axis")
    signs: list[Artist] = []
    axes.set(xlim=(-0.5, len(panel.columns) - 0.5), ylim=(low, high), ylabel=panel.y_label)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.grid(axis="y", alpha=0.25, linewidth=0.5)
    axes.set_axisbelow(True)
    strip = strip_at(axes, panel.higher_is_better, "diverged")
    top, bottom = (axes, strip) if panel.higher_is_better else (strip, axes)
    top.set_title(panel.title, loc="left", fontweight="bold", fontsize=8)
    for k, column in enumerate(panel.columns):
        finite = np.sort(column.values[np.isfinite(column.values)])
        drawn, center = np.clip(finite, low, high), column.center
        x, beyond = k + spread(drawn, 0.022 * (high - low)), drawn != finite
        for chosen, marker in ((~beyond, column.look["marker"]), (beyond, out)):
            if chosen.any():  # constrained layout takes a line without points for one in the corner of the page
                axes.plot(x[chosen], drawn[chosen], **column.look | DOT | {"marker": marker, "markersize": 4})
        if any(beyond):
            signs.append(Line2D([], [], marker=out, label=out_sign, **PLAIN))
        if not np.isnan(center.low) and center.high > low:
            ends = np.clip([center.low, center.high], low, high)
            axes.fill_between([k - 0.46, k + 0.46], *ends, color=SHADE, linewidth=0, zorder=1)
            signs.insert(0, Patch(color=SHADE, linewidth=0, label="its 95% interval"))
        if np.isfinite(center.value):
            axes.hlines(center.value, k - 0.46, k + 0.46, color="black", linewidth=1.6, zorder=2)
        if lost := len(column.values) - len(finite):
            strip.plot(k, 0.72, **DIVERGED, markersize=5)
            signs.append(Line2D([], [], **PLAIN | DIVERGED, label=lost_sign))
            strip.text(k, 0.16, f"{lost} of {len(column.values)}", ha="center", va="bottom", fontsize=6)
    names = [textwrap.fill(column.name, 9) for column in panel.columns]
    under = ["\n".join([n + "\n" * (2 - n.count("\n")), *c.cells]) for n, c in zip(names, panel.columns, strict=True)]
    bottom.set_xticks(range(len(under)), under, fontsize=SMALL)
    look: Look = {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": SMALL, "fontweight": "bold"}
    if has_names:
        bottom.annotate("\n".join(["\n\n", *ROWS]), (0, 0), (-4, -3.5), ha="right", va="top", **look)
    return signs
