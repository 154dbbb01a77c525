"""Test accuracy against the length of training: do short trainings say what a long one reaches?

The rule, declared before any result.

- The length T of a training is counted in epochs, steps * batch / training images. Its accuracy is that of the test
  part after the last step, in per cent; a run that diverged has accuracy 0.
- The test error (100 less the accuracy) of each seed is fitted by E + A T^-b over the lengths, every one with the same
  weight; A > 0, and b is scanned as in `quality`. A fit needs four lengths.
- Two predictions: the longest length from all the others, beside what it measured; and the recipe's own length from
  all lengths, unless it was run. A length within 1% is the recipe's own: what drops the last, partial batch of an
  epoch trains a little less than it counts.
- Over seeds: means with their 95% t intervals; the difference, predicted less measured, is paired by seed. Where the
  fit of any seed has too few lengths, A <= 0, or its best b on the bound of the scan, there is no prediction: the
  other seeds alone would be a choice of the lucky ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mutransfer.errors import UserError
from mutransfer.results.estimate import Array, Estimate, number, span
from mutransfer.results.panels import COLUMNS as PANEL_COLUMNS
from mutransfer.results.panels import Axis, read_panels
from mutransfer.results.quality import EXPONENTS, LIMIT_WIDTHS, PowerLaw, power_law

COLUMNS = (*PANEL_COLUMNS, "steps", "batch", "test_accuracy")
FEWEST = LIMIT_WIDTHS
"""Lengths for a fit of three parameters."""
SAME = 0.01
"""How far, relatively, a length may be from the recipe's and be it: 97 batches of 512 are 99.3% of 50,000 images."""
RULE = (
    "Length T: steps x batch / training images, in epochs. Accuracy: of the test part after the last step; a diverged "
    "run's counts as 0. The test error of each seed is fitted by E + A T^-b, all lengths with one weight, A > 0 and "
    f"{EXPONENTS[0]:g} < b < {EXPONENTS[-1]:g}; a fit needs {FEWEST} lengths. The longest length is predicted from all "
    f"the others, the recipe's own from all lengths, unless it was run (to within {SAME:.0%}: a partial batch is "
    "dropped). Means over seeds with their 95% t intervals; the difference, predicted less measured, is paired by "
    "seed. No prediction where the fit of any seed has A <= 0 or b on its bound."
)


@dataclass(frozen=True)
class Length:
    """What one length of training reached, over seeds."""

    steps: int
    epochs: float
    accuracy: Estimate
    """Of the test part, in per cent."""
    loss: Estimate
    """Final training loss (nats); +inf if a seed diverged."""


@dataclass(frozen=True)
class Prediction:
    """The test accuracy (%) at ``epochs`` from the fit to ``count`` lengths; NaN with a reason where it has none."""

    epochs: float
    count: int
    accuracy: Estimate
    law: PowerLaw
    """Of the test error (%), [S]; empty with too few lengths."""

    @property
    def is_known(self) -> bool:
        return not math.isnan(self.accuracy.value)

    def at(self, epochs: Array) -> Array:
        """[S, X] the fitted accuracies (%) of every seed at ``epochs`` [X]."""
        return 100 - self.law.at(epochs)


@dataclass(frozen=True)
class LengthReport:
    """Every length, shortest first, and what the shorter ones say of the longest and of the recipe's."""

    lengths: tuple[Length, ...]
    seeds: int
    longest: Prediction
    """Of the last of ``lengths``, from all the others."""
    difference: Estimate
    """Predicted less measured, in percentage points."""
    recipe_epochs: float
    recipe: Length | Prediction
    """Measured if it was run, else predicted from all lengths."""

    def __str__(self) -> str:
        last = self.lengths[-1]
        lines = [f"{last.epochs:.3g} epochs, the longest: test accuracy {short(last.accuracy)}% measured"]
        if self.longest.is_known:
            lines[0] += f", {short(self.longest.accuracy)}% predicted from the {self.longest.count} shorter lengths"
            lines[0] += f"; difference {short(self.difference)} points."
        else:
            lines[0] += f"; no prediction from the shorter lengths: {self.longest.accuracy.reason}."
        lines.append(f"{self.recipe_epochs:g} epochs, the recipe's own: ")
        if isinstance(self.recipe, Length):
            lines[1] += f"run, test accuracy {short(self.recipe.accuracy)}% after {self.recipe.epochs:.3g}."
        elif self.recipe.is_known:
            lines[1] += f"not run; {short(self.recipe.accuracy)}% predicted from all {self.recipe.count} lengths."
        else:
            lines[1] += f"not run; no prediction: {self.recipe.accuracy.reason}."
        return "\n".join([*lines, *["One seed gives no interval."] * (self.seeds == 1)])


