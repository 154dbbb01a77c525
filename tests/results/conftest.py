"""Runs tables with a planted answer, and a figure folder as an experiment leaves it: runs.csv and provenance.json."""

from __future__ import annotations

import json
import re
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


@pytest.fixture(scope="session")
def runs() -> pd.DataFrame:
    """Two seeds, three widths: SP's optimum moves by -0.75 octaves per doubling, µP's stays; far above it a run
    diverges.
    """
    table = planted_runs({"sp": -0.75, "mup": 0.0}, widths=(64, 256, 1024), seeds=2, start=-4.0, grid=range(-10, 0))
    best = -4 - 0.75 * np.log2(table["width"] / 64) * (table["parametrization"] == "sp")
    table["train_loss"] += 0.005 * np.random.default_rng(0).normal(size=len(table))
    table.loc[table["log2_lr"] - best > 2.5, "train_loss"] = np.inf
    return table.assign(base_width=64, status=np.where(np.isinf(table["train_loss"]), "diverged", "finished"))


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Write a figure folder from a runs table and changes to the provenance."""

    def write(runs: pd.DataFrame, **changes: Any) -> Path:
        runs.to_csv(tmp_path / "runs.csv", index=False)
        (tmp_path / "provenance.json").write_text(json.dumps({**PROVENANCE, **changes}), encoding="utf-8")
        return tmp_path

    return write


def words(svg: Path) -> list[str]:
    """Every text of a figure, in the order in which it was drawn: matplotlib leaves each as a comment."""
    return re.findall(r"<!-- (.*?) -->", svg.read_text(encoding="utf-8"), re.S)


@pytest.fixture(name="words")
def _words() -> Callable[[Path], list[str]]:
    """`words`."""
    return words
