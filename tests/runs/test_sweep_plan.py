"""The plan that is printed before a sweep."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mutransfer.models.mlp import memory_bytes
from mutransfer.runs.cost import Calibration, Point, device_hours, plan_table
from mutransfer.training.spec import RunSpec
from tests.runs import tiny

DATA = tiny.dataset()
GRID = tiny.grid(DATA)


def flops(spec: RunSpec) -> float:
    return 6e9


def calibration(workers: int = 1) -> Calibration:
    """A machine on which a run takes 61 seconds: 1e8 FLOP/s, and a second besides."""
    point = Point(width=8, flops=1e8, step_seconds=1.0, fixed_seconds=1.0, peak_memory_mib=1.0)
    return Calibration(
        measured="today",
        machine="abacus",
        engine="local",
        workers=workers,
        start_seconds=2.0,
        floor_mib=100.0,
        points={"float32": (point,)},
        flops=flops,
    )


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()]


def test_a_plan_adds_up() -> None:
    """Runs, FLOPs, memory and minutes by hand; SP comes first, the notes last."""
    table = plan_table(GRID, flops, calibration=calibration(), memory=lambda s: s.width * 2.0**20, notes=["tuning: 7%"])
    header, *lines = rows(table)
    assert " ".join(header) == "parametrization width log2 LR seeds runs steps FLOPs MiB a run minutes"
    assert lines[0] == ["sp", "8", "-4..30", "1", "2", "60", "1.2e+10", "108", "2.0"]
    assert [line[:2] for line in lines[1:4]] == [["sp", "16"], ["mup", "8"], ["mup", "16"]]
    assert lines[4] == ["total", "8", "4.8e+10", "116", "8.2"]  # 8 * 61 + 2 seconds
    assert "measured today on abacus" in table and "GFLOP/s of one: float32 0.1 at width 8" in table
    assert table.splitlines()[-1] == "tuning: 7%"


def test_more_workers_help_until_the_longest_run() -> None:
    """Eight runs on four workers take two rounds; on a hundred, one."""
    total = {n: rows(plan_table(GRID, flops, calibration=calibration(n)))[5][-1] for n in (4, 8, 100)}
    assert total == {4: "2.1", 8: "1.1", 100: "1.1"}


def test_what_is_not_known_is_a_question_mark() -> None:
    """No number is invented for a machine, a precision or a model that was not measured or declared."""
    assert rows(plan_table(GRID, flops))[1][-2:] == ["?", "?"]
    other = [replace(s, precision="bfloat16") for s in GRID]
    assert rows(plan_table(other, flops, calibration=calibration()))[1][-2:] == ["?", "?"]


def test_device_hours_by_hand() -> None:
    """One hour of an A100 at 40% of 312 TFLOP/s; a V100 has no bfloat16; float32 without and with TF32."""
    (spec,) = [replace(GRID[0], precision="bfloat16")]
    lines = device_hours([spec], lambda s: 0.4 * 312e12 * 3600).splitlines()
    assert "40% of the published dense peak" in lines[0]
    assert lines[1:] == [
        "  V100: has no bfloat16",
        "  A100: bfloat16 1 h (312 TFLOP/s)",
        "  H100: bfloat16 0.315 h (989.4 TFLOP/s)",
    ]
    lines = device_hours([GRID[0]] * 2, lambda s: 0.2 * 15.7e12 * 3600).splitlines()
    assert lines[1] == "  V100: float32 1 h (15.7 TFLOP/s)"
    assert lines[2] == "  A100: float32 0.805 h (19.5 TFLOP/s), tf32 0.101 h (156 TFLOP/s)"


PROBE = """
import sys
from dataclasses import replace
import numpy as np, torch
from experiments.cifar_mlp.experiment import EXPERIMENT
from mutransfer.data import ImageDataset

def peak():
    return next(int(x.split()[1]) * 1024 for x in open("/proc/self/status") if x.startswith("VmHWM"))

torch.set_num_threads(1)
part = np.random.default_rng(0).integers(0, 256, (1000, 32, 32, 3), dtype=np.uint8), np.arange(1000) % 10
data = ImageDataset.from_arrays("synthetic", "noise", is_real=False, train=part, test=part)
spec = EXPERIMENT.specs(data, scale="cpu", variant="relu_xent")[0]
spec = replace(spec, steps=4, precision=sys.argv[1], momentum=float(sys.argv[2]))
EXPERIMENT.code.run(spec, data)
before = peak()
EXPERIMENT.code.run(replace(spec, width=2048), data)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
@pytest.mark.parametrize(("precision", "momentum"), [("float32", 0.0), ("bfloat16", 0.9)])
def test_declared_memory_is_what_a_run_takes(precision: str, momentum: float) -> None:
    """A fresh process runs width 64, then 2048: its peak grows as the MLP declares, to a tenth or two."""
    command = [sys.executable, "-c", PROBE, precision, str(momentum)]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    options = {"batch": 64, "momentum": momentum > 0, "bfloat16": precision == "bfloat16"}
    declared = memory_bytes(2048, **options) - memory_bytes(64, **options)
    assert int(run.stdout) == pytest.approx(declared, rel=0.2)
    assert memory_bytes(2048, **options) > 3 * 4 * 3072 * 2048  # not the weights alone
