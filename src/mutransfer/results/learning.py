"""Wider is better through training (Figure 7): at fixed hyperparameters, is the wider model ahead at every step?

The rule, declared before any result. A panel is one parametrization at one learning rate. A *cell* is a logged step
and a pair of adjacent widths; both are read on the mean training loss over seeds.

- From the step at which a run diverged its loss counts as +inf (a loss that is NaN or inf is a divergence).
- A cell is a *violation* if the wider model's mean loss is above the narrower's; a tie is none (+inf twice is a tie).
- A violation is *clear* if the wider model diverged where no seed of the narrower did (that is no noise), or if the
  whole 95% t interval of the difference, paired by seed, lies above 0. One seed gives no interval.
- `fails`: some violation is a divergence, or clear violations are more than `CHANCE` of the cells, the share that
  two equally good widths would show by the interval's own error. `holds`: no violation is clear, and violations are at
  most `TOUCHING` of the cells (noise where two curves touch; with one seed nothing is known of noise, and none is
  allowed). Else `undecided`.

The verdict is that of the whole of training; the part after the first tenth of the steps, which the common start of
all widths does not touch, is judged beside it by the same rule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mutransfer.errors import UserError
from mutransfer.results.estimate import LEVEL, Array, label, number, power, span, t_half

COLUMNS = ("panel", "parametrization", "width", "log2_lr", "seed", "step", "tokens", "loss")
START = 0.1
"""The first part of the steps, in which all widths still come from the same loss."""
CHANCE = (1 - LEVEL) / 2
TOUCHING = 0.05
RULE = (
    "A cell is a logged step and a pair of adjacent widths. A violation is a cell at which the wider model's mean loss "
    "over seeds is above the narrower's (a diverged run's loss counts as +inf from where it stopped; ties are none). "
    "It is clear if the wider model diverged there and the narrower did not, or if the 95% t interval of the "
    "difference, paired by seed, lies wholly above 0. `fails`: a violation is a divergence, or clear ones are more "
    f"than {100 * CHANCE:g}% of the cells (what equal models would show by chance); `holds`: none is clear and at most "
    f"{100 * TOUCHING:g}% of the cells are violations (with one seed: none); else `undecided`."
)
Verdict = Literal["holds", "fails", "undecided"]
WORDS: dict[Verdict, str] = {"holds": "holds", "fails": "fails", "undecided": "is undecided"}


@dataclass(frozen=True)
class Count:
    """Violations among ``cells`` (step, pair of widths), how many of them are clear, and what follows."""

    cells: int
    violations: int
    clear: int
    verdict: Verdict

    @property
    def text(self) -> str:
        """``3 of 196 cells (1 clear)``."""
        return f"{self.violations} of {self.cells} cells ({self.clear} clear)"


@dataclass(frozen=True)
class Excess:
    """The largest violation: ``value`` nats (+inf: diverged) of ``wide`` above ``narrow`` at ``step``, with its
    95% interval (NaN without one).
    """

    value: float
    low: float
    high: float
    step: int
    narrow: int
    wide: int
    is_clear: bool

    @property
    def text(self) -> str:
        """``0.0123 nats [0.0100, 0.0146] at step 50, width 256 over 128: beyond the seeds' spread``."""
        where = f"at step {self.step}, width {self.wide} over {self.narrow}"
        if math.isinf(self.value):
            return f"diverged {where}"
        spread = "no interval" if math.isnan(self.low) else "beyond" if self.is_clear else "within"
        spread = spread if spread == "no interval" else f"{spread} the seeds' spread"
        interval = "" if math.isnan(self.low) else f" {span(self.low, self.high, 4)}"
        return f"{number(self.value, 4)} nats{interval} {where}: {spread}"


