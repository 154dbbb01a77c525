"""The local engine: single-threaded processes on this machine, on its cores or its GPUs."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, ClassVar

from mutransfer.errors import UserError
from mutransfer.runs import worker
from mutransfer.runs.engine import DIED, Cost, OnEvent, OnRecords, schedule
from mutransfer.runs.worker import Work
from mutransfer.training.spec import RunSpec


@dataclass(frozen=True)
class LocalEngine:
    """``workers`` processes at once; the i-th works on ``devices[i % len(devices)]``. They die with the driver.

    Raises `UserError` if ``workers`` is not positive or ``devices`` is empty.
    """

    workers: int
    devices: Sequence[str] = ("cpu",)  # such as ("cuda:0", "cuda:1")
    name: ClassVar[str] = "local"

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError(f"workers is {self.workers}, expected at least 1.")
        if not self.devices:
            raise UserError("devices is empty, expected at least one, such as 'cpu' or 'cuda:0'.")

    def run(
        self,
        specs: Sequence[RunSpec],
        runner: str,
        dataset: Any,
        *,
        on_records: OnRecords,
        on_event: OnEvent | None = None,
        cost: Cost | None = None,
    ) -> None:
        """See `Engine.run`."""
        folder = getattr(dataset, "folder", None)
        load = partial(type(dataset).open, folder) if folder else partial(_itself, dataset)
        devices = [self.devices[i % len(self.devices)] for i in range(self.workers)]
        processes = _Processes([Work(runner, load, device) for device in devices])
        schedule(processes, specs, on_records=on_records, on_event=on_event, cost=cost)


def _itself(dataset: Any) -> Any:
    return dataset


@dataclass(eq=False)
class _Worker:
    work: Work
    process: BaseProcess
    pipe: Connection


@dataclass
class _Processes:
    """The backend: a process for each ``Work``, and a pipe to each."""

    free: list[Work]  # slots without a process
    workers: set[_Worker] = field(default_factory=set)

    def slots(self) -> int:
        return len(self.free) + len(self.workers)

    def start(self) -> _Worker:
        work = self.free.pop(0)
        context = multiprocessing.get_context("spawn")  # fork and torch's threads do not go together
        ours, theirs = context.Pipe()
        process = context.Process(target=worker.main, args=(theirs, work), daemon=True)
        with worker.in_environment(worker.environment()), _no_interrupt():
            process.start()
        theirs.close()  # else its death would not end the pipe
        self.workers.add(new := _Worker(work, process, ours))
        return new

    def send(self, to: _Worker, spec: RunSpec) -> None:
        with contextlib.suppress(OSError):  # it is dead: `wait` will say so
            to.pipe.send(spec)

    def wait(self) -> Iterator[tuple[_Worker, str, Any]]:
        awake = set(wait([x for w in self.workers for x in (w.pipe, w.process.sentinel)]))
        for w in [w for w in self.workers if {w.pipe, w.process.sentinel} & awake]:
            is_alive = w.process.is_alive()  # before the pipe is emptied: the dead send no more
            for kind, content in _messages(w.pipe):
                yield w, kind, content
            if not is_alive:
                self.stop([w])
                yield w, DIED, _how(w.process.exitcode)

    def stop(self, workers: Iterable[_Worker]) -> None:
        stopped = self.workers.intersection(workers)
        for w in stopped:
            w.process.kill()
        for w in stopped:
            w.process.join()
            w.pipe.close()
            self.free.append(w.work)
        self.workers -= stopped


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
def _no_interrupt() -> Iterator[None]:
    """A process started in the block never sees Ctrl-C, which goes to the whole group: the driver decides."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
