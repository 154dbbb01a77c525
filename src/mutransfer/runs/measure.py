"""Measures how fast this machine is on an experiment's own runs, once, and keeps it in a file."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mutransfer.errors import UserError
from mutransfer.files import write
from mutransfer.runs.calibration import Calibration, Flops, Point
from mutransfer.runs.worker import one_line, resolve
from mutransfer.training.provenance import device_name, git_commit
from mutransfer.training.spec import RunRecord, RunSpec

if TYPE_CHECKING:
    from mutransfer.runs.engine import Engine

SECONDS = 10.0  # of measuring
SIZES = 6  # of runs that are measured, at most
MIN_STEPS = 4  # of a measured run
SLOW = {"cpu": 3e10, "cuda": 1e12}  # FLOP/s, guessed from below: what is too large at it is tried in smaller batches
VERSION = 1  # of the file
_Times = tuple[float, float, float]  # seconds a step, seconds besides, peak memory in MiB
MEASURE = "mutransfer.runs.measure:measure"


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
        seconds: of measuring, in all (default: `SECONDS`); the start of the workers comes on top.
        say: called with a line before a measurement, and when nothing could be measured.

    Returns:
        None if no run could be measured: the runs raise, or one step takes too long.
    """
    seconds = SECONDS if seconds is None else seconds
    devices = sorted(set(engine.devices))
    slow = SLOW[devices[-1].split(":")[0]]
    probes = _probes(specs, flops, slow * seconds / (4 * MIN_STEPS))
    if not probes:
        return None
    key: dict[str, Any] = {
        "machine": [*map(device_name, devices), f"{os.cpu_count()} cores"],
        "torch": torch.__version__,
        "commit": git_commit(),
        "experiment": probes[0].experiment,
        "variant": probes[0].variant,
        "engine": engine.name,
        "workers": engine.workers,
        "batch": probes[0].batch,
        "flops": [flops(s) / s.steps for s in probes],
    }
    entries = _read(path)
    for entry in entries:
        with contextlib.suppress(KeyError, TypeError, ValueError):  # damaged
            if entry["key"] == key and set(precisions) <= set(entry["precisions"]):
                return _covering(Calibration.from_dict(entry["calibration"], flops), precisions)
    say(f"measuring this machine for {seconds:g} seconds, on runs of {probes[0].experiment}")
    start_seconds, points, reason = _measure(probes, dataset, runner, engine, flops, precisions, seconds)
    if not points:
        say(f"this machine could not be measured: {reason}")
        return None
    calibration = Calibration(
        measured=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=", ".join([*dict.fromkeys(key["machine"])]),
        engine=engine.name,
        workers=engine.workers,
        start_seconds=start_seconds,
        floor_mib=_floor(points, probes, memory),
        points=points,
        flops=flops,
    )
    entry = {"key": key, "precisions": [*precisions], "calibration": calibration.to_dict()}
    content = {"version": VERSION, "entries": [*(e for e in entries if e.get("key") != key), entry]}
    if path is not None:
        try:
            write(path, (json.dumps(content, indent=1) + "\n").encode())
        except UserError as error:
            say(f"the measurement is not kept: {error}")
    return _covering(calibration, precisions)


