"""A command as it is typed, its runs made in this process, at once, and the machine not measured."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from mutransfer import cli
from mutransfer.command import Command
from mutransfer.designs.experiment import Experiment
from mutransfer.runs.worker import READY, RECORD
from mutransfer.training.spec import RunRecord, RunSpec


@dataclass
class Here:
    """The engine, and its only worker."""

    train: Callable[[RunSpec, Any], RunRecord]
    made: list[str] = field(default_factory=list)
    name = "local"
    workers = 1
    devices = ("cpu",)

    def backend(self, runner: str, dataset: Any) -> Here:
        self.dataset, self.events = dataset, deque[RunSpec | None]()
        return self

    def slots(self) -> int:
        return 1

    def start(self) -> str:
        self.events.append(None)
        return "here"

    def send(self, worker: str, spec: RunSpec) -> None:
        self.events.append(spec)

    def wait(self) -> Iterator[tuple[str, str, Any]]:
        if (spec := self.events.popleft()) is None:
            yield "here", READY, None
            return
        record = self.train(spec, self.dataset)
        self.made.append(spec.run_id)
        yield "here", RECORD, record

    def stop(self, workers: Iterable[str]) -> None: ...


def command(*args: object, of: Experiment, engine: Here | None = None) -> int:
    """The exit code of ``./reproduce.sh args``, with ``of`` in place of the experiment that they name."""

    def adapt(command: Command) -> Command:
        here = engine or Here(command.experiment.code.run)
        return replace(command, engine=here, is_measured=False)

    return cli.main([str(arg) for arg in args], load=lambda name: of, adapt=adapt)
