"""Figure 6: the median outcome of a search against what it spends and against the samples it looks at.

Two lines, µTransfer's and conventional tuning's; a point is one size of search. What a point is, and its bootstrap, is
declared in `mutransfer.results.repeated_searches`. The rule of the verdict, declared before any result, once with the
mean compute of a search as x and once with the number of samples:

- The lines are compared at every x of a point of either line that lies within the range of both. The other line's
  value there is by linear interpolation in log2 x between its neighbouring points, diverged if one of them is.
- At an x the difference is µTransfer's median validation BLEU less the other's, with its bootstrap interval (the same
  draw for all points of both lines; x stays what it is). A diverged median is infinitely below one that is not.
- `µTransfer dominates`: the difference is at least 0 at every x, and at one at least its whole interval lies above 0.
  Likewise `tuning on 1x dominates`, at most 0 and below. `the lines cross`: an interval lies above 0 and another below.
  Else `undecided`, also with fewer than `LEAST_SEARCHES` searches or where the lines share no x.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mutransfer.errors import UserError
from mutransfer.results.comparison import LEAST_SEARCHES
from mutransfer.results.estimate import Array, Estimate
from mutransfer.results.repeated_searches import Outcomes, RepeatedSearches, difference, estimate

LINES = ("direct", "mutransfer")
X = Literal["compute", "samples"]
Verdict = Literal["µTransfer dominates", "tuning on 1x dominates", "the lines cross", "undecided"]
RULE = (
    "The two lines are compared at every compute (or number of samples) of a point of either that lies within the "
    "range of both; between points a line is straight in log2 of it, and diverged if one of its ends is. A line "
    "`dominates` if the difference of the medians of validation BLEU is on its side or 0 at all of them, and the whole "
    "95% interval at one at least; `the lines cross` if an interval lies wholly on either side; else `undecided`, also "
    f"with fewer than {LEAST_SEARCHES} searches. As a search nears the size of the pool, all searches become the same "
    "one: bands and intervals narrow by construction."
)


@dataclass(frozen=True)
class Duel:
    """The two lines over one x."""

    x: Array
    """[K] where both have a value, ascending: trainings of the target, or samples."""
    differences: tuple[Estimate, ...]
    """[K] µTransfer's median less the other's."""
    verdict: Verdict
    reason: str = ""

    @property
    def better(self) -> int:
        """At how many x µTransfer is clearly better."""
        return sum(one.low > 0 for one in self.differences)

    @property
    def worse(self) -> int:
        return sum(one.high < 0 for one in self.differences)

    @property
    def text(self) -> str:
        """``µTransfer dominates``, with the reason where it is undecided for one."""
        return self.verdict + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True)
class Fronts:
    """The points of both lines, smallest search first."""

    report: RepeatedSearches
    points: Mapping[str, tuple[Outcomes, ...]]

    @classmethod
    def of(cls, report: RepeatedSearches, sizes: Any) -> Fronts | None:
        """``sizes``: line -> numbers of samples; None if both are empty. Raises `UserError` if it is malformed."""
        if not isinstance(sizes, Mapping) or set(sizes) != set(LINES):
            raise UserError(f"the provenance of the searches needs sizes of {' and '.join(LINES)}; run it again.")
        if not any(sizes.values()):
            return None
        for name in LINES:
            if not sizes[name] or not all(type(size) is int for size in sizes[name]):
                raise UserError(f"Figure 6 needs numbers of samples for both lines, '{name}' has {sizes[name]}.")
        return cls(report, {n: tuple(report.outcomes(n, size) for size in sorted(set(sizes[n]))) for n in LINES})

    def x(self, name: str, x: X) -> Array:
        """Of every point of a line: mean compute of a search in trainings of the target, or samples."""
        training = self.report.training
        return np.array([one.compute / training if x == "compute" else one.looked for one in self.points[name]], float)

    def duel(self, x: X) -> Duel:
        """The verdict over compute or samples."""
        places = {name: self.x(name, x) for name in LINES}
        low = max(float(one.min()) for one in places.values())
        high = min(float(one.max()) for one in places.values())
        every = np.unique(np.concatenate([*places.values()]))
        common = every[(every >= low) & (every <= high)]
        medians = {name: [one.percentiles(50) for one in self.points[name]] for name in LINES}
        found = []
        for at in common:
            its, ours = (along(places[name], medians[name], float(at)) for name in LINES)
            found.append(estimate(difference(ours, its)))
        n, reason = self.report.facts["searches"], ""
        if not found:
            reason = f"no {'compute' if x == 'compute' else 'number of samples'} that both have"
        elif n < LEAST_SEARCHES:
            reason = f"{n} searches, fewer than {LEAST_SEARCHES}"
        return Duel(common, tuple(found), "undecided" if reason else _verdict(found), reason)


def along(x: Array, values: Sequence[Array], at: float) -> Array:
    """[1 + draws] of the line through (``x``, ``values``) at ``at``, straight in log2 x; of equal x the last."""
    if len(same := np.flatnonzero(x == at)):
        return values[same[-1]]
    order = np.argsort(x, kind="stable")
    k = int(np.searchsorted(x[order], at))
    low, high = order[k - 1], order[k]
    weight = (np.log2(at) - np.log2(x[low])) / (np.log2(x[high]) - np.log2(x[low]))
    return np.asarray((1 - weight) * values[low] + weight * values[high])


def _verdict(differences: Sequence[Estimate]) -> Verdict:
    above, below = any(one.low > 0 for one in differences), any(one.high < 0 for one in differences)
    if above and below:
        return "the lines cross"
    if above and all(one.value >= 0 for one in differences):
        return "µTransfer dominates"
    if below and all(one.value <= 0 for one in differences):
        return "tuning on 1x dominates"
    return "undecided"
