"""Repeated searches: what each method reached and spent in each of them, and µTransfer against the other methods.

A search looks at some samples of a pool and selects one by its loss; its outcome is what that sample's target reached.
Tables 4, 5 and 7 are this with other numbers: a `Design`. RULE of `searches` and of `study` says how they are judged.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mutransfer.errors import UserError
from mutransfer.results.draw.dots import Column, Look, Panel
from mutransfer.results.estimate import Array, Estimate, number
from mutransfer.results.folder import Part, grid
from mutransfer.results.schema import AGAIN, Rows, Schema, Type, cell, require
from mutransfer.results.selection import DEFAULT, PROXY, searches, winners

LEAST_SEARCHES, DRAWS = 5, 10_000
EQUAL = 0.1
"""Two methods spent the same if their means over searches differ by no more than this."""
IN_MUP = ("proxy", "proxy_short", "mutransfer", "width")
"""Roles in µP; the others are in SP."""
RUN: Mapping[str, Type] = {
    "role": "text", "sample": "whole number", "seed": "whole number", "parametrization": "text",
    "width": "whole number", "log2_lr": "number", "steps": "whole number", "steps_done": "whole number",
    "status": "text", "test_loss": "number", "flops": "finite number",
}  # fmt: skip
"""Columns of every table of searches."""

Verdict = Literal["better", "worse", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Design:
    """How a kind of table searches."""

    name: str
    """As messages call it: ``the searches``."""
    select: str
    """Column of the loss by which a search selects."""
    metrics: Mapping[str, str]
    """Column -> in words; the first one decides who is better."""
    unit: str
    """Of the metrics."""
    digits: int
    """With which differences are written."""
    higher_is_better: bool = False
    pools: Mapping[str, tuple[str, str]]
    """Role -> the facts that say how many samples it has, and how many of them a search looks at."""
    methods: Mapping[str, str]
    """Role of the target's runs -> role of the pool that is searched; empty: none is, the values are the default's."""
    others: tuple[str, ...] = ()
    """Further roles, which decide nothing."""

    def schema(self, facts: Mapping[str, Any]) -> Schema:
        """Of the runs table. Raises `UserError` if a fact is missing or no whole number, or too small."""
        what, counts = f"the provenance of {self.name}", [fact for pair in self.pools.values() for fact in pair]
        counts += ["searches", "proxy_width", "target_width", *(["inits"] if "inits" in facts else [])]
        require(facts, {**dict.fromkeys([*counts, "seed"], int), "space": dict}, what)
        if small := [name for name in counts if facts[name] < 1]:
            raise UserError(f"{what} has {small[0]} {facts[small[0]]}, expected 1 or more.")
        rows = [Rows(name=self.name, constant=("data_fingerprint",), results=("test_loss", self.select))]
        for role in self.roles:
            pool, equal = self.methods.get(role), {"parametrization": "mup" if role in IN_MUP else "sp"}
            rows.append(Rows(
                name=f"role '{role}'",
                where={"role": [role]},
                equal={**equal, "sample": DEFAULT} if pool == "" else equal,
                by=() if role in self.pools else ("sample",),
                complete=(
                    {"sample": range(facts[self.pools[role][0]])} if role in self.pools
                    else {"seed": range(facts.get("inits", 1))} if role in self.methods else {}
                ),
                results=tuple(self.metrics) if role in self.methods else (),
                may_be_none=role not in self.pools and pool != "",
            ))  # fmt: skip
        target = [role for role in (*self.pools, *self.methods) if role != PROXY]
        for name, of, fact in (("the proxy", [PROXY], "proxy_width"), ("the target", target, "target_width")):
            rows.append(Rows(name=name, where={"role": of}, equal={"width": facts[fact]}))
            alike = {"role": [role for role in of if role != "default_long"]}
            rows.append(Rows(name=name, where=alike, constant=("steps", "flops")))
        columns: dict[str, Type] = {**RUN, self.select: "number", **dict.fromkeys(self.metrics, "number")}
        columns |= dict.fromkeys(set(hyperparameters(facts)) - {"log2_lr"}, "value")
        key = ("role", "sample", "seed", *(("width", "steps") if self.others else ()))
        choices = {"role": self.roles}
        return Schema(name=f"the table of {self.name}", columns=columns, choices=choices, key=key, rows=tuple(rows))

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.pools, *self.methods, *self.others]))


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


def check_copies(copies: pd.DataFrame, origin: pd.DataFrame, names: Sequence[str], pool: str, loss: str) -> None:
    """Raises `UserError` for a run that has not the hyperparameters ``names`` of its sample in ``origin``, a pool.

    Where that was trained on the target, it is the first of its inits, and has the same ``loss``.
    """
    for sample, run in copies.iterrows():
        who = cell(("role", "sample", "seed"), (run["role"], sample, run["seed"]))
        if sample not in origin.index:
            raise UserError(f"{who} copies a sample that role '{pool}' does not have; {AGAIN}")
        if other := [name for name in names if run[name] != origin.at[sample, name]]:
            raise UserError(f"{who} differs in {other[0]} from its sample of role '{pool}'; {AGAIN}")
        is_same = pool != PROXY and run["seed"] == origin.at[sample, "seed"]
        if is_same and run[loss] != origin.at[sample, loss]:
            raise UserError(f"{who} is the pool's own run but has another {loss}; {AGAIN}")


def percentile(values: Array, percent: float) -> Array:
    """Of the last axis, where +-inf is a value like others: the mean of two neighbours where the rank is between."""
    ordered = np.sort(values, axis=-1)
    rank = percent / 100 * values.shape[-1]
    low, high = max(math.ceil(rank) - 1, 0), min(math.floor(rank), values.shape[-1] - 1)
    return np.asarray((ordered[..., low] + ordered[..., high]) / 2)


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What one method reached and spent in each of n searches; the default's are n times the same."""

    name: str
    looked: int
    """Samples that one search looks at; 0 for the default."""
    chosen: tuple[int | None, ...]
    """[n] the sample that was selected, `DEFAULT` for the default's values, None where all had diverged."""
    spent: Array
    """[n] FLOPs, tuning included."""
    planned: float
    """FLOPs of a search if no run diverges."""
    means: Mapping[str, Mapping[int | None, Array]]
    """Metric -> sample -> [1 + draws] mean over its inits, the bootstrap draws after it; infinite: diverged."""
    drawn: NDArray[np.int64]
    """[draws, n-1] the searches of every draw."""

    def values(self, metric: str) -> Array:
        """[n]; infinite where the search's outcome is diverged."""
        return np.array([self.means[metric][i][0] for i in self.chosen])

    @property
    def without_winner(self) -> int:
        """Searches whose samples all diverged."""
        return self.chosen.count(None)

    @property
    def diverged(self) -> int:
        """Searches with a winner whose target diverged, in one init at least."""
        return int(np.isinf(self.values(next(iter(self.means)))).sum()) - self.without_winner

    @property
    def lost(self) -> tuple[str, str]:
        """``2 of 25`` searches whose target diverged, and without a winner."""
        n = len(self.chosen)
        return f"{self.diverged} of {n}", f"{self.without_winner} of {n}"

    @property
    def compute(self) -> float:
        """Mean FLOPs of a search."""
        return float(self.spent.mean())

    def percentiles(self, percent: float, metric: str) -> Array:
        """[1 + draws] over searches; only the first if there is one search."""
        samples = [*dict.fromkeys(self.chosen)]
        table = np.stack([self.means[metric][i] for i in samples])
        row = np.array([samples.index(i) for i in self.chosen])
        point = percentile(self.values(metric), percent)[None]
        if not self.drawn.size:
            return np.asarray(point)
        values = table[row[self.drawn], 1 + np.arange(len(self.drawn))[:, None]]
        return np.concatenate([point, percentile(values, percent)])

    def percentile(self, percent: float, metric: str) -> Estimate:
        """Over searches, with its interval; 0 is the least, 100 the most."""
        return estimate(self.percentiles(percent, metric))


