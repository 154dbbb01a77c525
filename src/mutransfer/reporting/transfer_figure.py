"""Losses of the targets by method: a panel a target, a dot an init, the mean as a bar, diverged ones at the top."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from mutransfer.reporting.bleu_figure import HALF, SHADE, draw_strip
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
    TICK,
    TITLE,
    spread,
    write_foot,
)
from mutransfer.results.draw.lr_figure import Look
from mutransfer.results.draw.style import WIDTH, new_figure, palette, paper_style, save, wrapped
from mutransfer.results.estimate import number
from mutransfer.results.transfer_table import CHANGES, LABELS, Outcome, TransferTable

STEM = "losses"
TICKS = {
    "default": "SP\ndefault",
    "default_long": "default,\nlonger",
    "naive": "naive\ntransfer",
    "mutransfer": "µTransfer",
}
LOOKS: dict[str, Look] = {
    name: {"color": color, "marker": marker}
    for name, color, marker in zip(LABELS, palette(len(LABELS))[::-1], "PsDo", strict=True)
}
"""Dark for µTransfer; no triangle or cross: they mean something here."""
COLUMNS = 2
TALL, FOOT = 1.9, 0.16
"""Inches: of a panel, and under each row of panels."""


def transfer_figure(report: TransferTable, *, out: Path, caption: str = "", banner: str = "") -> list[Path]:
    """Draw ``out/losses.png`` and ``.svg``, the targets that are wider and deeper first; returns the two paths."""
    labels = [*report.targets("both"), *report.targets("width", "depth")]
    block = TITLE + STRIP + TALL + TICK + 3 * ROW + FOOT
    with paper_style():
        text = wrapped(caption, WIDTH - 0.2, POINTS)
        below = 0.12 + (text.count("\n") + 1) * CAPTION_LINE * bool(text) + LEGEND + 0.08
        height = below + -(-len(labels) // COLUMNS) * block + 0.3 * bool(banner)
        figure = new_figure(height)
        for k, label in enumerate(labels):
            row, column = divmod(k, COLUMNS)
            left, top = (LEFT + column * (PANEL + GAP)) / WIDTH, height - 0.3 * bool(banner) - row * block - TITLE
            floor = top - STRIP - TALL
            axes = figure.add_axes((left, floor / height, PANEL / WIDTH, TALL / height), zorder=2)
            box = (left, (floor + TALL) / height, PANEL / WIDTH, STRIP / height)
            outcomes = report.outcomes[label]
            _draw(axes, figure.add_axes(box, sharex=axes), outcomes)
            axes.set_ylabel("validation loss (nats)" if column == 0 else "")
            title = f"{report.name(label)}: {CHANGES[report.facts['targets'][label]['changes']]}"
            figure.text(left, (top + 0.05) / height, title, fontweight="bold", fontsize=POINTS, va="bottom")
            for line, (name, cells) in enumerate(_rows(report, label).items()):
                low = (floor - TICK - (line + 1) * ROW) / height
                if column == 0:
                    figure.text(0.1 / WIDTH, low, name, fontsize=SMALL, va="bottom", fontweight="bold")
                for place, cell in enumerate(cells):
                    at = left + (place + 0.5) / len(outcomes) * PANEL / WIDTH
                    figure.text(at, low, cell, fontsize=SMALL, va="bottom", ha="center")
        write_foot(figure, _legend(report), below - 0.04, text, banner)
        return save(figure, Path(out), STEM)


def limits(outcomes: Mapping[str, Outcome]) -> tuple[float, float]:
    """The loss axis; what lies above its upper end is marked by triangles there."""
    every = np.concatenate([[*one.losses, one.loss.low, one.loss.high] for one in outcomes.values()])
    every = every[np.isfinite(every)]
    if not len(every):
        return 0.0, 1.0
    low, high = float(every.min()), float(every.max())
    means = [one.loss.value for one in outcomes.values() if not one.diverged]
    worst = max(means, default=high)
    high = min(high, low + STRETCH * (worst - low)) if worst > low else high
    margin = 0.06 * max(high - low, 1e-3 * abs(low), 1e-9)
    return low - margin, high + margin


def _draw(axes: Axes, strip: Axes, outcomes: Mapping[str, Outcome]) -> None:
    low, high = limits(outcomes)
    axes.set(xlim=(-0.5, len(outcomes) - 0.5), ylim=(low, high))
    axes.set_xticks(range(len(outcomes)), [TICKS[name] for name in outcomes], fontsize=SMALL)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y", alpha=0.25, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.patch.set_visible(False)
    for k, (name, one) in enumerate(outcomes.items()):
        finite = np.sort(one.losses[np.isfinite(one.losses)])
        drawn = np.minimum(finite, high)
        x = k + spread(drawn, 0.9 * STEP * (high - low) / TALL, STEP / (PANEL / len(outcomes)))
        for over, marker in ((finite <= high, LOOKS[name]["marker"]), (finite > high, "^")):
            dot: Look = {"marker": marker, "color": LOOKS[name]["color"], "linestyle": "none", "markersize": 4.5}
            dot |= {"markeredgecolor": "white", "markeredgewidth": 0.4, "zorder": 3, "clip_on": False}
            axes.plot(x[over], drawn[over], **dot)
        mean = one.loss
        if mean.high > mean.low:
            bottom, top = np.clip([mean.low, mean.high], low, high)
            axes.fill_between([k - HALF, k + HALF], bottom, top, color=SHADE, linewidth=0, zorder=1)
        if np.isfinite(mean.value):
            axes.plot([k - HALF, k + HALF], [mean.value, mean.value], **BAR)
        if one.diverged:
            strip.plot(k, 0.72, "x", color="black", markersize=5, markeredgewidth=1.4)
            strip.text(k, 0.16, f"{one.diverged} of {len(one.losses)}", ha="center", va="bottom", fontsize=6)
    draw_strip(strip, "diverged")
    strip.tick_params(labelbottom=False)


def _rows(report: TransferTable, label: str) -> dict[str, list[str]]:
    """What stands under the columns of a target."""
    outcomes, unit = report.outcomes[label], report.training(label)
    verdicts = {one.other: one.verdict for one in report.comparisons(label)}
    return {
        "mean": [number(one.loss.value, 3) for one in outcomes.values()],
        "µTransfer is": [verdicts.get(name, "") for name in outcomes],
        "compute": [f"{one.compute / unit:.2f}" for one in outcomes.values()],
    }


def _legend(report: TransferTable) -> list[Line2D | Patch]:
    """The signs that occur in this figure."""
    plain: Look = {"color": "black", "linestyle": "none", "markersize": 4}
    found: list[Line2D | Patch] = [
        Line2D([], [], marker="o", label="one init", **plain),
        Line2D([], [], color="black", linewidth=1.6, label="mean"),
        Patch(color=SHADE, linewidth=0, label="its 95% interval"),
    ]
    panels = report.outcomes.values()
    if any((one.losses[np.isfinite(one.losses)] > limits(x)[1]).any() for x in panels for one in x.values()):
        found.append(Line2D([], [], marker="^", label="above the axis", **plain))
    if any(one.diverged for outcomes in panels for one in outcomes.values()):
        found.append(Line2D([], [], marker="x", markeredgewidth=1.4, label="diverged", **plain))
    return found
