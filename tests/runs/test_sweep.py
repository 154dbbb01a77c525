"""The sweep: nothing is lost, whatever dies; the results depend on the specs alone."""

from __future__ import annotations

import csv
import os
import pickle
import random
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from mutransfer.errors import UserError
from mutransfer.runs.engine import LocalEngine
from mutransfer.runs.store import Store
from mutransfer.runs.sweep import Interrupted, SweepResult, on_disk, sweep
from mutransfer.runs.table import to_frame, write_csv
from mutransfer.training.spec import RunRecord
from tests.runs import killing, tiny

ROOT = Path(__file__).parents[2]
DATA = tiny.dataset()
GRID = tiny.grid(DATA)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SweepResult, Store]]:
    """One sweep with one worker: the grid, and in it a run that raises and one that dies once."""
    folder = tmp_path_factory.mktemp("faulty")
    raises = tiny.spec(DATA, hps=(("fault", "raise"),))
    dies_once = tiny.spec(DATA, hps=(("fault", "die once"), ("marker", str(folder / "once"))))
    with Store(folder / "store.sqlite") as store:
        specs = [GRID[0], raises, dies_once, *GRID[1:]]
        yield sweep(specs, store, tiny.RUNNER, engine=LocalEngine(1), dataset=DATA, progress=False), store


def by_fault(result: SweepResult) -> dict[object, RunRecord]:
    return {dict(r.spec.hps)["fault"]: r for r in result.records if r.spec.hps}


def without_times(path: Path) -> str:
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    column = rows[0].index("wall_seconds")
    return "\n".join(",".join(row[:column] + row[column + 1 :]) for row in rows)


def test_a_run_that_raises_fails_alone(faulty: tuple[SweepResult, Store]) -> None:
    """A bug in one run must not cost the others; its reason is one line that says what and where."""
    record = by_fault(faulty[0])["raise"]
    assert record.status == "failed"
    assert record.reason.startswith("ValueError: this run always raises (tiny.py:")


def test_a_killed_worker_loses_only_its_own_run(faulty: tuple[SweepResult, Store]) -> None:
    """kill -9 in mid-run: the run is made again, from its start, and the sweep completes."""
    result, _ = faulty
    record = by_fault(result)["die once"]
    assert record.status == "finished"
    assert record.steps_done == record.spec.steps
    assert result.counts == {"finished": 5, "diverged": 4, "failed": 1}
    assert result.failed == 1


def test_failed_runs_are_not_done(faulty: tuple[SweepResult, Store]) -> None:
    """The next sweep retries what failed: the store does not give it out as done, but reports see it."""
    result, store = faulty
    ids = {r.spec.run_id: r for r in result.records}
    assert set(ids) - store.done(ids) == {by_fault(result)["raise"].spec.run_id}
    assert {r.status for r in Store.read(store.path)} == {"finished", "diverged", "failed"}


def test_divergence_is_a_result(faulty: tuple[SweepResult, Store]) -> None:
    """Diverged runs are kept as such with a loss of inf, and were stopped early."""
    diverged = [r for r in faulty[0].records if r.spec.log2_lr == 30]
    assert len(diverged) == 4
    for record in diverged:
        assert (record.status, record.train_loss) == ("diverged", float("inf"))
        assert record.steps_done < record.spec.steps


def test_the_data_folder_is_gone(faulty: tuple[SweepResult, Store]) -> None:
    """The workers' copy of the data set is 180 MB of CIFAR-10: it must not stay behind."""
    _, store = faulty
    assert not list(store.path.parent.glob("*.data"))


def test_what_the_store_has_is_not_run_again(faulty: tuple[SweepResult, Store]) -> None:
    """Resuming a complete sweep starts no worker (this runner does not exist), extensions included."""
    frames, last = [], []

    def extend(frame, is_last):  # type: ignore[no-untyped-def]
        frames.append(frame)
        last.append(is_last)
        return GRID[6:] if len(frames) < 9 else []

    result = sweep(
        [*GRID[:6], GRID[0]],
        faulty[1],
        "no.such:runner",
        engine=LocalEngine(1),
        dataset=DATA,
        progress=False,
        extend=extend,
    )
    assert [r.spec for r in result.records] == GRID
    assert result.skipped == len(GRID)
    assert [len(frame) for frame in frames] == [6, 8]  # asked until it returned nothing new
    assert last == [False, False]


