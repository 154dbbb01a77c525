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

from mutransfer.errors import UserError
from mutransfer.files import write
from mutransfer.training.spec import RunRecord

SCHEMA_VERSION = 2
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
# The rows of version 1 (run_id, spec, status, record, experiment to seed, train_loss: NULL unless finite) as ours.
_FROM_1 = """SELECT run_id, experiment, variant, parametrization, width, log2_lr, seed,
    json_extract(record, '$.spec.steps') AS steps, json_extract(record, '$.spec.precision') AS precision, status,
    CASE status WHEN 'diverged' THEN 9e999 ELSE train_loss END AS train_loss,
    json_extract(record, '$.steps_done') AS steps_done,
    nullif(json_extract(record, '$.wall_seconds'), 'nan') AS wall_seconds, NULL AS finished_at,
    json_extract(record, '$.reason') AS reason, record FROM """
_UPGRADE_1 = f"ALTER TABLE runs RENAME TO runs_1; {_CREATE}; INSERT INTO runs {_FROM_1} runs_1; DROP TABLE runs_1"
_NO_ACCESS = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_NO_ACCESS |= {sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
_FAULTS = (sqlite3.Error, UnicodeDecodeError)  # Python fails on SQLite's message where that quotes damaged bytes

Row = tuple[str | float | None, ...]  # as COLUMNS
Where = tuple[str, Sequence[str | float]]  # a condition on the columns, in SQL, and a value for each `?` in it
ALL: Where = ("1", ())
DONE: Where = ("status != 'failed'", ())  # a failed run will be retried


class Damaged(UserError):
    """The file of a store is damaged; the line says how many runs can still be read, and how to keep them."""

    def __init__(self, path: Path, why: str) -> None:
        self.readable = len(_readable(path))
        cure = "it is damaged or no store; move it away and run again"
        if self.readable:
            of_all = f" of {all_runs}" if (all_runs := _count(path)) >= self.readable else ""
            command = f"./reproduce.sh runs {path.stem} --salvage --out {path.parent.parent}"
            cure = f"it is damaged, but {self.readable}{of_all} runs can still be read; to keep them: {command}"
        super().__init__(f"cannot read the store {path}: {' '.join(why.split())}; {cure}.")


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
        self._lock: int | None = None
        self._db: sqlite3.Connection | None = None

    def __enter__(self) -> Store:
        if self._db is None:  # else it is `salvaged`
            try:
                if self._read_only:
                    self._open_to_read()
                else:
                    self._open_to_write()
            except BaseException:
                self.close()
                raise
        return self

    def __exit__(self, *exception: object) -> None:
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

    def put_many(self, records: Iterable[RunRecord]) -> None:
        """Write ``records``, each in place of an older one of its run; when this returns, all are on the disk.

        They are written in one transaction, all or none: a commit waits for the disk, however many it holds.
        """
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        rows = [_row(record, now) for record in records]
        with _explained(self.path, "write"):
            with _journal(self.path).open("ab") as file:  # first: it may have what the store lacks, not the reverse
                file.write(_lines(rows))
            _insert(self._connection(), rows)

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
            try:
                yield RunRecord.from_json(str(text))
            except Exception as error:  # damaged text may parse as anything
                raise Damaged(self.path, f"a row is damaged ({error})") from None

    def rows(self, columns: Sequence[str], where: Where = ALL, order: str = "") -> Iterator[Row]:
        """The values of ``columns``, of `COLUMNS`, run by run; no record is parsed."""
        query = f"SELECT {', '.join(columns)} FROM runs WHERE {where[0]} {order and 'ORDER BY ' + order}"
        return self._read(query, where[1])

    def hps(self) -> set[str]:
        """Names of the experiments' own hyperparameters, of all runs."""
        query = "SELECT DISTINCT json_extract(value, '$[0]') FROM runs, json_each(record, '$.spec.hps')"
        return {str(name) for (name,) in self._read(query)}

    def delete(self, where: Where) -> int:
        """Delete runs, all of them or none; returns how many."""
        with _explained(self.path, "write"):
            _journal(self.path).unlink(missing_ok=True)  # should this be killed, it is written anew at the next start
            with self._connection() as db:
                count = db.execute(f"DELETE FROM runs WHERE {where[0]}", where[1]).rowcount
            self._write_journal()
        return count

    @classmethod
    def read(cls, path: Path | str) -> list[RunRecord]:
        """All records, failed ones too, without the lock: for reports, also beside a running sweep."""
        with cls(path, read_only=True) as store:
            return list(store.records())

    @classmethod
    def salvaged(cls, path: Path | str) -> Store:
        """A copy in memory of what can still be read of a damaged file."""
        store = cls(path, read_only=True)
        store._db = _new(":memory:", _readable(store.path))
        return store

    @classmethod
    def salvage(cls, path: Path | str) -> tuple[int, Path]:
        """Put a damaged file aside, and what can still be read of it in its place.

        Returns (runs saved, the file put aside). Raises `UserError`, with nothing changed, if the file is whole,
        nothing in it can be read, another process has it open, or the folder cannot be written.
        """
        path = existing(Path(path).resolve())
        lock = _locked(path)
        try:
            with contextlib.suppress(Damaged):
                cls.read(path)
                raise UserError(f"the store {path} is whole: there is nothing to salvage.")
            if not (rows := _readable(path)):
                raise UserError(f"no run can be read in {path}; move it away and run again.")
            new = path.with_name(path.name + ".new")
            new.unlink(missing_ok=True)
            with _explained(path, "write"):
                _new(new, rows).close()
            names = (path.with_name(f"{path.name}.damaged{i or ''}") for i in itertools.count())
            aside = next(name for name in names if not name.exists())
            for end in ("-wal", "-shm", ""):  # what is left in the old log must not be applied to the new file
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{path}{end}", f"{aside}{end}")
            os.replace(new, path)
            write(_journal(path), _lines(rows))
        finally:
            os.close(lock)
        return len(rows), aside

    def _open_to_read(self) -> None:
        """Whatever the version of the file, the table ``runs`` then has our `COLUMNS`."""
        with _explained(existing(self.path), "read"):
            self._db = db = _connected_to_read(self.path)
            if _check(db, self.path) == 1:
                db.execute("PRAGMA temp_store=MEMORY")
                db.execute(f"CREATE TEMP VIEW runs AS {_FROM_1} main.runs")
            db.execute("PRAGMA query_only=ON")

    def _open_to_write(self) -> None:
        """The file is made if it is new, brought up to date if it is old."""
        self._lock = _locked(self.path)
        if self.path.exists() and not self.path.is_file():
            raise UserError(f"{self.path} is not a file, expected the store of a sweep; move it or use another --out.")
        with _explained(self.path, "write"):
            self._db = db = sqlite3.connect(self.path, timeout=10)
            is_new = not (db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] or _version(db))
            version = 0 if is_new else _check(db, self.path)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")  # a commit returns when it is on the disk
            if version < SCHEMA_VERSION:
                script = _CREATE if is_new else _UPGRADE_1
                db.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version={SCHEMA_VERSION}; COMMIT")
        if not _journal(self.path).exists():
            self._write_journal()

    def _write_journal(self) -> None:
        write(_journal(self.path), _lines(self.rows(COLUMNS)))

    def _read(self, query: str, values: Sequence[str | float] = ()) -> Iterator[Row]:
        with _explained(self.path, "read"):
            for row in self._connection().execute(query, values):  # noqa: UP028 - left half read, `yield from`
                yield row  # closes the cursor, maybe of a closed store

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise RuntimeError(f"the store {self.path} is not open; use it as a context manager")
        return self._db


