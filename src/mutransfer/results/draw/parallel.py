"""The paper's Figure 14: a random search in parallel coordinates, one line per sample, coloured by its final loss."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from mutransfer.results.draw.dots import DIVERGED, POINTS, SMALL, Look, foot_height, write_foot
from mutransfer.results.draw.style import MUTED, WIDTH, new_figure, paper_style, save, wrapped
from mutransfer.results.estimate import Array, number

STEM = "parallel_coordinates"
BEST = 5
"""Samples drawn thick."""
STRETCH = 4
"""The loss axis reaches from the best sample to so many times the median's distance; worse ones end at its top."""
LOG_UNIFORM = re.compile(r"([\d.]+)\^U\((-?[\d.]+), (-?[\d.]+)\)")
LEFT, RIGHT, TALL, TITLE, BELOW = 0.5, 0.72, 2.1, 0.42, 0.42
"""Inches."""
LOST: Look = {"color": "#808080", "linewidth": 0.9, "linestyle": (0, (1, 1.6))}
BAR: Look = {"linewidth": 5, "capstyle": "butt", "zorder": 6, "clip_on": False}
TICK: Look = {"color": "black", "linewidth": 0.7, "zorder": 6, "clip_on": False}
OUTSIDE = 1.09
"""Where diverged samples end, on an axis from 0 to 1."""
Pools = Mapping[str, pd.DataFrame]
"""Heading -> samples trained equally long: a row per sample; columns: hyperparameters, ``status``, ``train_loss``."""


def parallel_coordinates(
    pools: Pools, space: Mapping[str, str], *, out: Path, y_label: str, caption: str = "", banner: str = ""
) -> list[Path]:
    """Draw ``out/parallel_coordinates.png`` and ``.svg``, one panel per pool, the first one on top; returns the paths.

    space: hyperparameter -> its distribution as text, in the order of the axes; ``10^U(-4, -1)`` spans its axis in log
    units, of any other text the values do.
    """
    with paper_style():
        text = wrapped(caption, WIDTH - 0.2, POINTS)
        floor = foot_height(text)
        height = floor + len(pools) * (TITLE + TALL + BELOW) + 0.05 + 0.3 * bool(banner)
        figure = new_figure(height)
        for k, (heading, runs) in enumerate(pools.items()):
            low = floor + (len(pools) - 1 - k) * (TITLE + TALL + BELOW) + BELOW
            box = (LEFT / WIDTH, low / height, (WIDTH - LEFT - RIGHT) / WIDTH, TALL / height)
            _draw_pool(figure.add_axes(box), runs, space, y_label)
            best = _ranked(runs)
            title = f"{heading}: {len(runs)} samples, {len(best)} finished"
            title += f"; best loss {number(float(best['train_loss'].iloc[0]), 4)}" if len(best) else ""
            at = 0.1 / WIDTH, (low + TALL + 0.27) / height
            figure.text(*at, title, fontsize=8, fontweight="bold", va="bottom")
        write_foot(figure, _legend(pools), floor, text, banner, columns=4, points=None)
        return save(figure, Path(out), STEM)


def _ranked(runs: pd.DataFrame) -> pd.DataFrame:
    """The samples that trained, best first."""
    return runs[runs["status"] == "finished"].sort_values(["train_loss", "sample"])


def scale(values: pd.Series, text: str) -> tuple[Array, list[tuple[float, str]]]:
    """Where ``values`` stand on an axis from 0 to 1, in log units, and its ticks (place, label).

    ``text`` is the distribution that they come from. Words, and numbers that are not positive, are equally spaced.
    """
    if match := LOG_UNIFORM.fullmatch(text):
        base, low, high = map(float, match.groups())
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


def _draw_pool(axes: Axes, runs: pd.DataFrame, space: Mapping[str, str], y_label: str) -> None:
    ranked, last = _ranked(runs), len(space)
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
    trained = np.array([index in rank for index in runs.index])
    places[:, last] = np.where(trained, (runs["train_loss"].to_numpy(float) - low) / (high - low), OUTSIDE)
    for place, index in zip(places, runs.index, strict=True):
        if index in rank:
            color, best = shade(min(place[last], 1.0)), rank[index] < BEST
            look: Look = {"color": color, "linewidth": 1.9 if best else 0.7}
            if best:
                look["path_effects"] = [withStroke(linewidth=2.9, foreground="white")]
            axes.plot(*_ends(place), **look, zorder=4 - rank[index] / 1e4 + best)
        else:
            axes.plot(range(last + 1), place, clip_on=False, **LOST, zorder=2)
    if lost := (~trained).sum():
        axes.plot(last, OUTSIDE, **DIVERGED, color="black", markersize=5, clip_on=False, zorder=7)
        axes.text(last + 0.08, OUTSIDE, f"{lost} diverged", fontsize=SMALL, va="center", clip_on=False)
    if (trained & (places[:, last] > 1)).any():
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


def _legend(pools: Pools) -> list[Artist]:
    """The signs that occur in this figure."""
    signs: list[Artist] = [
        Line2D([], [], color=shade(0), linewidth=1.9, label=f"the best {BEST}"),
        Line2D([], [], color=shade(0.4), linewidth=0.7, label="other samples, coloured by their loss"),
    ]
    if any((runs["status"] == "diverged").any() for runs in pools.values()):
        signs.append(Line2D([], [], **LOST, label="diverged"))
    losses = [_ranked(runs)["train_loss"].to_numpy(float) for runs in pools.values()]
    if any(len(loss) and loss.max() > loss_range(loss)[1] for loss in losses):
        signs.append(Line2D([], [], color="black", marker="^", markersize=4, linestyle="none", label="above the axis"))
    return signs
