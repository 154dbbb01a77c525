"""The measurement of this machine that a plan's minutes rest on, with a clock of its own: no test waits."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mutransfer.errors import UserError
from mutransfer.runs import cost
from mutransfer.runs.cost import Calibration, Point, calibrate, fastest
from mutransfer.runs.engine import LocalEngine
from mutransfer.runs.worker import resolve
from mutransfer.training.spec import RunRecord, RunSpec
from tests.runs import tiny

DATA = tiny.dataset()
RUNNER = "tests.runs.test_calibration:fake_run"
START, WARM_UP, RECORDING, OVERHEAD, EVALUATION, FLOOR = 3.0, 2.0, 0.01, 2e-4, 0.05, 200.0
SPEED = {"float32": 1e10, "bfloat16": 4e10}  # FLOP/s of the fake machine


def flops(spec: RunSpec) -> float:
    return spec.steps * spec.batch * spec.width**2 * 10.0


def memory(spec: RunSpec) -> float:
    return 4.0 * spec.width**2


def step_seconds(spec: RunSpec, precision: str = "float32") -> float:
    return OVERHEAD + flops(replace(spec, steps=1)) / SPEED[precision]


class Clock:
    now, is_cold, runs, broken = 0.0, True, 0, ""

    def perf_counter(self) -> float:
        return self.now


CLOCK = Clock()


def fake_run(spec: RunSpec, dataset: object) -> RunRecord:
    """A run on a machine whose speed is known: the first is slow, every run's first two steps are."""
    if spec.precision == CLOCK.broken:
        raise UserError(f"no {spec.precision} here")
    wall = 2 * RECORDING + spec.steps * step_seconds(spec, spec.precision) + CLOCK.is_cold * WARM_UP
    CLOCK.now += wall + EVALUATION
    CLOCK.is_cold = False
    return RunRecord(
        spec=spec,
        status="finished",
        train_loss=1.0,
        steps_done=spec.steps,
        wall_seconds=wall,
        peak_memory_mib=FLOOR + memory(spec) / 2**20,
    )


class FakeEngine:
    """Two workers at the same time on the fake clock."""

    name = "local"
    workers = 2
    devices = ("cpu",)
    runs = 0

    def run(self, specs, runner, dataset, *, on_records, on_event=None, cost=None) -> None:  # type: ignore[no-untyped-def]
        self.runs += 1
        assert len({s.run_id for s in specs}) == self.workers  # one job a worker, none the same
        assert all(cost(s) > sum(map(cost, specs[i + 1 :])) for i, s in enumerate(specs))  # none behind another
        ends, begin = [], CLOCK.now + START
        for spec in specs:
            CLOCK.now, CLOCK.is_cold = begin, True
            try:
                on_records([resolve(runner)(spec, dataset)])
            except UserError as error:
                on_records([RunRecord.failed(spec, str(error))])
            ends.append(CLOCK.now)
        CLOCK.now = max(ends)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cost.time, "perf_counter", CLOCK.perf_counter)
    CLOCK.now, CLOCK.broken = 100.0, ""
    yield


def specs(*widths: int, steps: int = 1000) -> list[RunSpec]:
    return [tiny.spec(DATA, width=w, log2_lr=lr, steps=steps) for w in widths for lr in (-2, -4)]


def run(runs: list[RunSpec], engine: FakeEngine | None = None, **options: object) -> Calibration | None:
    options = {"flops": flops, "memory": memory, "seconds": 10.0, **options}
    return calibrate(runs, DATA, RUNNER, engine=engine or FakeEngine(), **options)  # type: ignore[arg-type]


def known(runs: list[RunSpec], **options: object) -> Calibration:
    found = run(runs, **options)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_it_finds_the_machines_speed() -> None:
    """Seconds a step and besides, at each size and precision, without what a process and a run start with."""
    runs = specs(16, 64, 128)
    found = known(runs, precisions=("float32", "bfloat16"))
    for precision in SPEED:
        assert [p.width for p in found.points[precision]] == [16, 64, 128]
        for point, spec in zip(found.points[precision], runs[::2], strict=True):
            assert point.step_seconds == pytest.approx(step_seconds(spec, precision), rel=1e-6)
            assert point.fixed_seconds == pytest.approx(EVALUATION + 2 * RECORDING, rel=1e-6)
    truth = 1000 * step_seconds(runs[2]) + EVALUATION + 2 * RECORDING
    assert found.seconds(runs[2]) == pytest.approx(truth, rel=1e-6)
    assert found.floor_mib == pytest.approx(FLOOR)
    assert found.start_seconds == pytest.approx(START + WARM_UP, rel=0.1)


