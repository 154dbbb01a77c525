"""The figure folders of a ``figures/`` tree, each with its report, its claims and its pictures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutransfer.errors import UserError, unknown
from mutransfer.page.claims import CLAIMS, Claim
from mutransfer.reporting.equal_compute import describe_study
from mutransfer.reporting.files import read_provenance, stand_in
from mutransfer.reporting.landscape import describe_landscape
from mutransfer.reporting.learning import describe_curves
from mutransfer.reporting.length import describe_length
from mutransfer.reporting.render import describe_sweep
from mutransfer.reporting.repeated_searches import describe_searches
from mutransfer.reporting.search import describe_search
from mutransfer.reporting.sections import Described
from mutransfer.reporting.stability import describe_stability
from mutransfer.reporting.transfer_table import describe_transfer

DESCRIBE: dict[str, Callable[[Path], Described[Any]]] = {
    "sweep": describe_sweep,
    "search": describe_search,
    "landscape": describe_landscape,
    "learning": describe_curves,
    "length": describe_length,
    "stability": describe_stability,
    "study": describe_study,
    "searches": describe_searches,
    "transfer": describe_transfer,
}
"""By the kind of a figure."""
PICTURES = {
    "sweep": ("lr_vs_loss", "learning_curves", "coordinate_check"),
    "search": (),
    "landscape": ("landscape",),
    "learning": ("learning_curves",),
    "length": ("length",),
    "stability": ("stability",),
    "study": ("equal_compute", "loss_vs_tokens", "parallel_coordinates"),
    "searches": ("bleu", "pareto"),
    "transfer": ("losses",),
}
"""By the kind of a figure: stems of all that its folder may hold."""


@dataclass(frozen=True)
class Folder:
    """One figure folder, read."""

    name: str
    """Its path below ``figures/``, with slashes."""
    kind: str
    described: Described[Any]
    claims: tuple[Claim, ...]
    pictures: tuple[Path, ...]
    """The committed PNGs."""

    @property
    def experiment(self) -> str:
        return self.name.split("/")[0]

    @property
    def part(self) -> str:
        """``figure_7/bfloat16``; empty for the experiment's own sweep."""
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
        return stand_in(self.described.provenance)

    @property
    def paper_data(self) -> str:
        """The data set of the paper where ours is another one; else empty."""
        provenance = self.described.provenance
        wanted = str(provenance.get("stands_in_for", "CIFAR-10"))
        return "" if wanted.lower() in str(provenance["data_source"]).lower() else wanted


def read_folders(figures: Path, experiments: Iterable[str]) -> list[Folder]:
    """Every folder below ``figures`` with a ``provenance.json``: by experiment in the order given, then by name.

    Raises `UserError` if there is none; for an experiment or a kind of figure that is unknown; for a missing picture;
    and as the table of the folder does.
    """
    order = list(experiments)
    paths = sorted(path.parent for path in figures.rglob("provenance.json"))
    if not paths:
        raise UserError(f"{figures} holds no figure (no provenance.json); run an experiment first, it writes one.")
    found = [_read(path, path.relative_to(figures).as_posix()) for path in paths]
    for folder in found:
        if folder.experiment not in order:
            raise unknown("experiment of a figure folder", folder.experiment, order)
    return sorted(found, key=lambda one: (order.index(one.experiment), _natural(one.part)))


def _read(path: Path, name: str) -> Folder:
    provenance = read_provenance(path / "provenance.json", ())
    kind = "search" if "search" in provenance else provenance.get("kind", "sweep")
    if kind not in DESCRIBE:
        raise unknown(f"kind of figure in {path / 'provenance.json'}", kind, DESCRIBE)
    described = DESCRIBE[kind](path)
    claims = CLAIMS[kind](described.provenance, described.report)
    return Folder(name, kind, described, tuple(claims), _pictures(path, kind, described))


def _pictures(path: Path, kind: str, described: Described[Any]) -> tuple[Path, ...]:
    absent: set[str] = set()
    if kind == "sweep":
        absent |= {"learning_curves"} if described.report.learning is None else set()
        absent |= {"coordinate_check"} if described.report.coordinates is None else set()
    if kind == "searches" and described.report[1] is None:
        absent.add("pareto")
    found = [path / f"{stem}.png" for stem in PICTURES[kind] if stem not in absent]
    for picture in found:
        if not picture.is_file():
            raise UserError(f"{picture} does not exist; draw it with ./reproduce.sh figures.")
    return tuple(found)


def _natural(text: str) -> list[tuple[int, str]]:
    """``figure_7`` before ``figure_13``."""
    return [(int(word), "") if word.isdigit() else (-1, word) for word in re.split(r"(\d+)", text)]
