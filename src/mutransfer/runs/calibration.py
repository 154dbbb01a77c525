"""What is known of this machine's speed on an experiment's runs, and what follows for a plan."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from mutransfer.training.spec import RunSpec

Flops = Callable[[RunSpec], float]
FASTER = 1.1  # bfloat16 is chosen from this speedup of the whole plan on: below, noise would choose


@dataclass(frozen=True, kw_only=True)
class Point:
    """What runs of one size took, while all workers ran that size.

    Raises:
        ValueError: a number is not finite and positive, as in a damaged file.
    """

    width: int
    flops: float  # a step
    step_seconds: float
    fixed_seconds: float  # of a run, besides its steps: making the model, evaluation
    peak_memory_mib: float  # of the worker

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (isinstance(value, int | float) and 0 < value < math.inf):
                raise ValueError(f"{name} is {value!r}")

    @property
    def speed(self) -> float:
        """FLOP/s of one worker while it steps."""
        return self.flops / self.step_seconds


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Seconds that a run takes on this machine with all workers busy, as a function of its FLOPs a step."""

    measured: str  # when, UTC
    machine: str
    engine: str
    workers: int
    start_seconds: float  # until the workers train
    floor_mib: float  # memory of a worker without a model
    points: Mapping[str, tuple[Point, ...]]  # by precision; by rising FLOPs, never empty
    flops: Flops = field(compare=False, repr=False)  # of a whole run

    def seconds(self, spec: RunSpec, precision: str | None = None) -> float:
        """Of one run that does not diverge. Raises `KeyError` for a precision that was not measured.

        Between two measured sizes a power law in the FLOPs a step; outside of them constant FLOP/s.
        """
        points = self.points[precision or spec.precision]
        size, sizes = self.flops(spec) / spec.steps, [p.flops for p in points]
        step = _interpolate(size, sizes, [p.step_seconds for p in points])
        return spec.steps * step + _interpolate(size, sizes, [p.fixed_seconds for p in points])

    def sweep_seconds(self, specs: Iterable[RunSpec], precision: str | None = None) -> float:
        """Of a whole sweep, longest runs first, the start of its workers included."""
        ends = [0.0] * self.workers
        for seconds in sorted((self.seconds(s, precision) for s in specs), reverse=True):
            heapq.heapreplace(ends, ends[0] + seconds)
        return self.start_seconds + max(ends)

    def describe(self, specs: Sequence[RunSpec]) -> str:
        """When, on what and how fast, by width; names the widths of ``specs`` that are extrapolated."""
        speeds = [
            f"{name} {', '.join(f'{p.speed / 1e9:.3g} at width {p.width}' for p in points)}"
            for name, points in self.points.items()
        ]
        text = (
            f"measured {self.measured} on {self.machine}: {self.workers} {self.engine} worker"
            f"{'s, all busy' if self.workers > 1 else ''}; GFLOP/s of one: {'; '.join(speeds)}"
        )
        largest = self.points[specs[0].precision][-1]
        beyond = sorted({s.width for s in specs if self.flops(s) / s.steps > 1.01 * largest.flops})
        if not beyond:
            return text
        return f"{text}; extrapolated from width {largest.width} by FLOPs: {', '.join(map(str, beyond))}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without ``flops``."""
        points = {name: [asdict(p) for p in found] for name, found in self.points.items()}
        return {**{k: v for k, v in vars(self).items() if k != "flops"}, "points": points}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], flops: Flops) -> Calibration:
        """What `to_dict` gave. Raises `ValueError` for anything else."""
        try:
            points = {name: tuple(Point(**p) for p in found) for name, found in values["points"].items()}
            found = cls(**{**values, "points": points, "flops": flops})
            numbers = (found.workers, found.start_seconds, found.floor_mib + 1)
            is_sorted = all(a.flops < b.flops for line in points.values() for a, b in pairwise(line))
            is_whole = bool(points) and all(points.values()) and all(0 < x < math.inf for x in numbers)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no calibration: {error}") from None
        if not (is_whole and is_sorted):
            raise ValueError("no calibration: a number is not positive, sizes do not rise or nothing was measured")
        return found


def fastest(calibration: Calibration | None, specs: Sequence[RunSpec]) -> str:
    """The precision for all of ``specs``: bfloat16 if it makes the whole plan faster by `FASTER`, else float32.

    One for all, since precisions that change with width would confound the comparison of widths.
    """
    if calibration is None or not {"float32", "bfloat16"} <= set(calibration.points):
        return "float32"
    times = {name: calibration.sweep_seconds(specs, name) for name in ("float32", "bfloat16")}
    return "bfloat16" if times["float32"] >= FASTER * times["bfloat16"] else "float32"


def _interpolate(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """Linear in the logarithms between two points, proportional outside."""
    if x <= xs[0] or x >= xs[-1]:
        i = 0 if x <= xs[0] else -1
        return ys[i] * x / xs[i]
    i = bisect_left(xs, x)
    share = math.log(x / xs[i - 1]) / math.log(xs[i] / xs[i - 1])
    return ys[i - 1] * (ys[i] / ys[i - 1]) ** share
