"""A full disk, a read-only disk, a clock set back: a clear error, and what is finished is readable."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mutransfer.errors import UserError
from mutransfer.runs.engine import LocalEngine
from mutransfer.runs.progress import SweepProgress
from mutransfer.runs.store import Store
from mutransfer.runs.sweep import SweepResult, sweep
from mutransfer.runs.table import runs
from mutransfer.training.spec import RunRecord
from tests.runs import tiny
from tests.runs.stores import DATA, disk, ids, many, put_and_die, remount, texts, version_1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disk(tmp_path / "disk", "1m") as folder:
        yield folder


def fill(folder: Path) -> None:
    """Take all the space that is left."""
    with (folder / "filler").open("wb", buffering=0) as f, pytest.raises(OSError, match="No space"):
        while True:
            f.write(bytes(4096))


def test_a_full_disk(small_disk: Path) -> None:
    """One line that says so; every run put before is kept, readable while the disk is full, and not run again."""
    path, records = small_disk / "store.sqlite", many(600)
    kept = 0
    with Store(path) as store:
        with pytest.raises(UserError, match=r"cannot write the store .* free space on the disk") as caught:
            for r in records:
                store.put(r)
                kept += 1
        assert "\n" not in str(caught.value)
        assert texts(Store.read(path)) == texts(records[:kept])  # beside the driver
        with pytest.raises(UserError, match="free space"):
            store.put_many(records[kept : kept + 5])
    assert 50 < kept < 600
    fill(small_disk)
    assert texts(Store.read(path)) == texts(records[:kept])
    assert runs(path, where=["seed=0"]) == 0

    remount(small_disk, "size=4m")
    with Store(path) as store:
        assert store.done(ids(*records)) == set(ids(*records[:kept]))
        store.put_many(records)
        assert len(store.get(ids(*records))) == 600


def test_a_full_disk_at_the_start(small_disk: Path) -> None:
    """No room for a new store, nor for bringing an old one up to date: an error, and the old one is untouched."""
    old = version_1(small_disk / "old.sqlite", many(150))
    before = old.read_bytes()
    fill(small_disk)
    for path in (small_disk / "new.sqlite", old):
        with pytest.raises(UserError, match=r"free space|No space left"), Store(path):
            pass
    assert old.read_bytes() == before
    assert texts(Store.read(old)) == texts(many(150))
    with pytest.raises(UserError, match="No space left"):
        runs(old, export=small_disk / "runs.csv")
    assert not (small_disk / "runs.csv").exists()


def test_a_sweep_on_a_full_disk(small_disk: Path) -> None:
    """The disk fills up in mid-sweep: one line, no worker left hanging; with space, the same call goes on."""
    path, specs = small_disk / "store.sqlite", tiny.grid(DATA)

    def run_sweep() -> SweepResult:
        with Store(path) as store:
            return sweep(specs, store, tiny.RUNNER, engine=LocalEngine(1), dataset=DATA, progress=False)

    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 120_000))  # enough for the data set and a few runs
    with pytest.raises(UserError, match="free space on the disk; all runs so far are kept"):
        run_sweep()
    kept = len(Store.read(path))
    assert 0 < kept < len(specs)
    filler.unlink()
    result = run_sweep()
    assert (result.skipped, result.failed, len(Store.read(path))) == (kept, 0, len(specs))


def test_a_read_only_disk(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Writing is refused in one line; what a driver left, closed or killed, in our version or the last, is read."""
    closed, killed, old = (small_disk / f"{name}.sqlite" for name in ("closed", "killed", "old"))
    with Store(closed) as store:
        store.put_many(many(20))
    put_and_die(killed, 20)
    version_1(old, many(20))
    remount(small_disk, "ro")
    for path in (closed, killed, old):
        assert texts(Store.read(path)) == texts(many(20))
        assert runs(path) == 0
        assert "20 of 20 runs" in capsys.readouterr().out
        for write in (lambda p: Store(p).__enter__(), lambda p: runs(p, delete=True, every=True, yes=True)):
            with pytest.raises(UserError, match=r"cannot write in .*Read-only file system; make it writable"):
                write(path)
        with pytest.raises(UserError, match="Read-only file system"):
            runs(path, export=small_disk / "runs.csv")
    remount(small_disk, "rw")
    with Store(killed) as store:
        assert len(store.get(ids(*many(20)))) == 20


def test_a_read_only_folder(tmp_path: Path) -> None:
    """The same without the right to mount."""
    folder = tmp_path / "results"
    with Store(folder / "store.sqlite") as store:
        store.put_many(many(20))
    folder.chmod(0o555)
    try:
        if os.access(folder, os.W_OK):
            pytest.skip("chmod does not stop root")
        assert texts(Store.read(folder / "store.sqlite")) == texts(many(20))
        with pytest.raises(UserError, match="cannot write in"), Store(folder / "other.sqlite"):
            pass
    finally:
        folder.chmod(0o755)


def test_the_clock_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Daylight saving, a dead battery: nothing depends on the wall clock but the column that shows it."""
    path, years = tmp_path / "store.sqlite", 60 * 60 * 24 * 365
    now, gmtime = time.time(), time.gmtime
    offset = 0.0
    monkeypatch.setattr(time, "time", lambda: now + offset)
    monkeypatch.setattr(time, "gmtime", lambda seconds=None: gmtime(now + offset if seconds is None else seconds))
    first, second = tiny.spec(DATA), tiny.spec(DATA, seed=1)
    with Store(path) as store:
        store.put(RunRecord.failed(first, "killed"))
    offset -= 10 * years
    with Store(path) as store, SweepProgress(False) as progress:
        progress.add(2, 2.0)
        for spec in (first, second):
            offset -= years
            done = tiny.run(spec, DATA)
            assert done.wall_seconds > 0
            store.put(done)
            progress.record(done, 1.0)
            assert progress.eta_seconds is not None and progress.eta_seconds >= 0
        assert store.done(ids(done)) == set(ids(done))
        assert store.get([first.run_id])[first.run_id].status == "finished"  # the later, though its time is earlier
    runs(path)
    shown = [line.split()[11][:4] for line in capsys.readouterr().out.splitlines()[1:-1]]
    assert shown == [str(gmtime(now + offset + years).tm_year), str(gmtime(now + offset).tm_year)]
