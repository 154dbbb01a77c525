"""One page with every figure, claim and number of a ``figures/`` tree: a file that needs no other and no network."""

from __future__ import annotations

import base64
import gzip
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image
from plotly.offline import get_plotlyjs

from mutransfer.errors import UserError, known
from mutransfer.files import write
from mutransfer.page import markdown
from mutransfer.page.charts import Chart, sweep_chart
from mutransfer.results.folder import VERDICTS, Claim, Described, Kind
from mutransfer.results.kinds import kind_of

MARKS = {"reproduced": "✓", "in part": "◔", "mixed": "±", "undecided": "?", "not reproduced": "✗", "not judged": "–"}
"""Beside the colour of a verdict, and its word."""
COLOURS = 128
"""Of a picture on the page, the grey of its strips among them. They have thousands, most of them of smoothed edges."""


@dataclass(frozen=True)
class Picture:
    """A committed picture, as a data URI; ``alt`` says in words what it shows; pixels."""

    what: str
    alt: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Folder:
    """One figure folder, read, as the template shows it; ``name``: its path below ``figures/``, with slashes."""

    path: Path
    name: str
    kind: Kind[Any]
    described: Described[Any]
    claims: tuple[Claim, ...]

    @property
    def provenance(self) -> Mapping[str, Any]:
        return self.described.folder.provenance

    @property
    def experiment(self) -> str:
        return self.name.split("/")[0]

    @property
    def part(self) -> str:  # "figure_7/bfloat16"; "" for the experiment's own sweep
        return self.name.partition("/")[2]

    def aside(self, claim: Claim) -> str:
        """What of `part` its claim's name does not say: ``bfloat16`` of ``figure_7/bfloat16``, if it is Figure 7."""
        own = claim.source.lower().replace(" ", "_")
        return " · ".join(word for word in self.part.split("/") if word != own)

    @property
    def slug(self) -> str:
        """The id of its section."""
        return f"figure-{self.name.replace('/', '-')}"

    @property
    def banner(self) -> str:
        """What a stand-in is not; empty for real data."""
        return self.described.folder.banner

    @property
    def paper_data(self) -> str:
        """The data set of the paper where ours is another one; else empty."""
        wanted = str(self.provenance.get("stands_in_for", "CIFAR-10"))
        return "" if wanted.lower() in str(self.provenance["data_source"]).lower() else wanted

    @cached_property
    def chart(self) -> Chart | None:
        return sweep_chart(self.described) if self.kind.name == "sweep" else None

    @cached_property
    def pictures(self) -> list[Picture]:
        """The committed PNGs. Raises `UserError` if one is no picture."""
        pictures = []
        for stem, what in self.described.pictures.items():
            claim = next((claim for claim in self.claims if claim.picture == stem), self.claims[0])
            alt = f"{what}. {claim.ours}. Verdict: {claim.verdict}."
            pictures.append(Picture(what, alt, *_embedded(self.path / f"{stem}.png")))
        return pictures

    @property
    def table(self) -> tuple[Markup, dict[str, Markup]]:
        return markdown.sections(self.described.text)

    @property
    def facts(self) -> dict[str, str]:
        """Where the numbers come from and what they cost."""
        p, runs = self.provenance, self.provenance.get("runs", {})
        data = f"{'real' if p['data_is_real'] else self.banner}: {p['data_source']}"
        if self.paper_data and p["data_is_real"]:
            data += f" (the paper: {self.paper_data})"
        hours = p.get("train_hours_of_one_worker")
        facts = {"data": data, "fingerprint": p.get("data_fingerprint"), "scale": p["scale"]}
        facts["cost"] = None if hours is None else f"{hours:g} hours of one worker"
        names = {"machine": "device", "commit": "commit", "PyTorch": "torch", "threads a worker": "threads"}
        facts |= {name: ", ".join(map(str, runs.get(key, ()))) for name, key in names.items()}
        facts["numbers"] = f"figures/{self.name}/runs.csv"
        return {name: str(text) for name, text in facts.items() if text}


