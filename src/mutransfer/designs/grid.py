"""A learning-rate sweep over widths, whose grid extends itself where an optimum lies on its edge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from mutransfer.designs.design import Bench, Design, Output, Tables
from mutransfer.training.spec import RunRecord, RunSpec

if TYPE_CHECKING:
    import pandas as pd

EXTENSION_OCTAVES = 2
EXTENSION_ROUNDS = 3  # so that a loss that falls forever cannot keep a sweep going


def lr_sweep(
    grid: Sequence[RunSpec], *, rounds: int = EXTENSION_ROUNDS, of_widest: bool = False
) -> Design[list[RunRecord]]:
    """The grid, and in so many ``rounds`` what it lacks when its runs are there (`missing_rates`), with all seeds of
    that width; returns all records.
    """
    from mutransfer.runs.table import to_frame

    seeds = {(spec.parametrization, spec.width, spec.seed): spec for spec in grid}
    records = yield [*grid]
    for rounds_left in reversed(range(rounds)):
        new = [
            replace(spec, log2_lr=log2_lr)
            for *curve, log2_lr in missing_rates(to_frame(records), not rounds_left, of_widest=of_widest)
            for spec in seeds.values()
            if [spec.parametrization, spec.width] == curve
        ]
        if not new:
            break
        records += yield new
    return records


def missing_rates(frame: pd.DataFrame, is_last: bool, *, of_widest: bool) -> list[tuple[str, int, float]]:
    """(parametrization, width, log2 LR) that a runs table lacks by the rule of the verdicts.

    Two octaves more where an optimum is on the edge, but not the last time, when a rate that is new could not be copied
    to the other widths any more; and transferred rates that a width never ran, without a hole on the way there.
    ``of_widest``: the widest width's best rate in SP is copied to the others, too.
    """
    from mutransfer.results.transfer import needs_extension, untested_transfers

    rates = frame.groupby(["parametrization", "width"])["log2_lr"].agg(["min", "max"])
    grown = dict[tuple[str, int, float], None]()
    for parametrization, width, side in [] if is_last else needs_extension(frame):
        low, high = rates.loc[(parametrization, width)]
        edge, step = (low, -1) if side == "low" else (high, 1)
        grown |= {(parametrization, width, edge + step * k): None for k in range(1, EXTENSION_OCTAVES + 1)}
    for parametrization, width, log2_lr in untested_transfers(frame, of_widest=of_widest):
        low, high = rates.loc[(parametrization, width)]
        between = {x for x in frame["log2_lr"] if high < x <= log2_lr or log2_lr <= x < low}
        grown |= {(parametrization, width, x): None for x in between}
    return [*grown]


@dataclass(frozen=True, kw_only=True)
class LrSweep(Output):
    """The learning-rate sweep over widths in SP and µP (Figures 1 and 3).

    curves: whether losses through training are drawn too (Figure 7).
    accuracy: the paper's table of test accuracies of a copied learning rate, such as Table 12; "": not reported.
    coordinates: whether there is a coordinate check of SP and µP (Figure 5): the function ``coordinates`` of the module
        that trains, from experiment, data set, scale and variant its table (`CoordFrame.data` with parametrization and
        optimizer) and what provenance.json says of it.
    backends: by name, what else may train the runs (as the hyperparameter ``backend`` of their specs): the function
        that raises if it is not installed.
    """

    curves: bool = False
    accuracy: str = ""
    coordinates: bool = False
    backends: Mapping[str, Callable[[], None]] = field(default_factory=dict)
    more: ClassVar[str] = "the grid is extended by {} runs"

    def design(self, bench: Bench) -> Design[list[RunRecord]]:
        return lr_sweep(bench.specs(), rounds=EXTENSION_ROUNDS if bench.extends else 0, of_widest=self.curves)

    def tables(self, bench: Bench, trained: list[RunRecord]) -> Tables:
        from mutransfer.runs.table import to_frame

        e = bench.experiment
        tables: dict[str, pd.DataFrame] = {}
        facts: dict[str, Any] = {}
        if self.coordinates:
            print("coordinate check ...", flush=True)
            table, facts["coordinates"] = e.code.coordinates(e, bench.dataset, bench.scale, bench.variant)
            tables["coordinates.csv"] = table
        frame = to_frame(trained, e.columns)
        if self.curves:
            tables["curves.csv"], facts["learning"] = to_curves(trained, frame)
        if self.accuracy:
            facts["accuracy"] = self.accuracy
        what = f"widths {frame['width'].min()} to {frame['width'].max()} from base width {bench.size.base_width}"
        facts |= {
            "loss_ceiling": bench.declared.loss_ceiling,
            "log2_lrs": [*e.grid(bench.scale, bench.variant)],
            "paper": bench.paper(trained, bench.declared.paper, what, frame["seed"].nunique()),
        }
        return Tables(runs=frame, facts=facts, others=tables)


def to_curves(records: Iterable[RunRecord], frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Losses through training at fixed learning rates (Figure 7), and what provenance.json says of them.

    One panel for each parametrization and learning rate that all widths ran. Three are drawn: µP at the rate that is
    best at its smallest width; SP at that rate; SP at the rate that is best at its largest. ``loss`` is the mean of
    the steps up to ``step`` since the row before. ``frame``: the runs table, for the means over seeds.
    """
    from mutransfer.runs.table import curve_rows

    mean = frame.groupby(["parametrization", "width", "log2_lr"])["train_loss"].mean()
    tested = frame.groupby(["parametrization", "log2_lr"])["width"].nunique()

    def best(parametrization: str, width: int) -> float:
        return float(mean.loc[parametrization, width].idxmin())

    def key(parametrization: str, log2_lr: float) -> str:
        return f"{parametrization}/{log2_lr:g}"

    low, high = frame["width"].min(), frame["width"].max()
    tuned, widest = best("mup", low), best("sp", high)
    drawn = {
        key("mup", tuned): f"µP, LR $2^{{{tuned:g}}}$ (best at width {low})",
        key("sp", tuned): f"SP, LR $2^{{{tuned:g}}}$",
        key("sp", widest): f"SP, LR $2^{{{widest:g}}}$ (best at width {high})",
    }
    kept = {key(*rate) for rate in tested.index[tested == frame["width"].nunique()]} | {*drawn}
    panels = ((key(record.spec.parametrization, record.spec.log2_lr), record) for record in records)
    return curve_rows((panel, record) for panel, record in panels if panel in kept), {"panels": drawn}
