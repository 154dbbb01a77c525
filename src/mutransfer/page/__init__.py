"""One page with every figure, claim and number of a ``figures/`` tree: a file that needs no other and no network."""

from __future__ import annotations

import base64
import gzip
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mutransfer.files import write
from mutransfer.page import markdown
from mutransfer.page.charts import Chart, sweep_chart
from mutransfer.page.folders import Folder, read_folders
from mutransfer.page.pictures import Picture, embed
from mutransfer.results.claims import VERDICTS, Claim

NAME = "index.html"
MARKS = {"reproduced": "✓", "in part": "◔", "mixed": "±", "undecided": "?", "not reproduced": "✗", "not judged": "–"}
"""Beside the colour of a verdict, and its word."""
PAPER_HEADING = "The paper beside ours"


@dataclass(frozen=True)
class Shown:
    """One figure folder as the template shows it."""

    folder: Folder
    chart: Chart | None

    @cached_property
    def pictures(self) -> list[tuple[str, str, str, Picture]]:
        """(stem, what it is, what it shows in words, the picture)."""
        found = []
        for path in self.folder.pictures:
            claims = self.folder.claims
            claim = next((claim for claim in claims if claim.picture == path.stem), claims[0])
            what = self.folder.described.pictures[path.stem]
            found.append((path.stem, what, f"{what}. {claim.ours}. Verdict: {claim.verdict}.", embed(path)))
        return found

    @cached_property
    def table(self) -> tuple[Markup, list[markdown.Section]]:
        return markdown.sections(self.folder.described.text)

    @property
    def beside(self) -> list[markdown.Section]:
        """The paper beside ours: shown at once; the other sections unfold."""
        return [one for one in self.table[1] if one.heading == PAPER_HEADING]

    @property
    def more(self) -> list[markdown.Section]:
        return [one for one in self.table[1] if one.heading != PAPER_HEADING]

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Where the numbers come from and what they cost."""
        provenance = self.folder.described.provenance
        runs: Mapping[str, Any] = provenance.get("runs", {})
        hours = provenance.get("train_hours_of_one_worker")
        data = f"{'real' if provenance['data_is_real'] else self.folder.banner}: {provenance['data_source']}"
        if self.folder.paper_data and provenance["data_is_real"]:
            data += f" (the paper: {self.folder.paper_data})"
        listed = {
            name: ", ".join(map(str, runs[name])) for name in ("device", "commit", "torch", "threads") if name in runs
        }
        found = [
            ("data", data),
            ("fingerprint", str(provenance.get("data_fingerprint", ""))),
            ("scale", provenance["scale"]),
            ("cost", "" if hours is None else f"{hours:g} hours of one worker"),
            ("machine", listed.get("device", "")),
            ("commit", listed.get("commit", "")),
            ("PyTorch", listed.get("torch", "")),
            ("threads a worker", listed.get("threads", "")),
            ("numbers", f"figures/{self.folder.name}/runs.csv"),
        ]
        return [(name, text) for name, text in found if text]


def write_page(figures: Path, out: Path, *, experiments: Mapping[str, str]) -> tuple[str, Path]:
    """Write ``out/index.html`` from the tree of figure folders below ``figures``; returns a text for the terminal
    (which claims of the paper were reproduced) and the path.

    Every number comes from the folders' CSV files and ``provenance.json``, or from ``published/values.csv``, through
    the reports that also write ``table.md``; the pictures are the committed PNGs. ``experiments``: name -> its summary,
    in the order of the page; one without figures is left out.

    Raises `UserError` as `read_folders` does, and if the page cannot be written.
    """
    folders = read_folders(figures, experiments)
    shown = [Shown(folder, sweep_chart(folder.described) if folder.kind == "sweep" else None) for folder in folders]
    groups = {name: [one for one in shown if one.folder.experiment == name] for name in experiments}
    text = (
        _environment()
        .get_template("page.html.j2")
        .render(
            groups={name: group for name, group in groups.items() if group},
            summaries=experiments,
            counts=_counts(folders),
            verdicts=VERDICTS,
            marks=MARKS,
            has_charts=any(one.chart for one in shown),
        )
    )
    return _said(folders), write(out / NAME, text.encode())


def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("mutransfer.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["powers"] = markdown.powers
    found.globals["plotly"] = _plotly
    found.globals["source"] = _source
    return found


def _plotly() -> str:
    """Plotly's whole library, compressed, in base64: the browser unpacks it when it nears the first chart."""
    text = (resources.files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(text, mtime=0)).decode()


def _source(name: str) -> Markup:
    """A style sheet or script of the templates, which is our own text, as it is."""
    return Markup((resources.files(__name__) / "templates" / name).read_text(encoding="utf-8"))


def _counts(folders: list[Folder]) -> dict[str, int]:
    """Verdict -> how many claims have it, in the order of `VERDICTS`."""
    found = Counter(claim.verdict for folder in folders for claim in folder.claims)
    return {verdict: found[verdict] for verdict in VERDICTS}


def _said(folders: list[Folder]) -> str:
    """For the terminal: a line a verdict."""
    found: dict[str, list[str]] = {}
    for folder in folders:
        for claim in folder.claims:
            found.setdefault(claim.verdict, []).append(_place(folder, claim))
    return "\n".join(f"{name} ({len(found[name])}): {', '.join(found[name])}" for name in VERDICTS if name in found)


def _place(folder: Folder, claim: Claim) -> str:
    """``Figure 7 in transformer_lm/bfloat16``, with a word where the data is a stand-in."""
    return f"{claim.source} in {folder.name}" + " (STAND-IN DATA)" * bool(folder.banner)
