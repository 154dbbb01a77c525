"""The table and the figures of repeated searches: Tables 4 and 5 and Figure 6 of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mutransfer.errors import UserError
from mutransfer.reporting.bleu_figure import bleu_figure, count
from mutransfer.reporting.front import PAPER, front_figure, front_section, front_sentences
from mutransfer.results import published
from mutransfer.results.claims import Claim, Part, paper_claim
from mutransfer.results.equal_compute import EQUAL
from mutransfer.results.estimate import Estimate, number
from mutransfer.results.files import read_figure, read_runs, stand_in
from mutransfer.results.front import Fronts
from mutransfer.results.repeated_searches import METHODS, RULE, Against, RepeatedSearches, difference_text
from mutransfer.results.search_runs import DEFAULT, METRICS, Metric
from mutransfer.results.sections import Described, Kind, heading_section, joined
from mutransfer.results.table import grid

KEYS = ("table", "percentiles", "sizes", "default_lr", "space")
"""Of provenance["searches"], beside `mutransfer.results.search_runs.FACTS`."""
SETUPS = {
    "default": "fairseq default",
    "direct": "tuning on 1x",
    "naive": "naive transfer from 0.25x (SP)",
    "mutransfer": "muTransfer from 0.25x",
}
"""As published/values.csv names the methods."""
WORDS = {0: "worst", 50: "median", 100: "best"}


def _draw(folder: Path, described: Described[Any]) -> list[Path]:
    provenance, (report, fronts) = described.provenance, described.report
    banner = stand_in(provenance)
    source = f"{provenance['title']}, scale '{provenance['scale']}'. Data: {provenance['data_source']}."
    caption = f"{_caption(report)} After {report.facts['table']} of the paper. {source}"
    paths = bleu_figure(report, out=folder, caption=caption, banner=banner)
    if fronts:
        paths += front_figure(fronts, out=folder, caption=f"{_front_caption(report)} {source}", banner=banner)
    return paths


def describe_searches(folder: Path) -> Described[tuple[RepeatedSearches, Fronts | None]]:
    """What `render_searches` writes in ``table.md``; raises as it does."""
    provenance = read_figure(folder, ("searches",))
    facts = provenance["searches"]
    if missing := [key for key in KEYS if not isinstance(facts, dict) or key not in facts]:
        raise UserError(f"{folder / 'provenance.json'} lacks searches.{', searches.'.join(missing)}; run it again.")
    percents = facts["percentiles"]
    if not percents or not all(type(one) in (int, float) and 0 <= one <= 100 for one in percents):
        raise UserError(f"{folder / 'provenance.json'}: percentiles are {percents}, expected numbers from 0 to 100.")
    report = RepeatedSearches(read_runs(folder / "runs.csv"), facts)
    fronts = Fronts.of(report, facts["sizes"])
    summary = [sentence(report, one) for (_, metric), one in report.comparisons.items() if metric == "bleu_valid"]
    summary += [compute_sentence(report), _distinct(report), *(front_sentences(fronts) if fronts else [])]
    differs = [one.strip().rstrip(".") for one in provenance["paper"]["differs"].split("; ") if one.strip()]
    parts = [
        *heading_section(provenance, _count(report)),
        "## Who wins",
        "\n".join(f"- {line}" for line in summary),
        f"## Validation BLEU beside {facts['table']} of the paper",
        _table(report, "bleu_valid"),
        _table_caption(report),
        "## Test BLEU",
        _table(report, "bleu_test"),
        "The same searches, selected by validation loss as above; the paper has no test BLEU.",
        "## µTransfer against each method",
        _comparisons(report),
        "An infinite difference: the median search of one of the two diverged.",
        *(front_section(fronts) if fronts else []),
        "## What was selected",
        *_selected(report),
        f"fairseq's default has the learning rate {facts['default_lr']:g} and all multipliers 1, in SP.",
        *([f"BLEU: `{provenance['signature']}`."] if provenance.get("signature") else []),
        "## The paper beside ours",
        _paper(report, provenance),
        *(["What differs in ours:", "\n".join(f"{k}. {one}." for k, one in enumerate(differs, 1))] if differs else []),
        "## How to read it",
        RULE,
    ]
    pictures = {"bleu": "BLEU of the target by method, over the searches"}
    if fronts:
        pictures["pareto"] = "Median BLEU of a search against its compute and its number of samples"
    return Described(provenance, (report, fronts), "\n".join(summary), joined(parts), pictures)


def sentence(report: RepeatedSearches, one: Against) -> str:
    """One verdict, for the terminal and the table."""
    return (
        f"µTransfer against {report.label(one.other)}: {one.text}; {METRICS[one.metric]} higher in {one.share_text}, "
        f"difference of the medians {difference_text(one.difference)} BLEU"
    )


def compute_sentence(report: RepeatedSearches) -> str:
    """Whether µTransfer and conventional tuning spent the same."""
    direct, ours, unit = report.methods["direct"], report.methods["mutransfer"], report.training
    text = f"{'equal' if report.gap('compute') <= EQUAL else 'NOT equal'} within {EQUAL:.0%}"
    return (
        f"compute of a search, in trainings of the target: µTransfer {ours.compute / unit:.2f}, tuning on 1x "
        f"{direct.compute / unit:.2f}: {text} ({report.gap('compute'):.1%} apart; with no diverged run stopped "
        f"{ours.planned / unit:.2f} and {direct.planned / unit:.2f}, {report.gap('planned'):.1%})"
    )


def _distinct(report: RepeatedSearches) -> str:
    """How many samples were selected at all: the searches overlap."""
    counts = {name: len(set(report.methods[name].chosen) - {None}) for name in ("mutransfer", "direct")}
    return (
        f"the {report.facts['searches']} searches selected {counts['mutransfer']} of the {report.facts['samples']} "
        f"samples of the proxy's pool (µTransfer, naive transfer) and {counts['direct']} of the "
        f"{report.facts['direct_samples']} of the target's (tuning on 1x)"
    )


def cell(one: Estimate) -> str:
    """``35.33 [35.20, 35.41]``, ``diverged`` where it is so in every draw."""
    return "diverged" if one.value == one.high == -float("inf") else one.text()


def _count(report: RepeatedSearches) -> str:
    facts = report.facts
    return (
        f"{facts['searches']} searches, each looking at {facts['search']} of {facts['samples']} samples trained at "
        f"width {facts['proxy_width']}, or at {facts['direct']} of {facts['direct_samples']} trained at the target's "
        f"width {facts['target_width']} (search seed {facts['seed']}); {_inits(report)} of every selected sample"
    )


def _inits(report: RepeatedSearches) -> str:
    inits = report.facts["inits"]
    return f"{inits} init{'s' * (inits > 1)}"


def _caption(report: RepeatedSearches) -> str:
    facts = report.facts
    return (
        f"BLEU of the target in {facts['searches']} searches, each the mean over {_inits(report)} of the sample with "
        f"the least validation loss: of {facts['search']} of {facts['samples']} on the proxy, copied in µP (µTransfer) "
        f"and in SP (naive transfer), or of {facts['direct']} of {facts['direct_samples']} on the target in SP (tuning "
        "on 1x). Verdict: by the difference of the medians. Compute: mean of a search, in trainings of the target. The "
        "searches are resampled from one pool: an interval says nothing about another pool."
    )


def _front_caption(report: RepeatedSearches) -> str:
    facts = report.facts
    return (
        f"Median over {facts['searches']} searches of validation BLEU (after Figure 6 of the paper), each the mean "
        f"over {_inits(report)} of the selected sample; compute includes the tuning. All searches look at one pool of "
        f"{facts['samples']} samples on the proxy, or of {facts['direct_samples']} on the target: as their size nears "
        "it, they become the same one, and the band narrows by construction."
    )


def _table_caption(report: RepeatedSearches) -> str:
    one = f"one training of the target is {report.training:.4g} FLOPs"
    within = "" if report.facts["inits"] > 1 else ", and with one init nothing of the training seed"
    return (
        f"Percentiles over {report.facts['searches']} searches, worst first, with 95% intervals; fairseq's default is "
        f"the mean over {_inits(report)}. The searches are resampled from one pool, so an interval says nothing about "
        f"another pool{within}. Compute: mean of a search with its tuning, in trainings of the target ({one})."
    )


def _heading(percent: float) -> str:
    return f"p{percent:g}" + (f" ({WORDS[int(percent)]})" if percent in WORDS else "")


def _table(report: RepeatedSearches, metric: Metric) -> str:
    """A row a method; beside validation BLEU, the paper's numbers."""
    percents, is_paper = report.facts["percentiles"], metric == "bleu_valid"
    header = ["", "compute (target trainings)", "samples a search", *map(_heading, percents)]
    paper = _published(report)
    rows = []
    for name, one in report.methods.items():
        cells = [f"{one.compute / report.training:.2f}", str(one.looked) if one.looked else "-"]
        if name == "default":
            cells += ["-"] * (len(percents) - 1)
            cells.append(f"mean {cell(Estimate.mean(report.table.inits(name, metric)[DEFAULT]))}")
        else:
            cells += [cell(one.percentile(percent, metric)) for percent in percents]
        if is_paper:
            cells = [text for pair in zip(cells, paper[name], strict=True) for text in pair]
        rows.append([report.label(name), *cells, *(("-", "-") if name == "default" else count(one))])
    if is_paper:
        header = [header[0], *(text for word in header[1:] for text in (word, "the paper"))]
    return grid([*header, "target diverged", "no winner"], rows)


