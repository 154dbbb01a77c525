"""The paper's Figure 14: a random search in parallel coordinates, a line a sample, coloured by its final loss."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from mutransfer.errors import UserError
from mutransfer.results.draw.lr_figure import Look
from mutransfer.results.draw.style import MUTED, WIDTH, new_figure, paper_style, save, wrapped, write_banner
from mutransfer.results.estimate import Array, number

STEM = "parallel_coordinates"
BEST = 5
"""Samples drawn thick."""
STRETCH = 4
"""The loss axis reaches from the best sample to so many times the median's distance; worse ones end at its top."""
LOG_UNIFORM = re.compile(r"([\d.]+)\^U\((-?[\d.]+), (-?[\d.]+)\)")
POINTS, SMALL = 7.5, 6.5
# Inches.
LEFT, RIGHT, TALL, TITLE, BELOW, LEGEND, CAPTION_LINE = 0.5, 0.72, 2.1, 0.42, 0.42, 0.2, 0.143
DIVERGED: Look = {"color": "#808080", "linewidth": 0.9, "linestyle": (0, (1, 1.6))}
BAR: Look = {"linewidth": 5, "capstyle": "butt", "zorder": 6, "clip_on": False}
TICK: Look = {"color": "black", "linewidth": 0.7, "zorder": 6, "clip_on": False}
LOST = 1.09
"""Where diverged samples end, on an axis from 0 to 1."""


@dataclass(frozen=True)
class Pool:
    """Samples that were trained equally long: a row a sample, a column a hyperparameter, ``status``, ``train_loss``."""

    heading: str
    runs: pd.DataFrame

    @property
    def ranked(self) -> pd.DataFrame:
        """The samples that trained, best first."""
        return self.runs[self.runs["status"] == "finished"].sort_values(["train_loss", "sample"])


def parallel_coordinates(
    pools: Sequence[Pool], space: Mapping[str, str], *, out: Path, y_label: str, caption: str = "", banner: str = ""
) -> list[Path]:
    """Draw ``out/parallel_coordinates.png`` and ``.svg``, a panel a pool, the first one on top; returns the paths.

    space: hyperparameter -> its distribution as text, in the order of the axes; ``10^U(-4, -1)`` spans its axis in log
    units, of any other text the values do. Raises `UserError` if a pool lacks a hyperparameter or has no samples.
    """
    for pool in pools:
        if missing := [name for name in space if column(name) not in pool.runs.columns]:
            raise UserError(f"the samples of '{pool.heading}' lack {', '.join(missing)}; run the study again.")
        if pool.runs.empty:
            raise UserError(f"'{pool.heading}' has no samples; run the study again.")
    with paper_style():
        text = wrapped(caption, WIDTH - 0.2, POINTS)
        below = (text.count("\n") + 1) * CAPTION_LINE * bool(text) + 0.12
        row = TITLE + TALL + BELOW
        height = below + LEGEND + len(pools) * row + 0.05 + 0.3 * bool(banner)
        figure = new_figure(height)
        for k, pool in enumerate(pools):
            floor = below + LEGEND + (len(pools) - 1 - k) * row + BELOW
            box = (LEFT / WIDTH, floor / height, (WIDTH - LEFT - RIGHT) / WIDTH, TALL / height)
            _draw_pool(figure.add_axes(box), pool, space, y_label)
            figure.text(
                0.1 / WIDTH, (floor + TALL + 0.27) / height, _title(pool), fontsize=8, fontweight="bold", va="bottom"
            )
        figure.legend(
            handles=_legend(pools),
            loc="upper center",
            bbox_to_anchor=(0.5, (below + LEGEND) / height),
            ncols=4,
            frameon=False,
            borderpad=0,
            borderaxespad=0,
        )
        figure.text(0.1 / WIDTH, 0.06 / height, text, fontsize=POINTS, va="bottom", linespacing=1.25)
        write_banner(figure, banner)
        return save(figure, Path(out), STEM)


def column(name: str) -> str:
    """Of the runs table."""
    return "log2_lr" if name == "lr" else name


def scale(values: pd.Series, text: str) -> tuple[Array, list[tuple[float, str]]]:
    """Where ``values`` stand on an axis from 0 to 1, in log units, and its ticks (place, label).

    ``text`` is the distribution that they come from. Words, and numbers that are not positive, are equally spaced.
    """
    if found := LOG_UNIFORM.fullmatch(text):
        base, low, high = map(float, found.groups())
        exponents = np.arange(math.ceil(low), math.floor(high) + 1)
        step = math.ceil(len(exponents) / 6)
        ticks = [(k, f"$2^{{{k}}}$" if base == 2 else f"{base**k:g}") for k in map(int, exponents[::step])]
        return (np.log(values.to_numpy(float)) / math.log(base) - low) / (high - low), [
            ((k - low) / (high - low), label) for k, label in ticks
        ]
    known = sorted(values.unique())
    is_log = pd.api.types.is_numeric_dtype(values) and known[0] > 0
    marks = np.log(np.array(known, float)) if is_log else np.arange(len(known), dtype=float)
    places = (marks - marks[0]) / (marks[-1] - marks[0]) if len(known) > 1 else np.array([0.5])
    where = dict(zip(known, places, strict=True))
    chosen = known if len(known) <= 6 else [known[0], known[-1]]
    names = [f"{value:g}" if is_log else str(value) for value in chosen]
    return np.array([where[v] for v in values]), [(float(where[v]), n) for v, n in zip(chosen, names, strict=True)]


