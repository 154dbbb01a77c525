"""What a plan costs: how fast this machine is on an experiment's runs, measured once, and what follows for a plan."""

from __future__ import annotations

import hashlib
import heapq
import json
import math
import os
import statistics
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mutransfer.errors import UserError
from mutransfer.files import write
from mutransfer.runs.engine import Engine, schedule
from mutransfer.runs.worker import one_line, resolve
from mutransfer.training.provenance import device_name, git_commit
from mutransfer.training.spec import RunRecord, RunSpec

Flops = Callable[[RunSpec], float]
FASTER = 1.1  # bfloat16 is chosen from this speedup of the whole plan on: below, noise would choose
SECONDS = "MUTRANSFER_CALIBRATION_SECONDS"  # in the environment: of measuring, instead of 10
SIZES = 6  # of runs that are measured, at most
MIN_STEPS = 4  # of a measured run
SLOW = {"cpu": 3e10, "cuda": 1e12}  # FLOP/s, guessed from below: what is too large at it is tried in smaller batches
VERSION = 2  # of the file
MEASURE = "mutransfer.runs.cost:measure"
_Times = tuple[float, float, float]  # seconds a step, seconds besides, peak memory in MiB


@dataclass(frozen=True, kw_only=True)
class Point:
    """What runs of one size took, while all workers ran that size."""

    width: int
    flops: float  # a step
    step_seconds: float
    fixed_seconds: float  # of a run, besides its steps: making the model, evaluation
    peak_memory_mib: float  # of the worker

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

    def mib(self, spec: RunSpec) -> float:
        """Peak memory of the worker of one run: as measured, between two sizes by a power law in the FLOPs a step.

        Above the largest, what it has more than the smallest grows with the FLOPs. Raises as `seconds` does.
        """
        points = self.points[spec.precision]
        size, sizes, peaks = (
            self.flops(spec) / spec.steps,
            [p.flops for p in points],
            [p.peak_memory_mib for p in points],
        )
        if size >= sizes[-1]:
            return (
                peaks[0] + (peaks[-1] - peaks[0]) * size / sizes[-1] if len(points) > 1 else peaks[0] * size / sizes[0]
            )
        return max(peaks[0], _interpolate(size, sizes, peaks))

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


