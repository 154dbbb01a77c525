"""Table 6: one random search on a proxy, its winner copied to targets that are wider and deeper.

The winner has the least validation loss at the end of pretraining. Each target trains from several inits, the same ones
for all: with the winner's hyperparameters in µP (µTransfer) and in SP (naive transfer: at the proxy's width the two are
one), and with default hyperparameters in SP, as long as the others and for the compute of the search as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pandas as pd

from mutransfer.designs.figure import put
from mutransfer.designs.repeated import validation_loss
from mutransfer.designs.rows import to_roles
from mutransfer.designs.search import Search, Space, draw
from mutransfer.errors import UserError
from mutransfer.results.selection import COPIES, DEFAULT, JUDGED, PROXY, SCRATCH, ranking
from mutransfer.training.spec import RunRecord, RunSpec, Value

Train = Callable[[Sequence[RunSpec]], Iterable[RunRecord]]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A model that gets the winner."""

    width: int
    hps: Mapping[str, Value] = field(default_factory=dict)  # what else is its own, such as the depth
    published: str = ""  # the model as values.csv names it, "BERT-base"


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a target's run reports beside its loss; the run's value is in ``unit``."""

    label: str  # the task, "SST-2"
    metric: str  # "accuracy"
    unit: str = "%"
    published: str = ""  # the metric as values.csv names it, "QQP acc"; "" for a task that the paper has not


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """The numbers of the table at one scale."""

    table: str  # "Table 6"
    width: int  # of the proxy: µP's base width
    samples: int  # of the search
    space: Space
    targets: Mapping[str, Target]  # by label; those that are only wider or only deeper are reported apart
    inits: int  # that each target is trained from
    default: Mapping[str, Value]  # in SP, where not the template's: log2_lr and others
    statement: str  # what the paper's table says
    differs: str = ""  # what else is not the paper's, parted by "; "
    template: Mapping[str, Value] = field(default_factory=dict)  # of all runs, where not the scale's
    proxy: Mapping[str, Value] = field(default_factory=dict)  # of the proxy's runs alone, such as fewer steps
    scored: Mapping[str, Value] = field(default_factory=dict)  # of the wider and deeper targets, such as fine-tuning
    judged: Mapping[str, Value] = field(default_factory=dict)  # of those by which pretraining is judged (`JUDGED`), too
    scores: Mapping[str, Score] = field(default_factory=dict)  # by the run's name for it


@dataclass(frozen=True)
class Plan:
    """The runs, as far as they are known before the proxy has trained."""

    numbers: Transfer
    search: Search  # its target is the first
    targets: Mapping[str, RunSpec]  # in µP
    flops: Callable[[RunSpec], float]

    @classmethod
    def of(cls, numbers: Transfer, spec: RunSpec, flops: Callable[[RunSpec], float], *, seed: int = 0) -> Plan:
        """From any run of the experiment at that scale.

        Raises `UserError` for a proxy that is not at the base width, where µP is not SP; for a target that is the
        proxy's size, or only deeper but otherwise changed; for no target that is both wider and deeper; for an empty
        space or one that changes what is a target's own; for names that the spec does not have.
        """
        template = _with(replace(spec, parametrization="mup", seed=0), numbers.template)
        proxy = _with(replace(template, width=numbers.width), numbers.proxy)
        if proxy.width != proxy.base_width:
            raise UserError(
                f"the proxy of {numbers.table} has width {proxy.width} and µP's base width is {proxy.base_width}: its "
                "runs serve SP and µP only where the two are one."
            )
        if not numbers.space:
            raise UserError(f"{spec.experiment} declares no search space for {numbers.table}; give it Transfer.space.")
        targets = {
            label: _with(replace(template, width=target.width), target.hps) for label, target in numbers.targets.items()
        }
        if PROXY in targets:
            raise UserError(f"a target of {numbers.table} is called '{PROXY}', the name of another; give it its own.")
        if own := sorted({name for target in numbers.targets.values() for name in target.hps} & set(numbers.space)):
            raise UserError(f"the space has {', '.join(own)}, which a target of {numbers.table} has of its own.")
        samples = tuple(draw(numbers.space, numbers.samples, seed))
        search = Search(numbers.space, seed, samples, proxy, next(iter(targets.values()), proxy))
        plan = cls(numbers, search, targets, flops)
        if "both" not in [plan.changes(label) for label in targets]:
            raise UserError(f"{numbers.table} has no target that is wider and deeper than the proxy; give it one.")
        plan.expected()  # a wrong name shows now, not after hours
        return plan

    def changes(self, label: str) -> str:
        """``width``, ``depth`` or ``both``: what the target has other than the proxy."""
        proxy, target = self.search.proxy, self.targets[label]
        is_deeper, own = _depth(target) != _depth(proxy), set(self.numbers.targets[label].hps) - {"depth"}
        if target.width != proxy.width:
            return "both" if is_deeper else "width"
        if not is_deeper or own:
            what = f"changes {', '.join(sorted(own))}" if own else "is no deeper"
            raise UserError(f"target '{label}' has the proxy's width and {what}; make it wider, or only deeper.")
        return "depth"

    def roles(self, label: str) -> tuple[str, ...]:
        """How the target is trained. One that is only deeper has no naive transfer: in SP it is the same run.

        The default's longer training is for the targets that decide.
        """
        changes = self.changes(label)
        whole = ("default", "default_long", "naive", "mutransfer")
        left_out = {"both": (), "width": ("default_long",), "depth": ("default_long", "naive")}[changes]
        return tuple(role for role in whole if role not in left_out)

    def pool(self) -> list[RunSpec]:
        return self.search.runs(range(len(self.search.samples)))

    @property
    def tuning(self) -> float:
        """FLOPs of the whole search."""
        return sum(map(self.flops, self.pool()))

    def evaluated(self, label: str, role: str, sample: int) -> list[RunSpec]:
        """The target from every init; ``sample`` is the winner's, of the default's roles any."""
        target, n = self.targets[label], self.numbers
        if self.changes(label) == "both":
            target = _with(target, {**n.scored, **(n.judged if role in JUDGED else {})})
        if role in COPIES:
            search = replace(self.search, target=target).within({"mutransfer": "mup", "naive": "sp"}[role])
            spec = search.copied(sample)
        else:
            spec = _with(replace(target, parametrization="sp"), n.default)
            if role == "default_long":
                spec = replace(spec, steps=round(spec.steps * (1 + self.tuning / self.flops(spec))))
        return [replace(spec, seed=seed) for seed in range(n.inits)]

    def expected(self) -> list[RunSpec]:
        """What will run: the first sample stands for the winner."""
        return [
            *self.pool(),
            *(spec for label in self.targets for role in self.roles(label) for spec in self.evaluated(label, role, 0)),
        ]

    @property
    def hps(self) -> list[str]:
        """Columns of the runs table: what was searched, and what the targets change."""
        names = {*self.search.space, *(name for target in self.numbers.targets.values() for name in target.hps)}
        return sorted(names & set(dict(self.search.proxy.hps)))

    @property
    def facts(self) -> dict[str, Any]:
        """For provenance.json: what was searched, and where it was copied."""
        n, proxy = self.numbers, self.search.proxy
        targets = {
            label: {
                "width": spec.width,
                "depth": _depth(spec),
                "changes": self.changes(label),
                "roles": list(self.roles(label)),
                "published": n.targets[label].published,
            }
            for label, spec in self.targets.items()
        }
        return {
            **self.search.facts,
            "table": n.table,
            "inits": n.inits,
            "proxy": {"width": proxy.width, "depth": _depth(proxy), "steps": proxy.steps},
            "targets": targets,
            "default": dict(n.default),
            "scores": {name: asdict(score) for name, score in n.scores.items()},
        }

    @property
    def sizes(self) -> str:
        """``proxy of width 64 and depth 2, 100 steps; targets: base (width 128, depth 4, 1000 steps)``."""
        proxy = self.search.proxy
        words = [f"{name} (width {s.width}, depth {_depth(s)}, {s.steps} steps)" for name, s in self.targets.items()]
        start = f"proxy of width {proxy.width} and depth {_depth(proxy)}, {proxy.steps} steps"
        return f"{start}; targets: {', '.join(words)}"

    def line(self) -> str:
        """What is searched and copied, and what that costs, before it runs."""
        n, costs = self.numbers, []
        for label in self.targets:
            default = self.evaluated(label, "default", 0)[0]
            costs.append(f"{self.tuning / self.flops(default):.3g} trainings of {label}")
        return (
            f"{n.table}: {len(self.search.samples)} samples; {self.sizes}; the search costs {', '.join(costs)}; each "
            f"target from {n.inits} inits" + "; what scoring them takes comes on top" * bool(n.scored)
        )


def transfer(plan: Plan, train: Train) -> tuple[pd.DataFrame, list[RunRecord]]:
    """Run it: the runs table with role, target and sample and a column a score, and all records.

    A score that no run reports, as that of a task which could not be had, has no column.
    After a failed run on the proxy, which may be the winner, no target is trained. Raises `UserError` if no sample has
    trained to the end.
    """
    found = dict[RunSpec, RunRecord]()

    def run(specs: Iterable[RunSpec]) -> None:
        found.update((record.spec, record) for record in train([*dict.fromkeys(specs)]))

    pool = plan.pool()
    run(pool)
    rows = [(PROXY, PROXY, i, spec) for i, spec in enumerate(pool)]
    if all(found[spec].is_done for spec in pool):
        order = ranking({i: validation_loss(found[spec]) for i, spec in enumerate(pool)})
        if not order:
            raise UserError(
                f"no sample of {len(pool)} has trained to the end at width {plan.numbers.width}; lower the learning "
                "rates of the space or give more samples."
            )
        for label in plan.targets:
            for role in plan.roles(label):
                sample = order[0] if role in COPIES else DEFAULT
                rows += [(role, label, sample, spec) for spec in plan.evaluated(label, role, order[0])]
        run(spec for *_, spec in rows[len(pool) :])
    records = [found[spec] for *_, spec in rows]
    of_roles = ((role, sample, record) for (role, _, sample, _), record in zip(rows, records, strict=True))
    frame = to_roles(of_roles, plan.hps, plan.flops)
    frame.insert(1, "target", [label for _, label, *_ in rows])
    reported = {name for record in records for name in record.scores}
    for score in (name + end for name in plan.numbers.scores for end in ("", SCRATCH)):
        if score in reported:
            frame[score] = [record.scores.get(score, math.nan) for record in records]
    return frame, [*found.values()]


def _with(spec: RunSpec, changes: Mapping[str, Value]) -> RunSpec:
    for name, value in changes.items():
        spec = put(spec, name, value)
    return spec


def _depth(spec: RunSpec) -> Value:
    return spec.hp("depth")
