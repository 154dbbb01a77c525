"""Runs tables with a planted answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import pytest


def planted_runs(
    drift: float | dict[str, float] = 0.0,
    *,
    widths: Iterable[int] = (64, 128, 256, 512, 1024),
    seeds: int = 3,
    noise: float = 0.0,
    curvature: float = 0.05,
    start: float = -4.3,
    grid: Iterable[float] = range(-12, 1),
    random_state: int = 0,
) -> pd.DataFrame:
    """Parabolas in log2 LR; the vertex starts at ``start`` and moves by ``drift`` octaves per doubling."""
    rng = np.random.default_rng(random_state)
    drifts = drift if isinstance(drift, dict) else {"sp": drift}
    rows = []
    for name, slope in drifts.items():
        for width in widths:
            best = start + slope * np.log2(width / 64)
            for log2_lr in grid:
                for seed in range(seeds):
                    loss = 1.3 + 2 * width**-0.5 + curvature * (log2_lr - best) ** 2 + noise * rng.normal()
                    rows.append((name, width, float(log2_lr), seed, loss))
    return pd.DataFrame(rows, columns=["parametrization", "width", "log2_lr", "seed", "train_loss"])


@pytest.fixture
def planted() -> Callable[..., pd.DataFrame]:
    """`planted_runs`."""
    return planted_runs
