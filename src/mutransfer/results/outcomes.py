"""Algorithm 1 against its alternatives: what every method reached and spent, and µTransfer against each of the others.

Tables 4, 5 and 7 are many searches with other numbers: a `Design`. Table 6 is one search. All of them compare, draw and
say it with what stands here.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mutransfer.errors import UserError
from mutransfer.results import published
from mutransfer.results.draw.dots import Column, Panel
from mutransfer.results.draw.style import Look, palette
from mutransfer.results.estimate import Array, Estimate, counted, number
from mutransfer.results.folder import Described, FigureFolder, Part, grid
from mutransfer.results.schema import AGAIN, Rows, Schema, Type
from mutransfer.results.selection import DEFAULT, PROXY, searches, winners

LEAST_SEARCHES, DRAWS = 5, 10_000
LABELS = {
    "default": "SP default", "default_long": "longer SP default", "direct": "direct tuning", "naive": "naive transfer",
    "mutransfer": "µTransfer",
}  # fmt: skip
"""Of the methods, in the order of every table and picture."""
LOOKS: dict[str, Look] = {  # no triangle or cross: they mean something
    name: {"color": color, "marker": marker}
    for name, color, marker in zip(LABELS, reversed(palette(len(LABELS))), "pPsDo", strict=True)
}
RUN: Mapping[str, Type] = {
    "role": "text", "sample": "whole number", "seed": "whole number", "parametrization": "text",
    "width": "whole number", "log2_lr": "number", "steps": "whole number", "steps_done": "whole number",
    "status": "text", "test_loss": "number", "flops": "finite number",
}  # fmt: skip
"""Columns of every table of searches."""

Verdict = Literal["better", "worse", "undecided"]


@dataclass(frozen=True)
class Metric:
    """What targets are judged by."""

    column: str
    words: str
    unit: str = "nats"
    digits: int = 4
    higher_is_better: bool = False
    published: str = ""  # as values.csv names it


@dataclass(frozen=True, kw_only=True)
class Against:
    """µTransfer against another method on one metric."""

    other: str
    metric: Metric
    share: str  # trials in which µTransfer's outcome is the better one: "5 of 7 searches (1 tie)"
    difference: Estimate  # µTransfer less the other; +-inf where one of them diverged
    verdict: Verdict
    reason: str = ""  # why it is undecided, if not by the interval
    center: str = "medians"
    where: str = ""  # the target, where there are several
    decides: bool = True

    @classmethod
    def of(
        cls, ours: Array, its: Array, difference: Estimate, reason: str, metric: Metric, trials: str, **more: Any
    ) -> Against:
        """Outcomes by trial and the ``difference`` of their centers; ``reason``: for being undecided, whatever that is.

        Better and worse: if the whole interval is on that side.
        """
        sign = 1 if metric.higher_is_better else -1
        low, high = sorted((sign * difference.low, sign * difference.high))
        verdict: Verdict = "undecided" if reason else "better" if low > 0 else "worse" if high < 0 else "undecided"
        tied = int((ours == its).sum())
        share = f"{int((sign * ours > sign * its).sum())} of {len(ours)} {trials}"
        share += f" ({tied} tie{'s' * (tied > 1)})" * bool(tied)
        return cls(metric=metric, share=share, difference=difference, verdict=verdict, reason=reason, **more)

    @property
    def text(self) -> str:
        """``better`` or ``undecided (3 searches, fewer than 5)``."""
        return self.verdict + (f" ({self.reason})" if self.reason else "")

    @property
    def difference_text(self) -> str:
        """``+0.12 [-0.03, +0.20] BLEU``, a dash where it is unknown."""
        known = not math.isnan(self.difference.value)
        return f"{difference_text(self.difference, self.metric.digits)} {self.metric.unit}" if known else "-"

    @property
    def _who(self) -> str:
        return f"{self.where}: " * bool(self.where) + f"µTransfer against {LABELS[self.other]}"

    @property
    def sentence(self) -> str:
        """The verdict, for the terminal and the table."""
        side = "higher" if self.metric.higher_is_better else "lower"
        return (
            f"{self._who}: {self.text}; {self.metric.words} {side} in {self.share}, difference of the {self.center} "
            f"{self.difference_text}"
        )

    def part(self, expected: str | None) -> Part:
        """Of a claim; ``expected``: the verdict that the paper has."""
        return Part.of(self._who, f"{self.text}, {self.difference_text}", self.verdict, expected)


def difference(ours: Array, its: Array) -> Array:
    """Ours less its: +-inf where one of them diverged, 0 where both did."""
    known = np.isfinite(ours) | np.isfinite(its)
    return np.subtract(ours, its, out=np.zeros_like(ours), where=known)


def difference_text(estimate: Estimate, digits: int = 2) -> str:
    """``+0.12 [-0.03, +0.20]``."""

    def signed(value: float) -> str:
        return f"{value:+}" if math.isinf(value) else "+" * (round(value, digits) > 0) + number(value, digits)

    if math.isnan(estimate.low):
        return f"{signed(estimate.value)} (no interval: {estimate.reason})"
    return f"{signed(estimate.value)} [{signed(estimate.low)}, {signed(estimate.high)}]"


# ---- in words and pictures -----------------------------------------------------------------------------------------

R = TypeVar("R")
T = TypeVar("T")
Cells = dict[str, Callable[[T], str]]
"""Heading of a column -> what stands there in the row of an item."""


def table(items: Iterable[T], cells: Cells[T]) -> str:
    """A Markdown table, one row per item."""
    return grid([*cells], [[text(item) for text in cells.values()] for item in items])


def theirs(items: Iterable[T], place: Callable[[T], tuple[str | None, str]], where: str, *metrics: str) -> Cells[T]:
    """The column of the first of ``metrics`` that the paper's table ``where`` has; none if it has it for no item.

    place: an item's experiment (None: the only one, "": none) and setup as values.csv names them.
    """
    texts: dict[T, str] = {}
    for item in items:
        experiment, setup = place(item)
        texts[item] = published.text(where, experiment, setup, *metrics) if experiment != "" else "-"
    return {f"the paper's {metrics[0]}": texts.__getitem__} if {*texts.values()} - {"-"} else {}


def panel(
    title: str, metric: Metric, methods: Iterable[tuple[str, Array, Estimate, float, int]], every: Sequence[Against]
) -> Panel:
    """Of a picture; methods: name, trials, center, compute in trainings of the target, samples of a search."""
    verdicts, columns = {against.other: against.verdict for against in every if against.metric == metric}, []
    for name, values, center, cost, samples in methods:
        middle = number(center.value, min(metric.digits, 3))
        cells = (middle, verdicts.get(name, ""), f"{cost:.2f}", str(samples or "-"))
        columns.append(Column(LABELS[name], values, center, LOOKS[name], cells))
    y_label = metric.words if metric.higher_is_better else f"{metric.words} ({metric.unit})"
    return Panel(title, y_label, tuple(columns), metric.higher_is_better)


def describe(
    figure: FigureFolder, report: R, pictures: Mapping[str, str], *, count: str, comparisons: Sequence[Against],
    lines: Iterable[str], tables: Iterable[str], selected: Iterable[str], paper: Iterable[Sequence[str]], rule: str,
) -> Described[R]:  # fmt: skip
    """A folder of searches in words.

    count: of searches, samples and inits. lines: what more there is to say in short. tables: with their headings.
    selected: which samples. paper: rows with a number of the paper beside ours.
    """
    deciding = [against for against in comparisons if against.decides]
    lines = [*(against.sentence for against in deciding), *lines]
    cells: Cells[Against] = {"target": lambda a: a.where} if any(a.where for a in comparisons) else {}
    cells |= {
        "µTransfer against": lambda a: LABELS[a.other],
        "on": lambda a: a.metric.words,
        "better in": lambda a: a.share,
        f"difference of the {deciding[0].center}, 95% interval": lambda a: a.difference_text,
        "verdict": lambda a: f"**{a.text}**" if a.decides else a.text,
    }
    than = {"better": "better than", "worse": "worse than", "undecided": "undecided against"}
    ours = "; ".join(f"{a.where} {than[a.verdict]} {LABELS[a.other]}".strip() for a in deciding)
    conclusion = ("conclusion", figure["paper"]["statement"], f"µTransfer: {ours}")
    differs = [note.strip().rstrip(".") for note in figure["paper"]["differs"].split("; ") if note.strip()]
    notes = "\n".join(f"{k}. {note}." for k, note in enumerate(differs, 1))
    parts = [
        *figure.heading(count),
        "## Who wins",
        "\n".join(f"- {line}" for line in lines),
        *tables,
        "## µTransfer against each method",
        table(comparisons, cells),
        "An infinite difference: one of the two diverged.",
        "## What was selected",
        *selected,
        "## The paper beside ours",
        grid(("", "the paper", "ours"), [conclusion, *paper]),
        *(["What differs in ours:", notes] if notes else []),
        "## How to read it",
        rule,
    ]
    return Described(figure, report, "\n".join(lines), parts, pictures)


def value_text(run: pd.Series, name: str) -> str:
    """A hyperparameter of a run."""
    value = 2.0 ** run["log2_lr"] if name == "lr" else run[name]
    return value if isinstance(value, str) else f"{value:.6g}"


def sample_table(
    runs: pd.DataFrame, samples: Sequence[int], space: Mapping[str, str], more: Cells[int], **first: Any
) -> str:
    """A row per sample of ``runs`` (by sample): ``first``, its hyperparameters, ``more``."""
    cells: Cells[int] = {"sample": str, **first}
    for name, text in ordered(space).items():
        cells[f"{name}, of {text}"] = partial(lambda name, i: value_text(runs.loc[i], name), name)
    return table(samples, cells | more) if samples else "Nothing: all samples diverged."


def ordered(space: Mapping[str, str]) -> dict[str, str]:
    """The learning rate first."""
    return dict(sorted(space.items(), key=lambda item: (item[0] != "lr", item)))


# ---- repeated searches ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Design:
    """How a kind of table searches."""

    name: str  # as provenance.json has its facts
    select: str  # column of the loss by which a search selects
    metrics: tuple[Metric, ...]  # the first one decides who is better
    pools: Mapping[str, tuple[str, str]]  # role -> the facts: how many samples, and how many of them a search looks at
    methods: Mapping[str, str]  # role of the target's runs -> pool that is searched; "": none is, for the default
    others: tuple[str, ...] = ()  # further roles, which decide nothing
    stem: str  # of the picture
    setups: Mapping[str, str]  # method -> as values.csv names it
    equal: tuple[str, ...]  # methods whose compute should be equal
    expected: tuple[str, ...]  # those that µTransfer beats in the paper

    @property
    def roles(self) -> list[str]:
        return [*dict.fromkeys([*self.pools, *self.methods, *self.others])]

    def schema(self, facts: Mapping[str, Any]) -> Schema:
        """Of the runs table."""
        scores, seeds = [metric.column for metric in self.metrics], {"seed": range(facts.get("inits", 1))}
        rows = [Rows(name=f"the {self.name}", constant=("data_fingerprint",), results=("test_loss", self.select))]
        for role, (count, _) in self.pools.items():
            rows.append(Rows(name=f"role '{role}'", where={"role": [role]}, complete={"sample": range(facts[count])}))
        for role, pool in self.methods.items():
            more: Any = {"by": ("sample",), "complete": {} if role == pool else seeds, "may_be_none": pool != ""}
            rows.append(Rows(name=f"role '{role}'", where={"role": [role]}, results=scores, **more))
        for name, is_proxy in (("the proxy", True), ("the target", False)):
            alike = [role for role in (*self.pools, *self.methods) if role != "default_long"]
            of = [role for role in alike if (role == PROXY) == is_proxy]
            rows.append(Rows(name=name, where={"role": of}, constant=("width", "steps", "flops")))
        key = ["role", "sample", "seed", *(("width", "steps") if self.others else ())]
        return table_schema(self.name, facts, [self.select, *scores], rows, key, role=self.roles)


def table_schema(
    name: str, facts: Mapping[str, Any], results: Iterable[str], rows: list[Rows], key: list[str], **choices: Any
) -> Schema:
    """Of a table of searches: its columns are those of `RUN`, ``results`` and the hyperparameters."""
    searched = dict.fromkeys({*hyperparameters(facts)} - {"log2_lr"}, "value")
    columns: Any = {**RUN, **dict.fromkeys(results, "number"), **searched}
    return Schema(name=f"the table of the {name}", columns=columns, choices=choices, key=tuple(key), rows=tuple(rows))


def hyperparameters(facts: Mapping[str, Any]) -> list[str]:
    """Columns of the searched hyperparameters; ``lr`` of the space is ``log2_lr``."""
    return ["log2_lr" if name == "lr" else name for name in facts["space"]]


def by_sample(runs: pd.DataFrame, scores: Iterable[str] = (), lost: float = -math.inf) -> pd.DataFrame:
    """``runs`` by sample (the index) and seed; of a diverged one losses are +inf and ``scores`` are ``lost``.

    ``spent``: FLOPs, of a diverged run those of the steps that it lived.
    """
    runs = runs.sort_values(["sample", "seed"]).set_index("sample")
    values = {**dict.fromkeys({"train_loss", "test_loss"} & {*runs.columns}, math.inf), **dict.fromkeys(scores, lost)}
    known = {name: runs[name].astype(float).mask(runs["status"] == "diverged", v) for name, v in values.items()}
    return runs.assign(**known, spent=runs["flops"] * runs["steps_done"] / runs["steps"])


def percentile(values: Array, percent: float) -> Array:
    """Of the last axis, where +-inf is a value like others: the mean of two neighbours where the rank is between."""
    ranked = np.sort(values, axis=-1)
    rank = percent / 100 * values.shape[-1]
    low, high = max(math.ceil(rank) - 1, 0), min(math.floor(rank), values.shape[-1] - 1)
    return np.asarray((ranked[..., low] + ranked[..., high]) / 2)


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What one method reached and spent in each of n searches; the default's are n times the same."""

    name: str
    looked: int  # samples that one search looks at; 0 for the default
    chosen: tuple[int | None, ...]  # [n] the sample that was selected, None where all had diverged
    spent: Array  # [n] tuning included, in trainings of the target
    planned: float  # the same, if no run diverges
    means: Mapping[str, Array]
    """Metric -> [n, 1 + draws] mean over the inits of the sample, the bootstrap draws after it; infinite: diverged."""
    drawn: NDArray[np.int64]  # [draws, n-1] the searches of every draw
    inits: Mapping[str, Array] = field(default_factory=dict)  # of the default: metric -> [inits]

    def values(self, metric: str) -> Array:
        """[n]; infinite where the search's outcome is diverged."""
        return self.means[metric][:, 0]

    @property
    def lost(self) -> tuple[int, int]:
        """Searches whose winner diverged on the target, in one init at least, and those whose samples all diverged."""
        without = self.chosen.count(None)
        return int(np.isinf(self.values(next(iter(self.means)))).sum()) - without, without

    @property
    def cost(self) -> float:
        """Mean of ``spent``."""
        return float(self.spent.mean())

    def percentiles(self, percent: float, metric: str) -> Array:
        """[1 + draws] over searches, 0 the least; only the first if there is one search."""
        points = [percentile(self.values(metric), percent)[None]]
        if self.drawn.size:
            values = self.means[metric][self.drawn, 1 + np.arange(len(self.drawn))[:, None]]
            points.append(percentile(values, percent))
        return np.concatenate(points)

    def percentile(self, percent: float, metric: str) -> Estimate:
        """Over searches, with its interval."""
        return estimate(self.percentiles(percent, metric))

    def text(self, percent: float, metric: str, digits: int = 2) -> str:
        """``35.33 [35.20, 35.41]``, ``diverged`` where it is so in every draw."""
        estimate = self.percentile(percent, metric)
        return "diverged" if math.isinf(estimate.low) and estimate.low == estimate.high else estimate.brief(digits)

    def shown(self, metric: str) -> Array:
        """Every search's outcome, the default's inits."""
        return self.inits[metric] if self.inits else self.values(metric)

    def center(self, metric: str) -> Estimate:
        """The median over searches; of the default the mean over its inits."""
        return Estimate.mean(self.inits[metric]) if self.inits else self.percentile(50, metric)


