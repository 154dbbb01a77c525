"""Tables 4 and 5, Figure 6: random searches on a proxy, repeated, against searches on the target itself.

All searches look at parts of two pools: samples trained on the proxy, and samples trained on the target in SP. A
search's winner has the least validation loss of its samples. The proxy's winners are copied to the target in µP
(µTransfer) and in SP (naive transfer: at the proxy's width the two are one); each winner's hyperparameters train the
target from several inits, and only the target's runs are translated with and scored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from mutransfer.designs.figure import put
from mutransfer.designs.rows import to_roles
from mutransfer.designs.search import Search, Space, assign
from mutransfer.errors import UserError
from mutransfer.results.selection import searches, winners
from mutransfer.training.spec import RunRecord, RunSpec, Value

Train = Callable[[Sequence[RunSpec]], Iterable[RunRecord]]
Row = tuple[str, int, RunRecord]  # role, sample (-1: the default), run


@dataclass(frozen=True, kw_only=True)
class Searches:
    """The numbers of a table of searches at one scale."""

    table: str  # "Table 4"
    widths: tuple[int, int]  # proxy, target
    pool: int  # samples trained on the proxy
    search: int  # of them, that one search looks at
    searches: int
    direct_pool: int  # samples trained on the target
    inits: int  # that each winner is trained from
    percentiles: tuple[int, ...]  # over searches, 100 the best
    default_log2_lr: float  # in SP, all multipliers 1
    space: Space  # that both pools are drawn from
    statement: str  # what the paper's table says
    sizes: tuple[int, ...] = ()  # of Figure 6: samples that smaller searches look at
    template: Mapping[str, Value] = field(default_factory=dict)  # of all runs, where not the scale's
    scored: Mapping[str, Value] = field(default_factory=dict)  # of the target's runs, such as the beam


@dataclass(frozen=True)
class Plan:
    """The runs, as far as they are known before the pools have trained."""

    numbers: Searches
    proxy: Search
    direct: Search  # its proxy is the target, in SP
    default: RunSpec
    flops: Callable[[RunSpec], float]
    has_sizes: bool  # whether smaller searches are made too (Figure 6)

    @classmethod
    def of(
        cls,
        numbers: Searches,
        specs: Iterable[RunSpec],
        flops: Callable[[RunSpec], float],
        *,
        seed: int = 0,
        has_sizes: bool = False,
    ) -> Plan:
        """Of an experiment's grid over the two widths. Raises `UserError` as `Search.plan` does, or for small pools."""
        found = []
        for spec in specs:
            for name, value in numbers.template.items():
                spec = put(spec, name, value)
            found.append(spec)
        proxy = Search.plan(found, numbers.space, samples=numbers.pool, seed=seed)
        target = proxy.target
        for name, value in numbers.scored.items():
            target = put(target, name, value)
        proxy, in_sp = replace(proxy, target=target), replace(target, parametrization="sp")
        # other samples than the proxy's
        direct = Search.plan([proxy.proxy, target], numbers.space, samples=numbers.direct_pool, seed=seed + 1)
        direct = replace(direct, proxy=in_sp, target=in_sp)
        plan = cls(numbers, proxy, direct, replace(in_sp, log2_lr=numbers.default_log2_lr), flops, has_sizes)
        for what, search, size in (("proxy", proxy, numbers.search), ("target", direct, plan.direct_size)):
            if size > len(search.samples):
                raise UserError(f"a search on the {what} looks at {size} samples of a pool of {len(search.samples)}.")
        return plan

    @property
    def direct_size(self) -> int:
        """Samples on the target for the compute of one search on the proxy and the training of its winner."""
        return self._worth(self.numbers.search)

    def _worth(self, samples: int) -> int:
        return 1 + round(samples * self.flops(self.proxy.proxy) / self.flops(self.default))

    @property
    def sizes(self) -> dict[str, list[int]]:
        """Samples that searches look at, by method, ascending; the last is the whole search."""
        sizes = sorted({*self.numbers.sizes, self.numbers.search}) if self.has_sizes else []
        direct = sorted({self._worth(n) for n in sizes} | set(range(1, self.direct_size + 1))) if sizes else []
        return {"mutransfer": sizes, "direct": direct}

    def pool(self) -> list[RunSpec]:
        return [spec for search in (self.proxy, self.direct) for spec in search.runs(range(len(search.samples)))]

    def evaluated(self, role: str, sample: int) -> list[RunSpec]:
        """The target with a sample's hyperparameters, from every init."""
        if role == "default":
            spec = self.default
        elif role == "direct":
            spec = assign(self.direct.target, self.direct.samples[sample])
        else:
            spec = self.proxy.within({"mutransfer": "mup", "naive": "sp"}[role]).copied(sample)
        return [replace(spec, seed=seed) for seed in range(self.numbers.inits)]

    def chosen(self, losses: Mapping[str, Mapping[int, float]]) -> list[tuple[str, int]]:
        """(role, sample) of all winners, given the validation losses of the pools ("proxy", "direct") by sample."""
        n, found = self.numbers, dict[tuple[str, int], None]()
        whole = {"mutransfer": [n.search], "direct": [self.direct_size]}
        sizes = self.sizes if self.has_sizes else whole
        for role, pool, size in [
            *(("mutransfer", "proxy", size) for size in sizes["mutransfer"]),
            ("naive", "proxy", n.search),
            *(("direct", "direct", size) for size in sizes["direct"]),
        ]:
            looks = searches(len(losses[pool]), size, n.searches, self.proxy.seed)
            found |= {(role, i): None for i in winners(losses[pool], looks) if i is not None}
        return [*found, ("default", -1)]

    def expected(self) -> list[RunSpec]:
        """About what will run: the first samples stand for the winners, with losses in their order."""
        losses = {
            "proxy": {i: float(i) for i in range(len(self.proxy.samples))},
            "direct": {i: float(i) for i in range(len(self.direct.samples))},
        }
        return [*self.pool(), *(spec for choice in self.chosen(losses) for spec in self.evaluated(*choice))]

    @property
    def facts(self) -> dict[str, Any]:
        """For provenance.json: what was searched, and how."""
        n = self.numbers
        return {
            **self.proxy.facts,
            "table": n.table,
            "search": n.search,
            "searches": n.searches,
            "direct": self.direct_size,
            "direct_samples": len(self.direct.samples),
            "inits": n.inits,
            "percentiles": list(n.percentiles),
            "sizes": self.sizes,
            "default_lr": 2.0**n.default_log2_lr,
            "proxy_width": self.proxy.proxy.width,
            "target_width": self.proxy.target.width,
        }

    def line(self) -> str:
        """What the searches look at, and what that costs, before it runs."""
        n, target = self.numbers, self.flops(self.default)
        one = n.search * self.flops(self.proxy.proxy) / target
        return (
            f"{n.table}: {n.searches} searches of {n.search} from {len(self.proxy.samples)} samples at width "
            f"{n.widths[0]}, each search the cost of {one:.3g} trainings at width {n.widths[1]}; there, searches of "
            f"{self.direct_size} from {len(self.direct.samples)}; each winner from {n.inits} inits"
        )


