"""The published numbers that ours are set beside, each with its table or figure in the paper."""

from __future__ import annotations

import csv
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

    @property
    def mark(self) -> str:
        """`` (memory)``: how sure the value is, where it was not read in the source."""
        return "" if self.confidence == "VERIFIED" else f" ({self.confidence.lower()})"


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


def text(table_or_figure: str, experiment: str | None, setup: str, *metrics: str) -> str:
    """The first of ``metrics`` that `rows` has for ``setup``, and how sure it is; a dash if none. Raises as `rows`."""
    every = rows(table_or_figure=table_or_figure, experiment=experiment)
    own = {row.metric: row for row in every if row.setup == setup}
    return next((f"{v.value}{v.unit * (v.unit == 'x')}{v.mark}" for m in metrics if (v := own.get(m))), "-")
