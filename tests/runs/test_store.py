"""The store keeps what it was given and refuses, in one line, what it cannot keep; one of an older version is read."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mutransfer.errors import UserError
from mutransfer.runs.store import COLUMNS, SCHEMA_VERSION, Damaged, Store
from mutransfer.training.spec import RunRecord
from tests.runs.stores import dies, failed, ids, many, record, stored, texts, version_1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


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
        for file in path.parent.glob("store.sqlite*"):
            shutil.copy(file, path.parent / "copy")
        with pytest.raises(UserError):
            store.put_many([record(seed=8), record(seed=9, steps_done=None)])
        assert store.done(ids(record(seed=8), *records)) == set(ids(*records))
    assert texts(Store.read(path.parent / "copy" / "store.sqlite")) == texts(records)
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
    dies(KILLED, version_1(path, OLD_RUNS), moment)
    assert texts(Store.read(path)) == texts(OLD_RUNS)
    assert version(path) == 1
    with Store(path) as store:
        assert texts(store.records()) == texts(OLD_RUNS)
    assert version(path) == SCHEMA_VERSION
