"""One experiment from its declaration to its figures: plan, sweep or tune, claims, drawing."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mutransfer.setting import Setting

if TYPE_CHECKING:
    from mutransfer.designs.experiment import Experiment
    from mutransfer.designs.search import Search


def plan(args: argparse.Namespace, experiment: Experiment) -> int:
    """Print what ``args`` would cost here, measured if the data are here; the exit code."""
    from mutransfer.tables import searches_plan, transfer_plan

    experiment = experiment.on(args.dataset)
    is_front = args.figure is not None and args.figure == experiment.front
    setting = Setting.of(args, experiment, None if is_front else args.figure)
    space = {} if args.figure else experiment.variants[setting.variant].search
    notes = [_search(args, setting).line(experiment.flops)] if space else []
    if experiment.studies:
        study = setting.study()
        setting.specs, notes = study.expected(), study.lines(experiment.memory, experiment.parameters)
    if experiment.searches and (is_front or not args.figure) and not args.backend:
        table = searches_plan(experiment, setting, has_sizes=is_front)
        notes = [table.line()]
        setting.part = f"figure_{args.figure}" if is_front else ""
        setting.specs = [*([] if is_front else setting.specs), *table.expected()]
    if _has_transfer(args, experiment) and not args.figure:
        notes = [transfer_plan(experiment, setting).line()]
        setting.specs += transfer_plan(experiment, setting).expected()
    if setting.missing:
        notes = [*notes, setting.missing]
    else:
        with tempfile.TemporaryDirectory(prefix="mutransfer-") as folder, setting.on_disk(folder) as setting.dataset:
            setting.calibrate(args.precision)
    setting.show(notes)
    return 0


def _search(args: argparse.Namespace, setting: Setting) -> Search:
    from mutransfer.designs.search import Search

    space = setting.experiment.variants[setting.variant].search
    count = args.samples or setting.experiment.scales[setting.scale].samples
    return Search.plan(setting.specs, space, samples=count, seed=args.search_seed)


def reproduce(args: argparse.Namespace, experiment: Experiment) -> int:
    """Train and draw: the learning-rate sweep, or the figures that ``--figure`` names; the exit code."""
    experiment = experiment.on(args.dataset)
    if args.figure is None:
        return _study(args, experiment) if experiment.studies else _default(args, experiment)
    numbers = experiment.numbers if args.figure == "all" else [args.figure]
    codes = [0 if args.figure != "all" else _default(args, experiment)]
    for number in numbers:
        draw_one = _searches if number == experiment.front else _figure
        codes.append(draw_one(args, experiment, number))
    return max(codes)


def _default(args: argparse.Namespace, experiment: Experiment) -> int:
    """The learning-rate sweep, and the tables of searches and of transfer where there are any."""
    code = _sweep(args, experiment)
    if experiment.searches and not code and not args.backend:  # no other backend translates
        code = _searches(args, experiment, "")
    if _has_transfer(args, experiment) and not code:
        code = _transfer(args, experiment)
    return code


def _has_transfer(args: argparse.Namespace, experiment: Experiment) -> bool:
    """Whether the sweep is followed by a table of transfer: the default variant's, by this suite itself."""
    is_default = args.variant in (None, next(iter(experiment.variants)))
    return bool(experiment.transfers) and is_default and not args.backend


def _sweep(args: argparse.Namespace, experiment: Experiment) -> int:
    """The learning-rate sweep over widths: runs.csv, and what else its folder shows."""
    from mutransfer.designs.experiment import extension
    from mutransfer.designs.rows import to_curves
    from mutransfer.results import needs_extension, untested_transfers
    from mutransfer.runs.store import Store
    from mutransfer.runs.table import to_frame, write_csv

    start = time.monotonic()
    setting = Setting.of(args, experiment)
    with Store(setting.store) as store, setting.on_disk() as setting.dataset:
        setting.calibrate(args.precision)
        setting.show()
        untested = partial(untested_transfers, of_widest=experiment.has_curves)
        extend = extension(setting.specs, needs_extension, untested)
        result = setting.train(setting.specs, store, extend=extend)
        if result.failed:  # no figure is drawn from a gap
            return _exit_code(result.failed, len(result.run_ids))
        facts: dict[str, Any] = {}
        if experiment.coordinates:
            print("coordinate check ...", flush=True)
            frame, facts["coordinates"] = experiment.coordinates(setting.dataset, setting.scale, setting.variant)
            write_csv(frame, setting.folder / "coordinates.csv")
    frame = to_frame(result.records, experiment.columns)
    write_csv(frame, setting.folder / "runs.csv")
    if experiment.has_curves:
        curves, facts["learning"] = to_curves(result.records, frame)
        write_csv(curves, setting.folder / "curves.csv")
    if experiment.accuracy:
        facts["accuracy"] = experiment.accuracy
    s, v = experiment.scales[setting.scale], experiment.variants[setting.variant]
    widths = sorted(frame["width"].unique())
    facts |= {
        "loss_ceiling": v.loss_ceiling,
        "log2_lrs": list(experiment.grid(setting.scale, setting.variant)),
        "paper": setting.paper(
            v.paper, f"widths {widths[0]} to {widths[-1]} from base width {s.base_width}", frame["seed"].nunique()
        ),
    }
    setting.write_provenance(result.records, facts)
    return _drawn(setting, start)


