"""Stores to test on: records without training, a store file as version 1 made it, a disk that can be full."""

from __future__ import annotations

import contextlib
import math
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mutransfer.errors import UserError
from mutransfer.runs.store import Store
from mutransfer.training.spec import RunRecord
from tests.runs import tiny

DATA = tiny.dataset()
SCHEMA_1 = """
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    spec TEXT NOT NULL,    -- JSON
    status TEXT NOT NULL,  -- finished, diverged, failed
    record TEXT NOT NULL,  -- JSON, the spec included
    experiment TEXT NOT NULL, variant TEXT NOT NULL, parametrization TEXT NOT NULL,
    width INTEGER NOT NULL, log2_lr REAL NOT NULL, seed INTEGER NOT NULL,
    train_loss REAL        -- NULL unless finite
)"""


def record(**changes: object) -> RunRecord:
    """A finished run of `tiny.spec`; some fields of record or spec changed."""
    result = dict(status="finished", train_loss=1 / 3, test_loss=0.1, test_accuracy=0.5, steps_done=60)
    result |= dict(wall_seconds=1.25, loss_curve=())
    result |= {name: changes.pop(name) for name in list(changes) if name in result}
    return RunRecord(spec=tiny.spec(DATA, **changes), **result)


def failed(**changes: object) -> RunRecord:
    """A failed run of `tiny.spec`."""
    return RunRecord.failed(tiny.spec(DATA, **changes), "killed")


def many(count: int) -> list[RunRecord]:
    """Finished runs of about the size that a real one has in the store (2 kB)."""
    curve = tuple(2.3 + i / 7 for i in range(100))
    return [record(seed=i, loss_curve=curve, train_loss=1 / (i + 3)) for i in range(count)]


def ids(*records: RunRecord) -> list[str]:
    return [r.spec.run_id for r in records]


def texts(records: Iterable[RunRecord]) -> set[str]:
    """All that the records say, nan included."""
    return {repr(r) for r in records}


def stored(path: Path, records: Iterable[RunRecord]) -> Path:
    """A closed store of ``records``."""
    with Store(path) as store:
        store.put_many(records)
    return path


def journal(path: Path) -> Path:
    return path.with_name(path.name + ".jsonl")


def salvaged(path: Path) -> list[RunRecord]:
    """What a store and its journal have, by way of a copy that is salvaged if it must be; nothing if it cannot."""
    with TemporaryDirectory(dir=path.parent) as folder, contextlib.suppress(UserError):
        copy = Path(folder, path.name)
        for file in filter(Path.exists, [path, journal(path)]):
            shutil.copy(file, folder)
        with contextlib.suppress(UserError):
            Store.salvage(copy)
        return Store.read(copy)
    return []


def version_1(path: Path, records: Iterable[RunRecord]) -> Path:
    """A store as version 1 left it when it was closed."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(f"{SCHEMA_1}; PRAGMA user_version=1")
        for r in records:
            s, loss = r.spec, r.train_loss if math.isfinite(r.train_loss) else None
            row = [s.run_id, s.to_json(), r.status, r.to_json(), s.experiment, s.variant, s.parametrization]
            db.execute(f"INSERT INTO runs VALUES ({','.join('?' * 11)})", [*row, s.width, s.log2_lr, s.seed, loss])
    return path


PUT_AND_DIE = """
import os, signal, sys
from mutransfer.runs.store import Store
from mutransfer.training.spec import RunRecord
store = Store(sys.argv[1]).__enter__()
for line in sys.stdin:
    store.put_many([RunRecord.from_json(line)])
os.kill(os.getpid(), signal.SIGKILL)
"""


def dies(code: str, *arguments: object, told: str = "") -> None:
    """Run ``code`` in a process of its own, which must be killed in it."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    killed = subprocess.run(command, env=tiny.environment(), input=told, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def put_and_die(path: Path, records: Iterable[RunRecord]) -> None:
    """A driver that is killed after ``records``: the last of them are in the log only."""
    dies(PUT_AND_DIE, path, told="\n".join(r.to_json() for r in records))
    assert path.with_name(path.name + "-wal").stat().st_size > 0


@contextmanager
def disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of that size on ``folder``; without the right to mount one, the test is skipped."""
    folder.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no right to mount a tmpfs ({error})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, option: str) -> None:
    """Change the options (``ro``, ``size=4m``) of a `disk`."""
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)
