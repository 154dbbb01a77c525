"""One experiment from its declaration to its figures: plan, sweep or tune, claims, drawing."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mutransfer.errors import UserError, unknown
from mutransfer.files import write
from mutransfer.training.spec import PRECISIONS

if TYPE_CHECKING:
    from mutransfer.sweeps.calibration import Calibration
    from mutransfer.sweeps.engine import Engine
    from mutransfer.sweeps.experiment import Experiment
    from mutransfer.sweeps.search import Search
    from mutransfer.sweeps.store import Store
    from mutransfer.sweeps.sweep import SweepResult
    from mutransfer.training.spec import RunRecord, RunSpec

ENGINES = ("local", "ray")
RUNS_A_GPU = 4  # small runs share a GPU, but not by the dozen


@dataclass
class Setting:
    """What one command works on, its arguments checked."""

    experiment: Experiment
    scale: str
    variant: str
    out: Path
    engine: Engine
    dataset: Any
    specs: list[RunSpec]
    calibration: Calibration | None = None

    @classmethod
    def of(cls, args: argparse.Namespace, experiment: Experiment) -> Setting:
        """Check names before the data is loaded, load it, make the specs, and print what was found."""
        engine = _engine(args)
        scale = args.scale or ("cpu" if engine.devices[0] == "cpu" else "gpu")
        experiment.scale(scale)
        variant, _ = experiment.variant(args.variant)
        if args.precision not in (precisions := (*PRECISIONS, "auto")):
            raise unknown("precision", args.precision, precisions)
        dataset = experiment.load(args.data)
        print(f"data: {dataset.source}", flush=True)
        specs = experiment.specs(dataset, scale=scale, variant=variant, widths=args.widths, seeds=args.seeds)
        return cls(experiment, scale, variant, args.out, engine, dataset, specs)

    @property
    def runner(self) -> str:
        return f"{self.experiment.run.__module__}:{self.experiment.run.__name__}"

    @property
    def store(self) -> Path:
        return self.out / "results" / f"{self.experiment.name}.sqlite"

    @property
    def folder(self) -> Path:
        """figures/<experiment>/ for the default variant in float32; folders inside it for others."""
        folder, precision = self.out / "figures" / self.experiment.name, self.specs[0].precision
        if self.variant != next(iter(self.experiment.variants)):
            folder /= self.variant
        return folder if precision == "float32" else folder / precision

    def calibrate(self, precision: str) -> None:
        """Learn this machine's speed, from results/calibration.json or now; give all specs one precision.

        precision: "auto" for the one that makes the whole plan fastest.
        """
        from mutransfer.sweeps.calibration import fastest
        from mutransfer.sweeps.measure import calibrate

        self.calibration = calibrate(
            self.specs,
            self.dataset,
            self.runner,
            engine=self.engine,
            flops=self.experiment.flops,
            memory=self.experiment.memory,
            path=self.out / "results" / "calibration.json",
            precisions=PRECISIONS if precision == "auto" else (precision,),
            say=lambda line: print(line, flush=True),
        )
        precision = fastest(self.calibration, self.specs) if precision == "auto" else precision
        self.specs = [replace(spec, precision=precision) for spec in self.specs]

    def on_disk(self, folder: str = "") -> contextlib.AbstractContextManager[Any]:
        """``with setting.on_disk() as setting.dataset``: the copy in memory goes.

        folder: default beside the store, whose lock must be held.
        """
        from mutransfer.sweeps.sweep import beside, on_disk

        return on_disk(self.dataset, Path(folder) / "data" if folder else beside(self.store))

    def show(self, notes: Sequence[str] = ()) -> None:
        """Print the plan."""
        from mutransfer.sweeps.hardware import device_hours
        from mutransfer.sweeps.plan import plan_table

        flops, memory = self.experiment.flops, self.experiment.memory
        hours = [device_hours(self.specs, flops)] if self.scale == "paper" else []
        print(
            f"{self.experiment.name}, {self.variant}, scale {self.scale}: {len(self.specs)} runs on "
            f"{self.engine.workers} {self.engine.name} workers, {self.specs[0].precision}"
        )
        table = plan_table(self.specs, flops, calibration=self.calibration, memory=memory, notes=[*hours, *notes])
        print(table, flush=True)

    def train(self, specs: Iterable[RunSpec], store: Store, **options: Any) -> SweepResult:
        """`sweep` with all that this setting decides."""
        from mutransfer.sweeps.sweep import sweep

        known = self.calibration
        return sweep(
            specs,
            store,
            self.runner,
            engine=self.engine,
            dataset=self.dataset,
            cost=known.seconds if known else self.experiment.flops,
            is_timed=known is not None,
            **options,
        )


def plan(args: argparse.Namespace, experiment: Experiment) -> int:
    """Print what ``args`` would cost here; the exit code."""
    setting = Setting.of(args, experiment)
    with tempfile.TemporaryDirectory(prefix="mutransfer-") as folder, setting.on_disk(folder) as setting.dataset:
        setting.calibrate(args.precision)
    space = experiment.variants[setting.variant].search
    setting.show([_search(args, setting).line(experiment.flops)] if space else [])
    return 0


def _search(args: argparse.Namespace, setting: Setting) -> Search:
    from mutransfer.sweeps.search import Search

    space = setting.experiment.variants[setting.variant].search
    count = args.samples or setting.experiment.scales[setting.scale].samples
    return Search.plan(setting.specs, space, samples=count, seed=args.search_seed)


def reproduce(args: argparse.Namespace, experiment: Experiment) -> int:
    """Sweep, write runs.csv and draw; the exit code."""
    from mutransfer.analysis import needs_extension, untested_transfers
    from mutransfer.sweeps.experiment import extension
    from mutransfer.sweeps.store import Store
    from mutransfer.sweeps.table import write_runs_csv

    start = time.monotonic()
    setting = Setting.of(args, experiment)
    with Store(setting.store) as store, setting.on_disk() as setting.dataset:
        setting.calibrate(args.precision)
        setting.show()
        extend = extension(setting.specs, needs_extension, untested_transfers)
        result = setting.train(setting.specs, store, extend=extend)
    if result.failed:  # no figure is drawn from a gap
        return _exit_code(result.failed, len(result.run_ids))
    frame = result.frame
    s = experiment.scales[setting.scale]
    seeds, widths = frame["seed"].nunique(), sorted(frame["width"].unique())
    epochs = s.steps * s.batch / len(setting.dataset.train_labels)
    v = experiment.variants[setting.variant]
    write_runs_csv(frame, setting.folder / "runs.csv")
    _write_provenance(
        setting,
        result.records,
        {
            "loss_ceiling": v.loss_ceiling,
            "log2_lrs": list(experiment.grid(setting.scale, setting.variant)),
            "paper": {
                **v.paper,
                "ours": {"epochs": f"{epochs:.3g}", **v.paper.get("ours", {})},
                "differs": f"widths {widths[0]} to {widths[-1]} from base width {s.base_width}; {s.steps} steps of "
                f"{s.batch} examples ({epochs:.3g} epochs); {seeds} seeds; momentum {experiment.momentum:g}; "
                f"{setting.specs[0].precision}; data: {setting.dataset.source}.",
            },
        },
    )
    draw(setting.folder)
    print(f"done in {(time.monotonic() - start) / 60:.1f} minutes")
    return 0


def tune(args: argparse.Namespace, experiment: Experiment) -> int:
    """Algorithm 1: search on the proxy, copy the winner to the target; the exit code."""
    from mutransfer.sweeps import tune as algorithm
    from mutransfer.sweeps.store import Store
    from mutransfer.sweeps.table import write_runs_csv

    start = time.monotonic()
    args.seeds = 1
    setting = Setting.of(args, experiment)
    with Store(setting.store) as store, setting.on_disk() as setting.dataset:
        setting.calibrate(args.precision)
        search = _search(args, setting)
        print(search.line(experiment.flops), flush=True)
        frame, records = algorithm.tune(
            search,
            lambda specs: setting.train(specs, store).records,
            experiment.flops,
            halving=args.halving,
            compare=args.compare,
            known=store.get,
        )
    folder = setting.folder / "tune"
    write_runs_csv(frame, folder / "runs.csv")
    facts = {"search": {**search.facts, "is_halved": args.halving}}
    _write_provenance(setting, records, facts, folder)
    draw(folder)
    print(f"done in {(time.monotonic() - start) / 60:.1f} minutes")
    return _exit_code(sum(record.status == "failed" for record in records), len(records))


def _exit_code(failed: int, runs: int) -> int:
    """1, and a last line that says why, if runs have no result."""
    if failed:
        print(f"{failed} of {runs} runs failed; the same command tries them again.", file=sys.stderr)
    return int(failed > 0)


def draw(folder: Path) -> None:
    """Redraw what ``folder`` holds from its runs.csv and provenance.json, and say what it shows."""
    from mutransfer.reporting.files import read_provenance
    from mutransfer.reporting.render import render
    from mutransfer.reporting.search import render_search

    is_search = "search" in read_provenance(folder / "provenance.json", ())
    report, paths = render_search(folder) if is_search else render(folder)
    print(report)
    for path in paths:
        print(f"wrote {path}")


def _write_provenance(
    setting: Setting, records: Iterable[RunRecord], facts: Mapping[str, Any], folder: Path | None = None
) -> None:
    v, dataset = setting.experiment.variants[setting.variant], setting.dataset
    seconds, runs = 0.0, dict[str, set[str]]()
    for record in records:
        seconds += record.wall_seconds
        for name, value in record.provenance.items():
            runs.setdefault(name, set()).add(value)
    content = {
        "experiment": setting.experiment.name,
        "variant": setting.variant,
        "title": v.title,
        "scale": setting.scale,
        "data_source": dataset.source,
        "data_is_real": dataset.is_real,
        "data_fingerprint": dataset.fingerprint,
        "y_label": v.y_label,
        **facts,
        # of the runs themselves: several values where a sweep was resumed elsewhere
        "runs": {name: sorted(values) for name, values in sorted(runs.items())},
        "train_hours_of_one_worker": round(seconds / 3600, 3),
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    write((folder or setting.folder) / "provenance.json", text.encode())


def _engine(args: argparse.Namespace) -> Engine:
    """The engine that ``args`` name."""
    from mutransfer.sweeps.local import LocalEngine
    from mutransfer.sweeps.ray import RayEngine

    if args.engine not in ENGINES:
        raise unknown("engine", args.engine, ENGINES)
    if args.engine == "ray":
        if args.workers:
            raise UserError("--workers is for the engine local: on a Ray cluster every core or GPU is a worker.")
        return RayEngine(args.address or "auto")
    if args.address:
        raise UserError(f"--address {args.address} needs --engine ray.")
    import torch

    gpus = torch.cuda.device_count()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not gpus:
        return LocalEngine(args.workers or cores)
    workers = args.workers or min(cores, RUNS_A_GPU * gpus)
    return LocalEngine(workers, tuple(f"cuda:{i}" for i in range(gpus)))
