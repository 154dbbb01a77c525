"""``./reproduce.sh bench [a b c d e f]``: all ratios, or those named; a table, and results/bench.json."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import kernels, local_ray, sweeps, usual
from experiments.cifar_mlp.experiment import EXPERIMENT
from mutransfer.errors import UserError
from mutransfer.files import write
from mutransfer.sweeps.local import LocalEngine
from mutransfer.sweeps.ray import RayEngine
from mutransfer.sweeps.sweep import on_disk
from mutransfer.training.provenance import provenance

ROOT = Path(__file__).resolve().parents[1]
RUNS = {64: 60, 256: 30, 1024: 8}  # by width: about half a minute of ours each
Row = dict[str, Any]


def against_the_usual_way(dataset: Any, seconds: float) -> Iterator[Row]:
    """(a) Runs a minute of cifar_mlp's sweep: two workers against `mup`, a DataLoader and one run after another."""
    scale = EXPERIMENT.scale("cpu")
    for width, runs in RUNS.items():
        for precision in ("float32", "bfloat16"):
            setting = {"base_width": scale.base_width, "batch": scale.batch, "lr": 2.0**sweeps.LOG2_LR}
            steps = max(30, min(scale.steps, int(seconds / 0.02)))
            before = usual.step_seconds(dataset, width, steps=steps, **setting)
            ours = sweeps.timed(
                sweeps.specs(dataset, width, runs, precision=precision), LocalEngine(workers=2), dataset
            )
            after = usual.step_seconds(dataset, width, steps=steps, **setting)
            theirs = 60 / (scale.steps * (before + after) / 2)
            yield {
                "what": f"width {width}, {precision}",
                "ours": f"{ours.runs_per_minute:.1f} runs/min",
                "reference": f"{theirs:.2f} runs/min ({(before + after) / 2 * 1e3:.1f} ms a step)",
                "ratio": ours.runs_per_minute / theirs,
                "start_seconds": ours.start_seconds,
            }


def against_bare_kernels(dataset: Any, seconds: float) -> Iterator[Row]:
    """(b) One step of one worker against its matrix products and one update a tensor, back to back."""
    for precision in ("float32", "bfloat16"):
        for row in kernels.measure([64, 128, 256, 512, 1024, 2048], seconds / 2, precision):
            yield {
                "what": f"width {row['width']}, {precision}",
                "ours": f"{row['ours_ms']:.3f} ms",
                "reference": f"{row['bare_ms']:.3f} ms",
                "ratio": row["ratio"],
            }


def two_workers_against_one(dataset: Any, seconds: float) -> Iterator[Row]:
    """(c) Throughput of two workers over that of one."""
    for precision in ("float32", "bfloat16"):
        for width, runs in RUNS.items():
            plan = sweeps.specs(dataset, width, max(4, runs // 2), precision=precision)
            one, two = (sweeps.timed(plan, LocalEngine(workers=n), dataset) for n in (1, 2))
            yield {
                "what": f"width {width}, {precision}",
                "ours": f"{two.runs_per_minute:.1f} runs/min ({two.step_ms:.2f} ms a step)",
                "reference": f"{one.runs_per_minute:.1f} runs/min ({one.step_ms:.2f} ms a step)",
                "ratio": two.runs_per_minute / one.runs_per_minute,
            }


def overhead(dataset: Any, seconds: float) -> Iterator[Row]:
    """(d) 10,000 runs of a millisecond."""
    found = sweeps.overhead(LocalEngine(workers=2), dataset, 10_000)
    yield {"what": "planning, store and progress", "ours": f"{found['overhead_ms_a_run']:.3f} ms a run", **found}
    yield {"what": "a finished plan is recognised in", "ours": f"{found['recognised_seconds']:.2f} s"}
    yield {"what": "memory of the driver grows by", "ours": f"{found['driver_memory_growth_mib']:.1f} MiB"}


def ray_against_local(dataset: Any, seconds: float) -> Iterator[Row]:
    """(e) The same plan, runs of a second and more, two slots each."""
    plan = sweeps.specs(dataset, 256, 20)
    with local_ray.cluster(cpus=2) as address:
        first = sweeps.timed(plan, LocalEngine(workers=2), dataset)
        ray = sweeps.timed(plan, RayEngine(address), dataset)
        second = sweeps.timed(plan, LocalEngine(workers=2), dataset)
    local = (first.runs_per_minute + second.runs_per_minute) / 2
    yield {
        "what": "ray over local",
        "ours": f"{ray.runs_per_minute:.1f} runs/min",
        "reference": f"{local:.1f} runs/min",
        "ratio": ray.runs_per_minute / local,
    }


def memory(dataset: Any, seconds: float) -> Iterator[Row]:
    """(f) Peak memory of driver and workers together; pages that several share count once."""
    size = sum(path.stat().st_size for path in Path(dataset.folder).iterdir()) / 2**20
    for workers in (1, 2):
        peak = sweeps.memory(sweeps.specs(dataset, 1024, 2, steps=100), LocalEngine(workers=workers), dataset)
        yield {
            "what": f"{workers} worker{'s' if workers > 1 else ''}",
            "ours": f"{peak['total_mib']:.0f} MiB, of it {peak['data_mib']:.0f} MiB data",
            "reference": f"the data set is {size:.0f} MiB",
            "ratio": peak["data_mib"] / size,
            **peak,
        }


PARTS: dict[str, Callable[[Any, float], Iterator[Row]]] = {
    "a": against_the_usual_way,
    "b": against_bare_kernels,
    "c": two_workers_against_one,
    "d": overhead,
    "e": ray_against_local,
    "f": memory,
}


def main(argv: list[str] | None = None) -> int:
    """Exit code 2 and one line for a user's error."""
    parser = argparse.ArgumentParser(prog="./reproduce.sh bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help="a b c d e f; default: all, about 10 minutes")
    parser.add_argument("--seconds", type=float, default=10.0, help="of measuring the reference, a row (default 10)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="data folder (default: $MUTRANSFER_DATA, else data/)")
    parser.add_argument("--out", type=Path, default=ROOT / "results", metavar="DIR", help="where bench.json goes")
    args = parser.parse_args(argv)
    try:
        if strange := sorted(set(args.parts) - set(PARTS)):
            raise UserError(f"there is no part '{strange[0]}'. Valid: {', '.join(PARTS)}.")
        return _bench(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _bench(args: argparse.Namespace) -> int:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    found: dict[str, list[Row]] = {}
    loaded = EXPERIMENT.load(args.data)
    source = loaded.source
    with tempfile.TemporaryDirectory() as folder, on_disk(loaded, Path(folder) / "data") as dataset:
        del loaded
        facts = provenance(source, dataset.is_real, torch.device("cpu"))
        facts |= {"cores": str(os.cpu_count()), "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        console.print(", ".join(f"{name} {value}" for name, value in facts.items()))
        for name in args.parts or PARTS:
            table = Table("", "ours", "reference", "ratio", title=PARTS[name].__doc__, title_justify="left")
            rows = found[name] = []
            for row in PARTS[name](dataset, args.seconds):
                rows.append(row)
                ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
                table.add_row(row["what"], row["ours"], row.get("reference", ""), ratio)
            console.print(table)
    content = {"machine": facts, "parts": {n: {"what": PARTS[n].__doc__, "rows": rows} for n, rows in found.items()}}
    path = write(args.out / "bench.json", (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    console.print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
