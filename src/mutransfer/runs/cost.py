"""What a plan costs: how fast this machine is on an experiment's runs, measured once, and what follows for a plan."""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import json
import math
import os
import statistics
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from mutransfer.errors import UserError
from mutransfer.files import write
from mutransfer.runs.engine import Engine, schedule
from mutransfer.runs.worker import one_line, resolve
from mutransfer.training.provenance import device_name, git_commit
from mutransfer.training.spec import RunRecord, RunSpec

Flops = Callable[[RunSpec], float]  # of a whole run
FASTER = 1.1  # bfloat16 is chosen from this speedup of the whole plan on: below, noise would choose
SECONDS = "MUTRANSFER_CALIBRATION_SECONDS"  # in the environment: of measuring, instead of 10
SIZES = 6  # of runs that are measured, at most
MIN_STEPS = 4  # of a measured run
SLOW = {"cpu": 3e10, "cuda": 1e12}  # FLOP/s, guessed from below: what is too large at it is tried in smaller batches
MEASURE = "mutransfer.runs.cost:measure"


@dataclass(frozen=True, kw_only=True)
class Point:
    """What runs of one size took, while all workers ran that size."""

    width: int
    flops: float  # a step
    step_seconds: float
    fixed_seconds: float  # of a run, besides its steps: making the model, evaluation
    peak_memory_mib: float  # of the worker


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Seconds that a run takes on this machine with all workers busy, as a function of its FLOPs a step."""

    measured: str  # when, UTC
    machine: str
    engine: str
    workers: int
    start_seconds: float  # until the workers train
    points: Mapping[str, Sequence[Point]]  # by precision; by rising FLOPs, never empty
    flops: Flops = field(compare=False, repr=False)

    def seconds(self, spec: RunSpec, precision: str | None = None) -> float:
        """Of one run that does not diverge. Raises `KeyError` for a precision that was not measured.

        Between two measured sizes a power law in the FLOPs a step; outside of them constant FLOP/s.
        """
        points, size = self.points[precision or spec.precision], self.flops(spec) / spec.steps
        return spec.steps * _interpolate("step_seconds", points, size) + _interpolate("fixed_seconds", points, size)

    def mib(self, spec: RunSpec) -> float:
        """Peak memory of the worker of one run: as measured, between two sizes by a power law in the FLOPs a step.

        Above the largest, what it has more than the smallest grows with the FLOPs. Raises as `seconds` does.
        """
        points = self.points[spec.precision]
        first, last = points[0], points[-1]
        size, least = max(first.flops, self.flops(spec) / spec.steps), first.peak_memory_mib
        if size <= last.flops:
            return _interpolate("peak_memory_mib", points, size)
        floor = least if len(points) > 1 else 0.0
        return floor + (last.peak_memory_mib - floor) * size / last.flops

    def sweep_seconds(self, specs: Iterable[RunSpec], precision: str | None = None) -> float:
        """Of a whole sweep, longest runs first, the start of its workers included."""
        ends = [0.0] * self.workers
        for seconds in sorted((self.seconds(s, precision) for s in specs), reverse=True):
            heapq.heapreplace(ends, ends[0] + seconds)
        return self.start_seconds + max(ends)

    def describe(self, specs: Sequence[RunSpec]) -> str:
        """When, on what and how fast, by width; names the widths of ``specs`` that are extrapolated."""
        text = f"measured {self.measured} on {self.machine}: {self.workers} {self.engine} worker"
        text += f"{'s, all busy' if self.workers > 1 else ''}; GFLOP/s of one: " + "; ".join(
            f"{name} {', '.join(f'{p.flops / p.step_seconds / 1e9:.3g} at width {p.width}' for p in points)}"
            for name, points in self.points.items()
        )
        largest = self.points[specs[0].precision][-1]
        beyond = sorted({s.width for s in specs if self.flops(s) / s.steps > 1.01 * largest.flops})
        more = f"; extrapolated from width {largest.width} by FLOPs: {', '.join(map(str, beyond))}"
        return text + (more if beyond else "")


def _interpolate(name: str, points: Sequence[Point], flops: float) -> float:
    """A field of ``points``: linear in the logarithms between two of them, proportional outside."""
    i = bisect_left(points, flops, key=lambda p: p.flops)
    x, y = points[max(i - 1, 0)], points[min(i, len(points) - 1)]
    if x is y:
        return float(getattr(x, name) * flops / x.flops)
    share = math.log(flops / x.flops) / math.log(y.flops / x.flops)
    return float(getattr(x, name) ** (1 - share) * getattr(y, name) ** share)


def fastest(calibration: Calibration | None, specs: Sequence[RunSpec]) -> str:
    """The precision for all of ``specs``: bfloat16 if it makes the whole plan faster by `FASTER`, else float32.

    One for all, since precisions that change with width would confound the comparison of widths.
    """
    if calibration is None or not {"float32", "bfloat16"} <= set(calibration.points):
        return "float32"
    times = {name: calibration.sweep_seconds(specs, name) for name in ("float32", "bfloat16")}
    return "bfloat16" if times["float32"] >= FASTER * times["bfloat16"] else "float32"


def calibrate(
    specs: Sequence[RunSpec],
    dataset: Any,
    runner: str,
    *,
    engine: Engine,
    flops: Flops,
    path: Path | None = None,
    precisions: Sequence[str] = ("float32",),
    say: Callable[[str], None] = lambda line: None,
) -> Calibration | None:
    """Measure ``engine`` on a few sizes of ``specs``, cut to few steps, with all its workers busy; or read ``path``.

    It takes 10 seconds, or what the variable `SECONDS` says, and the start of the workers. What was measured before
    on the same machine, torch, engine, workers, batch, sizes and precisions is taken from ``path``; a file that is
    damaged, or cannot be written, only costs the time to measure again. A size too large to be stepped in that time is
    left to extrapolation; if all are, smaller batches of the smallest are stepped.

    Args:
        runner, dataset: as for the engine.
        say: called with a line before a measurement, and when nothing could be measured.

    Returns:
        None if no run could be measured: the runs raise, or one step takes too long.
    """
    import torch

    seconds, devices = float(os.environ.get(SECONDS, 10)), sorted(set(engine.devices))
    probes = _probes(specs, flops, SLOW[devices[-1].split(":")[0]] * seconds / (4 * MIN_STEPS))
    if not probes:
        return None
    first, sizes = probes[0], [flops(s) / s.steps for s in probes]
    machine = [*dict.fromkeys(map(device_name, devices)), f"{os.cpu_count()} cores"]
    what = [machine, torch.__version__, git_commit(), first.experiment, first.variant, engine.name, engine.workers]
    key = hashlib.sha256(json.dumps([*what, first.batch, sizes, [*precisions]]).encode()).hexdigest()
    kept: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        kept.update(json.loads(path.read_bytes()) if path else {})
        points = {name: [Point(**p) for p in row] for name, row in kept[key]["points"].items()}
        return Calibration(**{**kept[key], "points": points, "flops": flops})
    say(f"measuring this machine for {seconds:g} seconds, on runs of {first.experiment}")
    texts = {p: [replace(s, precision=p).to_json() for s in probes] for p in precisions}
    task = json.dumps({"runner": runner, "seconds": seconds, "probes": texts, "flops": sizes})
    # One job a worker, so that all measure the same size at the same time; and as each costs more than all that follow,
    # none is queued behind another while a worker is still to come.
    jobs = [replace(first, hps=(("calibration", task),), seed=i) for i in range(engine.workers)]
    records: list[RunRecord] = []
    begin = time.perf_counter()
    schedule(engine.backend(MEASURE, dataset), jobs, on_records=records.extend, cost=lambda s: 2.0**-s.seed)
    elapsed = time.perf_counter() - begin
    answers = [json.loads(r.provenance["calibration"]) for r in records if r.is_done]
    measured = {p: [*map(_mean, zip(*(answer["measured"][p] for answer in answers), strict=False))] for p in precisions}
    points = {name: row for name, row in measured.items() if row}
    if not points:
        reasons = [r.reason for r in records if not r.is_done] + [answer["reason"] for answer in answers]
        say(f"this machine could not be measured: {next(filter(None, reasons), 'its runs take too long')}")
        return None
    facts = {
        "measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": ", ".join(machine),
        "engine": engine.name,
        "workers": engine.workers,
        "start_seconds": elapsed - max(answer["seconds"] for answer in answers),
    }
    kept[key] = {**facts, "points": {name: [asdict(p) for p in row] for name, row in points.items()}}
    try:
        if path is not None:
            write(path, (json.dumps(kept, indent=1) + "\n").encode())
    except UserError as error:
        say(f"the measurement is not kept: {error}")
    return Calibration(**facts, points=points, flops=flops)


def _mean(points: Sequence[Mapping[str, Any]]) -> Point:
    # harmonic: of workers that differ in speed, the sum of the speeds counts
    return Point(**{name: statistics.harmonic_mean([p[name] for p in points]) for name in points[0]})


def _probes(specs: Sequence[RunSpec], flops: Flops, most: float) -> list[RunSpec]:
    """Up to `SIZES` runs from the smallest to the largest, the batch halved until a step of the smallest is affordable.

    most: FLOPs that are.
    """
    # of each size the lowest rate, which comes last: it diverges least
    by_size = {flops(s) / s.steps: s for s in sorted(specs, key=lambda s: s.log2_lr, reverse=True)}
    sizes = sorted(by_size)
    chosen = sorted({round(i * (len(sizes) - 1) / (SIZES - 1)) for i in range(SIZES)}) if sizes else []
    probes = [by_size[sizes[i]] for i in chosen]
    while probes and flops(probes[0]) / probes[0].steps > most:
        if probes[0].batch == 1:
            return []
        probes = [replace(s, batch=max(1, s.batch // 2)) for s in probes]
    return probes


def measure(spec: RunSpec, dataset: Any, **options: Any) -> RunRecord:
    """The runner of a calibration: runs what the carrier ``spec`` names, as many steps as there is time for."""
    task = json.loads(str(spec.hp("calibration")))
    run = partial(resolve(task["runner"]), dataset=dataset, **options)
    begin, reason = time.perf_counter(), ""
    measured: dict[str, list[dict[str, float]]] = {}  # as `Point`
    for precision, texts in task["probes"].items():
        row = measured[precision] = []
        try:
            probes = [RunSpec.from_json(text) for text in texts]
            run(_cut(probes[0], MIN_STEPS))  # the first run of its kind warms the process up
            begin = begin if len(measured) > 1 else time.perf_counter()
            end = time.perf_counter() + task["seconds"] / len(task["probes"])
            for i, (probe, size) in enumerate(zip(probes, task["flops"], strict=True)):
                left = end - time.perf_counter()
                if row:  # the shortest run of this size, at the FLOP/s of the last
                    last = row[-1]
                    if last["fixed_seconds"] + MIN_STEPS * last["step_seconds"] * size / last["flops"] > left:
                        break
                if "device" in options:  # a GPU loads the kernels of every size at their first use
                    run(_cut(probe, MIN_STEPS))
                row.append({"width": probe.width, "flops": size, **_times(run, probe, left / (len(probes) - i))})
        except Exception as error:
            reason = one_line(error)
    answer = {"seconds": time.perf_counter() - begin, "measured": measured, "reason": reason}
    return RunRecord(spec=spec, status="finished", train_loss=0.0, provenance={"calibration": json.dumps(answer)})


def _times(run: Callable[[RunSpec], RunRecord], spec: RunSpec, seconds: float) -> dict[str, float]:
    """What `Point` has of times and memory, by a short run and a long one within ``seconds``.

    Their difference leaves out what a run starts with.
    """
    end = time.perf_counter() + seconds
    short: tuple[int, float] | None = None  # steps, seconds of them
    steps = MIN_STEPS
    while True:
        begin = time.perf_counter()
        record = run(_cut(spec, steps))
        now = time.perf_counter()
        done, took = record.steps_done, record.wall_seconds
        if not (done and took > 0 and record.peak_memory_mib > 0):
            raise ValueError(record.reason or "its record lacks steps, seconds or memory")
        step = took / done
        if short and done > short[0] and took > short[1]:
            step = (took - short[1]) / (done - short[0])
        short = short or (done, took)
        fixed = max(now - begin - done * step, 1e-6)
        is_long = steps > MIN_STEPS and now - begin > (end - begin) / 2
        steps = int(min((end - now - fixed) / step, spec.steps))
        if is_long or done == spec.steps or steps < 4 * MIN_STEPS:
            return {"step_seconds": step, "fixed_seconds": fixed, "peak_memory_mib": record.peak_memory_mib}


def _cut(spec: RunSpec, steps: int) -> RunSpec:
    return replace(spec, steps=min(steps, spec.steps))


# Dense peak FLOP/s (without structured sparsity), SXM modules. "float32" is what torch multiplies float32 with by
# default; "tf32" needs torch.set_float32_matmul_precision("high"). Sources: NVIDIA's datasheets of the V100 (2018) and
# A100 (2021); "GPU peak rates" of its H100 architecture whitepaper (2022): the datasheet doubles the last two.
PEAKS = {"V100: float32": 15.7e12, "A100: float32": 19.5e12, "A100: tf32": 156e12, "A100: bfloat16": 312e12}
PEAKS |= {"H100: float32": 66.9e12, "H100: tf32": 494.7e12, "H100: bfloat16": 989.4e12}
# What well-tuned training of models with large matrices reaches of the peak on tensor cores (PaLM 46%, Llama 3 38-43%).
UTILISATION = 0.4


def device_hours(specs: Iterable[RunSpec], flops: Flops) -> str:
    """Hours of one GPU that ``specs`` take at `UTILISATION` of its peak, one line per GPU and precision.

    A bound from below: launching kernels, not arithmetic, limits narrow models, which stay far under it.
    """
    totals = Counter[str]()
    for spec in specs:
        totals[spec.precision] += flops(spec)  # type: ignore[assignment]
    lines = [f"device-hours, at least: {UTILISATION:.0%} of the published dense peak, which narrow models do not reach"]
    for name, peak in PEAKS.items():
        if total := totals[name.split()[1].replace("tf32", "float32")]:
            lines.append(f"  {name} {total / (UTILISATION * peak) / 3600:,.3g} h ({peak / 1e12:g} TFLOP/s)")
    return "\n".join(lines)


def plan_table(
    specs: Sequence[RunSpec], flops: Flops, *, calibration: Calibration | None = None, notes: Sequence[str] = ()
) -> str:
    """A table, one row per parametrization and width, with the totals; then how it was measured, and ``notes``.

    Args:
        calibration: of this machine, for memory and minutes; without it, or a precision that it lacks, they are "?".
        notes: lines to print below, such as a tuning cost.
    """
    if calibration and not {s.precision for s in specs} <= set(calibration.points):
        calibration = None
    groups: dict[tuple[str, int], list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault((spec.parametrization, spec.width), []).append(spec)

    def row(runs: Sequence[RunSpec], seconds: Callable[[Calibration], float], *cells: object) -> list[str]:
        """``cells``, and what ``runs`` take: the memory of the largest, the time of all workers together."""
        known = ["?", "?"]
        if calibration:
            known = [f"{max(map(calibration.mib, runs)):,.0f}", f"{seconds(calibration) / 60:,.1f}"]
        return [*map(str, cells), f"{sum(map(flops, runs)):.3g}", *known]

    rows = [["parametrization", "width", "log2 LR", "seeds", "runs", "steps", "FLOPs", "MiB per run", "minutes"]]
    for (name, width), runs in sorted(groups.items(), key=lambda g: (g[0][0] != "sp", *g[0])):
        rates, steps = _range([s.log2_lr for s in runs]), _range([s.steps for s in runs])
        cells = [name, width, rates, len({s.seed for s in runs}), len(runs), steps]
        rows.append(row(runs, lambda c, runs=runs: sum(map(c.seconds, runs)) / c.workers, *cells))  # type: ignore[misc]
    rows.append(row(specs, lambda c: c.sweep_seconds(specs), "total", "", "", "", len(specs), ""))
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.rjust, cells, sizes)) for cells in rows]
    if calibration and specs:
        lines.append(f"minutes: {calibration.describe(specs)}")
        lines.append("MiB per run: the peak of its worker, with the pages of the data set that all workers share")
    return "\n".join([*lines, *notes])


def _range(values: Sequence[float]) -> str:
    """``-8..-2``, or the value if there is one."""
    low, high = f"{min(values):g}", f"{max(values):g}"
    return low if low == high else f"{low}..{high}"
