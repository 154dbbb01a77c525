"""Tables 4 and 5: many independent searches of one method, and how good an outcome a search can count on.

Each of n searches looks at some samples of a pool. µTransfer and naive transfer look at the same samples, trained on
the proxy, and copy the best one to the target, in µP and in SP; conventional tuning ("tuning on 1x") looks at samples
trained on the target itself, in SP; fairseq's default is trained without a search.

The rule, declared before any result:

- A search selects the sample with the least final *validation loss* in its pool (a diverged run has +inf; of a tie the
  lower number), never by BLEU and never by the test set.
- A search's outcome is the mean BLEU over the inits of the selected sample's target. It is *diverged* if any of these
  inits diverged or if all samples looked at had, and ranks below every BLEU. The default's is the mean over its inits.
- Percentile p of a method: of the n outcomes, worst first, the one at rank p n / 100, rounded up (p = 0 the worst, 100
  the best); the mean of two neighbours where the rank is whole, diverged if one of them is. For 25 searches and p 25,
  50, 75, 100, and for 3 and p 0, 50, 100, it is a search's own outcome.
- 95% interval: a bootstrap that draws n-1 of the n searches with replacement, the same ones for every method, and for
  every selected sample all but one of its inits, with replacement. A diverged outcome stays so in every draw. All
  searches look at one pool: the interval says nothing of another pool, nor of what another seed would do to the
  pool's losses. Of the best and the worst (p 100, 0) it is too narrow: no draw goes beyond what was seen. The default's
  own interval is Student's t over its inits.
- µTransfer against a method, on validation BLEU (test BLEU stands beside it, and decides nothing): the median of
  µTransfer less that of the other. `better`: the whole interval lies above 0; `worse`: below 0; else `undecided`. A
  diverged median is infinitely below one that is not, and two diverged ones tie. Also `undecided` with fewer than
  `LEAST_SEARCHES` searches, and if all of µTransfer's searches selected one and the same sample.
- Compute of a search is FLOPs: the samples that it looked at and one training of the target (the mean over its inits);
  conventional tuning has trained the target already. A diverged run costs the steps it lived. Two methods spent the
  same if their means over searches differ by no more than `EQUAL`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mutransfer.errors import UserError
from mutransfer.results.comparison import DRAWS, LEAST_SEARCHES, Verdict, percentile
from mutransfer.results.equal_compute import EQUAL
from mutransfer.results.estimate import Array, Estimate, number
from mutransfer.results.search_runs import METRICS, Metric, SearchRuns
from mutransfer.results.selection import DEFAULT, searches, winners

METHODS = ("default", "direct", "naive", "mutransfer")
"""As Table 4 has them, worst first."""
RULE = (
    "A search selects the sample with the least final validation loss of those it looked at, never by BLEU or the test "
    "set. Its outcome is the mean BLEU over the inits of the selected sample's target; it is diverged if any of these "
    "inits diverged or all samples looked at had, and ranks below every BLEU. Percentile p: of the n outcomes, worst "
    "first, that at rank p n / 100, rounded up (where that is whole, the mean of it and the next). 95% intervals: a "
    "bootstrap over the searches (n-1 of the n, with replacement) and, within every selected sample, over its inits "
    "(all but one, with replacement); a diverged outcome stays so in every draw. The searches are resampled from one "
    "pool, so an interval says nothing about another pool; those of the best and the worst are too narrow, as no draw "
    "goes beyond what was seen. The default: mean over its inits with a t interval. "
    "µTransfer is `better` if the whole interval of the difference of the medians of validation BLEU lies above 0 (a "
    "diverged median is infinitely below), `worse` if below 0, else `undecided`, also with fewer than "
    f"{LEAST_SEARCHES} searches or if all of its searches selected the same sample. Compute is FLOPs: the samples "
    "looked at and one training of the target, which conventional tuning has among them; a diverged run costs the "
    f"steps it lived; equal: the means per search differ by at most {EQUAL:.0%}."
)


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What one method reached and spent in each of n searches; the default's are n times the same."""

    name: str
    looked: int
    """Samples that one search looks at; 0 for the default."""
    chosen: tuple[int | None, ...]
    """[n] the sample that was selected, `DEFAULT` for the default's values, None where all had diverged."""
    spent: Array
    """[n] FLOPs, tuning included."""
    planned: float
    """FLOPs of a search if no run diverges."""
    means: Mapping[Metric, Mapping[int | None, Array]]
    """Sample -> [1 + draws] mean BLEU over its inits, the bootstrap draws after it; -inf: diverged."""
    drawn: NDArray[np.int64]
    """[draws, n-1] the searches of every draw."""

    def bleu(self, metric: Metric = "bleu_valid") -> Array:
        """[n]; -inf where the search's outcome is diverged."""
        return np.array([self.means[metric][i][0] for i in self.chosen])

    @property
    def without_winner(self) -> int:
        """Searches whose samples all diverged."""
        return self.chosen.count(None)

    @property
    def diverged(self) -> int:
        """Searches with a winner whose target diverged, in one init at least."""
        return int(np.isinf(self.bleu()).sum()) - self.without_winner

    @property
    def compute(self) -> float:
        """Mean FLOPs of a search."""
        return float(self.spent.mean())

    def percentiles(self, percent: float, metric: Metric = "bleu_valid") -> Array:
        """[1 + draws] over searches; only the first if there is one search."""
        samples = [*dict.fromkeys(self.chosen)]
        table = np.stack([self.means[metric][i] for i in samples])
        row = np.array([samples.index(i) for i in self.chosen])
        point = percentile(self.bleu(metric), percent)[None]
        if not self.drawn.size:
            return np.asarray(point)
        values = table[row[self.drawn], 1 + np.arange(len(self.drawn))[:, None]]
        return np.concatenate([point, percentile(values, percent)])

    def percentile(self, percent: float, metric: Metric = "bleu_valid") -> Estimate:
        """Over searches, with its interval; 0 is the worst, 100 the best."""
        return estimate(self.percentiles(percent, metric))


