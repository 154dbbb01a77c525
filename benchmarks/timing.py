"""What parts (b), (g) and (h) share: a process like a sweep's worker, and kinds of a step timed side by side."""

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

from mutransfer.sweeps.worker import environment, keep_freed_memory


def in_worker(module: str, widths: list[int], *arguments: object) -> list[dict[str, Any]]:
    """What ``module`` answers (`answer`) for every width, in a process like a sweep's worker."""
    command = [sys.executable, "-m", module, ",".join(map(str, widths)), *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, **environment()}, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def answer(measure: Callable[..., dict[str, Any]]) -> None:
    """The main program of such a module: prints ``measure(width, seconds, ...)`` of every width as JSON."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    keep_freed_memory()
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
