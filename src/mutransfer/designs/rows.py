"""Rows of a figure's own table, made of its records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from mutransfer.runs.table import curve_rows, to_frame
from mutransfer.training.spec import RunRecord, RunSpec


def to_curves(records: Iterable[RunRecord], frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Losses through training at fixed learning rates (Figure 7), and what provenance.json says of them.

    A panel for every parametrization and learning rate that all widths ran. Three are drawn: µP at the rate that is
    best at its smallest width; SP at that rate; SP at the rate that is best at its largest. ``loss`` is the mean of
    the steps up to ``step`` since the row before. ``frame``: the runs table, for the means over seeds.
    """
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


def to_roles(
    rows: Iterable[tuple[str, int, RunRecord]], hps: Sequence[str], flops: Callable[[RunSpec], float]
) -> pd.DataFrame:
    """One row a (role, sample, run) of a search: role, sample, the runs table, ``hps``, FLOPs as planned."""
    parts = []
    for role, sample, record in rows:
        row = to_frame([record], hps)
        row.insert(0, "role", role)
        row.insert(1, "sample", sample)
        parts.append(row.assign(flops=flops(record.spec)))
    return pd.concat(parts, ignore_index=True)
