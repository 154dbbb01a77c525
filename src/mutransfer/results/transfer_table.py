"""Table 6: what the winner of one search on a proxy is worth on targets that are wider and deeper.

The rule, declared before any result:

- The winner is the sample with the least *validation loss* at the end of pretraining on the proxy (a diverged run has
  +inf; of a tie the lower number), never by a task's score. It is copied once: nothing is known of other searches.
- Each method trains a target from the same inits. Its loss is the mean of the final validation losses over the inits,
  with a 95% t interval; +inf if one diverged. It is of the part that the proxy's losses are of, on other models.
- µTransfer against a method: the differences of the validation losses, paired by init, with a 95% t interval of their
  mean. `better`: the whole interval lies below 0; `worse`: above; else `undecided`. A diverged run has +inf: where all
  inits of the other diverged and none of ours it is `better`, the other way round `worse`; where only some did, or both
  did, `undecided`. Also `undecided` with fewer than `LEAST_INITS` inits. Scores of tasks decide nothing here.
- Does pretraining matter? The score of a task, of which higher is better, less that of the same model trained on the
  task from its init, paired by run, with a 95% t interval of the mean over the inits that did not diverge. `yes`: the
  whole interval lies above 0; `no`: none of it does; else `undecided`, also with fewer than `LEAST_INITS`.
- Model speedup: FLOPs of a step of the target over those of a step of the proxy. Total speedup: FLOPs of a training of
  the target over those of a training of the proxy, which may be shorter. Both as the paper has them: of one run,
  without the search. Compute of a method counts it: the training of the target and, of what was copied, the search.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from mutransfer.results.comparison import Verdict
from mutransfer.results.estimate import Array, Estimate, listing
from mutransfer.results.repeated_searches import difference, difference_text
from mutransfer.results.selection import COPIES, PROXY, SCRATCH
from mutransfer.results.transfer_runs import TransferRuns

LEAST_INITS = 3
LABELS = {
    "default": "SP default",
    "default_long": "longer SP default",
    "naive": "naive transfer",
    "mutransfer": "µTransfer",
}
CHANGES = {"width": "only wider", "depth": "only deeper", "both": "wider and deeper"}
RULE = (
    "The winner has the least final validation loss on the proxy, never the best score. A method's loss on a target is "
    "the mean over its inits, with a 95% t interval (+inf, diverged, if one init did). µTransfer is `better` if the "
    "whole 95% t interval of the mean difference, paired by init, lies below 0, `worse` if above, else `undecided`; a "
    "diverged run has +inf: `better` too where all inits of the other diverged and none of ours, `worse` the other way "
    f"round, `undecided` where only some did or both did, and always with fewer than {LEAST_INITS} inits. There is one "
    "search, copied once: the interval covers the targets' inits, not another search. Does pretraining matter: the "
    "score less that of the same model trained on the task from its init, paired by run; `yes` if the whole 95% t "
    f"interval lies above 0, `no` if none of it does, else `undecided`, also with fewer than {LEAST_INITS} runs. Model "
    "speedup: FLOPs of a step of the target over a step of the proxy; total speedup: of a whole training. Compute, in "
    "trainings of the target as planned, includes the whole search for µTransfer and naive transfer, though all "
    "targets share it; the longer default trains for as much."
)


@dataclass(frozen=True, eq=False)
class Outcome:
    """One method on one target."""

    role: str
    losses: Array
    """[inits] nats, +inf where it diverged."""
    scores: Mapping[str, Array]
    """Name -> [inits], NaN where it diverged."""
    compute: float
    """FLOPs as planned, the search included."""
    spent: Array
    """[inits] FLOPs of the training; a diverged run has those of the steps that it lived."""
    steps: int

    @property
    def label(self) -> str:
        return LABELS[self.role]

    @property
    def diverged(self) -> int:
        return int(np.isinf(self.losses).sum())

    @property
    def loss(self) -> Estimate:
        """Mean over the inits."""
        return Estimate.mean(self.losses)

    def score(self, name: str) -> Estimate:
        """Mean over the inits that did not diverge."""
        return _mean(self.scores[name], "all inits diverged")


@dataclass(frozen=True)
class Against:
    """µTransfer against another method on one target."""

    other: str
    lower: int
    """Inits at which µTransfer's loss is lower."""
    inits: int
    difference: Estimate
    """Of the validation losses, µTransfer's less the other's, nats; +-inf where one of them diverged in all inits."""
    verdict: Verdict
    reason: str = ""

    @classmethod
    def of(cls, ours: Array, its: Array, other: str) -> Against:
        """Losses [inits] of the same inits, +inf: diverged."""
        n, each = len(ours), difference(ours, its)
        lost, theirs = (int(np.isinf(x).sum()) for x in (ours, its))
        if not lost and not theirs:
            found, reason = Estimate.mean(each), ""
        else:
            counts = {LABELS["mutransfer"]: lost, LABELS[other]: theirs}
            reason = listing([f"{name} diverged in {k} of {n} inits" for name, k in counts.items() if k])
            same = bool((each == each[0]).all())  # all -inf, +inf or, where both diverged, 0
            found = Estimate(float(each[0]) if same else math.nan, reason=reason)
        verdict: Verdict = "undecided"
        if n < LEAST_INITS:
            reason = f"{n} init{'s' * (n > 1)}, fewer than {LEAST_INITS}"
        elif found.high < 0 or (theirs == n and not lost):
            verdict = "better"
        elif found.low > 0 or (lost == n and not theirs):
            verdict = "worse"
        return cls(other, int((ours < its).sum()), n, found, verdict, reason)

    @property
    def text(self) -> str:
        """``better`` or ``undecided (2 inits, fewer than 3)``."""
        return self.verdict + (f" ({self.reason})" if self.reason else "")

    @property
    def difference_text(self) -> str:
        """``-0.0123 [-0.0200, -0.0046] nats``, ``-inf``, a dash where only some diverged."""
        one = self.difference
        if math.isnan(one.value):
            return "-"
        return difference_text(one, 4) + " nats" if math.isfinite(one.value) else difference_text(one).split()[0]