def _published(report: RepeatedSearches) -> dict[str, list[str]]:
    """Method -> the paper's compute, samples and percentiles; a dash for what values.csv does not have."""
    found = {(one.setup, one.metric): one for one in published.rows(table_or_figure=report.facts["table"])}

    def text(name: str, *metrics: str) -> str:
        for metric in metrics:
            if one := found.get((SETUPS[name], metric)):
                mark = "" if one.confidence == "VERIFIED" else f" ({one.confidence.lower()})"
                return one.value + (one.unit if one.unit == "x" else "") + mark
        return "-"

    return {
        name: [
            text(name, "total compute"),
            text(name, "HP samples"),
            *(
                text(name, f"val BLEU p{percent:g}", f"val BLEU {WORDS.get(int(percent), '')}", "outcome")
                for percent in report.facts["percentiles"]
            ),
        ]
        for name in METHODS
    }


def _comparisons(report: RepeatedSearches) -> str:
    header = ("", "metric", "µTransfer is higher in", "difference of the medians, 95% interval", "verdict")
    rows = []
    for (name, metric), one in report.comparisons.items():
        verdict = f"**{one.text}**" if metric == "bleu_valid" else one.text
        cells = (METRICS[metric], one.share_text, difference_text(one.difference), verdict)
        rows.append((f"against {report.label(name)}", *cells))
    return grid(header, rows)


