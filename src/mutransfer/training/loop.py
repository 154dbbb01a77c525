"""The training loop: one `RunSpec` in, one `RunRecord` out; fast because of what it does not do."""

from __future__ import annotations

import contextlib
import itertools
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mutransfer.errors import UserError
from mutransfer.training.provenance import provenance
from mutransfer.training.spec import RunRecord, RunSpec
from mutransfer.training.step import Step

CHECK_EVERY = 25  # steps between two looks at the losses; a look waits for the device
EXPLODED = 2.0  # times the loss of the first step ...
PATIENCE = 4  # ... at this many looks in a row: the first steps of the *best* LR can spike beyond 2x and heal
CURVE_POINTS = 50
EVAL_BATCH = 1000

Loss = Callable[[Tensor, Tensor], Tensor]  # (outputs [B, C], labels [B]) -> mean loss of the batch, a scalar
Prepare = Callable[[Tensor], Tensor]  # uint8 [B, H*W*C] -> what the model takes


class Dataset(Protocol):
    """What the loop needs of a data set; `mutransfer.data.dataset.ImageDataset` is one."""

    @property
    def source(self) -> str: ...
    @property
    def is_real(self) -> bool: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def train_images(self) -> Tensor: ...  # uint8 [N, H, W, C]
    @property
    def train_labels(self) -> Tensor: ...  # int64 [N]
    @property
    def test_images(self) -> Tensor: ...
    @property
    def test_labels(self) -> Tensor: ...


def normalize(images: Tensor) -> Tensor:
    """uint8 [B, D] to float32 [B, D]: (x/255 - 0.5)/0.5, in one pass over memory."""
    return torch.add(_MINUS_ONE, images, alpha=2 / 255)


_MINUS_ONE = torch.tensor(-1.0)


def train(
    spec: RunSpec,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    dataset: Dataset,
    loss_fn: Loss,
    *,
    device: str | torch.device = "cpu",
    prepare: Prepare = normalize,
) -> RunRecord:
    """Train ``model`` for ``spec.steps`` steps of ``spec.batch`` examples and evaluate it on the test part.

    The order of the examples depends on ``spec.seed`` alone: all widths, learning rates and parametrizations
    of one seed see the same batches. Each epoch is a new permutation; its last, partial batch is dropped.
    Torch's global generator is seeded with ``spec.seed`` too (dropout), after the model was made.
    On one machine, with the same thread count, the same spec gives the same numbers bit for bit.

    The rule for divergence, declared here: a run is ``diverged`` when
    (1) a training loss is not finite, or
    (2) the mean loss since the last look exceeds `EXPLODED` times the first step's loss, `PATIENCE` looks in
        a row, or the final training loss does, or
    (3) the trained model's test loss is not finite.
    A look is every `CHECK_EVERY` steps; divergence stops the run. A run that is stuck at chance level has
    ``finished``, with the loss it has.

    Args:
        model: takes what ``prepare`` returns; already initialised, and on ``device``.
        optimizer: of the model's parameters; never given a schedule here.
        loss_fn: the mean over the batch.
        prepare: from uint8 [B, H*W*C] to the model's input; runs on ``device``.

    Raises:
        UserError: the data set is not the one the spec names, or is smaller than one batch.
    """
    if dataset.fingerprint != spec.data_fingerprint:
        raise UserError(
            f"run {spec.run_id} is declared on data {spec.data_fingerprint}, but the data set given is "
            f"{dataset.fingerprint}; plan the runs again on the data you have."
        )
    device = torch.device(device)
    images, labels = _on(device, dataset.train_images, dataset.train_labels)
    if len(images) < spec.batch:
        raise UserError(f"batch is {spec.batch}, but there are {len(images)} examples; use a smaller batch.")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    torch.manual_seed(spec.seed)
    model.train()
    with _flush_denormals():
        start = time.perf_counter()
        losses, reason = _steps(spec, model, optimizer, images, labels, loss_fn, prepare)
        seconds = time.perf_counter() - start
        test_loss = test_accuracy = math.nan
        if not reason:
            with _precision(spec, device):
                test_loss, test_accuracy = evaluate(model, dataset, loss_fn, device=device, prepare=prepare)
            if not math.isfinite(test_loss):
                reason = f"the test loss after the last step is {test_loss}"
                test_loss = test_accuracy = math.nan
    return RunRecord(
        spec=spec,
        status="diverged" if reason else "finished",
        train_loss=math.inf if reason else _final(losses, spec.steps),
        test_loss=test_loss,
        test_accuracy=test_accuracy,
        steps_done=len(losses),
        loss_curve=_curve(losses, spec.steps),
        wall_seconds=seconds,
        examples_per_second=len(losses) * spec.batch / seconds,
        peak_memory_mib=_peak_memory_mib(device),
        reason=reason,
        provenance=provenance(dataset.source, dataset.is_real, device),
    )


