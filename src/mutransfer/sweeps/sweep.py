"""A sweep: run what the store lacks, keep each run as it ends, go on after a kill as if nothing had been."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from mutransfer.errors import UserError
from mutransfer.sweeps.engine import run_local
from mutransfer.sweeps.progress import SweepProgress
from mutransfer.sweeps.store import Store
from mutransfer.sweeps.table import to_frame
from mutransfer.training.spec import RunRecord, RunSpec

EXTENSION_ROUNDS = 3  # so that a loss that falls forever cannot keep a sweep going

Cost = Callable[[RunSpec], float]
Extend = Callable[[pd.DataFrame], Sequence[RunSpec]]


class Saved(Protocol):
    """A data set that can be saved to a folder, and whose class has ``open(folder)``."""

    @property
    def fingerprint(self) -> str: ...
    def save(self, folder: Path) -> None: ...
    @classmethod
    def open(cls, folder: Path) -> Any: ...


class Interrupted(UserError):
    """Ctrl-C: what is finished is kept. The command line prints the line and exits with ``exit_code``."""

    exit_code = 130


@dataclass(frozen=True)
class SweepResult:
    """The record of every run of the sweep, those from earlier sweeps included."""

    records: tuple[RunRecord, ...]  # in the order of the specs
    skipped: int  # runs that the store had

    @property
    def frame(self) -> pd.DataFrame:
        """The runs table (`mutransfer.sweeps.table.to_frame`)."""
        return to_frame(self.records)

    @property
    def counts(self) -> Counter[str]:
        """Runs by status."""
        return Counter(record.status for record in self.records)

    @property
    def failed(self) -> int:
        """Runs without a result; the same command tries them again."""
        return self.counts["failed"]


def sweep(
    specs: Iterable[RunSpec],
    store: Store,
    runner: str,
    *,
    workers: int,
    dataset: Saved,
    cost: Cost | None = None,
    progress: bool = True,
    extend: Extend | None = None,
    device: str | None = None,
) -> SweepResult:
    """Run those of ``specs`` that ``store`` lacks on this machine; a record is durable before it is counted.

    Killed at any moment, the same call goes on where it was, and its result equals an uninterrupted one.

    Args:
        store: open (``with Store(path) as store``).
        runner: "module:function", called in a worker as ``function(spec, dataset)`` (see `run_local`).
        dataset: saved once beside the store while runs are made, and memory-mapped by all workers.
        cost: of a run, in any unit (FLOPs, say): the longest go first, and the ETA is weighted by it.
        extend: after the grid, called with the runs table (failed runs left out); the new runs that it
            returns are made too, up to `EXTENSION_ROUNDS` times.
        device: passed on to the runner if given.

    Raises:
        Interrupted: Ctrl-C; says how many runs are kept.
        UserError: a spec is declared on other data, the store cannot be written, or no worker can start.
    """
    wanted: dict[str, RunSpec] = {}
    records: dict[str, RunRecord] = {}
    skipped = 0
    cost = cost or (lambda spec: 1.0)
    with SweepProgress(progress) as shown:

        def keep(record: RunRecord) -> None:
            store.put(record)
            records[record.spec.run_id] = record
            if record.status == "failed":
                shown.say(f"run {record.spec.run_id} failed: {record.reason}")
            shown.record(record, cost(record.spec))

        batch = _new(specs, wanted, dataset)
        for rounds_left in reversed(range(EXTENSION_ROUNDS + 1)):
            wanted |= batch
            known = store.get(batch)
            records |= known
            skipped += len(known)
            todo = [spec for run_id, spec in batch.items() if run_id not in known]
            if known:
                shown.say(f"{len(known)} of {len(batch)} runs are in the store already, {len(todo)} to do")
            shown.add(len(todo), sum(map(cost, todo)))
            try:
                if todo:
                    with _saved(dataset, store.path) as folder:
                        run_local(
                            todo,
                            runner,
                            workers=workers,
                            dataset_folder=folder,
                            on_record=keep,
                            on_event=shown.say,
                            cost=cost,
                            device=device,
                            opener=f"{type(dataset).__module__}:{type(dataset).__qualname__}.open",
                        )
            except KeyboardInterrupt:
                raise Interrupted(
                    f"interrupted: {len(store.get(wanted))} of {len(wanted)} runs are kept; "
                    "the same command goes on from here."
                ) from None
            if extend is None or not rounds_left:
                break
            batch = _new(extend(to_frame(r for r in records.values() if r.is_done)), wanted, dataset)
            if not batch:
                break
            shown.say(f"the grid is extended by {len(batch)} runs")
    return SweepResult(tuple(records[run_id] for run_id in wanted), skipped)


def _new(specs: Iterable[RunSpec], wanted: dict[str, RunSpec], dataset: Saved) -> dict[str, RunSpec]:
    """Those specs that are not wanted yet, once each, by run_id."""
    new = {spec.run_id: spec for spec in specs if spec.run_id not in wanted}
    for spec in new.values():
        if spec.data_fingerprint != dataset.fingerprint:
            raise UserError(
                f"run {spec.run_id} is declared on data {spec.data_fingerprint}, but the data set given is "
                f"{dataset.fingerprint}; plan the runs again on the data you have."
            )
    return new


@contextlib.contextmanager
def _saved(dataset: Saved, store: Path) -> Iterator[Path]:
    """``dataset`` in a temporary folder that the workers map into memory."""
    # Beside the store, whose lock we hold: what a killed sweep left there is found, and removed, by the next.
    folder = store.with_name(store.name + ".data")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        dataset.save(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
