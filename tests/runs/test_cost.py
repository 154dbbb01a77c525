"""The measurement of this machine, with a clock of its own, so that no test waits; and the plan that rests on it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mutransfer.errors import UserError
from mutransfer.runs.cost import Calibration, Point, calibrate, device_hours, fastest, plan_table
from mutransfer.runs.engine import LocalEngine
from mutransfer.runs.worker import READY, RECORD, resolve
from mutransfer.training.spec import RunRecord, RunSpec
from tests.runs import tiny

DATA = tiny.dataset()
RUNNER = "tests.runs.test_cost:fake_run"
START, WARM_UP, RECORDING, OVERHEAD, EVALUATION, FLOOR = 3.0, 2.0, 0.01, 2e-4, 0.05, 200.0
SPEED = {"float32": 1e10, "bfloat16": 4e10}  # FLOP/s of the fake machine


def flops(spec: RunSpec) -> float:
    return spec.steps * spec.batch * spec.width**2 * 10.0


def memory(spec: RunSpec) -> float:
    return 4.0 * spec.width**2


def step_seconds(spec: RunSpec, precision: str = "float32") -> float:
    return OVERHEAD + flops(replace(spec, steps=1)) / SPEED[precision]


class Clock:
    now, is_cold, broken = 0.0, True, ""


CLOCK = Clock()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", lambda: CLOCK.now)
    CLOCK.now, CLOCK.broken = 100.0, ""


def fake_run(spec: RunSpec, dataset: object) -> RunRecord:
    """A run on a machine whose speed is known: the first is slow, every run's first two steps are."""
    if spec.precision == CLOCK.broken:
        raise UserError(f"no {spec.precision} here")
    wall = 2 * RECORDING + spec.steps * step_seconds(spec, spec.precision) + CLOCK.is_cold * WARM_UP
    CLOCK.now += wall + EVALUATION
    CLOCK.is_cold = False
    peak = FLOOR + memory(spec) / 2**20
    facts = dict(steps_done=spec.steps, wall_seconds=wall, peak_memory_mib=peak)
    return RunRecord(spec=spec, status="finished", train_loss=1.0, **facts)


class FakeEngine:
    """Workers at the same time on the fake clock, each for one job only; they get ready one after another."""

    name, devices = "local", ("cpu",)

    def __init__(self, workers: int = 2) -> None:
        self.workers, self.runs = workers, 0

    def backend(self, runner: str, dataset: object) -> FakeEngine:
        self.runs += 1
        self.run, self.end, self.events, self.jobs = resolve(runner), CLOCK.now, list[tuple[int, str, object]](), {}
        return self

    def slots(self) -> int:
        return self.workers

    def start(self) -> int:
        worker = len(self.events) + 1
        self.events.append((worker, READY, None))
        return worker

    def send(self, worker: int, spec: RunSpec) -> None:
        assert worker not in self.jobs and spec.run_id not in self.jobs.values()
        self.jobs[worker] = spec.run_id
        before, CLOCK.now, CLOCK.is_cold = CLOCK.now, CLOCK.now + START, True
        try:
            self.events.append((worker, RECORD, self.run(spec, None)))
        except UserError as error:
            self.events.append((worker, RECORD, RunRecord.failed(spec, str(error))))
        self.end, CLOCK.now = max(self.end, CLOCK.now), before

    def wait(self) -> Iterator[tuple[int, str, object]]:
        event = self.events.pop(0)
        if event[1] == RECORD:
            CLOCK.now = self.end
        yield event

    def stop(self, workers: Iterable[int]) -> None: ...


def specs(*widths: int, steps: int = 1000) -> list[RunSpec]:
    return [tiny.spec(DATA, width=w, log2_lr=lr, steps=steps) for w in widths for lr in (-2, -4)]


def run(runs: list[RunSpec], engine: FakeEngine | None = None, **options: object) -> Calibration | None:
    options = {"flops": flops, "memory": memory, "seconds": 10.0, **options}
    return calibrate(runs, DATA, RUNNER, engine=engine or FakeEngine(), **options)  # type: ignore[arg-type]


def known(runs: list[RunSpec], **options: object) -> Calibration:
    measured = run(runs, **options)  # type: ignore[arg-type]
    assert measured is not None
    return measured


def test_it_finds_the_machines_speed() -> None:
    """Seconds a step and besides, at each size and precision, without what a process and a run start with."""
    runs = specs(16, 64, 128)
    measured = known(runs, precisions=("float32", "bfloat16"))
    for precision in SPEED:
        assert [p.width for p in measured.points[precision]] == [16, 64, 128]
        for point, spec in zip(measured.points[precision], runs[::2], strict=True):
            assert point.step_seconds == pytest.approx(step_seconds(spec, precision), rel=1e-6)
            assert point.fixed_seconds == pytest.approx(EVALUATION + 2 * RECORDING, rel=1e-6)
    truth = 1000 * step_seconds(runs[2]) + EVALUATION + 2 * RECORDING
    assert measured.seconds(runs[2]) == pytest.approx(truth, rel=1e-6)
    assert measured.floor_mib == pytest.approx(FLOOR)
    assert measured.start_seconds == pytest.approx(START + WARM_UP, rel=0.1)


