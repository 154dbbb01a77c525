"""The training loop: one `RunSpec` in, one `RunRecord` out; fast because of what it does not do."""

from __future__ import annotations

import contextlib
import itertools
import math
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mutransfer.errors import UserError
from mutransfer.training.checkpoint import Checkpoint, Progress, unchanged
from mutransfer.training.provenance import provenance
from mutransfer.training.schedule import schedule as schedule_of
from mutransfer.training.spec import CURVE_POINTS, RunRecord, RunSpec
from mutransfer.training.step import Step
from mutransfer.training.task import Task

CHECK_EVERY = 25  # steps between two looks at the losses; a look waits for the device
EXPLODED = 2.0  # times the loss of the first step ...
PATIENCE = 4  # ... at this many looks in a row: the first steps of the *best* LR can spike beyond 2x and heal


def train(
    spec: RunSpec,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    task: Task,
    *,
    device: str | torch.device = "cpu",
    schedule: str = "constant",
    parts: int = 1,
) -> RunRecord:
    """Train ``model`` for ``spec.steps`` steps of ``spec.batch`` examples and evaluate it on the test part.

    The order of the examples depends on ``spec.seed`` alone: all widths, learning rates and parametrizations
    of one seed see the same batches (`Task.epoch`). Torch's global generator is seeded with it too (dropout), after the
    model was made. On one machine, with the same thread count, the same spec gives the same numbers bit for bit: also
    where the run goes on from a `Checkpoint`, which it does if there is one.

    The rule for divergence, declared here: a run is ``diverged`` when
    (1) a training loss is not finite, or
    (2) the mean loss since the last look (every `CHECK_EVERY` steps) exceeds `EXPLODED` times the first step's loss,
        `PATIENCE` looks in a row, or the final training loss does, or
    (3) the trained model's test loss is not finite.
    Divergence stops the run. A run that is stuck at chance level has ``finished``, with the loss it has.

    model: already initialised, and on ``device``. schedule: multiplies the learning rates of the optimizer's groups,
        whatever they are (`schedule.SCHEDULES`). parts: that a batch is computed in (`Step`).

    Raises `UserError` for another data set than the spec names, one smaller than a batch, an unknown schedule, and a
    batch that cannot be cut into ``parts``.
    """
    data = task.data
    if data.fingerprint != spec.data_fingerprint:
        declared = f"run {spec.run_id} is declared on data {spec.data_fingerprint}"
        raise UserError(
            f"{declared}, but the data set is {data.fingerprint}; plan the runs again on the data you have."
        )
    if task.has_equal_batches and task.count < spec.batch:
        raise UserError(f"batch is {spec.batch}, but there are {task.count} examples; use a smaller batch.")
    if spec.batch % parts or (parts > 1 and not task.has_equal_batches):
        raise UserError(f"batch is {spec.batch}: {type(task).__name__} cannot cut it into {parts} equal parts.")
    device = torch.device(device)
    task.to(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    torch.manual_seed(spec.seed)
    model.train()
    test_loss = test_accuracy = math.nan
    torch.set_flush_denormal(True)  # the momentum of dead units ends there, and many CPUs crawl then
    try:
        progress, reason = _steps(spec, model, optimizer, task, device, schedule_of(schedule), parts)
        losses, seconds = np.array(progress.losses), progress.seconds
        if not reason:
            with _precision(spec, device):
                loss, accuracy = evaluate(model, task)
            if math.isfinite(loss):
                test_loss, test_accuracy = loss, accuracy
            else:
                reason = f"the test loss after the last step is {loss}"
    finally:
        torch.set_flush_denormal(False)
    return RunRecord(
        spec=spec,
        status="diverged" if reason else "finished",
        train_loss=math.inf if reason else final_loss(losses, spec.steps),
        test_loss=test_loss,
        test_accuracy=test_accuracy,
        steps_done=len(losses),
        loss_curve=loss_curve(losses, spec.steps),
        wall_seconds=seconds,
        examples_per_second=len(losses) * spec.batch / seconds,
        peak_memory_mib=_peak_memory_mib(device),
        reason=reason,
        provenance=provenance(data.source, data.is_real, device),
    )


def _steps(
    spec: RunSpec,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    task: Task,
    device: torch.device,
    factor: Callable[[float], float],
    parts: int,
) -> tuple[Progress, str]:
    """All steps: how far they came, and why the run diverged ("" if it did not)."""

    def compute(*batch: Tensor) -> Tensor:
        with _precision(spec, device):
            return task.loss(model, *batch)

    take_step, batches = Step(compute, optimizer, parts), Batches(spec, task)
    rates = [group["lr"] for group in optimizer.param_groups]
    progress, checkpoint = Progress(), Checkpoint(spec, model, optimizer, device)
    if saved := checkpoint.load():
        progress = saved
        batches.go_on(progress.place)
        take_step.go_on(progress.recorded, partial(unchanged, model, device))
    losses = progress.losses
    recent: list[Tensor] = []  # on the device: reading one would wait for it
    for step, batch in enumerate(batches, start=len(losses) + 1):
        now = factor((step - 1) / spec.steps)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * now
        recent.append(take_step(*batch))
        if len(recent) < CHECK_EVERY and step < spec.steps:
            continue

        look = torch.stack(recent).tolist()
        recent.clear()
        losses += look
        if not math.isfinite(sum(look)):
            first = next(i for i, x in enumerate(losses) if not math.isfinite(x))
            return progress, f"the loss of step {first + 1} is {losses[first]}"
        mean = sum(look) / len(look)
        progress.bad = progress.bad + 1 if mean > EXPLODED * losses[0] else 0
        if progress.bad >= PATIENCE:
            return progress, f"the loss is {mean:.4g} at step {step}, {losses[0]:.4g} at the first"
        if checkpoint.is_due:
            progress.place, progress.recorded = batches.place, take_step.recorded
            checkpoint.save(progress)
    final = final_loss(losses, spec.steps)
    if final > EXPLODED * losses[0]:
        return progress, f"the loss is {final:.4g} at the end, {losses[0]:.4g} at the first step"
    return progress, ""


def final_loss(losses: Sequence[float] | np.ndarray, steps: int) -> float:
    """Mean over the last 10% of the steps, at least one."""
    return float(np.mean(losses[-max(1, steps // 10) :]))


class Batches:
    """What each of the ``spec.steps`` steps computes from, once; another may go on where this one is."""

    def __init__(self, spec: RunSpec, task: Task) -> None:
        self._spec, self._task = spec, task
        order = torch.Generator().manual_seed(spec.seed)  # on the CPU, so that a GPU sees the same order
        self._generators = [order, *([task.generator] if task.generator else [])]
        self._start = self._states()
        self._before = self._done = 0  # steps in earlier epochs, and in this one

    @property
    def place(self) -> dict[str, Any]:
        """Behind the batch given last: `go_on` takes it."""
        return {"start": self._start, "before": self._before, "done": self._done}

    def go_on(self, place: dict[str, Any]) -> None:
        """Be there; of ``place``'s epoch, what is done is drawn again."""
        self._before, self._done = place["before"], place["done"]
        for generator, state in zip(self._generators, place["start"], strict=True):
            generator.set_state(state)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        while (left := self._spec.steps - self._before) > self._done:
            self._start = self._states()
            for batch in self._task.epoch(self._spec.batch, self._generators[0], self._done, left):
                self._done += 1
                yield batch
            self._before, self._done = self._before + self._done, 0

    def _states(self) -> list[Tensor]:
        return [generator.get_state() for generator in self._generators]


@torch.no_grad()
def evaluate(model: nn.Module, task: Task) -> tuple[float, float]:
    """(mean loss, accuracy in [0, 1]) on the test part; leaves the model in the mode it was in."""
    was_training = model.training
    model.eval()
    scores = task.evaluate(model)
    model.train(was_training)
    return scores


def loss_curve(losses: Sequence[float] | np.ndarray, steps: int) -> tuple[float, ...]:
    """Mean loss of each of up to `CURVE_POINTS` equal chunks of ``steps``; fewer if the run stopped early."""
    points = min(CURVE_POINTS, steps)
    edges = [i * steps // points for i in range(points + 1)]
    chunks = [np.asarray(losses[a:b]) for a, b in itertools.pairwise(edges)]
    return tuple(float(chunk.mean()) for chunk in chunks if len(chunk))


def _peak_memory_mib(device: torch.device) -> float:
    """Of this process: GPU memory on CUDA, else resident memory (the shared data set's pages included)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with contextlib.suppress(OSError):  # Linux; what getrusage says there, a process inherits from its parent
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _precision(spec: RunSpec, device: torch.device) -> torch.autocast:
    """bfloat16: matrix products and convolutions take it, weights, their updates and the loss stay float32."""
    # torch's cache of converted weights would outlive their update: a recorded step must convert them anew
    return torch.autocast(device.type, torch.bfloat16, enabled=spec.precision == "bfloat16", cache_enabled=False)
