"""A damaged store, a full disk, a read-only disk, a clock set back: a clear error, and what is finished is kept."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mutransfer.errors import UserError
from mutransfer.runs.store import Damaged, Store
from mutransfer.runs.table import runs
from mutransfer.training.spec import RunRecord
from tests.runs import stores
from tests.runs.stores import failed, ids, journal, many, record, salvaged, stored, texts, version_1

PAGE = 4096  # bytes; SQLite's default


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    return tmp_path / "results" / "tiny.sqlite"


def damage(path: Path, pages: int = 1) -> bytes:
    """Write junk over ``pages`` in the middle; returns what the file then is."""
    data = bytearray(path.read_bytes())
    middle = len(data) // PAGE // 2 * PAGE
    data[middle : middle + pages * PAGE] = random.Random(0).randbytes(pages * PAGE)
    path.write_bytes(data)
    return bytes(data)


@pytest.mark.parametrize("has_journal", [True, False], ids=["with its journal", "from before there were journals"])
def test_damaged_in_the_middle(has_journal: bool, path: Path) -> None:
    """The line names the command that keeps what can be read; it does, and the sweep goes on."""
    records = many(150)
    with Store(path) as store:
        store.put_many(records)
        finished_at = set(store.rows(["finished_at"]))
    if not has_journal:
        journal(path).unlink()
    data = damage(path, pages=3)
    message = f"to keep what can still be read: ./reproduce.sh runs tiny --salvage --out {path.parents[1]}."
    for act in (lambda p: Store(p).__enter__(), runs, lambda p: runs(p, delete=True, every=True, yes=True)):
        with pytest.raises(Damaged) as caught:
            act(path)
        assert str(caught.value).endswith(message) and "\n" not in str(caught.value)
    assert path.read_bytes() == data

    assert runs(path, salvage=True) == 0
    assert path.with_name("tiny.sqlite.damaged").read_bytes() == data
    with Store(path) as store:
        assert 135 <= len(texts(store.records())) <= 150 - (not has_journal)  # two or three runs on each page
        assert texts(store.records()) <= texts(records)
        assert set(store.rows(["finished_at"])) == finished_at
        store.put_many(records)
    assert texts(Store.read(path)) == texts(records)
    with pytest.raises(UserError, match="is whole"):
        Store.salvage(path)


@pytest.mark.parametrize("is_old", [False, True], ids=["this version", "version 1"])
def test_whichever_page_is_lost(is_old: bool, path: Path) -> None:
    """The file's header and the roots of its trees too: no run is, nor is one if the file is gone but for its name.

    A store of version 1 that was never opened since has no journal: of it, what SQLite can reach is left.
    """
    big = record(seed=99, loss_curve=tuple(i / 7 for i in range(1000)))  # on several pages
    records = [*many(12), big, *many(25)[12:]]
    whole = (version_1 if is_old else stored)(path, records).read_bytes()
    lost = []
    for start in range(0, len(whole), PAGE):
        path.write_bytes(whole[:start] + bytes(PAGE) + whole[start + PAGE :])
        left = texts(salvaged(path))
        assert left <= texts(records)
        lost.append(len(texts(records) - left))
    if is_old:
        assert lost.count(25 + 1) <= 3 and sorted(lost)[len(lost) // 2] <= 3  # header and roots
    else:
        path.write_bytes(b"")
        assert not any(lost) and texts(salvaged(path)) == texts(records)


def test_what_was_deleted_or_replaced_does_not_come_back(path: Path) -> None:
    """After any history, the journal alone gives what SQLite reads."""
    rng = random.Random(0)
    gone = path.with_name("gone.sqlite")
    gone.touch()
    with Store(path) as store:
        for _ in range(20):
            chosen = rng.sample(many(60), 10)
            store.put_many(RunRecord.failed(r.spec, "killed") if rng.random() < 0.3 else r for r in chosen)
            if rng.random() < 0.3:
                store.delete(("seed % 3 = ?", (rng.randrange(3),)))
            shutil.copy(journal(path), journal(gone))
            assert texts(salvaged(gone)) == texts(store.records())
    assert 0 < len(salvaged(path)) < 60


def test_damage_beside_a_log(path: Path) -> None:
    """A killed driver's last runs are in the log; they are saved too, and the log is not applied to the new file."""
    stored(path, many(200)[100:])
    stores.put_and_die(path, many(20))
    damage(path)
    count, aside = Store.salvage(path)
    assert (count, aside.name) == (120, "tiny.sqlite.damaged")
    assert texts(Store.read(path)) == texts([*many(20), *many(200)[100:]])
    assert not path.with_name(path.name + "-wal").exists()


def test_a_journal_that_is_cut_short_or_lost(path: Path) -> None:
    """A line that a full disk or a kill left half costs no other; a lost journal is made anew from the store."""
    stored(path, many(2))
    with journal(path).open("ab") as file:
        file.write(b'\n{"run_id":"half')
    stored(path, many(3)[2:])
    path.write_bytes(bytes(5 * PAGE))
    Store.salvage(path)
    assert texts(Store.read(path)) == texts(many(3)) and b"half" not in journal(path).read_bytes()
    journal(path).unlink()
    stored(path, many(4)[3:])
    path.write_bytes(bytes(5 * PAGE))
    assert texts(salvaged(path)) == texts(many(4))


