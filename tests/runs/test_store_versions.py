"""A store of an older version is read as it is, and brought up to date whole or not at all."""

from __future__ import annotations

import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from mutransfer.runs.store import COLUMNS, SCHEMA_VERSION, Store
from mutransfer.training.spec import RunRecord
from tests.runs.stores import ids, many, record, version_1

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


def old_runs() -> list[RunRecord]:
    diverged = record(log2_lr=5, status="diverged", train_loss=math.inf, steps_done=7)
    return [
        RunRecord.from_json(OLD_RECORD),
        diverged,
        RunRecord.failed(record(seed=1001).spec, "it\nfailed"),
        *many(40),
    ]


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


def test_runs_of_the_first_version_keep_their_names() -> None:
    """A run_id that changed would make every old run again; an old record is read, whatever came later."""
    old = RunRecord.from_json(OLD_RECORD)
    assert old.spec.run_id == OLD_ID
    assert old.spec.to_json() == OLD_SPEC
    assert json.loads(OLD_RECORD).items() <= json.loads(old.to_json()).items()


def test_a_store_of_version_1_is_read_and_then_brought_up_to_date(tmp_path: Path) -> None:
    """The same rows, in every column, from the old file read only, from the new one, and from a new store."""
    path = version_1(tmp_path / "store.sqlite", old_runs())
    before = path.read_bytes()
    with Store(path, read_only=True) as store:
        old = sorted(store.rows(COLUMNS))
        assert [repr(r) for r in store.records(ids(*old_runs()))] == [repr(r) for r in Store.read(path)]
    assert (path.read_bytes(), version(path)) == (before, 1)
    with Store(path) as store:
        assert sorted(store.rows(COLUMNS)) == old
        assert store.done(ids(*old_runs())) == set(ids(*old_runs())) - set(ids(old_runs()[2]))
    assert version(path) == SCHEMA_VERSION
    assert sorted(map(repr, Store.read(path))) == sorted(map(repr, old_runs()))
    with Store(tmp_path / "new.sqlite") as store:
        store.put_many(old_runs())
        at = COLUMNS.index("finished_at")
        assert [(*row[:at], None, *row[at + 1 :]) for row in sorted(store.rows(COLUMNS))] == old
        schemas = [
            [sql for (sql,) in s.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]
            for s in (store._connection(), sqlite3.connect(path))
        ]
    assert [schema[0].replace('"', "") for schema in schemas] == [schemas[0][0]] * 2  # nothing of the old is left


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


@pytest.mark.parametrize("moment", ["CREATE TABLE runs", "DROP TABLE runs_1", "PRAGMA user_version=", "COMMIT"])
def test_killed_in_mid_migration(moment: str, tmp_path: Path) -> None:
    """The old file is as it was, not half of each; the next start migrates it."""
    path = version_1(tmp_path / "store.sqlite", old_runs())
    command = [sys.executable, "-c", KILLED, str(path), moment]
    paths = os.pathsep.join(filter(None, sys.path))
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert sorted(map(repr, Store.read(path))) == sorted(map(repr, old_runs()))
    assert version(path) == 1
    with Store(path) as store:
        assert sorted(map(repr, store.records())) == sorted(map(repr, old_runs()))
    assert version(path) == SCHEMA_VERSION
