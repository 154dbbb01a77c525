"""What the table of every figure folder says beside its claims: data, scale, and the paper beside ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from mutransfer.files import write
from mutransfer.reporting import published
from mutransfer.reporting.files import stand_in
from mutransfer.reporting.table import NAME, grid, published_rows

R = TypeVar("R")


@dataclass(frozen=True)
class Described(Generic[R]):
    """A figure folder in words: its report and the table that says it. Nothing is drawn or written yet."""

    provenance: dict[str, Any]
    report: R
    summary: str
    """For the terminal."""
    text: str
    """Of the table, in Markdown."""

    def write(self, folder: Path) -> Path:
        """Write ``folder/table.md``; returns its path."""
        return write(folder / NAME, self.text.encode())


def joined(parts: Iterable[str]) -> str:
    """The text of a table from its parts."""
    return "\n\n".join(parts) + "\n"


def heading_section(provenance: Mapping[str, Any], count: str) -> list[str]:
    """Title, stand-in banner, data, scale and remarks of a table."""
    banner = stand_in(provenance)
    notes = [f"**{banner}**"] if banner else []
    notes.append(f"Data: {provenance['data_source']}. Scale: {provenance['scale']}. {count}.")
    return [f"# {provenance['title']}", *notes, *provenance.get("notes", ())]


def paper_section(provenance: Mapping[str, Any], claim: str, ours: Mapping[str, str]) -> list[str]:
    """The paper's statement and numbers of this figure beside ours, and what differs."""
    paper = provenance["paper"]
    found = published.rows(table_or_figure=paper["table_or_figure"])
    rows = [("conclusion", paper["statement"], claim), *published_rows(found, {**ours, **paper.get("ours", {})})]
    differs = [f"What differs in ours: {paper['differs']}"] if paper["differs"] else []
    return ["## The paper beside ours", grid(("", f"the paper, {paper['table_or_figure']}", "ours"), rows), *differs]
