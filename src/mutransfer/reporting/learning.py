"""Figures 7 and 8: training loss through training, a line a width (is wider better?), with the numbers behind it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mutransfer.errors import UserError
from mutransfer.reporting.pretraining import pretraining_lines, pretraining_section
from mutransfer.reporting.translations import translations_lines, translations_section
from mutransfer.results.claims import Claim, Part, paper_claim
from mutransfer.results.draw.learning_curves import learning_figure, report_of
from mutransfer.results.estimate import label, number, power
from mutransfer.results.files import read, read_figure, read_runs, stand_in
from mutransfer.results.learning import RULE, LearningReport, learning_report
from mutransfer.results.sections import Described, Kind, heading_section, joined, paper_section
from mutransfer.results.table import grid

CSV = "curves.csv"


def learning_section(reports: Mapping[str, LearningReport], headings: Mapping[str, str]) -> str:
    """The numbers of the figure in Markdown, without a final newline: counts, verdicts, losses at the end, the rule."""
    header = ("", "LR", "verdict", "violations", "after the first tenth", "largest excess (nats)")
    chosen = {panel: report_of(reports, panel) for panel in headings}
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
    reports, headings = read_learning(folder, provenance)
    paths = redraw_learning(folder, provenance, reports, headings)
    return learning_lines(reports, headings), paths, learning_section(reports, headings)


def read_learning(folder: Path, provenance: Mapping[str, Any]) -> tuple[dict[str, LearningReport], dict[str, str]]:
    """The report of every panel of ``folder/curves.csv``, and the headings of those to draw; raises as
    `render_learning` does.
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
    for panel in headings:
        report_of(reports, panel)
    return reports, headings


def learning_lines(reports: Mapping[str, LearningReport], headings: Mapping[str, str]) -> list[str]:
    """A line a panel that is drawn, for the terminal."""
    return [reports[panel].sentence for panel in headings]


def redraw_learning(
    folder: Path, provenance: Mapping[str, Any], reports: Mapping[str, LearningReport], headings: Mapping[str, str]
) -> list[Path]:
    """The figure of what `read_learning` read."""
    seeds = sorted({reports[panel].seeds for panel in headings})
    count = " to ".join(str(n) for n in dict.fromkeys((seeds[0], seeds[-1])))
    shown = "one run a line" if seeds == [1] else f"mean over {count} seeds, band: standard error"
    caption = (
        f"Is wider better through training? {provenance['title']}, scale '{provenance['scale']}' (after Figure 7 of "
        f"the paper). Lines: {shown}. Ticks above a panel: logged steps at which the wider model of a pair of adjacent "
        f"widths is behind, the narrowest pair lowest. Data: {provenance['data_source']}."
    )
    return learning_figure(reports, headings, out=folder, caption=caption, banner=stand_in(provenance))


def _draw(folder: Path, described: Described[Any]) -> list[Path]:
    return redraw_learning(folder, described.provenance, *described.report)


def describe_curves(folder: Path) -> Described[tuple[dict[str, LearningReport], dict[str, str]]]:
    """What `render_curves` writes in ``table.md``: reports by panel, headings of those that are drawn."""
    provenance, runs = read_figure(folder), read_runs(folder / "runs.csv")
    reports, headings = read_learning(folder, provenance)
    lines, section = learning_lines(reports, headings), learning_section(reports, headings)
    metrics = {"widths": "width", "steps": "steps"}
    ours = {metric: ",".join(map(str, sorted(runs[name].unique()))) for metric, name in metrics.items()}
    heading = heading_section(provenance, f"{runs['seed'].nunique()} seeds")
    lines += [*translations_lines(runs), *pretraining_lines(provenance, runs)]
    parts = [*heading, section, *translations_section(provenance, runs), *pretraining_section(provenance, runs)]
    parts += paper_section(provenance, " ".join(lines), ours)
    return Described(provenance, (reports, headings), "\n".join(lines), joined(parts), CURVES)


def _end(report: LearningReport, width: int) -> str:
    if width not in report.widths:
        return "-"
    last = report.loss[report.widths.index(width), :, -1]
    if np.isinf(last).any() or report.seeds == 1:
        return number(float(last.mean()), 4)
    return f"{number(float(last.mean()), 4)} ± {number(float(last.std(ddof=1)) / np.sqrt(report.seeds), 4)}"


CURVES = {"learning_curves": "Training loss through training, a line a width"}
"""The picture, and what it is."""
FIGURE_7 = "In µP the wider model is at least as good at every step; in SP it is not, at either rate."


def _claims(provenance: Mapping[str, Any], report: tuple[dict[str, LearningReport], dict[str, str]]) -> list[Claim]:
    """Figure 7; a figure of scores (BLEU, tasks) sets numbers beside the paper's, and no rule compares them."""
    parts = wider_claims(*report)
    if "translations" in provenance or "scores" in provenance:
        return [paper_claim(provenance, [Part(one.what, one.ours, "not judged") for one in parts])]
    return [paper_claim(provenance, parts)]


def wider_claims(reports: Mapping[str, LearningReport], headings: Mapping[str, str]) -> tuple[Part, ...]:
    expected = {"mup": "holds", "sp": "fails"}
    chosen = [reports[panel] for panel in headings]
    return tuple(
        Part.of(
            f"{label(one.parametrization)} at {power(one.log2_lr, 1)}, wider is better",
            f"{one.verdict}, behind at {one.whole.text}",
            one.verdict,
            expected.get(one.parametrization),
        )
        for one in chosen
    )


LEARNING = Kind("learning", describe_curves, _draw, _claims)
"""A folder with the figure of ``folder/curves.csv``, and ``table.md``."""
