"""The tables that follow a sweep: searches on a proxy, and what their winners reach on the target (Tables 4 to 6)."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from mutransfer.errors import UserError
from mutransfer.setting import Setting

if TYPE_CHECKING:
    from mutransfer.designs.experiment import Experiment
    from mutransfer.designs.repeated import Plan as Repeated
    from mutransfer.designs.transfer import Plan as Transfer


def searches_plan(experiment: Experiment, setting: Setting, *, has_sizes: bool) -> Repeated:
    """The plan of the experiment's table of searches, in the precision of ``setting``."""
    from mutransfer.designs.repeated import Plan

    numbers, precision = experiment.searches[setting.scale], setting.specs[0].precision
    templates = experiment.specs(
        setting.dataset, scale=setting.scale, variant=setting.variant, widths=numbers.widths, seeds=1
    )
    templates = [replace(spec, precision=precision) for spec in templates]
    return Plan.of(numbers, templates, experiment.flops, has_sizes=has_sizes)


def searches(args: argparse.Namespace, experiment: Experiment, number: str) -> tuple[Setting, int, int]:
    """Repeated searches on the proxy and on the target (Table 4), or all their sizes (Figure 6).

    Writes runs.csv and provenance.json if all have a result; returns the setting, the runs that failed, and all.
    """
    from mutransfer.designs.repeated import repeated
    from mutransfer.runs.store import Store
    from mutransfer.runs.table import write_csv

    if args.backend:
        raise UserError(f"--backend {args.backend} is for the learning-rate sweep: leave --figure {number} out.")
    setting = Setting.of(args, experiment)
    setting.part = f"figure_{number}" if number else _part(experiment.searches[setting.scale].table)
    setting.specs = searches_plan(experiment, setting, has_sizes=bool(number)).expected()
    with Store(setting.store) as store, setting.on_disk() as setting.dataset:
        setting.calibrate(args.precision)
        plan = searches_plan(experiment, setting, has_sizes=bool(number))
        setting.show([plan.line()])
        frame, records = repeated(plan, lambda specs: setting.train(specs, store).records, experiment.scores)
    if failed := sum(record.status == "failed" for record in records):
        return setting, failed, len(records)
    write_csv(frame, setting.folder / "runs.csv")
    n = plan.numbers
    widths = f"proxy of width {n.widths[0]}, target of width {n.widths[1]}"
    paper = {"table_or_figure": f"Figure {number}" if number else n.table, "statement": n.statement}
    facts = {
        "kind": "searches",
        "searches": plan.facts,
        "signature": next((r.provenance["bleu"] for r in records if "bleu" in r.provenance), ""),
        "paper": setting.paper(paper, widths, n.inits),
    }
    setting.write_provenance(records, facts)
    return setting, 0, len(records)


def transfer_plan(experiment: Experiment, setting: Setting) -> Transfer:
    """The plan of the experiment's table of transfer, in the precision of ``setting``."""
    from mutransfer.designs.transfer import Plan

    template = experiment.specs(setting.dataset, scale=setting.scale, variant=setting.variant, seeds=1)[0]
    template = replace(template, precision=setting.specs[0].precision)
    return Plan.of(experiment.transfers[setting.scale], template, experiment.flops)


def transfer(args: argparse.Namespace, experiment: Experiment) -> tuple[Setting, int, int]:
    """One search on the proxy, its winner copied to wider and deeper targets (Table 6); writes as `searches` does."""
    from mutransfer.designs.transfer import transfer as run
    from mutransfer.runs.store import Store
    from mutransfer.runs.table import write_csv

    setting = Setting.of(args, experiment)
    setting.part = _part(experiment.transfers[setting.scale].table)
    setting.specs = transfer_plan(experiment, setting).expected()
    with Store(setting.store) as store, setting.on_disk() as setting.dataset:
        setting.calibrate(args.precision)
        plan = transfer_plan(experiment, setting)
        setting.show([plan.line()])
        frame, records = run(plan, lambda specs: setting.train(specs, store).records)
    if failed := sum(record.status == "failed" for record in records):
        return setting, failed, len(records)
    write_csv(frame, setting.folder / "runs.csv")
    n = plan.numbers
    what = "; ".join(filter(None, [plan.sizes, n.differs]))
    paper = setting.paper({"table_or_figure": n.table, "statement": n.statement}, what, n.inits)
    facts = plan.facts
    facts["scores"] = {name: score for name, score in facts["scores"].items() if name in frame.columns}
    setting.write_provenance(records, {"kind": "transfer", "transfer": facts, "paper": paper})
    return setting, 0, len(records)


def _part(table: str) -> str:
    """``table_6``, of the experiment's folder."""
    return table.lower().replace(" ", "_")
