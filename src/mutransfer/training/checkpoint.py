"""The state of a run on the disk: a run of hours that is killed goes on where it was, to the same losses bit for bit.

A checkpoint is one file, ``<run_id>.pt``, written anew every `SECONDS` of wall time, so short runs never write one.
Each takes the place of the one before at once and whole. The sweep that made the run removes it once the run's record
is durable.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import zipfile
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mutransfer.errors import UserError
from mutransfer.training.provenance import provenance
from mutransfer.training.spec import RunSpec

if TYPE_CHECKING:  # a driver, which only names and removes checkpoints, need not wait for torch
    import torch
    from torch import nn

# In the environment.
FOLDER = "MUTRANSFER_CHECKPOINTS"  # of the checkpoints; without it there are none
EVERY = "MUTRANSFER_CHECKPOINT_SECONDS"  # instead of `SECONDS`
SECONDS = 300.0  # at least, from one checkpoint to the next; one of 500 MB takes about one


@dataclass
class Progress:
    """How far a run is, between two steps: all that decides the rest, but weights, optimizer and random numbers."""

    losses: list[float] = field(default_factory=list)  # of every step done
    bad: int = 0  # looks in a row at an exploded loss
    place: dict[str, Any] = field(default_factory=dict)  # in the order of the batches (`loop.Batches.place`)
    recorded: dict[Any, int] = field(default_factory=dict)  # by the shapes of a batch (`Step.recorded`)
    spent: float = 0.0  # seconds, by the processes before this one
    since: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Spent on the steps until now."""
        return self.spent + time.perf_counter() - self.since


class Checkpoint:
    """Of the run ``spec``, in the folder that the environment names, if it names one.

    It is of use to the same code, torch, device and number of threads only: with another, the rest would be rounded
    otherwise, and a record could not say what made it. Anything else in its place is told on stderr and left alone.
    """

    def __init__(self, spec: RunSpec, model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        folder = os.environ.get(FOLDER)
        self._path = Path(folder) / f"{spec.run_id}.pt" if folder else None
        self._spec, self._model, self._optimizer, self._device = spec, model, optimizer, device
        try:
            self._every = float(os.environ.get(EVERY, SECONDS))
        except ValueError:
            raise UserError(f"{EVERY} is {os.environ[EVERY]!r}, expected a number of seconds.") from None
        self._due = time.monotonic() + self._every
        self._has_failed = False

    @property
    def is_due(self) -> bool:
        return self._path is not None and time.monotonic() >= self._due

    def save(self, progress: Progress) -> None:
        """Write all that decides the rest of the run. No room costs a line on stderr, once, and not the run."""
        import torch

        assert self._path is not None
        content = {
            "about": self._about(),
            "progress": {**vars(progress), "losses": [], "spent": progress.seconds},
            "losses": torch.tensor(progress.losses, dtype=torch.float64),
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict()["state"],  # the groups are the spec's
            "random": [torch.get_rng_state(), *map(torch.cuda.get_rng_state, _gpus(self._device))],
        }
        new = self._path.with_suffix(".pt.new")
        try:
            with new.open("wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self._path)  # after a crash the name may be the old file's, which is whole too
        except (OSError, RuntimeError) as error:  # torch raises either where a write fails
            if not self._has_failed:
                reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
                self._say(f"goes on without a new checkpoint: {new} cannot be written ({reason})")
            self._has_failed = True
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
        self._due = time.monotonic() + self._every

    def load(self) -> Progress | None:
        """Put model, optimizer and random numbers where the run was, and say how far that is; None if from the start.

        Whatever the file holds, they are changed only if all of it is this run's.
        """
        import torch

        if self._path is None or not self._path.exists():
            return None
        try:
            with zipfile.ZipFile(self._path) as file:  # torch checks no sums
                if file.testzip():
                    raise zipfile.BadZipFile
            saved = torch.load(self._path, map_location="cpu", weights_only=True)
            about, model, state, random = (saved[name] for name in ("about", "model", "optimizer", "random"))
            fresh = {"losses": saved["losses"].tolist(), "since": time.perf_counter()}
            progress = Progress(**{**saved["progress"], **fresh})
        except Exception:  # damaged bytes may parse as anything
            self._say(f"starts anew: its checkpoint {self._path} is damaged")
            return None
        if others := [name for name, value in self._about().items() if about.get(name) != value]:
            self._say(f"starts anew: its checkpoint {self._path} is of another {others[0]}")
            return None
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})
        self._model.load_state_dict(model)
        torch.set_rng_state(random[0])
        for device in _gpus(self._device):
            torch.cuda.set_rng_state(random[1], device)
        self._say(f"goes on from its checkpoint: {len(progress.losses)} of {self._spec.steps} steps are done")
        return progress

    def _about(self) -> dict[str, str]:
        """What must be the same for the rest of a run to be the same."""
        made_by = provenance("", False, self._device)
        tensors = [f"{name} {x.dtype} {[*x.shape]}" for name, x in self._model.state_dict().items()]
        groups = [len(group["params"]) for group in self._optimizer.param_groups]
        return {
            "run": self._spec.to_json(),
            **{name: str(made_by[name]) for name in ("torch", "commit", "device")},  # torch's is a class of its own
            "number of threads": made_by["threads"],
            "model": "\n".join(tensors),
            "optimizer": f"{type(self._optimizer).__name__} {groups}",
        }

    def _say(self, what: str) -> None:
        print(f"run {self._spec.run_id} {what}", file=sys.stderr, flush=True)


def remove(folder: Path, run_ids: Container[str]) -> None:
    """Remove the checkpoints of these runs, half-written ones too."""
    for path in folder.glob("*.pt*"):
        if path.name.partition(".")[0] in run_ids:
            with contextlib.suppress(OSError):
                path.unlink()


@contextlib.contextmanager
def unchanged(model: nn.Module, device: torch.device) -> Iterator[None]:
    """What is computed in the block leaves no trace: random numbers and buffers (running means) are as before."""
    import torch

    buffers = [(x, x.clone()) for x in model.buffers()]
    with torch.random.fork_rng(_gpus(device)):
        yield
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)


def _gpus(device: torch.device) -> list[torch.device]:
    """That the run is on, if it is on one: beside the CPU's, their random numbers are the run's."""
    return [device] if device.type == "cuda" else []
