"""Processes on this machine: what they are given, what their death costs, and that they never outlive the sweep."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from mutransfer.errors import UserError
from mutransfer.runs.engine import LocalEngine
from mutransfer.runs.sweep import on_disk
from mutransfer.training.spec import RunRecord
from tests.runs import tiny

DATA = tiny.dataset()


def test_each_slot_has_its_device_and_all_share_the_data(tmp_path: Path) -> None:
    """Two GPUs, a process each; a data set on the disk is mapped by each worker, not sent to it."""
    records: list[RunRecord] = []
    with on_disk(tiny.dataset(), tmp_path / "data") as data:
        LocalEngine(2, ("cuda:0", "cuda:1")).run(
            tiny.reports(tmp_path, 12, seconds=0.2), tiny.REPORT, data, on_records=records.extend
        )
        assert {r.provenance["folder"] for r in records} == {str(tmp_path / "data")}
    places = {(r.provenance["device"], r.provenance["pid"]) for r in records}
    assert sorted(device for device, _ in places) == ["cuda:0", "cuda:1"]
    assert {r.provenance["threads"] for r in records} == {"1"}
    assert {r.provenance["data"] for r in records} == {DATA.fingerprint}


def test_a_killed_run_is_tried_again_when_nothing_else_runs(tmp_path: Path) -> None:
    """Two runs that do not fit into memory together: each is made, alone, after all others; one that never fits fails.

    The plain CPU is the runner's own default: it is called without a device.
    """
    specs = tiny.reports(tmp_path, 10, seconds=0.1, faults={1: "die once", 2: "die"})
    records: list[RunRecord] = []
    said: list[str] = []
    LocalEngine(2).run(specs, tiny.REPORT, DATA, on_records=records.extend, on_event=said.append)

    assert sorted(r.spec.seed for r in records) == list(range(10))
    (failed,) = [r for r in records if r.status == "failed"]
    assert failed.spec == specs[2]
    assert failed.reason == "two workers died in this run: the first by SIGKILL, the second, alone, by SIGKILL"
    assert sum("a worker died (SIGKILL) in run" in line for line in said) == 3
    *others, retry = tiny.reported(tmp_path)
    assert retry[0] == specs[1].run_id
    assert all(end <= retry[1] for _, _, end in others)
    assert {r.provenance["device"] for r in records if r.is_done} == {"cpu"}
    assert not multiprocessing.active_children()


def test_a_runner_that_cannot_start_is_one_error() -> None:
    """A typo in the runner is the user's one error, not one failed run for every spec."""
    with pytest.raises(UserError, match=r"no run can start: cannot find 'tests\.runs\.tiny:walk'"):
        LocalEngine(1).run(tiny.grid(DATA), "tests.runs.tiny:walk", None, on_records=print)
    assert not multiprocessing.active_children()


def test_bad_arguments() -> None:
    """No workers, or nothing for them to work on, is refused before anything starts."""
    with pytest.raises(UserError, match="workers is 0"):
        LocalEngine(0)
    with pytest.raises(UserError, match="devices is empty"):
        LocalEngine(2, ())