@pytest.mark.parametrize("budget", [2.0, 10.0])
def test_it_keeps_to_its_budget(budget: float) -> None:
    """The largest width alone would take an hour; the rest is measured within the seconds given."""
    begin = CLOCK.now
    found = known(specs(16, 64, 256, 65536, steps=100_000), seconds=budget)
    assert CLOCK.now - begin - START - WARM_UP < 1.2 * budget
    assert found.points["float32"][-1].width == 256


def test_what_is_too_large_to_step_is_extrapolated_by_flops() -> None:
    """Constant FLOP/s from the largest size measured, and the plan says so."""
    runs = specs(64, 128, 256, 65536)
    found = known(runs, seconds=2.0)
    largest = found.points["float32"][-1]
    besides = largest.fixed_seconds * (65536 / 256) ** 2
    assert found.seconds(runs[-1]) == pytest.approx(flops(runs[-1]) / largest.speed + besides)
    assert "extrapolated from width 256 by FLOPs: 65536" in found.describe(runs)
    assert "extrapolated" not in found.describe(runs[:-2])


def test_between_two_sizes_seconds_grow_as_a_power() -> None:
    """Half way in the logarithm of the FLOPs is half way in the logarithm of the seconds."""
    points = [Point(width=w, flops=f, step_seconds=s, fixed_seconds=1, peak_memory_mib=1) for w, f, s in LINE]
    found = calibration(points)
    spec = tiny.spec(DATA, width=8, batch=1, steps=10)
    assert found.flops(spec) / 10 == 640
    assert found.seconds(spec) == pytest.approx(10 * math.sqrt(2e-3 * 8e-3) + 1)


LINE = [(4, 160.0, 2e-3), (16, 2560.0, 8e-3)]


def calibration(points: list[Point], workers: int = 2, bfloat16: float = 0.0) -> Calibration:
    """``bfloat16``: how many times faster; 0: not measured."""
    found = {"float32": tuple(points)}
    if bfloat16:
        found["bfloat16"] = tuple(
            replace(p, step_seconds=p.step_seconds / bfloat16, fixed_seconds=p.fixed_seconds / bfloat16) for p in points
        )
    return Calibration(
        measured="today",
        machine="abacus",
        engine="local",
        workers=workers,
        start_seconds=1.0,
        floor_mib=0.0,
        points=found,
        flops=flops,
    )


def test_a_sweep_waits_for_its_longest_run() -> None:
    """Three equal runs on two workers take two rounds; a long one beside short ones takes its own time."""
    point = Point(width=8, flops=640.0, step_seconds=1.0, fixed_seconds=1e-9, peak_memory_mib=1)
    found = calibration([point])
    one = tiny.spec(DATA, width=8, batch=1, steps=10)
    assert found.sweep_seconds([one] * 3) == pytest.approx(1 + 20)
    assert found.sweep_seconds([one] * 4) == pytest.approx(1 + 20)
    assert found.sweep_seconds([one, one, replace(one, steps=100)]) == pytest.approx(1 + 100)


def test_bfloat16_must_be_worth_it() -> None:
    """Chosen for the whole plan from a tenth faster on: less is noise, and changes the numbers for nothing."""
    points = [Point(width=8, flops=640.0, step_seconds=1.0, fixed_seconds=1.0, peak_memory_mib=1)]
    runs = [tiny.spec(DATA, width=8, batch=1, steps=1000)]
    assert fastest(calibration(points, bfloat16=1.2), runs) == "bfloat16"
    assert fastest(calibration(points, bfloat16=1.05), runs) == "float32"
    assert fastest(calibration(points), runs) == "float32"
    assert fastest(None, runs) == "float32"


