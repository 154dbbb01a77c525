"""The committed figure and table of an experiment, redrawn from its committed numbers; nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mutransfer.errors import UserError
from mutransfer.reporting.accuracy import accuracy_section
from mutransfer.reporting.coordinates import (
    coordinate_lines,
    coordinate_section,
    read_coordinates,
    redraw_coordinates,
)
from mutransfer.reporting.learning import (
    CURVES,
    FIGURE_7,
    learning_lines,
    learning_section,
    read_learning,
    redraw_learning,
    wider_claims,
)
from mutransfer.results import published, rule_of_thumb
from mutransfer.results.accuracy import AccuracyReport, accuracy_report
from mutransfer.results.claims import Claim, Part, paper_claim
from mutransfer.results.coordinates import CoordFrame, against_theory
from mutransfer.results.draw.lr_figure import lr_figure
from mutransfer.results.estimate import label, number, span
from mutransfer.results.files import read_figure, read_runs, stand_in
from mutransfer.results.frame import describe, missing_cells, tidy
from mutransfer.results.learning import LearningReport
from mutransfer.results.sections import Described, Kind
from mutransfer.results.table import seed_text, table_text
from mutransfer.results.transfer import TransferReport, transfer_report


def _draw(folder: Path, described: Described[Any]) -> list[Path]:
    provenance, sweep = described.provenance, described.report
    paths = lr_figure(
        sweep.runs,
        sweep.transfer,
        caption=_caption(provenance, sweep.transfer),
        out=folder,
        y_label=provenance["y_label"],
        banner=stand_in(provenance),
        ceiling=provenance.get("loss_ceiling"),
    )
    if sweep.learning:
        paths += redraw_learning(folder, provenance, *sweep.learning)
    if sweep.coordinates:
        paths += redraw_coordinates(folder, provenance, *sweep.coordinates)
    return paths


@dataclass(frozen=True)
class Sweep:
    """The runs of a learning-rate sweep and what they say; None where the folder does not show it."""

    runs: pd.DataFrame
    transfer: TransferReport
    learning: tuple[dict[str, LearningReport], dict[str, str]] | None
    """Reports by panel, and the headings of the panels that are drawn."""
    coordinates: tuple[list[CoordFrame], Mapping[str, str]] | None
    """A frame a parametrization, and activation -> heading."""
    accuracy: AccuracyReport | None


def describe_sweep(folder: Path) -> Described[Sweep]:
    """What `render` writes in ``table.md``; raises as it does."""
    provenance = read_figure(folder)
    paper = provenance["paper"]
    runs = read_runs(folder / "runs.csv")
    frame = tidy(runs)
    gap = missing_cells(frame, provenance.get("log2_lrs", ()))
    if gap:
        raise UserError(f"{folder / 'runs.csv'} lacks {len(gap)} runs: {describe(gap)}; run the sweep again.")
    sweep = Sweep(
        runs,
        transfer_report(runs),
        read_learning(folder, provenance) if "learning" in provenance else None,
        read_coordinates(folder, provenance) if "coordinates" in provenance else None,
        accuracy_report(runs) if "accuracy" in provenance else None,
    )
    summary, sections = [str(sweep.transfer)], []
    if sweep.learning:
        summary += learning_lines(*sweep.learning)
        sections.append(learning_section(*sweep.learning))
    if sweep.coordinates:
        summary += coordinate_lines(*sweep.coordinates)
        sections.append(coordinate_section(*sweep.coordinates))
    if sweep.accuracy:
        line, section = accuracy_section(sweep.accuracy, str(provenance["accuracy"]))
        summary.append(line)
        sections.append(section)
    if "length" in runs.columns:
        sections += ["## The rule of thumb of section 6.1", rule_of_thumb.markdown(runs)]
    banner, seeds = stand_in(provenance), seed_text(sweep.transfer.optima)
    text = table_text(
        sweep.transfer,
        published.rows(table_or_figure=paper["table_or_figure"]),
        heading=provenance["title"],
        notes=[
            *([f"**{banner}**"] if banner else []),
            f"Data: {provenance['data_source']}. Scale: {provenance['scale']}. {seeds} at every point.",
            *provenance.get("notes", ()),
        ],
        statement=paper["statement"],
        differs=paper["differs"],
        ours={**_ours(runs, frame), **paper.get("ours", {})},
        sections=sections,
    )
    pictures = {"lr_vs_loss": "Training loss against learning rate, a line a width"}
    if sweep.learning:
        pictures |= CURVES
    if sweep.coordinates:
        pictures["coordinate_check"] = "Growth with width of the change of activations over a few steps"
    return Described(provenance, sweep, "\n".join(summary), text, pictures)


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


FIGURE_5 = (
    "With Adam, in SP the logits and the attention logits blow up with width within a step, the word embeddings do "
    "not; in µP all stay."
)
ACCURACY = "With hyperparameters copied from the narrow network, the widest is more accurate in µP than in SP."


def _claims(provenance: Mapping[str, Any], report: Sweep) -> list[Claim]:
    """The best learning rate over widths, and what else the folder shows (Figures 5 and 7, Table 12)."""
    expected = {"sp": ("SP: the best learning rate moves", "drifts"), "mup": ("µP: it stays", "stable")}
    parts = []
    for result in report.transfer.results:
        what, verdict = expected.get(result.name, (label(result.name), None))
        moves = f"{number(result.slope.value)} {span(*result.interval)} octaves per doubling"
        parts.append(Part.of(what, f"{result.verdict}, {moves}", result.verdict, verdict))
    claims = [paper_claim(provenance, parts)]
    if report.learning:
        claims.append(Claim("Figure 7", FIGURE_7, wider_claims(*report.learning), picture="learning_curves"))
    if report.coordinates:
        claims.append(_coordinates(*report.coordinates))
    if report.accuracy:
        claims.append(_accuracy(report.accuracy, str(provenance["accuracy"])))
    return claims


def _coordinates(frames: Sequence[CoordFrame], activations: Mapping[str, str]) -> Claim:
    parts = []
    for frame in frames:
        for name, heading in activations.items():
            quantity = heading.partition(",")[0]
            told = against_theory(frame, name, quantity)
            has_theory = frame.expected(quantity) is not None
            found = "as theory says" if told.endswith("as theory says") else told
            what = f"{label(frame.parametrization)}: {heading}"
            parts.append(Part.of(what, told, found, "as theory says" if has_theory else None))
    return Claim("Figure 5", FIGURE_5, tuple(parts), picture="coordinate_check")


def _accuracy(report: AccuracyReport, table: str) -> Claim:
    difference = (
        f"{number(100 * report.difference.value)} {span(100 * report.difference.low, 100 * report.difference.high)}"
    )
    part = Part.of(
        "accuracy in µP less that in SP, at the widest",
        f"{report.verdict}, {difference} points",
        report.verdict,
        "higher",
    )
    return Claim(table, ACCURACY, (part,))


SWEEP = Kind("sweep", describe_sweep, _draw, _claims)
"""A folder with ``lr_vs_loss.png``, ``lr_vs_loss.svg`` and ``table.md`` in ``folder``.

Where the provenance has ``learning`` or ``coordinates``, the figures of ``curves.csv`` and ``coordinates.csv`` too.
Reads only these CSV files and ``provenance.json``; the same files give the same bytes. The provenance has `KEYS`,
of which ``paper`` is an object with `PAPER_KEYS`; optional are ``log2_lrs`` (the planned grid, which every width
must then have), ``loss_ceiling`` (no loss above it is drawn), ``stands_in_for`` (what stand-in data replaces,
default CIFAR-10), ``accuracy`` (the paper's table of accuracies, such as Table 12), ``experiment``-wide remarks in
``notes`` (a list), and ``paper.ours`` (metric of the published values -> ours).

Raises `UserError` if a file is missing or malformed, or if a run of the complete table is missing: it
names which.
"""
