"""Algorithm 1 against its alternatives at equal compute: what each method reached and spent in repeated searches.

A pool of samples is trained on the proxy. Each of n searches looks at some of them and copies the best to the target,
in µP (µTransfer) and in SP (naive transfer). Direct tuning looks at samples trained on the target itself; the SP
default is trained once as long as the target and once for all of the compute (default, longer).

The rule, declared before any result, that of the verdicts in `mutransfer.results.comparison`:

- A search's winner has the least final training loss of the samples it looked at, of a tie the lower number. A method's
  loss in a search is that of its target's run; it is +inf if that run diverged or if all samples had (no winner).
- Compute is FLOPs; a diverged run costs the steps it lived. It is equal if the mean spent per search differs by no more
  than `EQUAL` between the methods. The default trained once is no part of that: it spends less by design.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from mutransfer.errors import UserError, unknown
from mutransfer.results import comparison
from mutransfer.results.comparison import Comparison, Metric, percentile
from mutransfer.results.estimate import Array
from mutransfer.results.selection import searches, tuning_cost_fraction, winners

COLUMNS = ("role", "sample", "parametrization", "width", "steps", "steps_done", "status", "train_loss", "test_loss")
METHODS = {
    "mutransfer": "µTransfer",
    "naive": "naive transfer",
    "direct": "direct tuning",
    "default": "SP default",
    "default_long": "SP default, longer",
}
ROLES = ("proxy", *METHODS, "proxy_short", "width")
"""``proxy_short``: another pool on the proxy, shorter; ``width``: runs of Figure 8. Neither decides anything here."""
FACTS = ("samples", "search", "searches", "direct", "direct_samples", "seed")
EQUAL = 0.1
RULE = (
    "A search's winner has the least final training loss of its samples; a method's loss in a search is that of its "
    f"target's run. {comparison.RULE} Compute is FLOPs, and a diverged run costs the steps it lived; it is equal if "
    f"the means per search differ by at most {EQUAL:.0%} between the methods, the default trained once aside."
)


@dataclass(frozen=True)
class Method:
    """What one method reached and spent in each of n searches; the default is the same in all of them."""

    name: str
    chosen: tuple[int | None, ...]
    """[n] the sample that was copied, -1 for the default's own values, None without a winner."""
    train_loss: Array
    """[n] nats, final; +inf where the target diverged or there was no winner."""
    test_loss: Array
    spent: Array
    """[n] FLOPs; a diverged run costs the steps it lived."""
    planned: float
    """FLOPs of one search if no run diverges."""
    looked: int
    """Samples that one search looks at."""

    @property
    def label(self) -> str:
        return METHODS[self.name]

    @property
    def without_winner(self) -> int:
        """Searches whose samples all diverged."""
        return self.chosen.count(None)

    @property
    def diverged(self) -> int:
        """Searches whose winner diverged on the target."""
        return int(np.isinf(self.train_loss).sum()) - self.without_winner

    def percentile(self, percent: float, metric: Metric = "train_loss") -> float:
        """Over searches; 0 is the best, 100 the worst."""
        return float(percentile(getattr(self, metric), percent))


