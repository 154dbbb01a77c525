"""One method against another over repeated searches: who ends at the lower loss, and how sure that is.

The rule, declared before any result. ``ours`` and ``its`` are the final losses of n searches, +inf where a method's run
diverged or found no winner.

- Difference: the median of ours less the median of its, with a 95% bootstrap interval over searches (n-1 of the n, with
  replacement, the same ones for both). Where both medians are +inf it is 0, a tie.
- `better`: the whole interval lies below 0; `worse`: above; else `undecided`. Also `undecided` with fewer than
  `LEAST_SEARCHES` searches, and if all of ours are one and the same run: nothing is known of the choice.
- The searches share one pool, and a sample is trained once: the interval covers which samples a search looked at. It
  covers neither another pool nor another training seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mutransfer.results.estimate import Array, Estimate, number

LEAST_SEARCHES = 5
DRAWS = 10_000
RULE = (
    "Difference: median over searches of µTransfer's final loss less the other method's (+inf: the target diverged, or "
    "no sample trained), with its 95% bootstrap interval over searches (n-1 of n). `better`: the whole interval is "
    f"below 0; `worse`: above 0; else `undecided`, also with fewer than {LEAST_SEARCHES} searches or if all of them "
    "copied the same sample. The verdict is that of the training loss; the test loss stands beside it. The searches "
    "share one pool, and every sample was trained once: the interval covers which samples a search looked at, neither "
    "new pools nor new training seeds."
)
Metric = Literal["train_loss", "test_loss"]
Verdict = Literal["better", "worse", "undecided"]


def percentile(values: Array, percent: float) -> Array:
    """Of the last axis, where +inf is a value like others: the mean of two neighbours where the rank is between."""
    ordered = np.sort(values, axis=-1)
    rank = percent / 100 * values.shape[-1]
    low, high = max(math.ceil(rank) - 1, 0), min(math.floor(rank), values.shape[-1] - 1)
    return np.asarray((ordered[..., low] + ordered[..., high]) / 2)


@dataclass(frozen=True)
class Comparison:
    """µTransfer against another method on one metric."""

    other: str
    """As a text writes it."""
    metric: Metric
    better: int
    """Searches in which µTransfer's loss is lower."""
    tied: int
    searches: int
    difference: Estimate
    """Median of µTransfer less the other's, nats; +-inf where one of them diverged."""
    verdict: Verdict
    reason: str = ""

    @classmethod
    def of(cls, ours: Array, its: Array, *, other: str, metric: Metric, runs: int) -> Comparison:
        """Losses ``ours`` and ``its`` [n] of the same searches; ``runs``: how many runs of ours are distinct."""
        n = len(ours)
        draws = np.random.default_rng(0).integers(n, size=(DRAWS, max(n - 1, 1)))
        mine, theirs = (np.concatenate([[percentile(x, 50)], percentile(x[draws], 50)]) for x in (ours, its))
        known = np.isfinite(mine) | np.isfinite(theirs)
        difference = Estimate.of(np.subtract(mine, theirs, out=np.zeros_like(mine), where=known))
        reason = ""
        if n < LEAST_SEARCHES:
            reason = f"{n} searches, fewer than {LEAST_SEARCHES}"
        elif runs == 1:
            reason = "all searches copied the same sample"
        verdict: Verdict = "better" if difference.high < 0 else "worse" if difference.low > 0 else "undecided"
        verdict = "undecided" if reason else verdict
        return cls(other, metric, int((ours < its).sum()), int((ours == its).sum()), n, difference, verdict, reason)

    @property
    def share_text(self) -> str:
        """``5 of 7 searches (1 tie)``."""
        ties = f" ({self.tied} tie{'s' * (self.tied > 1)})" if self.tied else ""
        return f"{self.better} of {self.searches} searches{ties}"

    @property
    def difference_text(self) -> str:
        """``-0.1234 [-0.2000, -0.1000]``."""
        one = self.difference
        return f"{_signed(one.value)} [{_signed(one.low)}, {_signed(one.high)}]"

    @property
    def sentence(self) -> str:
        """The line for the terminal and the table."""
        kind = "training" if self.metric == "train_loss" else "test"
        reason = f" ({self.reason})" if self.reason else ""
        return (
            f"µTransfer against {self.other}: {self.verdict}{reason}; {kind} loss lower in {self.share_text}, "
            f"difference of the medians {self.difference_text} nats"
        )


def _signed(value: float) -> str:
    return number(value, 4) if math.isfinite(value) else "+inf" if value > 0 else "-inf"
