"""Runs of repeated searches, made from numbers: (role, sample) -> validation loss, or BLEU of its inits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

LOST = math.inf
"""A pool's loss, or an init's BLEU: this run diverged, after a quarter of its steps."""
STEPS = 100
FLOPS = {"proxy": 10.0, "target": 100.0}


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