def _selected(report: RepeatedSearches) -> list[str]:
    """The samples that the table's searches selected, best first, with their targets."""
    mup, sp, direct = ("mutransfer", "naive", "direct")
    return [
        f"From the proxy (width {report.facts['proxy_width']}), by {report.facts['search']} samples a search:",
        _chosen(report, "proxy", (mup, sp)),
        f"From the target in SP, by {report.facts['direct']} samples a search:",
        _chosen(report, "direct_pool", (direct,)),
    ]


def _chosen(report: RepeatedSearches, pool: str, methods: Sequence[str]) -> str:
    space, runs = report.facts["space"], report.parts[pool]
    chosen, loss = report.methods[methods[0]].chosen, runs["test_loss"]
    names = sorted(space, key=lambda name: (name != "lr", name))
    header = ["sample", "searches", *(f"{name}, of {space[name]}" for name in names), "validation loss in the pool"]
    header += [f"{report.label(name)}: validation, test BLEU, validation loss" for name in methods]
    rows = [
        [
            str(i),
            f"{chosen.count(i)} of {len(chosen)}",
            *(_value(runs.loc[i], name) for name in names),
            number(loss[i], 4),
            *(_both(report, name, i) for name in methods),
        ]
        for i in sorted({i for i in chosen if i is not None}, key=lambda i: (loss[i], i))
    ]
    return grid(header, rows) if rows else "Nothing: all samples diverged."


