"""Algorithm 1 as a study: µTransfer against its alternatives at equal compute.

A pool of samples is trained on the proxy; repeated searches look at parts of it, and every winner is copied to the
target in µP (µTransfer) and in SP (naive transfer). Beside them, for the same compute each: tuning the target itself in
SP, and the SP default, trained once as long as the target and once for all of the compute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from mutransfer.designs.rows import to_roles
from mutransfer.designs.search import Search, Space, assign
from mutransfer.errors import UserError
from mutransfer.results.selection import searches, tuning_cost_fraction, winners
from mutransfer.runs.table import curve_rows
from mutransfer.training.spec import RunRecord, RunSpec

Train = Callable[[Sequence[RunSpec]], Iterable[RunRecord]]
Row = tuple[str, int, RunRecord]  # role, sample (-1: the default), run


@dataclass(frozen=True, kw_only=True)
class Study:
    """The numbers of a study. All searches of one study share its pools."""

    pools: tuple[tuple[int, int], ...]  # (samples, steps) on the proxy; the last one decides
    search: int  # samples that one search looks at
    searches: int
    target_steps: int
    direct_samples: int  # pool of samples trained on the target itself
    widths: tuple[int, ...]  # of the best sample in µP (Figure 8)
    default_log2_lr: float  # in SP, all multipliers 1


@dataclass(frozen=True)
class Plan:
    """A study's runs, as far as they are known before the proxies have trained."""

    study: Study
    proxy: Search  # of the last pool; its target has the target's steps
    short: tuple[Search, ...]  # of the pools before
    default: RunSpec
    flops: Callable[[RunSpec], float]

    @classmethod
    def of(
        cls, study: Study, specs: Iterable[RunSpec], space: Space, seed: int, flops: Callable[[RunSpec], float]
    ) -> Plan:
        """Raises `UserError` as `Search.plan` does, or if a search looks at more samples than the pool has."""
        specs = list(specs)
        found = []
        for k, (samples, steps) in enumerate(study.pools):
            search = Search.plan(specs, space, samples=samples, seed=seed + k)
            proxy, target = replace(search.proxy, steps=steps), replace(search.target, steps=study.target_steps)
            found.append(replace(search, proxy=proxy, target=target))
        *short, proxy_search = found
        if study.search > len(proxy_search.samples):
            raise UserError(f"a search looks at {study.search} samples, but the pool has {len(proxy_search.samples)}.")
        default = replace(proxy_search.target, parametrization="sp", log2_lr=study.default_log2_lr)
        return cls(study, proxy_search, tuple(short), default, flops)

    @property
    def budget(self) -> float:
        """FLOPs of one search, with its part of all pools, and one training of the target."""
        part = self.study.search / len(self.proxy.samples)
        return part * sum(map(self.flops, self.pool())) + self.flops(self.proxy.target)

    @property
    def direct(self) -> int:
        """Samples on the target itself that the budget buys."""
        return max(1, math.floor(self.budget / self.flops(self.default)))

    @property
    def default_long(self) -> RunSpec:
        """The default, trained for the whole budget."""
        return replace(self.default, steps=round(self.default.steps * self.budget / self.flops(self.default)))

    def pool(self) -> list[RunSpec]:
        """All runs of the proxy."""
        return [spec for search in (*self.short, self.proxy) for spec in search.runs(range(len(search.samples)))]

    def copies(self, samples: Iterable[int], parametrization: str) -> list[RunSpec]:
        """The target with these samples' hyperparameters."""
        search = self.proxy.within(parametrization)
        return [search.copied(i) for i in samples]

    def directs(self) -> list[RunSpec]:
        """The pool of direct tuning; its samples are others than the proxy's."""
        seed = self.proxy.seed + len(self.study.pools)
        search = Search.plan(
            [replace(self.proxy.proxy, parametrization="mup"), replace(self.proxy.target, parametrization="mup")],
            self.proxy.space,
            samples=self.study.direct_samples,
            seed=seed,
        )
        return [assign(self.default, sample) for sample in search.samples]

    def over_widths(self, sample: int) -> list[RunSpec]:
        """The sample in µP at the widths of Figure 8."""
        (copy,) = self.copies([sample], "mup")
        return [replace(copy, width=width) for width in self.study.widths]

    def expected(self) -> list[RunSpec]:
        """About what will run: the first samples stand for the winners, as many as differ on average."""
        pool, size = len(self.proxy.samples), self.study.search
        differ, miss = 0.0, 1.0
        for rank in range(pool - size + 1):  # the best of a search has this rank: none of those before, and it
            share = miss * size / (pool - rank)
            differ += 1 - (1 - share) ** self.study.searches
            miss *= (pool - size - rank) / (pool - rank)
        samples = range(round(differ))
        return [
            *self.pool(),
            *self.copies(samples, "mup"),
            *self.copies(samples, "sp"),
            *self.directs(),
            self.default,
            self.default_long,
            *self.over_widths(0),
        ]

    @property
    def facts(self) -> dict[str, Any]:
        """For provenance.json: what was studied."""
        study = self.study
        return {
            **self.proxy.facts,
            "search": study.search,
            "searches": study.searches,
            "direct": self.direct,
            "direct_samples": study.direct_samples,
            "default_lr": 2.0**study.default_log2_lr,
            "proxy_width": self.proxy.proxy.width,
            "target_width": self.proxy.target.width,
        }

    def lines(self, memory: Callable[[RunSpec], float], parameters: Callable[[RunSpec], float] | None) -> list[str]:
        """What it costs to tune, before it runs, and what the target needs at the least."""
        target = self.flops(self.proxy.target)
        tuning = sum(map(self.flops, self.pool()))
        one = self.budget - target
        proxy_run, target_run = self.proxy.proxy, self.proxy.target
        found = [
            f"tuning: {len(self.pool())} samples at width {self.proxy.proxy.width}, {tuning:.3g} FLOPs = "
            f"{100 * tuning / target:.3g}% of the target's training (width {self.proxy.target.width}, "
            f"{self.proxy.target.steps} steps); one search looks at {self.study.search}: {100 * one / target:.3g}%; "
            f"for that and one training, direct tuning gets {self.direct}"
        ]
        if parameters:
            s, t = parameters(proxy_run), parameters(target_run)
            share = tuning_cost_fraction(s, self.study.pools, t, target_run.steps)
            found.append(f"counted by parameters, as App. F.4 does: {s:.3g} and {t:.3g} parameters, {100 * share:.3g}%")
        one_example = memory(replace(target_run, batch=1)) / 2**20
        found.append(
            f"the target with one sequence at a time: {one_example:,.0f} MiB (sequences are not split over devices)"
        )
        return found