@dataclass(frozen=True)
class EqualCompute:
    """What the runs table of a study shows; ``facts`` has `FACTS`, as provenance.json names them.

    Raises `UserError` for missing columns, facts, roles or runs, for failed runs, and for target runs that differ in
    width or, where they should not, in length. `methods` raises for a winner without its target's run.
    """

    runs: pd.DataFrame
    facts: Mapping[str, Any]

    def __post_init__(self) -> None:
        if missing := [name for name in (*COLUMNS, "flops") if name not in self.runs.columns]:
            raise UserError(f"the table of a study lacks {', '.join(missing)}; run the study again.")
        if missing := [name for name in FACTS if not isinstance(self.facts.get(name), int)]:
            raise UserError(f"the study's provenance lacks the whole numbers {', '.join(missing)}; run it again.")
        for role in self.runs["role"].unique():
            if role not in ROLES:
                raise unknown("role in the table of a study", role, ROLES)
        for role in ("proxy", *METHODS):
            part = self.part(role)
            if part.empty:
                raise UserError(f"the table of a study has no run with role '{role}'; run the study again.")
            if (double := part.index[part.index.duplicated()]).size:
                raise UserError(f"the table of a study has sample {double[0]} of role '{role}' twice; keep one.")
        bad = (self.runs["status"] == "failed") | ((self.runs["status"] == "finished") & self._loss.isna().any(axis=1))
        if bad.any():
            one = self.runs[bad].iloc[0]
            raise UserError(
                f"{bad.sum()} runs of the study have no result, first sample {one['sample']} of role '{one['role']}'; "
                "the same command tries them again."
            )
        if absent := sorted(set(range(self.facts["samples"])) - set(self.part("proxy").index)):
            lacks = f"lacks {len(absent)} of {self.facts['samples']} samples on the proxy, first {absent[0]}"
            raise UserError(f"the table of a study {lacks}; run the study again.")
        for name, roles in (("width", tuple(METHODS)), ("steps", tuple(METHODS)[:-1]), ("steps", ("proxy",))):
            found = self.runs.loc[self.runs["role"].isin(roles), name].unique()
            if len(found) > 1:
                what = "the proxy's runs" if roles == ("proxy",) else "the target's runs"
                raise UserError(f"{what} differ in {name} ({', '.join(map(str, sorted(found)))}); run the study again.")

    @property
    def _loss(self) -> pd.DataFrame:
        return self.runs[["train_loss", "test_loss"]]

    def part(self, role: str) -> pd.DataFrame:
        """The runs of one role by sample, diverged ones with loss +inf, with the FLOPs that each ``spent``."""
        part = self.runs[self.runs["role"] == role].set_index("sample").sort_index()
        lost = part["status"] == "diverged"
        loss = part[["train_loss", "test_loss"]].astype(float).mask(lost, math.inf)
        return part.assign(**loss, spent=part["flops"] * part["steps_done"] / part["steps"])

    @cached_property
    def target(self) -> pd.Series:
        """A training of the target as planned: the default's run, which has the size and the length of all."""
        return self.part("default").iloc[0]

    @cached_property
    def looks(self) -> list[tuple[int, ...]]:
        """[n] the proxy's samples that each search looks at."""
        facts = self.facts
        return searches(facts["samples"], facts["search"], facts["searches"], facts["seed"])

    @cached_property
    def methods(self) -> dict[str, Method]:
        """By role, in the order of `METHODS`."""
        facts, n = self.facts, self.facts["searches"]
        proxy, direct = self.part("proxy"), self.part("direct")
        spent = np.array([proxy["spent"].loc[list(look)].sum() for look in self.looks])
        planned = facts["search"] * float(proxy["flops"].iloc[0]) + float(self.target["flops"])
        won = winners(dict(proxy["train_loss"]), self.looks)
        found = {
            name: self._method(name, won, self.part(name), spent, planned, facts["search"])
            for name in ("mutransfer", "naive")
        }
        looks = searches(facts["direct_samples"], facts["direct"], n, facts["seed"])
        chosen = winners(dict(direct["train_loss"]), looks)
        cost = np.array([direct["spent"].loc[list(look)].sum() for look in looks])
        whole = facts["direct"] * float(self.target["flops"])
        found["direct"] = self._method("direct", chosen, direct.assign(spent=0.0), cost, whole, facts["direct"])
        for name in ("default", "default_long"):
            part = self.part(name)
            same = [int(part.index[0])] * n
            found[name] = self._method(name, same, part, np.zeros(n), float(part["flops"].iloc[0]), 1)
        return found

    def _method(
        self,
        name: str,
        chosen: Sequence[int | None],
        runs: pd.DataFrame,
        spent: Array,
        planned: float,
        looked: int,
    ) -> Method:
        """``runs`` of the target by sample; ``spent`` [n] FLOPs before them."""
        for j, sample in enumerate(chosen):
            if sample is not None and sample not in runs.index:
                raise UserError(
                    f"the table of a study lacks the target's run of sample {sample} ({METHODS[name]}), the winner of "
                    f"search {j}; run the study again."
                )
        of = {column: runs[column] for column in ("train_loss", "test_loss", "spent")}
        train, test = (
            np.array([math.inf if i is None else of[metric][i] for i in chosen])
            for metric in ("train_loss", "test_loss")
        )
        last = np.array([0.0 if i is None else of["spent"][i] for i in chosen])
        return Method(name, tuple(chosen), train, test, spent + last, planned, looked)

    def against(self, other: str, metric: Metric = "train_loss") -> Comparison:
        """µTransfer against another method, search by search."""
        ours, its = self.methods["mutransfer"], self.methods[other]
        runs = len(set(ours.chosen) - {None})
        return Comparison.of(getattr(ours, metric), getattr(its, metric), other=its.label, metric=metric, runs=runs)

    def comparisons(self, metric: Metric = "train_loss") -> list[Comparison]:
        """µTransfer against every other method."""
        return [self.against(name, metric) for name in self.methods if name != "mutransfer"]

    def gap(self, kind: Literal["spent", "planned"]) -> tuple[float, Method, Method]:
        """Largest relative difference of mean compute between methods at equal compute, who has least, who most."""
        cost = {name: float(np.mean(getattr(one, kind))) for name, one in self.methods.items() if name != "default"}
        least, most = min(cost, key=lambda name: cost[name]), max(cost, key=lambda name: cost[name])
        return cost[most] / cost[least] - 1, self.methods[least], self.methods[most]

    @property
    def is_equal(self) -> bool:
        """Whether the methods spent the same, to within `EQUAL`."""
        return self.gap("spent")[0] <= EQUAL

    def trainings(self, flops: float) -> float:
        """FLOPs in trainings of the target."""
        return flops / float(self.target["flops"])

    def cost_fraction(self, pools: Sequence[str] = (), *, lived: bool = False) -> float:
        """The cost of tuning over the target's training, by the formula of App. F.4.

        pools: whole pools (``proxy``, ``proxy_short``), or, by default, one search, on average. ``lived``: a diverged
        run counts the steps it lived, else all (the paper's way).
        """
        column = "steps_done" if lived else "steps"
        parts = [self.part(role) for role in pools or ("proxy",)]
        if pools:
            tokens = [(1.0, float(steps)) for part in parts for steps in part[column]]
        else:
            tokens = [(1 / len(self.looks), float(parts[0][column].loc[list(look)].sum())) for look in self.looks]
        size = float(parts[0]["flops"].iloc[0] / parts[0]["steps"].iloc[0])
        steps = float(self.target["steps"])
        return tuning_cost_fraction(size, tokens, float(self.target["flops"]) / steps, steps)
