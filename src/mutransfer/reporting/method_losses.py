"""Target losses of the methods at equal compute: a dot a search, the median as a bar, diverged ones at the top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mutransfer.results.comparison import Metric
from mutransfer.results.draw.lr_figure import Look
from mutransfer.results.draw.style import WIDTH, new_figure, palette, paper_style, save, wrapped, write_banner
from mutransfer.results.equal_compute import EqualCompute, Method
from mutransfer.results.estimate import Array, number

STEM = "equal_compute"
POINTS, SMALL = 7.5, 6.5
SIGNS = "osDvP"  # not the triangle and the cross, which mean something here
STRETCH = 2
"""The loss axis reaches from the best loss to so many times the worst finite median's distance."""
TICKS = {
    "mutransfer": "µTransfer",
    "naive": "naive\ntransfer",
    "direct": "direct\ntuning",
    "default": "SP\ndefault",
    "default_long": "default,\nlonger",
}
BAR: Look = {"color": "black", "linewidth": 1.6, "zorder": 2, "solid_capstyle": "butt"}
STEP = 0.06
"""Inches between dots that would lie on one another."""
# Inches.
LEFT, RIGHT, GAP, TALL, STRIP, TITLE, TICK, ROW, LEGEND, CAPTION_LINE = (
    0.78, 0.1, 0.5, 2.4, 0.36, 0.25, 0.36, 0.14, 0.2, 0.143,
)  # fmt: skip
PANEL = (WIDTH - LEFT - RIGHT - GAP) / 2


def method_losses(report: EqualCompute, *, out: Path, caption: str = "", banner: str = "") -> list[Path]:
    """Draw ``out/equal_compute.png`` and ``.svg``: training loss left, test loss right; returns the two paths."""
    methods = report.methods
    signs = zip(methods, palette(len(methods)), SIGNS, strict=True)
    looks: dict[str, Look] = {name: {"color": color, "marker": marker} for name, color, marker in signs}
    with paper_style():
        text = wrapped(caption, WIDTH - 0.2, POINTS)
        below = 0.12 + (text.count("\n") + 1) * CAPTION_LINE * bool(text)
        floor = below + LEGEND + 0.08 + 4 * ROW + TICK
        height = floor + TALL + STRIP + TITLE + 0.3 * bool(banner)
        figure = new_figure(height)
        panels: tuple[tuple[Metric, str], ...] = (("train_loss", "training loss"), ("test_loss", "test loss"))
        for k, (metric, heading) in enumerate(panels):
            left = (LEFT + k * (PANEL + GAP)) / WIDTH
            axes = figure.add_axes((left, floor / height, PANEL / WIDTH, TALL / height), zorder=2)
            strip = figure.add_axes((left, (floor + TALL) / height, PANEL / WIDTH, STRIP / height), sharex=axes)
            _draw(axes, strip, methods, metric, looks)
            high = (floor + TALL + STRIP + 0.05) / height
            figure.text(left, high, f"{heading} (nats)", fontweight="bold", fontsize=8.5, va="bottom")
            rows = [
                [number(one.percentile(50, metric), 3) for one in methods.values()],
                ["", *(one.verdict for one in report.comparisons(metric))],
            ]
            if k == 0:
                rows.append([f"{report.trainings(float(one.spent.mean())):.2f}" for one in methods.values()])
                rows.append([str(one.looked) for one in methods.values()])
                for row, name in enumerate(("median", "µTransfer is", "compute", "samples")):
                    low = (floor - TICK - (row + 1) * ROW) / height
                    figure.text(0.1 / WIDTH, low, name, fontsize=SMALL, va="bottom", fontweight="bold")
            for row, cells in enumerate(rows):
                for place, cell in enumerate(cells):
                    at = left + (place + 0.5) / len(methods) * PANEL / WIDTH
                    low = (floor - TICK - (row + 1) * ROW) / height
                    figure.text(at, low, cell, fontsize=SMALL, va="bottom", ha="center")
        write_foot(figure, _legend(report), below + LEGEND - 0.04, text, banner, columns=4, points=None)
        return save(figure, Path(out), STEM)


