"""A figure folder: its files read, with errors for the person at the keyboard; its table in Markdown; its kind.

And what the paper claims of a figure, what our runs say of it, and whether that reproduces it. The rule, declared
before any result. A claim has parts; each part sets one verdict of the report (which has its own rule, printed with the
figure) beside what the paper says:

- sweep of learning rates: in SP the best one moves with width (`drifts`), in µP it stays (`stable`).
- loss through training (Figure 7): wider is better in µP (`holds`), and is not in SP at either rate (`fails`).
- coordinate check (Figure 5): every change grows or stays with width as theory says, where a theory is derived.
- landscape: a µP panel `transfers`, an SP panel `does not transfer`; `EXCEPTIONS` are the paper's own.
- searches: µTransfer is `better` than the methods that the paper says it beats.
- reverse µTransfer (Figure 21): the simulation is `predicted` to break where the real model does.

A part is ``reproduced`` where both agree, ``undecided`` where the report is, else ``not reproduced``; of a claim,
`VERDICTS` says what each verdict means.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import pandas as pd

from mutransfer.errors import UserError
from mutransfer.files import write
from mutransfer.results import published
from mutransfer.results.schema import Facts

TABLE = "table.md"

Verdict = Literal["reproduced", "in part", "mixed", "undecided", "not reproduced", "not judged"]
VERDICTS: dict[Verdict, str] = {  # in words, in the order in which they are shown
    "reproduced": "every part of the claim is seen here, by the rule of its figure",
    "in part": "some parts of the claim are seen, the others are undecided",
    "mixed": "some parts of the claim are seen, some are contradicted",
    "undecided": "the runs are too few or too noisy to say",
    "not reproduced": "no part is seen here, and some part is contradicted",
    "not judged": "numbers stand beside the paper's, but no rule compares them",
}


@dataclass(frozen=True)
class Part:
    """One thing that the claim says, and what our report says of it."""

    what: str
    ours: str
    verdict: Verdict

    @classmethod
    def of(cls, what: str, ours: str, verdict: str, expected: str | None) -> Part:
        """``verdict``: of our report; ``expected``: of the paper's panel, None: it claims nothing."""
        if expected is None:
            return cls(what, ours, "not judged")
        agrees: Verdict = "reproduced" if verdict == expected else "not reproduced"
        return cls(what, ours, "undecided" if verdict == "undecided" else agrees)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, with its place there and in its words, and ours."""

    source: str
    statement: str
    parts: tuple[Part, ...]
    counts: str = ""  # ours in short, where the parts are many
    picture: str = ""  # the stem of the picture that shows it, where others show another claim of the folder

    @property
    def verdict(self) -> Verdict:
        judged = {part.verdict for part in self.parts} - {"not judged"}
        if len(judged) < 2:
            return next(iter(judged), "not judged")
        if "reproduced" in judged:
            return "mixed" if "not reproduced" in judged else "in part"
        return "not reproduced"

    @property
    def ours(self) -> str:
        return self.counts or "; ".join(f"{part.what}: {part.ours}" for part in self.parts)


@dataclass(frozen=True)
class Shown:
    """What a folder shows beside its own figure, such as the coordinate check of a sweep."""

    lines: list[str]  # for the terminal
    section: str  # of the folder's table, in Markdown, without a final newline
    claim: Claim
    pictures: Mapping[str, str] = field(default_factory=dict)  # stem of each, and what it is
    draw: Callable[[FigureFolder], list[Path]] = lambda folder: []  # writes the pictures; returns their paths


def read(path: Path) -> str:
    """Raises `UserError` if ``path`` is missing or unreadable."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run the experiment first, it writes it.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}; restore it or run the experiment again.") from error


def read_runs(path: Path, **options: Any) -> pd.DataFrame:
    """The runs table. Raises `UserError` if it is missing or no CSV. options: of `pandas.read_csv`."""
    try:
        return pd.read_csv(io.StringIO(read(path)), **(options or {"dtype": {"run_id": str}}))
    except ValueError as error:
        raise UserError(f"{path} is not a table ({str(error).splitlines()[0]}); run the experiment again.") from error


read_texts = partial(read_runs, dtype=str, keep_default_na=False)
"""Another table of the folder, its cells as they are written. Raises as `read_runs` does."""


def read_provenance(path: Path) -> Facts:
    """The JSON object at ``path``, which raises for a key that it lacks.

    Raises `UserError` if it is missing or malformed, and for a file beside it that is not the one that the run wrote:
    ``sha256`` is file name -> hash.
    """
    try:
        provenance = Facts(json.loads(read(path)), path)
    except (json.JSONDecodeError, AttributeError) as error:
        raise UserError(f"{path} is not JSON ({error}); run the experiment again.") from error
    for name, written in provenance.get("sha256", {}).items():
        table = path.with_name(name)
        if table.is_file() and hashlib.sha256(table.read_bytes()).hexdigest() != written:
            what = f"{table} was changed after the run: it is not the file that {path.name} has the sha256 of"
            raise UserError(f"{what}; restore it from the repository or run the experiment again.")
    return provenance


