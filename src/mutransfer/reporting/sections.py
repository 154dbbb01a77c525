"""What the table of every figure folder says beside its claims: data, scale, and the paper beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mutransfer.errors import UserError
from mutransfer.reporting import published
from mutransfer.reporting.files import read_provenance, stand_in
from mutransfer.reporting.render import KEYS, PAPER_KEYS
from mutransfer.reporting.table import grid


def read_figure(folder: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """The provenance of a figure folder, with ``keys`` beside those of every figure."""
    provenance = read_provenance(folder / "provenance.json", (*KEYS, *keys))
    paper = provenance["paper"]
    absent = [key for key in PAPER_KEYS if not isinstance(paper, dict) or key not in paper]
    if absent:
        raise UserError(
            f"{folder / 'provenance.json'} lacks paper.{', paper.'.join(absent)}; run the experiment again."
        )
    return provenance


def heading_section(provenance: Mapping[str, Any], count: str) -> list[str]:
    """Title, stand-in banner, data, scale and remarks of a table."""
    banner = stand_in(provenance)
    notes = [f"**{banner}**"] if banner else []
    notes.append(f"Data: {provenance['data_source']}. Scale: {provenance['scale']}. {count}.")
    return [f"# {provenance['title']}", *notes, *provenance.get("notes", ())]


def paper_section(provenance: Mapping[str, Any], claim: str, ours: Mapping[str, str]) -> list[str]:
    """The paper's statement and numbers of this figure beside ours, and what differs."""
    paper = provenance["paper"]
    ours = {**ours, **paper.get("ours", {})}
    rows = [("conclusion", paper["statement"], claim)]
    for one in published.rows(table_or_figure=paper["table_or_figure"]):
        mark = "" if one.confidence == "VERIFIED" else f" ({one.confidence.lower()})"
        name = f"{one.setup}: {one.metric}".replace("_", " ").replace("muP", "µP").replace("muT", "µT")
        rows.append((name, f"{one.value} {one.unit}".strip() + mark, ours.get(one.metric, "-")))
    differs = [f"What differs in ours: {paper['differs']}"] if paper["differs"] else []
    return ["## The paper beside ours", grid(("", f"the paper, {paper['table_or_figure']}", "ours"), rows), *differs]
