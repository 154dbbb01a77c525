"""Runs of searches, made from numbers: role -> sample -> loss, or BLEU, of every init."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mutransfer.results.folder import Kind
from mutransfer.results.outcomes import Outcomes

LOST = math.inf
"""A loss, or an init's BLEU: this run diverged, after a quarter of its steps."""
STEPS = 100
FLOPS = {"proxy": 10.0, "target": 100.0}
LENGTHS = {"default_long": 2, "proxy_short": 0.5}
Values = Mapping[str, Mapping[int, Sequence[float]]]


def outcomes(values: Sequence[float], name: str = "mutransfer", looked: int = 1, spent: float = 1) -> Outcomes:
    """n searches with these validation BLEUs, every one of its own sample, which was trained once."""
    n, draws = len(values), 2000
    means = {"bleu_valid": np.repeat(np.array(values, float)[:, None], 1 + draws, axis=1)}
    drawn = np.random.default_rng(0).integers(n, size=(draws, n - 1))
    return Outcomes(name, looked, tuple(range(n)), np.full(n, float(spent)), 0.0, means, drawn)


def search_table(losses: Values, bleus: Values | None = None) -> pd.DataFrame:
    """``losses``: of pools by validation loss, and of targets by training loss, the test loss is 1 more.

    ``bleus``: of targets by validation BLEU instead, test BLEU is 1 less; the first init of ``direct`` is the run of
    ``direct_pool``. A training of the target costs 100 FLOPs, a sample on the proxy 10.
    """
    rows = []
    for role, samples in {**losses, **(bleus or {})}.items():
        is_proxy, length = role.startswith("proxy"), LENGTHS.get(role, 1)
        for sample, values in samples.items():
            # a copy has the values of its sample
            place = -5 if sample < 0 else sample + 100 * role.startswith("direct")
            for seed, value in enumerate(values):
                loss = value if role in losses else 4.0
                if role == "direct" and seed == 0 and bleus:
                    loss = losses["direct_pool"][sample][0]
                lost, steps, score = LOST in (value, loss), int(STEPS * length), (role not in losses) - 1
                rows.append({
                    "role": role, "sample": sample, "seed": seed, "width": 32 if is_proxy else 128,
                    "parametrization": "mup" if is_proxy or role == "mutransfer" else "sp",
                    "log2_lr": -8 - place / 16, "output_mult": 2.0 ** (place % 5), "attn_mult": 2.0 ** (place % 3),
                    "steps": steps, "steps_done": steps // 4 if lost else steps,
                    "status": "diverged" if lost else "finished",
                    "train_loss": LOST if lost else loss - 0.1 * bool(bleus),
                    "test_loss": math.nan if lost else loss + (not bleus),
                    "flops": FLOPS["proxy" if is_proxy else "target"] * length,
                    "bleu_valid": math.nan if lost or score else value,
                    "bleu_test": math.nan if lost or score else value - 1,
                })  # fmt: skip
    return pd.DataFrame(rows)


def of_row(text: str, heading: str, *start: str) -> dict[str, str]:
    """The cells, by heading, of the first row with this beginning, of the first table under ``heading``."""
    lines = [line for line in text.split(f"## {heading}")[1].split("\n") if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.removeprefix("|").removesuffix("|").split(" | ")] for line in lines]
    return dict(zip(rows[0], next(row for row in rows if row[: len(start)] == [*start]), strict=True))


def redrawn(
    kind: Kind[Any], write: Callable[..., Path], tables: Sequence[Sequence[Any]]
) -> tuple[list[set[str]], list[str]]:
    """For every table, the stems of the files that are not those of the first; and the names of all."""
    done = []
    for table, *more in tables:
        _, paths = kind.redraw(write(table.sample(frac=1, random_state=len(done)), *more))
        done.append({path.name: path.read_bytes() for path in paths})
    return [{name.split(".")[0] for name in done[0] if after[name] != done[0][name]} for after in done[1:]], [*done[0]]
