"""What one command works on: an experiment at a scale, its data, its runs, the machine."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mode
from typing import TYPE_CHECKING, Any

from mutransfer.errors import UserError, unknown
from mutransfer.files import write
from mutransfer.training.spec import PRECISIONS, Value

if TYPE_CHECKING:
    from mutransfer.designs.experiment import Experiment
    from mutransfer.designs.study import Plan
    from mutransfer.runs.cost import Calibration
    from mutransfer.runs.engine import Engine
    from mutransfer.runs.store import Store
    from mutransfer.runs.sweep import SweepResult
    from mutransfer.training.spec import RunRecord, RunSpec

ENGINES = ("local", "ray")
PARTS = ("train", "valid", "test")  # of a corpus, named on the command line
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
    figure: str | None = None  # its number, where not the learning-rate sweep
    part: str = ""  # of the experiment's folder
    cells: list[tuple[str, Value, Value, int]] = field(default_factory=list)  # (panel, x, line, place in specs) of it

    @classmethod
    def of(cls, args: argparse.Namespace, experiment: Experiment, figure: str | None = None) -> Setting:
        """Check names before the data is loaded, load it, make the specs, and print what was found."""
        from mutransfer.designs.experiment import figure_cells

        engine = _engine(args)
        scale = args.scale or ("cpu" if engine.devices[0] == "cpu" else "gpu")
        experiment.scale(scale)
        variant, _ = experiment.variant(experiment.figure(figure).variant if figure else args.variant)
        if figure and (args.widths or args.variant):
            raise UserError("--widths and --variant are for the learning-rate sweep: a figure has its own.")
        if args.precision not in (precisions := (*PRECISIONS, "auto")):
            raise unknown("precision", args.precision, precisions)
        backend = _backend(args, experiment, figure)
        dataset = experiment.load(args.data, args.dataset, scale, **_corpus(args, experiment))
        print(f"data: {dataset.source}", flush=True)
        setting = cls(experiment, scale, variant, args.out, engine, dataset, [], figure=figure)
        if figure:
            setting.part = f"figure_{figure}"
            points = figure_cells(experiment, figure, dataset, scale=scale, seeds=args.seeds)
            place = {spec: i for i, spec in enumerate(dict.fromkeys(spec for *_, spec in points))}
            setting.specs = [*place]
            setting.cells = [(panel, x, line, place[spec]) for panel, x, line, spec in points]
        else:
            setting.specs = experiment.specs(
                dataset, scale=scale, variant=variant, widths=args.widths, seeds=args.seeds
            )
        if backend:
            setting.part = backend
            setting.specs = [replace(s, hps=(*s.hps, ("backend", backend))) for s in setting.specs]
        return setting

    @property
    def runner(self) -> str:
        return f"{self.experiment.run.__module__}:{self.experiment.run.__name__}"

    @property
    def missing(self) -> str:
        """Why the data are not here, where they are known by their numbers only; "" if they are here."""
        return getattr(self.dataset, "missing", "")

    @property
    def store(self) -> Path:
        return self.out / "results" / f"{self.experiment.name}.sqlite"

    @property
    def folder(self) -> Path:
        """figures/<experiment>/ for the default variant in float32; folders inside it for others."""
        folder = self.out / "figures" / self.experiment.name / self.experiment.folder
        precision = self.specs[0].precision
        if self.part:
            folder /= self.part
        elif self.variant != next(iter(self.experiment.variants)):
            folder /= self.variant
        return folder if precision == "float32" else folder / precision

    def calibrate(self, precision: str) -> None:
        """Learn this machine's speed, from results/calibration.json or now; give all specs one precision.

        precision: "auto" for the one that makes the whole plan fastest.

        Raises `UserError` if the data are not here: there is nothing to measure with, or to train on.
        """
        from mutransfer.runs.cost import calibrate, fastest

        if self.missing:
            raise UserError(self.missing)
        self.calibration = calibrate(
            [self.experiment.probe(spec) for spec in self.specs],
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
        from mutransfer.runs.sweep import beside, on_disk

        return on_disk(self.dataset, Path(folder) / "data" if folder else beside(self.store))

    def show(self, notes: Sequence[str] = ()) -> None:
        """Print the plan."""
        from mutransfer.runs.cost import device_hours, plan_table

        flops, memory = self.experiment.flops, self.experiment.memory
        hours = [device_hours(self.specs, flops)] if self.scale == "paper" else []
        what = self.part.replace("_", " ").capitalize() or self.variant
        print(
            f"{self.experiment.name}, {what}, scale {self.scale}: {len(self.specs)} runs on "
            f"{self.engine.workers} {self.engine.name} workers, {self.specs[0].precision}"
        )
        table = plan_table(self.specs, flops, calibration=self.calibration, memory=memory, notes=[*hours, *notes])
        print(table, flush=True)

    def train(self, specs: Iterable[RunSpec], store: Store, **options: Any) -> SweepResult:
        """`sweep` with all that this setting decides."""
        from mutransfer.runs.sweep import sweep

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

    def study(self) -> Plan:
        """The experiment's study at this scale, planned on the templates in ``specs``."""
        from mutransfer.designs.study import Plan

        space = self.experiment.variants[self.variant].search
        return Plan.of(self.experiment.studies[self.scale], self.specs, space, 0, self.experiment.flops)

    def paper(self, declared: Mapping[str, Any], what: str, seeds: int) -> dict[str, Any]:
        """What stands beside our numbers; ``what`` opens the list of differences. Of what varies: the usual value."""
        steps, batch = mode((spec.steps, spec.batch) for spec in self.specs)
        epochs = steps * batch / self.experiment.examples(self.dataset, self.specs[0])
        usual = {name: mode(spec.hp(name) for spec in self.specs) for name in self.experiment.scales[self.scale].hps}
        hps = "".join(f"; {name} {value}" for name, value in usual.items())
        return {
            **declared,
            "ours": {"epochs": f"{epochs:.3g}", **declared.get("ours", {})},
            "differs": f"{what}; {steps} steps of {batch} {self.experiment.unit} ({epochs:.3g} epochs){hps}; "
            f"{seeds} seeds; momentum {self.experiment.momentum:g}; {self.specs[0].precision}; "
            f"data: {self.dataset.source}.",
        }

    def write_provenance(
        self, records: Iterable[RunRecord], facts: Mapping[str, Any], folder: Path | None = None
    ) -> None:
        """provenance.json of a folder (default: the setting's): where its numbers come from, and ``facts``."""
        v, dataset = self.experiment.variants[self.variant], self.dataset
        seconds, runs = 0.0, dict[str, set[str]]()
        for record in records:
            seconds += record.wall_seconds
            for name, value in record.provenance.items():
                runs.setdefault(name, set()).add(value)
        content = {
            "experiment": self.experiment.name,
            "variant": self.variant,
            "title": v.title + (f", trained by {self.part}" if self.part in self.experiment.backends else ""),
            "scale": self.scale,
            "data_source": dataset.source,
            "data_is_real": dataset.is_real,
            "data_fingerprint": dataset.fingerprint,
            "stands_in_for": self.experiment.stands_in_for,
            "y_label": v.y_label,
            **facts,
            # of the runs themselves: several values where a sweep was resumed elsewhere
            "runs": {name: sorted(values) for name, values in sorted(runs.items())},
            "train_hours_of_one_worker": round(seconds / 3600, 3),
        }
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        write((folder or self.folder) / "provenance.json", text.encode())


