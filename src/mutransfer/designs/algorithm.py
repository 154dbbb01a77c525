"""Algorithm 1: search on a small proxy, copy the winner to the target; beside it the alternatives. A search is data.

Pools of samples are trained. A search looks at some samples of a pool, and its winner is the one with the least loss.
A `Copy` trains a target with a pool's winners: in µP those of the proxy (µTransfer), in SP the same ones (naive
transfer: at the base width the two are one) or those of a pool on the target itself (direct tuning). `Fixed` and `Long`
train it with default hyperparameters, `Drawn` with every sample of a draw of its own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mutransfer.designs.design import Bench, Design, Output, Tables
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

    @property
    def is_tolerant(self) -> bool:
        return self.kind == "search"

    @property
    def below(self) -> str:
        return "tune" if self.kind == "search" else ""

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
        """What is searched and copied, and what that costs, before it runs."""
        algorithm, code = self.algorithm(bench), bench.experiment.code
        match self.kind:
            case "search":
                return [algorithm.search_line]
            case "searches":
                return [algorithm.searches_line]
            case "transfer":
                return [algorithm.transfer_line]
        return algorithm.study_lines(getattr(code, "parameters", None))


@dataclass(frozen=True)
class Algorithm:
    """`Tuning` at one scale: what they train.

    Raises `UserError` for a space that is empty or has names that the specs do not have, for searches that look at more
    samples than their pool has, and for a table of transfer as `_check_transfer` says.
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
        """The proxy is at the base width, where µP is SP; a target is wider, or deeper and otherwise the same."""
        n, table, proxy = self.numbers, self.declared.table, self.model(PROXY)
        if proxy.width != proxy.base_width:
            raise UserError(
                f"the proxy of {table} has width {proxy.width} and µP's base width is {proxy.base_width}: its "
                "runs serve SP and µP only where the two are one."
            )
        if PROXY in n.targets:
            raise UserError(f"a target of {table} is called '{PROXY}', the name of another; give it its own.")
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
            spec = replace(spec, steps=round(spec.steps * (1 + self.search_flops / self.flops(spec))))
        widths = self.numbers.widths if isinstance(method, Widths) else [spec.width]
        return [replace(spec, width=width, seed=seed) for width in widths for seed in range(self.numbers.inits)]

    # ---- what searches look at -----------------------------------------------------------------------------------

    @cached_property
    def tuning_flops(self) -> float:
        """FLOPs of all pools on the proxy."""
        return sum(self.flops(spec) for pool in self.pools if pool.at == PROXY for spec in self.pool(pool))

    @property
    def search_flops(self) -> float:
        """FLOPs of one search on the proxy, with its part of all pools there."""
        pool = len(self.samples[PROXY])
        return (self.numbers.search or pool) / pool * self.tuning_flops

    @cached_property
    def target_flops(self) -> float:
        """FLOPs of one training of the first target as the methods train it."""
        return self.flops(self.model(next(iter(self.numbers.targets)), "sp"))

    @property
    def direct(self) -> int:
        """Samples on the target for the compute of one search on the proxy and the training of its winner."""
        return self._worth(self.numbers.search)

    def _worth(self, search: int) -> int:
        share = search / len(self.samples[PROXY]) * self.tuning_flops
        return 1 + round(share / self.target_flops)

    def looks(self, method: Copy) -> int:
        """Samples that one search looks at."""
        return self.direct if method.is_equal else self.numbers.search or len(self.samples[method.of])

    def sizes(self, method: Copy) -> list[int]:
        """Samples that searches look at, ascending; the last is the whole search."""
        n, whole = self.numbers, self.looks(method)
        if not n.sizes or not method.has_sizes:
            return [whole]
        smaller = sorted({*n.sizes, n.search})
        return sorted({*map(self._worth, smaller), *range(1, whole + 1)}) if method.is_equal else smaller

    def winners(self, method: Copy, losses: Mapping[int, float]) -> list[int]:
        """Of all searches, each once, given the losses of the pool by sample."""
        from mutransfer.results.selection import searches, winners

        found = dict[int, None]()
        for size in self.sizes(method):
            looks: Sequence[Sequence[int]] = [[*losses]]  # all that trained to the end, where none is told
            if method.is_equal or self.numbers.search:
                looks = searches(len(losses), size, self.numbers.searches, self.seeds[PROXY])
            found |= {i: None for i in winners(losses, looks) if i is not None}
        if isinstance(method, Widths):
            return [min(found, key=lambda i: (losses[i], i))]
        return sorted(found) if self.declared.kind == "study" else [*found]

    # ---- the runs ------------------------------------------------------------------------------------------------

    def run(self) -> Design[list[Row]]:
        """Train the pools, then all targets at once, so that no worker waits; a row for every run in every role.

        Raises `UserError` if no sample of the proxy has trained to the end.
        """
        rows = yield from self._halved() if self.declared.is_halved else self._trained()
        losses: dict[str, dict[int, float]] = {}
        last = max(record.spec.steps for role, _, _, record in rows if role == PROXY)
        for role, _, sample, record in rows:
            if role != PROXY or record.spec.steps == last:
                losses.setdefault(role, {})[sample] = self._loss(record)
        if not any(math.isfinite(loss) for loss in losses[PROXY].values()):
            spec, count = self.pool(self.pools[-1])[0], len(self.samples[PROXY])
            counts = Counter(record.status for role, _, _, record in rows if role == PROXY)
            raise UserError(
                f"no sample of {count} has trained to the end at width {self.model(PROXY).width} "
                f"({spec.parametrization}), {', '.join(f'{n} {status}' for status, n in sorted(counts.items()))}; "
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
        records = yield [spec for *_, spec in todo]
        rows += [(role, label, i, record) for (role, label, i, _), record in zip(todo, records, strict=True)]
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
        if record.status == "diverged":
            return math.inf
        return record.train_loss if self.declared.select == "training" else record.test_loss

    def _trained(self) -> Design[list[Row]]:
        """All samples of all pools, for their whole length."""
        todo = [(pool.role, pool.at, i, spec) for pool in self.pools for i, spec in enumerate(self.pool(pool))]
        records = yield [spec for *_, spec in todo]
        return [(role, at, i, record) for (role, at, i, _), record in zip(todo, records, strict=True)]

    def _halved(self) -> Design[list[Row]]:
        """The rungs of successive halving. The best of a rung go on; should they diverge later, the next in line."""
        from mutransfer.results.selection import ranking, rung_plan

        rows, specs = list[Row](), self.pool(self.pools[0])
        best: list[int] = [*range(len(specs))]
        for count, steps in rung_plan(len(specs), specs[0].steps):
            waiting, losses = best, dict[int, float]()
            while waiting and not ranking(losses):
                chosen, waiting = waiting[:count], waiting[count:]
                records = yield [replace(specs[i], steps=steps) for i in chosen]
                rows += [(PROXY, PROXY, i, record) for i, record in zip(chosen, records, strict=True)]
                losses |= {i: self._loss(record) for i, record in zip(chosen, records, strict=True)}
            best = ranking(losses)
        return rows

    # ---- the table -----------------------------------------------------------------------------------------------

    def frame(self, rows: Iterable[Row]) -> pd.DataFrame:
        """The runs table with role and sample, what was searched, FLOPs and scores."""
        d, n, rows = self.declared, self.numbers, [*rows]
        own = {name for target in n.targets.values() for name in target.hps} if d.kind == "transfer" else set()
        hps = sorted(name for name in {*n.space, *own} if name in dict(self.specs[0].hps))
        frame = to_roles(((role, sample, record) for role, _, sample, record in rows), hps, self.flops)
        if d.kind == "transfer":
            frame.insert(1, "target", [label for _, label, _, _ in rows])
        reported = {name for *_, record in rows for name in record.scores}
        names = [name + end for name in n.scores for end in ("", SCRATCH) if name + end in reported]
        for name in (*d.scores, *names):
            frame[name] = [record.scores.get(name, math.nan) for *_, record in rows]
        if d.kind != "search":
            return frame
        for steps in [] if d.is_halved else self._cuts:
            frame[f"loss_at_{steps}"] = [loss_at(r, steps) if role == PROXY else math.nan for role, _, _, r in rows]
        places = {role: i for i, role in enumerate((PROXY, "target", "full"))}
        order = frame.assign(role=frame["role"].map(places), sp=frame["parametrization"] == "sp")
        return frame.loc[order.sort_values(["sp", "role", "steps", "sample"]).index].reset_index(drop=True)

    @property
    def _cuts(self) -> list[int]:
        """Steps of the rungs that successive halving would have had."""
        from mutransfer.results.selection import rung_plan

        try:
            return [steps for _, steps in rung_plan(len(self.samples[PROXY]), self.model(PROXY).steps)[:-1]]
        except UserError:
            return []

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
        if d.kind == "transfer":
            targets = {
                label: {
                    "width": self.model(label).width,
                    "depth": self.model(label).hp("depth"),
                    "changes": self.changes(label),
                    "roles": [method.role for method in d.methods if label in self.targets(method)],
                    "published": m.published,
                }
                for label, m in n.targets.items()
            }
            return {
                **facts,
                "table": d.table,
                "inits": n.inits,
                "proxy": {"width": proxy.width, "depth": proxy.hp("depth"), "steps": proxy.steps},
                "targets": targets,
                "default": dict(n.default),
                "scores": {name: asdict(score) for name, score in n.scores.items()},
            }
        equal = {"search": n.search, "searches": n.searches, "direct": self.direct}
        equal["direct_samples"] = next(n.samples[role] for role in ("direct", "direct_pool") if role in n.samples)
        where = {"default_lr": 2.0 ** float(n.default["log2_lr"]), "proxy_width": proxy.width}
        where["target_width"] = self.model(next(iter(n.targets))).width
        if d.kind == "study":
            return {**facts, **equal, **where}
        copies = {method.role: method for method in d.methods if isinstance(method, Copy) and method.has_sizes}
        sizes = {role: self.sizes(method) if n.sizes else [] for role, method in copies.items()}
        table = {"inits": n.inits, "percentiles": [*d.percentiles], "sizes": sizes}
        return {**facts, "table": d.table, **equal, **table, **where}

    @property
    def differs(self) -> str:
        """What opens the list of differences from the paper."""
        n, first = self.numbers, next(iter(self.numbers.targets))
        if self.declared.kind == "transfer":
            return "; ".join(filter(None, [self.models, n.differs]))
        words = f"proxy of width {self.model(PROXY).width}, target of width {self.model(first).width}"
        return words + (f", trained for {self.model(first).steps} steps" if self.declared.kind == "study" else "")

    @property
    def models(self) -> str:
        """``proxy of width 64 and depth 2, 100 steps; targets: base (width 128, depth 4, 1000 steps)``."""
        proxy = self.model(PROXY)
        specs = {label: self.model(label) for label in self.numbers.targets}
        words = [f"{name} (width {s.width}, depth {s.hp('depth')}, {s.steps} steps)" for name, s in specs.items()]
        start = f"proxy of width {proxy.width} and depth {proxy.hp('depth')}, {proxy.steps} steps"
        return f"{start}; targets: {', '.join(words)}"

    @property
    def search_line(self) -> str:
        """Of a search without a table: its cost if no run diverges."""
        n, proxy = self.numbers, self.model(PROXY)
        space = ", ".join(f"{name} {distribution}" for name, distribution in sorted(n.space.items()))
        return (
            f"tuning: {len(self.samples[PROXY])} samples of {space}; {proxy.steps} steps each at width "
            f"{proxy.width}: {self.tuning_flops:.3g} FLOPs, {100 * self.tuning_flops / self.target_flops:.3g}% of the "
            f"target's training (width {self.model(next(iter(n.targets))).width})"
        )

    @property
    def searches_line(self) -> str:
        """Of Tables 4 and 5."""
        n, facts = self.numbers, self.facts
        return (
            f"{self.declared.table}: {n.searches} searches of {n.search} from {facts['samples']} samples at width "
            f"{facts['proxy_width']}, each search the cost of {self.search_flops / self.target_flops:.3g} trainings at "
            f"width {facts['target_width']}; there, searches of {facts['direct']} from {facts['direct_samples']}; each "
            f"winner from {n.inits} inits"
        )

    @property
    def transfer_line(self) -> str:
        """Of Table 6."""
        n = self.numbers
        trainings = {label: self.flops(put(self.model(label, "sp"), n.default)) for label in n.targets}
        costs = [f"{self.tuning_flops / flops:.3g} trainings of {label}" for label, flops in trainings.items()]
        more = "; what scoring them takes comes on top" * any(target.scored for target in n.targets.values())
        return (
            f"{self.declared.table}: {len(self.samples[PROXY])} samples; {self.models}; the search costs "
            f"{', '.join(costs)}; each target from {n.inits} inits{more}"
        )

    def study_lines(self, parameters: Callable[[RunSpec], float] | None) -> list[str]:
        """Of a study: what it costs to tune."""
        from mutransfer.results.selection import tuning_cost_fraction

        n, proxy, target = self.numbers, self.model(PROXY), self.model(next(iter(self.numbers.targets)))
        pools = [spec for pool in self.pools for spec in self.pool(pool)]
        lines = [
            f"tuning: {len(pools)} samples at width {proxy.width}, {self.tuning_flops:.3g} FLOPs = "
            f"{100 * self.tuning_flops / self.target_flops:.3g}% of the target's training (width {target.width}, "
            f"{target.steps} steps); one search looks at {n.search}: "
            f"{100 * self.search_flops / self.target_flops:.3g}%; "
            f"for that and one training, direct tuning gets {self.direct}"
        ]
        if parameters:
            s, t = parameters(proxy), parameters(target)
            share = tuning_cost_fraction(s, [(1, spec.steps) for spec in pools], t, target.steps)
            lines.append(f"counted by parameters, as App. F.4 does: {s:.3g} and {t:.3g} parameters, {100 * share:.3g}%")
        return lines


def to_roles(
    rows: Iterable[tuple[str, int, RunRecord]], hps: Sequence[str], flops: Callable[[RunSpec], float]
) -> pd.DataFrame:
    """One row a (role, sample, run) of a search: role, sample, the runs table, ``hps``, FLOPs as planned."""
    import pandas as pd

    from mutransfer.runs.table import to_frame

    parts = []
    for role, sample, record in rows:
        row = to_frame([record], hps)
        row.insert(0, "role", role)
        row.insert(1, "sample", sample)
        parts.append(row.assign(flops=flops(record.spec)))
    return pd.concat(parts, ignore_index=True)


def loss_at(record: RunRecord, steps: int) -> float:
    """The training loss after ``steps`` steps: the last point of the loss curve that lies wholly before.

    +inf if the run had diverged by then, NaN if it failed or the curve has no such point.
    """
    from mutransfer.training.spec import CURVE_POINTS

    if record.status == "failed":
        return math.nan
    if record.steps_done < steps:
        return math.inf
    points = min(CURVE_POINTS, record.spec.steps)
    before = [i for i in range(len(record.loss_curve)) if (i + 1) * record.spec.steps // points <= steps]
    if not before:
        return math.nan
    loss = record.loss_curve[before[-1]]
    return loss if math.isfinite(loss) else math.inf
