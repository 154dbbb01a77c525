"""One thread a test process: small tensors, the same bits whatever the machine, and a short look at its speed."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
import torch

from mutransfer.runs import cost

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def short_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command of seconds must not measure the machine for ten; what it measures, no test reads."""
    monkeypatch.setattr(cost, "SECONDS", 1.0)
