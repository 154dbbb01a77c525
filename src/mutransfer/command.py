"""One command, its arguments checked, and one path for every kind of figure: plan, train, write, draw."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mutransfer.designs.algorithm import Copy, Numbers, Tuning
from mutransfer.designs.design import Bench, Output, expected, follow
from mutransfer.designs.experiment import Experiment
from mutransfer.designs.grid import LrSweep
from mutransfer.errors import UserError, known
from mutransfer.files import write
from mutransfer.training.spec import PRECISIONS, RunRecord, RunSpec

if TYPE_CHECKING:
    from mutransfer.runs.cost import Calibration
    from mutransfer.runs.engine import Engine
    from mutransfer.runs.store import Store

PARTS = ("train", "valid", "test")  # of a corpus, named on the command line
RUNS_A_GPU = 4  # small runs share a GPU, but not by the dozen


@dataclass(frozen=True, kw_only=True)
class Command:
    """What one command works on."""

    experiment: Experiment
    outputs: tuple[Output, ...]
    search: Tuning  # of hyperparameters on the narrowest width: Algorithm 1 by itself
    scale: str
    variant: str
    out: Path  # where results/ and figures/ are
    engine: Engine
    load: Callable[[], Any]  # the data set
    widths: Sequence[int] | None = None
    seeds: int | None = None
    precision: str = "float32"  # or "auto": what makes the whole plan fastest here
    backend: str = ""
    is_measured: bool = True  # whether the machine's speed is measured first, for the plan and the order of the runs

    @classmethod
    def of(cls, args: argparse.Namespace, experiment: Experiment) -> Command:
        """What ``args`` say of ``experiment``. Raises `UserError` for names and combinations that there are not."""
        experiment = experiment.on(args.dataset)
        outputs = experiment.outputs if args.figure == "all" else experiment.shown(args.figure) if args.figure else ()
        engine = _engine(args)
        scale = args.scale or ("cpu" if engine.devices[0] == "cpu" else "gpu")
        size = experiment.scale(scale)
        variant, _ = experiment.variant(args.variant)
        if any(output.part for output in outputs) and (args.widths or args.variant):
            raise UserError("--widths and --variant are for the learning-rate sweep: a figure has its own.")
        backend = _backend(args, experiment)
        is_plain = not backend and variant == next(iter(experiment.variants))
        search = Tuning(
            kind="search",
            table="",
            below="tune",
            is_tolerant=True,
            select="training",
            methods=(Copy("target", "mup"),),
            numbers={scale: Numbers(samples={"proxy": args.samples or size.samples})},
            seed=args.search_seed,
            is_halved=args.halving,
            has_naive=args.compare,
        )
        if args.command == "tune":
            outputs = (search,)
        return cls(
            experiment=experiment,
            # tables beside the sweep are the default variant's, by this suite itself
            outputs=outputs or tuple(o for o in experiment.outputs if not o.number and (is_plain or not o.part)),
            search=search,
            scale=scale,
            variant=variant,
            out=args.out,
            engine=engine,
            load=partial(experiment.data.load, args.data, args.dataset, scale, **_corpus(args, experiment)),
            widths=args.widths,
            seeds=args.seeds,
            precision=args.precision,
            backend=backend,
        )

    @property
    def store(self) -> Path:
        return self.out / "results" / f"{self.experiment.name}.sqlite"

    def folder(self, output: Output, bench: Bench) -> Path:
        """figures/<experiment>/ for the default variant in float32; folders inside it for others."""
        is_default = bench.variant == next(iter(self.experiment.variants))
        folder = self.out / "figures" / self.experiment.name / self.experiment.folder
        folder /= output.part or self.backend or ("" if is_default else bench.variant)
        return folder / ("" if bench.precision == "float32" else bench.precision) / output.below

    def bench(self, output: Output, dataset: Any, **more: Any) -> Bench:
        """What the output's design makes its runs of."""
        variant, own = output.variant or self.variant, {"widths": self.widths, "seeds": self.seeds}
        shared: dict[str, Any] = {"experiment": self.experiment, "scale": self.scale, "backend": self.backend, **own}
        return Bench(dataset=dataset, variant=variant, **shared, **more)

    def expected(self, output: Output, dataset: Any) -> list[RunSpec]:
        """The runs of its plan, in float32. Raises `UserError` for what cannot be planned."""
        return expected(output.design(self.bench(output, dataset, extends=False)))

    @property
    def runner(self) -> str:
        run = self.experiment.code.run
        return f"{run.__module__}:{run.__name__}"

    def measure(self, specs: Sequence[RunSpec], dataset: Any) -> tuple[Calibration | None, list[RunSpec]]:
        """This machine's speed on ``specs``, from results/calibration.json or now, and all runs in their precision."""
        from mutransfer.runs.cost import calibrate, fastest

        is_auto, code, calibration = self.precision == "auto", self.experiment.code, None
        precision = "float32" if is_auto else self.precision
        if self.is_measured:
            probe = getattr(code, "probe", lambda spec: spec)
            calibration = calibrate(
                [probe(spec) for spec in specs],
                dataset,
                self.runner,
                engine=self.engine,
                flops=code.flops,
                path=self.out / "results" / "calibration.json",
                precisions=PRECISIONS if is_auto else (precision,),
                say=partial(print, flush=True),
            )
            precision = fastest(calibration, specs) if is_auto else precision
        return calibration, [replace(spec, precision=precision) for spec in specs]

    def show(
        self, output: Output, specs: Sequence[RunSpec], calibration: Calibration | None, notes: Sequence[str]
    ) -> None:
        """Print the plan."""
        from mutransfer.runs.cost import device_hours, plan_table

        code, what = self.experiment.code, (output.part or self.backend).replace("_", " ").capitalize()
        print(
            f"{self.experiment.name}, {what or output.variant or self.variant}, scale {self.scale}: "
            f"{len(specs)} runs on {self.engine.workers} {self.engine.name} workers, {specs[0].precision}"
        )
        notes = [*([device_hours(specs, code.flops)] if self.scale == "paper" else []), *notes]
        print(plan_table(specs, code.flops, calibration=calibration, notes=notes), flush=True)

    def provenance(self, records: Sequence[RunRecord], facts: Mapping[str, Any], variant: str, dataset: Any) -> str:
        """Where a folder's numbers come from, and ``facts``, as JSON."""
        e, runs = self.experiment, dict[str, set[str]]()
        for record in records:
            for name, value in record.provenance.items():
                runs.setdefault(name, set()).add(value)
        content = {
            "experiment": e.name,
            "variant": variant,
            "title": e.variants[variant].title + (f", trained by {self.backend}" if self.backend else ""),
            "scale": self.scale,
            "data_source": dataset.source,
            "data_is_real": dataset.is_real,
            "data_fingerprint": dataset.fingerprint,
            "stands_in_for": e.data.stands_in_for,
            "y_label": e.variants[variant].y_label,
            **facts,
            # of the runs themselves: several values where a sweep was resumed elsewhere
            "runs": {name: sorted(values) for name, values in sorted(runs.items())},
            "train_hours_of_one_worker": round(sum(record.wall_seconds for record in records) / 3600, 3),
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def plan(command: Command) -> int:
    """Print what the outputs would cost here, measured if the data are here; the exit code."""
    from mutransfer.runs.driver import on_disk

    dataset = _loaded(command)
    specs, notes = list[RunSpec](), list[str]()
    for output in command.outputs:
        specs += command.expected(output, dataset)
        notes += output.notes(command.bench(output, dataset))
    is_figure = any(output.number for output in command.outputs)
    if not notes and not is_figure and command.experiment.variants[command.variant].search:
        notes = command.search.notes(command.bench(command.search, dataset))
    calibration = None
    if missing := getattr(dataset, "missing", ""):
        notes.append(missing)
    else:
        with (
            tempfile.TemporaryDirectory(prefix="mutransfer-") as folder,
            on_disk(dataset, Path(folder, "data")) as dataset,
        ):
            calibration, specs = command.measure(specs, dataset)
    command.show(command.outputs[0], specs, calibration, notes)
    return 0


def reproduce(command: Command) -> int:
    """Train and draw all outputs; the exit code.

    Raises `UserError` for what cannot be planned, before anything is written, and if the data are not here.
    """
    from mutransfer.runs.driver import beside, on_disk
    from mutransfer.runs.store import Store

    dataset, code = _loaded(command), 0
    planned = [(output, command.expected(output, dataset)) for output in command.outputs]
    if missing := getattr(dataset, "missing", ""):
        raise UserError(missing)
    with Store(command.store) as store, on_disk(dataset, beside(command.store)) as dataset:
        for output, specs in planned:
            if output.number or not code:  # no table follows a sweep that has failed
                code = max(code, _run(command, output, specs, dataset, store))
    return code


def _loaded(command: Command) -> Any:
    dataset = command.load()
    print(f"data: {dataset.source}", flush=True)
    return dataset


class _NoResult(Exception):
    """Runs have failed."""


def _run(command: Command, output: Output, planned: list[RunSpec], dataset: Any, store: Store) -> int:
    """One output: train, write, draw; 1, and a last line that says why, if runs have no result.

    Then no figure is drawn from the gap; but a search leaves out what failed.
    """
    from mutransfer.runs.driver import sweep
    from mutransfer.runs.table import write_csv

    start, records, failed = time.monotonic(), dict[str, RunRecord](), 0
    calibration, planned = command.measure(planned, dataset)
    bench = command.bench(output, dataset, known=store.get, precision=planned[0].precision)
    command.show(output, planned, calibration, output.notes(bench))
    cost = calibration.seconds if calibration else command.experiment.code.flops

    def train(specs: list[RunSpec]) -> list[RunRecord]:
        nonlocal failed
        if records and output.more:
            print(output.more.format(len(specs)), flush=True)
        timed: dict[str, Any] = {"cost": cost, "is_timed": calibration is not None}
        result = sweep(specs, store, command.runner, engine=command.engine, dataset=dataset, **timed)
        new = [*result.records]
        records.update((record.spec.run_id, record) for record in new)
        failed += result.failed
        if failed and not output.is_tolerant:
            raise _NoResult
        return new

    with contextlib.suppress(_NoResult):
        tables = output.tables(bench, follow(output.design(bench), train))
        folder, sha256 = command.folder(output, bench), dict[str, str]()
        for name, table in {"runs.csv": tables.runs, **tables.others}.items():
            sha256[name] = write_csv(table, folder / name)
        facts = {**tables.facts, "sha256": sha256}
        text = command.provenance([*records.values()], facts, bench.variant, dataset)
        write(folder / "provenance.json", text.encode())
        draw(folder)
        print(f"done in {(time.monotonic() - start) / 60:.1f} minutes")
    if failed:
        print(f"{failed} of {len(records)} runs failed; the same command tries them again.", file=sys.stderr)
    return int(failed > 0)


def draw(folder: Path) -> None:
    """Redraw what ``folder`` holds from its CSV files and provenance.json, and say what it shows."""
    from mutransfer.results.kinds import kind_of

    report, paths = kind_of(folder).redraw(folder)
    print(report)
    for path in paths:
        print(f"wrote {path}")


def _backend(args: argparse.Namespace, experiment: Experiment) -> str:
    """What trains the sweep, if not this suite. Raises `UserError` if it is unknown, not installed, or cannot."""
    if not args.backend:
        return ""
    sweeps = [output.backends for output in experiment.outputs if isinstance(output, LrSweep)]
    backends = {name: require for own in sweeps for name, require in own.items()}
    known(f"backend of {experiment.name}", args.backend, backends or ["none but this suite"])
    if args.figure or args.engine != "local" or args.precision != "float32":
        raise UserError(f"--backend {args.backend} is for the learning-rate sweep in float32 with the local engine.")
    backends[args.backend]()
    return args.backend


def _corpus(args: argparse.Namespace, experiment: Experiment) -> dict[str, Any]:
    """What the command line says of parallel text, as an experiment's ``load`` takes it."""
    given = {name: value for name in ("corpus", "languages", "pieces") if (value := getattr(args, name))}
    names = {part: value for part in PARTS if (value := getattr(args, part))}
    if (names or given) and not experiment.data.takes_corpus:
        name = next(iter(names or given))
        raise UserError(f"--{name} is for experiments on parallel text (iwslt14, wmt14), not for {experiment.name}.")
    if args.corpus and args.dataset:
        raise UserError(f"--corpus names the data: leave --dataset {args.dataset} out.")
    if "languages" in given:
        given["languages"] = tuple(given["languages"].partition("-")[::2])
    return {**given, **({"names": names} if names else {})}


def _engine(args: argparse.Namespace) -> Engine:
    """The engine that ``args`` name."""
    from mutransfer.runs.engine import LocalEngine
    from mutransfer.runs.ray import RayEngine
    from mutransfer.training.provenance import cores

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