def write_foot(
    figure: Figure,
    handles: Sequence[Artist],
    top: float,
    text: str,
    banner: str,
    *,
    columns: int = 5,
    points: float | None = SMALL,
) -> None:
    """The legend, its upper edge ``top`` inches from below, the caption under it, and the banner.

    points: of the legend; None: the style's.
    """
    height = figure.get_size_inches()[1]
    figure.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, top / height),
        ncols=columns,
        frameon=False,
        fontsize=points,
        borderpad=0,
        borderaxespad=0,
    )
    figure.text(0.1 / WIDTH, 0.06 / height, text, fontsize=POINTS, va="bottom", linespacing=1.25)
    write_banner(figure, banner)


def shown(method: Method, metric: Metric) -> Array:
    """The losses that get a dot: one a search, and one for the default, which is a single run."""
    losses: Array = getattr(method, metric)
    return losses[:1] if method.name.startswith("default") else losses


def limits(methods: Mapping[str, Method], metric: Metric) -> tuple[float, float]:
    """The loss axis; what lies above its upper end is marked by triangles there."""
    every = np.concatenate([shown(one, metric) for one in methods.values()])
    every = every[np.isfinite(every)]
    if not len(every):
        return 0.0, 1.0
    low, high = float(every.min()), float(every.max())
    medians = np.array([one.percentile(50, metric) for one in methods.values()])
    worst = float(medians[np.isfinite(medians)].max()) if np.isfinite(medians).any() else high
    high = min(high, low + STRETCH * (worst - low)) if worst > low else high
    margin = 0.06 * max(high - low, 1e-3 * abs(low), 1e-9)
    return low - margin, high + margin


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


def _draw(axes: Axes, strip: Axes, methods: Mapping[str, Method], metric: Metric, looks: Mapping[str, Look]) -> None:
    low, high = limits(methods, metric)
    axes.set(xlim=(-0.5, len(methods) - 0.5), ylim=(low, high))
    axes.set_xticks(range(len(methods)), [TICKS[name] for name in methods], fontsize=SMALL)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y", alpha=0.25, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.patch.set_visible(False)
    inch = PANEL / len(methods)
    for k, (name, method) in enumerate(methods.items()):
        losses = shown(method, metric)
        finite = np.sort(losses[np.isfinite(losses)])
        drawn = np.minimum(finite, high)
        aside = spread(drawn, 0.9 * STEP * (high - low) / TALL, STEP / inch)
        x = k + aside * min(1.0, 0.43 / max(abs(aside).max(initial=0.0), 1e-9))  # within the column, one unit wide
        for over, marker in ((finite <= high, looks[name]["marker"]), (finite > high, "^")):
            dot: Look = {"marker": marker, "color": looks[name]["color"], "linestyle": "none", "markersize": 4}
            axes.plot(
                x[over], drawn[over], **dot, markeredgecolor="white", markeredgewidth=0.4, zorder=3, clip_on=False
            )
        median = method.percentile(50, metric)
        if np.isfinite(median):
            axes.plot([k - 0.36, k + 0.36], [median, median], **BAR)
        if lost := len(losses) - len(finite):
            strip.plot(k, 0.72, "x", color="black", markersize=5, markeredgewidth=1.4)
            strip.text(k, 0.16, f"{lost} of {len(losses)}", ha="center", va="bottom", fontsize=6)
    strip.set_ylim(0, 1)
    strip.set_yticks([0.5], ["diverged" if metric == "train_loss" else ""])
    strip.tick_params(axis="both", length=0, labelbottom=False, labelsize=SMALL)
    strip.set_facecolor("#f2f2f2")
    for spine in strip.spines.values():
        spine.set_visible(False)


def _legend(report: EqualCompute) -> list[Line2D]:
    """The signs that occur in this figure."""
    plain: Look = {"color": "black", "linestyle": "none", "markersize": 4}
    every = list(report.methods.values())
    found = [
        Line2D([], [], marker="o", label="one search (default: one run)", **plain),
        Line2D([], [], color="black", linewidth=1.6, label="median"),
    ]
    metrics: tuple[Metric, ...] = ("train_loss", "test_loss")
    tops = {metric: limits(report.methods, metric)[1] for metric in metrics}
    losses = [(shown(one, metric), top) for metric, top in tops.items() for one in every]
    if any((np.isfinite(x) & (x > top)).any() for x, top in losses):
        found.append(Line2D([], [], marker="^", label="above the axis", **plain))
    if any(np.isinf(one.train_loss).any() for one in every):
        found.append(Line2D([], [], marker="x", markeredgewidth=1.4, label="diverged, or no winner", **plain))
    return found
