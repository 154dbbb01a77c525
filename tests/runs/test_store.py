"""The store keeps what it was given, whatever becomes of file and disk, and refuses in one line what it cannot keep."""

from __future__ import annotations

import json
import math
import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mutransfer.errors import UserError
from mutransfer.runs.store import COLUMNS, SCHEMA_VERSION, Damaged, Store
from mutransfer.runs.table import runs
from mutransfer.training.spec import RunRecord
from tests.runs import tiny
from tests.runs.tiny import failed, ids, journal, many, record, salvaged, stored, texts, version_1

PAGE = 4096  # bytes; SQLite's default


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    return tmp_path / "results" / "tiny.sqlite"


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    """Every field, inf and nan included, after closing; a folder that is missing is made."""
    records = [record(), record(log2_lr=5, status="diverged", train_loss=math.inf)]
    path = stored(tmp_path / "a" / "b" / "store.sqlite", records)
    with Store(path) as store:
        assert texts(store.records([*ids(*records), "absent"])) == texts(records)


def test_a_record_is_on_the_disk_when_put_returns(path: Path) -> None:
    """A copy of the files taken at that moment, as a kill would leave them, has the record; an empty file is a new one.

    A commit waits for the disk: records that come together cost one; when one is bad, none is half in.
    """
    records, statements = many(5), list[str]()
    path.touch()  # by a kill before its first page
    with Store(path) as store:
        assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        store._db.set_trace_callback(statements.append)
        store.put_many(records)
        assert sum(s.startswith("COMMIT") for s in statements) == 1
        (path.parent / "copy").mkdir()
        for file in path.parent.glob("tiny.sqlite*"):
            shutil.copy(file, path.parent / "copy")
        with pytest.raises(UserError):
            store.put_many([record(seed=8), record(seed=9, steps_done=None)])
        assert store.done(ids(record(seed=8), *records)) == set(ids(*records))
    assert texts(Store.read(path.parent / "copy" / "tiny.sqlite")) == texts(records)
    with pytest.raises(UserError, match="no store at"):
        Store.read(path.with_name("absent"))


def test_done_parses_nothing(path: Path) -> None:
    """A finished plan of 10,000 runs is recognised without its curves; what is not asked for is not parsed."""
    good, broken = record(), record(seed=2)
    with Store(path) as store:
        store.put_many([good, failed(seed=1), broken])
        store._db.execute("UPDATE runs SET record = '{' WHERE run_id = ?", ids(broken))
        assert store.done([*ids(good, failed(seed=1), broken), "absent"]) == set(ids(good, broken))
        both = sorted(ids(good, failed(seed=1)))
        assert ids(*store.records(both[::-1])) == both
        assert list(store.get(both)) == ids(good)
        with pytest.raises(Damaged, match="a row is damaged"):
            list(store.records())


def test_one_writer_at_a_time(path: Path) -> None:
    """Two drivers on one store would run everything twice; the second is told of the first. Readers may."""
    link = path.with_name("link")
    link.symlink_to(path)
    with Store(path) as store:
        store.put_many([record()])
        for name in (path, link):
            with pytest.raises(UserError, match=r"in use .*\(process \d+\); wait .* --out"), Store(name):
                pass
        assert len(Store.read(path)) == 1
    with Store(path):
        pass


def _sql(statement: str) -> Callable[[Path], None]:
    """Does it to a store of one run."""

    def spoil(path: Path) -> None:
        with closing(sqlite3.connect(stored(path, [record()]))) as db, db:
            db.executescript(statement)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b"not a database at all" * 100), "not a database"),
        (_sql("ALTER TABLE runs RENAME TO recipes"), "not the store of a sweep"),
        (_sql(f"PRAGMA user_version={SCHEMA_VERSION + 1}"), "newer mutransfer"),
        (lambda path: stored(path, many(20)).write_bytes(path.read_bytes()[:6000]), "damaged"),
        (_sql("UPDATE runs SET record = '{}'"), "damaged"),
        (Path.mkdir, r"unable to open database file|no store at"),
    ],
)
def test_what_is_no_store_is_refused_and_left_alone(spoil: Callable[[Path], object], message: str, path: Path) -> None:
    """The error names the file and says what to do; the file, maybe somebody's data, keeps its bytes."""
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    for read_only in (False, True):
        with pytest.raises(UserError, match=message) as caught, Store(path, read_only=read_only) as store:
            list(store.records(ids(record())))
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert before is None or path.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """A file where the folder should be; a file system that takes no files (as root, chmod stops nobody)."""
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file" / "store.sqlite", Path("/proc/mutransfer/store.sqlite")):
        with pytest.raises(UserError, match=r"cannot write in .*; make it writable or use another --out"), Store(path):
            pass
    assert (tmp_path / "file").read_text() == "mine"


# as version 1 wrote it, to the letter
OLD_ID = "09292bf5299ad2da"
OLD_SPEC = (
    '{"base_width":32,"batch":64,"data":"cifar10","data_fingerprint":"4e730afd1f9f0f59","experiment":"cifar_mlp",'
    '"hps":[["input_mult",0.00390625],["loss","xent"],["nonlinearity","relu"],["output_mult",32]],"log2_lr":-8.0,'
    '"momentum":0.0,"optimizer":"sgd","parametrization":"sp","precision":"float32","seed":0,"steps":100,'
    '"variant":"relu_xent","width":128}'
)
OLD_RECORD = (
    '{"examples_per_second":11405.339241333706,"loss_curve":[2.2814013957977295,2.676392078399658],'
    '"peak_memory_mib":998.75,"provenance":{"commit":"unknown","is_real":"true"},"reason":"","spec":'
    + OLD_SPEC
    + ',"status":"finished","steps_done":100,"test_accuracy":0.2975,"test_loss":2.0089693784713747,'
    '"train_loss":2.161954069137573,"wall_seconds":0.5611406960001659}'
)
OLD_RUNS = [
    RunRecord.from_json(OLD_RECORD),
    record(log2_lr=5, status="diverged", train_loss=math.inf, steps_done=7),
    RunRecord.failed(record(seed=1001).spec, "it\nfailed"),
    *many(40),
]


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