def estimate(values: Array) -> Estimate:
    """Of [1 + draws]."""
    return Estimate.of(values) if len(values) > 1 else Estimate(float(values[0]), reason="one search")


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


@dataclass(frozen=True)
class Against:
    """µTransfer against another method on one metric."""

    other: str
    metric: str
    better: int
    """Trials, searches or inits, in which µTransfer's outcome is the better one."""
    tied: int
    trials: int
    difference: Estimate
    """µTransfer less the other; +-inf where one of them diverged."""
    verdict: Verdict
    reason: str = ""
    """Why it is undecided, if not by the interval."""
    unit: str = "searches"

    @classmethod
    def of(cls, ours: Outcomes, its: Outcomes, metric: str, higher_is_better: bool) -> Against:
        """By the medians over searches."""
        sign, mine, theirs = (1 if higher_is_better else -1), ours.values(metric), its.values(metric)
        apart = estimate(difference(ours.percentiles(50, metric), its.percentiles(50, metric)))
        n, reason = len(mine), ""
        if n < LEAST_SEARCHES:
            reason = f"{n} searches, fewer than {LEAST_SEARCHES}"
        elif len({*ours.chosen} - {None}) == 1:
            reason = "all searches selected the same sample"
        better, worse = (apart.low > 0, apart.high < 0) if higher_is_better else (apart.high < 0, apart.low > 0)
        verdict: Verdict = "undecided" if reason or not better | worse else "better" if better else "worse"
        ahead, tied = int((sign * mine > sign * theirs).sum()), int((mine == theirs).sum())
        return cls(its.name, metric, ahead, tied, n, apart, verdict, reason)

    @property
    def share_text(self) -> str:
        """``5 of 7 searches (1 tie)``."""
        ties = f" ({self.tied} tie{'s' * (self.tied > 1)})" if self.tied else ""
        return f"{self.better} of {self.trials} {self.unit}{ties}"

    @property
    def text(self) -> str:
        """``better`` or ``undecided (3 searches, fewer than 5)``."""
        return self.verdict + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True, eq=False)
