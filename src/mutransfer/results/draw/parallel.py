"""The paper's Figure 14: a random search in parallel coordinates, one line per sample, coloured by its final loss."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from mutransfer.results.draw.dots import DIVERGED, SMALL
from mutransfer.results.draw.page import legend, sheet
from mutransfer.results.draw.style import Look, paper_style, save
from mutransfer.results.estimate import Array, number

BEST = 5
"""So many samples are drawn thick."""
STRETCH = 4
"""The loss axis reaches from the best sample to so many times the median's distance; worse ones end above it."""
LOG_UNIFORM = re.compile(r"([\d.]+)\^U\((-?[\d.]+), (-?[\d.]+)\)")
LOST: Look = {"color": "#808080", "linewidth": 0.9, "linestyle": (0, (1, 1.6))}
OUTSIDE = 1.09
"""Where diverged samples end, on an axis from 0 to 1."""


def parallel_coordinates(
    pools: Mapping[str, pd.DataFrame], space: Mapping[str, str], *, out: Path, y_label: str, caption: str, banner: str
) -> list[Path]:
    """Draw ``out/parallel_coordinates.png`` and ``.svg``, one panel per pool, the first one on top; returns the paths.

    pools: heading -> samples trained equally long, a row each: hyperparameters, ``status``, ``train_loss`` (+inf:
    diverged). space: hyperparameter -> its distribution as text, in the order of the axes.
    """
    with paper_style():
        figure, part = sheet(0.25 + 3.0 * len(pools), caption, banner)
        grid, signs = part.subplots(len(pools), squeeze=False), list[Artist]()
        for axes, (heading, runs) in zip(grid.flat, pools.items(), strict=True):
            # the best last, on top of the others
            signs += _draw_pool(axes, runs.sort_values(["train_loss", "sample"], ascending=False), space, y_label)
            losses = runs.loc[runs["status"] == "finished", "train_loss"]
            title = f"{heading}: {len(runs)} samples, {len(losses)} finished"
            title += f"; best loss {number(losses.min(), 4)}" if len(losses) else ""
            axes.set_title(title, loc="left", fontsize=8, fontweight="bold", pad=18)
        legend(part, signs)
        return save(figure, out, "parallel_coordinates")


def scale(values: pd.Series, text: str) -> tuple[Array, float, float, list[str]]:
    """Where ``values`` stand on an axis from 0 to 1; its lower and upper end; and the words along it, if any.

    ``text`` is the distribution that they come from: ``10^U(-4, -1)`` spans its axis in log units, the choices of any
    other stand equally far apart.
    """
    if match := LOG_UNIFORM.fullmatch(text):
        base, low, high = map(float, match.groups())
        return (np.log(values.to_numpy(float)) / math.log(base) - low) / (high - low), base**low, base**high, []
    known = sorted(values.unique())
    last = max(len(known) - 1.0, 1.0)
    return values.map(known.index).to_numpy(float) / last, 0.0, last, [f"{v:g}" if v != str(v) else v for v in known]


def loss_range(losses: Array) -> tuple[float, float]:
    """Ends of the loss axis: the best sample, and the worst unless that is `STRETCH` times the median's distance."""
    if not len(losses):
        return 0.0, 1.0
    low, middle, high = float(losses.min()), float(np.median(losses)), float(losses.max())
    high = min(high, low + STRETCH * (middle - low)) if middle > low else high
    return low, high if high > low else low + 1e-3 * max(abs(low), 1.0)


def shade(place: float) -> str:
    """Colour of a loss at ``place`` of the axis, 0 the best: dark; viridis, which greyscale keeps in order.

    The root spreads the colours where the samples crowd.
    """
    return to_hex(matplotlib.colormaps["viridis"](0.9 * math.sqrt(min(max(place, 0.0), 1.0))))


def _draw_pool(axes: Axes, runs: pd.DataFrame, space: Mapping[str, str], y_label: str) -> list[Artist]:
    """Returns the signs that occur, for the legend."""
    last, finished, columns = len(space), (runs["status"] == "finished").to_numpy(), []
    names = [*(f"{name}\n{text}" for name, text in space.items()), y_label.replace(" (", "\n(")]
    axes.set(xlim=(0, last), ylim=(0, 1), yticks=[])
    axes.set_xticks(range(last + 1), names, fontsize=SMALL)
    axes.tick_params(axis="x", length=0, pad=7)
    axes.spines[:].set_visible(False)
    for k, (name, text) in enumerate(space.items()):
        places, low, high, words = scale(2.0 ** runs["log2_lr"] if name == "lr" else runs[name], text)
        columns.append(places)
        axis = _axis(axes, k, (low, high), "left")
        if words:
            axis.set_yticks(range(len(words)), words)
        else:
            axis.set_yscale("log", base=float(text.split("^")[0]))
            axis.yaxis.set_minor_locator(NullLocator())
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    low, high = loss_range(runs.loc[finished, "train_loss"].to_numpy(float))
    _axis(axes, last, (low, high), "right").yaxis.set_major_locator(MaxNLocator(6) if any(finished) else NullLocator())
    steps = [[(last, k / 64), (last, (k + 1) / 64)] for k in range(64)]  # the axis is its own colour bar
    bar: Look = {"colors": [shade(k / 63) for k in range(64)], "linewidth": 5, "capstyle": "butt", "zorder": 6}
    axes.add_collection(LineCollection(steps, clip_on=False, **bar))
    losses = np.where(finished, (runs["train_loss"].to_numpy(float) - low) / (high - low), OUTSIDE)
    for k, places in enumerate(np.column_stack([*columns, losses])):
        is_best = k >= len(runs) - BEST
        look: Look = {"color": shade(places[-1]), "linewidth": 1.9 if is_best else 0.7, "zorder": 3 + is_best}
        if is_best:
            look["path_effects"] = [withStroke(linewidth=2.9, foreground="white")]
        axes.plot(places, **look if finished[k] else LOST, clip_on=bool(finished[k]))
    signs: list[Artist] = [Line2D([], [], color=shade(0), linewidth=1.9, label=f"the best {BEST}")]
    signs += [Line2D([], [], color=shade(0.4), linewidth=0.7, label="other samples, coloured by their loss")]
    if lost := (~finished).sum():
        axes.plot(last, OUTSIDE, **DIVERGED, markersize=5, clip_on=False, zorder=7)
        axes.text(last + 0.08, OUTSIDE, f"{lost} diverged", fontsize=SMALL, va="center")
        signs.append(Line2D([], [], **LOST, label="diverged"))
    if (finished & (losses > 1)).any():
        above: Look = {"color": "black", "marker": "^", "markersize": 4, "linestyle": "none", "label": "above the axis"}
        signs += axes.plot(last, 1, clip_on=False, zorder=7, **above)
    return signs


def _axis(axes: Axes, at: int, ends: tuple[float, float], side: Literal["left", "right"]) -> Axes:
    """One more axis across a panel."""
    axis = axes.twinx()
    axis.set_ylim(ends)
    axis.spines[:].set_visible(False)
    axis.spines[side].set(position=("data", at), visible=side == "left")
    axis.yaxis.set_ticks_position(side)
    axis.tick_params(axis="y", labelsize=SMALL, length=3)
    return axis
