"""Runs tables with a planted answer, and a figure folder as an experiment leaves it: runs.csv and provenance.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

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


PROVENANCE: dict[str, Any] = {
    "experiment": "cifar_mlp",
    "title": "MLP: training loss against learning rate",
    "scale": "cpu",
    "data_source": "CIFAR-10 (JPEG-recompressed pixels)",
    "data_is_real": True,
    "y_label": "training loss (nats)",
    "paper": {
        "table_or_figure": "Figure 3",
        "statement": "SP moves, µP stays.",
        "differs": "narrower, 2 epochs.",
    },
}


def fake_runs(seeds: int = 2, *, noise: float = 0.005, low: int = -10) -> pd.DataFrame:
    """SP's optimum moves by -0.75 octaves per doubling, µP's stays; far above the optimum a run diverges."""
    rng = np.random.default_rng(0)
    rows = []
    for name, drift in (("sp", -0.75), ("mup", 0.0)):
        for width in (64, 256, 1024):
            best = -4 + drift * np.log2(width / 64)
            for log2_lr in range(low, 0):
                for seed in range(seeds):
                    off = log2_lr - best
                    loss = np.inf if off > 2.5 else 1.3 + 2 / width**0.5 + 0.05 * off**2 + noise * rng.normal()
                    status = "diverged" if np.isinf(loss) else "finished"
                    rows.append((name, width, 64, float(log2_lr), seed, status, loss))
    names = ["parametrization", "width", "base_width", "log2_lr", "seed", "status", "train_loss"]
    return pd.DataFrame(rows, columns=names)


@pytest.fixture
def runs() -> pd.DataFrame:
    """Two seeds, three widths, SP and µP."""
    return fake_runs()


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Write a figure folder from a runs table and changes to the provenance."""

    def write(runs: pd.DataFrame, **changes: Any) -> Path:
        runs.to_csv(tmp_path / "runs.csv", index=False)
        (tmp_path / "provenance.json").write_text(json.dumps({**PROVENANCE, **changes}), encoding="utf-8")
        return tmp_path

    return write
