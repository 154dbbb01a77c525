"""A sweep: run what the store lacks, keep each run as it ends, go on after a kill as if nothing had been."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutransfer.errors import UserError
from mutransfer.runs.engine import Cost, Engine, schedule
from mutransfer.runs.progress import SweepProgress
from mutransfer.runs.store import Store
from mutransfer.runs.worker import in_environment
from mutransfer.training import checkpoint
from mutransfer.training.spec import RunRecord, RunSpec

CHECKPOINTS = ".checkpoints"  # of runs under way: the end of their folder's name


class Interrupted(UserError):
    """Ctrl-C: what is finished is kept. The command line prints the line and exits with ``exit_code``."""

    exit_code = 130


@dataclass(frozen=True)
class SweepResult:
    """What a sweep came to. The records stay in the store, where each use of them reads them anew."""

    store: Path
    run_ids: tuple[str, ...]  # of all runs, those of earlier sweeps included, in the order of the specs
    skipped: int  # runs that the store had
    failed: int  # runs without a result; the same command tries them again

    @property
    def records(self) -> Iterator[RunRecord]:
        """The record of every run, one by one, in the order of the specs."""
        with Store(self.store, read_only=True) as store:
            for run_id in self.run_ids:
                yield from store.records([run_id])


def sweep(
    specs: Iterable[RunSpec],
    store: Store,
    runner: str,
    *,
    engine: Engine,
    dataset: Any,
    cost: Cost = lambda spec: 1.0,
    progress: bool = True,
    is_timed: bool = False,
) -> SweepResult:
    """Run those of ``specs`` that ``store`` lacks; a record is durable before it is counted.

    Killed at any moment, the same call goes on where it was, and its result equals an uninterrupted one. A run that
    was under way goes on from its checkpoint, if it had taken long enough for one.

    Args:
        store: open (``with Store(path) as store``).
        runner: "module:function", called in a worker as ``function(spec, dataset)`` (see `Engine.backend`).
        dataset: with ``fingerprint``, ``folder``, ``save(folder)`` and its class's ``open(folder)``; if it is only in
            memory, it is put on the disk while runs are made (`on_disk`).
        cost: of a run, in any unit (FLOPs, say): the longest go first, and the ETA is weighted by it.
        is_timed: ``cost`` is in seconds: then there is an ETA before the first run has ended.

    Raises:
        Interrupted: Ctrl-C; says how many runs are kept.
        UserError: a spec is declared on other data, the store cannot be written, or no worker can start.
    """
    wanted = {spec.run_id: spec for spec in specs}
    for spec in wanted.values():
        if spec.data_fingerprint != dataset.fingerprint:
            raise UserError(
                f"run {spec.run_id} is declared on data {spec.data_fingerprint}, but the data set given is "
                f"{dataset.fingerprint}; plan the runs again on the data you have."
            )
    folder = beside(store.path, CHECKPOINTS)
    with SweepProgress(progress, workers=engine.workers, is_timed=is_timed) as shown, checkpointed(folder):

        def keep(records: list[RunRecord]) -> None:
            store.put_many(records)
            checkpoint.remove(folder, {record.spec.run_id for record in records if record.is_done})
            for record in records:
                if record.status == "failed":
                    shown.say(f"run {record.spec.run_id} failed: {record.reason}")
                shown.record(record, cost(record.spec))

        known = store.done(wanted)
        checkpoint.remove(folder, known)  # killed between the first two lines above
        todo = [spec for run_id, spec in wanted.items() if run_id not in known]
        if known:
            shown.say(f"{len(known)} of {len(wanted)} runs are in the store already, {len(todo)} to do")
        shown.add(len(todo), sum(map(cost, todo)))
        try:
            if todo:
                with on_disk(dataset, beside(store.path)) as dataset:
                    workers = engine.backend(runner, dataset)
                    schedule(workers, todo, on_records=keep, on_event=shown.say, cost=cost)
        except KeyboardInterrupt:
            kept = f"{len(store.done(wanted))} of {len(wanted)} runs are kept"
            raise Interrupted(f"interrupted: {kept}; the same command goes on from here.") from None
        return SweepResult(store.path, tuple(wanted), len(known), shown.counts["failed"])


@contextlib.contextmanager
def on_disk(dataset: Any, folder: Path) -> Iterator[Any]:
    """``dataset`` memory-mapped from ``folder``, which is removed in the end; itself if it is on the disk already.

    ``with on_disk(dataset, folder) as dataset`` drops the copy in memory if nobody else has it: then this process and
    all local workers share one copy, in the page cache. What a killed process left in ``folder`` is removed first.
    """
    if dataset.folder is not None:
        yield dataset
        return
    shutil.rmtree(folder, ignore_errors=True)
    try:
        dataset.save(folder)
        dataset = type(dataset).open(folder)
        yield dataset
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def beside(store: Path, end: str = ".data") -> Path:
    """A folder whose only user is the sweep that has the store's lock: what is left in it is a dead one's."""
    return store.with_name(store.name + end)


@contextlib.contextmanager
def checkpointed(folder: Path) -> Iterator[None]:
    """Runs that are made in the block keep their checkpoints in ``folder``, which is removed if it is empty."""
    with contextlib.suppress(OSError):  # a run that then cannot write one says so
        folder.mkdir(exist_ok=True)
    try:
        with in_environment({checkpoint.FOLDER: str(folder)}):
            yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()
