"""Sweeps whose driver and workers are killed at random moments; ``python -m`` makes it the driver to kill."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mutransfer.runs.store import Store
from mutransfer.runs.worker import Runner
from mutransfer.training.spec import RunRecord, RunSpec
from tests.runs import tiny

DATA = tiny.DATA
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
    different: dict[str, set[str]] = field(default_factory=dict)  # by run_id, fields that are not the undisturbed run's

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


def driver_of(path: Path, runs: int, **environment: str) -> subprocess.Popen[bytes]:
    """A process that sweeps `plan`, or tiny's grid and a long run if ``runs`` is 0."""
    command = [sys.executable, "-m", "tests.runs.killing", str(path), str(runs)]
    return subprocess.Popen(command, cwd=tiny.ROOT, env=tiny.environment(**environment), stdout=subprocess.DEVNULL)


def play(path: Path, runs: int, rng: random.Random, expected: dict[str, dict[str, object]]) -> Round:
    """Sweep into a new store at ``path``, with one to three kills, then resume to the end."""
    came = Round()

    def start() -> subprocess.Popen[bytes]:
        came.drivers += 1
        return driver_of(path, runs)

    driver = start()
    is_new = True
    for _ in range(rng.randint(1, 3)):
        if driver.poll() is not None:
            driver, is_new = start(), True
        moment, is_new = rng.uniform(-0.3 * is_new, 1), False
        if moment < 0:  # while it starts
            time.sleep(START_SECONDS * -moment / 0.3)
        else:
            due = len(_durable(path)) + moment * (runs - len(_durable(path)))
            while len(_durable(path)) < due and driver.poll() is None:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.02))
        workers = tiny.workers(driver.pid)
        is_worker = bool(workers) and rng.random() < 0.5
        came.kills.append(f"{'worker' if is_worker else 'driver'} at {len(_durable(path))}")
        with contextlib.suppress(ProcessLookupError):  # too late
            os.kill(rng.choice(workers) if is_worker else driver.pid, signal.SIGKILL)
        if not is_worker:
            driver.wait()
            came.lost |= set(_durable(path)) - {r.spec.run_id for r in tiny.runs_in(path) if r.is_done}
    for _ in range(RESUMES):
        if driver.poll() is not None:
            driver = start()
        if driver.wait(PATIENCE_SECONDS) == 0:
            break
    records = {r.spec.run_id: tiny.outcome(r) for r in tiny.runs_in(path)}
    came.lost |= {run_id for run_id in expected if records.get(run_id, {}).get("status", "failed") == "failed"}
    came.doubled |= {run_id for run_id, times in Counter(_durable(path)).items() if times > 1}
    for run_id in {*expected, *records} - came.lost:
        ours, theirs = records[run_id], expected.get(run_id, {})
        if fields := {name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name)}:
            came.different[run_id] = fields
    return came


def _durable(path: Path) -> list[str]:
    """The run_id of every result that a driver knew to be durable, once each time."""
    file = path.with_name("durable")
    return file.read_text().split() if file.exists() else []


def _drive(path: Path, runs: int) -> int:
    from mutransfer.runs.driver import sweep
    from mutransfer.runs.engine import LocalEngine

    specs = plan(runs) if runs else [*tiny.grid(DATA), tiny.long(DATA)]
    with Store(path) as store, path.with_name("durable").open("a") as durable:
        put_many = store.put_many

        def put(records: list[RunRecord]) -> None:
            put_many(records)
            durable.write("".join(f"{r.spec.run_id}\n" for r in records if r.is_done))
            durable.flush()

        store.put_many = put  # type: ignore[method-assign, assignment]
        return int(bool(sweep(specs, store, tiny.RUNNER, engine=LocalEngine(2), dataset=DATA).failed))


if __name__ == "__main__":
    sys.exit(_drive(Path(sys.argv[1]), int(sys.argv[2])))
