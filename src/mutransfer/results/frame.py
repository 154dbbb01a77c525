"""The runs table: what it must hold, and the curves in it, over learning rates or in the panels of a landscape."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mutransfer.errors import UserError, known
from mutransfer.results.estimate import Array
from mutransfer.results.schema import Rows, Schema, Type, cell

KEY = ["parametrization", "width", "log2_lr", "seed"]
ONE_SETTING = ("experiment", "variant", "optimizer", "steps", "batch", "data_fingerprint")
"""Columns that must hold one value where they are present: losses under two settings do not compare."""

Cell = tuple[str, int, float, int]
"""parametrization, width, log2 learning rate, seed."""


@dataclass(frozen=True)
class Curves:
    """Final losses of one line: of one parametrization at one width, say."""

    width: int  # or another number that the line is of
    log2_lr: Array  # [G], ascending; in a panel, where the choices stand on its axis
    loss: Array  # [S, G], one row per seed; +inf where the run diverged


def _checked(runs: pd.DataFrame, metric: str, columns: Mapping[str, Type], key: Sequence[str], rows: Rows) -> Any:
    """``runs`` with a status; the ``metric`` of a diverged run is +inf. Raises `UserError` as `Schema.check` does."""
    runs = runs.assign(status=runs["status"] if "status" in runs.columns else "finished")
    for name in {"log2_lr", "x"} & set(runs.columns):  # a grid is compared by value: absorb the last bits of a CSV
        numbers = pd.to_numeric(runs[name], errors="coerce").round(9) + 0.0
        runs[name] = numbers.where(np.isfinite(numbers), runs[name])
    if metric in runs.columns:
        runs.loc[pd.to_numeric(runs[metric], errors="coerce") == np.inf, "status"] = "diverged"
    every: dict[str, Type] = {**columns, metric: "number", "status": "text"}
    again = "run the sweep again."
    table = Schema(name="the runs table", columns=every, key=tuple(key), rows=(rows,), again=again).check(runs)
    return table.assign(**{metric: table[metric].where(table["status"] != "diverged", np.inf).astype(float)})


def tidy(runs: pd.DataFrame, more: Sequence[str] = ()) -> pd.DataFrame:
    """The columns of `KEY`, train_loss and ``more`` of ``runs``, checked and sorted; a diverged run has loss +inf.

    A column ``status`` is optional; where present, ``diverged`` rows count as +inf. Raises `UserError` on missing
    columns, no rows, values that are not numbers, NaN, duplicates, failed runs and mixed settings.
    """
    columns: dict[str, Type] = dict(zip(KEY, ("text", "whole number", "finite number", "whole number"), strict=True))
    rows = Rows(name="the figure", constant=ONE_SETTING, results=("train_loss",))
    table = _checked(runs, "train_loss", columns, KEY, rows)
    if (table["width"] < 1).any():
        raise UserError("the runs table has a width below 1; run the sweep again.")
    table = table[[*KEY, "train_loss", *more]].astype({"parametrization": object, "log2_lr": float})
    return table.sort_values(KEY, ignore_index=True)


def missing_cells(frame: pd.DataFrame, log2_lrs: Iterable[float] = ()) -> list[Cell]:
    """The cells that a complete table would have and ``frame`` (tidy) lacks.

    Complete: every parametrization has every width; every width has the planned grid ``log2_lrs``, and every learning
    rate of another width that lies inside its own tested range (outside of it, the other grid was extended); every
    learning rate of a width has every seed of the table.
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
        if gap := missing_cells(group):
            raise UserError(f"{len(gap)} runs are missing, first {cell(KEY, gap[0])}; run the sweep again.")
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
    is_log2: bool = False  # whether x is the log2 of what it is called
    words: tuple[str, ...] = ()  # their order on a word axis; empty: alphabetical


@dataclass(frozen=True)
class PanelCurves:
    """The losses of one panel of a landscape: every line has every choice, and that every seed."""

    key: str
    axis: PanelAxis
    words: tuple[str, ...]  # [G] the choices if they are words; empty if they are numbers
    lines: Mapping[float, Curves]  # [L], ascending; in place of log2 LRs the values of x, or 0 .. G-1 for words

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

    runs: one row per run with panel, x (a number or a word), line, seed, a loss (+inf if diverged) and optionally
    status. axes: what a panel's numbers and words mean. metric: the column of `METRICS` that holds the loss.

    Raises `UserError` as `tidy` does, on an unknown metric, a word that its axis does not have, and a gap: a (line, x,
    seed) that the panel's other lines and choices have.
    """
    known("metric of a panel", metric, METRICS)
    columns: dict[str, Type] = {"panel": "text", "x": "text", "line": "finite number", "seed": "whole number"}
    whole: dict[str, None] = dict.fromkeys(("line", "x", "seed"))
    rows = Rows(name="the figure", by=("panel",), constant=ONE_PANEL, complete=whole, results=(metric,))
    groups, axes = _checked(runs, metric, columns, ("panel", *whole), rows).groupby("panel", sort=False), axes or {}
    return {str(key): _read_panel(str(key), group, axes.get(str(key), PanelAxis()), metric) for key, group in groups}


def _read_panel(key: str, frame: pd.DataFrame, axis: PanelAxis, metric: str) -> PanelCurves:
    numbers, choices = pd.to_numeric(frame["x"], errors="coerce"), list[str]()
    if numbers.isna().any():
        present = set(frame["x"])
        valid = axis.words or sorted(present)
        for word in sorted(present):
            known(f"choice of panel '{key}'", word, valid)
        choices = [word for word in valid if word in present]
        numbers = frame["x"].map(choices.index).astype(float)
    table = frame.assign(x=numbers).pivot(index=["line", "seed"], columns="x", values=metric)
    x = table.columns.to_numpy(float)
    lines = {float(line): Curves(int(line), x, part.to_numpy()) for line, part in table.groupby(level="line")}
    return PanelCurves(key, axis, tuple(choices), lines)