@pytest.mark.parametrize("budget", [2.0, 10.0])
def test_it_keeps_to_its_budget(budget: float) -> None:
    """The largest width alone would take an hour; the rest is measured within the seconds given."""
    begin = CLOCK.now
    measured = known(specs(16, 64, 256, 65536, steps=100_000), seconds=budget)
    assert CLOCK.now - begin - START - WARM_UP < 1.2 * budget
    assert measured.points["float32"][-1].width == 256


def test_what_is_too_large_to_step_is_extrapolated_by_flops() -> None:
    """Constant FLOP/s from the largest size measured, and the plan says so."""
    runs = specs(64, 128, 256, 65536)
    measured = known(runs, seconds=2.0)
    largest = measured.points["float32"][-1]
    besides = largest.fixed_seconds * (65536 / 256) ** 2
    assert measured.seconds(runs[-1]) == pytest.approx(flops(runs[-1]) / largest.speed + besides)
    assert "extrapolated from width 256 by FLOPs: 65536" in measured.describe(runs)
    assert "extrapolated" not in measured.describe(runs[:-2])


def calibration(workers: int = 2, bfloat16: float = 0.0, sizes: dict[float, float] | None = None) -> Calibration:
    """A machine on which ten steps of width 8 and batch 1 take ten seconds, and a second besides.

    bfloat16: how many times faster; 0: not measured. sizes: seconds a step by FLOPs instead.
    """
    line = [
        Point(width=8, flops=size, step_seconds=seconds, fixed_seconds=1.0, peak_memory_mib=1.0)
        for size, seconds in (sizes or {640.0: 1.0}).items()
    ]
    by_precision = {"float32": tuple(line)}
    if bfloat16:
        by_precision["bfloat16"] = tuple(
            replace(p, step_seconds=p.step_seconds / bfloat16, fixed_seconds=p.fixed_seconds / bfloat16) for p in line
        )
    facts = dict(measured="today", machine="abacus", engine="local", start_seconds=2.0, floor_mib=100.0)
    return Calibration(workers=workers, points=by_precision, flops=flops, **facts)


SMALL = tiny.spec(DATA, width=8, batch=1, steps=10)


def test_between_two_sizes_seconds_grow_as_a_power() -> None:
    """Half way in the logarithm of the FLOPs is half way in the logarithm of the seconds."""
    machine = calibration(sizes={160.0: 2e-3, 2560.0: 8e-3})
    assert flops(SMALL) / 10 == 640
    assert machine.seconds(SMALL) == pytest.approx(10 * math.sqrt(2e-3 * 8e-3) + 1)


@pytest.mark.parametrize(
    ("runs", "workers", "seconds"),
    [
        ([SMALL] * 3, 2, 22),  # two rounds
        ([SMALL] * 4, 2, 22),
        ([SMALL, SMALL, replace(SMALL, steps=100)], 2, 101),  # the long one beside the short ones
        ([SMALL] * 8, 4, 22),
        ([SMALL] * 8, 100, 11),
    ],
)
def test_a_sweep_waits_for_its_longest_run(runs: list[RunSpec], workers: int, seconds: float) -> None:
    """More workers help until the longest run; their start comes on top."""
    machine = calibration(workers)
    assert machine.sweep_seconds(runs) == pytest.approx(2 + seconds)
    (total,) = (row for row in rows(plan_table(runs, flops, calibration=machine)) if row[0] == "total")
    assert total[-1] == f"{(2 + seconds) / 60:.1f}"


def test_bfloat16_must_be_worth_it() -> None:
    """Chosen for the whole plan from a tenth faster on: less is noise, and changes the numbers for nothing."""
    runs = [replace(SMALL, steps=1000)]
    assert fastest(calibration(bfloat16=1.2), runs) == "bfloat16"
    for slow in (calibration(bfloat16=1.05), calibration(), None):
        assert fastest(slow, runs) == "float32"


