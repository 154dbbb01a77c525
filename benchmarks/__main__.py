"""``./reproduce.sh bench [a b c d e f g h i j]``: all ratios, or those named; a table, and results/bench.json.

``./reproduce.sh bench kill`` kills sweeps at random moments instead (`benchmarks.kill`).
"""

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

from benchmarks import bert, kernels, kill, local_ray, resnet, sweeps, transformer, translation, usual
from experiments.cifar_mlp.experiment import EXPERIMENT
from mutransfer.errors import UserError
from mutransfer.files import write
from mutransfer.runs.driver import on_disk
from mutransfer.runs.engine import LocalEngine
from mutransfer.runs.ray import RayEngine
from mutransfer.training.provenance import provenance

ROOT = Path(__file__).resolve().parents[1]
RUNS = {64: 40, 256: 16, 1024: 6}  # by width: about twenty seconds of ours each
PRECISIONS = ("float32", "bfloat16")
Row = dict[str, Any]


def against_the_usual_way(dataset: Any, seconds: float) -> Iterator[Row]:
    """(a) Runs a minute of cifar_mlp's sweep: two workers; the `mup` package, a DataLoader, one run after another."""
    scale = EXPERIMENT.scale("cpu")
    steps = min(scale.steps, round(seconds / 0.02))
    setting = {"base_width": scale.base_width, "steps": steps, "batch": scale.batch, "lr": 2.0**sweeps.LOG2_LR}
    for width, runs in RUNS.items():
        before = usual.step_seconds(dataset, width, **setting)
        for precision in PRECISIONS:
            plan = sweeps.specs(dataset, width, runs, precision=precision)
            ours = sweeps.timed(plan, LocalEngine(workers=2), dataset)
            after = usual.step_seconds(dataset, width, **setting)
            step, before = (before + after) / 2, after
            theirs = 60 / (scale.steps * step)
            yield {
                "what": f"width {width}, {precision}",
                "ours": f"{ours.runs_per_minute:.1f} runs/min ({ours.step_ms:.2f} ms a step)",
                "reference": f"{theirs:.2f} runs/min ({step * 1e3:.1f} ms a step), float32",
                "ratio": ours.runs_per_minute / theirs,
                "start_seconds": ours.start_seconds,
            }


def against_bare_kernels(dataset: Any, seconds: float) -> Iterator[Row]:
    """(b) One step of one worker against its matrix products and one update a tensor, back to back."""
    for precision in PRECISIONS:
        for row in kernels.measure([64, 128, 256, 512, 1024, 2048], seconds / 2, precision):
            yield {
                "what": f"width {row['width']}, {precision}",
                "ours": f"{row['ours_ms']:.3f} ms",
                "reference": f"{row['bare_ms']:.3f} ms",
                "ratio": row["ratio"],
            }


def two_workers_against_one(dataset: Any, seconds: float) -> Iterator[Row]:
    """(c) Throughput of two workers over that of one."""
    for width, runs in RUNS.items():
        few, many = sweeps.specs(dataset, width, max(2, runs // 4)), sweeps.specs(dataset, width, runs)
        before, two, after = (
            sweeps.timed(plan, LocalEngine(workers=n), dataset) for plan, n in ((few, 1), (many, 2), (few, 1))
        )
        one = (before.runs_per_minute + after.runs_per_minute) / 2
        yield {
            "what": f"width {width}, float32",
            "ours": f"{two.runs_per_minute:.1f} runs/min ({two.step_ms:.2f} ms a step)",
            "reference": f"{one:.1f} runs/min ({(before.step_ms + after.step_ms) / 2:.2f} ms a step)",
            "ratio": two.runs_per_minute / one,
        }


def overhead(dataset: Any, seconds: float) -> Iterator[Row]:
    """(d) 10,000 runs of a millisecond."""
    found = sweeps.overhead(LocalEngine(workers=2), dataset, 10_000)
    yield {"what": "planning, store and progress", "ours": f"{found['overhead_ms_a_run']:.3f} ms a run", **found}
    yield {"what": "a finished plan is recognised in", "ours": f"{found['recognised_seconds']:.2f} s"}
    yield {"what": "memory of the driver grows by", "ours": f"{found['driver_memory_growth_mib']:.1f} MiB"}


def ray_against_local(dataset: Any, seconds: float) -> Iterator[Row]:
    """(e) The same plan, runs of a second and more, two slots each."""
    plan = sweeps.specs(dataset, 256, 24)
    with local_ray.cluster(cpus=2) as address:
        first = sweeps.timed(plan, LocalEngine(workers=2), dataset)
        engine = RayEngine(address)
        ray = sweeps.timed(plan, engine, dataset)
        engine.close()
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


def transformers(dataset: Any, seconds: float) -> Iterator[Row]:
    """(g) One step of transformer_lm's model: of the rate of large products, and over the usual loop with `mup`."""
    yield from transformer.rows([64, 128, 256, 512], seconds)


def resnets(dataset: Any, seconds: float) -> Iterator[Row]:
    """(h) Images a second of cifar_resnet's network: all cores over the usual loop, one worker over one fixed batch."""
    yield from resnet.rows([16, 64], seconds)


def translations(dataset: Any, seconds: float) -> Iterator[Row]:
    """(i) Translation beside fairseq on the same data and batches: training, one worker per core, and beam search."""
    yield from translation.rows(seconds)


def berts(dataset: Any, seconds: float) -> Iterator[Row]:
    """(j) Tokens a second of BERT: one worker over the usual loop with Hugging Face's model, one thread each."""
    yield from bert.rows(seconds)


PARTS: dict[str, Callable[[Any, float], Iterator[Row]]] = {
    "a": against_the_usual_way,
    "b": against_bare_kernels,
    "c": two_workers_against_one,
    "d": overhead,
    "e": ray_against_local,
    "f": memory,
    "g": transformers,
    "h": resnets,
    "i": translations,
    "j": berts,
}


def main(argv: list[str] | None = None) -> int:
    """Exit code 2 and one line for a user's error."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["kill"]:
        return kill.main(argv[1:])
    parser = argparse.ArgumentParser(prog="./reproduce.sh bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help="a b c d e f g h i j; default: all, about 20 minutes")
    parser.add_argument("--seconds", type=float, default=6.0, help="of measuring the reference, a row (default 6)")
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
    found: dict[str, list[Row]] = {}
    loaded = EXPERIMENT.data.load(args.data, None, "cpu")
    source = loaded.source
    with tempfile.TemporaryDirectory() as folder, on_disk(loaded, Path(folder) / "data") as dataset:
        del loaded
        facts = provenance(source, dataset.is_real, torch.device("cpu"))
        facts |= {"cores": str(os.cpu_count()), "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        print(", ".join(f"{name} {value}" for name, value in facts.items()))
        for name in args.parts or PARTS:
            print(f"\n{PARTS[name].__doc__}\n{'':<34}{'ours':<36}{'reference':<44}ratio", flush=True)
            rows = found[name] = []
            for row in PARTS[name](dataset, args.seconds):
                rows.append(row)
                ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
                print(f"{row['what']:<34}{row['ours']:<36}{row.get('reference', ''):<44}{ratio}", flush=True)
    path = args.out / "bench.json"
    content = json.loads(path.read_text()) if path.exists() else {}  # parts that were measured before stay
    content |= {n: {"what": PARTS[n].__doc__, "measured": facts, "rows": rows} for n, rows in found.items()}
    write(path, (json.dumps(dict(sorted(content.items())), indent=1, ensure_ascii=False) + "\n").encode())
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