def test_nothing_to_salvage(path: Path) -> None:
    """Somebody's file that is no store is left where it is."""
    path.write_bytes(random.Random(0).randbytes(20 * PAGE))
    before = path.read_bytes()
    for act in (Store.read, runs):
        with pytest.raises(UserError, match="it is damaged or no store"):
            act(path)
    with pytest.raises(UserError, match=r"no run can be read .* move it away and run again"):
        runs(path, salvage=True)
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*.damaged*"))


def test_damage_of_any_kind_is_one_line(path: Path) -> None:
    """Bytes changed anywhere, the end cut off: never another error than the user's, never a run that was not put."""
    files = [stored(path, many(15)), journal(path)]
    whole, rng = [file.read_bytes() for file in files], random.Random(0)
    for _ in range(100):
        for file, content in zip(files, whole, strict=True):
            data = bytearray(content)
            for _ in range(rng.choice([1, 3, 20])):
                junk = rng.randbytes(rng.choice([1, 4, 64, 700]))
                at = rng.randrange(len(data) - len(junk))
                data[at : at + len(junk)] = junk
            file.write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
        assert set(ids(*salvaged(path))) <= set(ids(*many(15)))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with stores.disk(tmp_path / "disk", "1m") as folder:
        yield folder


def fill(folder: Path) -> None:
    """Take all the space that is left."""
    with (folder / "filler").open("wb", buffering=0) as f, pytest.raises(OSError, match="No space"):
        while True:
            f.write(bytes(PAGE))


def put_until_full(store: Store, records: list[RunRecord]) -> list[RunRecord]:
    """Those that were put one by one before there was no room."""
    kept: list[RunRecord] = []
    with pytest.raises(UserError, match=r"cannot write the store .* free space on the disk; .* are kept") as caught:
        for r in records:
            store.put_many([r])
            kept.append(r)
    assert "\n" not in str(caught.value)
    return kept


def test_a_full_disk(small_disk: Path) -> None:
    """One line that says so; every run put before is kept, readable while the disk is full, and not run again."""
    path, records = small_disk / "store.sqlite", many(400)
    with Store(path) as store:
        kept = put_until_full(store, records)
        assert texts(Store.read(path)) == texts(kept)  # beside the driver
        with pytest.raises(UserError, match="free space"):
            store.put_many(records[len(kept) : len(kept) + 5])
    assert 50 < len(kept) < 400
    fill(small_disk)
    assert texts(Store.read(path)) == texts(kept)
    assert runs(path, where=["seed=0"]) == 0

    stores.remount(small_disk, "size=8m")
    with Store(path) as store:
        assert store.done(ids(*records)) == set(ids(*kept))
        store.put_many(records)
        assert store.done(ids(*records)) == set(ids(*records))
    assert texts(salvaged(path)) == texts(records)


def test_a_database_that_may_not_grow(path: Path) -> None:
    """The same without the right to mount: the run that does not fit is an error, and the store goes on."""
    records = [record(log2_lr=-i) for i in range(40)]
    with Store(path) as store:
        db = store._db
        db.execute(f"PRAGMA max_page_count={db.execute('PRAGMA page_count').fetchone()[0] + 2}")
        kept = put_until_full(store, records)
    assert 0 < len(kept) < len(records)
    with Store(path) as store:
        assert store.done(ids(*records)) == set(ids(*kept))
        store.put_many([records[len(kept)]])


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


def test_a_read_only_disk(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Writing is refused in one line; what a driver left, closed or killed, in our version or the last, is read."""
    closed = stored(small_disk / "closed.sqlite", many(20))
    stores.put_and_die(killed := small_disk / "killed.sqlite", many(20))
    old = version_1(small_disk / "old.sqlite", many(20))
    stores.remount(small_disk, "ro")
    for path in (closed, killed, old):
        assert texts(Store.read(path)) == texts(many(20))
        assert runs(path) == 0
        assert "20 of 20 runs" in capsys.readouterr().out
        for write in (lambda p: Store(p).__enter__(), lambda p: runs(p, delete=True, every=True, yes=True)):
            with pytest.raises(UserError, match=r"cannot write in .*Read-only file system; make it writable"):
                write(path)
        with pytest.raises(UserError, match="Read-only file system"):
            runs(path, export=small_disk / "runs.csv")
    stores.remount(small_disk, "rw")
    with Store(killed) as store:
        assert store.done(ids(*many(20))) == set(ids(*many(20)))


def test_the_clock_set_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Daylight saving, a dead battery: the record that comes later counts, though its time is earlier."""
    stored(path, [failed()])
    with Store(path) as store, monkeypatch.context() as patch:
        patch.setattr(time, "gmtime", lambda seconds=None: time.struct_time((1999, 12, 31, 23, 59, 59, 4, 365, 0)))
        store.put_many([record()])
        assert list(store.rows(["status", "finished_at"])) == [("finished", "1999-12-31T23:59:59Z")]