def _value(run: pd.Series, name: str) -> str:
    value = 2.0 ** run["log2_lr"] if name == "lr" else run[name]
    return value if isinstance(value, str) else f"{value:.6g}"


def _both(report: RepeatedSearches, name: str, sample: int) -> str:
    """``35.10, 33.90, 1.2345``, or how many inits diverged."""
    values = report.table.inits(name, "bleu_valid")[sample]
    if lost := int((values == -float("inf")).sum()):
        return f"{lost} of {len(values)} inits diverged"
    scores = [number(float(report.table.inits(name, metric)[sample].mean())) for metric in METRICS]
    loss = float(report.parts[name].loc[[sample], "test_loss"].mean())
    return ", ".join([*scores, number(loss, 4)])


def _paper(report: RepeatedSearches, provenance: Mapping[str, Any]) -> str:
    """The paper's conclusion and its numbers of searches and inits beside ours."""
    facts = report.facts
    claim = "; ".join(
        f"{one.verdict} {'against' if one.verdict == 'undecided' else 'than'} {report.label(name)}"
        for (name, metric), one in report.comparisons.items()
        if metric == "bleu_valid"
    )
    rows = [("conclusion", provenance["paper"]["statement"], f"µTransfer: {claim}")]
    ours = {"independent search trials": facts["searches"], "inits per selected HP": facts["inits"]}
    found = published.rows(table_or_figure=facts["table"])
    also = published.rows(table_or_figure="Section 7.1")
    for one in (*found, *(one for one in also if one.experiment == found[0].experiment)):
        if one.metric in ours:
            rows.append((f"{one.table_or_figure}: {one.metric}", one.value, str(ours[one.metric])))
    return grid(("", "the paper", "ours"), rows)


def _claims(provenance: Mapping[str, Any], report: tuple[RepeatedSearches, Fronts | None]) -> list[Claim]:
    """Tables 4 and 5: better than direct tuning and naive transfer, about equal to the default; or Figure 6."""
    found, fronts = report
    if fronts:
        equal, same = fronts.duel("compute"), fronts.duel("samples")
        parts = [
            Part.of("at equal compute", equal.text, equal.verdict, "µTransfer dominates"),
            Part.of("at equal number of samples", same.text, same.verdict, None),
        ]
        return [Claim("Figure 6", PAPER[0].upper() + PAPER[1:] + ".", tuple(parts))]
    beats = {"direct": "better", "naive": "better"}
    return [
        paper_claim(
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


SEARCHES = Kind("searches", describe_searches, _draw, _claims)
"""A folder with the figures and ``table.md`` of repeated searches in ``folder``.

Figures: ``bleu`` (outcomes by method) and, where sizes of searches are given, ``pareto`` (Figure 6), each as
``.png`` and ``.svg``. Reads only ``runs.csv`` (columns of `mutransfer.results.search_runs` and one a
hyperparameter) and ``provenance.json``; the same files give the same bytes. The provenance has the keys of
`render` and ``searches``: an object with ``table`` ("Table 4"), ``percentiles``, ``sizes`` (of ``mutransfer`` and
``direct``, in samples; both empty: no Figure 6), ``default_lr``, ``space`` (name -> distribution as text) and
`mutransfer.results.search_runs.FACTS`. ``paper.differs`` is a list of notes, parted by "; "; ``signature``,
optional, says how BLEU was counted.

Raises `UserError` if a file is missing or malformed, or as `RepeatedSearches` does: it names what is missing.
"""