def estimate(values: Array) -> Estimate:
    """Of [1 + draws]."""
    return Estimate.of(values) if len(values) > 1 else Estimate(float(values[0]), reason="one search")


def by_medians(ours: Outcomes, its: Outcomes, metric: Metric, decides: bool = True) -> Against:
    """µTransfer against another method over searches."""
    n, reason = len(ours.chosen), ""
    if n < LEAST_SEARCHES:
        reason = f"{n} searches, fewer than {LEAST_SEARCHES}"
    elif len({*ours.chosen} - {None}) == 1:
        reason = "all searches selected the same sample"
    apart = estimate(difference(*(method.percentiles(50, metric.column) for method in (ours, its))))
    values = ours.values(metric.column), its.values(metric.column)
    return Against.of(*values, apart, reason, metric, "searches", other=its.name, decides=decides)


@dataclass(frozen=True, eq=False)
class Searches:
    """What the runs of a table of searches show; `of` checks them."""

    design: Design
    runs: pd.DataFrame
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, design: Design, runs: pd.DataFrame, facts: Mapping[str, Any]) -> Searches:
        """Raises `UserError` as `Schema.check` does, and for what was copied and differs from its sample."""
        report, names = cls(design, design.schema(facts).check(runs), facts), hyperparameters(facts)
        for role, pool in design.methods.items():
            if pool not in ("", role):
                copies = report.parts[role][names]
                wrong = copies[(copies != report.parts[pool][names].reindex(copies.index)).any(axis=1)]
                if len(wrong):
                    raise UserError(f"role {role}, sample {wrong.index[0]} differs from that of role '{pool}'; {AGAIN}")
        return report

    @property
    def inits_text(self) -> str:
        """From which a selected sample trains the target: ``3 inits``."""
        return counted([self.facts.get("inits", 1)], "init")

    @property
    def _worst(self) -> float:
        return -math.inf if self.design.metrics[0].higher_is_better else math.inf

    @cached_property
    def parts(self) -> dict[str, pd.DataFrame]:
        """The runs of every role, `by_sample`."""
        columns = [metric.column for metric in self.design.metrics]
        roles = {role: self.runs[self.runs["role"] == role] for role in self.design.roles}
        return {role: by_sample(runs, columns, self._worst) for role, runs in roles.items()}

    @cached_property
    def training(self) -> float:
        """FLOPs of one training of the target as planned."""
        return float(self.parts["default"]["flops"].iloc[0])

    @cached_property
    def methods(self) -> dict[str, Outcomes]:
        """By role, in the order of the design, with as many samples as the table's searches look at."""
        sizes = {role: self.facts[looked] for role, (_, looked) in self.design.pools.items()}
        return {name: self.outcomes(name, sizes.get(pool, 0)) for name, pool in self.design.methods.items()}

    def looks(self, pool: str, size: int) -> list[tuple[int, ...]]:
        """[n] the samples of a pool that each search looks at. Raises `UserError` as `searches` does."""
        return searches(len(self.parts[pool]), size, self.facts["searches"], self.facts["seed"])

    def outcomes(self, name: str, size: int) -> Outcomes:
        """Of searches by the method ``name`` that look at ``size`` samples each; the default's look at none.

        Raises `UserError` for a selected sample without its target's runs.
        """
        n, target, source = self.facts["searches"], self.parts[name], self.design.methods[name]
        drawn, whole = np.random.default_rng(0).integers(n, size=(DRAWS, n - 1)), self.training
        if not source:
            inits = {metric.column: target[metric.column].to_numpy(float) for metric in self.design.metrics}
            spent, planned = np.full(n, target["spent"].mean() / whole), float(target["flops"].iloc[0]) / whole
            chosen = (DEFAULT,) * n
            return Outcomes(name, 0, chosen, spent, planned, self._means(name, chosen), drawn, inits)
        pool, looks, on_target = self.parts[source], self.looks(source, size), source != PROXY
        chosen = tuple(winners({int(str(i)): loss for i, loss in pool[self.design.select].items()}, looks))
        for j, sample in enumerate(chosen):
            if sample is not None and sample not in target.index:
                raise UserError(
                    f"the table of the {self.design.name} lacks the target's runs of sample {sample} (role '{name}'), "
                    f"which search {j} selects of {size}; {AGAIN}"
                )
        last = target["spent"].groupby(level=0).mean() * (not on_target)  # there its winner is trained already
        tuning = np.array([pool["spent"].loc[list(look)].sum() for look in looks])
        spent = (tuning + np.array([0.0 if i is None else last[i] for i in chosen])) / whole
        planned = size * float(pool["flops"].iloc[0]) / whole + (not on_target)
        return Outcomes(name, size, chosen, spent, planned, self._means(name, chosen), drawn)

    @cached_property
    def comparisons(self) -> list[Against]:
        """µTransfer against every other method, the next in the table first, on every metric."""
        ours, *others = [*self.methods.values()][::-1]
        metrics = self.design.metrics
        return [by_medians(ours, its, metric, metric == metrics[0]) for metric in metrics for its in others]

    def _means(self, role: str, chosen: Sequence[int | None]) -> dict[str, Array]:
        """Metric -> [n, 1 + draws] of the samples that were selected; a sample's draws depend on no other's."""
        means: dict[str, Array] = {}
        for column in (metric.column for metric in self.design.metrics):
            known: dict[int | None, Array] = {None: np.broadcast_to(self._worst, 1 + DRAWS)}
            for i in {*chosen} - {None}:
                known[i] = _drawn_means(f"{role} {i}", self.parts[role].loc[[i], column].to_numpy(float))
            means[column] = np.stack([known[i] for i in chosen])
        return means


def _drawn_means(key: str, inits: Array) -> Array:
    """[1 + draws] of a sample: the mean over its inits, and of all but one of them, with replacement."""
    if len(inits) == 1 or not np.isfinite(inits).all():
        return np.broadcast_to(inits.mean(), 1 + DRAWS)
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    means = inits[rng.integers(len(inits), size=(DRAWS, len(inits) - 1))].mean(axis=1)
    return np.concatenate([[inits.mean()], means])
