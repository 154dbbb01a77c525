"""The section of a table that says what the copied learning rate is worth in accuracy (Tables 12 and 13)."""

from __future__ import annotations

import math

from mutransfer.results import published
from mutransfer.results.accuracy import RULE, AccuracyReport
from mutransfer.results.estimate import Estimate, label, number, power, span
from mutransfer.results.table import grid


def accuracy_section(report: AccuracyReport, table: str) -> tuple[str, str]:
    """(a line for the terminal, the section in Markdown). ``table``: the paper's, such as Table 12."""
    rows = [
        (
            label(r.parametrization),
            str(r.width),
            power(r.log2_lr, 1),
            _percent(r.copied),
            f"{_percent(r.best)} at {power(r.best_log2_lr, 1)}",
        )
        for r in report.rows
    ]
    sentence = _sentence(report)
    header = ("", "width", "copied LR", "its test accuracy (%)", "at the width's own best LR (%)")
    theirs = [
        (f"{p.setup.replace('muP', 'µP')}: {p.metric}", f"{p.value} {p.unit}".strip())
        for p in published.rows(table_or_figure=table)
    ]
    parts = [
        "## What is copying worth?",
        f"- {sentence}",
        grid(header, rows),
        f"{table} of the paper:",
        grid(("", "the paper"), theirs),
        f"Rule: {RULE}",
    ]
    return sentence, "\n\n".join(parts)


def _sentence(report: AccuracyReport) -> str:
    width = report.rows[-1].width
    mup, sp = (report.row(name, width) for name in ("mup", "sp"))
    seeds = f"{report.seeds} seed{'s' if report.seeds > 1 else ''}"
    return (
        f"test accuracy at width {width} with the learning rate copied from width {report.rows[0].width}: µP "
        f"{_percent(mup.copied)}%, SP {_percent(sp.copied)}%; µP is {report.verdict}: difference "
        f"{_percent(report.difference)} points ({seeds})."
    )


def _percent(estimate: Estimate) -> str:
    value = number(100 * estimate.value)
    return value if math.isnan(estimate.low) else f"{value} {span(100 * estimate.low, 100 * estimate.high)}"