class Searches:
    """What the runs of a table of searches show; `of` checks them."""

    design: Design
    runs: pd.DataFrame
    facts: Mapping[str, Any]
    labels: Mapping[str, str]
    """Method -> as a text names it."""

    @classmethod
    def of(cls, design: Design, runs: pd.DataFrame, facts: Any, label: Callable[[Any], Mapping[str, str]]) -> Searches:
        """Raises `UserError` as `Schema.check` does, and for what was copied and differs from its sample."""
        runs = design.schema(facts).check(runs)
        report = cls(design, runs, facts, label(facts))
        for role, pool in design.methods.items():
            if pool not in ("", role):
                check_copies(report.parts[role], report.parts[pool], hyperparameters(facts), pool, design.select)
        return report

    @cached_property
    def parts(self) -> dict[str, pd.DataFrame]:
        """The runs of every role, `by_sample`."""
        worst = -math.inf if self.design.higher_is_better else math.inf
        roles = {role: self.runs[self.runs["role"] == role] for role in self.design.roles}
        return {role: by_sample(runs, self.design.metrics, worst) for role, runs in roles.items()}

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
        if not source:
            spent, planned = np.full(n, float(target["spent"].mean())), float(target["flops"].iloc[0])
            return Outcomes(name, 0, (DEFAULT,) * n, spent, planned, self._means[name], self._drawn)
        pool, looks, on_target = self.parts[source], self.looks(source, size), source != PROXY
        chosen = winners({int(str(i)): loss for i, loss in pool[self.design.select].items()}, looks)
        for j, sample in enumerate(chosen):
            if sample is not None and sample not in target.index:
                raise UserError(
                    f"the table of {self.design.name} lacks the target's runs of sample {sample} (role '{name}'), "
                    f"which search {j} selects of {size}; {AGAIN}"
                )
        tuning = np.array([pool["spent"].loc[list(look)].sum() for look in looks])
        last = target["spent"].groupby(level=0).mean() * (not on_target)  # there its winner is trained already
        copying = np.array([0.0 if i is None else last[i] for i in chosen])
        planned = size * float(pool["flops"].iloc[0]) + self.training * (not on_target)
        return Outcomes(name, size, tuple(chosen), tuning + copying, planned, self._means[name], self._drawn)

    def inits(self, name: str, metric: str) -> dict[int, Array]:
        """Sample -> [inits] what the target reached, infinite where it diverged."""
        return {int(str(i)): np.asarray(x, float) for i, x in self.parts[name][metric].groupby(level=0)}

    def shown(self, name: str, metric: str) -> Array:
        """What gets a dot: every search's outcome, the default's inits."""
        return self.methods[name].values(metric) if self.design.methods[name] else self.inits(name, metric)[DEFAULT]

    def center(self, name: str, metric: str) -> Estimate:
        """The median over searches; of the default the mean over its inits."""
        if self.design.methods[name]:
            return self.methods[name].percentile(50, metric)
        return Estimate.mean(self.inits(name, metric)[DEFAULT])

    def comparisons(self, metric: str = "") -> list[Against]:
        """µTransfer against every other method, on a metric or the one that decides."""
        metric, methods = metric or next(iter(self.design.metrics)), self.methods
        others = [its for name, its in methods.items() if name != "mutransfer"]
        return [Against.of(methods["mutransfer"], its, metric, self.design.higher_is_better) for its in others]

    def difference_text(self, against: Against) -> str:
        """``+0.12 [-0.03, +0.20]``."""
        return difference_text(against.difference, self.design.digits)

    def sentence(self, against: Against) -> str:
        """One verdict, for the terminal and the table."""
        metric, better = self.design.metrics[against.metric], "higher" if self.design.higher_is_better else "lower"
        return (
            f"µTransfer against {self.labels[against.other]}: {against.text}; {metric} {better} in "
            f"{against.share_text}, difference of the medians {self.difference_text(against)} {self.design.unit}"
        )

    @property
    def conclusion(self) -> str:
        """All verdicts in one line."""
        than = {"better": "better than", "worse": "worse than", "undecided": "undecided against"}
        words = (f"{than[against.verdict]} {self.labels[against.other]}" for against in self.comparisons())
        return f"µTransfer: {'; '.join(words)}"

    def comparison_table(self, header: Sequence[str]) -> str:
        """A row a metric and method; the verdicts that count in bold."""
        rows = []
        for k, (metric, words) in enumerate(self.design.metrics.items()):
            for against in self.comparisons(metric):
                verdict = against.text if k else f"**{against.text}**"
                cells = (words, against.share_text, self.difference_text(against), verdict)
                rows.append((f"against {self.labels[against.other]}", *cells))
        return grid(header, rows)

    def claim_parts(self, expected: Mapping[str, str]) -> list[Part]:
        """``expected``: other method -> the verdict that the paper has."""
        parts = []
        for against in self.comparisons():
            ours = f"{against.text}, {self.difference_text(against)} {self.design.unit}"
            what = f"µTransfer against {self.labels[against.other]}"
            parts.append(Part.of(what, ours, against.verdict, expected.get(against.other)))
        return parts

    def panel(
        self, metric: str, heading: str, ticks: Mapping[str, str], looks: Mapping[str, Look], digits: int
    ) -> Panel:
        """Of the methods in the order of ``ticks``; compute and samples stand under the panel that decides only."""
        verdicts = {against.other: against.verdict for against in self.comparisons(metric)}
        decides, columns = metric == next(iter(self.design.metrics)), []
        for name, tick in ticks.items():
            outcomes, center = self.methods[name], self.center(name, metric)
            cells = [number(center.value, digits), verdicts.get(name, "")]
            if decides:
                cells += [f"{outcomes.compute / self.training:.2f}", self.looked_text(name)]
            columns.append(Column(tick, self.shown(name, metric), center, looks[name], tuple(cells)))
        return Panel(heading, tuple(columns), strip_label="diverged" if decides else "")

    def looked_text(self, name: str) -> str:
        """Samples that a search looks at; of a default that is trained from one init, the run itself."""
        return str(self.methods[name].looked or ("-" if "inits" in self.facts else 1))

    def gap(self, kind: Literal["compute", "planned"], names: Iterable[str]) -> tuple[float, Outcomes, Outcomes]:
        """Largest relative difference of a search's FLOPs between methods, who has least, who most."""
        cost = {name: float(getattr(self.methods[name], kind)) for name in names}
        least, most = min(cost, key=lambda name: cost[name]), max(cost, key=lambda name: cost[name])
        return cost[most] / cost[least] - 1, self.methods[least], self.methods[most]

    @cached_property
    def _drawn(self) -> NDArray[np.int64]:
        n = self.facts["searches"]
        return np.random.default_rng(0).integers(n, size=(DRAWS, n - 1))

    @cached_property
    def _means(self) -> dict[str, dict[str, dict[int | None, Array]]]:
        """Role -> metric -> sample -> [1 + draws]; a sample's draws depend on no other's."""
        worst = -math.inf if self.design.higher_is_better else math.inf

        def drawn(role: str, sample: int, values: Array) -> Array:
            if len(values) == 1 or not np.isfinite(values).all():
                return np.broadcast_to(values.mean(), 1 + DRAWS)
            rng = np.random.default_rng(zlib.crc32(f"{role} {sample}".encode()))
            means = values[rng.integers(len(values), size=(DRAWS, len(values) - 1))].mean(axis=1)
            return np.concatenate([[values.mean()], means])

        means: dict[str, dict[str, dict[int | None, Array]]] = {}
        for role in self.design.methods:
            means[role] = {}
            for metric in self.design.metrics:
                means[role][metric] = {None: np.broadcast_to(worst, 1 + DRAWS)}
                for sample, values in self.inits(role, metric).items():
                    means[role][metric][sample] = drawn(role, sample, values)
        return means


