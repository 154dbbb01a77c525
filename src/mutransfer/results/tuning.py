"""One search: the winner and where it was copied to, what that cost, and what successive halving saves beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from mutransfer.errors import UserError
from mutransfer.results import outcomes
from mutransfer.results.estimate import number
from mutransfer.results.folder import Claim, Described, FigureFolder, Kind, Part
from mutransfer.results.schema import Rows, Schema
from mutransfer.results.selection import GPT3, Losses, Rung, halve, ranking, rung_plan, tuning_cost_fraction

EDGE_SAMPLES, TOP = 5, 5
SCHEMA = Schema(
    name="the table of a search",
    columns={
        "role": "text", "sample": "whole number", "parametrization": "text", "width": "whole number",
        "steps": "whole number", "steps_done": "whole number", "status": "text", "train_loss": "number",
        "flops": "finite number",
    },
    choices={"role": ("proxy", "target", "full")},
    rows=(
        Rows(name="the proxy in µP", where={"role": ["proxy"], "parametrization": ["mup"]}, constant=("width",)),
        Rows(name="its target", where={"role": ["target"]}, by=("parametrization",), complete={"width": None},
             constant=("width",)),
        Rows(name="its target in µP", where={"role": ["target"], "parametrization": ["mup"]}),
    ),
    may_fail=True,
    again="run the search again.",
)  # fmt: skip
"""``role``: ``proxy`` (a sample's run), ``target`` (the winner's), ``full`` (of the full search, known beside the rungs
of successive halving). ``flops``: of the whole run, as planned. Optional ``loss_at_<steps>``: what the loss curve says
of a run cut there. A failed run had no say."""
ALGORITHM_1 = "Tune a narrow model in µP, and copy its hyperparameters to the wide one."


@dataclass(frozen=True)
class Agreement:
    """Successive halving against the full search over the same samples."""

    winner: int  # of the full search
    same_winner: bool
    regret: float  # loss of halving's winner in the full search, less the least loss there
    rank_correlations: tuple[float, ...]  # of every rung's losses with the full search's: Spearman, NaN if undefined

    @classmethod
    def of(cls, rungs: Sequence[Rung], full: Losses) -> Agreement:
        winner, every = ranking(full)[0], pd.Series(full).rank(na_option="keep")
        losses = (pd.Series(rung.losses).dropna() for rung in rungs)
        pairs = [pd.DataFrame({"rung": rung, "full": every}).dropna().rank() for rung in losses]
        correlations = tuple(float(pair.corr().iloc[0, 1]) if len(pair) > 1 else math.nan for pair in pairs)
        chosen = rungs[-1].ranking[0]
        return cls(winner, chosen == winner, full[chosen] - full[winner], correlations)


@dataclass(frozen=True)
class SearchReport:
    """What the runs table of a search shows.

    Raises `UserError` as `Schema.check` does, and if no proxy has trained.
    """

    runs: pd.DataFrame
    is_halved: bool  # whether the proxy's runs are the rungs of successive halving

    def __post_init__(self) -> None:
        SCHEMA.check(self.runs)
        if not self.rungs[-1].ranking:
            raise UserError("the table of a search lacks a proxy that trained; run the search again.")

    def _part(self, role: str, parametrization: str = "mup") -> pd.DataFrame:
        return self.runs[(self.runs["role"] == role) & (self.runs["parametrization"] == parametrization)]

    @property
    def proxy(self) -> pd.DataFrame:
        """The runs that chose the winner, in µP."""
        return self._part("proxy")

    @property
    def target(self) -> pd.Series:
        """The run of the winner's copy."""
        return self._part("target").iloc[0]

    @property
    def naive(self) -> pd.Series | None:
        """The target's run in SP with the winner of a search in SP, if it was made."""
        runs = self._part("target", "sp")
        return None if runs.empty else runs.iloc[0]

    @cached_property
    def rungs(self) -> list[Rung]:
        """What was trained, shortest first; the full search has one rung."""
        return [Rung(int(str(steps)), _losses(part)) for steps, part in self.proxy.groupby("steps", sort=True)]

    @cached_property
    def ranked(self) -> pd.DataFrame:
        """A row per sample, its longest run: those that have trained first, then the longest, then by loss."""
        last = self.proxy.sort_values("steps").drop_duplicates("sample", keep="last")
        order = last.assign(bad=last["status"] != "finished", length=-last["steps"])
        return last.loc[order.sort_values(["bad", "length", "train_loss", "sample"]).index]

    @property
    def winner(self) -> pd.Series:
        """The proxy's run with the least loss."""
        return self.ranked.iloc[0]

    def edges(self, names: Iterable[str]) -> list[tuple[str, str]]:
        """Hyperparameters whose best value may lie outside the space: (name, ``low`` or ``high``).

        That is where the best `EDGE_SAMPLES` samples all lie in the lowest, or all in the highest, quarter of the
        values sampled; of a hyperparameter that does not matter, this is so in 1 of 512 searches.
        """
        edges = []
        for name in names:
            values = self.ranked["log2_lr" if name == "lr" else name]
            if pd.api.types.is_numeric_dtype(values) and len(values) >= 4 * EDGE_SAMPLES and values.nunique() > 2:
                best, (low, high) = values.head(EDGE_SAMPLES), values.quantile([1 / 4, 3 / 4])
                edges += [(name, "low")] * bool((best <= low).all()) + [(name, "high")] * bool((best >= high).all())
        return edges

    @property
    def steps(self) -> int:
        """That the proxy's runs took: a diverged run costs only those that it lived."""
        return int(self.proxy["steps_done"].sum())

    @property
    def cost_fraction(self) -> float:
        """FLOPs spent on the search as a fraction of the target's whole training."""
        size, target_size = (float(run.flops / run.steps) for run in (self.winner, self.target))
        return tuning_cost_fraction(size, [(1, self.steps)], target_size, int(self.target.steps))

    @property
    def full(self) -> pd.DataFrame:
        """The full search over the same samples; empty if it is not known."""
        return self._part("full") if self.is_halved else self.proxy

    @cached_property
    def halving(self) -> tuple[list[Rung], float] | None:
        """The rungs of successive halving, and its FLOPs as a fraction of the full search's.

        After a full search they are read off its loss curves, as if each rung had been trained from scratch; None if
        there are none, or no room for two rungs. A full search that is not known counts as if no run had diverged.
        """
        samples, steps = len(self.rungs[0].losses), int(self.proxy["steps"].max())
        if self.is_halved:
            whole = self.full["steps_done"].sum() if len(self.full) else samples * steps
            return self.rungs, self.steps / whole
        runs, spent = self.proxy.set_index("sample"), 0

        def measure(chosen: Sequence[int], until: int) -> Losses:
            nonlocal spent
            part = runs.loc[list(chosen)]
            spent += int(part["steps_done"].clip(upper=until).sum())
            return dict(part["train_loss" if until == steps else f"loss_at_{until}"])

        try:
            plan = rung_plan(samples, steps)
        except UserError:
            return None
        on_the_way = [f"loss_at_{until}" for _, until in plan[:-1]]
        if runs.reindex(columns=on_the_way)[runs["status"] != "failed"].isna().any(axis=None):
            return None
        return halve(plan, measure), spent / self.steps

    @property
    def agreement(self) -> Agreement | None:
        """Of `halving` with the full search; None if either is unknown."""
        if self.halving is None or self.full.empty or not self.halving[0][-1].ranking:
            return None
        return Agreement.of(self.halving[0], _losses(self.full))


