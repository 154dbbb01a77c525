"""The published numbers that ours are set beside, each with its table or figure in the paper."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from mutransfer.errors import known


@dataclass(frozen=True)
class PublishedValue:
    """One row of ``published/values.csv``; ``value`` is text: some are words (``diverged``) or lists."""

    experiment: str
    table_or_figure: str
    setup: str
    metric: str
    value: str
    unit: str
    confidence: str
    """VERIFIED (read in the source), DERIVED (arithmetic from it) or MEMORY (not checked)."""
    source: str


@cache
def _all() -> tuple[PublishedValue, ...]:
    text = (resources.files("mutransfer") / "published" / "values.csv").read_text(encoding="utf-8")
    return tuple(PublishedValue(**row) for row in csv.DictReader(text.splitlines()))


def rows(*, table_or_figure: str, experiment: str | None = None) -> tuple[PublishedValue, ...]:
    """The published values of one table or figure (``"Figure 3"``), optionally of one experiment in it.

    Raises `UserError` naming the nearest when nothing matches.
    """
    known("published table or figure", table_or_figure, sorted({row.table_or_figure for row in _all()}))
    values = [row for row in _all() if row.table_or_figure == table_or_figure]
    if experiment is not None:
        known(f"experiment of {table_or_figure}", experiment, sorted({row.experiment for row in values}))
    return tuple(row for row in values if experiment in (None, row.experiment))


def by_setup(*, table_or_figure: str, experiment: str | None = None) -> dict[tuple[str, str], PublishedValue]:
    """(setup, metric) -> the value, of `rows`; raises as that does."""
    return {(row.setup, row.metric): row for row in rows(table_or_figure=table_or_figure, experiment=experiment)}


def text(values: Mapping[tuple[str, str], PublishedValue], setup: str, *metrics: str) -> str:
    """The first of ``metrics`` that the paper has for ``setup``, and how sure if it was not read; a dash if none."""
    for metric in metrics:
        if value := values.get((setup, metric)):
            mark = "" if value.confidence == "VERIFIED" else f" ({value.confidence.lower()})"
            return value.value + (value.unit if value.unit == "x" else "") + mark
    return "-"