def _probes(specs: Sequence[RunSpec], flops: Flops, most: float) -> list[RunSpec]:
    """Up to `SIZES` runs from the smallest to the largest, the batch halved until a step of the smallest is affordable.

    most: FLOPs that are.
    """
    by_size: dict[float, RunSpec] = {}
    for spec in sorted(specs, key=lambda s: s.log2_lr, reverse=True):  # the lowest rate is the last: it diverges least
        by_size[flops(spec) / spec.steps] = spec
    sizes = sorted(by_size)
    last = len(sizes) - 1
    chosen = sorted({round(i * last / (SIZES - 1)) for i in range(SIZES)}) if sizes else []
    probes = [by_size[sizes[i]] for i in chosen]
    while probes and flops(probes[0]) / probes[0].steps > most:
        if probes[0].batch == 1:
            return []
        probes = [replace(s, batch=max(1, s.batch // 2)) for s in probes]
    return probes


def _measure(
    probes: Sequence[RunSpec],
    dataset: Any,
    runner: str,
    engine: Engine,
    flops: Flops,
    precisions: Sequence[str],
    seconds: float,
) -> tuple[float, dict[str, tuple[Point, ...]], str]:
    """(seconds until workers train, points by precision, why there are none)."""
    task: dict[str, Any] = {
        "runner": runner,
        "seconds": seconds,
        "probes": [[replace(s, precision=p).to_json() for s in probes] for p in precisions],
        "flops": [flops(s) / s.steps for s in probes],
    }
    # One job a worker, so that all measure the same size at the same time; and as each costs more than all that follow,
    # none is queued behind another while a worker is still to come.
    carrier = replace(probes[0], hps=(("calibration", json.dumps(task)),))
    records: list[RunRecord] = []
    begin = time.perf_counter()
    jobs = [replace(carrier, seed=i) for i in range(engine.workers)]
    engine.run(jobs, MEASURE, dataset, on_records=records.extend, cost=lambda s: 2.0**-s.seed)
    elapsed = time.perf_counter() - begin
    answers = [json.loads(r.provenance["calibration"]) for r in records if r.is_done]
    points = {}
    for i, precision in enumerate(precisions):
        if found := _points(probes, task["flops"], [answer["measured"][i] for answer in answers]):
            points[precision] = found
    reasons = [r.reason for r in records if not r.is_done] + [answer["reason"] for answer in answers]
    start_seconds = elapsed - max((answer["seconds"] for answer in answers), default=0.0)
    return start_seconds, points, next(filter(None, reasons), "its runs take too long")


def _points(
    probes: Sequence[RunSpec], sizes: Sequence[float], rows: Sequence[Sequence[_Times | None]]
) -> tuple[Point, ...]:
    """Of the sizes that a worker could measure; a row is one worker's."""
    points = []
    for i, (spec, size) in enumerate(zip(probes, sizes, strict=True)):
        if taken := [times for row in rows if (times := row[i])]:
            # harmonic: of workers that differ in speed, the sum of the speeds counts
            step, besides = (statistics.harmonic_mean([times[k] for times in taken]) for k in (0, 1))
            memory = max(times[2] for times in taken)
            points.append(
                Point(width=spec.width, flops=size, step_seconds=step, fixed_seconds=besides, peak_memory_mib=memory)
            )
    return tuple(points)


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
    found = {"seconds": time.perf_counter() - begin, "measured": measured, "reason": reason}
    return RunRecord(spec=spec, status="finished", train_loss=0.0, provenance={"calibration": json.dumps(found)})


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


def _floor(
    points: Mapping[str, Sequence[Point]], probes: Sequence[RunSpec], memory: Callable[[RunSpec], float] | None
) -> float:
    """MiB of a worker besides what its run adds; the smallest run ran first, so that it is the peak until then."""
    precision, found = next(iter(points.items()))
    own = memory(replace(probes[0], precision=precision)) if memory else 0.0
    return max(0.0, found[0].peak_memory_mib - own / 2**20)


def _covering(calibration: Calibration, precisions: Sequence[str]) -> Calibration | None:
    """``calibration`` if it knows one of ``precisions``: those that raised are asked for in vain."""
    return calibration if set(precisions) & set(calibration.points) else None


def _read(path: Path | None) -> list[dict[str, Any]]:
    """What is in the file; nothing if it is missing, damaged or of another version."""
    try:
        content = json.loads(path.read_bytes()) if path else {}
        return [e for e in content["entries"] if isinstance(e, dict)] if content["version"] == VERSION else []
    except (OSError, ValueError, TypeError, KeyError):
        return []
