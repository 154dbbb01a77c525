"""What a run learns: examples, batches of them, their loss, and how the trained model is evaluated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from mutransfer.data import ImageDataset, TokenDataset

EVAL_BATCH = 1000
EVAL_WINDOWS, EVAL_WINDOW_BATCH = 256, 16

Loss = Callable[[Tensor, Tensor], Tensor]  # (outputs [B, C], labels [B]) -> mean loss of the batch, a scalar
Prepare = Callable[[Tensor], Tensor]  # uint8 [B, H*W*C] -> what the model takes


class Source(Protocol):
    """Where examples come from."""

    @property
    def source(self) -> str: ...
    @property
    def is_real(self) -> bool: ...
    @property
    def fingerprint(self) -> str: ...


class Task(Protocol):
    """What `mutransfer.training.loop.train` needs to know of what is learnt."""

    @property
    def data(self) -> Source: ...
    @property
    def count(self) -> int: ...  # training examples
    def to(self, device: torch.device) -> None:
        """Put the training examples on ``device``, once, before the first step."""

    def batches(self, rows_SxB: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """What each of S steps computes from, given the numbers of its examples (on the CPU).

        Nothing else decides it, but the draws of `OwnDraws`: a run must be able to go on in mid-epoch.
        """

    def loss(self, model: nn.Module, *batch: Tensor) -> Tensor:
        """The mean loss of one of `batches`."""

    def evaluate(self, model: nn.Module) -> tuple[float, float]:
        """(mean loss, accuracy in [0, 1]) on the test part; under `torch.no_grad`, in evaluation mode."""


@runtime_checkable
class OwnBatches(Task, Protocol):
    """A task that cuts its epochs into batches itself: of as many examples as fit, not of equally many."""

    def epoch(self, batch: int, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """What each step of one epoch, of at least one, computes from; ``batch`` is the spec's, in the task's own unit.

        All that is random is drawn from ``generator`` (on the CPU), which the run's seed alone has started.
        """


@runtime_checkable
class OwnDraws(Task, Protocol):
    """A task whose `batches` are random, too: crops, say."""

    @property
    def generator(self) -> torch.Generator: ...  # of all its draws (on the CPU)
    def skip(self, rows_SxB: Tensor) -> None:
        """Draw what `batches` would draw of these rows."""


def normalize(images: Tensor) -> Tensor:
    """uint8 [B, D] to float32 [B, D]: (x/255 - 0.5)/0.5, in one pass over memory."""
    return torch.add(_MINUS_ONE, images, alpha=2 / 255)


_MINUS_ONE = torch.tensor(-1.0)


def scored(batches: Iterable[tuple[Tensor, Tensor]], loss_fn: Loss) -> tuple[float, float]:
    """(mean loss, accuracy in [0, 1]) of batches of (outputs [B, C], labels [B])."""
    loss = correct = count = 0.0
    for outputs, y_B in batches:
        loss += float(loss_fn(outputs, y_B)) * len(y_B)
        correct += int((outputs.argmax(dim=-1) == y_B).sum())
        count += len(y_B)
    return loss / count, correct / count


class Classification:
    """Images with labels.

    loss_fn: the mean over the batch. prepare: from uint8 [B, H*W*C] to the model's input; runs on the device.
    """

    def __init__(self, data: ImageDataset, loss_fn: Loss, prepare: Prepare = normalize) -> None:
        self.data, self._loss_fn, self._prepare = data, loss_fn, prepare
        self.count = len(data.train_labels)
        self.to(torch.device("cpu"))

    def to(self, device: torch.device) -> None:
        self._images, self._labels = self._on(device, self.data.train_images, self.data.train_labels)

    def batches(self, rows_SxB: Tensor) -> Iterator[tuple[Tensor, ...]]:
        rows = rows_SxB.to(self._labels.device)
        return zip(rows.unbind(), self._labels[rows].unbind(), strict=True)

    def loss(self, model: nn.Module, *batch: Tensor) -> Tensor:
        rows_B, y_B = batch
        return self._loss_fn(model(self._prepare(self._images.index_select(0, rows_B))), y_B)

    def evaluate(self, model: nn.Module) -> tuple[float, float]:
        images, labels = self._on(self._labels.device, self.data.test_images, self.data.test_labels)
        batches = zip(images.split(EVAL_BATCH), labels.split(EVAL_BATCH), strict=True)
        return scored(((model(self._prepare(x)), y) for x, y in batches), self._loss_fn)

    @staticmethod
    def _on(device: torch.device, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images as uint8 [N, D] and labels [N] on ``device``; on the CPU these are views, not copies."""
        return images.flatten(1).to(device), labels.to(device)


class NextToken:
    """Language modelling: the cross-entropy (nats a token) of each next token in windows of ``length`` tokens.

    Examples are consecutive windows of the training text. Evaluated on up to `EVAL_WINDOWS` windows of the test text,
    evenly spread over it.
    """

    def __init__(self, data: TokenDataset, length: int) -> None:
        self.data, self._length = data, length
        self._windows = data.windows("train", length)
        self.count = len(self._windows)

    def to(self, device: torch.device) -> None:
        self._windows = self._windows.to(device)

    def batches(self, rows_SxB: Tensor) -> Iterator[tuple[Tensor, ...]]:
        return ((rows,) for rows in rows_SxB.to(self._windows.device).unbind())

    def loss(self, model: nn.Module, *batch: Tensor) -> Tensor:
        (rows_B,) = batch
        return self._of(model, self._windows.index_select(0, rows_B))[0]

    def evaluate(self, model: nn.Module) -> tuple[float, float]:
        windows = self.data.windows("test", self._length)
        rows = torch.linspace(0, len(windows) - 1, min(EVAL_WINDOWS, len(windows))).round().long()
        loss = correct = 0.0
        for chosen in rows.split(EVAL_WINDOW_BATCH):
            batch = windows[chosen].to(self._windows.device)
            mean, logits = self._of(model, batch)
            loss += float(mean) * len(batch)
            correct += float((logits.argmax(-1) == batch[:, 1:]).float().mean()) * len(batch)
        return loss / len(rows), correct / len(rows)

    @staticmethod
    def _of(model: nn.Module, windows_BxT1: Tensor) -> tuple[Tensor, Tensor]:
        """The mean loss of a batch of windows, and the logits [B, T, V]."""
        tokens = windows_BxT1.long()
        logits_BxTxV = model(tokens[:, :-1])
        return F.cross_entropy(logits_BxTxV.flatten(0, 1), tokens[:, 1:].flatten()), logits_BxTxV
