"""The measurement of this machine, with a clock of its own, so that no test waits; and the plan that rests on it."""

from __future__ import annotations

import math
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from mutransfer.errors import UserError
from mutransfer.runs.cost import SECONDS, Calibration, Point, calibrate, device_hours, fastest, measure, plan_table
from mutransfer.runs.engine import Engine, LocalEngine
from mutransfer.training.spec import RunRecord, RunSpec
from tests.here import Here, Queue
from tests.runs import tiny

DATA = tiny.DATA
START, WARM_UP, RECORDING, OVERHEAD, EVALUATION, FLOOR = 3.0, 2.0, 0.01, 2e-4, 0.05, 200.0
SPEED = {"float32": 1e10, "bfloat16": 4e10}  # FLOP/s of the fake machine
BOTH = tuple(SPEED)


def flops(spec: RunSpec) -> float:
    return spec.steps * spec.batch * spec.width**2 * 10.0


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
    facts = dict(steps_done=spec.steps, wall_seconds=wall, peak_memory_mib=FLOOR + spec.width)
    return RunRecord(spec=spec, status="finished", train_loss=1.0, **facts)


class Machine(Here):
    """One worker at a time, on the fake clock."""

    def __init__(self, workers: int = 1) -> None:
        super().__init__(measure)
        self.workers, self.runs = workers, 0

    def backend(self, runner: str, dataset: Any) -> Queue:
        self.runs, CLOCK.now, CLOCK.is_cold = self.runs + 1, CLOCK.now + START, True
        return super().backend(runner, dataset)


def specs(*widths: int, steps: int = 1000, **changes: Any) -> list[RunSpec]:
    return [tiny.spec(DATA, width=w, log2_lr=lr, steps=steps, **changes) for w in widths for lr in (-2, -4)]


def run(runs: list[RunSpec], engine: Engine | None = None, seconds: float = 10, **options: Any) -> Calibration | None:
    options = {"runner": f"{__name__}:fake_run", "flops": flops, **options}
    with patch.dict(os.environ, {SECONDS: str(seconds)}):
        return calibrate(runs, DATA, engine=engine or Machine(), **options)


def known(runs: list[RunSpec], *args: Any, **options: Any) -> Calibration:
    measured = run(runs, *args, **options)
    assert measured is not None
    return measured


def test_it_finds_the_machines_speed() -> None:
    """Seconds a step and besides, at each size and precision, without what a process and a run start with."""
    runs = specs(16, 64, 128)
    measured = known(runs, precisions=BOTH)
    for precision in SPEED:
        assert [(p.width, p.peak_memory_mib) for p in measured.points[precision]] == [(16, 216), (64, 264), (128, 328)]
        for point, spec in zip(measured.points[precision], runs[::2], strict=True):
            assert point.step_seconds == pytest.approx(step_seconds(spec, precision), rel=1e-6)
            assert point.fixed_seconds == pytest.approx(EVALUATION + 2 * RECORDING, rel=1e-6)
    truth = 1000 * step_seconds(runs[2]) + EVALUATION + 2 * RECORDING
    assert measured.seconds(runs[2]) == pytest.approx(truth, rel=1e-6)
    assert measured.start_seconds == pytest.approx(START + WARM_UP, rel=0.1)


@pytest.mark.parametrize("budget", [2.0, 10.0])
def test_it_keeps_to_its_budget(budget: float) -> None:
    """The largest width alone would take an hour: it is left to constant FLOP/s, and the plan says so."""
    begin, runs = CLOCK.now, specs(16, 64, 256, 65536, steps=100_000)
    measured = known(runs, seconds=budget)
    assert CLOCK.now - begin - START - WARM_UP < 1.2 * budget
    largest = measured.points["float32"][-1]
    seconds = 100_000 * largest.step_seconds + largest.fixed_seconds
    assert measured.seconds(runs[-1]) == pytest.approx(seconds * (65536 / 256) ** 2)
    assert "extrapolated from width 256 by FLOPs: 65536" in measured.describe(runs)
    assert "extrapolated" not in measured.describe(runs[:-2])


def calibration(workers: int = 2, bfloat16: float = 0.0, sizes: dict[float, float] | None = None) -> Calibration:
    """A machine on which ten steps of width 8 and batch 1 take ten seconds, and a second besides.

    bfloat16: how many times faster; 0: not measured. sizes: seconds a step by FLOPs instead.
    """
    points = {
        name: [
            Point(width=8, flops=size, step_seconds=t / speed, fixed_seconds=1 / speed, peak_memory_mib=1.0)
            for size, t in (sizes or {640.0: 1.0}).items()
        ]
        for name, speed in {"float32": 1.0, "bfloat16": bfloat16}.items()
        if speed
    }
    facts = dict(measured="today", machine="abacus", engine="local", start_seconds=2.0)
    return Calibration(workers=workers, points=points, flops=flops, **facts)


SMALL = tiny.spec(DATA, width=8, batch=1, steps=10)


