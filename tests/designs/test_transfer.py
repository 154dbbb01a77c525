"""One search, copied to wider and deeper targets: who is copied, what trains, from which inits and for how long."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from pathlib import Path

import pytest

from mutransfer.designs.figure import put
from mutransfer.designs.search import Grid
from mutransfer.designs.transfer import Plan, Score, Target, Transfer, transfer
from mutransfer.errors import UserError
from mutransfer.results.targets import Targets
from mutransfer.runs.store import Store
from mutransfer.runs.sweep import sweep
from mutransfer.training.spec import RunRecord, RunSpec
from tests.runs import tiny

DATA = tiny.dataset()
NUMBERS = Transfer(
    table="Table 6",
    width=8,
    samples=10,
    space={"lr": Grid(tuple(2.0**-k for k in range(3, 9))), "output_mult": Grid((0.5, 1.0, 2.0, 4.0))},
    targets={
        "base": Target(width=16, hps={"depth": 4, "heads": 2}, published="BERT-base"),
        "large": Target(width=32, hps={"depth": 8}),
        "wide": Target(width=16),
        "deep": Target(width=8, hps={"depth": 4}),
    },
    inits=3,
    default={"log2_lr": -11.0, "warm_up": 5},
    statement="",
    template={"steps": 100},
    proxy={"steps": 50},
    scored={"tuned": 5},
    judged={"from_init": 1},
    scores={"sst2": Score(label="SST-2", metric="accuracy")},
)
WHOLE = {"default", "default_long", "naive", "mutransfer"}


def spec(**changes: object) -> RunSpec:
    hps = (("output_mult", 1.0), ("tuned", 0), ("from_init", 0), ("depth", 2), ("heads", 1), ("warm_up", 0))
    return tiny.spec(DATA, **{"hps": hps, **changes})


def flops(spec: RunSpec) -> float:
    return float(spec.width * spec.steps) * int(spec.hp("depth"))


@pytest.fixture
def plan() -> Plan:
    return Plan.of(NUMBERS, spec(), flops)


class Trainer:
    """Validation loss |log2 LR + 6| + output_mult / 100; training losses and scores would choose others."""

    def __init__(self, diverge: float = math.inf) -> None:
        self.specs: list[RunSpec] = []
        self.diverge = diverge  # above this log2 LR

    def __call__(self, specs: Iterable[RunSpec]) -> list[RunRecord]:
        new = [*specs]
        self.specs += new
        return [self.record(spec) for spec in new]

    def record(self, spec: RunSpec) -> RunRecord:
        if spec.log2_lr > self.diverge:
            return RunRecord(spec=spec, status="diverged", train_loss=math.inf, steps_done=10)
        loss = abs(spec.log2_lr + 6) + 0.01 * float(spec.hp("output_mult"))
        scores = {"sst2": 80 - loss} if spec.hp("tuned") else {"sst2": 50 + loss}
        scores |= {"sst2_scratch": 70.0} if spec.hp("from_init") else {}
        return RunRecord(
            spec=spec, status="finished", train_loss=-loss, test_loss=loss, steps_done=spec.steps, scores=scores
        )


def test_what_trains(plan: Plan) -> None:
    """The search, and each target by its methods from three inits; only deeper, naive transfer is µTransfer itself."""
    roles = {label: set(plan.roles(label)) for label in plan.targets}
    assert roles == {
        "base": WHOLE,
        "large": WHOLE,
        "wide": WHOLE - {"default_long"},
        "deep": WHOLE - {"default_long", "naive"},
    }
    assert [plan.changes(label) for label in plan.targets] == ["both", "both", "width", "depth"]
    train = Trainer()
    _, records = transfer(plan, train)
    assert len(records) == len(train.specs) == 10 + 3 * (4 + 4 + 3 + 2) == len(plan.expected())
    same = {dataclasses.replace(s, log2_lr=0, hps=()) for s in train.specs}
    assert same == {dataclasses.replace(s, log2_lr=0, hps=()) for s in plan.expected()}
    assert "10 samples; proxy of width 8 and depth 2, 50 steps; targets: base (width 16, depth 4, 100" in plan.line()
    assert "the search costs 1.25 trainings of base, 0.312 trainings of large" in plan.line()


def test_selection_is_by_validation_loss_alone(plan: Plan) -> None:
    """Training loss or the proxy's scores would choose others; a diverged sample is never copied."""
    for diverge in (math.inf, -6.5):
        frame, _ = transfer(plan, Trainer(diverge))
        pool = frame[frame["role"] == "proxy"].set_index("sample")
        best = int(pool["test_loss"].idxmin())
        assert {int(pool["train_loss"].idxmin()), int(pool["sst2"].idxmax())}.isdisjoint({best})
        copies = frame[frame["role"].isin(["mutransfer", "naive"])]
        assert set(copies["sample"]) == {best} and set(copies["log2_lr"]) == {pool.loc[best, "log2_lr"]}
        assert pool.loc[best, "status"] == "finished" and ((pool["status"] == "diverged").any() == (diverge < 0))


