"""What the paper claims of a figure, what our runs say of it, and whether that reproduces it.

The rule, declared before any result. A claim has parts; each part sets one verdict of the report (which has its own
rule, printed with the figure) beside what the paper says:

- sweep of learning rates: in SP the best one moves with width (`drifts`), in µP it stays (`stable`).
- loss through training (Figure 7): wider is better in µP (`holds`), and is not in SP at either rate (`fails`).
- coordinate check (Figure 5): every change grows or stays with width as theory says, where a theory is derived.
- landscape: a µP panel `transfers`, an SP panel `does not transfer`; `EXCEPTIONS` are the paper's own.
- searches: µTransfer is `better` than the methods that the paper says it beats.
- reverse µTransfer (Figure 21): the simulation is `predicted` to break where the real model does.

A part is ``reproduced`` where both agree, ``undecided`` where the report is, else ``not reproduced``. A claim is
``reproduced`` if all its parts are, ``in part`` if some are and the others undecided, ``mixed`` if some are and some
are contradicted, ``not reproduced`` if none is and some are contradicted, ``undecided`` if all are. What sets numbers
beside the paper's without a rule is ``not judged``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["reproduced", "in part", "mixed", "undecided", "not reproduced", "not judged"]
VERDICTS: dict[Verdict, str] = {
    "reproduced": "every part of the claim is seen here, by the rule of its figure",
    "in part": "some parts of the claim are seen, the others are undecided",
    "mixed": "some parts of the claim are seen, some are contradicted",
    "undecided": "the runs are too few or too noisy to say",
    "not reproduced": "no part is seen here, and some part is contradicted",
    "not judged": "numbers stand beside the paper's, but no rule compares them",
}
"""Each in words, in the order in which they are shown."""


@dataclass(frozen=True)
class Part:
    """One thing that the claim says, and what our report says of it."""

    what: str
    ours: str
    verdict: Verdict

    @classmethod
    def of(cls, what: str, ours: str, found: str, expected: str | None) -> Part:
        """``found`` and ``expected`` are verdicts of one report; None: the paper claims nothing."""
        if expected is None:
            return cls(what, ours, "not judged")
        agrees: Verdict = "reproduced" if found == expected else "not reproduced"
        return cls(what, ours, "undecided" if found == "undecided" else agrees)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, with its place there and in its words, and ours."""

    source: str
    statement: str
    parts: tuple[Part, ...]
    counts: str = ""
    """Ours in short, where the parts are many."""
    picture: str = ""
    """The stem of the picture that shows it, where others show another claim of the folder."""

    @property
    def verdict(self) -> Verdict:
        judged = [part.verdict for part in self.parts if part.verdict != "not judged"]
        found = set(judged)
        if not found:
            return "not judged"
        if found == {"reproduced"}:
            return "reproduced"
        if "reproduced" in found:
            return "mixed" if "not reproduced" in found else "in part"
        return "not reproduced" if "not reproduced" in found else "undecided"

    @property
    def ours(self) -> str:
        """In one line."""
        return self.counts or "; ".join(f"{part.what}: {part.ours}" for part in self.parts)


def paper_claim(provenance: Mapping[str, Any], parts: Sequence[Part], counts: str = "") -> Claim:
    """The claim that ``provenance["paper"]`` states."""
    paper = provenance["paper"]
    return Claim(paper["table_or_figure"], paper["statement"], tuple(parts), counts)
