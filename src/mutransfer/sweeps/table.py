"""The runs table: what `mutransfer.analysis` reads, and what is committed as runs.csv."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from mutransfer.files import write
from mutransfer.training.spec import RunRecord

_SPEC_COLUMNS = ["run_id", "experiment", "variant", "parametrization", "width", "base_width", "log2_lr"]
_SPEC_COLUMNS += ["seed", "steps", "batch", "momentum", "precision", "data", "data_fingerprint"]
_RECORD_COLUMNS = ["status", "train_loss", "test_loss", "test_accuracy", "steps_done", "wall_seconds"]
COLUMNS = [*_SPEC_COLUMNS, *_RECORD_COLUMNS]


def to_frame(records: Iterable[RunRecord]) -> pd.DataFrame:
    """One row a run, `COLUMNS` in this order; sorted by parametrization (SP first), width, log2 LR and seed.

    ``train_loss`` is ``inf`` for a diverged run and ``nan`` for a failed one; ``test_loss`` and
    ``test_accuracy`` are ``nan`` for both. Only ``wall_seconds`` may differ when a run is repeated.
    """

    def place(record: RunRecord) -> tuple[object, ...]:
        s = record.spec
        name = s.parametrization
        return (s.experiment, s.variant, name != "sp", name, s.width, s.log2_lr, s.seed, s.run_id)

    def row(record: RunRecord) -> list[object]:
        return [getattr(record.spec, n) for n in _SPEC_COLUMNS] + [getattr(record, n) for n in _RECORD_COLUMNS]

    # the records themselves, with their curves, go one by one
    return pd.DataFrame([values for _, values in sorted((place(r), row(r)) for r in records)], columns=COLUMNS)


def write_runs_csv(frame: pd.DataFrame, path: Path | str) -> None:
    """Write ``frame`` so that it reads back exactly: floats in full, ``inf`` and ``nan`` spelled out.

    The file is replaced whole or not at all. Raises `UserError` if it cannot be written.
    """
    write(Path(path), frame.to_csv(index=False, na_rep="nan", lineterminator="\n").encode())
