"""Figures 7 and 8: training loss through training, a line a width, panels side by side (is wider better?)."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from mutransfer.analysis.estimate import Array, label, number, power
from mutransfer.analysis.learning import RULE, START, LearningReport, learning_report
from mutransfer.errors import UserError, unknown
from mutransfer.files import write
from mutransfer.reporting.files import read, read_figure, read_runs, stand_in
from mutransfer.reporting.pretraining import pretraining_lines, pretraining_section
from mutransfer.reporting.sections import heading_section, paper_section
from mutransfer.reporting.style import (
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
from mutransfer.reporting.table import NAME, grid
from mutransfer.reporting.translations import translations_lines, translations_section

STEM, CSV = "learning_curves", "curves.csv"
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
    chosen = [_report(reports, panel) for panel in headings]
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


def learning_section(reports: Mapping[str, LearningReport], headings: Mapping[str, str]) -> str:
    """The numbers of the figure in Markdown, without a final newline: counts, verdicts, losses at the end, the rule."""
    header = ("", "LR", "verdict", "violations", "after the first tenth", "largest excess (nats)")
    chosen = {panel: _report(reports, panel) for panel in headings}
    rows = [
        (
            headings[panel],
            power(report.log2_lr, 1),
            f"**{report.verdict}**",
            report.whole.text,
            f"{report.later.text}: {report.later.verdict}",
            report.largest.text if report.largest else "none",
        )
        for panel, report in chosen.items()
    ]
    widths = sorted({width for report in chosen.values() for width in report.widths})
    ends = [(headings[panel], *(_end(report, width) for width in widths)) for panel, report in chosen.items()]
    spread = ", mean over seeds ± standard error" if any(r.seeds > 1 for r in chosen.values()) else ""
    points = ", ".join(sorted({f"{len(r.steps)} logged steps" for r in chosen.values()}))
    parts = [
        "## Is wider better through training?",
        grid(header, rows),
        "\n".join(f"- {report.sentence}" for report in chosen.values()),
        f"Training loss (nats) at the last logged step{spread}:",
        grid(("", *(f"width {width}" for width in widths)), ends),
        *_other_rates(reports, headings),
        f"Rule: {RULE} Here: {points}; the verdict is that of the whole of training.",
    ]
    return "\n\n".join(parts)


def _other_rates(reports: Mapping[str, LearningReport], headings: Mapping[str, str]) -> list[str]:
    """The counts at every learning rate, drawn or not: is the figure's choice of rates a lucky one?"""
    if len(reports) == len(headings):
        return []
    found = {(report.log2_lr, report.parametrization): report for report in reports.values()}
    columns = sorted({name for _, name in found}, key=lambda name: (name != "sp", name))

    def cell(log2_lr: float, name: str) -> str:
        report = found.get((log2_lr, name))
        return f"{report.verdict}: {report.whole.text}" if report else "-"

    rates = sorted({log2_lr for log2_lr, _ in found})
    rows = [(power(log2_lr, 1), *(cell(log2_lr, name) for name in columns)) for log2_lr in rates]
    return ["At every learning rate that all widths ran:", grid(("LR", *map(label, columns)), rows)]


def render_learning(folder: Path, provenance: Mapping[str, Any]) -> tuple[list[str], list[Path], str]:
    """Redraw ``learning_curves.png`` and ``.svg`` from ``folder/curves.csv``; returns a line a panel for the terminal,
    the paths, and the Markdown section for the folder's table.

    ``provenance["learning"]["panels"]`` is panel -> heading of those to draw, in their order; of the table's others
    only the counts are given. Raises `UserError` as `learning_report` does.
    """
    text = read(folder / CSV)
    try:
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    except (ValueError, pd.errors.ParserError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{folder / CSV} is no table ({reason}); run the experiment again.") from error
    reports = learning_report(table)
    try:
        headings = dict(provenance["learning"]["panels"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / 'provenance.json'} lacks learning.panels; run the experiment again.") from error
    seeds = sorted({_report(reports, panel).seeds for panel in headings})
    count = " to ".join(str(n) for n in dict.fromkeys((seeds[0], seeds[-1])))
    shown = "one run a line" if seeds == [1] else f"mean over {count} seeds, band: standard error"
    caption = (
        f"Is wider better through training? {provenance['title']}, scale '{provenance['scale']}' (after Figure 7 of "
        f"the paper). Lines: {shown}. Ticks above a panel: logged steps at which the wider model of a pair of adjacent "
        f"widths is behind, the narrowest pair lowest. Data: {provenance['data_source']}."
    )
    paths = learning_figure(reports, headings, out=folder, caption=caption, banner=stand_in(provenance))
    lines = [reports[panel].sentence for panel in headings]
    return lines, paths, learning_section(reports, headings)


def render_curves(folder: Path) -> tuple[str, list[Path]]:
    """(Re)write the figure of ``folder/curves.csv``, and ``table.md``; returns a summary and the paths."""
    provenance, runs = read_figure(folder), read_runs(folder / "runs.csv")
    lines, paths, section = render_learning(folder, provenance)
    metrics = {"widths": "width", "steps": "steps"}
    ours = {metric: ",".join(map(str, sorted(runs[name].unique()))) for metric, name in metrics.items()}
    heading = heading_section(provenance, f"{runs['seed'].nunique()} seeds")
    lines += [*translations_lines(runs), *pretraining_lines(provenance, runs)]
    parts = [*heading, section, *translations_section(provenance, runs), *pretraining_section(provenance, runs)]
    parts += paper_section(provenance, " ".join(lines), ours)
    return "\n".join(lines), [*paths, write(folder / NAME, ("\n\n".join(parts) + "\n").encode())]


def _report(reports: Mapping[str, LearningReport], panel: str) -> LearningReport:
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


def _end(report: LearningReport, width: int) -> str:
    if width not in report.widths:
        return "-"
    last = report.loss[report.widths.index(width), :, -1]
    if np.isinf(last).any() or report.seeds == 1:
        return number(float(last.mean()), 4)
    return f"{number(float(last.mean()), 4)} ± {number(float(last.std(ddof=1)) / np.sqrt(report.seeds), 4)}"
