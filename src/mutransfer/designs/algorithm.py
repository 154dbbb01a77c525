"""Algorithm 1: search on a small proxy, copy the winner to the target; beside it the alternatives. A search is data.

Pools of samples are trained. A search looks at some samples of a pool, and its winner is the one with the least loss.
A `Copy` trains a target with a pool's winners: in µP those of the proxy (µTransfer), in SP the same ones (naive
transfer: at the base width the two are one) or those of a pool on the target itself (direct tuning). `Fixed` and `Long`
train it with default hyperparameters, `Drawn` with every sample of a draw of its own.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mutransfer.designs.design import Bench, Design, Output, Tables, with_points
from mutransfer.designs.space import Sample, Space, assign, draw, put
from mutransfer.errors import UserError
from mutransfer.training.spec import RunRecord, RunSpec, Value

if TYPE_CHECKING:
    import pandas as pd

PROXY, DEFAULT = "proxy", -1  # the model that is searched on, and its pool; the sample of default hyperparameters
SCRATCH = "_scratch"  # ends a score's name if the model was not pretrained
Row = tuple[str, str, int, RunRecord]  # role, model, sample, run


@dataclass(frozen=True, kw_only=True)
class Model:
    """What trains a pool, or gets a winner."""

    width: int | None = None  # None: the narrowest for the proxy, the widest for a target
    hps: Mapping[str, Value] = field(default_factory=dict)  # what else is its own, such as the depth
    scored: Mapping[str, Value] = field(default_factory=dict)  # more of what a target trains, such as the beam
    methods: tuple[str, ...] = ()  # roles that train it; (): all
    published: str = ""  # the model as values.csv names it, "BERT-base"


@dataclass(frozen=True)
class Score:
    """What a target's run reports beside its loss; the run's value is in ``unit``."""

    label: str  # the task, "SST-2"
    metric: str = "accuracy"
    unit: str = "%"
    published: str = ""  # the metric as values.csv names it, "QQP acc"; "" for a task that the paper has not


@dataclass(frozen=True)
class Pool:
    """Samples that are trained for searches to look at."""

    role: str  # in the runs table
    at: str = PROXY  # the model that trains them
    parametrization: str = "mup"


@dataclass(frozen=True)
class Fixed:
    """The target with default hyperparameters (`Numbers.default`)."""

    role: str
    parametrization: str = "sp"


class Long(Fixed):
    """The same, trained for the compute of a search as well."""


class Drawn(Fixed):
    """The target with every sample of a draw of its own, as many as `Numbers.samples` says."""


@dataclass(frozen=True)
class Copy(Fixed):
    """The target with the winners of searches in a pool.

    is_equal: a search looks at as many samples as a search on the proxy and the training of its winner cost, not at
    `Numbers.search`. ``has_sizes``: smaller searches are made too (`Numbers.sizes`).
    """

    of: str = PROXY
    is_equal: bool = False
    has_sizes: bool = True


class Widths(Copy):
    """The best of all winners at `Numbers.widths` (Figure 8)."""


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What searches take at one scale."""

    samples: Mapping[str, int]  # of each pool and each `Drawn`, by role; a pool without samples is left out
    space: Space = field(default_factory=dict)  # that all are drawn from; none: the variant's
    proxy: Model = Model()
    targets: Mapping[str, Model] = field(default_factory=lambda: {"target": Model()})  # by label
    search: int = 0  # samples that one search looks at; 0: all
    searches: int = 1
    inits: int = 1  # that a target is trained from
    default: Mapping[str, Value] = field(default_factory=dict)  # log2_lr and others, where not the template's
    sizes: tuple[int, ...] = ()  # samples that smaller searches look at (Figure 6)
    widths: tuple[int, ...] = ()  # of `Widths`
    steps: Mapping[str, int] = field(default_factory=dict)  # of a pool, where not its model's
    template: Mapping[str, Value] = field(default_factory=dict)  # of all runs, where not the scale's
    scores: Mapping[str, Score] = field(default_factory=dict)  # that have a column if a run reports them, by name
    differs: str = ""  # what else is not the paper's, parted by "; "


