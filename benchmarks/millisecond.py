"""A run that takes a millisecond of a core, for the overhead of everything around it."""

from __future__ import annotations

import time
from typing import Any

from mutransfer.training.spec import RunRecord, RunSpec

SECONDS = 1e-3


def run(spec: RunSpec, dataset: Any) -> RunRecord:
    """Busy for `SECONDS`; the record is as large as a real one."""
    start = time.perf_counter()
    curve = tuple(1 / (1 + i + spec.seed) for i in range(50))
    facts = {"data": "none", "is_real": "false", "commit": "unknown", "torch": "none", "threads": "1", "device": "cpu"}
    while time.perf_counter() < start + SECONDS:
        pass
    return RunRecord(
        spec=spec,
        status="finished",
        train_loss=curve[-1],
        test_loss=curve[-1],
        test_accuracy=0.5,
        steps_done=spec.steps,
        loss_curve=curve,
        wall_seconds=SECONDS,
        examples_per_second=spec.batch * spec.steps / SECONDS,
        peak_memory_mib=1.0,
        provenance=facts,
    )
