"""The runs table: what it must hold, and the learning-rate curves in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mutransfer.errors import UserError
from mutransfer.results.estimate import Array

COLUMNS = ("parametrization", "width", "log2_lr", "seed", "train_loss")
KEY = list(COLUMNS[:4])
ONE_SETTING = ("experiment", "variant", "optimizer", "steps", "batch", "data_fingerprint")
"""Columns that must hold one value where they are present: losses under two settings do not compare."""

Cell = tuple[str, int, float, int]
"""parametrization, width, log2 learning rate, seed."""


@dataclass(frozen=True)
class Curves:
    """Final training losses of one parametrization at one width."""

    width: int
    log2_lr: Array
    """[G], ascending."""
    loss: Array
    """[S, G], a row a seed; +inf where the run diverged."""


def tidy(runs: pd.DataFrame) -> pd.DataFrame:
    """The columns ``COLUMNS`` of ``runs``, checked and sorted; a diverged run has loss +inf.

    A column ``status`` is optional; where present, ``diverged`` rows count as +inf and ``failed`` rows raise.
    Raises `UserError` on missing columns, no rows, values that are not numbers, NaN, duplicates, failed runs
    and mixed settings.
    """
    missing = [name for name in COLUMNS if name not in runs.columns]
    if missing:
        raise UserError(f"the runs table lacks {', '.join(missing)}; it needs the columns {', '.join(COLUMNS)}.")
    if runs.empty:
        raise UserError("the runs table has no rows; run the sweep first.")
    for name in ONE_SETTING:
        if name in runs.columns and runs[name].nunique(dropna=False) > 1:
            found = ", ".join(str(v) for v in sorted(runs[name].unique(), key=str)[:4])
            raise UserError(f"the runs table mixes several values of {name} ({found}); select one of them first.")

    frame = pd.DataFrame({"parametrization": runs["parametrization"].astype("string")})
    for name in COLUMNS[1:]:
        frame[name] = pd.to_numeric(runs[name], errors="coerce").astype(float)
    status = runs["status"].astype("string") if "status" in runs.columns else pd.Series("finished", index=runs.index)
    frame.loc[status == "diverged", "train_loss"] = np.inf
    wrong = frame.isna().any(axis=1) | (status == "failed") | np.isinf(frame[["width", "log2_lr", "seed"]]).any(axis=1)
    wrong |= (frame["width"] < 1) | (frame["train_loss"] == -np.inf)
    if wrong.any():
        at = runs.loc[wrong, list(COLUMNS)].iloc[0].to_dict()
        text = ", ".join(f"{name}={value}" for name, value in at.items())
        raise UserError(
            f"{int(wrong.sum())} of {len(runs)} runs failed or hold no number, first ({text}); run "
            "them again or drop them."
        )
    # A grid is compared by value: absorb the last bits of a CSV.
    frame["log2_lr"] = frame["log2_lr"].round(9) + 0.0
    frame["width"], frame["seed"] = frame["width"].astype(int), frame["seed"].astype(int)
    frame["parametrization"] = frame["parametrization"].astype(object)
    frame = frame.sort_values(KEY, ignore_index=True)
    double = frame.duplicated(KEY)
    if double.any():
        cell = next(frame.loc[double, KEY].itertuples(index=False, name=None))
        raise UserError(
            f"{int(double.sum())} runs stand twice in the table, first {describe([cell])}; keep one of each."
        )
    return frame


def describe(cells: Iterable[Cell], limit: int = 5) -> str:
    """``(sp, width 64, 2^-4, seed 0), ...`` for an error message, at most ``limit`` of them."""
    cells = list(cells)
    shown = [f"({p}, width {w}, 2^{lr:g}, seed {s})" for p, w, lr, s in cells[:limit]]
    return ", ".join(shown) + (f" and {len(cells) - limit} more" if len(cells) > limit else "")


def missing_cells(frame: pd.DataFrame, log2_lrs: Iterable[float] = ()) -> list[Cell]:
    """The cells that a complete table would have and ``frame`` (tidy) lacks.

    Complete: every parametrization has every width; every learning rate of a width has every seed of the
    table; a learning rate that another width has and that lies inside this width's tested range is there too
    (outside of it, the other grid was extended); and every width has all of ``log2_lrs``, the grid that was
    planned.
    """
    names, widths, seeds = (sorted(frame[c].unique()) for c in ("parametrization", "width", "seed"))
    everywhere, planned = set(frame["log2_lr"]), {round(float(x), 9) for x in log2_lrs}
    wanted = set()
    for name, width in itertools.product(names, widths):
        own = set(frame.loc[(frame["parametrization"] == name) & (frame["width"] == width), "log2_lr"])
        inside = {x for x in everywhere if not own or min(own) <= x <= max(own)}
        wanted |= {(name, width, lr, seed) for lr in own | inside | planned for seed in seeds}
    return sorted(wanted - set(frame[KEY].itertuples(index=False, name=None)))


def curves(frame: pd.DataFrame) -> dict[str, list[Curves]]:
    """Per parametrization (in order of its name), the curves of every width, ascending.

    Raises `UserError` where a learning rate of a width lacks a seed that the width has.
    """
    table: dict[str, list[Curves]] = {}
    for (name, width), group in frame.groupby(["parametrization", "width"], sort=True):
        gap = missing_cells(group)
        if gap:
            raise UserError(f"{len(gap)} runs are missing: {describe(gap)}; run the sweep again to fill the gap.")
        loss = group.pivot(index="seed", columns="log2_lr", values="train_loss")
        table.setdefault(str(name), []).append(Curves(int(width), loss.columns.to_numpy(float), loss.to_numpy(float)))
    return table
