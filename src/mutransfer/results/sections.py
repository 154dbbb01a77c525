"""What the table of every figure folder says beside its claims: data, scale, and the paper beside ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from mutransfer.files import write
from mutransfer.results import published
from mutransfer.results.claims import Claim
from mutransfer.results.files import stand_in
from mutransfer.results.table import NAME, grid, published_rows

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
    pictures: Mapping[str, str]
    """Those that the folder holds: their stems, and what each is."""

    def write(self, folder: Path) -> Path:
        """Write ``folder/table.md``; returns its path."""
        return write(folder / NAME, self.text.encode())


@dataclass(frozen=True)
class Kind(Generic[R]):
    """A kind of figure folder: what its files say (R), what is drawn of it, which claims of the paper it concerns.

    describe: reads the folder; raises `UserError` if a file is missing or malformed, or if a run is missing.
    draw: writes the pictures and returns their paths; the same files give the same bytes.
    """

    name: str
    """As ``kind`` in provenance.json."""
    describe: Callable[[Path], Described[R]]
    draw: Callable[[Path, Described[R]], list[Path]]
    claims: Callable[[Mapping[str, Any], R], list[Claim]]

    def redraw(self, folder: Path) -> tuple[str, list[Path]]:
        """(Re)write all pictures and ``table.md`` of ``folder``; returns a text for the terminal and the paths."""
        described = self.describe(folder)
        paths = self.draw(folder, described)
        return described.summary, [*paths, described.write(folder)]


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