def existing(path: Path) -> Path:
    """``path``; `UserError` if there is no file."""
    if not path.is_file():
        raise UserError(f"there is no store at {path}; run the experiment first, or name another folder.")
    return path


def _locked(path: Path) -> int:
    """The lock of the store at ``path``, a file descriptor that only this process has; its folder is made."""
    file = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)  # not inherited by the workers
    except OSError as error:
        cure = "make it writable or use another --out"
        raise UserError(f"cannot write in {path.parent}: {error.strerror}; {cure}.") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        if not isinstance(error, BlockingIOError):
            raise UserError(f"cannot lock {file}: {error.strerror}; use another --out.") from None
        raise UserError(
            f"the store {path} is in use by another run (process {owner}); wait until it is done or use another --out."
        ) from None
    with contextlib.suppress(OSError):  # a full disk: the number is a courtesy, the lock holds without it
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _connected_to_read(path: Path) -> sqlite3.Connection:
    log = path.with_name(path.name + "-wal")
    # The files of the log, which a reader needs too, are removed again. On a full disk or in a read-only folder SQLite
    # cannot make them. If there is no log, nothing is in it, and the file can be read as it is.
    for mode in ("mode=rw", "immutable=1"):
        db = sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True)
        try:
            db.execute("SELECT count(*) FROM sqlite_master")
            break
        except BaseException as error:
            db.close()
            has_log = log.exists() and log.stat().st_size
            if not isinstance(error, sqlite3.OperationalError) or has_log or mode == "immutable=1":
                raise
    return db