# What several tables say.


def equal_text(gap: float) -> str:
    """``equal within 10%``."""
    return f"{'equal' if gap <= EQUAL else 'NOT equal'} within {EQUAL:.0%}"


def ordered(space: Mapping[str, str]) -> dict[str, str]:
    """Name -> distribution as text, the learning rate first."""
    return {name: space[name] for name in sorted(space, key=lambda name: (name != "lr", name))}


def value_text(run: pd.Series, name: str) -> str:
    """A hyperparameter of a run."""
    value = 2.0 ** run["log2_lr"] if name == "lr" else run[name]
    return value if isinstance(value, str) else f"{value:.6g}"


Cells = Mapping[str, Callable[[int], str]]
"""Heading -> the cell of a sample."""


def sample_table(
    runs: pd.DataFrame, samples: Iterable[int], space: Mapping[str, str], more: Cells, first: Cells | None = None
) -> str:
    """A row a sample of ``runs`` (by sample): ``first``, its hyperparameters in the order of ``space``, ``more``."""
    cells: dict[str, Callable[[int], str]] = {"sample": str, **(first or {})}
    for name, text in space.items():
        cells[f"{name}, of {text}"] = partial(lambda name, i: value_text(runs.loc[i], name), name)
    cells |= more
    rows = [[text(i) for text in cells.values()] for i in samples]
    return grid([*cells], rows) if rows else "Nothing: all samples diverged."


def chosen_table(report: Searches, name: str, more: Cells) -> str:
    """The samples that the searches of a method selected, best first."""
    chosen, runs = report.methods[name].chosen, report.parts[report.design.methods[name]]
    loss = runs[report.design.select]
    samples = sorted({i for i in chosen if i is not None}, key=lambda i: (loss[i], i))
    first: Cells = {"searches": lambda i: f"{chosen.count(i)} of {len(chosen)}"}
    return sample_table(runs, samples, ordered(report.facts["space"]), more, first)


def numbered(differs: str) -> list[str]:
    """The notes of ``paper.differs``, parted by "; ", as a numbered list under their heading."""
    notes = [note.strip().rstrip(".") for note in differs.split("; ") if note.strip()]
    lines = "\n".join(f"{k}. {note}." for k, note in enumerate(notes, 1))
    return ["What differs in ours:", lines] if notes else []


def inits_text(count: int) -> str:
    """``1 init``, ``3 inits``."""
    return f"{count} init{'s' * (count != 1)}"