def _losses(runs: pd.DataFrame) -> dict[int, float]:
    return dict(zip(runs["sample"].astype(int), runs["train_loss"].astype(float), strict=True))


def _describe(folder: Path) -> Described[SearchReport]:
    figure = FigureFolder.open(folder)
    search = figure["search"]
    report = SearchReport(figure.runs, bool(search["is_halved"]))
    if missing := sorted(set(range(search["samples"])) - set(report.proxy["sample"])):
        lacks = f"lacks {len(missing)} of the {search['samples']} samples, first {missing[0]}"
        raise UserError(f"{folder / 'runs.csv'} {lacks}; {SCHEMA.again}")
    lines, best = [*_lines(report, search["space"])], report.ranked.head(TOP).set_index("sample")
    more: outcomes.Cells[int] = {
        "steps": lambda i: str(best.at[i, "steps"]),
        "training loss": lambda i: number(best.at[i, "train_loss"], 4),
    }
    parts = [
        *figure.heading(
            f"Algorithm 1 of the paper, tuned at width {report.winner.width}, copied to width {report.target.width}: "
            f"{search['samples']} random samples (search seed {search['seed']}), one run each, in µP; the metric is "
            f"the {figure['y_label']}, mean over the last 10% of the steps"
        ),
        "\n".join(f"- {line}" for line in lines),
        f"## The best {len(best)} samples",
        outcomes.sample_table(best, [*best.index], search["space"], more),
        *(["## Successive halving, rung by rung", _rungs(report, report.halving[0])] if report.halving else []),
        "Tuning cost is s (t1 N1 + t2 N2 + ...) / (S T) of App. F.4, with s and S in FLOPs a step and the steps that "
        f"were really made; with the paper's numbers for GPT-3 6.7B the formula gives {GPT3:.1%}.",
    ]
    return Described(figure, report, "\n".join(lines), parts, {})