@dataclass(frozen=True, kw_only=True)
class Tuning(Output):
    """A table or figure of searches: which pools, and who gets their winners.

    kind: "searches", "study", "transfer" or "search": how it is drawn, and what provenance.json says of it.
    select: the loss that winners have least, "training" or "validation".
    scores: columns of what target's runs report. ``judged``: changes of the runs by which pretraining is judged
    (``judges``), where the target is scored.
    is_halved: successive halving; a rung trains its samples from scratch, as runs of fewer steps. At a constant
    learning rate such a run is the first part of the longer one, step by step. A schedule that ends with the run is
    drawn together with it: then a short run ranks annealed models.
    has_naive: the same search in SP too, its winner copied in SP.
    seed: of the samples.
    """

    kind: str
    table: str  # "Table 4"
    pools: tuple[Pool, ...] = (Pool(PROXY),)
    methods: tuple[Fixed, ...]
    numbers: Mapping[str, Numbers]  # by scale
    select: str = "validation"
    statement: str = ""  # what the paper's table says; "": the variant's
    percentiles: tuple[int, ...] = ()  # over searches, 100 the best
    scores: tuple[str, ...] = ()
    judged: Mapping[str, Value] = field(default_factory=dict)
    judges: tuple[str, ...] = ()
    is_halved: bool = False
    has_naive: bool = False
    seed: int = 0

    @property
    def part(self) -> str:
        return super().part or (self.table.lower().replace(" ", "_") if self.kind in ("searches", "transfer") else "")

    def algorithm(self, bench: Bench) -> Algorithm:
        """At the scale of ``bench``."""
        numbers = self.numbers[bench.scale]
        numbers = replace(numbers, space=numbers.space or bench.declared.search)
        return Algorithm(self, numbers, bench.specs(seeds=1), bench.experiment.code.flops, bench.known)

    def design(self, bench: Bench) -> Design[list[Row]]:
        return self.algorithm(bench).run()

    def tables(self, bench: Bench, trained: list[Row]) -> Tables:
        from mutransfer.runs.table import curve_rows

        algorithm, records = self.algorithm(bench), [record for *_, record in trained]
        frame, facts = algorithm.frame(trained), algorithm.facts
        if self.kind == "search":
            return Tables(runs=frame, facts={"search": facts})
        if self.kind == "transfer":
            facts["scores"] = {name: score for name, score in facts["scores"].items() if name in frame.columns}
        about: dict[str, Any] = {"kind": self.kind, self.kind: facts}
        tables = {}
        if self.kind == "searches":
            about["signature"] = next((r.provenance["bleu"] for r in records if "bleu" in r.provenance), "")
        if self.kind == "study":
            about["learning"] = {"panels": {"width": "µP, the best sample's hyperparameters"}}
            tables["curves.csv"] = curve_rows((role, record) for role, _, _, record in trained if role == "width")
        where = f"Figure {self.number}" if self.number else self.table
        paper = {"table_or_figure": where, "statement": self.statement} if self.statement else bench.declared.paper
        about["paper"] = bench.paper(records, paper, algorithm.differs, algorithm.numbers.inits)
        return Tables(runs=frame, facts=about, others=tables)

    def notes(self, bench: Bench) -> list[str]:
        return self.algorithm(bench).notes(bench.experiment.code)


