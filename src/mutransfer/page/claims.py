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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mutransfer.reporting import front
from mutransfer.reporting.landscape import panel_counts
from mutransfer.reporting.render import Sweep
from mutransfer.reporting.transfer_table import SETUPS
from mutransfer.results.accuracy import AccuracyReport
from mutransfer.results.coordinates import CoordFrame, against_theory
from mutransfer.results.equal_compute import EqualCompute
from mutransfer.results.estimate import label, number, power, span
from mutransfer.results.front import Fronts
from mutransfer.results.landscape import PanelReport
from mutransfer.results.learning import LearningReport
from mutransfer.results.length import LengthReport
from mutransfer.results.repeated_searches import RepeatedSearches, difference_text
from mutransfer.results.search import SearchReport
from mutransfer.results.stability import StabilityReport
from mutransfer.results.transfer_table import LABELS, TransferTable

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
EXCEPTIONS: dict[tuple[str, str, str, str], str | None] = {
    ("Figure 4", "mup", "init std", "depth"): None,  # "but for the init std across depth"
    ("App G.1.1", "sp", "alpha_output", "width"): None,  # Figure 16 draws SP's learning rate only
    ("Figure 10", "mup", "d_k = width / 4", "width"): "does not transfer",  # the panel that d_k is too small in
}
"""(figure, parametrization, x or heading, line) -> the verdict that the paper's panel has; None: it claims nothing."""
FIGURE_5 = (
    "With Adam, in SP the logits and the attention logits blow up with width within a step, the word embeddings do "
    "not; in µP all stay."
)
FIGURE_7 = "In µP the wider model is at least as good at every step; in SP it is not, at either rate."
ACCURACY = "With hyperparameters copied from the narrow network, the widest is more accurate in µP than in SP."
ALGORITHM_1 = "Tune a narrow model in µP, and copy its hyperparameters to the wide one."


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


def sweep(provenance: Mapping[str, Any], report: Sweep) -> list[Claim]:
    """The best learning rate over widths, and what else the folder shows (Figures 5 and 7, Table 12)."""
    expected = {"sp": ("SP: the best learning rate moves", "drifts"), "mup": ("µP: it stays", "stable")}
    parts = []
    for result in report.transfer.results:
        what, verdict = expected.get(result.name, (label(result.name), None))
        moves = f"{number(result.slope.value)} {span(*result.interval)} octaves per doubling"
        parts.append(Part.of(what, f"{result.verdict}, {moves}", result.verdict, verdict))
    claims = [_paper(provenance, parts)]
    if report.learning:
        claims.append(Claim("Figure 7", FIGURE_7, _wider(*report.learning)))
    if report.coordinates:
        claims.append(_coordinates(*report.coordinates))
    if report.accuracy:
        claims.append(_accuracy(report.accuracy, str(provenance["accuracy"])))
    return claims


def curves(provenance: Mapping[str, Any], report: tuple[dict[str, LearningReport], dict[str, str]]) -> list[Claim]:
    """Figure 7; a figure of scores (BLEU, tasks) sets numbers beside the paper's, and no rule compares them."""
    parts = _wider(*report)
    if "translations" in provenance or "scores" in provenance:
        return [_paper(provenance, [Part(one.what, one.ours, "not judged") for one in parts])]
    return [_paper(provenance, parts)]


def landscape(provenance: Mapping[str, Any], reports: dict[str, PanelReport]) -> list[Claim]:
    """A part a panel."""
    usual = {"mup": "transfers", "sp": "does not transfer"}
    figure, parts = provenance["paper"]["table_or_figure"], []
    for key, report in reports.items():
        panel = provenance["panels"][key]
        name, line = panel["parametrization"], panel["line_name"]
        wanted = usual.get(name)
        for x in (panel["x_name"], panel["heading"]):
            wanted = EXCEPTIONS.get((figure, name, x, line), wanted)
        words = f"{label(name)}: {panel['x_name']} across {line}"
        words += f", {panel['heading']}" * (panel["heading"] != panel["x_name"])
        parts.append(Part.of(words, report.text, report.verdict, wanted))
    return [_paper(provenance, parts, counts="; ".join(panel_counts(reports, provenance["panels"])))]


def length(provenance: Mapping[str, Any], report: LengthReport) -> list[Claim]:
    """Accuracies beside the paper's, of another length of training: not judged."""
    first, *more = str(report).split("\n")
    return [
        _paper(provenance, [Part("longest", first.split(": ", 1)[1], "not judged")], counts=" ".join([first, *more]))
    ]


def stability(provenance: Mapping[str, Any], report: StabilityReport) -> list[Claim]:
    """Figure 21."""
    line = str(report).split("\n")[0]
    return [_paper(provenance, [Part.of("simulation", line, report.verdict, "predicted")], counts=line)]


