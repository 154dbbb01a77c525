"""Outcomes of repeated searches by method: a dot a search, median and interval, diverged ones in a strip below."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from mutransfer.reporting.method_losses import (
    BAR,
    CAPTION_LINE,
    GAP,
    LEFT,
    LEGEND,
    PANEL,
    POINTS,
    ROW,
    SMALL,
    STEP,
    STRETCH,
    STRIP,
    TALL,
    TICK,
    TITLE,
    spread,
    write_foot,
)
from mutransfer.results.draw.lr_figure import Look
from mutransfer.results.draw.style import WIDTH, new_figure, palette, paper_style, save, wrapped
from mutransfer.results.estimate import Array, Estimate, number
from mutransfer.results.repeated_searches import METHODS, Outcomes, RepeatedSearches
from mutransfer.results.search_runs import DEFAULT, METRICS, Metric

STEM = "bleu"
TICKS = {
    "default": "fairseq\ndefault",
    "direct": "tuning\non 1x",
    "naive": "naive\ntransfer",
    "mutransfer": "µTransfer",
}
LOOKS: dict[str, Look] = {
    name: {"color": color, "marker": marker}
    for name, color, marker in zip(METHODS, palette(len(METHODS))[::-1], "PsDo", strict=True)
}
"""Dark for µTransfer; the same in every figure of the searches. No triangle or cross: they mean something here."""
HALF = 0.46
"""Of the bar of a median; dots stay within `DOTS`, so that its ends are seen. A column is one unit wide."""
DOTS = 0.4
SHADE = "#d4d4d4"


def bleu_figure(report: RepeatedSearches, *, out: Path, caption: str = "", banner: str = "") -> list[Path]:
    """Draw ``out/bleu.png`` and ``.svg``: validation BLEU left, test BLEU right; returns the two paths."""
    with paper_style():
        text = wrapped(caption, WIDTH - 0.2, POINTS)
        below = 0.12 + (text.count("\n") + 1) * CAPTION_LINE * bool(text)
        floor = below + LEGEND + 0.08 + 4 * ROW + TICK
        height = floor + STRIP + TALL + TITLE + 0.3 * bool(banner)
        figure = new_figure(height)
        for k, (metric, heading) in enumerate(METRICS.items()):
            left = (LEFT + k * (PANEL + GAP)) / WIDTH
            strip = figure.add_axes((left, floor / height, PANEL / WIDTH, STRIP / height))
            box = (left, (floor + STRIP) / height, PANEL / WIDTH, TALL / height)
            _draw(figure.add_axes(box, sharex=strip, zorder=2), strip, report, metric)
            high = (floor + STRIP + TALL + 0.05) / height
            figure.text(left, high, heading, fontweight="bold", fontsize=8.5, va="bottom")
            rows = _rows(report, metric)
            for row, (name, cells) in enumerate(list(rows.items())[: 4 if k == 0 else 2]):
                low = (floor - TICK - (row + 1) * ROW) / height
                if k == 0:
                    figure.text(0.1 / WIDTH, low, name, fontsize=SMALL, va="bottom", fontweight="bold")
                for place, cell in enumerate(cells):
                    at = left + (place + 0.5) / len(METHODS) * PANEL / WIDTH
                    figure.text(at, low, cell, fontsize=SMALL, va="bottom", ha="center")
        write_foot(figure, _legend(report), below + LEGEND - 0.04, text, banner)
        return save(figure, Path(out), STEM)


def center(report: RepeatedSearches, name: str, metric: Metric) -> Estimate:
    """The median over searches; of the default the mean over its inits."""
    if name == "default":
        return Estimate.mean(report.table.inits(name, metric)[DEFAULT])
    return report.methods[name].percentile(50, metric)


def shown(report: RepeatedSearches, name: str, metric: Metric) -> Array:
    """What gets a dot: every search's outcome, the default's inits; -inf: diverged."""
    return report.table.inits(name, metric)[DEFAULT] if name == "default" else report.methods[name].bleu(metric)


def limits(values: Mapping[str, Array], centers: Mapping[str, Estimate]) -> tuple[float, float]:
    """The BLEU axis; what lies below its lower end is marked by triangles there."""
    every = np.concatenate([*values.values(), *([one.low, one.high] for one in centers.values())])
    every = every[np.isfinite(every)]
    if not len(every):
        return 0.0, 1.0
    low, high = float(every.min()), float(every.max())
    worst = min((one.value for one in centers.values() if np.isfinite(one.value)), default=low)
    low = max(low, high - STRETCH * (high - worst)) if worst < high else low
    margin = 0.06 * max(high - low, 0.1)
    return low - margin, high + margin


def _draw(axes: Axes, strip: Axes, report: RepeatedSearches, metric: Metric) -> None:
    values = {name: shown(report, name, metric) for name in METHODS}
    centers = {name: center(report, name, metric) for name in METHODS}
    low, high = limits(values, centers)
    axes.set(xlim=(-0.5, len(METHODS) - 0.5), ylim=(low, high))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.tick_params(axis="x", length=0, labelbottom=False)
    axes.grid(axis="y", alpha=0.25, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.patch.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    for k, (name, bleu) in enumerate(values.items()):
        finite = np.sort(bleu[np.isfinite(bleu)])
        drawn = np.maximum(finite, low)
        aside = spread(drawn, 0.9 * STEP * (high - low) / TALL, STEP / (PANEL / len(METHODS)))
        x = k + aside * min(1.0, DOTS / max(abs(aside).max(initial=0.0), 1e-9))
        for under, marker in ((finite >= low, LOOKS[name]["marker"]), (finite < low, "v")):
            dot: Look = {"marker": marker, "color": LOOKS[name]["color"], "linestyle": "none", "markersize": 4}
            dot |= {"markeredgecolor": "white", "markeredgewidth": 0.4, "zorder": 3, "clip_on": False}
            axes.plot(x[under], drawn[under], **dot)
        one = centers[name]
        if not np.isnan(one.low) and one.high > low:
            bottom, top = np.clip([one.low, one.high], low, high)
            axes.fill_between([k - HALF, k + HALF], bottom, top, color=SHADE, linewidth=0, zorder=1)
        if np.isfinite(one.value):
            axes.plot([k - HALF, k + HALF], [one.value, one.value], **BAR)
        if lost := len(bleu) - len(finite):
            strip.plot(k, 0.72, "x", color="black", markersize=5, markeredgewidth=1.4)
            strip.text(k, 0.16, f"{lost} of {len(bleu)}", ha="center", va="bottom", fontsize=6)
    draw_strip(strip, "diverged" if metric == "bleu_valid" else "")
    strip.set_xticks(range(len(METHODS)), [TICKS[name] for name in METHODS], fontsize=SMALL)


def draw_strip(strip: Axes, name: str) -> None:
    """The grey ground of diverged outcomes."""
    strip.set_ylim(0, 1)
    strip.set_yticks([0.5], [name])
    strip.tick_params(axis="both", length=0, labelsize=SMALL)
    strip.set_facecolor("#f2f2f2")
    for spine in strip.spines.values():
        spine.set_visible(False)


def _rows(report: RepeatedSearches, metric: Metric) -> dict[str, list[str]]:
    """What stands under the columns."""
    methods = report.methods
    return {
        "median": [number(center(report, name, metric).value) for name in METHODS],
        "µTransfer is": [report.comparisons[n, metric].verdict if n != "mutransfer" else "" for n in METHODS],
        "compute": [f"{one.compute / report.training:.2f}" for one in methods.values()],
        "samples": [str(one.looked) if one.looked else "-" for one in methods.values()],
    }


def _legend(report: RepeatedSearches) -> list[Line2D | Patch]:
    """The signs that occur in this figure."""
    plain: Look = {"color": "black", "linestyle": "none", "markersize": 4}
    found: list[Line2D | Patch] = [
        Line2D([], [], marker="o", label="one search (default: one init)", **plain),
        Line2D([], [], color="black", linewidth=1.6, label="median (default: mean)"),
        Patch(color=SHADE, linewidth=0, label="its 95% interval"),
    ]
    values: dict[Metric, dict[str, Array]] = {m: {n: shown(report, n, m) for n in METHODS} for m in METRICS}
    lows = {m: limits(every, {n: center(report, n, m) for n in METHODS})[0] for m, every in values.items()}
    if any((np.isfinite(one) & (one < lows[m])).any() for m, every in values.items() for one in every.values()):
        found.append(Line2D([], [], marker="v", label="below the axis", **plain))
    if any(np.isinf(one).any() for one in values["bleu_valid"].values()):
        found.append(Line2D([], [], marker="x", markeredgewidth=1.4, label="diverged, or no winner", **plain))
    return found


def count(outcomes: Outcomes) -> tuple[str, str]:
    """``2 of 25`` searches whose target diverged, and without a winner."""
    n = len(outcomes.chosen)
    return f"{outcomes.diverged} of {n}", f"{outcomes.without_winner} of {n}"