def test_a_measurement_is_kept(tmp_path: Path) -> None:
    """The same plan measures once; other workers, batch, variant, torch or a precision not asked before: again."""
    path, engine, runs = tmp_path / "results/calibration.json", FakeEngine(), specs(16, 64)
    first = known(runs, engine=engine, path=path)
    assert known(runs[::-1], engine=engine, path=path) == first and engine.runs == 1
    three = FakeEngine()
    three.workers = 3
    assert known(runs, engine=three, path=path).workers == 3
    for changed in (dict(batch=4), dict(variant="tanh")):
        known([replace(s, **changed) for s in runs], engine=engine, path=path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "__version__", "0.1")
        known(runs, engine=engine, path=path)
    assert engine.runs == 4
    known(runs, engine=engine, path=path, precisions=("float32", "bfloat16"))
    assert engine.runs == 5
    assert set(known(runs, engine=engine, path=path).points) == set(SPEED)  # both are known now
    assert engine.runs == 5 and len(json.loads(path.read_text())["entries"]) == 5


def damage(text: str) -> dict[str, str]:
    negative = json.loads(text)
    negative["entries"][0]["calibration"]["points"]["float32"][0]["step_seconds"] = -1.0
    empty, listed, lacking = (json.loads(text) for _ in range(3))
    empty["entries"][0]["calibration"]["points"] = {}
    listed["entries"][0]["calibration"]["points"] = [1]
    del lacking["entries"][0]["calibration"]["workers"]
    foreign = {"version": 99, "entries": json.loads(text)["entries"]}
    trees = {"negative": negative, "empty": empty, "a list": listed, "lacking": lacking, "another version": foreign}
    return {**{k: json.dumps(v) for k, v in trees.items()}, "cut short": text[:-50], "not JSON": "\0", "null": "null"}


@pytest.mark.parametrize(
    "how", damage(json.dumps({"entries": [{"calibration": {"points": {"float32": [{}]}, "workers": 1}}]}))
)
def test_a_damaged_file_is_measured_again(how: str, tmp_path: Path) -> None:
    """Never an error, never a wrong number: it is only a cache. The file is whole afterwards."""
    path, engine, runs = tmp_path / "calibration.json", FakeEngine(), specs(16, 64)
    first = known(runs, engine=engine, path=path)
    path.write_text(damage(path.read_text())[how])
    again = known(runs, engine=engine, path=path)
    assert engine.runs == 2 and again.points == first.points
    known(runs, engine=engine, path=path)
    assert engine.runs == 2


def test_a_file_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    """A plan on a read-only mount is a plan."""
    (tmp_path / "file").write_text("")
    said: list[str] = []
    known(specs(16, 64), path=tmp_path / "file/calibration.json", say=said.append)
    assert said[-1].startswith("the measurement is not kept: cannot write")


def test_a_precision_that_raises_is_left_out(tmp_path: Path) -> None:
    """A machine without bfloat16 is measured in float32, and is not asked again at every start."""
    CLOCK.broken, engine, path = "bfloat16", FakeEngine(), tmp_path / "c.json"
    for _ in range(2):
        found = known(specs(16, 64), engine=engine, path=path, precisions=("float32", "bfloat16"))
        assert set(found.points) == {"float32"} and engine.runs == 1
    assert run(specs(16, 64), engine, path=path, precisions=("bfloat16",)) is None


def test_runs_that_cannot_be_measured_say_why() -> None:
    """The sweep must start nevertheless: its own records will have the reason, too."""
    said: list[str] = []
    CLOCK.broken = "float32"
    assert run(specs(16, 64), say=said.append) is None
    assert said[-1] == "this machine could not be measured: no float32 here"
    assert run([]) is None


def test_a_model_that_is_too_large_everywhere_is_stepped_in_small_batches() -> None:
    """GPT-3 on a laptop: a batch that fits is measured, the rest is FLOPs; if one example is too much, nothing."""
    large = specs(32768, 65536)
    CLOCK.now = 0.0
    found = known([replace(s, batch=4096) for s in large], seconds=1000.0)
    assert found.points["float32"][0].flops < flops(large[0])
    assert CLOCK.now < 1200
    assert run(specs(10**7), seconds=10.0) is None


def test_on_real_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the engine itself, with real runs: positive numbers for each size, of a real machine."""
    monkeypatch.undo()
    runs = [s for s in tiny.grid(DATA) if s.log2_lr < 0]
    found = calibrate(runs, DATA, tiny.RUNNER, engine=LocalEngine(2), flops=flops, seconds=0.2)
    assert found is not None and found.machine
    assert [p.width for p in found.points["float32"]] == [8, 16]
    assert 0 < found.points["float32"][0].step_seconds < 1 and found.points["float32"][0].peak_memory_mib > 10
