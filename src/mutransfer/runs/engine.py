"""Where runs are made: which run goes to which worker, what the death of a worker costs; processes on this machine."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, ClassVar, Protocol, cast

from mutransfer.errors import UserError
from mutransfer.runs.worker import BROKEN, READY, RECORD, environment, in_environment, main
from mutransfer.training.spec import RunRecord, RunSpec

OnRecords = Callable[[list[RunRecord]], None]
OnEvent = Callable[[str], None]
Cost = Callable[[RunSpec], float]

# What a backend tells of a worker, besides what the worker itself says (`mutransfer.runs.worker`):
DIED, LOST = "died", "lost"  # it alone, and how; with its machine, and how

_AHEAD = 8  # runs queued behind the one under way, if with it they cost ...
_SHARE = 1 / 4  # ... no more than this part of what is left for each worker
_STILLBORN_LIMIT = 3  # workers in a row that die before they are ready: then something is wrong with all


class Engine(Protocol):
    """Where the runs of a sweep are made: `LocalEngine`, or `mutransfer.runs.ray.RayEngine`."""

    @property
    def name(self) -> str: ...
    @property
    def workers(self) -> int: ...  # runs at once
    @property
    def devices(self) -> Sequence[str]: ...  # that runs are given, such as ("cuda:0", "cuda:1")

    def backend(self, runner: str, dataset: Any) -> Backend:
        """Workers for `schedule`, none of them started yet.

        Args:
            runner: "module:function", resolved in the worker. ``function(spec, dataset)`` returns a `RunRecord`;
                on a device other than the plain CPU it is called as ``function(spec, dataset, device=device)``.
            dataset: anything that can be pickled. One with a ``folder`` is opened from there in each local worker.
        """


class Backend(Protocol):
    """The workers of one sweep, each known by what `start` returned."""

    def slots(self) -> int: ...  # how many workers there is room for, at this moment
    def start(self) -> Hashable: ...
    def send(self, worker: Any, spec: RunSpec) -> None: ...  # behind the runs that it has; a dead worker is no error
    def stop(self, workers: Iterable[Any]) -> None: ...  # at once

    def wait(self) -> Iterable[tuple[Hashable, str, Any]]:
        """All that has happened, as (worker, kind, content); after a while, nothing.

        kind and content: READY; a RECORD and the `RunRecord`; BROKEN and why no run can be made; DIED or LOST and
        how, once and last. The records of a worker come in the order in which its runs were sent.
        """


def schedule(
    backend: Backend,
    specs: Sequence[RunSpec],
    *,
    on_records: OnRecords,
    on_event: OnEvent = lambda line: None,
    cost: Cost = lambda spec: 1.0,
) -> None:
    """Run ``specs`` on the workers of ``backend`` and hand over the records as they come.

    The result of a run depends on its spec alone: not on the order, nor on the workers. A worker that dies (out of
    memory, killed) loses one attempt of one run. That run is put aside and, when all others are done, tried once
    more with nothing beside it; if its worker dies again it is recorded as ``failed``. So is a run that raises, at
    once. A machine that dies costs no attempt: its runs go back in the queue.

    Args:
        on_records: called in this process with all records that came in together; what it raises ends the sweep.
        on_event: called with a line about a worker that died.
        cost: of a run, in any unit: the longest go first, so that no worker waits for the last one.

    Raises:
        UserError: no worker can start (the reason is given).
    """
    order = sorted(specs, key=cost, reverse=True)  # stable: equal costs keep their order
    died: dict[RunSpec, str] = {}

    def give_up(spec: RunSpec, how: str) -> None:
        reason = f"two workers died in this run: the first by {died[spec]}, the second, alone, by {how}"
        on_records([RunRecord.failed(spec, reason)])

    _Crew(backend, deque(order), cost, on_records, on_event, died.__setitem__).work()
    if died:
        on_event(f"{len(died)} runs whose worker died are tried once more, one by one")
        _Crew(backend, deque(died), cost, on_records, on_event, give_up, limit=1).work()


@dataclass
class _Crew:
    """Workers, at most ``limit``, that work off what is ``waiting``; who dies in a run gives it to ``on_death``."""

    backend: Backend
    waiting: deque[RunSpec]
    cost: Cost
    on_records: OnRecords
    on_event: OnEvent
    on_death: Callable[[RunSpec, str], None]
    limit: float = math.inf
    queues: dict[Hashable, deque[RunSpec]] = field(default_factory=dict)  # of all workers; the first is under way
    ready: set[Hashable] = field(default_factory=set)
    stillborn: int = 0

    def work(self) -> None:
        self.left = sum(map(self.cost, self.waiting))
        try:
            while self.waiting or any(self.queues.values()):
                # as many workers as there are slots, but none that would have nothing to do
                useful = len(self.waiting) + sum(map(bool, self.queues.values()))
                while len(self.queues) < min(self.limit, self.backend.slots(), useful):
                    self.queues[self.backend.start()] = deque()
                records = [record for event in self.backend.wait() if (record := self._take(*event))]
                self._hand_out()  # first: the workers go on while the records are stored
                if records:
                    self.on_records(records)
        finally:
            self.backend.stop(self.queues)

    def _take(self, worker: Hashable, kind: str, content: Any) -> RunRecord | None:
        if kind == RECORD:
            self.queues[worker].remove(content.spec)
            return cast(RunRecord, content)
        if kind == BROKEN:
            raise UserError(f"no run can start: {content}")
        if kind == READY:
            self.ready.add(worker)
            self.stillborn = 0
            return None
        queue = self.queues.pop(worker)
        if kind == LOST:
            self.on_event(f"a machine was lost ({content}): {len(queue)} runs go back in the queue")
        elif worker not in self.ready:
            self.stillborn += 1
            if self.stillborn == _STILLBORN_LIMIT:
                raise UserError(f"no run can start: the workers die as they start ({content}); is memory short?")
        elif queue:
            spec = queue.popleft()
            self.on_event(f"a worker died ({content}) in run {spec.run_id}")
            self.on_death(spec, content)
        self.ready.discard(worker)
        self.waiting.extendleft(reversed(queue))
        self.left += sum(map(self.cost, queue))
        return None

    def _hand_out(self) -> None:
        # With runs queued behind the one under way, no worker waits while the driver stores records. But what waits
        # behind a long run could have been started elsewhere: so all that a worker has must be little.
        share = self.left * _SHARE / max(1, len(self.queues))
        for ahead in range(_AHEAD + 1):
            for worker in self.ready:
                queue = self.queues[worker]
                if not self.waiting:
                    break
                if len(queue) == ahead and (not ahead or sum(map(self.cost, [*queue, self.waiting[0]])) <= share):
                    queue.append(self.waiting.popleft())
                    self.left -= self.cost(queue[-1])
                    self.backend.send(worker, queue[-1])
        if not self.waiting:
            idle = [worker for worker, queue in self.queues.items() if not queue]
            self.backend.stop(idle)
            for worker in idle:
                del self.queues[worker]
                self.ready.discard(worker)


@dataclass(frozen=True)
class LocalEngine:
    """``workers`` processes at once; the i-th works on ``devices[i % len(devices)]``. They die with the driver.

    Raises `UserError` if ``workers`` is not positive or ``devices`` is empty.
    """

    workers: int
    devices: Sequence[str] = ("cpu",)  # such as ("cuda:0", "cuda:1")
    name: ClassVar[str] = "local"

    def __post_init__(self) -> None:
        if self.workers < 1 or not self.devices:
            raise UserError(f"{self.workers} workers on the devices {self.devices}: expected at least one of each.")

    def backend(self, runner: str, dataset: Any) -> _Processes:
        """See `Engine.backend`: single-threaded processes on this machine, on its cores or its GPUs."""
        folder = getattr(dataset, "folder", None)
        load = partial(type(dataset).open, folder) if folder else partial(_itself, dataset)
        devices = [self.devices[i % len(self.devices)] for i in range(self.workers)]
        return _Processes([(runner, load, device) for device in devices])


def _itself(dataset: Any) -> Any:
    return dataset


@dataclass(eq=False)
class _Worker:
    work: tuple[Any, ...]  # of `main`, besides the pipe
    process: BaseProcess
    pipe: Connection


class _Processes:
    """The backend: a process for each slot, and a pipe to each."""

    def __init__(self, slots: list[tuple[Any, ...]]) -> None:
        self.free = slots  # those without a process
        self.workers: set[_Worker] = set()

    def slots(self) -> int:
        return len(self.free) + len(self.workers)

    def start(self) -> _Worker:
        work = self.free.pop(0)
        context = multiprocessing.get_context("spawn")  # fork and torch's threads do not go together
        ours, theirs = context.Pipe()
        process = context.Process(target=main, args=(theirs, *work), daemon=True)
        # blocked, a process inherits it and never sees Ctrl-C, which goes to the whole group: the driver decides
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with in_environment(environment()):
                process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()  # else its death would not end the pipe
        self.workers.add(new := _Worker(work, process, ours))
        return new

    def send(self, to: _Worker, spec: RunSpec) -> None:
        with contextlib.suppress(OSError):  # it is dead: `wait` will say so
            to.pipe.send(spec)

    def wait(self) -> Iterator[tuple[_Worker, str, Any]]:
        wait([x for w in self.workers for x in (w.pipe, w.process.sentinel)])
        for w in [*self.workers]:
            is_alive = w.process.is_alive()  # before the pipe is emptied: the dead send no more
            with contextlib.suppress(EOFError, OSError):  # the other end is gone
                while w.pipe.poll():
                    yield (w, *w.pipe.recv())
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


def _how(code: int | None) -> str:
    """An exit code in words."""
    with contextlib.suppress(ValueError):
        return signal.Signals(-(code or 0)).name
    return f"exit code {code}"
