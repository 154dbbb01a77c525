"""The store: every run that ever finished, in one SQLite file that survives a kill at any moment."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from mutransfer.errors import UserError
from mutransfer.runs import database
from mutransfer.runs.database import Damaged, Row, explained
from mutransfer.training.spec import RunRecord

Where = tuple[str, Sequence[str | float]]  # a condition on the columns, in SQL, and a value for each `?` in it
ALL: Where = ("1", ())
DONE: Where = ("status != 'failed'", ())  # a failed run will be retried


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
        if self._db is not None:  # `salvaged`
            return self
        if self._read_only:
            self._db = database.open_to_read(self.path)
            return self
        self._lock = database.lock(self.path)
        try:
            self._db = database.open_to_write(self.path)
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
        """`put_many` of one record."""
        self.put_many([record])

    def put_many(self, records: Iterable[RunRecord]) -> None:
        """Write ``records``, each in place of an older one of its run; when this returns, all are on the disk.

        They are written in one transaction, all or none: a commit waits for the disk, however many it holds.
        """
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        rows = [database.row(record, now) for record in records]
        with explained(self.path, "write"):
            database.insert(self._connection(), rows)

    def done(self, run_ids: Collection[str]) -> set[str]:
        """Those of ``run_ids`` that are done (a failed run is not: it will be retried); parses no record."""
        return {str(run_id) for (run_id,) in self.rows(["run_id"], DONE)}.intersection(run_ids)

    def get(self, run_ids: Collection[str]) -> dict[str, RunRecord]:
        """The records of those of ``run_ids`` that are `done`."""
        condition, values = _among(run_ids)
        rows = self.rows(["run_id", "record"], (f"{DONE[0]} AND {condition}", values))
        return {str(run_id): self._record(text) for run_id, text in rows}

    def records(self, run_ids: Collection[str] | None = None, *, where: Where = ALL) -> Iterator[RunRecord]:
        """The records of ``run_ids``, or all, failed ones too; one by one, in the order of their ids."""
        condition, values = ALL if run_ids is None else _among(run_ids)
        both = (f"({where[0]}) AND {condition}", [*where[1], *values])
        return (self._record(text) for (text,) in self.rows(["record"], both, order="run_id"))

    def rows(self, columns: Sequence[str], where: Where = ALL, order: str = "") -> Iterator[Row]:
        """The values of ``columns``, of `database.COLUMNS`, run by run; no record is parsed."""
        query = f"SELECT {', '.join(columns)} FROM runs WHERE {where[0]} {order and 'ORDER BY ' + order}"
        return self._read(query, where[1])

    def hps(self) -> set[str]:
        """Names of the experiments' own hyperparameters, of all runs."""
        query = "SELECT DISTINCT json_extract(value, '$[0]') FROM runs, json_each(record, '$.spec.hps')"
        return {str(name) for (name,) in self._read(query)}

    def delete(self, where: Where) -> int:
        """Delete runs, all of them or none; returns how many."""
        with explained(self.path, "write"), self._connection() as db:
            return db.execute(f"DELETE FROM runs WHERE {where[0]}", where[1]).rowcount

    @classmethod
    def read(cls, path: Path | str) -> list[RunRecord]:
        """All records, failed ones too, without the lock: for reports, also beside a running sweep."""
        with cls(path, read_only=True) as store:
            return list(store.records())

    @classmethod
    def salvaged(cls, path: Path | str) -> Store:
        """A copy in memory of what can still be read of a damaged file."""
        store = cls(path, read_only=True)
        store._db = database.in_memory(database.readable(store.path))
        return store

    @classmethod
    def salvage(cls, path: Path | str) -> tuple[int, Path]:
        """Put a damaged file aside, and what can still be read of it in its place.

        Returns (runs saved, the file put aside). Raises `UserError`, with nothing changed, if the file is whole,
        nothing in it can be read, another process has it open, or the folder cannot be written.
        """
        path = database.existing(Path(path).resolve())
        lock = database.lock(path)
        try:
            with contextlib.suppress(Damaged):
                cls.read(path)
                raise UserError(f"the store {path} is whole: there is nothing to salvage.")
            new = path.with_name(path.name + ".new")
            with cls.salvaged(path) as store, explained(path, "write"):
                if not (count := len(list(store.rows(["run_id"])))):
                    raise UserError(f"no run can be read in {path}; move it away and run again.")
                new.unlink(missing_ok=True)
                with contextlib.closing(sqlite3.connect(new)) as db:
                    store._connection().backup(db)
            names = (path.with_name(f"{path.name}.damaged{i or ''}") for i in itertools.count())
            aside = next(name for name in names if not name.exists())
            for end in ("-wal", "-shm", ""):  # what is left in the old log must not be applied to the new file
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{path}{end}", f"{aside}{end}")
            os.replace(new, path)
        finally:
            os.close(lock)
        return count, aside

    def _read(self, query: str, values: Sequence[str | float] = ()) -> Iterator[Row]:
        with explained(self.path, "read"):
            for row in self._connection().execute(query, values):  # noqa: UP028 - left half read, `yield from`
                yield row  # closes the cursor, maybe of a closed store

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise RuntimeError(f"the store {self.path} is not open; use it as a context manager")
        return self._db

    def _record(self, text: object) -> RunRecord:
        try:
            return RunRecord.from_json(str(text))
        except Exception as error:  # damaged text may parse as anything
            raise Damaged(self.path, f"a row is damaged ({error})") from None


def _among(run_ids: Collection[str]) -> Where:
    return "run_id IN (SELECT value FROM json_each(?))", (json.dumps(list(run_ids)),)
