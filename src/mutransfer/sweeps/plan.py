"""The plan of a sweep, printed before it runs: how many runs, how much arithmetic, how long here."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from mutransfer.training.loop import normalize
from mutransfer.training.spec import RunSpec


def plan_table(
    specs: Sequence[RunSpec],
    flops: Callable[[RunSpec], float],
    *,
    workers: int,
    flops_per_second: float | None = None,
) -> str:
    """A table, one row a parametrization and width, with the total and the minutes it is expected to take.

    Args:
        flops: floating-point operations of one run.
        flops_per_second: of one worker; measured on this machine by `calibrate` if None.
    """
    if flops_per_second is None:
        flops_per_second = calibrate()
    speed = flops_per_second * max(1, min(workers, os.cpu_count() or 1, len(specs)))
    groups: dict[tuple[str, int], list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault((spec.parametrization, spec.width), []).append(spec)
    rows: list[tuple[str, ...]] = [
        ("parametrization", "width", "log2 LR", "seeds", "runs", "steps", "FLOPs", "minutes")
    ]
    for (name, width), runs in sorted(groups.items(), key=lambda g: (g[0][0] != "sp", *g[0])):
        total = sum(map(flops, runs))
        rates = sorted({spec.log2_lr for spec in runs})
        steps = sorted({spec.steps for spec in runs})
        cells = [name, str(width), _range(rates), str(len({spec.seed for spec in runs})), str(len(runs))]
        rows.append((*cells, _range(steps), f"{total:.3g}", f"{total / speed / 60:.1f}"))
    total = sum(map(flops, specs))
    rows.append(("total", "", "", "", str(len(specs)), "", f"{total:.3g}", f"{total / speed / 60:.1f}"))
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.rjust, row, sizes)) for row in rows]
    note = f"minutes: {workers} workers, {flops_per_second / 1e9:.3g} GFLOP/s each, without start and evaluation"
    return "\n".join([*lines, note])


def calibrate(seconds: float = 1.0, width: int = 256, batch: int = 64, inputs: int = 3072) -> float:
    """FLOP/s of one thread of this machine, training an MLP [inputs, width, width] by SGD.

    Measured for about ``seconds``; the median step, so that a hiccup does not count.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width))
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, fused=True)
        x_BxD = torch.randint(256, (batch, inputs), dtype=torch.uint8)
        times: list[float] = []
        end = time.perf_counter() + seconds
        while len(times) < 5 or time.perf_counter() < end:
            start = time.perf_counter()
            model(normalize(x_BxD)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    # Two operations a multiply-add; forward, backward to the weights, and to the second layer's input.
    flops = 2 * batch * (2 * inputs * width + 3 * width * width)
    return flops / sorted(times)[len(times) // 2]


def _range(values: Sequence[float]) -> str:
    """``-8..-2``, or the value if there is one."""
    low, high = f"{values[0]:g}", f"{values[-1]:g}"
    return low if low == high else f"{low}..{high}"
