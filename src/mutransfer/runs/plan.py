"""The plan of a sweep, printed before it runs: how many runs, how much arithmetic and memory, how long here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mutransfer.runs.calibration import Calibration
from mutransfer.training.spec import RunSpec


def plan_table(
    specs: Sequence[RunSpec],
    flops: Callable[[RunSpec], float],
    *,
    calibration: Calibration | None = None,
    memory: Callable[[RunSpec], float] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """A table, one row a parametrization and width, with the totals; then how it was measured, and ``notes``.

    Args:
        flops: floating-point operations of one run.
        calibration: of this machine, for the minutes; without it, or for a precision that it lacks, they are "?".
        memory: bytes that one run adds to a worker's; "?" without it.
        notes: lines to print below, such as a tuning cost.
    """
    if calibration and not {s.precision for s in specs} <= set(calibration.points):
        calibration = None
    groups: dict[tuple[str, int], list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault((spec.parametrization, spec.width), []).append(spec)
    rows: list[tuple[str, ...]] = [
        ("parametrization", "width", "log2 LR", "seeds", "runs", "steps", "FLOPs", "MiB a run", "minutes")
    ]
    for (name, width), runs in sorted(groups.items(), key=lambda g: (g[0][0] != "sp", *g[0])):
        seeds, steps = len({s.seed for s in runs}), _range([s.steps for s in runs])
        cells = (name, str(width), _range([s.log2_lr for s in runs]), str(seeds), str(len(runs)), steps)
        rows.append(
            (*cells, f"{sum(map(flops, runs)):.3g}", _mib(runs, memory, calibration), _share(runs, calibration))
        )
    total = ("total", "", "", "", str(len(specs)), "", f"{sum(map(flops, specs)):.3g}")
    minutes = f"{calibration.sweep_seconds(specs) / 60:,.1f}" if calibration else "?"
    rows.append((*total, _mib(specs, memory, calibration), minutes))
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.rjust, row, sizes)) for row in rows]
    if calibration and specs:
        lines.append(f"minutes: {calibration.describe(specs)}")
        if memory:
            lines.append("MiB a run: the peak of its worker, with the pages of the data set that all workers share")
    return "\n".join([*lines, *notes])


def _share(runs: Sequence[RunSpec], calibration: Calibration | None) -> str:
    """Minutes of all workers together."""
    return f"{sum(map(calibration.seconds, runs)) / calibration.workers / 60:,.1f}" if calibration else "?"


def _mib(runs: Sequence[RunSpec], memory: Callable[[RunSpec], float] | None, calibration: Calibration | None) -> str:
    """Of the largest of ``runs``, its worker's floor included where it was measured."""
    if memory is None or not runs:
        return "?"
    return f"{max(map(memory, runs)) / 2**20 + (calibration.floor_mib if calibration else 0.0):,.0f}"


def _range(values: Sequence[float]) -> str:
    """``-8..-2``, or the value if there is one."""
    low, high = f"{min(values):g}", f"{max(values):g}"
    return low if low == high else f"{low}..{high}"
