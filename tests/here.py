"""A command as it is typed, its runs made in this process, at once, and the machine not measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from mutransfer import cli
from mutransfer.command import Command
from mutransfer.designs.experiment import Experiment
from mutransfer.runs.worker import READY, RECORD
from mutransfer.training.spec import RunRecord, RunSpec


@dataclass
class Here:
    """The engine: one worker, in this process; interrupted, as by Ctrl-C, when it has made ``limit`` runs."""

    train: Callable[[RunSpec, Any], RunRecord]
    limit: float = math.inf
    made: list[str] = field(default_factory=list)
    name = "local"
    workers = 1
    devices = ("cpu",)

    def backend(self, runner: str, dataset: Any) -> Queue:
        return Queue(self, dataset)


@dataclass
class Queue:
    """The worker's runs."""

    engine: Here
    dataset: Any
    specs: list[RunSpec] = field(default_factory=list)
    is_ready: bool = False

    def slots(self) -> int:
        return 1

    def start(self) -> int:
        return 0

    def send(self, worker: int, spec: RunSpec) -> None:
        self.specs.append(spec)

    def wait(self) -> list[tuple[int, str, Any]]:
        if not self.is_ready:
            self.is_ready = True
            return [(0, READY, None)]
        if len(self.engine.made) >= self.engine.limit:
            raise KeyboardInterrupt
        spec = self.specs.pop(0)
        self.engine.made.append(spec.run_id)
        return [(0, RECORD, self.engine.train(spec, self.dataset))]

    def stop(self, workers: Iterable[int]) -> None:
        if [*workers]:
            self.is_ready = False


def command(*args: object, of: Experiment | None = None, engine: Here | None = None) -> int:
    """The exit code of ``./reproduce.sh args``, with ``of`` or the `small` one in place of the experiment they name."""
    from tests.small import small

    def adapt(command: Command) -> Command:
        here = engine or Here(command.experiment.code.run)
        return replace(command, engine=here, is_measured=False)

    return cli.main([str(arg) for arg in args], load=lambda name: of or small(name), adapt=adapt)
