"""The runs table: what it must hold, and the curves in it, over learning rates or in the panels of a landscape."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mutransfer.errors import UserError, unknown
from mutransfer.results.estimate import Array
from mutransfer.results.schema import Rows, Schema

COLUMNS = ("parametrization", "width", "log2_lr", "seed", "train_loss")
KEY = list(COLUMNS[:4])
ONE_SETTING = ("experiment", "variant", "optimizer", "steps", "batch", "data_fingerprint")
"""Columns that must hold one value where they are present: losses under two settings do not compare."""

Cell = tuple[str, int, float, int]
"""parametrization, width, log2 learning rate, seed."""


@dataclass(frozen=True)
class Curves:
    """Final losses of one line: of one parametrization at one width, say."""

    width: int
    """Or another number that the line is of."""
    log2_lr: Array
    """[G], ascending; in a panel, where the choices stand on its axis."""
    loss: Array
    """[S, G], one row per seed; +inf where the run diverged."""


def tidy(runs: pd.DataFrame, more: Iterable[str] = ()) -> pd.DataFrame:
    """The columns ``COLUMNS`` of ``runs``, checked and sorted, and ``more`` as they are; a diverged run has loss +inf.

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
            values = ", ".join(str(v) for v in sorted(runs[name].unique(), key=str)[:4])
            raise UserError(f"the runs table mixes several values of {name} ({values}); select one of them first.")

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
    frame = frame.assign(**{name: runs[name].to_numpy() for name in more})
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


METRICS = {"train_loss": "training loss", "test_loss": "test loss"}
"""Columns that a panel may be of, in words."""
ONE_PANEL = ("experiment", "variant", "parametrization", "optimizer", "data_fingerprint")
"""As `ONE_SETTING`, within a panel."""


@dataclass(frozen=True)
class PanelAxis:
    """What the numbers and words of a panel mean."""

    line_name: str = "line"
    is_log2: bool = False
    """Whether x is the log2 of what it is called."""
    words: tuple[str, ...] = ()
    """Order of the words on a word axis; empty: alphabetical."""


@dataclass(frozen=True)
class PanelCurves:
    """The losses of one panel of a landscape: every line has every choice, and that every seed."""

    key: str
    axis: PanelAxis
    words: tuple[str, ...]
    """[G] the choices if they are words; empty if they are numbers."""
    lines: Mapping[float, Curves]
    """[L], ascending; in place of log2 LRs the values of x, or 0 .. G-1 for words."""

    @property
    def curves(self) -> tuple[Curves, ...]:
        """[L]"""
        return tuple(self.lines.values())

    @property
    def x(self) -> Array:
        """[G] where the choices stand on the axis."""
        return self.curves[0].log2_lr

    @property
    def seeds(self) -> int:
        return len(self.curves[0].loss)

    def choice(self, index: int) -> str:
        """The word or the number, as short text: ``cosine``, ``2^-6``, ``0.5``."""
        return self.words[index] if self.words else f"{'2^' * self.axis.is_log2}{self.x[index]:g}"


def read_panels(
    runs: pd.DataFrame, axes: Mapping[str, PanelAxis] | None = None, *, metric: str = "train_loss"
) -> dict[str, PanelCurves]:
    """The curves of every panel, checked, in the order in which ``runs`` first names them.

    ``runs`` has one row per run with panel, x, line, seed, a loss (+inf if diverged) and optionally status; x is a
    number or, throughout a panel, a word. ``metric``: the column of `METRICS` that holds the loss.

    Raises `UserError` on an unknown metric, missing columns, no rows, failed runs, values that are no numbers,
    duplicates, mixed settings, an x that is sometimes a word, a word that its axis does not have, and a gap: a
    (line, x, seed) that the panel's other lines and choices have.
    """
    if metric not in METRICS:
        raise unknown("metric of a panel", metric, METRICS)
    runs = runs.assign(status=runs["status"] if "status" in runs.columns else "finished")
    if metric in runs.columns:
        runs.loc[pd.to_numeric(runs[metric], errors="coerce") == np.inf, "status"] = "diverged"
    if {"panel", "x"} <= set(runs.columns):
        numbers = pd.to_numeric(runs["x"], errors="coerce").round(9) + 0.0  # by value: absorb the last bits of a CSV
        is_number = np.isfinite(numbers)
        runs["x"] = numbers.where(is_number, runs["x"])
        for key, part in runs[~is_number].groupby("panel"):
            if is_number[runs["panel"] == key].any():
                raise UserError(f"panel '{key}' has an x that is a word, first '{part['x'].iloc[0]}', beside numbers.")
    whole: dict[str, None] = dict.fromkeys(("line", "x", "seed"))
    schema = Schema(
        name="the runs table",
        columns={
            **{"panel": "text", "x": "text", "line": "finite number", "seed": "whole number"},
            **{metric: "number", "status": "text"},
        },
        key=("panel", "line", "x", "seed"),
        rows=(Rows(name="the figure", by=("panel",), constant=ONE_PANEL, complete=whole, results=(metric,)),),
        again="run the sweep again.",
    )
    table, known = schema.check(runs), axes or {}
    groups = table.groupby("panel", sort=False)
    return {str(key): _read_panel(str(key), group, known.get(str(key), PanelAxis()), metric) for key, group in groups}


def _read_panel(key: str, frame: pd.DataFrame, axis: PanelAxis, metric: str) -> PanelCurves:
    numbers, choices = pd.to_numeric(frame["x"], errors="coerce"), list[str]()
    if numbers.isna().any():
        present = set(frame["x"])
        for word in sorted(present - set(axis.words)) if axis.words else []:
            raise unknown(f"choice of panel '{key}'", word, axis.words)
        choices = [word for word in (axis.words or sorted(present)) if word in present]
        numbers = frame["x"].map(choices.index).astype(float)
    loss = frame[metric].where(frame["status"] != "diverged", np.inf).astype(float)
    table = frame.assign(x=numbers, loss=loss).pivot(index=["line", "seed"], columns="x", values="loss")
    x = table.columns.to_numpy(float)
    lines = {float(line): Curves(int(line), x, part.to_numpy()) for line, part in table.groupby(level="line")}
    return PanelCurves(key, axis, tuple(choices), lines)