def loss_range(losses: Array) -> tuple[float, float]:
    """Ends of the loss axis: the best sample, and the worst unless that is `STRETCH` times the median's distance."""
    low, middle, high = float(losses.min()), float(np.median(losses)), float(losses.max())
    high = min(high, low + STRETCH * (middle - low)) if middle > low else high
    return low, high if high > low else low + 1e-3 * max(abs(low), 1.0)


def _draw_pool(axes: Axes, pool: Pool, space: Mapping[str, str], y_label: str) -> None:
    runs, ranked, last = pool.runs, pool.ranked, len(space)
    axes.set(xlim=(0, last), ylim=(0, 1))
    axes.set_axis_off()
    places = np.empty((len(runs), last + 1))
    for k, (name, text) in enumerate(space.items()):
        values = 2.0 ** runs["log2_lr"] if name == "lr" else runs[name]
        places[:, k], ticks = scale(values, text)
        _draw_axis(axes, k, ticks, left=True)
        axes.text(k, -0.045, name, ha="center", va="top", fontsize=7, fontweight="bold")
        axes.text(k, -0.125, text, ha="center", va="top", fontsize=6, color=MUTED)
    low, high = loss_range(ranked["train_loss"].to_numpy(float)) if len(ranked) else (0.0, 1.0)
    inside = [tick for tick in MaxNLocator(6).tick_values(low, high) if low <= tick <= high] if len(ranked) else []
    _draw_axis(axes, last, [((tick - low) / (high - low), f"{tick:g}") for tick in inside], left=False)
    axes.text(last, -0.045, y_label.replace(" (", "\n("), ha="center", va="top", fontsize=7, fontweight="bold")
    steps = [[(last, k / 64), (last, (k + 1) / 64)] for k in range(64)]  # the axis is its own colour bar
    axes.add_collection(LineCollection(steps, colors=[shade(k / 63) for k in range(64)], **BAR))
    rank = {index: k for k, index in enumerate(ranked.index)}
    losses = runs["train_loss"].astype(float).to_numpy()
    places[:, last] = [
        (loss - low) / (high - low) if index in rank else LOST for index, loss in zip(runs.index, losses, strict=True)
    ]
    over = places[:, last] > 1
    for place, index in zip(places, runs.index, strict=True):
        if index in rank:
            color, best = shade(min(place[last], 1.0)), rank[index] < BEST
            look: Look = {"color": color, "linewidth": 1.9 if best else 0.7}
            if best:
                look["path_effects"] = [withStroke(linewidth=2.9, foreground="white")]
            axes.plot(*_ends(place), **look, zorder=4 - rank[index] / 1e4 + best)
        else:
            axes.plot(range(last + 1), place, clip_on=False, **DIVERGED, zorder=2)
    lost = over & ~np.array([index in rank for index in runs.index])
    if lost.any():
        axes.plot(last, LOST, "x", color="black", markersize=5, markeredgewidth=1.3, clip_on=False, zorder=7)
        axes.text(last + 0.08, LOST, f"{lost.sum()} diverged", fontsize=SMALL, va="center", clip_on=False)
    if (over & ~lost).any():
        axes.plot(last, 1, "^", color="black", markersize=4, clip_on=False, zorder=7)


def shade(place: float) -> str:
    """Colour of a loss at ``place`` of the axis, 0 the best: dark; viridis, which greyscale keeps in order.

    The root spreads the colours where the samples crowd.
    """
    return to_hex(matplotlib.colormaps["viridis"](0.9 * math.sqrt(max(place, 0.0))))


def _ends(place: Array) -> tuple[Array, Array]:
    """The line of a sample; one that ends above the loss axis is cut where it reaches the top."""
    x = np.arange(len(place), dtype=float)
    if place[-1] <= 1:
        return x, place
    share = (1 - place[-2]) / (place[-1] - place[-2])
    return np.append(x[:-1], x[-2] + share), np.append(place[:-1], 1.0)


def _draw_axis(axes: Axes, at: float, ticks: Sequence[tuple[float, str]], *, left: bool) -> None:
    if left:
        axes.plot([at, at], [0, 1], color="black", linewidth=0.9, zorder=6, clip_on=False)
    for place, label in ticks:
        axes.plot([at - 0.025 * left, at + 0.05 * (not left)], [place, place], **TICK)
        side = "right" if left else "left"
        text = axes.text(at + (-0.045 if left else 0.065), place, label, ha=side, va="center", fontsize=SMALL, zorder=8)
        text.set_path_effects([withStroke(linewidth=1.8, foreground="white")])


def _title(pool: Pool) -> str:
    best = f"; best loss {number(float(pool.ranked['train_loss'].iloc[0]), 4)}" if len(pool.ranked) else ""
    return f"{pool.heading}: {len(pool.runs)} samples, {len(pool.ranked)} finished{best}"


def _legend(pools: Sequence[Pool]) -> list[Line2D]:
    """The signs that occur in this figure."""
    found = [
        Line2D([], [], color=shade(0), linewidth=1.9, label=f"the best {BEST}"),
        Line2D([], [], color=shade(0.4), linewidth=0.7, label="other samples, coloured by their loss"),
    ]
    if any((pool.runs["status"] == "diverged").any() for pool in pools):
        found.append(Line2D([], [], **DIVERGED, label="diverged"))
    losses = [pool.ranked["train_loss"].to_numpy(float) for pool in pools]
    if any(len(one) and one.max() > loss_range(one)[1] for one in losses):
        found.append(Line2D([], [], color="black", marker="^", markersize=4, linestyle="none", label="above the axis"))
    return found
