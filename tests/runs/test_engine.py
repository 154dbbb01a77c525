"""The scheduler that all engines share, on workers whose time is a number: nothing waits and nothing is random."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence

import pytest

from mutransfer.errors import UserError
from mutransfer.runs.engine import DIED, LOST, schedule
from mutransfer.runs.worker import BROKEN, READY, RECORD
from mutransfer.training.spec import RunRecord, RunSpec
from tests.runs import tiny

DATA = tiny.DATA


def runs(*seconds: float) -> list[RunSpec]:
    """Runs that take so long: the seed is the place in the list, the width the time in tenths of a second."""
    return [tiny.spec(DATA, seed=i, width=round(10 * s)) for i, s in enumerate(seconds)]


def seconds(spec: RunSpec) -> float:
    return spec.width / 10


class Simulated:
    """A backend: workers are numbers, ready one after another; ``faults``: how attempts of a run end, by its seed."""

    def __init__(
        self, slots: int | Callable[[float], int], *, faults: dict[int, list[str]] | None = None, birth: str = READY
    ) -> None:
        self.slots = (lambda: slots(self.time)) if callable(slots) else (lambda: slots)
        self.faults, self.birth, self.time = faults or {}, birth, 0.0
        self.queues: dict[int, list[RunSpec]] = {}
        self.history: list[tuple[RunSpec, int, float, float]] = []  # run, worker, start, end
        self.started = 0
        self._events: list[tuple[float, int, int, str, object]] = []
        self._order = itertools.count()

    def start(self) -> int:
        self.started += 1
        self.queues[self.started] = []
        self._at(self.time + 0.1 * self.started, self.started, self.birth, "it is broken")
        return self.started

    def send(self, worker: int, spec: RunSpec) -> None:
        self.queues[worker].append(spec)
        if len(self.queues[worker]) == 1:
            self._begin(worker)

    def wait(self) -> Iterable[tuple[int, str, object]]:
        assert self._events, "the scheduler waits for nothing"
        now = self._events[0][0]
        while self._events and self._events[0][0] == now:
            _, _, worker, kind, content = heapq.heappop(self._events)
            if worker not in self.queues:  # stopped
                continue
            self.time = now
            if kind == RECORD:
                self.queues[worker].pop(0)
                if self.queues[worker]:
                    self._begin(worker)
            elif kind in (DIED, LOST):
                del self.queues[worker]
            yield worker, kind, content

    def stop(self, workers: Iterable[int]) -> None:
        for worker in list(workers):
            self.queues.pop(worker, None)

    def _begin(self, worker: int) -> None:
        spec = self.queues[worker][0]
        end, faults = self.time + seconds(spec), self.faults.get(spec.seed)
        self.history.append((spec, worker, self.time, end))
        record = RunRecord(spec=spec, status="finished", train_loss=1)
        self._at(end, worker, *((faults.pop(0), "KILL") if faults else (RECORD, record)))

    def _at(self, time: float, worker: int, kind: str, content: object) -> None:
        heapq.heappush(self._events, (time, next(self._order), worker, kind, content))


def play(backend: Simulated, specs: Sequence[RunSpec]) -> tuple[list[RunRecord], list[str]]:
    """All records as they came, each run's once, and what was said."""
    records: list[RunRecord] = []
    said: list[str] = []
    schedule(backend, specs, on_records=records.extend, on_event=said.append, cost=seconds)
    assert not backend.queues, "workers are left"
    assert sorted(r.spec.seed for r in records) == list(range(len(specs)))
    return records, said


def test_the_longest_runs_go_first_and_all_are_made_once() -> None:
    """Else the last core works alone at the end; equal costs keep the order of the plan."""
    records, said = play(backend := Simulated(1), runs(1, 3, 2, 3))
    assert [spec.seed for spec, *_ in backend.history] == [r.spec.seed for r in records] == [1, 3, 2, 0]
    assert not said


@pytest.mark.parametrize("workers", [2, 3, 16])
@pytest.mark.parametrize("lengths", [[60.0] * 3 + [1.0] * 400, [60.0] * 16 + [20.0] * 50, [5.0] * 100, [60.0] * 2])
def test_queueing_ahead_costs_no_time(lengths: list[float], workers: int) -> None:
    """Against the longest-first rule by hand: no run may wait behind a long one that another worker could have made."""
    play(backend := Simulated(workers), runs(*lengths))
    free = sorted(0.1 * (i + 1) for i in range(workers))
    for length in sorted(lengths, reverse=True):
        free = sorted([free[0] + length, *free[1:]])
    assert backend.time <= free[-1] + 0.1 * workers