def estimate(values: Array) -> Estimate:
    """Of [1 + draws]."""
    return Estimate.of(values) if len(values) > 1 else Estimate(float(values[0]), reason="one search")


def difference(ours: Array, its: Array) -> Array:
    """Ours less its, [1 + draws]: +-inf where one of them diverged, 0 where both did."""
    known = np.isfinite(ours) | np.isfinite(its)
    return np.subtract(ours, its, out=np.zeros_like(ours), where=known)


def signed(value: float, digits: int = 2) -> str:
    """``+0.12``, ``-inf``."""
    if math.isinf(value):
        return "+inf" if value > 0 else "-inf"
    return "+" * (round(value, digits) > 0) + number(value, digits)


def difference_text(one: Estimate, digits: int = 2) -> str:
    """``+0.12 [-0.03, +0.20]``."""
    if math.isnan(one.low):
        return f"{signed(one.value, digits)} (no interval: {one.reason})"
    return f"{signed(one.value, digits)} [{signed(one.low, digits)}, {signed(one.high, digits)}]"


@dataclass(frozen=True)
class Against:
    """µTransfer against another method on one metric."""

    other: str
    metric: Metric
    better: int
    """Searches in which µTransfer's outcome is higher."""
    tied: int
    searches: int
    difference: Estimate
    """Median of µTransfer less the other's."""
    verdict: Verdict
    reason: str = ""

    @classmethod
    def of(cls, ours: Outcomes, its: Outcomes, metric: Metric) -> Against:
        mine, theirs = ours.bleu(metric), its.bleu(metric)
        found = estimate(difference(ours.percentiles(50, metric), its.percentiles(50, metric)))
        n, reason = len(mine), ""
        if n < LEAST_SEARCHES:
            reason = f"{n} searches, fewer than {LEAST_SEARCHES}"
        elif len(set(ours.chosen)) == 1:
            reason = "all searches selected the same sample"
        verdict: Verdict = "better" if found.low > 0 else "worse" if found.high < 0 else "undecided"
        verdict = "undecided" if reason else verdict
        better, tied = int((mine > theirs).sum()), int((mine == theirs).sum())
        return cls(its.name, metric, better, tied, n, found, verdict, reason)

    @property
    def share_text(self) -> str:
        """``5 of 7 searches (1 tie)``."""
        ties = f" ({self.tied} tie{'s' * (self.tied > 1)})" if self.tied else ""
        return f"{self.better} of {self.searches} searches{ties}"

    @property
    def text(self) -> str:
        """``better`` or ``undecided (3 searches, fewer than 5)``."""
        return self.verdict + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True)
