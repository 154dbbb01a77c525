"""The panels of a landscape figure: loss against one hyperparameter, a line for every value of another."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mutransfer.errors import UserError, unknown
from mutransfer.results.estimate import Array
from mutransfer.results.frame import Curves
from mutransfer.results.optimum import Optima, bootstrap_optima

COLUMNS = ("panel", "x", "line", "seed", "train_loss")
METRICS = {"train_loss": "training loss", "test_loss": "test loss"}
"""Columns that a panel may be of, in words."""
ONE_SETTING = ("experiment", "variant", "parametrization", "optimizer", "data_fingerprint")
"""Columns that must hold one value within a panel where they are present."""


@dataclass(frozen=True)
class Axis:
    """What the numbers and words of a panel mean."""

    line_name: str = "line"
    is_log2: bool = False
    """Whether x is the log2 of what it is called."""
    words: tuple[str, ...] = ()
    """Order of the words on a word axis; empty: alphabetical."""


@dataclass(frozen=True)
class Panel:
    """The losses of one panel: every line has every choice, and that every seed."""

    key: str
    axis: Axis
    words: tuple[str, ...]
    """[G] the choices if they are words; empty if they are numbers."""
    lines: tuple[float, ...]
    """[L], ascending."""
    curves: tuple[Curves, ...]
    """[L]; in place of log2 LRs [G] the values of x, or 0 .. G-1 for words."""

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
    runs: pd.DataFrame, axes: Mapping[str, Axis] | None = None, *, metric: str = "train_loss"
) -> dict[str, Panel]:
    """The curves of every panel, checked, in the order in which ``runs`` first names them.

    ``runs`` has one row a run with `COLUMNS` (the loss is +inf if diverged) and optionally status; x is a number or,
    throughout a panel, a word. ``metric``: the column of `METRICS` that is read in place of train_loss.

    Raises `UserError` on an unknown metric, missing columns, no rows, failed runs, values that are no numbers,
    duplicates, mixed settings, an x that is sometimes a word, a word that its axis does not have, and a gap: a
    (line, x, seed) that the panel's other lines and choices have.
    """
    if metric not in METRICS:
        raise unknown("metric of a panel", metric, METRICS)
    needed = (*COLUMNS[:-1], metric)
    missing = [name for name in needed if name not in runs.columns]
    if missing:
        raise UserError(f"the runs table lacks {', '.join(missing)}; it needs the columns {', '.join(needed)}.")
    if runs.empty:
        raise UserError("the runs table has no rows; run the sweep first.")
    keys = list(dict.fromkeys(runs["panel"].astype(str)))
    known = axes or {}
    return {key: _read(key, runs[runs["panel"].astype(str) == key], known.get(key, Axis()), metric) for key in keys}


def _read(key: str, runs: pd.DataFrame, axis: Axis, metric: str) -> Panel:
    for name in ONE_SETTING:
        if name in runs.columns and runs[name].nunique(dropna=False) > 1:
            found = ", ".join(str(v) for v in sorted(runs[name].unique(), key=str)[:4])
            raise UserError(f"panel '{key}' mixes several values of {name} ({found}); select one of them first.")
    status = runs["status"].astype("string") if "status" in runs.columns else pd.Series("finished", index=runs.index)
    frame = runs[["line", "seed", metric]].apply(pd.to_numeric, errors="coerce").astype(float)
    frame.loc[status == "diverged", metric] = np.inf
    frame["x"] = pd.to_numeric(runs["x"], errors="coerce").round(9) + 0.0  # by value: absorb the last bits of a CSV
    is_word = frame["x"].isna()
    if is_word.any() and not is_word.all():
        raise UserError(f"panel '{key}' has an x that is a word, first '{runs['x'][is_word].iloc[0]}', beside numbers.")
    choices = []
    if is_word.all() and runs["x"].notna().all():
        present = {str(word) for word in runs["x"]}
        for word in sorted(present - set(axis.words)) if axis.words else []:
            raise unknown(f"choice of panel '{key}'", word, axis.words)
        choices = [word for word in (axis.words or sorted(present)) if word in present]
        frame["x"] = runs["x"].astype(str).map(choices.index).astype(float)
    wrong = frame.isna().any(axis=1) | (status == "failed") | np.isinf(frame[["line", "seed", "x"]]).any(axis=1)
    wrong |= frame[metric] == -np.inf
    if wrong.any():
        text = ", ".join(f"{n}={v}" for n, v in runs.loc[wrong, [*COLUMNS[:-1], metric]].iloc[0].to_dict().items())
        raise UserError(
            f"{int(wrong.sum())} of {len(runs)} runs failed or hold no number, first ({text}); run them again or "
            "drop them."
        )
    cells = list(frame[["line", "x", "seed"]].itertuples(index=False, name=None))
    values, grid, seeds = (sorted({cell[k] for cell in cells}) for k in range(3))
    shown = dict(zip(grid, choices or [f"{'2^' * axis.is_log2}{x:g}" for x in grid], strict=True))

    def describe(cell: tuple[float, float, float]) -> str:
        return f"({key}, {axis.line_name} {cell[0]:g}, x {shown[cell[1]]}, seed {cell[2]:g})"

    if double := frame.duplicated(["line", "x", "seed"]).sum():
        twice = next(cell for k, cell in enumerate(cells) if cell in cells[:k])
        raise UserError(f"{double} runs stand twice in the table, first {describe(twice)}; keep one of each.")
    if gap := sorted(set(itertools.product(values, grid, seeds)) - set(cells)):
        text = ", ".join(describe(cell) for cell in gap[:5]) + (f" and {len(gap) - 5} more" if len(gap) > 5 else "")
        raise UserError(f"{len(gap)} runs are missing: {text}; run the sweep again to fill the gap.")
    loss = frame.sort_values(["line", "seed", "x"])[metric].to_numpy()
    loss = loss.reshape(len(values), len(seeds), len(grid))
    x = np.array(grid, dtype=float)
    curves = tuple(Curves(int(value), x, one) for value, one in zip(values, loss, strict=True))
    return Panel(key, axis, tuple(choices), tuple(values), curves)


def draw_optima(panel: Panel, curves: Sequence[Curves], draws: int, seed: int) -> list[Optima]:
    """The optima of every line and of its bootstrap draws; each line has its own stream, as in `transfer`."""
    streams = [np.random.default_rng([seed, zlib.crc32(f"{panel.key} {value:g}".encode())]) for value in panel.lines]
    return [bootstrap_optima(one, draws, rng) for one, rng in zip(curves, streams, strict=True)]
