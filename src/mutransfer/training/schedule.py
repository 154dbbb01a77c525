"""Learning-rate schedules: a factor on the learning rates that the optimizer was given (Figure 4, fourth column)."""

from __future__ import annotations

import math
from collections.abc import Callable

from mutransfer.errors import known

DECAY_FROM = 0.1  # of training: where the inverse square root begins
WARMUP = 5 / 24  # of training, in the recipe of cifar10-fast: 5 of 24 epochs
FAIRSEQ_WARMUP = 0.04  # of training, in fairseq's recipe for IWSLT14: 4,000 of about 110,000 steps
RISE = 8 / 50  # in the recipe of NVIDIA's ResNet-50: 8 of 50 epochs

# From the share of training that is done, in [0, 1), to the factor; the letters are Figure 4's.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": lambda t: 1 - t,  # (a)
    "step_0.1": lambda t: 0.1 ** ((t >= 0.5) + (t >= 0.8)),  # (b): StepLR at 5k and 8k of 10k steps
    "step_0.3": lambda t: 0.3 ** ((t >= 0.4) + (t >= 0.7)),  # (c): at 4k and 7k
    "cosine": lambda t: _cosine(t),  # (d)
    "constant": lambda t: 1.0,  # (e)
    "inverse_sqrt": lambda t: min(1.0, (DECAY_FROM / t) ** 0.5) if t else 1.0,  # (f)
    "warmup_linear": lambda t: min(t / WARMUP, (1 - t) / (1 - WARMUP)),
    "warmup_0.01_linear": lambda t: min(t / 0.01, (1 - t) / 0.99),  # of BERT's pretraining: 10,000 of 1,000,000 steps
    "warmup_0.1_linear": lambda t: min(t / 0.1, (1 - t) / 0.9),  # of its fine-tuning (App. F.3)
    "warmup_inverse_sqrt": lambda t: t / FAIRSEQ_WARMUP if t < FAIRSEQ_WARMUP else (FAIRSEQ_WARMUP / t) ** 0.5,
    "warmup_cosine": lambda t: t / RISE if t < RISE else _cosine((t - RISE) / (1 - RISE)),
}
FIGURE_4 = tuple(SCHEDULES)[:6]
"""The schedules (a) to (f) of Figure 4."""


def _cosine(t: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * t))


def schedule(name: str) -> Callable[[float], float]:
    """The schedule of that name. Raises `UserError` with the nearest name if there is none."""
    return SCHEDULES[known("schedule", name, SCHEDULES)]