def test_kill_the_driver_interrupt_it_and_resume(
    faulty: tuple[SweepResult, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """kill -9 on the driver, Ctrl-C on the next, other order and workers: the same runs.csv but for times."""
    path = tmp_path / "store.sqlite"
    hanging = {spec.run_id for spec in GRID[-2:]}
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.runs.tiny", str(path)],
        cwd=ROOT,
        env={
            **os.environ,
            tiny.HANG: " ".join(hanging),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
    )
    try:
        wait_for(lambda: path.exists() and stored(path) == len(GRID) - 2, seconds=60)
        with pytest.raises(UserError, match=rf"in use by another run \(process {driver.pid}\)"), Store(path):
            pass
        workers = children(driver.pid)
        assert len(workers) >= 2
    finally:
        driver.kill()
        driver.wait()
    wait_for(lambda: not any(is_running(pid) for pid in workers), seconds=5)  # they were in a run without end
    assert path.with_name(path.name + ".data").exists()

    # a background job of a shell ignores Ctrl-C, and so would tests that are started as one
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with Store(path) as store:  # the lock went with its owner
        put_many = store.put_many
        monkeypatch.setattr(store, "put_many", lambda records: (put_many(records), signal.raise_signal(signal.SIGINT)))
        with pytest.raises(Interrupted, match=r"7 of 8 runs are kept; the same command goes on") as interrupted:
            run_grid(store)
        assert interrupted.value.exit_code == 130
        monkeypatch.setattr(store, "put_many", put_many)
        result = run_grid(store)
        assert result.skipped == 7

    whole = [r for r in faulty[0].records if not r.spec.hps]
    ours = {r.spec.run_id: tiny.outcome(r) for r in result.records}
    assert ours == {r.spec.run_id: tiny.outcome(r) for r in whole}
    write_csv(result.frame, tmp_path / "resumed.csv")
    write_csv(to_frame(whole), tmp_path / "whole.csv")
    assert without_times(tmp_path / "resumed.csv") == without_times(tmp_path / "whole.csv")
    assert not list(tmp_path.glob("*.data"))


def run_grid(store: Store) -> SweepResult:
    return sweep(
        GRID[::-1],
        store,
        tiny.RUNNER,
        engine=LocalEngine(1),
        dataset=DATA,
        progress=False,
        cost=lambda spec: spec.width,
    )


def stored(path: Path) -> int:
    """Runs in the store; 0 while it is being made."""
    try:
        return len(Store.read(path))
    except UserError:
        return 0


def children(pid: int) -> list[int]:
    return [int(x) for x in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds: float) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, dict[str, object]]:
    return killing.undisturbed(killing.plan(60))


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments(seed: int, undisturbed: dict[str, dict[str, object]], tmp_path: Path) -> None:
    """kill -9 on driver and workers, then resume: no run lost, none doubled; `benchmarks/kill.py` is the long form."""
    found = killing.play(tmp_path / "store.sqlite", 60, random.Random(seed), undisturbed)
    assert found.kills
    assert found.is_good, found
    assert not list(tmp_path.glob("*.data"))


def test_the_result_holds_no_record(faulty: tuple[SweepResult, Store]) -> None:
    """Ten thousand records with their loss curves are 100 MB: they are read from the store, in the specs' order."""
    result, _ = faulty
    assert len(pickle.dumps(result)) < 100 * len(result.run_ids)
    assert [r.spec.run_id for r in result.records] == list(result.run_ids)
    assert [r.spec for r in result.records if not r.spec.hps] == GRID
    assert sum(result.counts.values()) == len(result.frame) == len(GRID) + 2
    assert isinstance(result.records, Iterator)


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