@dataclass(frozen=True)
class LearningReport:
    """The learning curves of one panel and what they say. W widths ascending, S seeds, T logged steps."""

    panel: str
    parametrization: str
    log2_lr: float
    widths: tuple[int, ...]
    seeds: int
    steps: Array
    """[T], ascending."""
    tokens: Array
    """[T] seen at each of the steps."""
    loss: Array
    """[W, S, T]; +inf from where a run diverged."""

    @cached_property
    def mean(self) -> Array:
        """[W, T] mean loss over seeds; +inf from where the first seed diverged."""
        return self.loss.mean(axis=1)

    @cached_property
    def excess(self) -> Array:
        """[W-1, T] mean loss of the wider model less the narrower's; 0 where both diverged."""
        return _difference(self.mean)

    @cached_property
    def interval(self) -> Array:
        """[2, W-1, T] 95% t interval of the difference paired by seed; NaN for one seed and where a run diverged."""
        pairs = _difference(self.loss)
        pairs = np.where(np.isfinite(self.loss[1:] + self.loss[:-1]).all(axis=1, keepdims=True), pairs, np.nan)
        half = t_half(pairs, axis=1)
        return pairs.mean(axis=1) + np.stack([-half, half])

    @cached_property
    def violation(self) -> NDArray[np.bool_]:
        """[W-1, T] whether the wider model is behind."""
        return self.mean[1:] > self.mean[:-1]

    @cached_property
    def clear(self) -> NDArray[np.bool_]:
        """[W-1, T] violations that are no noise."""
        return self.violation & (np.isinf(self.excess) | (self.interval[0] > 0))

    @cached_property
    def whole(self) -> Count:
        """All of training."""
        return self._count(np.ones(len(self.steps), dtype=bool))

    @cached_property
    def later(self) -> Count:
        """What follows the first tenth of the steps."""
        return self._count(self.steps > START * self.steps[-1])

    def _count(self, chosen: NDArray[np.bool_]) -> Count:
        violation, clear = self.violation[:, chosen], self.clear[:, chosen]
        cells, violations, sure = violation.size, int(violation.sum()), int(clear.sum())
        verdict: Verdict = "undecided"
        if sure > CHANCE * cells or np.isinf(self.excess[:, chosen][violation]).any():
            verdict = "fails"
        elif not sure and violations <= (TOUCHING * cells if self.seeds > 1 else 0):
            verdict = "holds"
        return Count(cells, violations, sure, verdict)

    @cached_property
    def largest(self) -> Excess | None:
        """The largest violation, the first one if several are as large; None if there is none."""
        if not self.violation.any():
            return None
        size = np.where(self.violation, self.excess, -np.inf)
        step, pair = (int(i) for i in np.unravel_index(size.T.argmax(), size.T.shape))
        low, high = (float(x) for x in self.interval[:, pair, step])
        narrow, wide = self.widths[pair], self.widths[pair + 1]
        at = int(self.steps[step])
        return Excess(float(size[pair, step]), low, high, at, narrow, wide, bool(self.clear[pair, step]))

    @property
    def diverged(self) -> dict[int, int]:
        """Width -> how many of its seeds diverged, where any did."""
        counts = np.isinf(self.loss[:, :, -1]).sum(axis=1)
        return {width: int(count) for width, count in zip(self.widths, counts, strict=True) if count}

    @property
    def verdict(self) -> Verdict:
        """Whether wider is better through the whole of training."""
        return self.whole.verdict

    @property
    def sentence(self) -> str:
        """The line for the terminal and the table."""
        excess = f"; largest excess: {self.largest.text}" if self.largest else ""
        lost = ", ".join(f"{count} of {self.seeds} at width {width}" for width, count in self.diverged.items())
        return (
            f"{label(self.parametrization)} at LR {power(self.log2_lr, 1)}: 'wider is better' {WORDS[self.verdict]}: "
            f"the wider model is behind at {self.whole.text}; after the first tenth of the steps at {self.later.text}, "
            f"and it {WORDS[self.later.verdict]}{excess}{f'; seeds diverged: {lost}' if lost else ''}."
        )


