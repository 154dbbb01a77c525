"""The runs table: what `mutransfer.results` reads, and what is committed as runs.csv."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mutransfer.files import write
from mutransfer.results.learning import logged
from mutransfer.training.spec import CURVE_POINTS, RunRecord, RunSpec

_SPEC_COLUMNS = ["run_id", "experiment", "variant", "parametrization", "width", "base_width", "log2_lr"]
_SPEC_COLUMNS += ["seed", "steps", "batch", "momentum", "precision", "data", "data_fingerprint"]
_RECORD_COLUMNS = ["status", "train_loss", "test_loss", "test_accuracy", "steps_done", "wall_seconds"]
COLUMNS = [*_SPEC_COLUMNS, *_RECORD_COLUMNS]


def to_frame(records: Iterable[RunRecord], hps: Sequence[str] = ()) -> pd.DataFrame:
    """One row a run, `COLUMNS` and the experiment's own hyperparameters ``hps`` in this order.

    Sorted by parametrization (SP first), width, log2 LR and seed.

    ``train_loss`` is ``inf`` for a diverged run and ``nan`` for a failed one; ``test_loss`` and
    ``test_accuracy`` are ``nan`` for both. Only ``wall_seconds`` may differ when a run is repeated.
    """

    def place(record: RunRecord) -> tuple[object, ...]:
        s = record.spec
        name = s.parametrization
        return (s.experiment, s.variant, name != "sp", name, s.width, s.log2_lr, s.seed, s.run_id)

    def row(record: RunRecord) -> list[object]:
        values = [getattr(record.spec, n) for n in _SPEC_COLUMNS] + [getattr(record, n) for n in _RECORD_COLUMNS]
        return values + [record.spec.hp(n) for n in hps]

    # the records themselves, with their curves, go one by one
    return pd.DataFrame([values for _, values in sorted((place(r), row(r)) for r in records)], columns=[*COLUMNS, *hps])


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


def curve_rows(runs: Iterable[tuple[str, RunRecord]]) -> pd.DataFrame:
    """curves.csv: the loss curve of every (panel, run), a row a point."""
    rows = []
    for panel, record in runs:
        s, points = record.spec, min(CURVE_POINTS, record.spec.steps)
        tokens = s.batch * int(dict(s.hps).get("length", 1))
        for step, loss in logged(record.loss_curve, s.steps, points, diverged=record.status == "diverged"):
            rows.append((panel, s.parametrization, s.width, s.log2_lr, s.seed, step, step * tokens, loss))
    names = ["panel", "parametrization", "width", "log2_lr", "seed", "step", "tokens", "loss"]
    return pd.DataFrame(rows, columns=names).sort_values(names[:-1], ignore_index=True)


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


def write_csv(frame: pd.DataFrame, path: Path | str) -> None:
    """Write ``frame`` so that it reads back exactly: floats in full, ``inf`` and ``nan`` spelled out.

    The file is replaced whole or not at all. Raises `UserError` if it cannot be written.
    """
    write(Path(path), frame.to_csv(index=False, na_rep="nan", lineterminator="\n").encode())