def _interpolate(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """Linear in the logarithms between two points, proportional outside."""
    if x <= xs[0] or x >= xs[-1]:
        i = 0 if x <= xs[0] else -1
        return ys[i] * x / xs[i]
    i = bisect_left(xs, x)
    share = math.log(x / xs[i - 1]) / math.log(xs[i] / xs[i - 1])
    return ys[i - 1] * (ys[i] / ys[i - 1]) ** share


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
    memory: Callable[[RunSpec], float] | None = None,
    path: Path | None = None,
    precisions: Sequence[str] = ("float32",),
    seconds: float | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Calibration | None:
    """Measure ``engine`` on a few sizes of ``specs``, cut to few steps, with all its workers busy; or read ``path``.

    What was measured before on the same machine, torch, engine, workers, batch and sizes is taken from ``path``; a
    file that is damaged, or cannot be written, only costs the time to measure again. A size that is too large to
    be stepped in ``seconds`` is left to extrapolation; if all are, smaller batches of the smallest are stepped.

    Args:
        runner, dataset: as for the engine.
        flops: of a whole run.
        memory: bytes that a run adds to a worker's; without it `Calibration.floor_mib` has the smallest run's in it.
        seconds: of measuring, in all (default: what the variable `SECONDS` says, or 10); the start of the workers
            comes on top.
        say: called with a line before a measurement, and when nothing could be measured.

    Returns:
        None if no run could be measured: the runs raise, or one step takes too long.
    """
    import torch

    seconds = float(os.environ.get(SECONDS, 10)) if seconds is None else seconds
    devices = sorted(set(engine.devices))
    probes = _probes(specs, flops, SLOW[devices[-1].split(":")[0]] * seconds / (4 * MIN_STEPS))
    if not probes:
        return None
    first, sizes = probes[0], [flops(s) / s.steps for s in probes]
    machine = [*map(device_name, devices), f"{os.cpu_count()} cores"]
    key = [machine, torch.__version__, git_commit(), first.experiment, first.variant, engine.name, engine.workers]
    key += [first.batch, sizes]

    def asked(values: Mapping[str, Any]) -> Calibration | None:
        """The calibration in an entry; None if it has none of ``precisions``: those that raised are asked in vain."""
        points = {name: tuple(Point(**p) for p in row) for name, row in values["points"].items()}
        return Calibration(**{**values, "points": points, "flops": flops}) if set(precisions) & set(points) else None

    entries = _kept(path)
    for entry in entries:
        if entry["key"] == key and set(precisions) <= set(entry["precisions"]):
            return asked(entry["calibration"])
    say(f"measuring this machine for {seconds:g} seconds, on runs of {first.experiment}")
    start_seconds, points, reason = _measure(probes, sizes, dataset, runner, engine, precisions, seconds)
    if not points:
        say(f"this machine could not be measured: {reason}")
        return None
    precision, (smallest, *_) = next(iter(points.items()))  # it ran first, so that its peak is the peak until then
    own = memory(replace(first, precision=precision)) / 2**20 if memory else 0.0
    calibration = {
        "measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": ", ".join([*dict.fromkeys(machine)]),
        "engine": engine.name,
        "workers": engine.workers,
        "start_seconds": start_seconds,
        "floor_mib": max(0.0, smallest.peak_memory_mib - own),
        "points": {name: [asdict(p) for p in row] for name, row in points.items()},
    }
    entry = {"key": key, "precisions": [*precisions], "calibration": calibration}
    entries = [*(e for e in entries if e["key"] != key), {**entry, "sha256": _sha256(entry)}]
    if path is not None:
        try:
            write(path, (json.dumps({"entries": entries}, indent=1) + "\n").encode())
        except UserError as error:
            say(f"the measurement is not kept: {error}")
    return asked(calibration)


def _kept(path: Path | None) -> list[dict[str, Any]]:
    """The entries of the file that are as they were written; none if it is missing, damaged or of another version."""
    try:
        entries = json.loads(path.read_bytes())["entries"] if path else []
        return [e for e in entries if e["sha256"] == _sha256({k: v for k, v in e.items() if k != "sha256"})]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return []


def _sha256(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([VERSION, entry], sort_keys=True).encode()).hexdigest()


def _probes(specs: Sequence[RunSpec], flops: Flops, most: float) -> list[RunSpec]:
    """Up to `SIZES` runs from the smallest to the largest, the batch halved until a step of the smallest is affordable.

    most: FLOPs that are.
    """
    by_size: dict[float, RunSpec] = {}
    for spec in sorted(specs, key=lambda s: s.log2_lr, reverse=True):  # the lowest rate is the last: it diverges least
        by_size[flops(spec) / spec.steps] = spec
    sizes = sorted(by_size)
    chosen = sorted({round(i * (len(sizes) - 1) / (SIZES - 1)) for i in range(SIZES)}) if sizes else []
    probes = [by_size[sizes[i]] for i in chosen]
    while probes and flops(probes[0]) / probes[0].steps > most:
        if probes[0].batch == 1:
            return []
        probes = [replace(s, batch=max(1, s.batch // 2)) for s in probes]
    return probes


def _measure(
    probes: Sequence[RunSpec],
    sizes: Sequence[float],
    dataset: Any,
    runner: str,
    engine: Engine,
    precisions: Sequence[str],
    seconds: float,
) -> tuple[float, dict[str, list[Point]], str]:
    """(seconds until workers train, points by precision, why there are none); sizes: FLOPs a step of the probes."""
    texts = [[replace(s, precision=p).to_json() for s in probes] for p in precisions]
    task = {"runner": runner, "seconds": seconds, "probes": texts, "flops": sizes}
    # One job a worker, so that all measure the same size at the same time; and as each costs more than all that follow,
    # none is queued behind another while a worker is still to come.
    jobs = [replace(probes[0], hps=(("calibration", json.dumps(task)),), seed=i) for i in range(engine.workers)]
    records: list[RunRecord] = []
    begin = time.perf_counter()
    schedule(engine.backend(MEASURE, dataset), jobs, on_records=records.extend, cost=lambda s: 2.0**-s.seed)
    elapsed = time.perf_counter() - begin
    answers = [json.loads(r.provenance["calibration"]) for r in records if r.is_done]
    points: dict[str, list[Point]] = {}
    for i, precision in enumerate(precisions):
        for j, (spec, size) in enumerate(zip(probes, sizes, strict=True)):
            if taken := [times for answer in answers if (times := answer["measured"][i][j])]:
                # harmonic: of workers that differ in speed, the sum of the speeds counts
                step, besides = (statistics.harmonic_mean([times[k] for times in taken]) for k in (0, 1))
                memory = max(times[2] for times in taken)
                point = Point(
                    width=spec.width, flops=size, step_seconds=step, fixed_seconds=besides, peak_memory_mib=memory
                )
                points.setdefault(precision, []).append(point)
    reasons = [r.reason for r in records if not r.is_done] + [answer["reason"] for answer in answers]
    start_seconds = elapsed - max((answer["seconds"] for answer in answers), default=0.0)
    return start_seconds, points, next(filter(None, reasons), "its runs take too long")


def measure(spec: RunSpec, dataset: Any, **options: Any) -> RunRecord:
    """The runner of a calibration: runs what the carrier ``spec`` names, as many steps as there is time for."""
    task = json.loads(str(spec.hp("calibration")))
    run = resolve(task["runner"])
    begin, reason = time.perf_counter(), ""
    measured: list[list[_Times | None]] = []
    for texts in task["probes"]:
        row: list[_Times] = []
        try:
            probes = [RunSpec.from_json(text) for text in texts]
            run(_cut(probes[0], MIN_STEPS), dataset, **options)  # the first run of its kind warms the process up
            begin = begin if measured else time.perf_counter()
            end = time.perf_counter() + task["seconds"] / len(task["probes"])
            for probe, size in zip(probes, task["flops"], strict=True):
                left = end - time.perf_counter()
                if row and _least_seconds(row, task["flops"], size) > left:
                    break
                if "device" in options:  # a GPU loads the kernels of every size at their first use
                    run(_cut(probe, MIN_STEPS), dataset, **options)
                row.append(_times(run, probe, dataset, options, left / (len(probes) - len(row))))
        except Exception as error:
            reason = one_line(error)
        measured.append([*row, *[None] * (len(texts) - len(row))])
    answer = {"seconds": time.perf_counter() - begin, "measured": measured, "reason": reason}
    return RunRecord(spec=spec, status="finished", train_loss=0.0, provenance={"calibration": json.dumps(answer)})


def _least_seconds(row: Sequence[_Times], sizes: Sequence[float], size: float) -> float:
    """Of the shortest run of the next ``size``: on the line through the last two, or at the FLOP/s of the only one."""
    now = row[-1][1] + MIN_STEPS * row[-1][0]
    if len(row) == 1:
        return now * size / sizes[0]
    before, (x, y) = row[-2][1] + MIN_STEPS * row[-2][0], sizes[len(row) - 2 : len(row)]
    return now + max(0.0, now - before) * (size - y) / (y - x)


def _times(
    run: Callable[..., RunRecord], spec: RunSpec, dataset: Any, options: Mapping[str, Any], seconds: float
) -> _Times:
    """Of a short run and a long one within ``seconds``: their difference leaves out what a run starts with."""
    end = time.perf_counter() + seconds
    short: tuple[int, float] | None = None  # steps, seconds of them
    steps = MIN_STEPS
    while True:
        begin = time.perf_counter()
        record = run(_cut(spec, steps), dataset, **options)
        now = time.perf_counter()
        done, took = record.steps_done, record.wall_seconds
        if not (done and took > 0 and record.peak_memory_mib > 0):
            raise ValueError(record.reason or "its record lacks steps, seconds or memory")
        step = took / done
        if short and done > short[0] and took > short[1]:
            step = (took - short[1]) / (done - short[0])
        short = short or (done, took)
        besides = max(now - begin - done * step, 1e-6)
        is_long = steps > MIN_STEPS and now - begin > (end - begin) / 2
        steps = int(min((end - now - besides) / step, spec.steps))
        if is_long or done == spec.steps or steps < 4 * MIN_STEPS:
            return step, besides, record.peak_memory_mib


def _cut(spec: RunSpec, steps: int) -> RunSpec:
    return replace(spec, steps=min(steps, spec.steps))


# Dense peak FLOP/s (without structured sparsity), SXM modules. "float32" is what torch multiplies float32 with by
# default; "tf32" needs torch.set_float32_matmul_precision("high"). The V100 has neither TF32 nor bfloat16.
#   V100: NVIDIA Tesla V100 datasheet (2018), SXM2. A100: NVIDIA A100 datasheet (2021). H100: NVIDIA H100 architecture
#   whitepaper (2022), table "GPU peak rates", SXM5; its datasheet doubles the last two, for sparsity.
PEAKS: dict[str, dict[str, float]] = {
    "V100": {"float32": 15.7e12},
    "A100": {"float32": 19.5e12, "tf32": 156e12, "bfloat16": 312e12},
    "H100": {"float32": 66.9e12, "tf32": 494.7e12, "bfloat16": 989.4e12},
}
# What well-tuned training of models with large matrices reaches of the peak on tensor cores (PaLM 46%, Llama 3 38-43%).
UTILISATION = 0.4


def device_hours(specs: Iterable[RunSpec], flops: Callable[[RunSpec], float]) -> str:
    """Hours of one GPU that ``specs`` take at `UTILISATION` of its peak, one line per GPU.

    A bound from below: launching kernels, not arithmetic, limits narrow models, which stay far under it.
    """
    by_precision: dict[str, float] = {}
    for spec in specs:
        by_precision[spec.precision] = by_precision.get(spec.precision, 0.0) + flops(spec)
    lines = [f"device-hours, at least: {UTILISATION:.0%} of the published dense peak, which narrow models do not reach"]
    for gpu, peaks in PEAKS.items():
        cells = []
        for precision, total in by_precision.items():
            for name in (precision, "tf32") if precision == "float32" else (precision,):
                if name in peaks:
                    hours = total / (UTILISATION * peaks[name]) / 3600
                    cells.append(f"{name} {hours:,.3g} h ({peaks[name] / 1e12:g} TFLOP/s)")
        lines.append(f"  {gpu}: {', '.join(cells) or 'has no ' + ' or '.join(by_precision)}")
    return "\n".join(lines)


def plan_table(
    specs: Sequence[RunSpec],
    flops: Callable[[RunSpec], float],
    *,
    calibration: Calibration | None = None,
    memory: Callable[[RunSpec], float] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """A table, one row per parametrization and width, with the totals; then how it was measured, and ``notes``.

    Args:
        flops: floating-point operations of one run.
        calibration: of this machine, for the minutes; without it, or for a precision that it lacks, they are "?".
        memory: bytes that one run adds to a worker's; without it `Calibration.mib`, or "?".
        notes: lines to print below, such as a tuning cost.
    """
    if calibration and not {s.precision for s in specs} <= set(calibration.points):
        calibration = None
    floor = calibration.floor_mib if calibration else 0.0
    groups: dict[tuple[str, int], list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault((spec.parametrization, spec.width), []).append(spec)

    def row(runs: Sequence[RunSpec], seconds: float | None, *cells: object) -> list[str]:
        """``cells``, and what ``runs`` take: the memory of the largest, the time of all workers together."""
        peaks = (
            [memory(spec) / 2**20 + floor for spec in runs]
            if memory
            else [*map(calibration.mib, runs)]
            if calibration
            else []
        )
        mib = f"{max(peaks):,.0f}" if peaks else "?"
        minutes = "?" if seconds is None else f"{seconds / 60:,.1f}"
        return [*map(str, cells), f"{sum(map(flops, runs)):.3g}", mib, minutes]

    rows = [["parametrization", "width", "log2 LR", "seeds", "runs", "steps", "FLOPs", "MiB a run", "minutes"]]
    for (name, width), runs in sorted(groups.items(), key=lambda g: (g[0][0] != "sp", *g[0])):
        seconds = sum(map(calibration.seconds, runs)) / calibration.workers if calibration else None
        rates, steps = _range([s.log2_lr for s in runs]), _range([s.steps for s in runs])
        rows.append(row(runs, seconds, name, width, rates, len({s.seed for s in runs}), len(runs), steps))
    seconds = calibration.sweep_seconds(specs) if calibration else None
    rows.append(row(specs, seconds, "total", "", "", "", len(specs), ""))
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.rjust, cells, sizes)) for cells in rows]
    if calibration and specs:
        lines.append(f"minutes: {calibration.describe(specs)}")
        lines.append("MiB a run: the peak of its worker, with the pages of the data set that all workers share")
    return "\n".join([*lines, *notes])


def _range(values: Sequence[float]) -> str:
    """``-8..-2``, or the value if there is one."""
    low, high = f"{min(values):g}", f"{max(values):g}"
    return low if low == high else f"{low}..{high}"
