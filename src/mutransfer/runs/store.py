"""The store: every run that ever finished, in one SQLite file that survives a kill at any moment.

Beside it lies its journal, ``<store>.jsonl``: all that was put, a line each, of which the store is rebuilt should its
file be damaged. No run waits for the journal to reach the disk: what the kernel had not yet written when the power
failed is in the store alone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import os
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from mutransfer.errors import UserError
from mutransfer.files import write
from mutransfer.training.spec import RunRecord

SCHEMA_VERSION = 2  # version 1, which had other columns, is read and brought up to date
SCHEMA = {  # what is asked for in bulk, so that no JSON need be parsed; the record itself is last, as it is long
    "run_id": "TEXT PRIMARY KEY",
    "experiment": "TEXT NOT NULL",
    "variant": "TEXT NOT NULL",
    "parametrization": "TEXT NOT NULL",
    "width": "INTEGER NOT NULL",
    "log2_lr": "REAL NOT NULL",
    "seed": "INTEGER NOT NULL",
    "steps": "INTEGER NOT NULL",
    "precision": "TEXT NOT NULL",
    "status": "TEXT NOT NULL",  # finished, diverged, failed
    "train_loss": "REAL",  # inf if diverged, NULL if failed
    "steps_done": "INTEGER NOT NULL",
    "wall_seconds": "REAL",  # NULL if failed
    "finished_at": "TEXT",  # UTC, by this machine's clock; shown, never used; NULL if a version 1 file did not say
    "reason": "TEXT NOT NULL",  # why it diverged or failed
    "record": "TEXT NOT NULL",  # JSON, the spec included
}
COLUMNS = tuple(SCHEMA)
_CREATE = f"CREATE TABLE runs ({', '.join(map(' '.join, SCHEMA.items()))})"
_INSERT = f"INSERT OR REPLACE INTO runs VALUES ({','.join('?' * len(COLUMNS))})"
_FAULTS = (sqlite3.Error, UnicodeDecodeError)  # Python fails on SQLite's message where that quotes damaged bytes
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
_NO_ACCESS = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}

Row = tuple[str | float | None, ...]  # as COLUMNS
Where = tuple[str, Sequence[str | float]]  # a condition on the columns, in SQL, and a value for each `?` in it
ALL: Where = ("1", ())
DONE: Where = ("status != 'failed'", ())  # a failed run will be retried


class Damaged(UserError):
    """The file of a store is damaged; the line says how to keep the runs that can still be read."""


class Store:
    """Run records by ``run_id``. One process writes, while the store is open as a context manager.

    The lock is the kernel's (`flock` on ``<path>.lock``), so the death of its owner releases it at once. The
    folder is made if it is missing; a file of an older version is brought up to date, whole or not at all.

    Args:
        read_only: without the lock, also beside a running sweep; a file of an older version is left as it is.

    Raises:
        UserError: another process has the store open for writing; the folder cannot be written; the file is
            no store, is damaged (`Damaged`), or comes from a newer version. Nothing in it is changed then.
    """

    def __init__(self, path: Path | str, *, read_only: bool = False) -> None:
        self.path = Path(path).resolve()  # the lock must be the same one by whatever name the store is opened
        self._read_only = read_only
        self._db: sqlite3.Connection

    def __enter__(self) -> Store:
        with contextlib.ExitStack() as stack, _explained(self.path, "read" if self._read_only else "write"):
            if self._read_only:
                db = stack.enter_context(_connected_to_read(self.path))
            else:
                stack.enter_context(_locked(self.path))
                db = stack.enter_context(contextlib.closing(sqlite3.connect(self.path, timeout=10)))
            version = _version(db, self.path)
            old = [_row(_parsed(text), None) for _, _, text in _texts(db)] if version == 1 else []
            if not self._read_only:
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=FULL")  # a commit returns when it is on the disk
            elif version < SCHEMA_VERSION:
                db = stack.enter_context(contextlib.closing(sqlite3.connect(":memory:")))
            self._db = db if version == SCHEMA_VERSION else _filled(db, old)
            if not self._read_only and not _journal(self.path).exists():
                write(_journal(self.path), _lines(self.rows(COLUMNS)))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(sqlite3.Error):  # every record is durable already
            self._stack.close()

    def put_many(self, records: Iterable[RunRecord]) -> None:
        """Write ``records``, each in place of an older one of its run; when this returns, all are on the disk.

        They are written in one transaction, all or none: a commit waits for the disk, however many it holds.
        """
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        rows = [_row(record, now) for record in records]
        with _explained(self.path, "write"):
            with _journal(self.path).open("ab") as file:  # first: it may have what the store lacks, not the reverse
                file.write(_lines(rows))
            with self._db:
                self._db.executemany(_INSERT, rows)

    def done(self, run_ids: Collection[str]) -> set[str]:
        """Those of ``run_ids`` that are done (a failed run is not: it will be retried); parses no record."""
        return {str(run_id) for (run_id,) in self.rows(["run_id"], DONE)}.intersection(run_ids)

    def get(self, run_ids: Collection[str]) -> dict[str, RunRecord]:
        """The records of those of ``run_ids`` that are `done`."""
        return {record.spec.run_id: record for record in self.records(run_ids, where=DONE)}

    def records(self, run_ids: Collection[str] | None = None, *, where: Where = ALL) -> Iterator[RunRecord]:
        """The records of ``run_ids``, or all, failed ones too; one by one, in the order of their ids."""
        condition, values = where
        if run_ids is not None:
            condition = f"({condition}) AND run_id IN (SELECT value FROM json_each(?))"
            values = [*values, json.dumps(list(run_ids))]
        for (text,) in self.rows(["record"], (condition, values), order="run_id"):
            with _explained(self.path, "read"):
                record = _parsed(str(text))
            yield record

    def rows(self, columns: Sequence[str], where: Where = ALL, order: str = "rowid") -> Iterator[Row]:
        """The values of ``columns``, of `COLUMNS`, run by run; no record is parsed."""
        query = f"SELECT {', '.join(columns)} FROM runs WHERE {where[0]} ORDER BY {order}"
        with _explained(self.path, "read"):
            for row in self._db.execute(query, where[1]):  # noqa: UP028 - left half read, `yield from`
                yield row  # closes the cursor, maybe of a closed store

    def delete(self, where: Where) -> None:
        """Delete runs, all of them or none."""
        with _explained(self.path, "write"):
            _journal(self.path).unlink(missing_ok=True)  # should this be killed, it is written anew at the next start
            with self._db:
                self._db.execute(f"DELETE FROM runs WHERE {where[0]}", where[1])
            write(_journal(self.path), _lines(self.rows(COLUMNS)))

    @classmethod
    def read(cls, path: Path | str) -> list[RunRecord]:
        """All records, failed ones too, without the lock: for reports, also beside a running sweep."""
        with cls(path, read_only=True) as store:
            return list(store.records())

    @classmethod
    def salvage(cls, path: Path | str) -> tuple[int, Path]:
        """Put a damaged file aside, and what can still be read of it in its place.

        Returns (runs saved, the file put aside). Raises `UserError`, with nothing changed, if the file is whole,
        nothing in it can be read, another process has it open, or the folder cannot be written.
        """
        path = existing(Path(path).resolve())
        with _locked(path):
            with contextlib.suppress(Damaged):
                if cls.read(path):
                    raise UserError(f"the store {path} is whole: there is nothing to salvage.")
            if not (rows := _readable(path)):
                raise UserError(f"no run can be read in {path}; move it away and run again.")
            new = path.with_name(path.name + ".new")
            new.unlink(missing_ok=True)
            with _explained(path, "write"), contextlib.closing(sqlite3.connect(new)) as db:
                _filled(db, rows)
            names = (path.with_name(f"{path.name}.damaged{i or ''}") for i in itertools.count())
            aside = next(name for name in names if not name.exists())
            for end in ("-wal", "-shm", ""):  # what is left in the old log must not be applied to the new file
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{path}{end}", f"{aside}{end}")
            os.replace(new, path)
            write(_journal(path), _lines(rows))
        return len(rows), aside


def existing(path: Path) -> Path:
    """``path``; `UserError` if there is no file."""
    if not path.is_file():
        raise UserError(f"there is no store at {path}; run the experiment first, or name another folder.")
    return path


def _locked(path: Path) -> IO[bytes]:
    """The lock of the store at ``path``, which only this process has until it closes it; its folder is made."""
    file = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_name(path.name + ".lock").open("ab+", buffering=0)  # not inherited by the workers
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        problem = f"cannot write in {path.parent}: {error.strerror}; make it writable"
        if file:
            if isinstance(error, BlockingIOError):
                owner = os.pread(file.fileno(), 32, 0).decode(errors="replace").strip() or "unknown"
                problem = f"the store {path} is in use by another run (process {owner}); wait until it is done"
            file.close()
        raise UserError(f"{problem} or use another --out.") from None
    with contextlib.suppress(OSError):  # a full disk: the number is a courtesy, the lock holds without it
        file.truncate(0)
        file.write(f"{os.getpid()}\n".encode())
    return file


def _connected_to_read(path: Path) -> contextlib.closing[sqlite3.Connection]:
    # The files of the log, which a reader needs too, are removed again. On a full disk or in a read-only folder SQLite
    # cannot make them. If there is no log, nothing is in it, and the file can be read as it is.
    log = path.with_name(path.name + "-wal")
    db = sqlite3.connect(f"{existing(path).as_uri()}?mode=rw", uri=True)
    try:
        db.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError:
        db.close()
        if log.exists() and log.stat().st_size:
            raise
        db = sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)
    return contextlib.closing(db)


def _version(db: sqlite3.Connection, path: Path) -> int:
    """Of the schema, 0 of an empty file; `UserError` unless this is a whole store of a version that we know."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    if (version or tables) and ("runs" not in tables or not 1 <= version <= SCHEMA_VERSION):
        known = f"(format {version}, this one knows {SCHEMA_VERSION})"
        raise UserError(
            f"{path} is not the store of a sweep, or a newer mutransfer's {known}; move it or use another --out."
        )
    if (verdict := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise sqlite3.DatabaseError(verdict)
    return version


def _filled(db: sqlite3.Connection, rows: Iterable[Row]) -> sqlite3.Connection:
    """Make ``rows`` all that is in the store, in one transaction; returns ``db``."""
    with db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("DROP TABLE IF EXISTS runs")
        db.execute(_CREATE)
        db.executemany(_INSERT, rows)
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    return db


def _row(record: RunRecord, finished_at: str | None) -> Row:
    """What is stored of a record; SQLite makes a NULL of nan."""
    values = {**vars(record.spec), **vars(record), "run_id": record.spec.run_id}
    values |= {"finished_at": finished_at, "record": record.to_json()}
    return tuple(values[name] for name in COLUMNS)


def _parsed(text: str) -> RunRecord:
    try:
        return RunRecord.from_json(text)
    except Exception as error:  # damaged text may parse as anything
        raise sqlite3.DatabaseError(f"a row is damaged ({error})") from None


def _texts(db: sqlite3.Connection, order: str = "ASC") -> Iterator[tuple[str, str | None, str]]:
    """(run_id, finished_at, record) of every run of a file of any version."""
    cursor = db.execute(f"SELECT * FROM runs ORDER BY rowid {order}")
    cursor.row_factory = sqlite3.Row
    for row in map(dict, cursor):
        yield row["run_id"], row.get("finished_at"), row["record"]


def _journal(path: Path) -> Path:
    return path.with_name(path.name + ".jsonl")


def _lines(rows: Iterable[Row]) -> bytes:
    """What the journal says of ``rows``: each line begins with its newline, lest it continue one that was cut short."""
    line = '\n{{"run_id":"{}","finished_at":{},"record":{}}}'
    return "".join(line.format(row[0], json.dumps(row[-3]), row[-1]) for row in rows).encode()


def _readable(path: Path) -> list[Row]:
    """The rows of a damaged file: those that SQLite still reads, and those in the journal."""
    rows: dict[str, Row] = {}

    def keep(run_id: str, finished_at: str | None, text: str) -> None:
        with contextlib.suppress(Exception):  # damaged text may parse as anything
            record = RunRecord.from_json(text)
            if record.spec.run_id == run_id:
                rows[run_id] = _row(record, finished_at)

    for order in ("ASC", "DESC"):  # from both ends of the table to the damage: all there is without a journal
        with contextlib.suppress(*_FAULTS, KeyError), _connected_to_read(path) as db:
            for values in _texts(db, order):
                keep(*values)
    with contextlib.suppress(FileNotFoundError), _journal(path).open("rb") as file:
        for line in file:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                entry = json.loads(line)
                keep(entry["run_id"], entry["finished_at"], json.dumps(entry["record"]))
    return list(rows.values())


@contextlib.contextmanager
def _explained(path: Path, verb: str) -> Iterator[None]:
    """SQLite's errors, and a full disk's, as `UserError`: the file, what is wrong, what to do."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except (OSError, *_FAULTS) as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        kind, cure = UserError, "make file and folder accessible or use another --out"
        if code in _FULL or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            cure = "free space on the disk; all runs so far are kept, and the same command goes on from there"
        elif not isinstance(error, OSError) and code not in _NO_ACCESS:
            command = f"./reproduce.sh runs {path.stem} --salvage --out {path.parent.parent}"
            kind, cure = Damaged, f"it is damaged or no store; to keep what can still be read: {command}"
        why = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise kind(f"cannot {verb} the store {path}: {why}; {cure}.") from error