def repeated(plan: Plan, train: Train, scores: Sequence[str]) -> tuple[pd.DataFrame, list[RunRecord]]:
    """Run it: the runs table with role and sample and a column a score, and all records."""
    found: dict[RunSpec, RunRecord] = {}

    def run(specs: Iterable[RunSpec]) -> None:
        found.update((record.spec, record) for record in train([*dict.fromkeys(specs)]))

    run(plan.pool())
    pools = [("proxy", plan.proxy), ("direct_pool", plan.direct)]
    rows: list[Row] = []
    losses: dict[str, dict[int, float]] = {}
    for role, search in pools:
        specs = search.runs(range(len(search.samples)))
        rows += [(role, i, found[spec]) for i, spec in enumerate(specs)]
        losses[role.removesuffix("_pool")] = {i: validation_loss(found[spec]) for i, spec in enumerate(specs)}
    choices = plan.chosen(losses)
    run([*(spec for choice in choices for spec in plan.evaluated(*choice))])
    rows += [(role, i, found[spec]) for role, i in choices for spec in plan.evaluated(role, i)]
    hps = [name for name in sorted(plan.proxy.space) if name not in ("lr", "momentum")]
    frame = to_roles(rows, hps, plan.flops)
    for score in scores:
        frame[score] = [record.scores.get(score, math.nan) for _, _, record in rows]
    return frame, [*found.values()]


def validation_loss(record: RunRecord) -> float:
    """+inf of a run that diverged, NaN of one without a result."""
    return math.inf if record.status == "diverged" else record.test_loss