class RepeatedSearches:
    """What the runs table shows; ``facts`` as `SearchRuns` has them.

    Raises `UserError` as `SearchRuns` and `searches` do, and for a selected sample without its target's runs.
    """

    runs: pd.DataFrame
    facts: Mapping[str, Any]

    def __post_init__(self) -> None:
        self.table  # noqa: B018  raises for a gap

    @cached_property
    def table(self) -> SearchRuns:
        return SearchRuns(self.runs, self.facts)

    @cached_property
    def parts(self) -> dict[str, pd.DataFrame]:
        return {role: self.table.part(role) for role in ("proxy", "direct_pool", *METHODS)}

    @cached_property
    def training(self) -> float:
        """FLOPs of one training of the target as planned."""
        return float(self.parts["default"]["flops"].iloc[0])

    @cached_property
    def methods(self) -> dict[str, Outcomes]:
        """By role, in the order of `METHODS`, with as many samples as the table's searches look at."""
        sizes = {"default": 0, "direct": self.facts["direct"]}
        return {name: self.outcomes(name, sizes.get(name, self.facts["search"])) for name in METHODS}

    def label(self, name: str) -> str:
        """As the paper's table names the method."""
        ratio = f"{self.facts['proxy_width'] / self.facts['target_width']:.3g}x"
        return {
            "default": "fairseq default (SP)",
            "direct": "tuning on 1x (SP)",
            "naive": f"naive transfer from {ratio} (SP)",
            "mutransfer": f"µTransfer from {ratio}",
        }[name]

    def outcomes(self, name: str, size: int) -> Outcomes:
        """Of searches by the method ``name`` that look at ``size`` samples each; the default's looks at none."""
        facts, target = self.facts, self.parts[name]
        if name == "default":
            chosen: list[int | None] = [DEFAULT] * facts["searches"]
            spent = np.full(facts["searches"], float(target["spent"].mean()))
            return Outcomes(name, 0, tuple(chosen), spent, self.training, self._means[name], self._drawn)
        pool = self.parts["direct_pool" if name == "direct" else "proxy"]
        looks = searches(len(pool), size, facts["searches"], facts["seed"])
        chosen = winners({int(str(i)): loss for i, loss in pool["test_loss"].items()}, looks)
        for j, sample in enumerate(chosen):
            if sample is not None and sample not in target.index:
                raise UserError(
                    f"the table of the searches lacks the target's runs of sample {sample} (role '{name}'), which "
                    f"search {j} selects of {size}; run the experiment again."
                )
        tuning = np.array([pool["spent"].loc[list(look)].sum() for look in looks])
        last = target["spent"].groupby(level=0).mean() * (name != "direct")  # its winner is trained already
        copying = np.array([0.0 if i is None else last[i] for i in chosen])
        planned = size * float(pool["flops"].iloc[0]) + self.training * (name != "direct")
        return Outcomes(name, size, tuple(chosen), tuning + copying, planned, self._means[name], self._drawn)

    @cached_property
    def comparisons(self) -> dict[tuple[str, Metric], Against]:
        """µTransfer against every other method, the one next to it in the table first, on both metrics."""
        ours, others = self.methods["mutransfer"], [name for name in METHODS if name != "mutransfer"]
        return {
            (name, metric): Against.of(ours, self.methods[name], metric) for metric in METRICS for name in others[::-1]
        }

    def gap(self, kind: Literal["compute", "planned"]) -> float:
        """Relative difference of a search's compute between conventional tuning and µTransfer."""
        cost = sorted(float(getattr(self.methods[name], kind)) for name in ("direct", "mutransfer"))
        return cost[1] / cost[0] - 1

    @cached_property
    def _drawn(self) -> NDArray[np.int64]:
        n = self.facts["searches"]
        return np.random.default_rng(0).integers(n, size=(DRAWS, n - 1))

    @cached_property
    def _means(self) -> dict[str, dict[Metric, dict[int | None, Array]]]:
        """Role -> metric -> sample -> [1 + draws]; a sample's draws depend on no other's."""
        found: dict[str, dict[Metric, dict[int | None, Array]]] = {}
        for role in METHODS:
            found[role] = {}
            for metric in METRICS:
                means = found[role][metric] = {None: np.full(1 + DRAWS, -math.inf)}
                for sample, values in self.table.inits(role, metric).items():
                    rng = np.random.default_rng(zlib.crc32(f"{role} {sample}".encode()))
                    means[sample] = np.full(1 + DRAWS, values.mean())
                    if len(values) > 1 and np.isfinite(values).all():
                        drawn = rng.integers(len(values), size=(DRAWS, len(values) - 1))
                        means[sample][1:] = values[drawn].mean(axis=1)
        return found
