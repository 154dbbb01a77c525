"""Sweeps killed at random moments, then resumed: ``./reproduce.sh bench kill --rounds 20 --runs 200 --seed 0``.

In every round the driver or a worker of a fresh sweep gets one to three ``kill -9``. Exit code 1 if in any round a run
was lost, made again after it was durable, or came out different from that of an undisturbed sweep.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mutransfer.runs.driver import sweep
from mutransfer.runs.engine import LocalEngine
from mutransfer.runs.store import Store
from mutransfer.runs.worker import Runner
from mutransfer.training.spec import RunRecord, RunSpec
from tests.runs import tiny

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
    return [tiny.spec(tiny.DATA, seed=i, steps=20, log2_lr=30 if i % 5 == 4 else -4) for i in range(runs)]


def undisturbed(specs: Iterable[RunSpec]) -> dict[str, dict[str, object]]:
    """What each run comes to, made here one after another."""
    run = Runner(tiny.RUNNER, tiny.DATA, "cpu")
    return {spec.run_id: tiny.outcome(run(spec)) for spec in specs}


def driver_of(path: Path, runs: int, **environment: str) -> subprocess.Popen[bytes]:
    """A process that sweeps `plan`, or tiny's grid and a long run if ``runs`` is 0."""
    command = [sys.executable, "-m", "benchmarks.kill", str(path), str(runs)]
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
    specs = plan(runs) if runs else [*tiny.grid(tiny.DATA), tiny.long(tiny.DATA)]
    with Store(path) as store, path.with_name("durable").open("a") as durable:
        put_many = store.put_many

        def put(records: list[RunRecord]) -> None:
            put_many(records)
            durable.write("".join(f"{r.spec.run_id}\n" for r in records if r.is_done))
            durable.flush()

        store.put_many = put  # type: ignore[method-assign, assignment]
        return int(bool(sweep(specs, store, tiny.RUNNER, engine=LocalEngine(2), dataset=tiny.DATA).failed))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--runs", type=int, default=200, help="of each sweep (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and victims (default 0)")
    args = parser.parse_args(argv)
    rng = random.Random(args.seed)
    expected = undisturbed(plan(args.runs))
    print("round  seconds  drivers  lost  doubled  different  killed, at so many runs done")
    bad = 0
    for i in range(args.rounds):
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            found = play(Path(folder) / "store.sqlite", args.runs, rng, expected)
        lost, doubled, different = map(len, (found.lost, found.doubled, found.different))
        print(f"{i + 1:5}  {time.monotonic() - start:7.1f}  {found.drivers:7}", end="")
        print(f"  {lost:4}  {doubled:7}  {different:9}  {', '.join(found.kills)}", flush=True)
        if found.different:
            print(f"{'':7}different in: {', '.join(sorted(set().union(*found.different.values())))}")
        bad += not found.is_good
    print(f"{args.rounds - bad} of {args.rounds} rounds: nothing lost, nothing doubled, results identical")
    return int(bool(bad))


if __name__ == "__main__":  # the driver to kill
    sys.exit(_drive(Path(sys.argv[1]), int(sys.argv[2])))
