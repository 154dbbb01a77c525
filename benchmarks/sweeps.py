"""Whole sweeps, timed from outside: rates, scaling, overhead, memory."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.millisecond import SECONDS
from experiments.cifar_mlp.experiment import EXPERIMENT
from mutransfer.runs.driver import sweep
from mutransfer.runs.engine import Engine
from mutransfer.runs.store import Store
from mutransfer.training.spec import RunRecord, RunSpec

RUNNER = "benchmarks.sweeps:run"
MARK_SECONDS = 3.0  # longer than the workers' starts lie apart
LOG2_LR = -6  # near the best of every width in µP: nothing diverges
MILLISECOND = "benchmarks.millisecond:run"


def run(spec: RunSpec, dataset: Any) -> RunRecord:
    """cifar_mlp's; a run of one step also waits, until all workers have started."""
    if spec.steps == 1:
        time.sleep(MARK_SECONDS)
    return EXPERIMENT.code.run(spec, dataset)


def specs(
    dataset: Any, width: int, runs: int, *, precision: str = "float32", steps: int | None = None
) -> list[RunSpec]:
    """``runs`` seeds of one cell of the `cpu` scale, in µP."""
    variant, _ = EXPERIMENT.variant(None)
    widths = {width, *EXPERIMENT.scale("cpu").widths}
    grid = EXPERIMENT.specs(dataset, scale="cpu", variant=variant, widths=sorted(widths), seeds=runs)
    return [
        replace(spec, precision=precision, steps=steps or spec.steps)
        for spec in grid
        if (spec.parametrization, spec.width, spec.log2_lr) == ("mup", width, LOG2_LR)
    ]


@dataclass(frozen=True)
class Timed:
    runs_per_minute: float  # from when all workers had started
    start_seconds: float  # till then
    step_ms: float  # of one run, by its own clock


def timed(runs: Sequence[RunSpec], engine: Engine, dataset: Any) -> Timed:
    """Run them into a fresh store; the first run of every worker, of one step, marks the start of the clock."""
    marks = [replace(runs[0], steps=1, seed=10_000 + i) for i in range(engine.workers)]
    arrivals: list[float] = []
    records: list[RunRecord] = []

    def arrived(batch: list[RunRecord]) -> None:
        arrivals.extend([time.perf_counter()] * len(batch))
        records.extend(batch)

    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, _watched(Store(Path(folder) / "bench.sqlite"), arrived) as store:
        result = sweep(
            [*marks, *runs],
            store,
            RUNNER,
            engine=engine,
            dataset=dataset,
            cost=lambda spec: 1e9 if spec.steps == 1 else 1.0,  # first, and no worker gets two
            progress=False,
        )
        counts = dict(Counter(r.status for r in result.records))
    if counts != {"finished": len(marks) + len(runs)}:
        raise RuntimeError(f"the benchmark's runs did not all finish: {counts}")
    start = arrivals[len(marks) - 1]
    ours = [r for r in records if r.steps_done > 1]
    step_ms = 1e3 * sum(r.wall_seconds for r in ours) / sum(r.steps_done for r in ours)
    return Timed(60 * len(ours) / (arrivals[-1] - start), start - begin - MARK_SECONDS, step_ms)


@contextlib.contextmanager
def _watched(store: Store, arrived: Callable[[list[RunRecord]], None]) -> Iterator[Store]:
    """``store``, open, telling ``arrived`` of every batch of records once it is durable."""
    put_many = store.put_many
    with store:

        def put(records: Sequence[RunRecord]) -> None:
            put_many(records)
            arrived(list(records))

        store.put_many = put  # type: ignore[method-assign]
        yield store


def overhead(engine: Engine, dataset: Any, runs: int) -> dict[str, float]:
    """(d): ``runs`` runs of a millisecond: what planning, store and progress add to each, and recognising them all."""
    one = specs(dataset, 64, 1)[0]
    arrivals: list[float] = []
    memory: list[float] = []

    def arrived(records: list[RunRecord]) -> None:
        if not arrivals:
            memory.append(_rss_mib())
        arrivals.extend([time.perf_counter()] * len(records))

    with tempfile.TemporaryDirectory() as folder, _watched(Store(Path(folder) / "bench.sqlite"), arrived) as store:
        begin = time.perf_counter()
        plan = [replace(one, seed=i) for i in range(runs)]
        for spec in plan:
            _ = spec.run_id
        planning = time.perf_counter() - begin
        sweep(plan, store, MILLISECOND, engine=engine, dataset=dataset)
        memory.append(_rss_mib())
        wall = arrivals[-1] - arrivals[0]
        begin = time.perf_counter()
        again = sweep(
            [replace(one, seed=i) for i in range(runs)], store, "no.such:runner", engine=engine, dataset=dataset
        )
        recognised = time.perf_counter() - begin
        if again.skipped != runs:
            raise RuntimeError(f"{again.skipped} of {runs} runs were recognised")
    work = SECONDS * len(arrivals) / engine.workers
    return {
        "runs": runs,
        "workers": engine.workers,
        "overhead_ms_a_run": 1e3 * ((wall - work) / len(arrivals) + planning / runs),
        "recognised_seconds": recognised,
        "driver_memory_growth_mib": memory[1] - memory[0],
    }


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory(runs: Sequence[RunSpec], engine: Engine, dataset: Any) -> dict[str, float]:
    """(f): peak of the proportional memory of driver and workers together, and the data set's part of it (MiB)."""
    peak: dict[str, float] = {"total_mib": 0.0, "data_mib": 0.0, "workers": engine.workers}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.25):
            family = _family(os.getpid())
            total = sum(_pss_mib(pid) for pid in family)
            data = sum(_pss_mib(pid, str(dataset.folder)) for pid in family)
            peak["total_mib"], peak["data_mib"] = max(peak["total_mib"], total), max(peak["data_mib"], data)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        timed(runs, engine, dataset)
    finally:
        over.set()
        watcher.join()
    return peak


def _family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += _family(int(child))
    return found


def _pss_mib(pid: int, mapped: str | None = None) -> float:
    """Proportional set size: shared pages count once over all who map them. Of the files under ``mapped`` if given."""
    kib, counts = 0, mapped is None
    try:
        text = Path(f"/proc/{pid}/{'smaps_rollup' if mapped is None else 'smaps'}").read_text()
    except OSError:
        return 0.0  # it has just ended
    for line in text.splitlines():
        if mapped is not None and "-" in line.split(" ", 1)[0]:
            counts = mapped in line
        elif line.startswith("Pss:") and counts:
            kib += int(line.split()[1])
    return kib / 1024
