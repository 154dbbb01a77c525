"""What the copied learning rate is worth in accuracy: the widest model in µP beside SP (Tables 12 and 13).

The rule, declared before any result, is `RULE`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from mutransfer.errors import UserError
from mutransfer.results import published
from mutransfer.results.estimate import Array, Estimate, counted, label, power
from mutransfer.results.folder import Claim, FigureFolder, Part, grid
from mutransfer.results.frame import tidy

RULE = (
    "The learning rate with the least mean training loss at the smallest width is copied to the others. Accuracy: of "
    "the test part after the last step, a mean over seeds with its 95% t interval; a diverged run's counts as 0. The "
    "difference is paired by seed; `higher`: its whole interval lies above 0, `lower`: below, else `undecided`."
)
STATEMENT = "With hyperparameters copied from the narrow network, the widest is more accurate in µP than in SP."
Verdict = Literal["higher", "lower", "undecided"]


@dataclass(frozen=True)
class Accuracy:
    """One width of one parametrization; accuracies in [0, 1]."""

    parametrization: str
    width: int
    log2_lr: float
    """The copied one."""
    copied: Estimate
    best: Estimate
    """At the learning rate of the least mean training loss of this width itself."""
    best_log2_lr: float


@dataclass(frozen=True)
class AccuracyReport:
    """Every (parametrization, width), and µP against SP at the largest."""

    table: str
    """The paper's, such as Table 12."""
    rows: tuple[Accuracy, ...]
    seeds: int
    difference: Estimate
    """µP's less SP's at the largest width."""
    verdict: Verdict
    pictures: Mapping[str, str]
    """None."""

    def row(self, parametrization: str, width: int) -> Accuracy:
        return next(r for r in self.rows if (r.parametrization, r.width) == (parametrization, width))

    def draw(self, folder: FigureFolder) -> list[Path]:
        return []

    @property
    def lines(self) -> list[str]:
        """One, for the terminal and the table."""
        width = self.rows[-1].width
        mup, sp = (self.row(name, width) for name in ("mup", "sp"))
        return [
            f"test accuracy at width {width} with the learning rate copied from width {self.rows[0].width}: µP "
            f"{mup.copied.percent.brief()}%, SP {sp.copied.percent.brief()}%; µP is {self.verdict}: difference "
            f"{self.difference.percent.brief()} points ({counted([self.seeds], 'seed')})."
        ]

    @property
    def section(self) -> str:
        """Ours beside the published, in Markdown."""
        rows = []
        for r in self.rows:
            best = f"{r.best.percent.brief()} at {power(r.best_log2_lr, 1)}"
            rows.append((label(r.parametrization), str(r.width), power(r.log2_lr, 1), r.copied.percent.brief(), best))
        theirs = [
            (f"{p.setup.replace('muP', 'µP')}: {p.metric}", f"{p.value} {p.unit}".strip())
            for p in published.rows(table_or_figure=self.table)
        ]
        header = ("", "width", "copied LR", "its test accuracy (%)", "at the width's own best LR (%)")
        parts = ["## What is copying worth?", f"- {self.lines[0]}", grid(header, rows)]
        parts += [f"{self.table} of the paper:", grid(("", "the paper"), theirs), f"Rule: {RULE}"]
        return "\n\n".join(parts)

    @property
    def claim(self) -> Claim:
        what = "accuracy in µP less that in SP, at the widest"
        ours = f"{self.verdict}, {self.difference.percent.full()} points"
        return Claim(self.table, STATEMENT, (Part.of(what, ours, self.verdict, "higher"),))


def accuracy_report(runs: pd.DataFrame, table: str = "Table 12") -> AccuracyReport:
    """From a runs table with the column test_accuracy.

    Raises `UserError` as `tidy` does; if that column is missing or has no number for a finished run; if SP or µP is
    missing; if a width lacks the copied rate, or one of its seeds.
    """
    if "test_accuracy" not in runs.columns:
        raise UserError("the runs table lacks test_accuracy; run the sweep again.")
    frame = tidy(runs)
    keys = ["parametrization", "width", "log2_lr", "seed"]
    given = runs[[*keys, "test_accuracy"]].astype({"test_accuracy": float, "width": int, "seed": int})
    given["log2_lr"] = given["log2_lr"].astype(float).round(9) + 0.0
    frame = frame.merge(given, on=keys, validate="one_to_one")
    frame.loc[np.isinf(frame["train_loss"]), "test_accuracy"] = 0.0
    if frame["test_accuracy"].isna().any():
        raise UserError(f"{int(frame['test_accuracy'].isna().sum())} finished runs have no test_accuracy.")
    if absent := {"sp", "mup"} - set(frame["parametrization"]):
        raise UserError(f"the runs table has no {' and no '.join(sorted(absent))}; accuracy is compared between both.")
    loss = frame.groupby(keys[:3])["train_loss"].mean()
    accuracy = frame.pivot_table(index=keys[:3], columns="seed", values="test_accuracy")
    rows = []
    for name in ("sp", "mup"):
        widths = sorted(frame.loc[frame["parametrization"] == name, "width"].unique())
        tuned = _best(loss, name, widths[0])
        for width in widths:
            if (name, width, tuned) not in accuracy.index:
                raise UserError(f"{name} at width {width} lacks the copied learning rate 2^{tuned:g}; run it too.")
            best = _best(loss, name, width)
            copied, own = (_mean(accuracy.loc[(name, width, lr)].to_numpy()) for lr in (tuned, best))
            rows.append(Accuracy(name, int(width), tuned, copied, own, best))
    last = {r.parametrization: r for r in rows}  # the largest width comes last
    mup, sp = (accuracy.loc[(n, last[n].width, last[n].log2_lr)].to_numpy() for n in ("mup", "sp"))
    difference = _mean(mup - sp)
    verdict: Verdict = "higher" if difference.low > 0 else "lower" if difference.high < 0 else "undecided"
    return AccuracyReport(table, tuple(rows), accuracy.shape[1], difference, verdict, {})


def _best(loss: pd.Series, name: str, width: int) -> float:
    """The rate of the least mean loss; +inf, where a seed diverged, is the least of nothing but itself."""
    return float(loss.loc[name, width].idxmin())


def _mean(values: Array) -> Estimate:
    """With its 95% t interval; one value gives none. Raises `UserError` for a seed that was not run."""
    if np.isnan(values).any():
        raise UserError(f"{int(np.isnan(values).sum())} of {len(values)} seeds were not run; run the sweep again.")
    return Estimate.mean(values)