def _figure(args: argparse.Namespace, experiment: Experiment, number: str) -> int:
    """One figure of panels: runs.csv with a row a point."""
    from mutransfer.designs.figure import to_panels
    from mutransfer.runs.store import Store
    from mutransfer.runs.table import curve_rows, write_csv

    start = time.monotonic()
    figure = experiment.figure(number)
    setting = Setting.of(args, experiment, number)
    with Store(setting.store) as store, setting.on_disk() as setting.dataset:
        setting.calibrate(args.precision)
        setting.show()
        result = setting.train(setting.specs, store)
    if result.failed:
        return _exit_code(result.failed, len(result.run_ids))
    cells = [(panel, x, line, setting.specs[i].run_id) for panel, x, line, i in setting.cells]
    frame = to_panels(cells, result.records, experiment.columns)
    scored = [record for record in result.records if record.scores]
    for name in dict.fromkeys(name for record in scored for name in record.scores):
        frame[name] = frame["run_id"].map({record.spec.run_id: record.scores[name] for record in scored})
    write_csv(frame, setting.folder / "runs.csv")
    panels = figure.panels(setting.scale)
    facts: dict[str, Any] = {
        "kind": figure.kind,
        "title": figure.title,
        "panels": {panel.key: panel.facts for panel in panels},
        "paper": setting.paper(figure.paper, figure.describe(setting.scale), frame["seed"].nunique()),
        **figure.facts(setting.dataset, setting.scale),
    }
    if scored and experiment.scores:
        best = max(scored, key=lambda record: record.scores[experiment.scores[0]])
        facts["translations"] = {"width": best.spec.width, "seed": best.spec.seed, "samples": best.samples}
        facts["signature"] = best.provenance["bleu"]
    if figure.kind == "learning":
        records = {record.spec.run_id: record for record in result.records}
        write_csv(curve_rows((panel, records[run]) for panel, *_, run in cells), setting.folder / "curves.csv")
        facts["learning"] = {"panels": {panel.key: panel.heading for panel in panels}}
    setting.write_provenance(result.records, facts)
    return _drawn(setting, start)


def _searches(args: argparse.Namespace, experiment: Experiment, number: str) -> int:
    """Repeated searches on the proxy and on the target (Table 4), or all their sizes (Figure 6)."""
    from mutransfer.tables import searches

    start = time.monotonic()
    setting, failed, runs = searches(args, experiment, number)
    return _exit_code(failed, runs) if failed else _drawn(setting, start)


def _transfer(args: argparse.Namespace, experiment: Experiment) -> int:
    """One search on the proxy, its winner copied to wider and deeper targets (Table 6)."""
    from mutransfer.tables import transfer

    start = time.monotonic()
    setting, failed, runs = transfer(args, experiment)
    return _exit_code(failed, runs) if failed else _drawn(setting, start)


def _study(args: argparse.Namespace, experiment: Experiment) -> int:
    """Algorithm 1 against its alternatives: runs.csv with role and sample, curves.csv over widths."""
    from mutransfer.designs.study import study
    from mutransfer.runs.store import Store
    from mutransfer.runs.table import write_csv

    start = time.monotonic()
    setting = Setting.of(args, experiment)
    templates, setting.specs = setting.specs, setting.study().expected()
    with Store(setting.store) as store, setting.on_disk() as setting.dataset:
        setting.calibrate(args.precision)
        precision = setting.specs[0].precision
        setting.specs = [replace(spec, precision=precision) for spec in templates]
        plan = setting.study()
        setting.specs = plan.expected()
        setting.show(plan.lines(experiment.memory, experiment.parameters))
        frame, curves, records = study(plan, lambda specs: setting.train(specs, store).records)
    if failed := sum(record.status == "failed" for record in records):
        return _exit_code(failed, len(records))
    write_csv(frame, setting.folder / "runs.csv")
    write_csv(curves, setting.folder / "curves.csv")
    v = experiment.variants[setting.variant]
    widths = f"proxy of width {plan.facts['proxy_width']}, target of width {plan.facts['target_width']}"
    facts = {
        "kind": "study",
        "study": plan.facts,
        "learning": {"panels": {"width": "µP, the best sample's hyperparameters"}},
        "paper": setting.paper(v.paper, f"{widths}, trained for {plan.study.target_steps} steps", 1),
    }
    setting.write_provenance(records, facts)
    return _drawn(setting, start)


def _drawn(setting: Setting, start: float) -> int:
    draw(setting.folder)
    print(f"done in {(time.monotonic() - start) / 60:.1f} minutes")
    return 0


def tune(args: argparse.Namespace, experiment: Experiment) -> int:
    """Algorithm 1: search on the proxy, copy the winner to the target; the exit code."""
    from mutransfer.designs import tune as algorithm
    from mutransfer.runs.store import Store
    from mutransfer.runs.table import write_csv

    start, experiment = time.monotonic(), experiment.on(args.dataset)
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
    write_csv(frame, folder / "runs.csv")
    facts = {"search": {**search.facts, "is_halved": args.halving}}
    setting.write_provenance(records, facts, folder)
    draw(folder)
    print(f"done in {(time.monotonic() - start) / 60:.1f} minutes")
    return _exit_code(sum(record.status == "failed" for record in records), len(records))


def _exit_code(failed: int, runs: int) -> int:
    """1, and a last line that says why, if runs have no result."""
    if failed:
        print(f"{failed} of {runs} runs failed; the same command tries them again.", file=sys.stderr)
    return int(failed > 0)


def draw(folder: Path) -> None:
    """Redraw what ``folder`` holds from its CSV files and provenance.json, and say what it shows."""
    from mutransfer.results.kinds import redraw

    report, paths = redraw(folder)
    print(report)
    for path in paths:
        print(f"wrote {path}")
