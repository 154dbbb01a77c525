"""The figure folders of a ``figures/`` tree, each with its report, its claims and its pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutransfer.errors import UserError, unknown
from mutransfer.results.claims import Claim
from mutransfer.results.files import stand_in
from mutransfer.results.kinds import kind_of
from mutransfer.results.sections import Described


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
    kind = kind_of(path)
    described = kind.describe(path)
    claims = kind.claims(described.provenance, described.report)
    pictures = tuple(path / f"{stem}.png" for stem in described.pictures)
    for picture in pictures:
        if not picture.is_file():
            raise UserError(f"{picture} does not exist; draw it with ./reproduce.sh figures.")
    return Folder(name, kind.name, described, tuple(claims), pictures)


def _natural(text: str) -> list[tuple[int, str]]:
    """``figure_7`` before ``figure_13``."""
    return [(int(word), "") if word.isdigit() else (-1, word) for word in re.split(r"(\d+)", text)]
