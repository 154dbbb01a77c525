"""Who is selected: the samples that a search looks at, its winner, the rungs of successive halving, and the cost."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from mutransfer.errors import UserError

PROXY, SCRATCH, DEFAULT = "proxy", "_scratch", -1
"""Role and label of the search; end of a score's name if the model was not pretrained; the default's sample."""
COPIES = ("mutransfer", "naive")
"""Roles whose hyperparameters are those of a sample on the proxy."""
JUDGED = ("default", "mutransfer")
"""Roles that pretraining is judged by: their targets are scored without it, too."""
ETA = 4
"""One in ETA survives a rung. Any value from 2 to 4 costs about the same; 4 decides latest, on the longest runs."""
LEAST_STEPS = 25
"""Of a rung: below, the last tenth of the steps, which is the loss compared, is one or two noisy batches."""
MOST_CUTS = 2
"""So that a loss curve of 50 points resolves every rung, and a full search can say what halving would have done."""

Losses = Mapping[int, float]
"""Final training loss by sample number; +inf: diverged, NaN: failed."""


def searches(pool: int, size: int, count: int, seed: int) -> list[tuple[int, ...]]:
    """The ``size`` of ``pool`` samples that each of ``count`` searches looks at, in the order in which it does.

    Search j ranks all samples by the SHA-256 of ``seed/search j/sample i`` and takes the first: no sample twice, the
    same on every machine. More searches leave the earlier ones alone; a larger size keeps what was looked at.
    Raises `UserError` if the pool is too small.
    """
    if not 1 <= size <= pool:
        raise UserError(f"a search looks at {size} samples of a pool of {pool}, expected between 1 and all of them.")

    def rank(j: int, i: int) -> bytes:
        return hashlib.sha256(f"{seed}/search {j}/sample {i}".encode()).digest()

    return [tuple(sorted(range(pool), key=lambda i: rank(j, i))[:size]) for j in range(count)]


def ranking(losses: Losses) -> list[int]:
    """The samples that have a finite loss, best first; of a tie the lower number."""
    return sorted((i for i, loss in losses.items() if math.isfinite(loss)), key=lambda i: (losses[i], i))


def winners(losses: Losses, looks: Iterable[Sequence[int]]) -> list[int | None]:
    """The sample with the least loss of each look, of a tie the lower number; None if none has a finite loss."""
    return [next(iter(ranking({i: losses[i] for i in look})), None) for look in looks]


class Rung(NamedTuple):
    """Samples that were trained equally long."""

    steps: int
    losses: Losses

    @property
    def ranking(self) -> list[int]:
        return ranking(self.losses)


def rung_plan(samples: int, steps: int) -> list[tuple[int, int]]:
    """(samples, steps) of the rungs of successive halving: a cut to 1/`ETA`, then `ETA` times the steps.

    Without a diverged run, and where all divides evenly, they cost k / ETA^(k-1) of the full search with k rungs.
    Raises `UserError` if there is no room for two rungs.
    """
    cuts = sum(samples >= ETA**k and steps // ETA**k >= LEAST_STEPS for k in range(1, MOST_CUTS + 1))
    if not cuts:
        raise UserError(
            f"halving needs at least {ETA} samples and {ETA * LEAST_STEPS} steps, here are {samples} and {steps}."
        )
    return [(samples // ETA**k, steps // ETA ** (cuts - k)) for k in range(cuts + 1)]


def halve(plan: Sequence[tuple[int, int]], measure: Callable[[Sequence[int], int], Losses]) -> list[Rung]:
    """The rungs of ``plan``; a plan of one rung is the full search.

    measure: (sample numbers, steps) to their losses after so many steps. The best of a rung go on. Diverged and
    failed runs never do; should all that went on diverge later, the next in line are taken up.
    """
    rungs: list[Rung] = []
    for count, steps in plan:
        waiting: Sequence[int] = rungs[-1].ranking if rungs else range(count)
        losses: dict[int, float] = {}
        while waiting and not ranking(losses):
            losses |= measure(waiting[:count], steps)
            waiting = waiting[count:]
        rungs.append(Rung(steps, losses))
    return rungs


def tuning_cost_fraction(
    proxy_size: float, runs: Iterable[tuple[float, float]], target_size: float, target_tokens: float
) -> float:
    """s (t1 N1 + t2 N2 + ...) / (S T): the cost of a search as a fraction of the target's training (App. F.4).

    proxy_size, target_size: s and S, in parameters, or in FLOPs a step. runs: (N, t), N runs of t tokens, or steps,
    each. target_tokens: T, in the unit of t.
    """
    return proxy_size * sum(count * tokens for count, tokens in runs) / (target_size * target_tokens)


GPT3 = tuning_cost_fraction(40e6, [(350, 4e9), (117, 16e9)], 6.7e9, 300e9)
"""Of the paper's search for GPT-3 6.7B (App. F.4)."""