def test_a_measurement_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same plan measures once; other workers, batch, variant, torch or a precision not asked before: again."""
    path, engine, runs = tmp_path / "results/calibration.json", FakeEngine(), specs(16, 64)
    first = known(runs, engine=engine, path=path)
    assert known(runs[::-1], engine=engine, path=path) == first and engine.runs == 1
    assert known(runs, engine=FakeEngine(3), path=path).workers == 3
    for changed in (dict(batch=4), dict(variant="tanh")):
        known([replace(s, **changed) for s in runs], engine=engine, path=path)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "0.1")
        known(runs, engine=engine, path=path)
    assert engine.runs == 4
    known(runs, engine=engine, path=path, precisions=("float32", "bfloat16"))
    assert engine.runs == 5
    assert set(known(runs, engine=engine, path=path).points) == set(SPEED)  # both are known now
    assert engine.runs == 5 and len(json.loads(path.read_text())["entries"]) == 5


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ('"step_seconds": ', '"step_seconds": -'),
        ('"points": {', '"other": {'),
        ('"workers": 2', '"workers": [1]'),
        ('"workers": 2,', ""),
        ('"sha256"', '"sha1"'),
        ("{", "["),
        ("}\n", ""),
        ("", None),
    ],
)
def test_a_damaged_file_is_measured_again(good: str, bad: str | None, tmp_path: Path) -> None:
    """Never an error, never a wrong number: it is only a cache. The file is whole afterwards."""
    path, engine, runs = tmp_path / "calibration.json", FakeEngine(), specs(16, 64)
    first = known(runs, engine=engine, path=path)
    text = path.read_text()
    path.write_text("null" if bad is None else text.replace(good, bad))
    assert path.read_text() != text
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
        measured = known(specs(16, 64), engine=engine, path=path, precisions=("float32", "bfloat16"))
        assert set(measured.points) == {"float32"} and engine.runs == 1
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
    measured = known([replace(s, batch=4096) for s in large], seconds=1000.0)
    assert measured.points["float32"][0].flops < flops(large[0])
    assert CLOCK.now < 1200
    assert run(specs(10**7), seconds=10.0) is None


def test_on_real_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the engine itself, with real runs: positive numbers for each size, of a real machine."""
    monkeypatch.undo()
    runs = [s for s in tiny.grid(DATA) if s.log2_lr < 0]
    measured = calibrate(runs, DATA, tiny.RUNNER, engine=LocalEngine(1), flops=flops, seconds=0.5)
    assert measured is not None and measured.machine
    assert [p.width for p in measured.points["float32"]] == [8, 16]
    assert 0 < measured.points["float32"][0].step_seconds < 1 and measured.points["float32"][0].peak_memory_mib > 10


GRID = [replace(s, steps=10, batch=1) for s in tiny.grid(DATA)]


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()]


def test_a_plan_adds_up() -> None:
    """Runs, FLOPs, memory and minutes by hand; SP comes first, the notes last."""
    table = plan_table(
        GRID, flops, calibration=calibration(1), memory=lambda s: s.width * 2.0**20, notes=["tuning: 7%"]
    )
    header, *lines = rows(table)
    assert " ".join(header) == "parametrization width log2 LR seeds runs steps FLOPs MiB a run minutes"
    assert lines[0] == ["sp", "8", "-4..30", "1", "2", "10", "1.28e+04", "108", "0.4"]
    assert [line[:2] for line in lines[1:4]] == [["sp", "16"], ["mup", "8"], ["mup", "16"]]
    assert lines[4] == ["total", "8", "1.28e+05", "116", "3.7"]  # 4 * 11 + 4 * 44 + 2 seconds
    assert "measured today on abacus" in table and "GFLOP/s of one: float32 6.4e-07 at width 8" in table
    assert table.splitlines()[-1] == "tuning: 7%"


def test_memory_that_no_formula_declares_is_what_was_measured() -> None:
    """Between two sizes on a line in the logarithms; above, what a run adds grows with its FLOPs; below, the least."""
    known = calibration(1, sizes={1.0: 1.0, 4.0: 1.0})
    measured = zip(known.points["float32"], (100, 300), strict=True)
    points = {"float32": tuple(replace(point, peak_memory_mib=mib) for point, mib in measured)}
    known = replace(known, points=points, flops=lambda spec: float(spec.width * spec.steps))
    peaks = {width: known.mib(replace(GRID[0], width=width)) for width in (1, 2, 4, 8)}
    assert peaks == pytest.approx({1: 100, 2: math.sqrt(100 * 300), 4: 300, 8: 500})
    assert rows(plan_table([replace(GRID[0], width=8)], known.flops, calibration=known))[1][-2] == "500"


def test_what_is_not_known_is_a_question_mark() -> None:
    """No number is invented for a machine, a precision or a model that was not measured or declared."""
    assert rows(plan_table(GRID, flops))[1][-2:] == ["?", "?"]
    other = [replace(s, precision="bfloat16") for s in GRID]
    assert rows(plan_table(other, flops, calibration=calibration()))[1][-2:] == ["?", "?"]


def test_device_hours_by_hand() -> None:
    """One hour of an A100 at 40% of 312 TFLOP/s; a V100 has no bfloat16; float32 without and with TF32."""
    lines = device_hours([replace(SMALL, precision="bfloat16")], lambda s: 0.4 * 312e12 * 3600).splitlines()
    assert "40% of the published dense peak" in lines[0]
    assert lines[1:] == [
        "  V100: has no bfloat16",
        "  A100: bfloat16 1 h (312 TFLOP/s)",
        "  H100: bfloat16 0.315 h (989.4 TFLOP/s)",
    ]
    lines = device_hours([SMALL] * 2, lambda s: 0.2 * 15.7e12 * 3600).splitlines()
    assert lines[1] == "  V100: float32 1 h (15.7 TFLOP/s)"
    assert lines[2] == "  A100: float32 0.805 h (19.5 TFLOP/s), tf32 0.101 h (156 TFLOP/s)"
