"""Runs of searches, made from numbers: (role, sample) -> loss, or BLEU of its inits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mutransfer.results.outcomes import Outcomes

LOST = math.inf
"""A pool's loss, or an init's BLEU: this run diverged, after a quarter of its steps."""
STEPS = 100
FLOPS = {"proxy": 10.0, "target": 100.0}


def outcomes(
    values: Sequence[float], name: str = "mutransfer", looked: int = 1, spent: float = 1, draws: int = 2000
) -> Outcomes:
    """n searches with these validation BLEUs, every one of its own sample, which was trained once."""
    n = len(values)
    means = {"bleu_valid": {i: np.full(1 + draws, float(value)) for i, value in enumerate(values)}}
    drawn = np.random.default_rng(0).integers(n, size=(draws, n - 1))
    return Outcomes(name, looked, tuple(range(n)), np.full(n, float(spent)), 0.0, means, drawn)


def search_table(
    proxy: Sequence[float],
    direct_pool: Sequence[float],
    targets: Mapping[str, Mapping[int, Sequence[float]]],
    test: float = -1.0,
) -> pd.DataFrame:
    """``proxy``, ``direct_pool``: loss by sample. ``targets``: role -> sample -> BLEU of every init.

    Test BLEU is validation BLEU + ``test``.
    """
    rows = []

    def add(role: str, sample: int, seed: int, loss: float, bleu: float | None) -> None:
        size, lost = "proxy" if role == "proxy" else "target", LOST in (loss, bleu)
        of_direct = role.startswith("direct")
        place = 0 if role == "default" else sample + 100 * of_direct
        rows.append(
            {
                "role": role,
                "sample": sample,
                "run_id": f"{role} {sample} {seed}",
                "parametrization": "mup" if role in ("proxy", "mutransfer") else "sp",
                "width": 32 if size == "proxy" else 128,
                "log2_lr": -8 - place / 16,
                "seed": seed,
                "steps": STEPS,
                "status": "diverged" if lost else "finished",
                "train_loss": LOST if lost else loss - 0.1,
                "test_loss": math.nan if lost else loss,
                "steps_done": STEPS // 4 if lost else STEPS,
                "output_mult": 2.0 ** (place % 5),
                "attn_mult": 2.0 ** (place % 3),
                "flops": FLOPS[size],
                "bleu_valid": math.nan if lost or bleu is None else bleu,
                "bleu_test": math.nan if lost or bleu is None else bleu + test,
            }
        )

    for role, losses in (("proxy", proxy), ("direct_pool", direct_pool)):
        for sample, loss in enumerate(losses):
            add(role, sample, 0, loss, None)
    for role, samples in targets.items():
        for sample, inits in samples.items():
            for seed, bleu in enumerate(inits):
                is_pool_run = role == "direct" and seed == 0
                add(role, sample, seed, direct_pool[sample] if is_pool_run else 4.0, bleu)
    return pd.DataFrame(rows)


def study_table(losses: Mapping[str, Mapping[int, float]], *, short: int = 0) -> pd.DataFrame:
    """Runs of a study: role -> sample -> training loss; test loss is training loss + 1.

    A training of the target costs 100 FLOPs, a sample on the proxy 10; the longer default takes twice the steps, each
    of ``short`` samples of another pool half of a proxy's. A run that diverges lives a fifth of its steps.
    """
    shorter = {i: 4.5 + i / 50 for i in range(short)}
    rows = []
    for role, samples in {**losses, **({"proxy_short": shorter} if short else {})}.items():
        is_proxy = role.startswith("proxy")
        length = {"default_long": 2, "proxy_short": 0.5}.get(role, 1)
        for sample, loss in samples.items():
            lost, steps = loss == LOST, int(50 * length)
            rng = np.random.default_rng([sample + 1, role == "direct"])  # a copy has the values of its sample
            rows.append(
                {
                    "role": role,
                    "sample": sample,
                    "seed": 0,
                    "parametrization": "mup" if is_proxy or role == "mutransfer" else "sp",
                    "width": 32 if is_proxy else 128,
                    "log2_lr": rng.uniform(-13, -4),
                    "steps": steps,
                    "steps_done": steps // 5 if lost else steps,
                    "status": "diverged" if lost else "finished",
                    "train_loss": loss,
                    "test_loss": math.nan if lost else loss + 1,
                    "init_mult": 10 ** rng.uniform(-1, 1),
                    "attn_mult": 4 ** rng.uniform(-1, 1),
                    "flops": (10.0 if is_proxy else 100.0) * length,
                }
            )
    return pd.DataFrame(rows)