def test_short_runs_are_queued_ahead() -> None:
    """While the driver stores records (a commit waits for the disk) the workers must have something to do."""
    backend = Simulated(2)
    lengths: list[int] = []

    def look(records: list[RunRecord]) -> None:
        lengths.append(min(map(len, backend.queues.values()), default=0))

    schedule(backend, runs(*[0.1] * 200), on_records=look)
    assert min(lengths[:50]) >= 4  # handed out before the records are looked at
    assert max(lengths) < 10  # what a kill of the driver can cost


def test_a_run_whose_worker_died_is_retried_alone_at_the_end() -> None:
    """Out of memory beside others, it may fit alone; the others must not wait for it."""
    records, said = play(backend := Simulated(3, faults={5: [DIED], 7: [DIED]}), runs(*[1.0] * 20))
    assert {r.status for r in records} == {"finished"}
    *others, first, second = backend.history
    assert {first[0].seed, second[0].seed} == {5, 7}
    assert max(end for *_, end in others) <= first[2] and first[3] <= second[2]
    assert sum("KILL" in line for line in said) == 2
    assert said[-1].startswith("2 runs whose worker died are tried once more")


def test_a_run_that_kills_two_workers_has_failed() -> None:
    """For ever retried, it would keep the sweep from its end; its reason names both deaths, and the others are made."""
    records, _ = play(backend := Simulated(2, faults={3: [DIED] * 9}), runs(*[1.0] * 8))
    (failed,) = (r for r in records if r.status == "failed")
    assert failed.reason == "two workers died in this run: the first by KILL, the second, alone, by KILL"
    assert failed.spec.seed == 3 and sum(spec.seed == 3 for spec, *_ in backend.history) == 2


def test_what_was_only_queued_loses_no_attempt() -> None:
    """A worker that dies with runs queued behind the one under way costs an attempt of that one alone."""
    records, said = play(backend := Simulated(1, faults={0: [DIED]}), runs(*[1.0] * 100))
    assert {r.status for r in records} == {"finished"}
    assert len(said) == 2 and len(backend.history) == 101
    assert [spec.seed for spec, *_ in backend.history][:3] == [0, 1, 2]  # and keeps its place


def test_the_death_of_a_machine_is_no_attempt() -> None:
    """Three machines in a row may die over one run: it is not the run's fault, and nothing is lost."""
    records, said = play(Simulated(2, faults={2: [LOST] * 3}), runs(*[1.0] * 10))
    assert {r.status for r in records} == {"finished"}
    assert sum("machine was lost" in line for line in said) == 3


def test_workers_are_as_many_as_are_of_use() -> None:
    """New machines are used; two runs need two processes, not sixteen: each costs seconds and hundreds of MiB."""
    play(backend := Simulated(lambda time: 1 if time < 5 else 3), runs(*[1.0] * 40))
    assert {worker for _, worker, *_ in backend.history} == {1, 2, 3}
    assert backend.time < 20
    for count in (2, 0):
        play(backend := Simulated(16), runs(*[1.0] * count))
        assert backend.started == count


def test_workers_that_cannot_work_end_the_sweep() -> None:
    """One line for the user, not a failure for every run; three stillborn in a row are taken for a rule."""
    with pytest.raises(UserError, match="no run can start: it is broken"):
        play(Simulated(2, birth=BROKEN), runs(1, 1))
    with pytest.raises(UserError, match=r"the workers die as they start \(it is broken\); is memory short"):
        play(backend := Simulated(2, birth=DIED), runs(1, 1, 1))
    assert backend.started == 4 and not backend.queues


def test_an_error_while_storing_stops_the_workers() -> None:
    """A full disk: workers that went on would find what nobody keeps."""
    backend = Simulated(3)

    def full(records: list[RunRecord]) -> None:
        raise UserError("the disk is full")

    with pytest.raises(UserError, match="full"):
        schedule(backend, runs(*[1.0] * 10), on_records=full)
    assert not backend.queues
