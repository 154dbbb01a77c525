"""Runs that take milliseconds, for the tests."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import mutransfer
from mutransfer.data.images import ImageDataset
from mutransfer.errors import UserError
from mutransfer.runs.store import Store
from mutransfer.training.loop import train
from mutransfer.training.provenance import COMMIT, git_commit
from mutransfer.training.spec import RunRecord, RunSpec
from mutransfer.training.task import Classification

ROOT = Path(__file__).parents[2]
RUNNER = "tests.runs.tiny:run"
REPORT = "tests.runs.tiny:report"
CLOCK = ("wall_seconds", "examples_per_second", "peak_memory_mib")
HANG = "MUTRANSFER_TEST_HANG"  # run_ids that never end, in the environment and so no part of any spec


def environment(**more: str) -> dict[str, str]:
    """For a process of its own that imports what this one can; its runs' commit is ours, even if somebody commits."""
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    return {**os.environ, "PYTHONPATH": path, COMMIT: git_commit(), **more}


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
    cells = itertools.product(("mup", "sp"), (8, 16), (-4, 30))
    return [spec(data, parametrization=p, width=width, log2_lr=lr) for p, width, lr in cells]


def long(data: ImageDataset) -> RunSpec:
    """A run of seconds."""
    return spec(data, steps=3000, log2_lr=-8)


class Unreadable:
    """A data set that can be sent, but not received."""

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("nobody can read this",)


def outcome(record: RunRecord) -> dict[str, object]:
    """All of a record but what the clock says."""
    return {name: value for name, value in json.loads(record.to_json()).items() if name not in CLOCK}


def run(spec: RunSpec, dataset: ImageDataset) -> RunRecord:
    """Train a net with dropout, its weights from torch's global generator; misbehave as the spec says."""
    if spec.run_id in os.environ.get(HANG, ""):
        time.sleep(600)
    net = nn.Sequential(nn.Linear(48, spec.width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(spec.width, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=2**spec.log2_lr, momentum=spec.momentum)
    if dict(spec.hps).get("fault") == "raise":
        raise ValueError("this run\nalways raises")
    calls = 0

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 2:  # the first calls are the only ones: then the step is replayed without Python
            _die(spec)
        return cross_entropy(outputs, labels)

    return train(spec, net, optimizer, Classification(dataset, loss))


def report(spec: RunSpec, dataset: ImageDataset, device: str = "cpu") -> RunRecord:
    """Train nothing: sleep for hp "seconds", say when and where this was."""
    start = time.time()
    time.sleep(float(spec.hp("seconds")) / 2)
    _die(spec)
    time.sleep(float(spec.hp("seconds")) / 2)
    ray = sys.modules.get("ray")
    facts = {"device": device, "pid": os.getpid(), "code": mutransfer.__file__, "folder": dataset.folder}
    facts |= {"node": ray.get_runtime_context().get_node_id() if ray else "", "threads": torch.get_num_threads()}
    facts |= {"data": dataset.content_fingerprint(), "start": start, "end": time.time()}
    provenance = {name: str(fact) for name, fact in facts.items()}
    return RunRecord(spec=spec, status="finished", train_loss=1.0, provenance=provenance)


def reports(folder: Path, count: int, *, seconds: float, dies_once: int | None = None) -> list[RunSpec]:
    """Runs of `report`; the worker of run ``dies_once`` dies in the first attempt, of which ``folder`` has a marker."""
    data, hps = dataset(), {"seconds": seconds}
    fault = {"fault": "die once", "marker": str(folder / "marker")}
    return [spec(data, seed=i, hps=tuple((hps | (fault if i == dies_once else {})).items())) for i in range(count)]


def _die(spec: RunSpec) -> None:
    """Kill this process if the spec says so: "die once" in the first attempt, of which a marker file is left."""
    fault, marker = dict(spec.hps).get("fault"), Path(str(dict(spec.hps).get("marker")))
    if fault == "die" or (fault == "die once" and not marker.exists()):
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def stored(path: Path) -> list[RunRecord]:
    """The runs in the store; none while it is being made."""
    try:
        return Store.read(path)
    except UserError:
        return []


def workers(pid: int) -> list[int]:
    """The processes that a driver has started for its runs."""
    with contextlib.suppress(OSError):  # it is gone
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(c) for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]
    return []


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)