@pytest.mark.parametrize(
    ("runs", "workers", "seconds"),
    [
        ([SMALL] * 3, 2, 22),  # two rounds
        ([SMALL, SMALL, replace(SMALL, steps=100)], 2, 101),  # the long one beside the short ones
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
    """The same plan measures once; other workers, batch, variant, torch or precisions: again."""
    path, engine, runs = tmp_path / "results/calibration.json", Machine(), specs(16, 64)
    first = known(runs, engine, path=path)
    known(specs(16, 64, batch=4), engine, path=path)
    known(specs(16, 64, variant="tanh"), engine, path=path)
    known(runs, engine, path=path, precisions=BOTH)
    with monkeypatch.context() as other:
        other.setattr(torch, "__version__", "0.1")
        known(runs, engine, path=path)
    assert known(runs, Machine(3), path=path).workers == 3
    assert known(runs[::-1], engine, path=path) == first and engine.runs == 5


@pytest.mark.parametrize(
    ("good", "bad"), [('"points": {', '"other": {'), ('"workers": 1,', ""), ("{", "["), ("}\n", "")]
)
def test_a_damaged_file_is_measured_again(good: str, bad: str, tmp_path: Path) -> None:
    """Never an error: it is only a cache. The file is whole afterwards."""
    path, engine, runs = tmp_path / "calibration.json", Machine(), specs(16, 64)
    known(runs, engine, path=path)
    path.write_text(path.read_text().replace(good, bad))
    for _ in range(2):
        known(runs, engine, path=path)
    assert engine.runs == 2


def test_a_precision_that_raises_is_left_out(tmp_path: Path) -> None:
    """A machine without bfloat16 is measured in float32, and is not asked again at every start."""
    CLOCK.broken, engine, path = "bfloat16", Machine(), tmp_path / "c.json"
    for _ in range(2):
        measured = known(specs(16, 64), engine, path=path, precisions=BOTH)
        assert set(measured.points) == {"float32"} and engine.runs == 1
    assert run(specs(16, 64), engine, path=path, precisions=("bfloat16",)) is None


def test_what_goes_wrong_is_said(tmp_path: Path) -> None:
    """The sweep must start nevertheless: its records will have the reason, too. A read-only mount costs only time."""
    said: list[str] = []
    (tmp_path / "file").write_text("")
    known(specs(16, 64), path=tmp_path / "file/calibration.json", say=said.append)
    assert said[-1].startswith("the measurement is not kept: cannot write")
    CLOCK.broken = "float32"
    assert run(specs(16, 64), say=said.append) is None
    assert said[-1] == "this machine could not be measured: no float32 here"
    assert run([]) is None


def test_a_model_that_is_too_large_everywhere_is_stepped_in_small_batches() -> None:
    """GPT-3 on a laptop: a batch that fits is measured, the rest is FLOPs; if one example is too much, nothing."""
    large = specs(32768, 65536, batch=4096)
    CLOCK.now = 0.0
    measured = known(large, seconds=1000.0)
    assert measured.points["float32"][0].flops < flops(large[0])
    assert CLOCK.now < 1200
    assert run(specs(10**7), seconds=10.0) is None


def test_on_real_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the engine itself, with real runs: positive numbers for each size, of a real machine."""
    monkeypatch.undo()
    runs = [s for s in tiny.grid(DATA) if s.log2_lr < 0]
    measured = known(runs, LocalEngine(2), runner=tiny.RUNNER, seconds=0.5)
    assert measured.machine and [p.width for p in measured.points["float32"]] == [8, 16]
    assert 0 < measured.points["float32"][0].step_seconds < 1 and measured.points["float32"][0].peak_memory_mib > 10


GRID = [replace(s, steps=10, batch=1) for s in tiny.grid(DATA)]


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()]


def test_a_plan_adds_up() -> None:
    """Runs, FLOPs, memory and minutes by hand, SP first, the notes last; what was not measured is a question mark."""
    table = plan_table(GRID, flops, calibration=calibration(1), notes=["tuning: 7%"])
    header, *lines = rows(table)
    assert " ".join(header) == "parametrization width log2 LR seeds runs steps FLOPs MiB per run minutes"
    assert lines[0] == ["sp", "8", "-4..30", "1", "2", "10", "1.28e+04", "1", "0.4"]
    assert [line[:2] for line in lines[1:4]] == [["sp", "16"], ["mup", "8"], ["mup", "16"]]
    assert lines[4] == ["total", "8", "1.28e+05", "4", "3.7"]  # 4 * 11 + 4 * 44 + 2 seconds
    assert "measured today on abacus" in table and "GFLOP/s of one: float32 6.4e-07 at width 8" in table
    assert table.splitlines()[-1] == "tuning: 7%"
    other = [replace(s, precision="bfloat16") for s in GRID]
    for unknown in (plan_table(GRID, flops), plan_table(other, flops, calibration=calibration())):
        assert rows(unknown)[1][-2:] == ["?", "?"]


def test_memory_is_what_was_measured() -> None:
    """Between two sizes on a line in the logarithms; above, what a run adds grows with its FLOPs; below, the least."""
    known = calibration(1, sizes={1.0: 1.0, 4.0: 1.0})
    points = [replace(p, peak_memory_mib=mib) for p, mib in zip(known.points["float32"], (100, 300), strict=True)]
    known = replace(known, points={"float32": points}, flops=lambda spec: float(spec.width * spec.steps))
    peaks = {width: known.mib(replace(GRID[0], width=width)) for width in (1, 2, 4, 8)}
    assert peaks == pytest.approx({1: 100, 2: math.sqrt(100 * 300), 4: 300, 8: 500})
    assert rows(plan_table([replace(GRID[0], width=8)], known.flops, calibration=known))[1][-2] == "500"


def test_device_hours_by_hand() -> None:
    """One hour of an A100 at 40% of 312 TFLOP/s; a V100 has no bfloat16; float32 without and with TF32."""
    lines = device_hours([replace(SMALL, precision="bfloat16")], lambda s: 0.4 * 312e12 * 3600).splitlines()
    assert "40% of the published dense peak" in lines[0]
    assert lines[1:] == ["  A100: bfloat16 1 h (312 TFLOP/s)", "  H100: bfloat16 0.315 h (989.4 TFLOP/s)"]
    lines = device_hours([SMALL] * 2, lambda s: 0.2 * 15.7e12 * 3600).splitlines()
    assert lines[1:3] == ["  V100: float32 1 h (15.7 TFLOP/s)", "  A100: float32 0.805 h (19.5 TFLOP/s)"]
