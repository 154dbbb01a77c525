"""A sweep of runs that take milliseconds, for the tests; ``python -m`` makes it a driver to kill."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mutransfer.data.dataset import ImageDataset
from mutransfer.training.loop import train
from mutransfer.training.spec import RunRecord, RunSpec

RUNNER = "tests.sweeps.tiny:run"
HANG = "MUTRANSFER_TEST_HANG"  # run_ids that never end, in the environment and so no part of any spec


def dataset() -> ImageDataset:
    """256 + 50 random images of 4x4 pixels."""
    rng = np.random.default_rng(0)

    def part(n: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.integers(0, 256, (n, 4, 4, 3), dtype=np.uint8), rng.integers(0, 10, n)

    return ImageDataset.from_arrays("tiny", "random images", is_real=False, train=part(256), test=part(50))


def spec(data: ImageDataset, **changes: object) -> RunSpec:
    """A run of 60 steps on ``data`` with some fields changed."""
    values: dict = dict(experiment="tiny", variant="relu", parametrization="sp", optimizer="sgd", width=8)
    values |= dict(base_width=8, log2_lr=-4, seed=0, steps=60, batch=8, momentum=0.9, precision="float32")
    values |= dict(data=data.name, data_fingerprint=data.fingerprint)
    return RunSpec(**values | changes)


def grid(data: ImageDataset) -> list[RunSpec]:
    """Eight runs; those at a learning rate of 2^30 diverge."""
    return [
        spec(data, parametrization=p, width=w, log2_lr=lr) for p in ("mup", "sp") for w in (8, 16) for lr in (-4, 30)
    ]


def run(spec: RunSpec, dataset: ImageDataset) -> RunRecord:
    """Train a net with dropout, its weights from torch's global generator; misbehave as the spec says."""
    if spec.run_id in os.environ.get(HANG, ""):
        time.sleep(600)
    net = nn.Sequential(nn.Linear(48, spec.width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(spec.width, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=2**spec.log2_lr, momentum=spec.momentum)
    fault, marker = dict(spec.hps).get("fault"), Path(str(dict(spec.hps).get("marker")))
    if fault == "raise":
        raise ValueError("this run\nalways raises")
    calls = 0

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 30 and (fault == "die" or (fault == "die once" and not marker.exists())):
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return cross_entropy(outputs, labels)

    return train(spec, net, optimizer, dataset, loss)


if __name__ == "__main__":
    from mutransfer.sweeps.store import Store  # not above: the workers need no pandas
    from mutransfer.sweeps.sweep import sweep

    data = dataset()
    with Store(sys.argv[1]) as store:
        sweep(grid(data), store, RUNNER, workers=2, dataset=data)