def _steps(
    spec: RunSpec,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    loss_fn: Loss,
    prepare: Prepare,
) -> tuple[np.ndarray, str]:
    """All steps: the losses of those done (float64) and why the run diverged ("" if it did not)."""

    def compute(rows: Tensor, y_B: Tensor) -> Tensor:
        with _precision(spec, images.device):
            return loss_fn(model(prepare(images.index_select(0, rows))), y_B)

    take_step = Step(compute, optimizer)
    losses: list[float] = []
    recent: list[Tensor] = []  # on the device: reading one would wait for it
    bad = 0  # looks in a row at an exploded loss
    for step, (rows, y_B) in enumerate(_batches(spec, labels), start=1):
        recent.append(take_step(rows, y_B))
        if len(recent) < CHECK_EVERY and step < spec.steps:
            continue

        look = torch.stack(recent).tolist()
        recent.clear()
        losses += look
        if not math.isfinite(sum(look)):
            first = next(i for i, x in enumerate(losses) if not math.isfinite(x))
            return np.array(losses), f"the loss of step {first + 1} is {losses[first]}"
        mean = sum(look) / len(look)
        bad = bad + 1 if mean > EXPLODED * losses[0] else 0
        if bad >= PATIENCE:
            return np.array(losses), f"the loss is {mean:.4g} at step {step}, {losses[0]:.4g} at the first"
    final = _final(losses, spec.steps)
    if final > EXPLODED * losses[0]:
        return np.array(losses), f"the loss is {final:.4g} at the end, {losses[0]:.4g} at the first step"
    return np.array(losses), ""


def _final(losses: Sequence[float] | np.ndarray, steps: int) -> float:
    """Mean over the last 10% of the steps, at least one."""
    return float(np.mean(losses[-max(1, steps // 10) :]))


def _batches(spec: RunSpec, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """(row numbers [B], labels [B]) of each of the ``spec.steps`` steps, on the device of ``labels``."""
    # Drawn on the CPU whatever the device, so that a GPU sees the same order.
    generator = torch.Generator().manual_seed(spec.seed)
    per_epoch = len(labels) // spec.batch
    left = spec.steps
    while left > 0:
        order = torch.randperm(len(labels), generator=generator)[: per_epoch * spec.batch].to(labels.device)
        rows = order.view(per_epoch, spec.batch)[:left]
        yield from zip(rows.unbind(), labels[rows].unbind(), strict=True)
        left -= per_epoch


@torch.no_grad()
def evaluate(
    model: nn.Module,
    dataset: Dataset,
    loss_fn: Loss,
    *,
    device: str | torch.device = "cpu",
    prepare: Prepare = normalize,
) -> tuple[float, float]:
    """(mean loss, accuracy in [0, 1]) on the test part; leaves the model in the mode it was in."""
    images, labels = _on(torch.device(device), dataset.test_images, dataset.test_labels)
    was_training = model.training
    model.eval()
    loss = correct = 0.0
    for x, y in zip(images.split(EVAL_BATCH), labels.split(EVAL_BATCH), strict=True):
        outputs = model(prepare(x))
        loss += float(loss_fn(outputs, y)) * len(y)
        correct += int((outputs.argmax(dim=-1) == y).sum())
    model.train(was_training)
    return loss / len(labels), correct / len(labels)


def _on(device: torch.device, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Images as uint8 [N, D] and labels [N] on ``device``; on the CPU these are views, not copies."""
    return images.flatten(1).to(device), labels.to(device)


def _curve(losses: np.ndarray, steps: int) -> tuple[float, ...]:
    """Mean loss of each of up to `CURVE_POINTS` equal chunks of ``steps``; fewer if the run stopped early."""
    points = min(CURVE_POINTS, steps)
    edges = [i * steps // points for i in range(points + 1)]
    chunks = [losses[a:b] for a, b in itertools.pairwise(edges)]
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


@contextlib.contextmanager
def _flush_denormals() -> Iterator[None]:
    """Count denormal numbers as zero: the momentum of dead units ends there, and many CPUs crawl then."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