@dataclass(frozen=True)
class Pretraining:
    """A task's score after pretraining and from the init, of one method on one target."""

    task: str
    runs: int
    pretrained: Estimate
    scratch: Estimate
    difference: Estimate
    verdict: Literal["yes", "no", "undecided"]
    reason: str = ""

    @classmethod
    def of(cls, task: str, pretrained: Array, scratch: Array) -> Pretraining:
        """Scores [inits] of the same runs, NaN where they diverged."""
        n, lost = int(np.isfinite(pretrained).sum()), "all inits diverged"
        found, verdict = _mean(pretrained - scratch, lost), "undecided"
        reason = f"{n} run{'s' * (n != 1)}, fewer than {LEAST_INITS}" if n < LEAST_INITS else ""
        if not reason:
            verdict = "yes" if found.low > 0 else "no" if found.high <= 0 else "undecided"
        return cls(task, n, _mean(pretrained, lost), _mean(scratch, lost), found, verdict, reason)  # type: ignore[arg-type]

    @property
    def text(self) -> str:
        return self.verdict + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True)
class TransferTable:
    """What the runs table shows; ``facts`` as `TransferRuns` has them. Raises `UserError` as that does."""

    runs: pd.DataFrame
    facts: Mapping[str, Any]

    def __post_init__(self) -> None:
        self.table  # noqa: B018  raises for a gap

    @cached_property
    def table(self) -> TransferRuns:
        return TransferRuns(self.runs, self.facts)

    @property
    def winner(self) -> int:
        """The sample that was copied."""
        return self.table.ranked[0]

    def targets(self, *changes: str) -> list[str]:
        """Labels of the targets that differ from the proxy in this way: ``width``, ``depth`` or ``both``."""
        return [label for label, target in self.facts["targets"].items() if target["changes"] in changes]

    def name(self, label: str) -> str:
        """``base (width 128, depth 4)``."""
        target = self.facts["targets"][label]
        return f"{label} (width {target['width']}, depth {target['depth']})"

    @cached_property
    def outcomes(self) -> dict[str, dict[str, Outcome]]:
        """Target -> role -> outcome, in the order in which they were planned."""
        found: dict[str, dict[str, Outcome]] = {}
        for label, target in self.facts["targets"].items():
            found[label] = {}
            for role in target["roles"]:
                part = self.table.part(label, role)
                scores = {name: part[name].to_numpy(float) for name in self.table.scores}
                compute = float(part["flops"].iloc[0]) + self.tuning * (role in COPIES)
                loss, spent = (part[name].to_numpy(float) for name in ("test_loss", "spent"))
                found[label][role] = Outcome(role, loss, scores, compute, spent, int(part["steps"].iloc[0]))
        return found

    @property
    def tuning(self) -> float:
        """FLOPs of the search as planned."""
        return float(self.table.proxy["flops"].sum())

    def training(self, label: str) -> float:
        """FLOPs of one training of the target as planned."""
        return float(self.table.part(label, "default")["flops"].iloc[0])

    def search_cost(self, label: str, *, lived: bool = False) -> float:
        """The search in trainings of the target; ``lived``: a diverged run counts the steps it lived, else all."""
        return float(self.table.proxy["spent" if lived else "flops"].sum()) / self.training(label)

    def total_speedup(self, label: str) -> float:
        """FLOPs of a training of the target over those of a sample's on the proxy."""
        return self.training(label) / float(self.table.proxy["flops"].iloc[0])

    def model_speedup(self, label: str) -> float:
        """The same, were both of one length."""
        proxy, target = self.table.part(PROXY, PROXY).iloc[0], self.table.part(label, "default").iloc[0]
        return self.total_speedup(label) * float(proxy["steps"]) / float(target["steps"])

    def comparisons(self, label: str) -> list[Against]:
        """µTransfer against every other method, the one next to it in the table first."""
        ours = self.outcomes[label]["mutransfer"].losses
        others = [one for role, one in self.outcomes[label].items() if role != "mutransfer"]
        return [Against.of(ours, one.losses, one.role) for one in others[::-1]]

    @property
    def tasks(self) -> list[str]:
        """Those with a score both after pretraining and from the init."""
        return [name for name in self.facts["scores"] if name + SCRATCH in self.table.scores]

    def pretraining(self, label: str, role: str = "mutransfer") -> list[Pretraining]:
        """For every one of `tasks`."""
        scores = self.outcomes[label][role].scores
        return [Pretraining.of(task, scores[task], scores[task + SCRATCH]) for task in self.tasks]


def _mean(values: Array, unknown: str) -> Estimate:
    """Of the known ones."""
    known = values[np.isfinite(values)]
    return Estimate.mean(known) if len(known) else Estimate(math.nan, reason=unknown)
