"""A run of the tests' own on any data set."""

from __future__ import annotations

from typing import Any

from mutransfer.training.spec import RunSpec


def spec_of(data: Any, **changes: object) -> RunSpec:
    values: dict[str, Any] = dict(experiment="x", variant="v", parametrization="sp", optimizer="sgd", width=16)
    values |= dict(base_width=16, log2_lr=-4, seed=3, steps=24, batch=8, momentum=0.0, precision="float32")
    values |= dict(data="tiny", data_fingerprint=data.fingerprint)
    return RunSpec(**values | changes)
