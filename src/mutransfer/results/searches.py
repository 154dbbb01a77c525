"""Tables 4 and 5: many independent searches of one method, and how good an outcome a search can count on.

µTransfer and naive transfer look at the same samples, trained on the proxy, and copy the best one to the target, in µP
and in SP; conventional tuning ("tuning on 1x") looks at samples trained on the target itself, in SP; fairseq's default
is trained without a search. `RULE` says how they are judged, and was declared before any result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mutransfer.errors import UserError
from mutransfer.results import published
from mutransfer.results.draw.dots import Layout, dots, marks
from mutransfer.results.estimate import Estimate, number
from mutransfer.results.folder import Claim, Described, FigureFolder, Kind, grid
from mutransfer.results.front import Fronts, front_figure, front_section, front_sentences
from mutransfer.results.outcomes import (
    EQUAL,
    LEAST_SEARCHES,
    Cells,
    Design,
    Searches,
    chosen_table,
    equal_text,
    inits_text,
    numbered,
)
from mutransfer.results.schema import require

RULE = (
    "A search selects the sample with the least final validation loss of those it looked at, never by BLEU or the test "
    "set. Its outcome is the mean BLEU over the inits of the selected sample's target; it is diverged if any of these "
    "inits diverged or all samples looked at had, and ranks below every BLEU. Percentile p: of the n outcomes, worst "
    "first, that at rank p n / 100, rounded up (where that is whole, the mean of it and the next). 95% intervals: a "
    "bootstrap over the searches (n-1 of the n, with replacement) and, within every selected sample, over its inits "
    "(all but one, with replacement); a diverged outcome stays so in every draw. The searches are resampled from one "
    "pool, so an interval says nothing about another pool; those of the best and the worst are too narrow, as no draw "
    "goes beyond what was seen. The default: mean over its inits with a t interval. "
    "µTransfer is `better` if the whole interval of the difference of the medians of validation BLEU lies above 0 (a "
    "diverged median is infinitely below), `worse` if below 0, else `undecided`, also with fewer than "
    f"{LEAST_SEARCHES} searches or if all of its searches selected the same sample. Compute is FLOPs: the samples "
    "looked at and one training of the target, which conventional tuning has among them; a diverged run costs the "
    f"steps it lived; equal: the means per search differ by at most {EQUAL:.0%}."
)
TABLE = Design(
    name="the searches",
    select="test_loss",
    metrics={"bleu_valid": "validation BLEU", "bleu_test": "test BLEU"},
    unit="BLEU",
    digits=2,
    higher_is_better=True,
    pools={"proxy": ("samples", "search"), "direct_pool": ("direct_samples", "direct")},
    methods={"mutransfer": "proxy", "naive": "proxy", "direct": "direct_pool", "default": ""},
)
SETUPS = {
    "default": "fairseq default", "direct": "tuning on 1x", "naive": "naive transfer from 0.25x (SP)",
    "mutransfer": "muTransfer from 0.25x",
}  # fmt: skip
"""As published/values.csv names the methods; in the order of Table 4, worst first."""
TICKS = {
    "default": "fairseq\ndefault", "direct": "tuning\non 1x", "naive": "naive\ntransfer", "mutransfer": "µTransfer",
}  # fmt: skip
WORDS = {0: "worst", 50: "median", 100: "best"}
LOOKS = marks([*TABLE.methods], "oDsP")
"""The same in every figure of the searches."""
LAYOUT = Layout(
    stem="bleu", rows=("median", "µTransfer is", "compute", "samples"), trial="one search (default: one init)",
    center="median (default: mean)", lost="diverged, or no winner", higher_is_better=True, within=0.4,
)  # fmt: skip


def labels(facts: Mapping[str, Any]) -> dict[str, str]:
    """As the paper's table names the methods."""
    ratio = f"{facts['proxy_width'] / facts['target_width']:.3g}x"
    copied = {"naive": f"naive transfer from {ratio} (SP)", "mutransfer": f"µTransfer from {ratio}"}
    return {"default": "fairseq default (SP)", "direct": "tuning on 1x (SP)", **copied}


def searches_report(runs: Any, facts: Mapping[str, Any]) -> Searches:
    """``runs``: the runs table, ``facts``: provenance["searches"]. Raises `UserError` as `Searches.of` does."""
    return Searches.of(TABLE, runs, facts, labels)


