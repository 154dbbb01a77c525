"""The sweep: nothing is lost, whatever dies, and no process outlives it; the results depend on the specs alone."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import pickle
import random
import re
import signal
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks import kill
from mutransfer.errors import UserError
from mutransfer.runs.driver import CHECKPOINTS, Interrupted, SweepResult, beside, on_disk, sweep
from mutransfer.runs.engine import LocalEngine, schedule
from mutransfer.runs.store import Store
from mutransfer.training.checkpoint import EVERY, FOLDER
from mutransfer.training.spec import RunRecord
from tests.runs import tiny
from tests.runs.tiny import ids, record

DATA = tiny.DATA
GRID = tiny.grid(DATA)
LONG = tiny.long(DATA)
RAISES = tiny.spec(DATA, hps=(("fault", "raise"),))
KNOWN, FOREIGN = record(seed=5), record(seed=6)


@dataclass
class Faulty:
    result: SweepResult
    store: Store
    said: str

    def record(self, fault: str) -> RunRecord:
        (match,) = [r for r in self.result.records if dict(r.spec.hps).get("fault") == fault]
        return match


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    """One sweep with one worker: the grid, and in it a run that raises, one that dies once and one that dies.

    Checkpoints lie beside the store: of the one that raises, of one that the store has, and of one of another sweep.
    """
    folder = tmp_path_factory.mktemp("faulty")
    dies_once = tiny.spec(DATA, hps=(("fault", "die once"), ("marker", str(folder / "once"))))
    dies = tiny.spec(DATA, hps=(("fault", "die"), ("marker", str(folder / "always"))))
    specs, said = [KNOWN.spec, GRID[0], RAISES, dies_once, *GRID[1:], dies], io.StringIO()
    with Store(folder / "store.sqlite") as store:
        store.put_many([KNOWN])
        beside(store.path, CHECKPOINTS).mkdir()
        for spec in (RAISES, KNOWN.spec, FOREIGN.spec):
            (beside(store.path, CHECKPOINTS) / f"{spec.run_id}.pt").touch()
        with contextlib.redirect_stdout(said):
            result = sweep(specs, store, tiny.RUNNER, engine=LocalEngine(1), dataset=DATA)
        yield Faulty(result, store, said.getvalue())


def test_a_run_that_raises_fails_alone(faulty: Faulty) -> None:
    """A bug in one run must not cost the others; its reason is one line that says what and where."""
    assert faulty.record("raise").status == "failed"
    assert faulty.record("raise").reason.startswith("ValueError: this run always raises (tiny.py:")


def test_a_killed_worker_loses_only_its_own_run(faulty: Faulty) -> None:
    """kill -9 in mid-run: it is made again, from its start; one that dies twice fails, and the sweep completes.

    The next sweep retries what failed: the store does not give it out as done. A divergence is a result.
    """
    survivor = faulty.record("die once")
    assert (survivor.status, survivor.steps_done) == ("finished", survivor.spec.steps)
    reason = "two workers died in this run: the first by SIGKILL, the second, alone, by SIGKILL"
    assert (faulty.record("die").status, faulty.record("die").reason) == ("failed", reason)
    assert faulty.said.count("a worker died (SIGKILL) in run") == 3
    records = [*faulty.result.records]
    assert Counter(r.status for r in records) == {"finished": 6, "diverged": 4, "failed": 2}
    assert (faulty.result.failed, faulty.result.skipped) == (2, 1)
    assert not multiprocessing.active_children()
    run_ids = set(faulty.result.run_ids)
    assert run_ids - faulty.store.done(run_ids) == set(ids(faulty.record("raise"), faulty.record("die")))
    for r in records:
        if r.status == "diverged":
            assert r.spec.log2_lr == 30 and r.train_loss == float("inf") and r.steps_done < r.spec.steps


def test_nothing_is_left_beside_the_store(faulty: Faulty) -> None:
    """The workers' copy of the data set is 180 MB of CIFAR-10: it must not stay behind.

    Only what is done loses its checkpoint, also after a kill: what failed is tried again from its own.
    """
    left = {path.name for path in faulty.store.path.parent.glob("store*")}
    assert left <= {f"store.sqlite{end}" for end in ("", ".lock", ".jsonl", "-wal", "-shm", ".checkpoints")}
    assert FOLDER not in os.environ
    left = {path.name for path in beside(faulty.store.path, CHECKPOINTS).iterdir()}
    assert left == {f"{spec.run_id}.pt" for spec in (RAISES, FOREIGN.spec)}


def test_the_result_holds_no_record(faulty: Faulty) -> None:
    """Ten thousand records with their loss curves are 100 MB: they are read from the store, in the specs' order."""
    result = faulty.result
    assert len(pickle.dumps(result)) < 100 * len(result.run_ids)
    assert ids(*result.records) == list(result.run_ids)
    assert isinstance(result.records, Iterator)


def test_what_the_store_has_is_not_run_again(faulty: Faulty) -> None:
    """Resuming a complete sweep starts no worker (this runner does not exist); a run that is named twice is one."""
    options = dict(engine=LocalEngine(1), dataset=DATA, progress=False)
    result = sweep([*GRID, GRID[0]], faulty.store, "no.such:runner", **options)
    assert [r.spec for r in result.records] == GRID
    assert result.skipped == len(GRID)


