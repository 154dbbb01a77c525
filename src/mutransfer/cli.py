"""The command line behind ``./reproduce.sh``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mutransfer.errors import UserError, unknown
from mutransfer.files import write

if TYPE_CHECKING:
    from mutransfer.sweeps.experiment import Experiment
    from mutransfer.sweeps.sweep import SweepResult

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("list", "all", "plan", "figures", "test")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0; 1 if runs failed; 2 for a user's error (one line on stderr); 130 on Ctrl-C."""
    try:
        return _run(_parse(sys.argv[1:] if argv is None else list(argv)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise UserError(f"{message}. Try: ./reproduce.sh --help")


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="./reproduce.sh",
        description="Sweep learning rates over widths in SP and µP and regenerate the paper's figures and tables.",
        epilog="commands: list | <experiment> | all | plan <experiment> | figures [<experiment>] | test",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", help="a command, or the name of an experiment (./reproduce.sh list)")
    parser.add_argument("experiment", nargs="?", help="of plan and figures")
    parser.add_argument("--scale", help="smoke (seconds), cpu (minutes), gpu (hours), paper (the published setting)")
    parser.add_argument("--variant", help="another figure of the experiment, named by ./reproduce.sh list")
    parser.add_argument("--widths", type=_widths, help="such as 64,256,1024 instead of the scale's")
    parser.add_argument("--seeds", type=_positive, help="how many, instead of the scale's")
    parser.add_argument("--workers", type=_positive, help="processes at once; default: one a core, 4 on a GPU")
    parser.add_argument("--data", type=Path, help="data folder; default: $MUTRANSFER_DATA, else data/")
    parser.add_argument(
        "--out", type=Path, default=ROOT, help="where results/ and figures/ go; default: this repository"
    )
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    try:
        if (value := int(text)) > 0:
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"'{text}' is no positive whole number")


def _widths(text: str) -> list[int]:
    return [_positive(part.strip()) for part in text.split(",")]


def _run(args: argparse.Namespace) -> int:
    names = experiments()
    if args.command not in (*COMMANDS, *names):
        raise unknown("command or experiment", args.command, (*names, *COMMANDS))
    if args.command == "list":
        for name in names:
            e = load_experiment(name)
            print(f"{name:<16}{e.summary}\n{'':<16}variants: {', '.join(e.variants)}; scales: {', '.join(e.scales)}")
        return 0
    if args.command == "test":
        raise UserError("the tests need the development packages: run them as ./reproduce.sh test")
    if args.command == "figures":
        return _figures(args, names)
    if args.command == "plan":
        if args.experiment is None:
            raise UserError(f"plan what? Valid: {', '.join(names)}.")
        return _plan(args, load_experiment(args.experiment))
    if args.experiment is not None:
        raise UserError(f"one command at a time: '{args.command}' takes no '{args.experiment}'.")
    chosen = names if args.command == "all" else [args.command]
    return max(_reproduce(args, load_experiment(name)) for name in chosen)


def experiments() -> list[str]:
    """Names of the folders in experiments/ that hold an experiment."""
    return sorted(p.parent.name for p in (ROOT / "experiments").glob("*/experiment.py"))


def load_experiment(name: str) -> Experiment:
    """The `Experiment` that experiments/<name>/experiment.py declares; `UserError` with the nearest name if none."""
    if name not in experiments():
        raise unknown("experiment", name, experiments())
    return import_module(f"experiments.{name}.experiment").EXPERIMENT


def _device() -> str | None:
    import torch

    return "cuda" if torch.cuda.is_available() else None


def _setting(args: argparse.Namespace, experiment: Experiment) -> tuple[str, str, list[Any], Any]:
    """(scale, variant, specs, data set), printed with the plan; the names are checked before the data is loaded."""
    from mutransfer.sweeps.plan import plan_table

    scale = args.scale or ("gpu" if _device() else "cpu")
    experiment.scale(scale)
    variant, _ = experiment.variant(args.variant)
    dataset = experiment.load(args.data)
    print(f"data: {dataset.source}", flush=True)
    specs = experiment.specs(dataset, scale=scale, variant=variant, widths=args.widths, seeds=args.seeds)
    workers = _workers(args)
    print(f"{experiment.name}, {variant}, scale {scale}: {len(specs)} runs on {workers} workers", flush=True)
    print(plan_table(specs, experiment.flops, workers=workers), flush=True)
    return scale, variant, specs, dataset


def _workers(args: argparse.Namespace) -> int:
    if args.workers:
        return args.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 4) if _device() else cores  # small runs share a GPU, but not by the dozen