def _describe(folder: Path) -> Described[tuple[Searches, Fronts | None]]:
    figure = FigureFolder.open(folder, ("searches",))
    facts, provenance = figure["searches"], figure.provenance
    types = {"table": str, "percentiles": list, "sizes": object, "default_lr": float, "space": dict}
    require(provenance, {f"searches.{name}": kind for name, kind in types.items()}, f"{folder / 'provenance.json'}")
    percents = facts["percentiles"]
    if not percents or not all(type(percent) in (int, float) and 0 <= percent <= 100 for percent in percents):
        raise UserError(f"{folder / 'provenance.json'}: percentiles are {percents}, expected numbers from 0 to 100.")
    report = searches_report(figure.runs, facts)
    fronts = Fronts.of(report, facts["sizes"])
    summary = [report.sentence(against) for against in report.comparisons()]
    summary += [_compute_sentence(report), _distinct(report), *(front_sentences(fronts) if fronts else [])]
    parts = [
        *figure.heading(_count(report)),
        "## Who wins",
        "\n".join(f"- {line}" for line in summary),
        f"## Validation BLEU beside {facts['table']} of the paper",
        _table(report, "bleu_valid"),
        _table_caption(report),
        "## Test BLEU",
        _table(report, "bleu_test"),
        "The same searches, selected by validation loss as above; the paper has no test BLEU.",
        "## µTransfer against each method",
        report.comparison_table(
            ("", "metric", "µTransfer is higher in", "difference of the medians, 95% interval", "verdict")
        ),
        "An infinite difference: the median search of one of the two diverged.",
        *(front_section(fronts) if fronts else []),
        "## What was selected",
        f"From the proxy (width {facts['proxy_width']}), by {facts['search']} samples a search:",
        _chosen(report, "mutransfer", "naive"),
        f"From the target in SP, by {facts['direct']} samples a search:",
        _chosen(report, "direct"),
        f"fairseq's default has the learning rate {facts['default_lr']:g} and all multipliers 1, in SP.",
        *([f"BLEU: `{provenance['signature']}`."] if provenance.get("signature") else []),
        "## The paper beside ours",
        _paper(report, figure["paper"]["statement"]),
        *numbered(figure["paper"]["differs"]),
        "## How to read it",
        RULE,
    ]
    pictures = {"bleu": "BLEU of the target by method, over the searches"}
    if fronts:
        pictures["pareto"] = "Median BLEU of a search against its compute and its number of samples"
    return Described(figure, (report, fronts), "\n".join(summary), parts, pictures)


def _compute_sentence(report: Searches) -> str:
    """Whether µTransfer and conventional tuning spent the same."""
    direct, ours, unit = report.methods["direct"], report.methods["mutransfer"], report.training
    apart, planned = (report.gap(kind, ("direct", "mutransfer"))[0] for kind in ("compute", "planned"))
    return (
        f"compute of a search, in trainings of the target: µTransfer {ours.compute / unit:.2f}, tuning on 1x "
        f"{direct.compute / unit:.2f}: {equal_text(apart)} ({apart:.1%} apart; with no diverged run stopped "
        f"{ours.planned / unit:.2f} and {direct.planned / unit:.2f}, {planned:.1%})"
    )


def _distinct(report: Searches) -> str:
    """How many samples were selected at all: the searches overlap."""
    counts = {name: len(set(report.methods[name].chosen) - {None}) for name in ("mutransfer", "direct")}
    return (
        f"the {report.facts['searches']} searches selected {counts['mutransfer']} of the {report.facts['samples']} "
        f"samples of the proxy's pool (µTransfer, naive transfer) and {counts['direct']} of the "
        f"{report.facts['direct_samples']} of the target's (tuning on 1x)"
    )


def _count(report: Searches) -> str:
    facts = report.facts
    return (
        f"{facts['searches']} searches, each looking at {facts['search']} of {facts['samples']} samples trained at "
        f"width {facts['proxy_width']}, or at {facts['direct']} of {facts['direct_samples']} trained at the target's "
        f"width {facts['target_width']} (search seed {facts['seed']}); {inits_text(facts['inits'])} of every selected "
        "sample"
    )


def _caption(report: Searches) -> str:
    facts = report.facts
    return (
        f"BLEU of the target in {facts['searches']} searches, each the mean over {inits_text(facts['inits'])} of the "
        f"sample with the least validation loss: of {facts['search']} of {facts['samples']} on the proxy, copied in µP "
        f"(µTransfer) and in SP (naive transfer), or of {facts['direct']} of {facts['direct_samples']} on the target "
        "in SP (tuning on 1x). Verdict: by the difference of the medians. Compute: mean of a search, in trainings of "
        "the target. The searches are resampled from one pool: an interval says nothing about another pool. "
        f"After {facts['table']} of the paper."
    )


def _front_caption(report: Searches) -> str:
    facts = report.facts
    return (
        f"Median over {facts['searches']} searches of validation BLEU (after Figure 6 of the paper), each the mean "
        f"over {inits_text(facts['inits'])} of the selected sample; compute includes the tuning. All searches look at "
        f"one pool of {facts['samples']} samples on the proxy, or of {facts['direct_samples']} on the target: as their "
        "size nears it, they become the same one, and the band narrows by construction."
    )


def _table_caption(report: Searches) -> str:
    within = "" if report.facts["inits"] > 1 else ", and with one init nothing of the training seed"
    return (
        f"Percentiles over {report.facts['searches']} searches, worst first, with 95% intervals; fairseq's default is "
        f"the mean over {inits_text(report.facts['inits'])}. The searches are resampled from one pool, so an interval "
        f"says nothing about another pool{within}. Compute: mean of a search with its tuning, in trainings of the "
        f"target (one training of the target is {report.training:.4g} FLOPs)."
    )


