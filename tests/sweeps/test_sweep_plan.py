"""The plan that is printed before a sweep."""

from __future__ import annotations

from mutransfer.sweeps.plan import calibrate, plan_table
from tests.sweeps import tiny

DATA = tiny.dataset()


def test_plan_adds_up() -> None:
    """8 runs of 6e9 FLOPs at 1e8 FLOP/s take 8 minutes; SP comes first."""
    lines = plan_table(tiny.grid(DATA), lambda spec: 6e9, workers=1, flops_per_second=1e8).splitlines()
    assert lines[0].split() == [
        "parametrization",
        "width",
        "log2",
        "LR",
        "seeds",
        "runs",
        "steps",
        "FLOPs",
        "minutes",
    ]
    assert lines[1].split() == ["sp", "8", "-4..30", "1", "2", "60", "1.2e+10", "2.0"]
    assert [line.split()[:2] for line in lines[2:5]] == [["sp", "16"], ["mup", "8"], ["mup", "16"]]
    assert lines[5].split() == ["total", "8", "4.8e+10", "8.0"]


def test_calibration_is_a_speed() -> None:
    """Between a megaflop and a petaflop a second: the right unit."""
    assert 1e6 < calibrate(seconds=0.05, width=16) < 1e15
