"""Runs of one search and of the targets that got its winner, made from numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

LOST = math.inf
"""A loss: this run diverged, after a quarter of its steps."""
SIZES = {"proxy": (32, 2), "base": (64, 4), "large": (128, 8), "wide": (64, 2), "deep": (32, 4)}
STEPS = {"proxy": 50, "target": 200}
FLOPS = {"proxy": 10.0, "base": 400.0, "large": 2000.0, "wide": 200.0, "deep": 80.0}
CHANGES = {"base": "both", "large": "both", "wide": "width", "deep": "depth"}
ROLES = {
    "both": ("default", "default_long", "naive", "mutransfer"),
    "width": ("default", "naive", "mutransfer"),
    "depth": ("default", "mutransfer"),
}
SCORES = {
    "sst2": {"label": "SST-2", "metric": "accuracy", "unit": "%", "published": ""},
    "qqp": {"label": "QQP", "metric": "accuracy", "unit": "%", "published": "QQP acc"},
}


def transfer_runs(
    proxy: Sequence[float],
    targets: Mapping[str, Mapping[str, Sequence[float]]],
    scores: Mapping[str, Sequence[float]] | None = None,
    winner: int = 0,
) -> pd.DataFrame:
    """``proxy``: loss by sample. ``targets``: label -> role -> loss of every init.

    ``scores``: column -> score of every init, the same for all methods and targets. The training loss falls where the
    validation loss rises.
    """
    rows = []

    def add(role: str, target: str, sample: int, seed: int, loss: float) -> None:
        place = max(sample, 0)
        steps = STEPS["proxy" if role == "proxy" else "target"]
        longer = 1 + len(proxy) * FLOPS["proxy"] / FLOPS[target] if role == "default_long" else 1.0
        steps, lost = round(steps * longer), loss == LOST
        row: dict[str, Any] = {
            "role": role,
            "target": target,
            "sample": sample,
            "run_id": f"{role} {target} {sample} {seed}",
            "parametrization": "mup" if role in ("proxy", "mutransfer") else "sp",
            "width": SIZES[target][0],
            "base_width": 32,
            "depth": SIZES[target][1],
            "log2_lr": -20.0 if role.startswith("default") else -8 - place / 16,
            "output_mult": 2.0 ** (place % 3),
            "seed": seed,
            "steps": steps,
            "steps_done": steps // 4 if lost else steps,
            "status": "diverged" if lost else "finished",
            "train_loss": math.inf if lost else 20 - loss,
            "test_loss": math.nan if lost else loss,
            "flops": FLOPS[target] * longer,
        }
        for name, values in (scores or {}).items():
            row[name] = math.nan if lost or role == "proxy" else values[seed]
        rows.append(row)

    for sample, loss in enumerate(proxy):
        add("proxy", "proxy", sample, 0, loss)
    for target, roles in targets.items():
        for role, losses in roles.items():
            sample = winner if role in ("mutransfer", "naive") else -1
            for seed, loss in enumerate(losses):
                add(role, target, sample, seed, loss)
    return pd.DataFrame(rows)


def target(label: str) -> dict[str, Any]:
    (width, depth), changes = SIZES[label], CHANGES[label]
    return {"width": width, "depth": depth, "changes": changes, "roles": list(ROLES[changes])}


def facts(samples: int = 6, inits: int = 3, targets: Sequence[str] = ("base",), scores: Sequence[str] = ()) -> dict:
    """provenance["transfer"] of such a table."""
    published = {"base": "BERT-base", "large": "BERT-large"}
    width, depth = SIZES["proxy"]
    return {
        "table": "Table 6",
        "samples": samples,
        "inits": inits,
        "seed": 0,
        "space": {"lr": "{...}", "output_mult": "{1, 2, 4}"},
        "default": {"log2_lr": -20.0},
        "proxy": {"width": width, "depth": depth, "steps": STEPS["proxy"]},
        "targets": {label: {**target(label), "published": published.get(label, "")} for label in targets},
        "scores": {name: SCORES[name] for name in scores},
    }
