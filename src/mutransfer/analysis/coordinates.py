"""The coordinate check's claim: how fast does each activation, and its change, grow with width (App. D.1)?

The rule, fixed before any result. For one activation at one step, the growth exponent is the slope of log2(rms)
against log2(width), with a t interval over seeds. Theory wants 0, and the smallest deviation it allows a wrong
parametrization is 1/2; so an exponent above +0.25 `grows`, below -0.25 `shrinks`, else it is `ok`. An activation's
verdict is that of its worst row: its value at init (step 0) and its change since init after each step. Readouts and
the model's output, and what the caller lists (attention logits), may shrink at init, by the law of large numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from mutransfer.errors import unknown

TOLERANCE = 0.25
COLUMNS = ["width", "seed", "step", "activation", "kind", "rms"]


@dataclass(frozen=True)
class CoordFrame:
    """What `coord_check` measured.

    data: one row a (width, seed, step, activation, kind) with ``rms``, the root mean square of the coordinates;
        kind ``value``: of x_t; kind ``change``: of x_t - x_0 on the same input.
    may_shrink_at_init: activations whose value at init is allowed to vanish with width.
    """

    data: pd.DataFrame
    parametrization: str
    optimizer: str
    may_shrink_at_init: frozenset[str] = frozenset()

    def exponents(self) -> pd.DataFrame:
        """One row an (activation, kind, step) with exponent, low, high (95%) and verdict."""
        rows = []
        for (activation, kind, step), cell in self.data.groupby(["activation", "kind", "step"], sort=False):
            if (kind == "value") == (step == 0):
                allowed = kind == "value" and activation in self.may_shrink_at_init
                fit = _growth(cell)
                rows.append((activation, "init" if step == 0 else "change", step, *fit, _verdict(fit[0], allowed)))
        names = ["activation", "kind", "step", "exponent", "low", "high", "verdict"]
        return pd.DataFrame(rows, columns=names).dropna(subset="verdict").reset_index(drop=True)

    def verdict(self) -> CoordVerdict:
        """The verdict on every activation: that of its worst row."""
        rows = self.exponents()
        rows["badness"] = rows["exponent"].abs() + np.where(rows["verdict"] == "ok", 0, 1e6)
        # an activation that never moves has no exponent at all: it is the extreme of shrinking
        moved = set(rows.loc[rows["kind"] == "change", "activation"])
        order = list(dict.fromkeys(self.data["activation"]))
        still = [(a, "change", 0, -np.inf, np.nan, np.nan, "shrinks", np.inf) for a in order if a not in moved]
        rows = pd.concat([rows, pd.DataFrame(still, columns=rows.columns)]) if still else rows
        worst = rows.sort_values("badness", kind="stable").groupby("activation", sort=False).tail(1)
        worst = worst.set_index("activation").loc[order].drop(columns="badness")
        return CoordVerdict(worst, self.parametrization, self.optimizer)


@dataclass(frozen=True)
class CoordVerdict(Mapping[str, pd.Series]):
    """A row an activation (kind, step, exponent, low, high, verdict). ``.ok`` is True when every verdict is `ok`."""

    table: pd.DataFrame
    parametrization: str
    optimizer: str

    @property
    def ok(self) -> bool:
        return bool((self.table["verdict"] == "ok").all())

    def __getitem__(self, activation: str) -> pd.Series:
        if activation not in self.table.index:
            raise KeyError(str(unknown("activation", activation, self.table.index)))
        return self.table.loc[activation]

    def __iter__(self) -> Iterator[str]:
        return iter(self.table.index)

    def __len__(self) -> int:
        return len(self.table)

    def __str__(self) -> str:
        bad = int((self.table["verdict"] != "ok").sum())
        head = "all ok" if self.ok else f"{bad} of {len(self)} activations do not stay"
        return f"coordinate check, {self.parametrization}, {self.optimizer}: {head}\n" + self.table.to_string(
            float_format=lambda x: f"{x:+.2f}"
        )


def _growth(cell: pd.DataFrame) -> tuple[float, float, float]:
    """Slope of log2 rms on log2 width, mean over seeds, with its 95% t interval (NaN for one seed)."""
    grid = cell.pivot(index="seed", columns="width", values="rms")
    if not np.isfinite(grid.to_numpy()).all():
        return np.inf, np.nan, np.nan  # overflowed: no faster growth can be measured
    grid = grid.loc[:, (grid > 0).all()]
    if grid.shape[1] < 2:
        return np.nan, np.nan, np.nan
    x = np.log2(grid.columns.to_numpy(dtype=float))
    slopes = np.log2(grid.to_numpy()) @ (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    half = np.nan
    if len(slopes) > 1:
        half = stats.t.ppf(0.975, len(slopes) - 1) * slopes.std(ddof=1) / np.sqrt(len(slopes))
    return float(slopes.mean()), float(slopes.mean() - half), float(slopes.mean() + half)


def _verdict(exponent: float, may_shrink: bool) -> str | None:
    if np.isnan(exponent):
        return None  # all zero, as behind a readout that starts at zero: says nothing at this step
    if exponent > TOLERANCE:
        return "grows"
    return "shrinks" if exponent < -TOLERANCE and not may_shrink else "ok"
