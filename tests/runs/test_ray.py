"""Two nodes on this machine: the same results as the local engine's, and the death of a node costs nothing."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.cifar_mlp.experiment import EXPERIMENT
from mutransfer.data import synthetic_cifar
from mutransfer.errors import UserError
from mutransfer.runs.driver import sweep
from mutransfer.runs.engine import schedule
from mutransfer.runs.ray import RayEngine
from mutransfer.runs.store import Store
from mutransfer.runs.worker import Runner
from mutransfer.training.spec import RunRecord, RunSpec
from tests.runs import tiny

DATA = tiny.DATA
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and a second node, each with one core; nothing is left of them."""
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    # the death of a node is noticed after a second instead of fifteen
    noticed = {"period_ms": 500, "timeout_ms": 3000, "failure_threshold": 3, "initial_delay_ms": 0}
    options = {"include_dashboard": False, "_system_config": {f"health_check_{name}": n for name, n in noticed.items()}}
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, **options})
    try:
        cluster.add_node(**NODE)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope="module")
def engine(cluster: Any) -> RayEngine:
    return RayEngine(cluster.address, recount_seconds=0.5)


def play(
    engine: RayEngine, specs: Sequence[RunSpec], look: Callable[[list[RunRecord]], None] = lambda new: None
) -> tuple[list[RunRecord], list[str]]:
    """The records of `tiny.reports`, each run's once and none failed, as ``look`` saw them come; what was said."""
    records: list[RunRecord] = []
    said: list[str] = []

    def on_records(new: list[RunRecord]) -> None:
        records.extend(new)
        look(new)

    schedule(engine.backend(tiny.REPORT, DATA), specs, on_records=on_records, on_event=said.append)
    assert sorted(r.spec.seed for r in records) == list(range(len(specs)))
    assert {r.status for r in records} == {"finished"}
    return records, said


def test_the_results_are_the_local_engines(engine: RayEngine, tmp_path: Path) -> None:
    """Where a run is made must not show in it: tiny's grid, a run that raises, and cifar_mlp, byte for byte."""
    assert (engine.name, engine.workers) == ("ray", 2)
    images = synthetic_cifar(n_train=640, n_test=100)
    cifar = EXPERIMENT.specs(images, scale="smoke", variant="relu_xent", widths=[32, 64], seeds=1)
    cifar = [replace(spec, steps=10) for spec in cifar if spec.log2_lr == -6]
    raises = tiny.spec(DATA, hps=(("fault", "raise"),))
    for specs, runner, data in [
        ([*tiny.grid(DATA), raises], tiny.RUNNER, DATA),
        (cifar, f"{EXPERIMENT.code.run.__module__}:{EXPERIMENT.code.run.__name__}", images),
    ]:
        with Store(tmp_path / runner) as store:
            records = [*sweep(specs, store, runner, engine=engine, dataset=data, progress=False).records]
        here = Runner(runner, data, "cpu")
        assert [tiny.outcome(record) for record in records] == [tiny.outcome(here(spec)) for spec in specs]
    assert {r.provenance["threads"] for r in records} == {"1"}


def test_a_node_that_dies_costs_nothing_and_a_new_one_is_used(cluster: Any, engine: RayEngine, tmp_path: Path) -> None:
    """Its runs are made elsewhere, each recorded once, none failed; the code they run is what the driver sent."""
    head = cluster.head_node.node_id
    killed: list[str] = []

    def kill_and_add(new: list[RunRecord]) -> None:
        if not killed and (elsewhere := [r for r in new if r.provenance["node"] != head]):
            (node,) = [node for node in cluster.worker_nodes if node.node_id == elsewhere[0].provenance["node"]]
            killed.append(node.node_id)
            cluster.remove_node(node, allow_graceful=False)  # kill -9
            cluster.add_node(**NODE)

    specs = tiny.reports(tmp_path, 90, seconds=0.25)  # long enough for a new node to come, on a busy machine too
    records, said = play(engine, specs, kill_and_add)
    assert any("machine was lost" in line for line in said)
    assert len({r.provenance["node"] for r in records} - {head, *killed}) == 1
    for record in records:
        assert record.provenance["code"].startswith("/proc/self/fd/")
        assert record.provenance["data"] == DATA.fingerprint


def test_a_worker_that_dies_costs_one_attempt(engine: RayEngine, tmp_path: Path) -> None:
    """Out of memory, say, on a node that lives: tried once more, when nothing else runs; Ray's reason is told."""
    specs = tiny.reports(tmp_path, 8, seconds=0.1, dies_once=1)
    records, said = play(engine, specs)
    assert records[-1].spec == specs[1]
    assert all(r.provenance["end"] <= records[-1].provenance["start"] for r in records[:-1])
    assert said[0].startswith("a worker died (SYSTEM_ERROR: ") and specs[1].run_id in said[0]


def test_mistakes_are_one_line_and_soon(engine: RayEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """No such runner; data that no node can read; nobody at the address; no Ray: said at once, not for every run."""
    with pytest.raises(UserError, match=r"cannot find 'tests\.runs\.tiny:walk'"):
        engine.backend("tests.runs.tiny:walk", DATA)
    with pytest.raises(UserError, match=r"no run can start: .*nobody can read this"):
        schedule(engine.backend(tiny.RUNNER, tiny.Unreadable()), tiny.grid(DATA), on_records=print)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        start = time.monotonic()
        for address in (f"127.0.0.1:{unused.getsockname()[1]}", "no.such.host.invalid", "127.0.0.1:port"):
            with pytest.raises(UserError, match=rf"no Ray cluster at '{address}.*; expected auto, or HOST\[:PORT\]"):
                RayEngine(address)
    assert time.monotonic() < start + 10
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"not installed: pip install -e '\.\[cluster\]'"):
        RayEngine("auto")