def _plan(args: argparse.Namespace, experiment: Experiment) -> int:
    _setting(args, experiment)
    return 0


def _reproduce(args: argparse.Namespace, experiment: Experiment) -> int:
    from mutransfer.analysis import needs_extension, untested_transfers
    from mutransfer.sweeps.experiment import extension
    from mutransfer.sweeps.store import Store
    from mutransfer.sweeps.sweep import sweep

    start = time.monotonic()
    scale, variant, specs, dataset = _setting(args, experiment)
    folder = _figure_folder(args.out, experiment, variant)
    with Store(args.out / "results" / f"{experiment.name}.sqlite") as store:
        result = sweep(
            specs,
            store,
            f"{experiment.run.__module__}:{experiment.run.__name__}",
            workers=_workers(args),
            dataset=dataset,
            cost=experiment.flops,
            extend=extension(specs, needs_extension, untested_transfers),
            device=_device(),
        )
    if result.failed:
        print(
            f"{result.failed} of {len(result.records)} runs failed; the same command tries them again.", file=sys.stderr
        )
        return 1
    _write(folder, experiment, scale, variant, dataset, result)
    _draw(folder)
    print(f"done in {(time.monotonic() - start) / 60:.1f} minutes")
    return 0


def _figure_folder(out: Path, experiment: Experiment, variant: str) -> Path:
    """figures/<experiment>/ for the default variant, a folder inside it for every other."""
    folder = out / "figures" / experiment.name
    return folder if variant == next(iter(experiment.variants)) else folder / variant


def _write(folder: Path, experiment: Experiment, scale: str, variant: str, dataset: Any, result: SweepResult) -> None:
    from mutransfer.sweeps.table import write_runs_csv

    write_runs_csv(result.frame, folder / "runs.csv")
    v, s = experiment.variants[variant], experiment.scales[scale]
    facts = sorted({k for r in result.records for k in r.provenance})
    seeds = result.frame["seed"].nunique()
    widths = sorted(result.frame["width"].unique())
    epochs = s.steps * s.batch / len(dataset.train_labels)
    provenance = {
        "experiment": experiment.name,
        "variant": variant,
        "title": v.title,
        "scale": scale,
        "data_source": dataset.source,
        "data_is_real": dataset.is_real,
        "data_fingerprint": dataset.fingerprint,
        "y_label": v.y_label,
        "loss_ceiling": v.loss_ceiling,
        "log2_lrs": list(experiment.grid(scale, variant)),
        "paper": {
            **v.paper,
            "ours": {"epochs": f"{epochs:.3g}", **v.paper.get("ours", {})},
            "differs": f"widths {widths[0]} to {widths[-1]} from base width {s.base_width}; {s.steps} steps of "
            f"{s.batch} examples ({epochs:.3g} epochs); {seeds} seeds; momentum {experiment.momentum:g}; "
            f"data: {dataset.source}.",
        },
        # of the runs themselves: several values where a sweep was resumed elsewhere
        "runs": {k: sorted({r.provenance[k] for r in result.records if k in r.provenance}) for k in facts},
        "train_hours_of_one_worker": round(sum(r.wall_seconds for r in result.records) / 3600, 3),
    }
    write(folder / "provenance.json", (json.dumps(provenance, indent=1, ensure_ascii=False) + "\n").encode())


def _draw(folder: Path) -> None:
    from mutransfer.reporting.render import render

    report, paths = render(folder)
    print(report)
    for path in paths:
        print(f"wrote {path}")


def _figures(args: argparse.Namespace, names: list[str]) -> int:
    if args.experiment is not None and args.experiment not in names:
        raise unknown("experiment", args.experiment, names)
    for name in names if args.experiment is None else [args.experiment]:
        folders = sorted(p.parent for p in (args.out / "figures" / name).rglob("provenance.json"))
        if not folders:
            raise UserError(f"{args.out / 'figures' / name} has no runs; run ./reproduce.sh {name} first.")
        for folder in folders:
            _draw(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