def write_page(figures: Path, out: Path, *, experiments: Mapping[str, str]) -> tuple[str, Path]:
    """Write ``out/index.html`` from the tree of figure folders below ``figures``; returns a text for the terminal
    (which claims of the paper were reproduced) and the path.

    Every number comes from the folders' CSV files and ``provenance.json``, or from ``published/values.csv``, through
    the reports that also write ``table.md``; the pictures are the committed PNGs. ``experiments``: name -> its summary,
    in the order of the page; one without figures is left out.

    Raises `UserError` as `read_folders` does, and if the page cannot be written.
    """
    folders = read_folders(figures, experiments)
    groups = {name: [*group] for name, group in groupby(folders, key=lambda folder: folder.experiment)}
    counts = Counter({verdict: 0 for verdict in VERDICTS})
    counts.update(claim.verdict for folder in folders for claim in folder.claims)
    loader, templates = PackageLoader("mutransfer.page"), resources.files(__name__) / "templates"
    blocks: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, **blocks)
    environment.filters["powers"] = markdown.powers
    environment.globals |= {  # our own style sheet and script as they are
        "plotly": _plotly,
        "source": lambda name: Markup((templates / name).read_text(encoding="utf-8")),
    }
    text = environment.get_template("page.html.j2").render(
        groups=groups,
        summaries=experiments,
        counts=counts,
        verdicts=VERDICTS,
        marks=MARKS,
        has_charts=any(folder.chart for folder in folders),
    )
    return _said(folders), write(out / "index.html", text.encode())


def read_folders(figures: Path, experiments: Iterable[str]) -> list[Folder]:
    """Every folder below ``figures`` with a ``provenance.json``: by experiment in the order given, then by name.

    Raises `UserError` if there is none; for an experiment or a kind of figure that is unknown; for a missing picture;
    and as the table of the folder does.
    """
    order, folders = list(experiments), list[Folder]()
    for path in sorted(path.parent for path in figures.rglob("provenance.json")):
        kind, name = kind_of(path), path.relative_to(figures).as_posix()
        described = kind.describe(path)
        for stem in described.pictures:
            if not (picture := path / f"{stem}.png").is_file():
                raise UserError(f"{picture} does not exist; draw it with ./reproduce.sh figures.")
        folders.append(Folder(path, name, kind, described, tuple(kind.claims(described))))
        known("experiment of a figure folder", folders[-1].experiment, order)
    if not folders:
        raise UserError(f"{figures} holds no figure (no provenance.json); run an experiment first, it writes one.")

    def place(folder: Folder) -> tuple[int, list[tuple[int, str]]]:
        """``figure_7`` before ``figure_13``."""
        words = re.split(r"(\d+)", folder.part)
        return order.index(folder.experiment), [(int(w), "") if w.isdigit() else (-1, w) for w in words]

    return sorted(folders, key=place)


def _embedded(path: Path) -> tuple[str, int, int]:
    """The PNG at ``path`` with `COLOURS` colours, which is a third of its size: data URI, width, height."""
    try:
        with Image.open(path) as image:
            small = image.convert("RGB").quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    except OSError as error:
        raise UserError(f"{path} is no picture ({error}); draw it again with ./reproduce.sh figures.") from error
    buffer = io.BytesIO()
    small.save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}", *small.size


@cache
def _plotly() -> str:
    """Plotly's whole library, compressed, in base64: the browser unpacks it when it nears the first chart."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def _said(folders: Iterable[Folder]) -> str:
    """For the terminal: a line for every verdict, such as ``undecided (1): Figure 7 in transformer_lm/bfloat16``."""
    places: dict[str, list[str]] = {name: [] for name in VERDICTS}
    for folder in folders:
        for claim in folder.claims:
            place = f"{claim.source} in {folder.name}" + " (STAND-IN DATA)" * bool(folder.banner)
            places[claim.verdict].append(place)
    return "\n".join(f"{name} ({len(where)}): {', '.join(where)}" for name, where in places.items() if where)