@dataclass(frozen=True)
class Algorithm:
    """`Tuning` at one scale: what they train.

    Raises `UserError` for a space that is empty or has names that the specs do not have, for searches that look at more
    samples than their pool has, and for a table of transfer whose proxy is not at the base width, where µP is SP, or
    whose targets are not wider, or deeper and otherwise the same.
    """

    declared: Tuning
    numbers: Numbers
    specs: Sequence[RunSpec]  # the experiment's grid, of which the first run and all widths count
    flops: Callable[[RunSpec], float]
    known: Callable[[list[str]], Mapping[str, RunRecord]] | None = None  # records of runs that are done, by id
    within: str = ""  # the parametrization of all runs; "": as declared

    def __post_init__(self) -> None:
        d, n, spec = self.declared, self.numbers, self.specs[0]
        if len({s.width for s in self.specs}) < 2 and None in (n.proxy.width, *(t.width for t in n.targets.values())):
            raise UserError("tuning needs two widths in µP, a proxy's and the target's, such as --widths 64,1024.")
        if not n.space:
            where = f"{d.table}; give it Numbers.space" if d.table else f"{spec.variant}; give it Variant.search"
            raise UserError(f"{spec.experiment} declares no search space for {where}.")
        if d.kind == "transfer":
            self._check_transfer()
        for pool in self.pools:  # a wrong name shows now, not after hours
            self.pool(pool)
        for method in d.methods:
            for label in self.targets(method):
                self.evaluated(method, label, DEFAULT if type(method) in (Fixed, Long) else 0)
            if isinstance(method, Copy) and (size := self.looks(method)) > (count := len(self.samples[method.of])):
                where = PROXY if method.of == PROXY else "target"
                raise UserError(f"a search on the {where} looks at {size} samples of a pool of {count}.")

    def _check_transfer(self) -> None:
        n, table, proxy = self.numbers, self.declared.table, self.model(PROXY)
        if proxy.width != proxy.base_width:
            raise UserError(f"the proxy of {table} has width {proxy.width} and µP's base width is {proxy.base_width}.")
        if own := sorted({name for target in n.targets.values() for name in target.hps} & set(n.space)):
            raise UserError(f"the space has {', '.join(own)}, which a target of {table} has of its own.")
        if "both" not in [self.changes(label) for label in n.targets]:
            raise UserError(f"{table} has no target that is wider and deeper than the proxy; give it one.")

    # ---- what there is to train --------------------------------------------------------------------------------

    @property
    def pools(self) -> list[Pool]:
        return [pool for pool in self.declared.pools if self.numbers.samples.get(pool.role)]

    @cached_property
    def seeds(self) -> dict[str, int]:
        """Of the draws of the pools and of `Drawn`, by role: no two are the same."""
        drawn = [method.role for method in self.declared.methods if isinstance(method, Drawn)]
        return {role: self.declared.seed + k for k, role in enumerate([*(pool.role for pool in self.pools), *drawn])}

    @cached_property
    def samples(self) -> dict[str, list[Sample]]:
        """Of the pools and of `Drawn`, by role."""
        return {role: draw(self.numbers.space, self.numbers.samples[role], seed) for role, seed in self.seeds.items()}

    def model(self, label: str, parametrization: str = "mup", role: str = "") -> RunSpec:
        """The run of a model that lacks only the sample; ``role``: by which method."""
        n, widths = self.numbers, [spec.width for spec in self.specs]
        m = n.proxy if label == PROXY else n.targets[label]
        width = m.width or (min(widths) if label == PROXY else max(widths))
        start = replace(self.specs[0], parametrization=self.within or parametrization, seed=0)
        spec = put(put(start, n.template), {"width": width, **m.hps, **m.scored})
        return put(spec, self.declared.judged) if m.scored and role in self.declared.judges else spec

    def pool(self, pool: Pool) -> list[RunSpec]:
        spec = self.model(pool.at, pool.parametrization)
        spec = replace(spec, steps=self.numbers.steps.get(pool.role, spec.steps))
        return [assign(spec, sample) for sample in self.samples[pool.role]]

    def targets(self, method: Fixed) -> list[str]:
        """Labels of those that ``method`` trains."""
        return [label for label, m in self.numbers.targets.items() if not m.methods or method.role in m.methods]

    def evaluated(self, method: Fixed, label: str, sample: int) -> list[RunSpec]:
        """The target from every init; ``sample``: of the winner."""
        spec = self.model(label, method.parametrization, method.role)
        if isinstance(method, Copy | Drawn):
            role = method.of if isinstance(method, Copy) else method.role
            spec = assign(spec, self.samples[role][sample])
        else:
            spec = put(spec, self.numbers.default)
        if isinstance(method, Long):
            spec = replace(spec, steps=round(spec.steps * (1 + self.search_flops() / self.flops(spec))))
        widths = self.numbers.widths if isinstance(method, Widths) else [spec.width]
        return [replace(spec, width=width, seed=seed) for width in widths for seed in range(self.numbers.inits)]

    # ---- what searches look at -----------------------------------------------------------------------------------

    @cached_property
    def tuning_flops(self) -> float:
        """FLOPs of all pools on the proxy."""
        return sum(self.flops(spec) for pool in self.pools if pool.at == PROXY for spec in self.pool(pool))

    def search_flops(self, looks: int = 0) -> float:
        """FLOPs of one search on the proxy, with its part of all pools there; ``looks``: at so many samples."""
        pool = len(self.samples[PROXY])
        return (looks or self.numbers.search or pool) / pool * self.tuning_flops

    @cached_property
    def target_flops(self) -> float:
        """FLOPs of one training of the first target as the methods train it."""
        return self.flops(self.model(next(iter(self.numbers.targets)), "sp"))

    def direct(self, looks: int = 0) -> int:
        """Samples on the target for the compute of one search on the proxy and the training of its winner."""
        return 1 + round(self.search_flops(looks) / self.target_flops)

    def looks(self, method: Copy) -> int:
        """Samples that one search looks at."""
        return self.direct() if method.is_equal else self.numbers.search or len(self.samples[method.of])

    def sizes(self, method: Copy) -> list[int]:
        """Samples that searches look at, ascending; the last is the whole search."""
        n, whole = self.numbers, self.looks(method)
        if not n.sizes or not method.has_sizes:
            return [whole]
        smaller = sorted({*n.sizes, n.search})
        return sorted({*map(self.direct, smaller), *range(1, whole + 1)}) if method.is_equal else smaller

    def winners(self, method: Copy, losses: Mapping[int, float]) -> list[int]:
        """Of all searches, each once, given the losses of the pool by sample."""
        from mutransfer.results.selection import searches, winners

        best = dict[int, None]()
        for size in self.sizes(method):
            looks: Sequence[Sequence[int]] = [[*losses]]  # all that trained to the end, where none is told
            if method.is_equal or self.numbers.search:
                looks = searches(len(losses), size, self.numbers.searches, self.seeds[PROXY])
            best |= {i: None for i in winners(losses, looks) if i is not None}
        if isinstance(method, Widths):
            return [min(best, key=lambda i: (losses[i], i))]
        return sorted(best) if self.declared.kind == "study" else [*best]

    # ---- the runs ------------------------------------------------------------------------------------------------

    def run(self) -> Design[list[Row]]:
        """Train the pools, then all targets at once, so that no worker waits; a row for every run in every role.

        Raises `UserError` if no sample of the proxy has trained to the end.
        """
        pools = [(pool.role, pool.at, i, spec) for pool in self.pools for i, spec in enumerate(self.pool(pool))]
        rows = yield from self._halved() if self.declared.is_halved else _rows(pools)
        losses: dict[str, dict[int, float]] = {}
        last = max(record.spec.steps for role, _, _, record in rows if role == PROXY)
        for role, _, sample, record in rows:
            if role != PROXY or record.spec.steps == last:
                losses.setdefault(role, {})[sample] = self._loss(record)
        if not any(math.isfinite(loss) for loss in losses[PROXY].values()):
            proxy, count = self.model(PROXY), len(self.samples[PROXY])
            counts = Counter(record.status for role, _, _, record in rows if role == PROXY)
            raise UserError(
                f"no sample of {count} has trained to the end at width {proxy.width} ({proxy.parametrization}), "
                f"{', '.join(f'{n} {status}' for status, n in sorted(counts.items()))}; "
                "lower the learning rates of the space or give more samples."
            )
        todo: list[tuple[str, str, int, RunSpec]] = []
        for label in self.numbers.targets:
            for method in self.declared.methods:
                if label not in self.targets(method):
                    continue
                samples: Iterable[int] = [DEFAULT]
                if isinstance(method, Copy):
                    samples = self.winners(method, losses[method.of])
                elif isinstance(method, Drawn):
                    samples = range(len(self.samples[method.role]))
                todo += [(method.role, label, i, spec) for i in samples for spec in self.evaluated(method, label, i)]
        rows += yield from _rows(todo)
        if self.declared.is_halved and self.known and not self.within:
            specs = self.pool(self.pools[0])
            done = self.known([spec.run_id for spec in specs])
            if len(done) == len(specs):  # the full search: for the agreement of the two
                rows += [("full", PROXY, i, done[spec.run_id]) for i, spec in enumerate(specs)]
        if self.declared.has_naive and not self.within:
            rows += yield from replace(self, within="sp").run()
        return rows

    def _loss(self, record: RunRecord) -> float:
        """+inf of a run that diverged, NaN of one without a result."""
        is_lost = record.status == "diverged" or self.declared.select == "training"
        return record.train_loss if is_lost else record.test_loss

    def _halved(self) -> Design[list[Row]]:
        """The rungs of successive halving. The best of a rung go on; should they diverge later, the next in line."""
        from mutransfer.results.selection import ranking, rung_plan

        rows, specs = list[Row](), self.pool(self.pools[0])
        best: list[int] = [*range(len(specs))]
        for count, steps in rung_plan(len(specs), specs[0].steps):
            waiting, losses = best, dict[int, float]()
            while waiting and not ranking(losses):
                chosen, waiting = waiting[:count], waiting[count:]
                new = yield from _rows([(PROXY, PROXY, i, replace(specs[i], steps=steps)) for i in chosen])
                rows += new
                losses |= {i: self._loss(record) for _, _, i, record in new}
            best = ranking(losses)
        return rows

    # ---- the table -----------------------------------------------------------------------------------------------

    def frame(self, rows: Sequence[Row]) -> pd.DataFrame:
        """The runs table with role and sample, what was searched, FLOPs and scores."""
        from mutransfer.results.selection import rung_plan

        d, n, records = self.declared, self.numbers, [record for *_, record in rows]
        own = {name for target in n.targets.values() for name in target.hps} if d.kind == "transfer" else set()
        hps = sorted(name for name in {*n.space, *own} if name in dict(self.specs[0].hps))
        points = [(role, label, i, record.spec.run_id) for role, label, i, record in rows]
        frame = with_points(points, ("role", "target", "sample"), records, hps)
        if d.kind != "transfer":
            del frame["target"]
        frame["flops"] = frame["run_id"].map({r.spec.run_id: self.flops(r.spec) for r in records})
        reported = {name for record in records for name in record.scores}
        names = [name + end for name in n.scores for end in ("", SCRATCH) if name + end in reported]
        for name in (*d.scores, *names):
            frame[name] = frame["run_id"].map({r.spec.run_id: r.scores.get(name, math.nan) for r in records})
        if d.kind != "search":
            return frame
        if not d.is_halved:
            with contextlib.suppress(UserError):  # no room for halving: nothing to say of it
                for _, steps in rung_plan(len(self.samples[PROXY]), self.model(PROXY).steps)[:-1]:
                    losses = frame["run_id"].map({r.spec.run_id: loss_at(r, steps) for r in records})
                    frame[f"loss_at_{steps}"] = losses.where(frame["role"] == PROXY)
        places = {role: i for i, role in enumerate((PROXY, "target", "full"))}
        order = frame.assign(role=frame["role"].map(places), sp=frame["parametrization"] == "sp")
        return frame.loc[order.sort_values(["sp", "role", "steps", "sample"]).index].reset_index(drop=True)

    # ---- what is said of it --------------------------------------------------------------------------------------

    def changes(self, label: str) -> str:
        """``width``, ``depth`` or ``both``: what the target has other than the proxy.

        Raises `UserError` for a target that is the proxy's size, or only deeper but otherwise changed.
        """
        proxy, target = self.model(PROXY), self.model(label)
        is_deeper, own = target.hp("depth") != proxy.hp("depth"), set(self.numbers.targets[label].hps) - {"depth"}
        if target.width != proxy.width:
            return "both" if is_deeper else "width"
        if not is_deeper or own:
            what = f"changes {', '.join(sorted(own))}" if own else "is no deeper"
            raise UserError(f"target '{label}' has the proxy's width and {what}; make it wider, or only deeper.")
        return "depth"

    @property
    def facts(self) -> dict[str, Any]:
        """For provenance.json: what was searched, and where it was copied."""
        d, n, proxy = self.declared, self.numbers, self.model(PROXY)
        space = {name: str(distribution) for name, distribution in sorted(n.space.items())}
        facts: dict[str, Any] = {"space": space, "seed": self.seeds[PROXY], "samples": len(self.samples[PROXY])}
        if d.kind == "search":
            return {**facts, "is_halved": d.is_halved}
        if d.kind != "study":
            facts |= {"table": d.table, "inits": n.inits}
        if d.kind == "transfer":
            targets = dict[str, Any]()
            for label, m in n.targets.items():
                spec, roles = self.model(label), [method.role for method in d.methods if label in self.targets(method)]
                size = {"width": spec.width, "depth": spec.hp("depth"), "changes": self.changes(label)}
                targets[label] = {**size, "roles": roles, "published": m.published}
            proxy_facts = {"width": proxy.width, "depth": proxy.hp("depth"), "steps": proxy.steps}
            scores = {name: asdict(score) for name, score in n.scores.items()}
            return {**facts, "proxy": proxy_facts, "targets": targets, "default": dict(n.default), "scores": scores}
        if d.kind == "searches":
            copies = [method for method in d.methods if isinstance(method, Copy) and method.has_sizes]
            sizes = {method.role: self.sizes(method) if n.sizes else [] for method in copies}
            facts |= {"percentiles": [*d.percentiles], "sizes": sizes}
        return {
            **facts,
            "search": n.search,
            "searches": n.searches,
            "direct": self.direct(),
            "direct_samples": next(n.samples[role] for role in ("direct", "direct_pool") if role in n.samples),
            "default_lr": 2.0 ** float(n.default["log2_lr"]),
            "proxy_width": proxy.width,
            "target_width": self.model(next(iter(n.targets))).width,
        }

    @property
    def differs(self) -> str:
        """What opens the list of differences from the paper."""
        n, proxy = self.numbers, self.model(PROXY)
        specs = {label: self.model(label) for label in n.targets}
        if self.declared.kind == "transfer":
            sizes = [f"{name} (width {s.width}, depth {s.hp('depth')}, {s.steps} steps)" for name, s in specs.items()]
            start = f"proxy of width {proxy.width} and depth {proxy.hp('depth')}, {proxy.steps} steps"
            return "; ".join(filter(None, [start, f"targets: {', '.join(sizes)}", n.differs]))
        target = next(iter(specs.values()))
        words = f"proxy of width {proxy.width}, target of width {target.width}"
        return words + (f", trained for {target.steps} steps" if self.declared.kind == "study" else "")

    def notes(self, code: Any) -> list[str]:
        """Below the plan: what is searched, and what that costs if no run diverges."""
        from mutransfer.results.selection import tuning_cost_fraction

        d, n, proxy = self.declared, self.numbers, self.model(PROXY)
        pools = [spec for pool in self.pools if pool.at == PROXY for spec in self.pool(pool)]
        targets = {label: put(self.model(label, "sp"), n.default) for label in n.targets}
        costs = [
            f"{100 * self.tuning_flops / self.flops(spec):.3g}% of one training of {label} (width {spec.width}, "
            f"{spec.steps} steps)"
            for label, spec in targets.items()
        ]
        lines = [
            f"{d.table or 'tuning'}: {len(pools)} samples at width {proxy.width}, {self.tuning_flops:.3g} FLOPs = "
            f"{', '.join(costs)}; of {', '.join(f'{name} {space}' for name, space in sorted(n.space.items()))}"
        ]
        if n.search:
            lines.append(
                f"searches of {n.search}, {n.searches} in all, each the cost of "
                f"{self.search_flops() / self.target_flops:.3g} trainings of the target; for that and one training, "
                f"direct tuning gets {self.direct()}"
            )
        if n.inits > 1:
            more = "; what scoring them takes comes on top" * any(target.scored for target in n.targets.values())
            lines.append(f"each target is trained from {n.inits} inits{more}")
        if d.kind != "study":
            return lines
        target = next(iter(targets.values()))
        if parameters := getattr(code, "parameters", None):
            s, t = parameters(proxy), parameters(target)
            share = tuning_cost_fraction(s, [(1, spec.steps) for spec in pools], t, target.steps)
            lines.append(f"counted by parameters, as App. F.4 does: {s:.3g} and {t:.3g} parameters, {100 * share:.3g}%")
        return lines


def _rows(todo: Sequence[tuple[str, str, int, RunSpec]]) -> Design[list[Row]]:
    """Train (role, model, sample, run) at once."""
    records = yield [spec for *_, spec in todo]
    return [(role, label, i, record) for (role, label, i, _), record in zip(todo, records, strict=True)]


def loss_at(record: RunRecord, steps: int) -> float:
    """The training loss after ``steps`` steps: the last point of the loss curve that lies wholly before.

    +inf if the run had diverged by then, NaN if it failed or the curve has no such point.
    """
    if record.is_done and record.steps_done < steps:
        return math.inf
    losses = [loss for step, loss in record.logged() if step <= steps] if record.is_done else []
    return losses[-1] if losses else math.nan