def test_methods_are_paired_and_keep_the_targets_own_size(plan: Plan) -> None:
    """The winner in µP and in SP, the default in SP; scored, at the target's width, depth and length, base width 8."""
    train = Trainer()
    frame, _ = transfer(plan, train)
    made = {s.run_id: s for s in train.specs}
    for (target, role), part in frame[frame["role"] != "proxy"].groupby(["target", "role"]):
        specs = [made[run] for run in part["run_id"]]
        assert [s.seed for s in specs] == [0, 1, 2]
        assert {s.parametrization for s in specs} == {"mup" if role == "mutransfer" else "sp"}
        is_main, is_judged = target in ("base", "large"), role in ("default", "mutransfer")
        assert {s.hp("tuned") for s in specs} == {5 * is_main}
        assert (part["sst2_scratch"].notna() == (is_main and is_judged)).all()
        assert {s.hp("heads") for s in specs} == {2 if target == "base" else 1}
        is_default = str(role).startswith("default")
        assert {(s.log2_lr == -11, s.hp("warm_up")) for s in specs} == ({(True, 5)} if is_default else {(False, 0)})
        wanted = {"base": (16, 4), "large": (32, 8), "wide": (16, 2), "deep": (8, 4)}[str(target)]
        assert {(s.width, s.hp("depth")) for s in specs} == {wanted} and {s.base_width for s in specs} == {8}
    pool = [made[run] for run in frame.loc[frame["role"] == "proxy", "run_id"]]
    assert {(s.steps, s.seed, s.hp("tuned"), s.parametrization) for s in pool} == {(50, 0, 0, "mup")}


def test_the_longer_default_gets_the_compute_of_the_search(plan: Plan) -> None:
    """10 samples of 8 x 50 x 2 are 8000 FLOPs: 1.25 trainings of base (6400), 0.3125 of large (25600)."""
    for label, steps in (("base", 225), ("large", 131)):
        long = plan.evaluated(label, "default_long", 0)
        default = plan.evaluated(label, "default", 0)
        assert [s.steps for s in long] == [steps] * 3 and [s.steps for s in default] == [100] * 3
        assert [put(dataclasses.replace(s, steps=100), "from_init", 1) for s in long] == default
    assert flops(long[0]) == pytest.approx(plan.tuning + flops(default[0]), rel=0.01)


def test_the_table_is_what_the_analysis_reads(plan: Plan) -> None:
    frame, _ = transfer(plan, Trainer())
    report = Targets.of(frame, plan.facts)
    assert report.targets("both") == ["base", "large"] and report.targets("width", "depth") == ["wide", "deep"]
    assert report.speedups("base") == (4, 8)
    assert report.compute("base", "default_long") == pytest.approx(1.25 + 1)
    assert [one.verdict for one in report.comparisons("base")] == ["undecided", "better", "better"]


def test_a_failed_sample_stops_the_search(plan: Plan) -> None:
    """It may be the winner; the same command tries it again. If all diverged there is nothing to copy."""

    def fail(specs: list[RunSpec]) -> list[RunRecord]:
        first, *others = Trainer()(specs)
        return [RunRecord.failed(first.spec, "died"), *others]

    frame, records = transfer(plan, fail)
    assert len(records) == 10 and set(frame["role"]) == {"proxy"}
    with pytest.raises(UserError, match="no sample of 10 has trained to the end at width 8"):
        transfer(plan, Trainer(diverge=-20))


def test_what_cannot_be_planned_is_refused(plan: Plan) -> None:
    def planned(**changes: object) -> Plan:
        return Plan.of(dataclasses.replace(NUMBERS, **changes), spec(), flops)

    for changes, words in (
        ({"width": 16}, "width 16 and µP's base width is 8"),
        ({"space": {}}, "no search space for Table 6"),
        ({"space": {"output_mul": Grid((1.0,))}}, "Did you mean 'output_mult'"),
        ({"space": {"heads": Grid((1,))}}, "the space has heads, which a target of Table 6 has of its own"),
        ({"scored": {"tunde": 1}}, "Did you mean 'tuned'"),
        ({"default": {"lg2_lr": 1}}, "Did you mean 'log2_lr'"),
        ({"targets": {"wide": Target(width=16)}}, "no target that is wider and deeper"),
        ({"targets": {}}, "no target that is wider and deeper"),
        ({"targets": {"same": Target(width=8)}}, "'same' has the proxy's width and is no deeper"),
        ({"targets": {"x": Target(width=8, hps={"depth": 4, "heads": 2})}}, "proxy's width and changes heads"),
        ({"targets": {"proxy": Target(width=16, hps={"depth": 4})}}, "is called 'proxy'"),
    ):
        with pytest.raises(UserError, match=words):
            planned(**changes)


class Interrupting:
    """An engine in this process that is stopped after some runs."""

    name, workers, devices = "here", 1, ("cpu",)

    def __init__(self, after: float = math.inf) -> None:
        self.after, self.train = after, Trainer()

    def run(self, specs, runner, dataset, *, on_records, on_event=print, cost=None) -> None:
        for spec in specs:
            if len(self.train.specs) >= self.after:
                raise KeyboardInterrupt
            on_records(self.train([spec]))


@pytest.mark.parametrize("after", [4, 20])
def test_resumed_is_uninterrupted(plan: Plan, tmp_path: Path, after: int) -> None:
    """Stopped in the search or among the targets: the same table, and no run is made twice."""

    def run(path: Path, engine: Interrupting):
        with Store(path) as store:
            options = {"engine": engine, "dataset": DATA, "progress": False}
            return transfer(plan, lambda specs: sweep(specs, store, "none", **options).records)

    whole, _ = run(tmp_path / "whole.sqlite", Interrupting())
    with pytest.raises(UserError, match="interrupted"):
        run(tmp_path / "part.sqlite", Interrupting(after))
    engine = Interrupting()
    resumed, records = run(tmp_path / "part.sqlite", engine)
    assert resumed.equals(whole) and len(engine.train.specs) == len(records) - after