def learning_report(curves: pd.DataFrame) -> dict[str, LearningReport]:
    """A report a panel, in the order of the table; ``curves`` has `COLUMNS`, a row a (run, logged step).

    ``loss`` is the mean training loss (nats) of the steps since the row before. A diverged run has loss inf or NaN
    from where it stopped, and may end there. Raises `UserError` for missing columns, values that are no numbers,
    doubles, a panel of several settings or of one width, and a missing (width, seed, step): it names which.
    """
    missing = [name for name in COLUMNS if name not in curves.columns]
    if missing:
        raise UserError(f"the learning curves lack {', '.join(missing)}; they need the columns {', '.join(COLUMNS)}.")
    if curves.empty:
        raise UserError("the learning curves have no rows; run the experiment first.")
    frame = pd.DataFrame({name: curves[name].astype(str) for name in COLUMNS[:2]})
    for name in COLUMNS[2:]:
        try:
            frame[name] = curves[name].astype(float)
        except (ValueError, TypeError) as error:
            raise UserError(f"the learning curves hold no number in {name} ({error}); run them again.") from error
    wrong = ~np.isfinite(frame[list(COLUMNS[2:-1])]).all(axis=1) | (frame["loss"] == -np.inf)
    wrong |= (frame["width"] < 1) | (frame["step"] < 1)
    if wrong.any():
        at = ", ".join(f"{name}={value}" for name, value in curves.loc[wrong, list(COLUMNS)].iloc[0].items())
        raise UserError(f"{int(wrong.sum())} rows of the learning curves hold no number, first ({at}); run them again.")
    return {str(panel): _panel(str(panel), group) for panel, group in frame.groupby("panel", sort=False)}


def _panel(panel: str, frame: pd.DataFrame) -> LearningReport:
    for name in ("parametrization", "log2_lr"):
        if frame[name].nunique() > 1:
            found = ", ".join(str(v) for v in sorted(frame[name].unique())[:4])
            raise UserError(f"panel '{panel}' of the learning curves mixes several values of {name} ({found}).")
    keys = ["width", "seed", "step"]
    double = frame.duplicated(keys)
    if double.any():
        raise UserError(f"panel '{panel}' has {_cell(frame.loc[double, keys].iloc[0])} twice; keep one of each.")
    widths, seeds, steps = (np.sort(frame[name].unique()) for name in keys)
    if len(widths) < 2:
        raise UserError(f"panel '{panel}' has one width, {int(widths[0])}; wider is better needs two to compare.")
    tokens = frame.drop_duplicates(["step", "tokens"]).set_index("step")["tokens"].sort_index()
    if tokens.index.has_duplicates:
        step = tokens.index[tokens.index.duplicated()][0]
        raise UserError(f"panel '{panel}' has several values of tokens at step {step:g}; select one setting first.")

    grid = pd.MultiIndex.from_product([widths, seeds, steps], names=keys)
    shape = (len(widths), len(seeds), len(steps))
    table = frame.set_index(keys)["loss"]
    written = grid.isin(table.index).reshape(shape)
    lost = written & ~np.isfinite(table.reindex(grid).to_numpy().reshape(shape))
    stopped = np.logical_or.accumulate(lost, axis=2)
    gap = ~written & ~stopped
    if gap.any():
        first = pd.Series(grid[int(gap.ravel().argmax())], index=keys)
        raise UserError(
            f"panel '{panel}' of the learning curves lacks {int(gap.sum())} rows, first {_cell(first)}; run the "
            "experiment again (a run that diverged has loss inf from where it stopped)."
        )
    loss = np.where(stopped, np.inf, table.reindex(grid).to_numpy().reshape(shape))
    return LearningReport(
        panel=panel,
        parametrization=str(frame["parametrization"].iloc[0]),
        log2_lr=float(frame["log2_lr"].iloc[0]),
        widths=tuple(int(w) for w in widths),
        seeds=len(seeds),
        steps=steps,
        tokens=tokens.to_numpy(float),
        loss=loss,
    )


def _difference(loss: Array) -> Array:
    """Each width's loss less that of the next narrower one, along the first axis; 0 where both are +inf."""
    wide, narrow = loss[1:], loss[:-1]
    return np.subtract(wide, narrow, out=np.zeros_like(wide), where=np.isfinite(wide) | np.isfinite(narrow))


def _cell(key: pd.Series) -> str:
    return f"(width {key['width']:g}, seed {key['seed']:g}, step {key['step']:g})"
