"""Algorithm 1 of the paper: tune the small proxy in µP, copy the winner's hyperparameters to the large target.

What training a few samples for fewer steps says of the rest is the business of `mutransfer.results.selection`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import pandas as pd

from mutransfer.designs.rows import to_roles
from mutransfer.designs.search import Search
from mutransfer.errors import UserError
from mutransfer.results.selection import Losses, halve, rung_plan
from mutransfer.training.spec import CURVE_POINTS, RunRecord, RunSpec

Train = Callable[[Sequence[RunSpec]], Iterable[RunRecord]]
Known = Callable[[Collection[str]], Mapping[str, RunRecord]]
Row = tuple[str, int, RunRecord]  # role, sample, run
ROLES = ("proxy", "target", "full")


def tune(
    search: Search,
    train: Train,
    flops: Callable[[RunSpec], float],
    *,
    halving: bool = False,
    compare: bool = False,
    known: Known | None = None,
) -> tuple[pd.DataFrame, list[RunRecord]]:
    """Run the search and the target with the winner's hyperparameters; returns the table and the records of both.

    The winner has the least final training loss of the proxy (of a tie the first sample); a diverged run counts
    as infinite, a failed one is left out. The table is read by `mutransfer.results.tuning.SearchReport`.

    Args:
        train: runs specs and returns their records; durable, so that a killed search goes on where it was
            (a `mutransfer.runs.sweep.sweep` over a store).
        flops: of a whole run.
        halving: successive halving. A rung trains its samples from scratch, as runs of fewer steps. At a
            constant learning rate such a run is the first part of the longer one, step by step. A schedule
            that ends with the run is drawn together with it: then a short run ranks annealed models.
        compare: make the same search in SP too, and copy its winner in SP: the paper's naive transfer.
        known: the records of those runs that are done (`Store.get`). With ``halving``, if all runs of the full
            search are among them, they go into the table, for the agreement of the two.

    Raises:
        UserError: no sample has trained; or ``halving`` has no room for two rungs.
    """
    rows: list[Row] = []
    for one in (search, search.within("sp")) if compare else (search,):
        rows += _algorithm_1(one, train, halving)
    records = [record for _, _, record in rows]
    if halving and known:
        runs = search.runs(range(len(search.samples)))
        done = known([spec.run_id for spec in runs])
        if all(spec.run_id in done for spec in runs):
            rows += [("full", i, done[spec.run_id]) for i, spec in enumerate(runs)]
    return _table(rows, search, flops, curves=not halving), records


def _algorithm_1(search: Search, train: Train, halving: bool) -> list[Row]:
    rows: list[Row] = []

    def measure(samples: Sequence[int], steps: int) -> Losses:
        specs = search.runs(samples, steps)
        records = {record.spec.run_id: record for record in train(specs)}  # equal samples share a run
        rows.extend(("proxy", i, records[spec.run_id]) for i, spec in zip(samples, specs, strict=True))
        return {i: records[spec.run_id].train_loss for i, spec in zip(samples, specs, strict=True)}

    samples, steps = len(search.samples), search.proxy.steps
    rungs = halve(rung_plan(samples, steps) if halving else [(samples, steps)], measure)
    if not (best := rungs[-1].ranking):
        raise UserError(
            f"no sample of {samples} has trained to the end at width {search.proxy.width} "
            f"({search.proxy.parametrization}), {_counts(record for _, _, record in rows)}; lower the learning rates "
            "of the space or give more samples."
        )
    (target,) = train([search.copied(best[0])])
    return [*rows, ("target", best[0], target)]


def _counts(records: Iterable[RunRecord]) -> str:
    found = sorted(record.status for record in records)
    return ", ".join(f"{len(list(group))} {status}" for status, group in itertools.groupby(found))


def _table(rows: Iterable[Row], search: Search, flops: Callable[[RunSpec], float], curves: bool) -> pd.DataFrame:
    """role and sample, the columns of the runs table, a column a hyperparameter, FLOPs, losses on the way."""
    hps = [name for name in sorted(search.space) if name not in ("lr", "momentum")]  # those have columns already
    try:
        cuts = [steps for _, steps in rung_plan(len(search.samples), search.proxy.steps)[:-1]] if curves else []
    except UserError:
        cuts = []
    rows = list(rows)
    frame = to_roles(rows, hps, flops)
    for steps in cuts:
        frame[f"loss_at_{steps}"] = [loss_at(r, steps) if role == "proxy" else math.nan for role, _, r in rows]
    order = frame.assign(role=frame["role"].map(ROLES.index), sp=frame["parametrization"] == "sp")
    return frame.loc[order.sort_values(["sp", "role", "steps", "sample"]).index].reset_index(drop=True)


def loss_at(record: RunRecord, steps: int) -> float:
    """The training loss after ``steps`` steps: the last point of the loss curve that lies wholly before.

    +inf if the run had diverged by then, NaN if it failed or the curve has no such point.
    """
    if record.status == "failed":
        return math.nan
    if record.steps_done < steps:
        return math.inf
    points = min(CURVE_POINTS, record.spec.steps)
    before = [i for i in range(len(record.loss_curve)) if (i + 1) * record.spec.steps // points <= steps]
    if not before:
        return math.nan
    loss = record.loss_curve[before[-1]]
    return loss if math.isfinite(loss) else math.inf