def short(estimate: Estimate) -> str:
    """``91.20 [90.88, 91.52]``, or the value alone."""
    value = number(estimate.value)
    return value if math.isnan(estimate.low) else f"{value} {span(estimate.low, estimate.high)}"


def length_report(runs: pd.DataFrame, *, examples: int, recipe_epochs: float) -> LengthReport:
    """From a runs table with `COLUMNS`, one panel whose lines are steps; ``examples``: training images an epoch has.

    Raises `UserError` as `read_panels` does (failed, double and missing runs are named), and for missing columns,
    several panels, learning rates or batch sizes, lines that are not the steps, a finished run without accuracy, and
    numbers of images and epochs that are none.
    """
    for value, what in ((examples, "training images"), (recipe_epochs, "epochs of the recipe")):
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            raise UserError(f"{value} {what}: a positive number is needed; run the experiment again.")
    if missing := [name for name in COLUMNS if name not in runs.columns]:
        raise UserError(f"the runs table lacks {', '.join(missing)}; it needs the columns {', '.join(COLUMNS)}.")
    panels = read_panels(runs, dict.fromkeys(runs["panel"].astype(str), Axis("steps")))
    panel = next(iter(panels.values()))
    counts = {"panels": len(panels), "learning rates": len(panel.x), "batch sizes": runs["batch"].nunique()}
    for name, count in counts.items():
        if count > 1:
            raise UserError(f"the runs table has {count} {name}; lengths of training are compared at one.")
    if (runs["line"] != runs["steps"]).any():
        raise UserError("the lines of the runs table are not its steps; lengths of training are.")
    loss = np.concatenate([one.loss for one in panel.curves], axis=1)  # [S, T]
    accuracy = _accuracy(runs, np.isinf(loss))
    steps = np.array(panel.lines)
    epochs = steps * float(runs["batch"].iloc[0]) / examples
    lengths = tuple(
        Length(int(n), float(t), Estimate.mean(right), Estimate.mean(nats))
        for n, t, right, nats in zip(steps, epochs, accuracy.T, loss.T, strict=True)
    )
    longest = _predict(epochs[:-1], accuracy[:, :-1], epochs[-1])
    missed = longest.at(epochs[-1:])[:, 0] - accuracy[:, -1] if longest.is_known else None
    difference = longest.accuracy if missed is None else Estimate.mean(missed)
    own = [one for one in lengths if abs(one.epochs / recipe_epochs - 1) <= SAME]
    recipe = own[0] if own else _predict(epochs, accuracy, recipe_epochs)
    return LengthReport(lengths, len(loss), longest, difference, recipe_epochs, recipe)


def _accuracy(runs: pd.DataFrame, diverged: Array) -> Array:
    """[S, T] in per cent, 0 where ``diverged`` [S, T]; the runs are known to be a full table of (seed, steps)."""
    given = runs[["seed", "steps", "test_accuracy"]].apply(pd.to_numeric, errors="coerce").astype(float)
    table = given.pivot(index="seed", columns="steps", values="test_accuracy")
    accuracy = np.where(diverged, 0.0, table.to_numpy())
    wrong = ~((accuracy >= 0) & (accuracy <= 1))
    if wrong.any():
        seed, length = np.argwhere(wrong)[0]
        raise UserError(
            f"{int(wrong.sum())} finished runs have no test_accuracy in [0, 1], first (steps "
            f"{table.columns[length]:g}, seed {table.index[seed]:g}); run them again."
        )
    return 100 * accuracy


def _predict(epochs: Array, accuracy: Array, at: float) -> Prediction:
    """The accuracy at ``at`` from ``accuracy`` [S, T] at ``epochs`` [T]."""
    if len(epochs) < FEWEST:
        nothing = PowerLaw(*[np.empty(0)] * 3)
        reason = f"a fit needs {FEWEST} lengths, there {'is' if len(epochs) == 1 else 'are'} {len(epochs)}"
        return Prediction(float(at), len(epochs), Estimate(math.nan, reason=reason), nothing)
    law = power_law(epochs, 100 - accuracy)
    value = Estimate.mean(100 - law.at(np.array([at]))[:, 0])
    lost = {"the error does not fall with length": ~law.falls, "b is on its bound": law.falls & law.on_bound}
    if reasons := [f"{words} in {int(k.sum())} of {len(k)} seeds" for words, k in lost.items() if k.any()]:
        reason = " and ".join(reasons) if len(accuracy) > 1 else reasons[0].removesuffix(" in 1 of 1 seeds")
        value = Estimate(math.nan, reason=reason)
    return Prediction(float(at), len(epochs), value, law)