def _table(report: Searches, metric: str) -> str:
    """A row a method; beside validation BLEU, the paper's numbers."""
    percents, is_paper = report.facts["percentiles"], metric == "bleu_valid"
    header = ["compute (target trainings)", "samples a search"]
    header += [f"p{percent:g}" + (f" ({WORDS[int(percent)]})" if percent in WORDS else "") for percent in percents]
    values = published.by_setup(table_or_figure=report.facts["table"])
    rows = []
    for name, setup in SETUPS.items():
        outcomes = report.methods[name]
        cells = [f"{outcomes.compute / report.training:.2f}", report.looked_text(name)]
        if name == "default":
            cells += ["-"] * (len(percents) - 1)
            cells.append(f"mean {cell(report.center(name, metric))}")
        else:
            cells += [cell(outcomes.percentile(percent, metric)) for percent in percents]
        if is_paper:
            wanted: list[tuple[str, ...]] = [("total compute",), ("HP samples",)]
            wanted += [(f"val BLEU p{p:g}", f"val BLEU {WORDS.get(int(p), '')}", "outcome") for p in percents]
            theirs = [published.text(values, setup, *metrics) for metrics in wanted]
            cells = [text for pair in zip(cells, theirs, strict=True) for text in pair]
        rows.append([report.labels[name], *cells, *(("-", "-") if name == "default" else outcomes.lost)])
    if is_paper:
        header = [text for word in header for text in (word, "the paper")]
    return grid(["", *header, "target diverged", "no winner"], rows)


def cell(estimate: Estimate) -> str:
    """``35.33 [35.20, 35.41]``, ``diverged`` where it is so in every draw."""
    return "diverged" if estimate.value == estimate.high == -math.inf else estimate.text()


def _chosen(report: Searches, *methods: str) -> str:
    """The samples that the table's searches selected, with their targets by every method."""

    def reached(name: str, sample: int) -> str:
        values = report.inits(name, "bleu_valid")[sample]
        if lost := int((values == -math.inf).sum()):
            return f"{lost} of {len(values)} inits diverged"
        scores = [number(float(report.inits(name, metric)[sample].mean())) for metric in TABLE.metrics]
        return ", ".join([*scores, number(float(report.parts[name].loc[[sample], "test_loss"].mean()), 4)])

    pool = report.parts[TABLE.methods[methods[0]]]
    cells: Cells = {"validation loss in the pool": lambda i: number(pool["test_loss"][i], 4)}
    for name in methods:
        heading = f"{report.labels[name]}: validation, test BLEU, validation loss"
        cells = {**cells, heading: lambda i, name=name: reached(name, i)}  # type: ignore[misc]
    return chosen_table(report, methods[0], cells)


def _paper(report: Searches, statement: str) -> str:
    """The paper's conclusion and its numbers of searches and inits beside ours."""
    facts = report.facts
    rows = [("conclusion", statement, report.conclusion)]
    ours = {"independent search trials": facts["searches"], "inits per selected HP": facts["inits"]}
    values = published.rows(table_or_figure=facts["table"])
    also = published.rows(table_or_figure="Section 7.1")
    for value in (*values, *(value for value in also if value.experiment == values[0].experiment)):
        if value.metric in ours:
            rows.append((f"{value.table_or_figure}: {value.metric}", value.value, str(ours[value.metric])))
    return grid(("", "the paper", "ours"), rows)


def _draw(described: Described[tuple[Searches, Fronts | None]]) -> list[Path]:
    figure, (report, fronts) = described.folder, described.report
    banner, source, folder = figure.banner, figure.source, figure.path
    panels = [report.panel(metric, words, TICKS, LOOKS, 2) for metric, words in TABLE.metrics.items()]
    paths = dots(panels, LAYOUT, out=folder, caption=f"{_caption(report)} {source}", banner=banner)
    front = f"{_front_caption(report)} {source}"
    return paths + (front_figure(fronts, LOOKS, out=folder, caption=front, banner=banner) if fronts else [])


def _claims(described: Described[tuple[Searches, Fronts | None]]) -> list[Claim]:
    """Tables 4 and 5: better than direct tuning and naive transfer, about equal to the default; or Figure 6."""
    searches, fronts = described.report
    if fronts:
        return [fronts.claim]
    return [described.folder.claim(searches.claim_parts({"direct": "better", "naive": "better"}))]


SEARCHES = Kind("searches", _describe, _draw, _claims)
"""Figures: ``bleu`` (outcomes by method) and, where sizes of searches are given, ``pareto`` (Figure 6).

Reads only ``runs.csv`` (columns as `TABLE` has them and one a hyperparameter) and ``provenance.json``, whose
``searches`` has ``table`` ("Table 4"), ``percentiles``, ``sizes`` (of ``mutransfer`` and ``direct``, in samples; both
empty: no Figure 6), ``default_lr``, ``space`` (name -> distribution as text) and the whole numbers that `TABLE` needs;
``signature``, optional, says how BLEU was counted.

Raises `UserError` if a file is missing or malformed, or as `Searches.of` does: it names what is missing.
"""
