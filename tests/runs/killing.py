"""Sweeps whose driver and workers are killed at random moments; ``python -m`` makes it the driver to kill."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mutransfer.errors import UserError
from mutransfer.runs.store import Store
from mutransfer.runs.worker import Runner
from mutransfer.training.spec import RunRecord, RunSpec
from tests.runs import tiny

DATA = tiny.dataset()
START_SECONDS = 4.0  # of a driver and its workers, about: kills fall there too
PATIENCE_SECONDS = 120.0
RESUMES = 5  # a run that two kills hit is a failed one, which the next sweep tries again


@dataclass
class Round:
    """What one sweep with kills came to."""

    kills: list[str] = field(default_factory=list)  # whom and when
    drivers: int = 0  # started
    lost: set[str] = field(default_factory=set)  # run_ids that were durable before a kill, or planned, and are gone
    doubled: set[str] = field(default_factory=set)  # run_ids that were made and recorded again after they were durable
    different: dict[str, set[str]] = field(
        default_factory=dict
    )  # run_id -> fields that an undisturbed sweep has otherwise

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.doubled or self.different)


def plan(runs: int) -> list[RunSpec]:
    """Runs of milliseconds; every fifth diverges."""
    return [tiny.spec(DATA, seed=i, steps=20, log2_lr=30 if i % 5 == 4 else -4) for i in range(runs)]


def undisturbed(specs: Iterable[RunSpec]) -> dict[str, dict[str, object]]:
    """What each run comes to, made here one after another."""
    run = Runner(tiny.RUNNER, DATA, "cpu")
    return {spec.run_id: tiny.outcome(run(spec)) for spec in specs}


def play(path: Path, runs: int, rng: random.Random, expected: dict[str, dict[str, object]]) -> Round:
    """Sweep into a new store at ``path``, with one to three kills, then resume to the end."""
    found = Round()
    driver = None
    for _ in range(rng.randint(1, 3)):
        if driver is None or driver.poll() is not None:
            driver = _start(path, runs)
            found.drivers += 1
            moment = rng.uniform(-0.3, 1)
        else:
            moment = rng.uniform(0, 1)
        if moment < 0:  # while it starts
            time.sleep(START_SECONDS * -moment / 0.3)
        else:
            _wait_for(driver, path, len(_journal(path)) + moment * (runs - len(_journal(path))))
            time.sleep(rng.uniform(0, 0.02))
        workers = _workers(driver.pid)
        is_worker = bool(workers) and rng.random() < 0.5
        found.kills.append(f"{'worker' if is_worker else 'driver'} at {len(_journal(path))}")
        try:
            os.kill(rng.choice(workers) if is_worker else driver.pid, signal.SIGKILL)
        except ProcessLookupError:
            found.kills[-1] += " (too late)"
        if not is_worker:
            driver.wait()
            found.lost |= set(_journal(path)) - {r.spec.run_id for r in _stored(path) if r.is_done}
    for _ in range(RESUMES):
        if driver is None or driver.poll() is not None:
            driver = _start(path, runs)
            found.drivers += 1
        if driver.wait(PATIENCE_SECONDS) == 0:
            break
        driver = None
    records = {r.spec.run_id: tiny.outcome(r) for r in _stored(path)}
    found.lost |= {run_id for run_id in expected if records.get(run_id, {}).get("status", "failed") == "failed"}
    found.doubled |= {run_id for run_id, times in Counter(_journal(path)).items() if times > 1}
    for run_id in {*expected, *records} - found.lost:
        ours, theirs = records[run_id], expected.get(run_id, {})
        if fields := {name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name)}:
            found.different[run_id] = fields
    return found


def _start(path: Path, runs: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.runs.killing", str(path), str(runs)]
    return subprocess.Popen(command, cwd=tiny.ROOT, env=tiny.environment(), stdout=subprocess.DEVNULL)


def _wait_for(driver: subprocess.Popen[bytes], path: Path, runs: float) -> None:
    """Until so many runs are durable, or the driver is gone."""
    end = time.monotonic() + PATIENCE_SECONDS
    while len(_journal(path)) < runs and driver.poll() is None:
        assert time.monotonic() < end, "the sweep hangs"
        time.sleep(0.002)


def _journal(path: Path) -> list[str]:
    """The run_id of every result that a driver knew to be durable, once each time."""
    try:
        return path.with_name("journal").read_text().split()
    except FileNotFoundError:
        return []


def _stored(path: Path) -> Sequence[RunRecord]:
    try:
        return Store.read(path)
    except UserError:  # killed before there was a store
        return []


def _workers(pid: int) -> list[int]:
    found = []
    try:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    except OSError:  # it is gone
        pass
    return found


def _drive(path: Path, runs: int) -> int:
    from mutransfer.runs.driver import sweep
    from mutransfer.runs.engine import LocalEngine

    with Store(path) as store, path.with_name("journal").open("a") as journal:
        put_many = store.put_many

        def put(records: list[RunRecord]) -> None:
            put_many(records)
            journal.write("".join(f"{r.spec.run_id}\n" for r in records if r.is_done))
            journal.flush()

        store.put_many = put  # type: ignore[method-assign, assignment]
        return int(bool(sweep(plan(runs), store, tiny.RUNNER, engine=LocalEngine(2), dataset=DATA).failed))


if __name__ == "__main__":
    sys.exit(_drive(Path(sys.argv[1]), int(sys.argv[2])))
