"""What parts (b), (g), (h) and (i) share: processes like a sweep's workers, and kinds of a step timed side by side."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from mutransfer.runs.worker import environment, keep_freed_memory

READY = "ready"


def in_worker(module: str, widths: list[int], *arguments: object) -> list[dict[str, Any]]:
    """What ``module`` answers (`answer`) for every width, in a process like a sweep's worker."""
    command = [sys.executable, "-m", module, ",".join(map(str, widths)), *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, **environment()}, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def rates(module: str, count: int, env: Mapping[str, str], *arguments: object) -> list[float]:
    """What ``count`` processes of ``module`` answer (`answer_rate`), measuring at the same time."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    running = [subprocess.Popen(command, env=dict(env), text=True, **pipes) for _ in range(count)]
    try:
        if any(process.stdout.readline().strip() != READY for process in running):
            raise RuntimeError(f"{' '.join(command)} did not start")
        for process in running:
            process.stdin.write("go\n")
            process.stdin.flush()
        return [float(process.stdout.readline()) for process in running]
    finally:
        for process in running:
            process.kill()
            process.communicate()


def answer_rate(call: Callable[[], float | None], seconds: float, warm: int = 3) -> None:
    """The main program of such a process: prints how often it calls in a second, once it is told to start.

    Of calls that return how much they did: how much in a second. ``warm``: calls before.
    """
    for _ in range(warm):
        call()
    print(READY, flush=True)
    sys.stdin.readline()
    done, start = 0.0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        done += call() or 1
    print(done / (time.perf_counter() - start), flush=True)
    while True:  # the others still measure, and must not have the machine for themselves
        call()


def as_worker() -> None:
    """What a sweep's worker does first."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    keep_freed_memory()


def answer(measure: Callable[..., dict[str, Any]]) -> None:
    """The main program of such a module: prints ``measure(width, seconds, ...)`` of every width as JSON."""
    as_worker()
    widths, seconds, *more = sys.argv[1:]
    print(json.dumps([measure(int(width), float(seconds), *more) for width in widths.split(",")]))


def medians(
    kinds: Mapping[str, Callable[..., None]], seconds: float, draw: Callable[[], tuple[Any, ...]] = tuple
) -> dict[str, float]:
    """Milliseconds a call of each kind, interleaved one by one, at least five times; ``draw`` gives its input."""
    times: dict[str, list[float]] = {name: [] for name in kinds}
    rounds, end = 0, 0.0
    while rounds < 8 or time.perf_counter() < end:
        for name, call in kinds.items():
            given = draw()
            start = time.perf_counter()
            call(*given)
            times[name].append(time.perf_counter() - start)
        rounds += 1
        if rounds == 3:  # these warm up
            times = {name: [] for name in kinds}
            end = time.perf_counter() + seconds
    return {name: 1e3 * statistics.median(values) for name, values in times.items()}