def points(seeds: str) -> str:
    """What the points of a figure over so many ``seeds`` are, in its caption."""
    return "one run per point" if seeds == "1 seed" else f"mean over {seeds}, band: standard error"


def grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a bar in a cell is escaped, so that it cannot open a column."""
    cells = [[str(cell).replace("|", r"\|").replace("\n", " ") for cell in row] for row in rows]
    lines = [header, ["---"] * len(header), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True)
class FigureFolder:
    """A figure folder, opened: its provenance, and what every table and every picture says of it.

    Of the provenance it reads title, scale, data_source, data_is_real, y_label, and of ``paper`` table_or_figure,
    statement and differs; what is asked for and missing there raises `UserError`. Optional are stands_in_for, notes and
    paper.ours.
    """

    path: Path
    provenance: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> FigureFolder:
        """Raises as `read_provenance` does."""
        return cls(path, read_provenance(path / "provenance.json"))

    def __getitem__(self, key: str) -> Any:
        """Of the provenance."""
        return self.provenance[key]

    @cached_property
    def runs(self) -> pd.DataFrame:
        """The runs table. Raises `UserError` if it is missing or no CSV."""
        return read_runs(self.path / "runs.csv")

    @property
    def banner(self) -> str:
        """What every figure and table of stand-in data says; empty for real data."""
        words = f"STAND-IN DATA, not {self.provenance.get('stands_in_for', 'CIFAR-10')}"
        return "" if self["data_is_real"] else words

    @property
    def source(self) -> str:
        """The end of a caption that says by itself what it shows."""
        return f"{self['title']}, scale '{self['scale']}'. Data: {self['data_source']}."

    def caption(self, words: str, after: str = "") -> str:
        """Of a picture: what it is ``after`` (default: the folder's figure of the paper), ``words``, on which data."""
        where = f"scale '{self['scale']}' (after {after or self['paper']['table_or_figure']} of the paper)"
        return f"{self['title']}, {where}. {words} Data: {self['data_source']}."

    def heading(self, count: str) -> list[str]:
        """Title, stand-in banner, data, scale and remarks of the table."""
        banner = [f"**{self.banner}**"] * bool(self.banner)
        data = f"Data: {self['data_source']}. Scale: {self['scale']}. {count}."
        return [f"# {self['title']}", *banner, data, *self.provenance.get("notes", ())]

    def beside_the_paper(self, claim: str, ours: Mapping[str, str], *, is_sure: bool = False) -> list[str]:
        """The paper's statement and numbers of this figure beside ours, and what differs.

        ours: metric of the published values -> our value, where ``paper.ours`` of the provenance has none;
        is_sure: also where it has one.
        """
        paper = self["paper"]
        where, planned = paper["table_or_figure"], paper.get("ours", {})
        both = {**planned, **ours} if is_sure else {**ours, **planned}
        rows = [("conclusion", paper["statement"], claim)]
        for p in published.rows(table_or_figure=where):
            name = f"{p.setup}: {p.metric}".replace("_", " ").replace("muP", "µP").replace("muT", "µT")
            rows.append((name, f"{p.value} {p.unit}".strip() + p.mark, both.get(p.metric, "-")))
        differs = [f"What differs in ours: {paper['differs']}"] if paper["differs"] else []
        return ["## The paper beside ours", grid(("", f"the paper, {where}", "ours"), rows), *differs]

    def claim(self, parts: Iterable[Part], counts: str = "") -> Claim:
        """The one that the provenance's ``paper`` states."""
        paper = self["paper"]
        return Claim(paper["table_or_figure"], paper["statement"], tuple(parts), counts)


R = TypeVar("R")


@dataclass(frozen=True)
class Described(Generic[R]):
    """A figure folder in words: its report and the table that says it. Nothing is drawn or written yet."""

    folder: FigureFolder
    report: R
    summary: str  # for the terminal
    parts: Sequence[str]  # of the table, in Markdown: headings, paragraphs, lists
    pictures: Mapping[str, str]  # those that the folder holds: their stems, and what each is

    @property
    def text(self) -> str:
        """The table."""
        return "\n\n".join(self.parts) + "\n"


@dataclass(frozen=True)
class Kind(Generic[R]):
    """A kind of figure folder: what its files say (R), what is drawn of it, which claims of the paper it concerns."""

    name: str  # as ``kind`` in provenance.json
    describe: Callable[[Path], Described[R]]  # raises `UserError` if a file or a run is missing, or malformed
    draw: Callable[[Described[R]], list[Path]]  # writes the pictures; the same files give the same bytes
    claims: Callable[[Described[R]], list[Claim]]

    def redraw(self, folder: Path) -> tuple[str, list[Path]]:
        """(Re)write all pictures and ``table.md`` of ``folder`` from its CSV files and provenance.json, untrained.

        Returns what it shows, for the terminal, and the paths. Raises `UserError` as ``describe`` does.
        """
        described = self.describe(folder)
        paths = self.draw(described)
        return described.summary, [*paths, write(folder / TABLE, described.text.encode())]