def _new(path: Path | str, rows: Iterable[Row]) -> sqlite3.Connection:
    """A new database with ``rows`` at ``path``."""
    db = sqlite3.connect(path)
    db.executescript(f"{_CREATE}; PRAGMA user_version={SCHEMA_VERSION}")
    _insert(db, rows)
    return db


def _insert(db: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Write ``rows``, each in place of an older one of its run, in one transaction."""
    with db:
        db.executemany(f"INSERT OR REPLACE INTO runs VALUES ({','.join('?' * len(COLUMNS))})", rows)


def _row(record: RunRecord, finished_at: str | None) -> Row:
    """What is stored of a record."""
    s, r = record.spec, record
    what = (s.run_id, s.experiment, s.variant, s.parametrization, s.width, s.log2_lr, s.seed, s.steps, s.precision)
    # SQLite stores nan as NULL
    return (*what, r.status, r.train_loss, r.steps_done, r.wall_seconds, finished_at, r.reason, r.to_json())


def _journal(path: Path) -> Path:
    return path.with_name(path.name + ".jsonl")


def _lines(rows: Iterable[Row]) -> bytes:
    """What the journal says of ``rows``: each line begins with its newline, lest it continue one that was cut short."""
    at = COLUMNS.index("finished_at")
    line = '\n{{"run_id":"{}","finished_at":{},"record":{}}}'
    return "".join(line.format(row[0], json.dumps(row[at]), row[-1]) for row in rows).encode()


def _readable(path: Path) -> list[Row]:
    """The rows of a damaged file: those that SQLite still reads, and those in the journal."""
    rows: dict[str, Row] = {}
    for run_id, finished_at, text in itertools.chain(_around_the_damage(path), _journalled(path)):
        with contextlib.suppress(Exception):  # damaged text may parse as anything
            record = RunRecord.from_json(text)
            if record.spec.run_id == run_id:
                rows[run_id] = _row(record, finished_at)
    return list(rows.values())


def _around_the_damage(path: Path) -> Iterator[tuple[str, str | None, str]]:
    """(run_id, finished_at, record) from both ends of the table to the damage: all there is without a journal."""
    for order in ("ASC", "DESC"):
        with contextlib.suppress(*_FAULTS, KeyError), contextlib.closing(_connected_to_read(path)) as db:
            db.row_factory = sqlite3.Row
            for row in map(dict, db.execute(f"SELECT * FROM runs ORDER BY rowid {order}")):
                yield row["run_id"], row.get("finished_at"), row["record"]


def _journalled(path: Path) -> Iterator[tuple[str, str | None, str]]:
    """(run_id, finished_at, record) of every whole line."""
    with contextlib.suppress(FileNotFoundError), _journal(path).open("rb") as file:
        for line in file:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                values = json.loads(line)
                yield values["run_id"], values["finished_at"], json.dumps(values["record"])


def _count(path: Path) -> int:
    """How many runs a damaged file had; 0 if that cannot be read either."""
    with contextlib.suppress(*_FAULTS), contextlib.closing(_connected_to_read(path)) as db:
        return int(db.execute("SELECT count(*) FROM runs").fetchone()[0])  # of the index, which holds no records
    return 0


@contextlib.contextmanager
def _explained(path: Path, verb: str) -> Iterator[None]:
    """SQLite's errors, and a full disk's, as `UserError`: the file, what is wrong, what to do."""
    full = "free space on the disk; all runs so far are kept, and the same command goes on from there"
    access = "make file and folder accessible or use another --out"
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except OSError as error:
        cure = full if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else access
        raise UserError(f"cannot {verb} the store {path}: {error.strerror}; {cure}.") from error
    except _FAULTS as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        is_full = code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
        if not is_full and code not in _NO_ACCESS:
            raise Damaged(path, str(error)) from error
        raise UserError(f"cannot {verb} the store {path}: {error}; {full if is_full else access}.") from error


def _check(db: sqlite3.Connection, path: Path) -> int:
    """The version of the schema; `UserError` unless this is a whole store of a version that we know."""
    has_runs = db.execute("SELECT count(*) FROM main.sqlite_master WHERE name = 'runs'").fetchone()[0]
    if (version := _version(db)) > SCHEMA_VERSION and has_runs:
        raise UserError(
            f"{path} was written by a newer mutransfer (format {version}, this one knows {SCHEMA_VERSION}); "
            "update mutransfer or use another --out."
        )
    if not 1 <= version <= SCHEMA_VERSION or not has_runs:
        raise UserError(f"{path} is a database, but not the store of a sweep; move it or use another --out.")
    if (verdict := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise sqlite3.DatabaseError(verdict)
    return version


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
