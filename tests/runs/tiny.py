"""Runs that take milliseconds, and stores: of records without training, as version 1 made them, on a full disk."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

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
SCHEMA_1 = """
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    spec TEXT NOT NULL,    -- JSON
    status TEXT NOT NULL,  -- finished, diverged, failed
    record TEXT NOT NULL,  -- JSON, the spec included
    experiment TEXT NOT NULL, variant TEXT NOT NULL, parametrization TEXT NOT NULL,
    width INTEGER NOT NULL, log2_lr REAL NOT NULL, seed INTEGER NOT NULL,
    train_loss REAL        -- NULL unless finite
)"""
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


DATA = dataset()


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


def runs_in(path: Path) -> list[RunRecord]:
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


def record(**changes: object) -> RunRecord:
    """A finished run of `spec`; some fields of record or spec changed."""
    result = dict(status="finished", train_loss=1 / 3, test_loss=0.1, test_accuracy=0.5, steps_done=60)
    result |= dict(wall_seconds=1.25, loss_curve=())
    result |= {name: changes.pop(name) for name in list(changes) if name in result}
    return RunRecord(spec=spec(DATA, **changes), **result)


def failed(**changes: object) -> RunRecord:
    """A failed run of `spec`."""
    return RunRecord.failed(spec(DATA, **changes), "killed")


def many(count: int) -> list[RunRecord]:
    """Finished runs of about the size that a real one has in the store (2 kB)."""
    curve = tuple(2.3 + i / 7 for i in range(100))
    return [record(seed=i, loss_curve=curve, train_loss=1 / (i + 3)) for i in range(count)]


def ids(*records: RunRecord) -> list[str]:
    return [r.spec.run_id for r in records]


def texts(records: Iterable[RunRecord]) -> set[str]:
    """All that the records say, nan included."""
    return {repr(r) for r in records}


def stored(path: Path, records: Iterable[RunRecord]) -> Path:
    """A closed store of ``records``."""
    with Store(path) as store:
        store.put_many(records)
    return path


def journal(path: Path) -> Path:
    return path.with_name(path.name + ".jsonl")


def salvaged(path: Path) -> list[RunRecord]:
    """What a store and its journal have, by way of a copy that is salvaged if it must be; nothing if it cannot."""
    with TemporaryDirectory(dir=path.parent) as folder, contextlib.suppress(UserError):
        copy = Path(folder, path.name)
        for file in filter(Path.exists, [path, journal(path)]):
            shutil.copy(file, folder)
        with contextlib.suppress(UserError):
            Store.salvage(copy)
        return Store.read(copy)
    return []


def version_1(path: Path, records: Iterable[RunRecord]) -> Path:
    """A store as version 1 left it when it was closed."""
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(f"{SCHEMA_1}; PRAGMA user_version=1")
        for r in records:
            s, loss = r.spec, r.train_loss if math.isfinite(r.train_loss) else None
            row = [s.run_id, s.to_json(), r.status, r.to_json(), s.experiment, s.variant, s.parametrization]
            db.execute(f"INSERT INTO runs VALUES ({','.join('?' * 11)})", [*row, s.width, s.log2_lr, s.seed, loss])
    return path


PUT_AND_DIE = """
import os, signal, sys
from mutransfer.runs.store import Store
from mutransfer.training.spec import RunRecord
store = Store(sys.argv[1]).__enter__()
for line in sys.stdin:
    store.put_many([RunRecord.from_json(line)])
os.kill(os.getpid(), signal.SIGKILL)
"""


def dies(code: str, *arguments: object, told: str = "") -> None:
    """Run ``code`` in a process of its own, which must be killed in it."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    killed = subprocess.run(command, env=environment(), input=told, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def put_and_die(path: Path, records: Iterable[RunRecord]) -> None:
    """A driver that is killed after ``records``: the last of them are in the log only."""
    dies(PUT_AND_DIE, path, told="\n".join(r.to_json() for r in records))
    assert path.with_name(path.name + "-wal").stat().st_size > 0


@contextlib.contextmanager
def disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of that size on ``folder``; without the right to mount one, the test is skipped."""
    import pytest

    folder.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no right to mount a tmpfs ({error})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, option: str) -> None:
    """Change the options (``ro``, ``size=4m``) of a `disk`."""
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)