def _lines(report: SearchReport, space: Mapping[str, str]) -> Iterable[str]:
    """What came of the search over ``space``: winner, target, naive transfer, cost, edges, halving."""
    winner, target = report.winner, report.target
    values = ", ".join(f"{name} {outcomes.value_text(winner, name)}" for name in sorted(space))
    lost, failed = (report.proxy[report.proxy["status"] == status] for status in ("diverged", "failed"))
    lived = f"; {len(lost)} diverged, after {lost['steps_done'].sum()} of their {lost['steps'].sum()} steps"
    yield (
        f"winner: sample {winner['sample']} of {len(report.ranked)}, {values}: training loss "
        f"{number(winner.train_loss, 4)} at width {winner.width}"
        f"{lived * bool(len(lost))}" + f"; {len(failed)} failed and had no say" * bool(len(failed))
    )
    yield f"copied to width {target.width} in µP: {_outcome(target)}"
    if report.naive is not None:
        yield f"naive transfer, tuned and copied in SP: {_outcome(report.naive)}"
    yield (
        f"tuning cost: {100 * report.cost_fraction:.3g}% of the target's training = {report.steps} steps of "
        f"{winner.flops / winner.steps:.3g} FLOPs / {target.steps} steps of {target.flops / target.steps:.3g} FLOPs"
    )
    for name, side in report.edges(space):
        yield (
            f"the {EDGE_SAMPLES} best samples all have {name} in the {side}est quarter of those sampled: "
            "the best value may lie outside the space"
        )
    if report.halving:
        rungs, share = report.halving
        plan = ", ".join(f"{len(rung.losses)} x {rung.steps}" for rung in rungs)
        would = "" if report.is_halved else "would have "
        yield f"successive halving ({plan} steps) {would}cost {share:.1%} of the full search{_agreement(report, rungs)}"


def _outcome(run: pd.Series) -> str:
    if run.status == "finished":
        return f"training loss {number(run.train_loss, 4)}, test loss {number(run.test_loss, 4)}"
    return str(run.status) + (f" after {run.steps_done} of {run.steps} steps" if run.status == "diverged" else "")


def _agreement(report: SearchReport, rungs: Sequence[Rung]) -> str:
    """The end of the sentence on successive halving."""
    if not rungs[-1].ranking:
        return " and found no winner: all that it kept diverge later"
    if (agreement := report.agreement) is None:
        return "; agreement unknown: the full search is not in the store; run the same command without --halving"
    verb, chosen = "chose" if report.is_halved else "chosen", rungs[-1].ranking[0]
    if agreement.same_winner:
        return f" and {verb} the same winner"
    above = f"whose loss in the full search is {number(agreement.regret, 4)} above that of its winner"
    return f" and {verb} sample {chosen}, {above}, sample {agreement.winner}"


def _rungs(report: SearchReport, rungs: Sequence[Rung]) -> str:
    known = report.agreement.rank_correlations if report.agreement else ()
    correlations = dict(zip([rung.steps for rung in rungs], known, strict=False))
    cells: outcomes.Cells[Rung] = {
        "steps": lambda rung: str(rung.steps),
        "samples": lambda rung: str(len(rung.losses)),
        "trained": lambda rung: str(len(rung.ranking)),
        "best first": lambda rung: ", ".join(map(str, rung.ranking[:TOP])),
        "rank correlation (Spearman) with the full search": lambda rung: number(correlations.get(rung.steps, math.nan)),
    }
    return outcomes.table(rungs, cells)


def _claims(described: Described[SearchReport]) -> list[Claim]:
    """Algorithm 1, one search, one run per sample: not judged."""
    target, naive = described.report.target, described.report.naive
    parts = [Part(f"copied in µP to width {target.width}", _outcome(target), "not judged")]
    if naive is not None:
        parts.append(Part(f"tuned and copied in SP to width {naive.width}", _outcome(naive), "not judged"))
    return [Claim("Algorithm 1", ALGORITHM_1, tuple(parts))]


SEARCH = Kind[SearchReport]("search", _describe, lambda described: [], _claims)
"""A folder with ``table.md`` from its ``runs.csv`` and ``provenance.json``.

The provenance's ``search`` is an object with ``space`` (name -> distribution as text), ``seed``, ``samples`` (how many
were planned) and ``is_halved``. Raises `UserError` if a file is missing or malformed, or if a sample is missing.
"""