def study(provenance: Mapping[str, Any], report: tuple[EqualCompute, LearningReport]) -> list[Claim]:
    """µTransfer against every alternative at equal compute, and Figure 8."""
    parts = [
        Part.of(
            f"µTransfer against {one.other}",
            f"{one.verdict}, {one.difference_text} nats",
            one.verdict,
            "better",
        )
        for one in report[0].comparisons()
    ]
    return [
        _paper(provenance, parts),
        Claim("Figure 8", FIGURE_7.split(";")[0] + ".", _wider({"": report[1]}, {"": ""})),
    ]


def searches(provenance: Mapping[str, Any], report: tuple[RepeatedSearches, Fronts | None]) -> list[Claim]:
    """Tables 4 and 5: better than direct tuning and naive transfer, about equal to the default; or Figure 6."""
    found, fronts = report
    if fronts:
        equal, same = fronts.duel("compute"), fronts.duel("samples")
        parts = [
            Part.of("at equal compute", equal.text, equal.verdict, "µTransfer dominates"),
            Part.of("at equal number of samples", same.text, same.verdict, None),
        ]
        return [Claim("Figure 6", front.PAPER[0].upper() + front.PAPER[1:] + ".", tuple(parts))]
    beats = {"direct": "better", "naive": "better"}
    return [
        _paper(
            provenance,
            [
                Part.of(
                    f"µTransfer against {found.label(name)}",
                    f"{one.text}, {difference_text(one.difference)} BLEU",
                    one.verdict,
                    beats.get(name),
                )
                for (name, metric), one in found.comparisons.items()
                if metric == "bleu_valid"
            ],
        )
    ]


def transfer(provenance: Mapping[str, Any], report: TransferTable) -> list[Claim]:
    """Table 6: better than the default and than naive transfer, on what is wider and deeper."""
    parts = [
        Part.of(
            f"{target}, µTransfer against {LABELS[one.other]}",
            f"{one.text}, {one.difference_text}",
            one.verdict,
            "better" if one.other in SETUPS else None,
        )
        for target in report.targets("both")
        for one in report.comparisons(target)
    ]
    return [_paper(provenance, parts)]


def search(provenance: Mapping[str, Any], report: SearchReport) -> list[Claim]:
    """Algorithm 1, one search, one run a sample: not judged."""
    runs = {"copied in µP": report.target, "tuned and copied in SP": report.naive}
    parts = [
        Part(
            f"{what} to width {run.width}",
            f"training loss {number(run.train_loss, 4)}" if run.status == "finished" else str(run.status),
            "not judged",
        )
        for what, run in runs.items()
        if run is not None
    ]
    return [Claim("Algorithm 1", ALGORITHM_1, tuple(parts))]


CLAIMS: dict[str, Callable[[Mapping[str, Any], Any], list[Claim]]] = {
    "sweep": sweep,
    "search": search,
    "landscape": landscape,
    "learning": curves,
    "length": length,
    "stability": stability,
    "study": study,
    "searches": searches,
    "transfer": transfer,
}


def _paper(provenance: Mapping[str, Any], parts: Sequence[Part], counts: str = "") -> Claim:
    paper = provenance["paper"]
    return Claim(paper["table_or_figure"], paper["statement"], tuple(parts), counts)


def _wider(reports: Mapping[str, LearningReport], headings: Mapping[str, str]) -> tuple[Part, ...]:
    expected = {"mup": "holds", "sp": "fails"}
    chosen = [reports[panel] for panel in headings]
    return tuple(
        Part.of(
            f"{label(one.parametrization)} at {power(one.log2_lr, 1)}, wider is better",
            f"{one.verdict}, behind at {one.whole.text}",
            one.verdict,
            expected.get(one.parametrization),
        )
        for one in chosen
    )


def _coordinates(frames: Sequence[CoordFrame], activations: Mapping[str, str]) -> Claim:
    parts = []
    for frame in frames:
        for name, heading in activations.items():
            quantity = heading.partition(",")[0]
            told = against_theory(frame, name, quantity)
            has_theory = frame.expected(quantity) is not None
            found = "as theory says" if told.endswith("as theory says") else told
            what = f"{label(frame.parametrization)}: {heading}"
            parts.append(Part.of(what, told, found, "as theory says" if has_theory else None))
    return Claim("Figure 5", FIGURE_5, tuple(parts))


def _accuracy(report: AccuracyReport, table: str) -> Claim:
    difference = (
        f"{number(100 * report.difference.value)} {span(100 * report.difference.low, 100 * report.difference.high)}"
    )
    part = Part.of(
        "accuracy in µP less that in SP, at the widest",
        f"{report.verdict}, {difference} points",
        report.verdict,
        "higher",
    )
    return Claim(table, ACCURACY, (part,))