def test_kill_the_driver_interrupt_it_and_resume(
    faulty: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """kill -9 on the driver, Ctrl-C on the next, other order and workers: the same records but for times.

    The run that was under way goes on from its checkpoint, to an undisturbed run's record, byte for byte.
    """
    path = tmp_path / "store.sqlite"
    checkpoint = beside(path, CHECKPOINTS) / f"{LONG.run_id}.pt"
    driver = kill.driver_of(path, 0, **{tiny.HANG: GRID[-1].run_id, EVERY: "0"})
    try:
        tiny.wait_for(lambda: checkpoint.exists() and len(tiny.runs_in(path)) == len(GRID) - 1, seconds=60)
        with pytest.raises(UserError, match=rf"in use by another run \(process {driver.pid}\)"), Store(path):
            pass
        workers = tiny.workers(driver.pid)
        assert len(workers) == 2
    finally:
        driver.kill()
        driver.wait()
    tiny.wait_for(lambda: not any(map(is_running, workers)), seconds=5)  # they were in a run without end
    assert path.with_name(path.name + ".data").exists() and checkpoint.exists()

    def resume(store: Store) -> SweepResult:
        options = dict(engine=LocalEngine(1), dataset=DATA, cost=lambda spec: spec.width, progress=False)
        return sweep([LONG, *GRID[::-1]], store, tiny.RUNNER, **options)

    # a background job of a shell ignores Ctrl-C, and so would tests that are started as one
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Store(path) as store, monkeypatch.context() as patch:  # the lock went with its owner
            put_many = store.put_many
            patch.setattr(store, "put_many", lambda records: (put_many(records), signal.raise_signal(signal.SIGINT)))
            with pytest.raises(Interrupted, match=r"8 of 9 runs are kept; the same command goes on") as interrupted:
                resume(store)
        assert interrupted.value.exit_code == 130
    finally:
        signal.signal(signal.SIGINT, before)
    with Store(path) as store:
        result = resume(store)
    assert result.skipped == len(GRID)
    assert re.search(rf"run {LONG.run_id} goes on from its checkpoint: [1-9]\d* of 3000", capfd.readouterr().err)
    assert not beside(path, CHECKPOINTS).exists()  # its record is durable

    whole = kill.undisturbed([LONG]) | {r.spec.run_id: tiny.outcome(r) for r in faulty.result.records}
    for r in result.records:
        assert tiny.outcome(r) == whole[r.spec.run_id]
    assert not list(tmp_path.glob("*.data"))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_killed_at_random_moments(tmp_path: Path) -> None:
    """kill -9 on driver and workers, then resume: no run lost, none doubled; `benchmarks/kill.py` does more of it."""
    undisturbed = kill.undisturbed(kill.plan(40))  # the seed: first a worker is killed, then the driver
    played = kill.play(tmp_path / "store.sqlite", 40, random.Random(9), undisturbed)
    assert len(played.kills) == 2
    assert played.is_good, played
    assert not list(tmp_path.glob("*.data"))


def test_specs_of_other_data_are_refused(tmp_path: Path) -> None:
    """A plan made on CIFAR-10 must not run on the stand-in; nothing starts."""
    other = tiny.spec(DATA, data_fingerprint="0123")
    with Store(tmp_path / "s") as store, pytest.raises(UserError, match="declared on data 0123"):
        sweep([other], store, tiny.RUNNER, engine=LocalEngine(1), dataset=DATA, progress=False)


def test_on_disk_leaves_one_copy_and_no_folder(tmp_path: Path) -> None:
    """The copy in memory goes when nobody else holds it; what a killed sweep left in the folder goes first."""
    folder = tmp_path / "store.sqlite.data"
    folder.mkdir()
    (folder / "litter").touch()
    dataset = tiny.dataset()
    in_memory = weakref.ref(dataset)
    with pytest.raises(RuntimeError), on_disk(dataset, folder) as dataset:
        assert in_memory() is None
        assert dataset.folder == folder and dataset.fingerprint == DATA.fingerprint
        assert not (folder / "litter").exists()
        with on_disk(dataset, tmp_path / "other") as same:
            assert same is dataset and not (tmp_path / "other").exists()
        assert folder.is_dir()
        raise RuntimeError
    assert not folder.exists()


def test_each_slot_has_its_device_and_all_share_the_data(tmp_path: Path) -> None:
    """Two GPUs, a process each; a data set on the disk is mapped by each worker, not sent to it."""
    records: list[RunRecord] = []
    with on_disk(tiny.dataset(), tmp_path / "data") as data:
        workers = LocalEngine(2, ("cuda:0", "cuda:1")).backend(tiny.REPORT, data)
        schedule(workers, tiny.reports(tmp_path, 12, seconds=0.2), on_records=records.extend)
    places = {(r.provenance["device"], r.provenance["pid"]) for r in records}
    assert sorted(device for device, _ in places) == ["cuda:0", "cuda:1"]
    facts = {(r.provenance["folder"], r.provenance["threads"], r.provenance["data"]) for r in records}
    assert facts == {(str(tmp_path / "data"), "1", DATA.fingerprint)}


def test_a_runner_that_cannot_start_is_one_error() -> None:
    """A typo in the runner is the user's one error, not one failed run for every spec."""
    with pytest.raises(UserError, match=r"no run can start: cannot find 'tests\.runs\.no_such:walk'"):
        schedule(LocalEngine(1).backend("tests.runs.no_such:walk", None), GRID, on_records=print)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("arguments", [(0,), (2, ())])
def test_bad_arguments(arguments: tuple[Any, ...]) -> None:
    """No workers, or nothing for them to work on, is refused before anything starts."""
    with pytest.raises(UserError, match="expected at least one of each"):
        LocalEngine(*arguments)
