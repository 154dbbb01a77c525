"""Figures 7 and 8 as pictures: training loss through training, a line a width, panels side by side."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from mutransfer.errors import UserError, unknown
from mutransfer.results.draw.style import (
    MARKERS,
    MUTED,
    WARNING,
    WIDTH,
    new_figure,
    palette,
    paper_style,
    save,
    wrapped,
    write_banner,
)
from mutransfer.results.estimate import Array
from mutransfer.results.learning import START, LearningReport

STEM = "learning_curves"
VERDICT_COLOURS = {"holds": "black", "undecided": MUTED, "fails": WARNING}
POINTS = 7.5
"""Of the caption and the titles' second line."""
# Inches.
LEFT, RIGHT, GAP, PANEL = 0.62, 0.12, 0.2, 2.5
LINE, STRIP_ROW, BELOW, LEGEND_ROW, CAPTION_LINE = 0.14, 0.07, 0.44, 0.17, 0.143
LEGEND_COLUMNS = 7
X_LABELS = {"steps": "training step", "tokens": "training tokens"}


def learning_figure(
    reports: Mapping[str, LearningReport],
    headings: Mapping[str, str],
    *,
    out: Path,
    stem: str = STEM,
    x: Literal["steps", "tokens"] = "steps",
    caption: str = "",
    banner: str = "",
) -> list[Path]:
    """Draw ``out/<stem>.png`` and ``.svg`` against ``x`` (steps or tokens); returns the two paths.

    A panel an entry of ``headings`` (panel -> its heading), left to right. Lines are means over seeds, bands their
    standard error; a curve ends in a cross where the first seed diverged. The strip above a panel has a row a pair of
    adjacent widths with a tick at every violation. Raises `UserError` for a panel without report.
    """
    chosen = [report_of(reports, panel) for panel in headings]
    if not chosen:
        raise UserError("a figure of learning curves needs at least one panel.")
    widths = sorted({width for one in chosen for width in one.widths})
    signs = zip(widths, palette(len(widths)), itertools.cycle(MARKERS), strict=False)
    looks: dict[int, dict[str, Any]] = {width: {"color": colour, "marker": marker} for width, colour, marker in signs}
    limits = loss_limits(chosen)
    with paper_style():
        panel_width = (WIDTH - LEFT - RIGHT - GAP * (len(chosen) - 1)) / len(chosen)
        titles = [wrapped(heading, panel_width, 8.5).split("\n") for heading in headings.values()]
        title_lines = max(len(lines) for lines in titles) + 2
        text = wrapped(caption, WIDTH - LEFT - RIGHT, POINTS) if caption else ""
        legends = _legends(looks, chosen, limits[1])
        rows = [-(-len(handles) // LEGEND_COLUMNS) for handles in legends]
        below = BELOW + sum(rows) * LEGEND_ROW + ((text.count("\n") + 1) * CAPTION_LINE if text else 0) + 0.14
        strip = STRIP_ROW * len(widths)
        height = below + PANEL + strip + title_lines * LINE + 0.14 + (0.3 if banner else 0)
        figure = new_figure(height)
        for k, (report, heading) in enumerate(zip(chosen, titles, strict=True)):
            left = (LEFT + k * (panel_width + GAP)) / WIDTH
            axes = figure.add_axes((left, below / height, panel_width / WIDTH, PANEL / height), zorder=2)
            axes.patch.set_visible(False)  # crosses and triangles at its upper end reach into the strip above
            along = report.steps if x == "steps" else report.tokens
            last = float(along[-1])
            axes.set(xlim=(-0.02 * last, 1.03 * last), ylim=limits, xlabel=X_LABELS[x])
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            if x == "tokens":
                axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.grid(alpha=0.25, linewidth=0.5)
            axes.tick_params(labelleft=k == 0)
            axes.set_ylabel("training loss (nats)" if k == 0 else "")
            _draw_curves(axes, report, looks, along)
            where = (left, (below + PANEL) / height, panel_width / WIDTH, strip / height)
            _draw_strip(figure.add_axes(where, sharex=axes), report, along, first=k == 0)
            bottom = below + PANEL + strip + 0.07
            _write_title(figure, left, bottom / height, LINE / height, report, heading)
        for handles, before, lines in zip(legends, (0, rows[0]), rows, strict=True):
            figure.legend(
                handles=handles,
                loc="upper center",
                bbox_to_anchor=(0.5, (below - BELOW - before * LEGEND_ROW) / height),
                ncols=-(-len(handles) // max(lines, 1)),
                frameon=False,
                handlelength=1.9,
                columnspacing=1.4,
                borderpad=0,
            )
        figure.text(LEFT / WIDTH, 0.08 / height, text, fontsize=POINTS, va="bottom", linespacing=1.25)
        write_banner(figure, banner)
        return save(figure, Path(out), stem)


def loss_limits(reports: Sequence[LearningReport]) -> tuple[float, float]:
    """The loss axis: from below the least mean loss to where a typical curve's steep start is over.

    It reaches up to the worst end of a curve, but no further than twice that span, lest one bad curve flatten all
    others.
    """
    curves = [mean for report in reports for mean in report.mean]
    early = [
        mean[report.steps <= max(START * report.steps[-1], report.steps[0])][-1:]
        for report in reports
        for mean in report.mean
    ]
    known = np.concatenate(curves)
    if not np.isfinite(known).any():
        return 0.0, 1.0  # every run diverged before the first logged step: crosses alone
    bottom = float(known[np.isfinite(known)].min())
    started = np.concatenate(early)
    ends = np.array([mean[-1] for mean in curves])
    top = float(np.median(started[np.isfinite(started)])) if np.isfinite(started).any() else bottom
    worst = float(ends[np.isfinite(ends)].max()) if np.isfinite(ends).any() else top
    top = max(top, min(worst, bottom + 2 * (top - bottom)))
    margin = 0.05 * max(top - bottom, 1e-3 * abs(bottom), 1e-9)
    return bottom - margin, top + 2 * margin


def report_of(reports: Mapping[str, LearningReport], panel: str) -> LearningReport:
    """Of one panel. Raises `UserError` for a name that is none."""
    if panel not in reports:
        raise unknown("panel of the learning curves", panel, reports)
    return reports[panel]


def _draw_curves(axes: Axes, report: LearningReport, looks: Mapping[int, dict[str, Any]], along: Array) -> None:
    top = axes.get_ylim()[1]
    for k, (width, loss, mean) in enumerate(zip(report.widths, report.loss, report.mean, strict=True)):
        look, alive = looks[width], np.isfinite(mean)
        x, y = along[alive], mean[alive]
        gap = max(len(report.steps) // 6, 1)
        # each width's markers start elsewhere, so that curves on one another stay apart
        start = int(gap * k / len(report.widths))
        edge: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.4}
        axes.plot(x, y, **look, **edge, markevery=(start, gap), linewidth=1.1, zorder=3 + k / 10)
        if report.seeds > 1:
            error = loss[:, alive].std(axis=0, ddof=1) / np.sqrt(report.seeds)
            axes.fill_between(x, y - error, y + error, color=look["color"], alpha=0.25, linewidth=0, zorder=2)
        end_x, end_y = (x[-1], min(y[-1], top)) if len(x) else (along[0], top)
        sign: dict[str, Any] = {"color": look["color"], "clip_on": False, "zorder": 5}
        if not alive.all():
            axes.plot(end_x, end_y, "x", markersize=5.5, markeredgewidth=1.6, **sign)
        elif y[-1] > top:
            axes.plot(end_x, top, "^", markersize=4.5, **sign)


def _draw_strip(axes: Axes, report: LearningReport, along: Array, *, first: bool) -> None:
    """A row a pair of adjacent widths, the narrowest lowest; a tick at each violation."""
    for row, (violation, clear) in enumerate(zip(report.violation, report.clear, strict=True)):
        for chosen, colour in ((violation & ~clear, MUTED), (clear, WARNING)):
            low = row + (0.3 if colour == MUTED else 0.1)  # also told by their height, not by colour alone
            axes.vlines(along[chosen], low, 2 * row + 1 - low, color=colour, linewidth=1.0)
    axes.set_ylim(-0.25, len(report.violation) + 0.25)
    axes.set_yticks([len(report.violation) / 2], ["violations"] if first else [""])
    axes.tick_params(axis="both", length=0, labelbottom=False)
    axes.set_facecolor("#f2f2f2")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _write_title(
    figure: Figure, left: float, bottom: float, line: float, report: LearningReport, heading: Sequence[str]
) -> None:
    """The heading, the verdict, the count; ``line`` and the position as fractions of the figure."""
    colour = VERDICT_COLOURS[report.verdict]
    lines: list[tuple[str, dict[str, Any]]] = [(part, {"fontsize": 8.5, "fontweight": "bold"}) for part in heading]
    lines.append((f"wider is better: {report.verdict}", {"fontsize": POINTS, "color": colour}))
    lines.append((f"behind at {report.whole.text}", {"fontsize": POINTS - 0.5, "color": colour}))
    for row, (text, font) in enumerate(reversed(lines)):
        figure.text(left, bottom + row * line, text, va="bottom", **font)


def _legends(
    looks: Mapping[int, dict[str, Any]], reports: Sequence[LearningReport], top: float
) -> tuple[list[Line2D], list[Line2D]]:
    """The widths, and the signs that occur in this figure."""
    edge: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.4}
    widths = [Line2D([], [], label=f"width {width}", **look, **edge) for width, look in looks.items()]
    plain: dict[str, Any] = {"color": "black", "linestyle": "none", "markersize": 4.5}
    tick: dict[str, Any] = {"linestyle": "none", "marker": "|", "markeredgewidth": 1.2}
    signs = []
    if any((report.violation & ~report.clear).any() for report in reports):
        known = any(report.seeds > 1 for report in reports)
        words = "wider is behind, within the seeds' spread" if known else "wider is behind (one seed: no interval)"
        signs.append(Line2D([], [], color=MUTED, markersize=4, label=words, **tick))
    if any(report.clear.any() for report in reports):
        signs.append(Line2D([], [], color=WARNING, markersize=7, label="wider is behind, clearly", **tick))
    if any(report.diverged for report in reports):
        signs.append(Line2D([], [], marker="x", markeredgewidth=1.4, label="diverged", **plain))
    if any(np.isfinite(end) and end > top for report in reports for end in report.mean[:, -1]):
        signs.append(Line2D([], [], marker="^", label="ends above the axis", **plain))
    return widths, signs