def test_runs_of_the_first_version_keep_their_names() -> None:
    """A run_id that changed would make every old run again; an old record is read, whatever came later."""
    old = OLD_RUNS[0]
    assert old.spec.run_id == OLD_ID
    assert old.spec.to_json() == OLD_SPEC
    assert json.loads(OLD_RECORD).items() <= json.loads(old.to_json()).items()


def test_a_store_of_version_1_is_read_and_then_brought_up_to_date(path: Path) -> None:
    """The same rows, in every column, from the old file read only, from the new one, and from a new store."""
    before = version_1(path, OLD_RUNS).read_bytes()
    with Store(path, read_only=True) as store:
        old = sorted(store.rows(COLUMNS))
        assert texts(store.records(ids(*OLD_RUNS))) == texts(Store.read(path)) == texts(OLD_RUNS)
    assert (path.read_bytes(), version(path)) == (before, 1)
    with Store(path) as store, Store(stored(path.with_name("new"), OLD_RUNS)) as new:
        assert sorted(store.rows(COLUMNS)) == old
        columns = [name for name in COLUMNS if name != "finished_at"]
        assert sorted(new.rows(columns)) == sorted(store.rows(columns))
        schemas = [s._db.execute("SELECT sql FROM sqlite_master").fetchall() for s in (store, new)]
        assert schemas[0] == schemas[1]  # nothing of the old is left
    assert version(path) == SCHEMA_VERSION
    assert texts(Store.read(path)) == texts(OLD_RUNS)


KILLED = """
import os, signal, sqlite3, sys
from mutransfer.runs.store import Store
connect = sqlite3.connect
def connect_to_die(*args, **options):
    db = connect(*args, **options)
    db.execute("PRAGMA cache_size=2")  # so that much is on the disk before the commit
    db.set_trace_callback(lambda sql: sql.strip().startswith(sys.argv[2]) and os.kill(os.getpid(), signal.SIGKILL))
    return db
sqlite3.connect = connect_to_die
Store(sys.argv[1]).__enter__()
"""


@pytest.mark.parametrize("moment", ["CREATE TABLE runs", "DROP TABLE", "PRAGMA user_version=", "COMMIT"])
def test_killed_in_mid_migration(moment: str, path: Path) -> None:
    """The old file is as it was, not half of each; the next start migrates it."""
    tiny.dies(KILLED, version_1(path, OLD_RUNS), moment)
    assert texts(Store.read(path)) == texts(OLD_RUNS)
    assert version(path) == 1
    with Store(path) as store:
        assert texts(store.records()) == texts(OLD_RUNS)
    assert version(path) == SCHEMA_VERSION


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
    tiny.put_and_die(path, many(20))
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
        try:
            assert set(ids(*Store.read(path))) <= set(ids(*many(15)))
        except UserError as error:
            assert "\n" not in str(error)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with tiny.disk(tmp_path / "disk", "1m") as folder:
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

    tiny.remount(small_disk, "size=8m")
    with Store(path) as store:
        assert store.done(ids(*records)) == set(ids(*kept))
        store.put_many(records)
        assert store.done(ids(*records)) == set(ids(*records))
    assert texts(salvaged(path)) == texts(records)


def test_a_database_that_may_not_grow(path: Path) -> None:
    """The same without the right to mount: the run that does not fit is an error, and the store goes on."""
    records = many(40)
    with Store(path) as store:
        store._db.execute("PRAGMA max_page_count=9")
        kept = put_until_full(store, records)
    with Store(path) as store:
        assert store.done(ids(*records)) == set(ids(*kept)) != set()
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
    tiny.put_and_die(killed := small_disk / "killed.sqlite", many(20))
    old = version_1(small_disk / "old.sqlite", many(20))
    tiny.remount(small_disk, "ro")
    for path in (closed, killed, old):
        assert texts(Store.read(path)) == texts(many(20))
        assert runs(path) == 0
        assert "20 of 20 runs" in capsys.readouterr().out
        for write in (lambda p: Store(p).__enter__(), lambda p: runs(p, delete=True, every=True, yes=True)):
            with pytest.raises(UserError, match=r"cannot write in .*Read-only file system; make it writable"):
                write(path)
        with pytest.raises(UserError, match="Read-only file system"):
            runs(path, export=small_disk / "runs.csv")
    tiny.remount(small_disk, "rw")
    with Store(killed) as store:
        assert store.done(ids(*many(20))) == set(ids(*many(20)))


def test_the_clock_set_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Daylight saving, a dead battery: the record that comes later counts, though its time is earlier."""
    stored(path, [failed()])
    with Store(path) as store, monkeypatch.context() as patch:
        patch.setattr(time, "gmtime", lambda seconds=None: time.struct_time((1999, 12, 31, 23, 59, 59, 4, 365, 0)))
        store.put_many([record()])
        assert list(store.rows(["status", "finished_at"])) == [("finished", "1999-12-31T23:59:59Z")]
