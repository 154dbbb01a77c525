"""A command as it is typed, its runs made in this process, at once, and the machine not measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from mutransfer import cli
from mutransfer.command import Command
from mutransfer.designs.experiment import Experiment
from mutransfer.training.spec import RunRecord, RunSpec


@dataclass
class Here:
    """The engine."""

    train: Callable[[RunSpec, Any], RunRecord]
    made: list[str] = field(default_factory=list)
    name = "local"
    workers = 1
    devices = ("cpu",)

    def run(self, specs, runner, dataset, *, on_records, on_event=print, cost=None) -> None:
        for spec in specs:
            on_records([self.train(spec, dataset)])
            self.made.append(spec.run_id)


def command(*args: object, of: Experiment, engine: Here | None = None) -> int:
    """The exit code of ``./reproduce.sh args``, with ``of`` in place of the experiment that they name."""

    def adapt(command: Command) -> Command:
        here = engine or Here(command.experiment.code.run)
        return replace(command, engine=here, is_measured=False)

    return cli.main([str(arg) for arg in args], load=lambda name: of, adapt=adapt)
