"""The local engine: single-threaded processes on this machine; the death of one costs only its own run."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from mutransfer.errors import UserError
from mutransfer.sweeps import worker
from mutransfer.sweeps.worker import Work
from mutransfer.training.spec import RunRecord, RunSpec

OnRecord = Callable[[RunRecord], None]
OnEvent = Callable[[str], None]
IMAGES = "mutransfer.data.dataset:ImageDataset.open"
_STILLBORN_LIMIT = 3  # workers in a row that die before they are ready: then something is wrong with all


@dataclass
class _Job:
    spec: RunSpec
    deaths: int = 0  # workers that died over it


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    job: _Job | None = None  # under way; or, before it is ready, kept for it
    is_ready: bool = False


def run_local(
    specs: Sequence[RunSpec],
    runner: str,
    *,
    workers: int,
    dataset_folder: Path | None,
    on_record: OnRecord,
    on_event: OnEvent | None = None,
    cost: Callable[[RunSpec], float] | None = None,
    device: str | None = None,
    opener: str = IMAGES,
) -> None:
    """Run ``specs`` in ``workers`` single-threaded processes and hand over each record as it comes.

    The result of a run depends on its spec alone: not on the order, nor on the number of workers. A worker
    that dies (out of memory, killed) loses only its own run, which is tried once more on a fresh worker and
    is then recorded as ``failed``; so is a run that raises, at once. When the driver dies, so do the workers.

    Args:
        runner: "module:function", resolved in the worker; ``function(spec, dataset)`` returns a `RunRecord`.
        device: if given, passed on as ``function(spec, dataset, device=device)``; all workers share one GPU.
        dataset_folder: what ``opener`` ("module:Class.open") opens in each worker; None for no data.
        on_record: called in this process, one at a time; what it raises ends the sweep.
        on_event: called with a line about a worker that died.
        cost: the longest runs go first, so that no core waits for the last one.

    Raises:
        UserError: ``workers`` is not positive, or no worker can start (the reason is given).
    """
    if workers < 1:
        raise UserError(f"workers is {workers}, expected at least 1.")
    order = sorted(specs, key=cost, reverse=True) if cost else specs  # stable: equal costs keep their order
    pool = _Pool(Work(runner, opener, dataset_folder, device), deque(_Job(spec) for spec in order))
    try:
        pool.run(min(workers, len(specs)), on_record, on_event or (lambda line: None))
    finally:
        pool.stop()


class _Pool:
    def __init__(self, work: Work, jobs: deque[_Job]) -> None:
        self.work = work
        self.jobs = jobs  # that no worker has yet
        self.workers: list[_Worker] = []
        self.stillborn = 0
        self.context = multiprocessing.get_context("spawn")  # fork and torch's threads do not go together

    def run(self, count: int, on_record: OnRecord, on_event: OnEvent) -> None:
        for _ in range(count):
            self._start(None)
        while self.workers:
            awake = set(wait([x for w in self.workers for x in (w.pipe, w.process.sentinel)]))
            for w in [w for w in self.workers if {w.pipe, w.process.sentinel} & awake]:
                is_alive = w.process.is_alive()  # before the pipe is emptied: the dead send no more
                for kind, content in _messages(w.pipe):
                    self._receive(w, kind, content, on_record)
                if not is_alive:
                    self._bury(w, on_record, on_event)

    def _receive(self, w: _Worker, kind: str, content: Any, on_record: OnRecord) -> None:
        if kind == worker.BROKEN:
            raise UserError(f"no run can start: {content}")
        if kind == worker.READY:
            w.is_ready, self.stillborn = True, 0
        else:
            job, w.job = w.job, None
            assert job is not None
            on_record(content if kind == worker.RECORD else RunRecord.failed(job.spec, content))
        if w.job is None and self.jobs:
            w.job = self.jobs.popleft()
        with contextlib.suppress(OSError):  # it is dead: `_bury` gives the job to another
            w.pipe.send(w.job.spec if w.job else None)

    def _bury(self, w: _Worker, on_record: OnRecord, on_event: OnEvent) -> None:
        w.process.join()
        w.pipe.close()
        self.workers.remove(w)
        how, job = _how(w.process.exitcode), w.job
        if not w.is_ready:
            self.stillborn += 1
            if self.stillborn == _STILLBORN_LIMIT:
                raise UserError(f"no run can start: the workers die as they start ({how}); is memory short?")
            self._start(job)
        elif job is not None:
            job.deaths += 1
            on_event(f"a worker died ({how}) in run {job.spec.run_id}")
            if job.deaths == 1:
                self._start(job)
                return
            on_record(RunRecord.failed(job.spec, f"two workers died in this run, the second by {how}"))
            if self.jobs:
                self._start(None)

    def _start(self, job: _Job | None) -> None:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=worker.main, args=(theirs, self.work), daemon=True)
        with _environment(worker.ENVIRONMENT), _no_interrupt():
            process.start()
        theirs.close()  # else its death would not end the pipe
        self.workers.append(_Worker(process, ours, job))

    def stop(self) -> None:
        for w in self.workers:
            w.process.kill()
        for w in self.workers:
            w.process.join()
            w.pipe.close()


def _messages(pipe: Connection) -> Iterator[tuple[str, Any]]:
    """What lies in ``pipe`` now; nothing more once the other end is gone."""
    while True:
        try:
            if not pipe.poll():
                return
            message = pipe.recv()
        except (EOFError, OSError):
            return
        yield message


def _how(code: int | None) -> str:
    """An exit code in words."""
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Variables that a process started in the block inherits."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """A process started in the block never sees Ctrl-C, which goes to the whole group: the driver decides."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
