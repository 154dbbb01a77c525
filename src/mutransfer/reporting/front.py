"""Figure 6: median BLEU of a search against its compute and against its samples, with the numbers behind it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from mutransfer.reporting.bleu_figure import LOOKS, count, draw_strip, limits
from mutransfer.reporting.method_losses import (
    CAPTION_LINE,
    GAP,
    LEFT,
    LEGEND,
    PANEL,
    POINTS,
    TALL,
    TITLE,
    write_foot,
)
from mutransfer.results.draw.lr_figure import Look
from mutransfer.results.draw.style import WIDTH, new_figure, paper_style, save, wrapped
from mutransfer.results.estimate import Array, Estimate, number
from mutransfer.results.front import LINES, RULE, Fronts, X
from mutransfer.results.published import rows
from mutransfer.results.repeated_searches import Outcomes, difference_text
from mutransfer.results.table import grid

STEM = "pareto"
STRIP, TICK = 0.28, 0.4
PANELS: dict[X, tuple[str, str]] = {
    "compute": ("equal compute", "compute of a search (trainings of the target, log scale)"),
    "samples": ("equal number of samples", "samples a search looks at (log scale)"),
}
PAPER = "at equal compute µTransfer dominates; at equal number of samples it is slightly lower, and the gap closes"
"""What the paper reads off its Figure 6 (section 7.1)."""


def front_figure(fronts: Fronts, *, out: Path, caption: str = "", banner: str = "") -> list[Path]:
    """Draw ``out/pareto.png`` and ``.svg``: against compute left, against samples right; returns the two paths."""
    lines = {name: np.array([_quartiles(one) for one in fronts.points[name]]) for name in LINES}
    has_lost = any(np.isinf(one[:, 1]).any() for one in lines.values())
    strip_tall = STRIP * has_lost
    low, high = limits(
        {name: one.ravel() for name, one in lines.items()},
        {f"{name} {k}": Estimate(value) for name, one in lines.items() for k, value in enumerate(one[:, 1])},
    )
    with paper_style():
        text = wrapped(caption, WIDTH - 0.2, POINTS)
        below = 0.12 + (text.count("\n") + 1) * CAPTION_LINE * bool(text)
        floor = below + LEGEND + 0.06 + TICK
        height = floor + strip_tall + TALL + TITLE + 0.3 * bool(banner)
        figure = new_figure(height)
        for k, (x, (heading, x_label)) in enumerate(PANELS.items()):
            left = (LEFT + k * (PANEL + GAP)) / WIDTH
            box = (left, (floor + strip_tall) / height, PANEL / WIDTH, TALL / height)
            axes = figure.add_axes(box, zorder=2)
            axes.set_xscale("log", base=2)
            axes.set_ylim(low, high)
            for name in LINES:
                _draw(axes, fronts.x(name, x), lines[name], LOOKS[name])
            lowest = axes
            if has_lost:
                lowest = figure.add_axes((left, floor / height, PANEL / WIDTH, STRIP / height), sharex=axes)
                for row, name in enumerate(LINES):
                    lost = fronts.x(name, x)[np.isinf(lines[name][:, 1])]
                    cross: Look = {"color": LOOKS[name]["color"], "markersize": 5, "markeredgewidth": 1.4}
                    lowest.plot(lost, np.full(len(lost), 0.7 - 0.4 * row), "x", **cross)
                draw_strip(lowest, "diverged" if k == 0 else "")
            for one in {axes, lowest}:
                one.xaxis.set_major_locator(LogLocator(base=2, numticks=12))
                one.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                one.xaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_locator(MaxNLocator(6))
            axes.tick_params(axis="x", labelbottom=not has_lost, length=0 if has_lost else 3.5)
            axes.grid(alpha=0.25, linewidth=0.5)
            axes.set_axisbelow(True)
            if k == 0:
                axes.set_ylabel("median validation BLEU")
            lowest.set_xlabel(x_label, fontsize=7.5)
            at = (floor + strip_tall + TALL + 0.05) / height
            title = f"{heading}: {fronts.duel(x).verdict}"
            figure.text(left, at, title, fontweight="bold", fontsize=7, va="bottom")
        write_foot(figure, _legend(fronts, has_lost), below + LEGEND - 0.02, text, banner)
        return save(figure, Path(out), STEM)


def front_sentences(fronts: Fronts) -> list[str]:
    """The two verdicts, a line each."""
    found = []
    for x, (heading, _) in PANELS.items():
        duel = fronts.duel(x)
        line = f"Figure 6, at {heading}: {duel.text}"
        if n := len(duel.x):
            line += f"; µTransfer clearly better at {duel.better} and worse at {duel.worse} of {n}, "
            line += f"{duel.x[0]:.3g} to {duel.x[-1]:.3g} {'trainings of the target' if x == 'compute' else 'samples'}"
        found.append(line)
    return found


def front_section(fronts: Fronts) -> list[str]:
    """The numbers behind the figure, for the table."""
    header = ["", "samples", "compute (target trainings)", "p25", "median", "p75", "target diverged", "no winner"]
    body = []
    for name in LINES:
        for place, one in zip(fronts.x(name, "compute"), fronts.points[name], strict=True):
            low, _, high = (number(value) for value in _quartiles(one))
            median = one.percentile(50).text() if one.bleu().max() > -np.inf else "diverged"
            body.append([fronts.report.label(name), str(one.looked), f"{place:.2f}", low, median, high, *count(one)])
    parts = [
        "## Figure 6: the median search against what it spends",
        "\n".join(f"- {line}" for line in front_sentences(fronts)),
        grid(header, body),
    ]
    for x, (heading, _) in PANELS.items():
        duel = fronts.duel(x)
        cells = [
            (f"{at:.3g}", difference_text(one), "better" if one.low > 0 else "worse" if one.high < 0 else "undecided")
            for at, one in zip(duel.x, duel.differences, strict=True)
        ]
        unit = "compute (target trainings)" if x == "compute" else "samples"
        what = (unit, "median of µTransfer less that of tuning on 1x (validation BLEU), 95% interval", "µTransfer is")
        parts += [f"Difference at {heading}:", grid(what, cells) if cells else "None: the lines share no place."]
    paper = ", ".join(f"{one.metric.replace('_', ' ')} {one.value}" for one in rows(table_or_figure="Figure 6"))
    return [*parts, f"The paper's Figure 6 ({paper}): {PAPER}. {RULE}"]


def _quartiles(one: Outcomes) -> list[float]:
    """25th percentile, median and 75th of validation BLEU over searches."""
    return [float(one.percentiles(percent)[0]) for percent in (25, 50, 75)]


def _draw(axes: Axes, x: Array, quartiles: Array, look: Look) -> None:
    """A line with its band, interrupted where its median diverged; ``quartiles`` [points, 3]."""
    order = np.argsort(x, kind="stable")
    x, (low, median, high) = x[order], quartiles[order].T
    bottom, top = axes.get_ylim()
    finite = np.isfinite(median)
    where = np.where(finite, median, np.nan)
    band = np.where(finite, np.clip(low, bottom, top), np.nan), np.where(finite, high, np.nan)
    axes.fill_between(x, *band, color=look["color"], alpha=0.22, linewidth=0, zorder=1)
    axes.plot(x, where, **look, markeredgecolor="white", markeredgewidth=0.4, markersize=5, zorder=3)
    under = where < bottom
    axes.plot(x[under], np.full(under.sum(), bottom), "v", color=look["color"], clip_on=False, markersize=4)


def _legend(fronts: Fronts, has_lost: bool) -> list[Line2D | Patch]:
    found: list[Line2D | Patch] = [
        Line2D([], [], **LOOKS[name], markersize=4, label=fronts.report.label(name)) for name in LINES
    ]
    found.append(Patch(color="black", alpha=0.22, linewidth=0, label="25th to 75th percentile of the searches"))
    if has_lost:
        found.append(Line2D([], [], color="black", linestyle="none", marker="x", label="the median search diverged"))
    return found
