"""The table of a search: the winner and where it was copied to, what that cost, and successive halving beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mutransfer.errors import UserError
from mutransfer.results.claims import Claim, Part
from mutransfer.results.estimate import number
from mutransfer.results.files import read_provenance, read_runs, stand_in
from mutransfer.results.search import EDGE_SAMPLES, SearchReport, tuning_cost_fraction
from mutransfer.results.sections import Described, Kind, joined
from mutransfer.results.table import grid

KEYS = ("experiment", "title", "scale", "data_source", "data_is_real", "y_label", "search")
TOP = 5
GPT3 = tuning_cost_fraction(40e6, [(350, 4e9), (117, 16e9)], 6.7e9, 300e9)  # App. F.4


def _draw(folder: Path, described: Described[Any]) -> list[Path]:
    return []


def describe_search(folder: Path) -> Described[SearchReport]:
    """What `render_search` writes; raises as it does."""
    provenance = read_provenance(folder / "provenance.json", KEYS)
    search = provenance["search"]
    report = SearchReport(read_runs(folder / "runs.csv"), bool(search["is_halved"]))
    if missing := sorted(set(range(search["samples"])) - set(report.proxy["sample"])):
        lacks = f"lacks {len(missing)} of the {search['samples']} samples, first {missing[0]}"
        raise UserError(f"{folder / 'runs.csv'} {lacks}; run the search again.")
    lines = summary(report, sorted(search["space"]))
    banner = stand_in(provenance)
    parts = [
        f"# {provenance['title']}: tuned at width {report.winner.width}, copied to width {report.target.width}",
        *([f"**{banner}**"] if banner else []),
        f"Data: {provenance['data_source']}. Scale: {provenance['scale']}. Algorithm 1 of the paper: "
        f"{search['samples']} random samples (search seed {search['seed']}), one run each, in µP; the metric is "
        f"the {provenance['y_label']}, mean over the last 10% of the steps.",
        "\n".join(f"- {line}" for line in lines),
        f"## The best {min(TOP, len(report.ranked))} samples",
        _top(report, search["space"]),
    ]
    if report.halving:
        parts += ["## Successive halving, rung by rung", _rungs(report)]
    parts.append(
        "Tuning cost is s (t1 N1 + t2 N2 + ...) / (S T) of App. F.4, with s and S in FLOPs a step and the steps that "
        f"were really made; with the paper's numbers for GPT-3 6.7B the formula gives {GPT3:.1%}."
    )
    return Described(provenance, report, "\n".join(lines), joined(parts), {})


def summary(report: SearchReport, names: Sequence[str]) -> list[str]:
    """What came of the search over ``names``, a line each: winner, target, naive transfer, cost, edges, halving."""
    winner, target = report.winner, report.target
    values = ", ".join(f"{name} {_value(winner, name)}" for name in names)
    lines = [
        f"winner: sample {winner['sample']} of {len(report.ranked)}, {values}: training loss "
        f"{number(winner.train_loss, 4)} at width {winner.width}{_not_trained(report)}",
        f"copied to width {target.width} in µP: {_outcome(target)}",
    ]
    if (naive := report.naive) is not None:
        lines.append(f"naive transfer, tuned and copied in SP: {_outcome(naive)}")
    lines.append(
        f"tuning cost: {100 * report.cost_fraction:.3g}% of the target's training = {report.steps} steps of "
        f"{winner.flops / winner.steps:.3g} FLOPs / {target.steps} steps of {target.flops / target.steps:.3g} FLOPs"
    )
    lines += [
        f"the {EDGE_SAMPLES} best samples all have {name} in the {side}est quarter of those sampled: "
        "the best value may lie outside the space"
        for name, side in report.edges(names)
    ]
    return [*lines, *_halving(report)]


def _outcome(run: pd.Series) -> str:
    if run.status == "finished":
        return f"training loss {number(run.train_loss, 4)}, test loss {number(run.test_loss, 4)}"
    return str(run.status) + (f" after {run.steps_done} of {run.steps} steps" if run.status == "diverged" else "")


def _not_trained(report: SearchReport) -> str:
    """How many runs diverged, with the steps that they lived; how many failed and so had no say."""
    diverged, failed = (report.proxy[report.proxy["status"] == name] for name in ("diverged", "failed"))
    words = ""
    if len(diverged):
        lived = f"{diverged['steps_done'].sum()} of their {diverged['steps'].sum()} steps"
        words += f"; {len(diverged)} diverged, after {lived}"
    return words + (f"; {len(failed)} failed and had no say" if len(failed) else "")


def _halving(report: SearchReport) -> list[str]:
    if report.halving is None:
        return []
    rungs, share = report.halving
    plan = ", ".join(f"{len(rung.losses)} x {rung.steps}" for rung in rungs)
    verb = "cost" if report.is_halved else "would have cost"
    line = f"successive halving ({plan} steps) {verb} {share:.1%} of the full search"
    agreement = report.agreement
    if agreement is None:
        if not rungs[-1].ranking:
            line += " and found no winner: all that it kept diverge later"
        elif report.is_halved:
            line += "; agreement unknown: the full search is not in the store; run the same command without --halving"
        return [line]
    verb = "chose" if report.is_halved else "chosen"
    chosen = f"sample {rungs[-1].ranking[0]}, whose loss in the full search is {number(agreement.regret, 4)} above"
    winner = "the same winner" if agreement.same_winner else f"{chosen} that of its winner, sample {agreement.winner}"
    return [f"{line} and {verb} {winner}"]


def _top(report: SearchReport, space: Mapping[str, str]) -> str:
    """The best samples, with the space of each hyperparameter over its column."""
    names = sorted(space)
    header = ["sample", *(f"{name}, of {space[name]}" for name in names), "steps", "training loss"]
    rows = [
        (str(run["sample"]), *(_value(run, name) for name in names), str(run.steps), number(run.train_loss, 4))
        for _, run in report.ranked.head(TOP).iterrows()
    ]
    return grid(header, rows)


def _value(run: pd.Series, name: str) -> str:
    value = 2.0**run.log2_lr if name == "lr" else run[name]
    return value if isinstance(value, str) else f"{value:.6g}"


def _rungs(report: SearchReport) -> str:
    assert report.halving
    rungs, agreement = report.halving[0], report.agreement
    rows = []
    for k, rung in enumerate(rungs):
        correlation = agreement.rank_correlations[k] if agreement else float("nan")
        best = ", ".join(map(str, rung.ranking[:TOP]))
        rows.append((str(rung.steps), str(len(rung.losses)), str(len(rung.ranking)), best, number(correlation)))
    header = ("steps", "samples", "trained", "best first", "rank correlation (Spearman) with the full search")
    return grid(header, rows)


ALGORITHM_1 = "Tune a narrow model in µP, and copy its hyperparameters to the wide one."


def _claims(provenance: Mapping[str, Any], report: SearchReport) -> list[Claim]:
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


SEARCH = Kind("search", describe_search, _draw, _claims)
"""A folder with ``table.md`` in ``folder`` from its ``runs.csv`` and ``provenance.json``.

The provenance has `KEYS`, of which ``search`` is an object with ``space`` (name -> distribution as text), ``seed``,
``samples`` (how many were planned) and ``is_halved``.

Raises `UserError` if a file is missing or malformed, or if a sample is missing.
"""
