"""The Ray engine: the same runs on a Ray cluster, one single-threaded actor per core, or per GPU where there are any.

Nodes need Ray, torch and the other packages, not this code: it travels with the sweep.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import re
import socket
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from mutransfer.errors import UserError
from mutransfer.runs import worker
from mutransfer.runs.engine import DIED, LOST
from mutransfer.runs.worker import BROKEN, RECORD
from mutransfer.training.spec import RunRecord, RunSpec

_PORT = 6379  # of a cluster's head, unless told otherwise
_CONNECT_SECONDS = 3.0


class RayEngine:
    """A running cluster that this machine belongs to: ``address`` is "auto", or HOST[:PORT] of its head.

    Nodes come and go: its slots are counted anew at least every ``recount_seconds``.

    Raises `UserError` if Ray is not installed, no cluster answers, or the cluster has no slot.
    """

    name: ClassVar[str] = "ray"

    def __init__(self, address: str = "auto", *, recount_seconds: float = 5.0) -> None:
        self._ray = _connected(address)
        self.recount_seconds = recount_seconds
        if not self.workers:
            raise UserError(f"the Ray cluster at {address} has neither CPUs nor GPUs; start nodes that have some.")

    @property
    def workers(self) -> int:
        """GPUs of the cluster, or cores if it has none; now, as nodes may come and go."""
        resources = self._ray.cluster_resources()
        return int(resources.get("GPU", 0)) or int(resources.get("CPU", 0))

    @property
    def devices(self) -> tuple[str, ...]:
        """What a run is given: Ray shows an actor its own GPU only."""
        return ("cuda",) if self._ray.cluster_resources().get("GPU", 0) else ("cpu",)

    def backend(self, runner: str, dataset: Any) -> _Actors:
        """See `mutransfer.runs.engine.Engine.backend`: an actor for each slot."""
        return _Actors(self, _packed(runner), (runner, self._ray.put(dataset), self.devices[0]))

    def close(self) -> None:
        """Leave the cluster, which is done at exit too; a process that has not left dies with the head."""
        self._ray.shutdown()


class _Actors:
    """The backend: an actor for each slot. They die with the driver, whose job they belong to."""

    def __init__(self, engine: RayEngine, code: bytes, work: tuple[str, Any, str]) -> None:
        self.engine, self.ray, self.work = engine, engine._ray, work
        options = {"num_gpus": 1} if work[-1] == "cuda" else {"num_cpus": 1}
        self.actor = self.ray.remote(**options)(_actor_class())
        self.arguments = (self.ray.put(code), worker.environment())
        self.asked: dict[Any, tuple[Any, RunSpec | None]] = {}  # object reference -> actor, and the run if it is one
        self.nodes: dict[Any, str] = {}  # of the actors that are ready

    def slots(self) -> int:
        return self.engine.workers

    def start(self) -> Any:
        actor = self.actor.remote(*self.arguments)
        self.asked[actor.open.remote(*self.work)] = actor, None
        return actor

    def send(self, actor: Any, spec: RunSpec) -> None:
        self.asked[actor.run.remote(spec)] = actor, spec

    def wait(self) -> Iterator[tuple[Any, str, Any]]:
        if not self.asked:  # all nodes are gone
            time.sleep(self.engine.recount_seconds)
        elif self.ray.wait([*self.asked], timeout=self.engine.recount_seconds)[0]:
            for reference in self.ray.wait([*self.asked], num_returns=len(self.asked), timeout=0)[0]:
                if reference in self.asked:  # not that of an actor whose death is told already
                    yield self._answer(reference, *self.asked.pop(reference))

    def _answer(self, reference: Any, actor: Any, spec: RunSpec | None) -> tuple[Any, str, Any]:
        exceptions = self.ray.exceptions
        try:
            kind, content = self.ray.get(reference)
        except exceptions.RayTaskError as error:  # it raised where `Runner` does not look: in pickle, most likely
            line = worker.one_line(error.cause or error)
            return (actor, RECORD, RunRecord.failed(spec, line)) if spec else (actor, BROKEN, line)
        except exceptions.RayError as error:
            self.stop([actor])  # unavailable is not dead: what is tried again elsewhere must not go on there
            dead = {node["NodeID"] for node in self.ray.nodes() if not node["Alive"]}
            is_lost = isinstance(error, exceptions.ActorUnavailableError) or self.nodes.get(actor) in dead
            return actor, LOST if is_lost else DIED, _how(error)
        if spec is None and kind != BROKEN:
            self.nodes[actor] = content
        return actor, kind, content

    def stop(self, actors: Iterable[Any]) -> None:
        for actor in [*actors]:
            self.asked = {reference: what for reference, what in self.asked.items() if what[0] != actor}
            self.ray.kill(actor)


def _actor_class() -> type:
    """The class of the actors. Ray sends it by value, as it is in no module: it works where our code is not."""

    class Worker:
        def __init__(self, code: bytes, environment: dict[str, str]) -> None:
            import os
            import sys

            os.environ.update(environment)
            archive = os.memfd_create("code")  # a file without a name: nothing is left on the node
            os.write(archive, code)
            sys.path.insert(0, f"/proc/self/fd/{archive}")

        def open(self, *work: Any) -> tuple[str, str]:
            import ray

            from mutransfer.runs import worker

            try:
                self.runner = worker.Runner(*work)
            except Exception as error:
                return worker.BROKEN, worker.one_line(error)
            return worker.READY, ray.get_runtime_context().get_node_id()

        def run(self, spec: Any) -> tuple[str, object]:
            from mutransfer.runs.worker import RECORD

            return RECORD, self.runner(spec)

    return Worker


def _connected(address: str) -> Any:
    """The module ``ray``, connected to the cluster."""
    os.environ.setdefault("RAY_COLOR_PREFIX", "0")  # no control characters in what it prints
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as it will be, and it stops saying so
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise UserError("the engine ray needs Ray, which is not installed: pip install -e '.[cluster]'.") from None
    if ray.is_initialized():
        return ray
    host, _, port = address.partition(":")
    try:
        if address != "auto":
            socket.create_connection((host, int(port or _PORT)), _CONNECT_SECONDS).close()  # Ray itself takes minutes
            address = f"{host}:{port or _PORT}"
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"no Ray cluster at '{address}' ({' '.join(str(error).split())}); expected auto, or HOST[:PORT] of a "
            "running one that this machine has joined: ray start --head, and on the others ray start --address "
            f"HOST:{_PORT}."
        ) from None
    return ray


def _packed(runner: str) -> bytes:
    """A zip file of our Python files: this package, and what the runner's module imports from beside it.

    Raises `UserError` if there is no such ``runner``.
    """
    worker.resolve(runner)
    places: dict[str, Path] = {}  # of modules and packages: files, folders
    for name, module in sys.modules.items():
        if "." not in name and (where := [*getattr(module, "__path__", []), getattr(module, "__file__", None)][0]):
            places[name] = Path(where).resolve()
    root = places[runner.partition(":")[0].partition(".")[0]].parent
    ours = {place for place in places.values() if place.parent == root and "site-packages" not in place.parts}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for place in sorted(ours | {places["mutransfer"]}):
            for path in [place, *place.rglob("*")]:
                if path.suffix == ".py" or path.is_dir():  # a package without __init__.py is found by its folder
                    archive.write(path, path.relative_to(place.parent))
    return file.getvalue()


def _how(error: Exception) -> str:
    """Why an actor died, from Ray's long explanation."""
    text = " ".join(str(error).split())
    match = re.search(r"exit type: (\w+) Worker exit detail: ([^.]+)", text)
    return f"{match[1]}: {match[2]}" if match else text[:200]
