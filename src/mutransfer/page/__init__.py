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
from mutransfer.page.claims import VERDICTS, Claim
from mutransfer.page.folders import Folder, read_folders
from mutransfer.page.pictures import Picture, embed

NAME = "index.html"
MARKS = {"reproduced": "✓", "in part": "◔", "mixed": "±", "undecided": "?", "not reproduced": "✗", "not judged": "–"}
"""Beside the colour of a verdict, and its word."""
SHOWS = {
    "lr_vs_loss": "Training loss against learning rate, a line a width",
    "learning_curves": "Training loss through training, a line a width",
    "coordinate_check": "Growth with width of the change of activations over a few steps",
    "landscape": "Loss against one hyperparameter a panel, a line for every value of what is scaled",
    "length": "Test accuracy and training loss against the length of training",
    "stability": "Training loss against learning rate: real SP models beside one µP model that simulates them",
    "equal_compute": "Final losses of the target by method, at equal compute",
    "loss_vs_tokens": "Training loss against tokens, a line a width",
    "parallel_coordinates": "The samples of the search, a line a sample over the axes of its hyperparameters",
    "bleu": "BLEU of the target by method, over the searches",
    "pareto": "Median BLEU of a search against its compute and its number of samples",
    "losses": "Validation losses of the targets by method",
}
"""Stem of a picture -> what it is."""
CLAIM_OF = {"learning_curves": "Figure 7", "coordinate_check": "Figure 5", "loss_vs_tokens": "Figure 8"}
"""Stem of a picture that shows another claim than its folder's first."""
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
            claims = {claim.source: claim for claim in self.folder.claims}
            claim = claims.get(CLAIM_OF.get(path.stem, ""), self.folder.claims[0])
            alt = f"{SHOWS[path.stem]}. {claim.ours}. Verdict: {claim.verdict}."
            found.append((path.stem, SHOWS[path.stem], alt, embed(path)))
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
