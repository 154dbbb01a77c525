"""A hyperparameter search: who wins, what it cost, what successive halving saves and whether it agrees."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from mutransfer.errors import UserError
from mutransfer.results.selection import Losses, Rung, halve, ranking, rung_plan, tuning_cost_fraction

EDGE_SAMPLES = 5


@dataclass(frozen=True)
class Agreement:
    """Successive halving against the full search over the same samples."""

    winner: int  # of the full search
    same_winner: bool
    regret: float  # loss of halving's winner in the full search, less the least loss there
    rank_correlations: tuple[float, ...]  # of every rung's losses with the full search's: Spearman

    @classmethod
    def of(cls, rungs: Sequence[Rung], full: Losses) -> Agreement:
        best, chosen = ranking(full)[0], rungs[-1].ranking[0]
        correlations = tuple(_spearman(rung.losses, full) for rung in rungs)
        return cls(best, chosen == best, full[chosen] - full[best], correlations)


def _spearman(some: Losses, all_: Losses) -> float:
    """Rank correlation over the samples of ``some``, ties (all diverged runs are one) averaged; NaN if undefined."""
    frame = pd.DataFrame([(some[i], all_[i]) for i in some]).dropna().rank()
    return float(frame[0].corr(frame[1])) if len(frame) > 1 and (frame.nunique() > 1).all() else math.nan


COLUMNS = ("role", "sample", "parametrization", "width", "steps", "steps_done", "status", "train_loss", "flops")
"""That the table of a search needs, beside a column a hyperparameter. ``role``: ``proxy`` (a sample's run),
``target`` (the winner's), ``full`` (of the full search, known beside the rungs of successive halving). ``flops``: of
the whole run, as planned. Optional ``loss_at_<steps>``: what the loss curve says of a run cut there."""


@dataclass(frozen=True)
class SearchReport:
    """What the runs table of a search shows.

    Raises `UserError` if the table lacks a column, the target's run or a proxy that has trained.
    """

    runs: pd.DataFrame
    is_halved: bool  # whether the proxy's runs are the rungs of successive halving

    def __post_init__(self) -> None:
        if missing := [name for name in COLUMNS if name not in self.runs.columns]:
            raise UserError(f"the table of a search lacks {', '.join(missing)}; run the search again.")
        if self.proxy.empty or len(self._part("target", "mup")) != 1 or not self.rungs[-1].ranking:
            raise UserError("the table of a search lacks its target, or a proxy that trained; run the search again.")

    def _part(self, role: str, parametrization: str) -> pd.DataFrame:
        return self.runs[(self.runs["role"] == role) & (self.runs["parametrization"] == parametrization)]

    @cached_property
    def proxy(self) -> pd.DataFrame:
        """The runs that chose the winner, in µP."""
        return self._part("proxy", "mup")

    @property
    def target(self) -> pd.Series:
        """The target's run with the winner's hyperparameters."""
        return self._part("target", "mup").iloc[0]

    @property
    def naive(self) -> pd.Series | None:
        """The target's run in SP with the winner of a search in SP, if it was made."""
        found = self._part("target", "sp")
        return None if found.empty else found.iloc[0]

    @cached_property
    def rungs(self) -> list[Rung]:
        """What was trained, shortest first; the full search has one rung."""
        return [Rung(int(steps), _losses(part)) for steps, part in self.proxy.groupby("steps", sort=True)]

    @cached_property
    def ranked(self) -> pd.DataFrame:
        """A row a sample, its longest run: those that have trained first, then the longest, then by loss."""
        last = self.proxy.sort_values("steps").drop_duplicates("sample", keep="last")
        order = last.assign(bad=last["status"] != "finished", length=-last["steps"])
        return last.loc[order.sort_values(["bad", "length", "train_loss", "sample"]).index]

    @property
    def winner(self) -> pd.Series:
        """The proxy's run with the least loss."""
        return self.ranked.iloc[0]

    def edges(self, names: Iterable[str]) -> list[tuple[str, str]]:
        """Hyperparameters whose best value may lie outside the space: (name, ``low`` or ``high``).

        That is where the best `EDGE_SAMPLES` samples all lie in the lowest, or all in the highest, quarter of the
        values sampled; of a hyperparameter that does not matter, this is so in 1 of 512 searches.
        """
        found = []
        for name in names:
            values = self.ranked["log2_lr" if name == "lr" else name]
            if pd.api.types.is_numeric_dtype(values) and len(values) >= 4 * EDGE_SAMPLES:
                best, (low, high) = values.head(EDGE_SAMPLES), values.quantile([1 / 4, 3 / 4])
                if values.nunique() > 2 and ((best <= low).all() or (best >= high).all()):
                    found.append((name, "low" if (best <= low).all() else "high"))
        return found

    @property
    def steps(self) -> int:
        """That the proxy's runs took: a diverged run costs only those that it lived."""
        return int(self.proxy["steps_done"].sum())

    @property
    def cost_fraction(self) -> float:
        """FLOPs spent on the search as a fraction of the target's whole training."""
        size, target_size = (float(run.flops / run.steps) for run in (self.winner, self.target))
        return tuning_cost_fraction(size, [(1, self.steps)], target_size, int(self.target.steps))

    @cached_property
    def full(self) -> pd.DataFrame:
        """The full search over the same samples; empty if it is not known."""
        return self._part("full", "mup") if self.is_halved else self.proxy

    @cached_property
    def halving(self) -> tuple[list[Rung], float] | None:
        """The rungs of successive halving, and its FLOPs as a fraction of the full search's.

        After a full search they are read off its loss curves, as if each rung had been trained from scratch; None if
        there are none, or no room for two rungs. A full search that is not known counts as if no run had diverged.
        """
        samples, steps = len(self.rungs[0].losses), int(self.proxy["steps"].max())
        if self.is_halved:
            whole = self.full["steps_done"].sum() if len(self.full) else samples * steps
            return self.rungs, self.steps / whole
        runs, spent = self.proxy.set_index("sample"), 0

        def measure(chosen: Sequence[int], until: int) -> Losses:
            nonlocal spent
            part = runs.loc[list(chosen)]
            spent += int(part["steps_done"].clip(upper=until).sum())
            return dict(part["train_loss" if until == steps else f"loss_at_{until}"])

        try:
            plan = rung_plan(samples, steps)
        except UserError:
            return None
        on_the_way = [f"loss_at_{until}" for _, until in plan[:-1]]
        if runs.reindex(columns=on_the_way)[runs["status"] != "failed"].isna().any(axis=None):
            return None
        return halve(plan, measure), spent / self.steps

    @property
    def agreement(self) -> Agreement | None:
        """Of `halving` with the full search; None if either is unknown."""
        if self.halving is None or self.full.empty or not self.halving[0][-1].ranking:
            return None
        return Agreement.of(self.halving[0], _losses(self.full))


def _losses(runs: pd.DataFrame) -> dict[int, float]:
    return dict(zip(runs["sample"].astype(int), runs["train_loss"].astype(float), strict=True))
