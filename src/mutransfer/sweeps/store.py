"""The store: every run that ever finished, in one SQLite file that survives a kill at any moment."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType

from mutransfer.errors import UserError
from mutransfer.training.spec import RunRecord

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    spec TEXT NOT NULL,    -- JSON
    status TEXT NOT NULL,  -- finished, diverged, failed
    record TEXT NOT NULL,  -- JSON, the spec included
    experiment TEXT NOT NULL, variant TEXT NOT NULL, parametrization TEXT NOT NULL,
    width INTEGER NOT NULL, log2_lr REAL NOT NULL, seed INTEGER NOT NULL,
    train_loss REAL        -- NULL unless finite
)"""


class Store:
    """Run records by ``run_id``. One process writes, while the store is open as a context manager.

    The lock is the kernel's (`flock` on ``<path>.lock``), so the death of its owner releases it at once. The
    folder is made if it is missing.

    Raises:
        UserError: another process has the store open for writing; the folder cannot be written; the file is
            no store, is damaged, or comes from a newer version. Nothing in it is changed then.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).resolve()  # the lock must be the same one by whatever name the store is opened
        self._lock: int | None = None
        self._db: sqlite3.Connection | None = None

    def __enter__(self) -> Store:
        self._lock = self._acquire()
        try:
            self._db = _open(self.path)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file, then the lock. Closing twice is fine."""
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):  # every record is durable already
                self._db.close()
            self._db = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def put(self, record: RunRecord) -> None:
        """Write ``record``, in place of an older one of the same run; when this returns it is on the disk."""
        spec = record.spec
        loss = record.train_loss if abs(record.train_loss) < float("inf") else None  # nan too
        row: list[str | float | None]
        row = [spec.run_id, spec.to_json(), record.status, record.to_json(), spec.experiment, spec.variant]
        row += [spec.parametrization, spec.width, spec.log2_lr, spec.seed, loss]
        with _explained(self.path, "write"), self._connection() as db:
            db.execute(f"INSERT OR REPLACE INTO runs VALUES ({','.join('?' * len(row))})", row)

    def get(self, run_ids: Collection[str]) -> dict[str, RunRecord]:
        """The records of those of ``run_ids`` that are done (a failed run is not: it will be retried)."""
        wanted = set(run_ids)
        query = "SELECT run_id, record FROM runs WHERE status != 'failed'"
        with _explained(self.path, "read"):
            rows = self._connection().execute(query).fetchall()
        return {run_id: _record(record, self.path) for run_id, record in rows if run_id in wanted}

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise RuntimeError(f"the store {self.path} is not open; use it as a context manager")
        return self._db

    @classmethod
    def read(cls, path: Path | str) -> list[RunRecord]:
        """All records, failed ones too, without the lock: for reports, also beside a running sweep."""
        path = Path(path).resolve()
        if not path.is_file():
            raise UserError(f"there is no store at {path}; run the experiment first, or name another folder.")
        with _explained(path, "read"):
            # In a read-only folder SQLite cannot make the side files that a WAL database needs. If there is
            # no WAL, nothing is in it, and the file can be read as it is.
            has_wal = path.with_name(path.name + "-wal").exists()
            mode = "mode=ro" if has_wal or os.access(path.parent, os.W_OK) else "immutable=1"
            with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True)) as db:
                _check(db, path)
                rows = db.execute("SELECT record FROM runs ORDER BY run_id").fetchall()
        return [_record(record, path) for (record,) in rows]

    def _acquire(self) -> int:
        path = self.path.with_name(self.path.name + ".lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # not inherited by the workers
        except OSError as error:
            cure = "make it writable or use another --out"
            raise UserError(f"cannot write in {self.path.parent}: {error.strerror}; {cure}.") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            if not isinstance(error, BlockingIOError):
                raise UserError(f"cannot lock {path}: {error.strerror}; use another --out.") from None
            raise UserError(
                f"the store {self.path} is in use by another run (process {owner}); "
                "wait until it is done or use another --out."
            ) from None
        with contextlib.suppress(OSError):  # a full disk: the number is a courtesy, the lock holds without it
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return lock


def _open(path: Path) -> sqlite3.Connection:
    """Open for writing, make the schema if the file is new; `UserError` if the file is something else."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a file, expected the store of a sweep; move it or use another --out.")
    with _explained(path, "write"):
        db = sqlite3.connect(path, timeout=10)
        try:
            if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] or _version(db):
                _check(db, path)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")  # a commit returns when it is on the disk
            if not _version(db):
                db.executescript(f"BEGIN; {_SCHEMA}; PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
        except BaseException:
            db.close()
            raise
    return db


def _check(db: sqlite3.Connection, path: Path) -> None:
    """`UserError` unless this is a whole store of our version."""
    has_runs = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'runs'").fetchone()[0]
    if (version := _version(db)) > SCHEMA_VERSION and has_runs:
        raise UserError(
            f"{path} was written by a newer mutransfer (format {version}, this one knows {SCHEMA_VERSION}); "
            "update mutransfer or use another --out."
        )
    if version != SCHEMA_VERSION or not has_runs:
        raise UserError(f"{path} is a database, but not the store of a sweep; move it or use another --out.")
    if (verdict := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise sqlite3.DatabaseError(verdict)


def _record(text: str, path: Path) -> RunRecord:
    try:
        return RunRecord.from_json(text)
    except UserError as error:
        raise UserError(f"a row of {path} is damaged ({error}); move the file and run again.") from None


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


@contextlib.contextmanager
def _explained(path: Path, verb: str) -> Iterator[None]:
    """SQLite's errors as `UserError`: the file, what is wrong, what to do."""
    try:
        yield
    except sqlite3.Error as error:
        full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        if full or "disk I/O" in str(error):
            cure = "free space on the disk; all runs so far are kept, and the same command goes on from there"
        elif isinstance(error, sqlite3.OperationalError):
            cure = "make file and folder accessible or use another --out"
        else:
            cure = "it is damaged or no store; move it away and run again"
        raise UserError(f"cannot {verb} the store {path}: {error}; {cure}.") from error