def _backend(args: argparse.Namespace, experiment: Experiment, figure: str | None) -> str:
    """What trains the sweep, if not this suite. Raises `UserError` if it is unknown, not installed, or cannot."""
    name: str | None = getattr(args, "backend", None)
    if not name:
        return ""
    if name not in experiment.backends:
        raise unknown(f"backend of {experiment.name}", name, experiment.backends or ["none but this suite"])
    if figure or args.engine != "local" or args.precision != "float32":
        raise UserError(f"--backend {name} is for the learning-rate sweep in float32 with the local engine.")
    experiment.backends[name]()
    return name


def _corpus(args: argparse.Namespace, experiment: Experiment) -> dict[str, Any]:
    """What the command line says of parallel text, as an experiment's ``load`` takes it."""
    given = {name: value for name in ("corpus", "languages", "pieces") if (value := getattr(args, name, None))}
    names = {part: value for part in PARTS if (value := getattr(args, part, None))}
    if names:
        given["names"] = names
    if not given:
        return {}
    if not experiment.takes_corpus:
        name = next(iter(names or given))
        raise UserError(f"--{name} is for experiments on parallel text (iwslt14, wmt14), not for {experiment.name}.")
    if args.corpus and args.dataset:
        raise UserError(f"--corpus names the data: leave --dataset {args.dataset} out.")
    if "languages" in given:
        first, _, second = given["languages"].partition("-")
        given["languages"] = first, second
    return given


def _engine(args: argparse.Namespace) -> Engine:
    """The engine that ``args`` name."""
    from mutransfer.runs.engine import LocalEngine
    from mutransfer.runs.ray import RayEngine
    from mutransfer.training.provenance import cores

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
    if not gpus:
        return LocalEngine(args.workers or cores())
    workers = args.workers or min(cores(), RUNS_A_GPU * gpus)
    return LocalEngine(workers, tuple(f"cuda:{i}" for i in range(gpus)))
