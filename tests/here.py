"""A command as it is typed, its runs made in this process, at once, and the machine not measured."""

from __future__ import annotations

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
    """The engine, and its one worker. ``after``: how many runs it makes before Ctrl-C; None: all."""

    train: Callable[[RunSpec, Any], RunRecord]
    after: int | None = None
    made: list[str] = field(default_factory=list)
    name = "local"
    workers = 1
    devices = ("cpu",)

    def backend(self, runner: str, dataset: Any) -> Here:
        self.dataset, self.queue, self.is_ready = dataset, list[RunSpec](), False
        return self

    def slots(self) -> int:
        return 1

    def start(self) -> int:
        return 0

    def send(self, worker: int, spec: RunSpec) -> None:
        self.queue.append(spec)

    def wait(self) -> list[tuple[int, str, Any]]:
        if not self.is_ready:
            self.is_ready = True
            return [(0, READY, None)]
        if len(self.made) == self.after:
            raise KeyboardInterrupt
        spec = self.queue.pop(0)
        self.made.append(spec.run_id)
        return [(0, RECORD, self.train(spec, self.dataset))]

    def stop(self, workers: Iterable[int]) -> None: ...


def command(*args: object, of: Experiment, engine: Here | None = None) -> int:
    """The exit code of ``./reproduce.sh args``, with ``of`` in place of the experiment that they name."""

    def adapt(command: Command) -> Command:
        here = engine or Here(command.experiment.code.run)
        return replace(command, engine=here, is_measured=False)

    return cli.main([str(arg) for arg in args], load=lambda name: of, adapt=adapt)