def study(plan: Plan, train: Train) -> tuple[pd.DataFrame, pd.DataFrame, list[RunRecord]]:
    """Run it: the runs table with role and sample, Figure 8's curves, and all records.

    Raises `UserError` if no sample of the pool has trained.
    """

    def rows(*groups: tuple[str, Sequence[int], Sequence[RunSpec]]) -> list[Row]:
        # all in one sweep, so that no worker waits for the longest of each group; equal runs are made once
        specs = dict.fromkeys(spec for _, _, specs in groups for spec in specs)
        found = {record.spec: record for record in train([*specs])}
        return [(role, i, found[s]) for role, samples, specs in groups for i, s in zip(samples, specs, strict=True)]

    def all_of(role: str, search: Search) -> tuple[str, Sequence[int], Sequence[RunSpec]]:
        samples = range(len(search.samples))
        return role, samples, search.runs(samples)

    pool = rows(*(all_of("proxy_short", search) for search in plan.short), all_of("proxy", plan.proxy))
    losses = {i: record.train_loss for role, i, record in pool if role == "proxy"}
    s = plan.study
    chosen = winners(losses, searches(len(losses), s.search, s.searches, plan.proxy.seed))
    distinct = sorted({i for i in chosen if i is not None})
    if not distinct:
        raise UserError(
            f"no sample of {len(losses)} has trained to the end at width {plan.proxy.proxy.width}; lower the learning "
            "rates of the space or give more samples."
        )
    best = min(distinct, key=lambda i: (losses[i], i))
    targets = rows(
        ("mutransfer", distinct, plan.copies(distinct, "mup")),
        ("naive", distinct, plan.copies(distinct, "sp")),
        ("direct", range(s.direct_samples), plan.directs()),
        ("default", [-1], [plan.default]),
        ("default_long", [-1], [plan.default_long]),
        ("width", [best] * len(s.widths), plan.over_widths(best)),
    )
    table = [*pool, *targets]
    frame = to_roles(table, [name for name in sorted(plan.proxy.space) if name not in ("lr", "momentum")], plan.flops)
    curves = curve_rows(("width", record) for role, _, record in table if role == "width")
    return frame, curves, [record for _, _, record in table]
