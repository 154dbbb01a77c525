"""The committed figure and table of an experiment, redrawn from its committed numbers; nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mutransfer.analysis import rule_of_thumb
from mutransfer.analysis.frame import describe, missing_cells, tidy
from mutransfer.analysis.transfer import TransferReport, transfer_report
from mutransfer.errors import UserError
from mutransfer.reporting import published
from mutransfer.reporting.accuracy import accuracy_section
from mutransfer.reporting.coordinates import render_coordinates
from mutransfer.reporting.files import read_figure, read_runs, stand_in
from mutransfer.reporting.learning import render_learning
from mutransfer.reporting.lr_figure import lr_figure
from mutransfer.reporting.table import seed_text, write_table


def render(folder: Path) -> tuple[str, list[Path]]:
    """(Re)write ``lr_vs_loss.png``, ``lr_vs_loss.svg`` and ``table.md`` in ``folder``; returns a summary and paths.

    Where the provenance has ``learning`` or ``coordinates``, the figures of ``curves.csv`` and ``coordinates.csv`` too.
    Reads only these CSV files and ``provenance.json``; the same files give the same bytes. The provenance has `KEYS`,
    of which ``paper`` is an object with `PAPER_KEYS`; optional are ``log2_lrs`` (the planned grid, which every width
    must then have), ``loss_ceiling`` (no loss above it is drawn), ``stands_in_for`` (what stand-in data replaces,
    default CIFAR-10), ``accuracy`` (the paper's table of accuracies, such as Table 12), ``experiment``-wide remarks in
    ``notes`` (a list), and ``paper.ours`` (metric of the published values -> ours).

    Raises `UserError` if a file is missing or malformed, or if a run of the complete table is missing: it
    names which.
    """
    provenance = read_figure(folder)
    paper = provenance["paper"]
    runs = read_runs(folder / "runs.csv")
    frame = tidy(runs)
    gap = missing_cells(frame, provenance.get("log2_lrs", ()))
    if gap:
        raise UserError(f"{folder / 'runs.csv'} lacks {len(gap)} runs: {describe(gap)}; run the sweep again.")
    report = transfer_report(runs)
    banner = stand_in(provenance)

    paths = lr_figure(
        runs,
        report,
        caption=_caption(provenance, report),
        out=folder,
        y_label=provenance["y_label"],
        banner=banner,
        ceiling=provenance.get("loss_ceiling"),
    )
    summary, sections = [str(report)], []
    for key, draw in (("learning", render_learning), ("coordinates", render_coordinates)):
        if key in provenance:
            lines, drawn, section = draw(folder, provenance)
            summary += lines
            paths += drawn
            sections.append(section)
    if "accuracy" in provenance:
        line, section = accuracy_section(runs, str(provenance["accuracy"]))
        summary.append(line)
        sections.append(section)
    if "length" in runs.columns:
        sections += ["## The rule of thumb of section 6.1", rule_of_thumb.markdown(runs)]
    notes = [f"**{banner}**"] if banner else []
    notes.append(
        f"Data: {provenance['data_source']}. Scale: {provenance['scale']}. {seed_text(report.optima)} at every point."
    )
    table = write_table(
        report,
        published.rows(table_or_figure=paper["table_or_figure"]),
        out=folder,
        heading=provenance["title"],
        notes=[*notes, *provenance.get("notes", ())],
        statement=paper["statement"],
        differs=paper["differs"],
        ours={**_ours(runs, frame), **paper.get("ours", {})},
        sections=sections,
    )
    return "\n".join(summary), [*paths, table]


def _caption(provenance: Mapping[str, Any], report: TransferReport) -> str:
    seeds = seed_text(report.optima)
    shown = "one run a point" if seeds == "1 seed" else f"mean over {seeds}, band: standard error"
    return (
        f"{provenance['title']}, scale '{provenance['scale']}' "
        f"(after {provenance['paper']['table_or_figure']} of the paper). Lines: {shown}. "
        "In the titles: slope of log2 LR* against log2 width with its 95% bootstrap interval. "
        f"Data: {provenance['data_source']}."
    )


def _ours(runs: pd.DataFrame, frame: pd.DataFrame) -> dict[str, str]:
    """Our value for the metrics of the published table that the runs themselves show."""
    grid = frame["log2_lr"]
    found = {
        "widths": ",".join(str(w) for w in sorted(frame["width"].unique())),
        "log2lr_ticks": f"{grid.min():g}..{grid.max():g}",
    }
    for metric in ("base_width", "batch", "steps", "optimizer"):
        if metric in runs.columns and runs[metric].nunique() == 1:
            found[metric] = str(runs[metric].iloc[0])
    return found
