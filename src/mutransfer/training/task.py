"""What a run learns: examples, batches of them, their loss, and how the trained model is evaluated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from mutransfer.data import ImageDataset, TokenDataset

EVAL_BATCH = 1000
EVAL_WINDOWS, EVAL_WINDOW_BATCH = 256, 16

Loss = Callable[[Tensor, Tensor], Tensor]  # (outputs [B, C], labels [B]) -> mean loss of the batch, a scalar
Prepare = Callable[[Tensor], Tensor]  # uint8 [B, H*W*C] -> what the model takes


class Task:
    """What `mutransfer.training.loop.train` needs to know of what is learnt."""

    data: Any  # where examples come from: has ``source``, ``is_real`` and ``fingerprint``
    count: int  # training examples
    has_equal_batches = True  # else a batch has as many examples as fit, and ``batch`` is in the task's own unit
    generator: torch.Generator | None = None  # of all draws but the order's (on the CPU, so that a GPU sees the same)

    def to(self, device: torch.device) -> None:
        """Put the training examples on ``device``, once, before the first step."""
        raise NotImplementedError

    def epoch(
        self, batch: int, generator: torch.Generator, done: int = 0, end: int | None = None
    ) -> Iterator[tuple[Tensor, ...]]:
        """What the steps ``done`` to ``end`` of one epoch compute from: a permutation without its last, partial batch.

        The order is drawn from ``generator`` (on the CPU), which the run's seed alone has started.
        """
        steps = self.count // batch
        order = torch.randperm(self.count, generator=generator)[: steps * batch]
        rows_SxB = order.view(steps, batch)[:end]
        if done:
            self.skip(rows_SxB[:done])
        return self.batches(rows_SxB[done:])

    def batches(self, rows_SxB: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """What each of S steps computes from, given the numbers of its examples (on the CPU).

        Nothing else decides it, but the draws of ``generator``: a run must be able to go on in mid-epoch.
        """
        raise NotImplementedError

    def skip(self, rows_SxB: Tensor) -> None:
        """Draw what `batches` would draw of these rows."""

    def loss(self, model: nn.Module, *batch: Tensor) -> Tensor:
        """The mean loss of one of `batches`."""
        raise NotImplementedError

    def evaluate(self, model: nn.Module) -> tuple[float, float]:
        """(mean loss, accuracy in [0, 1]) on the test part; under `torch.no_grad`, in evaluation mode."""
        loss = correct = count = 0.0
        for part in self.scores(model):
            loss, correct, count = loss + part[0], correct + part[1], count + part[2]
        return loss / count, correct / count

    def scores(self, model: nn.Module) -> Iterable[tuple[float, float, float]]:
        """For `evaluate`, of some test examples after others: the sums of losses and of right answers, their number."""
        raise NotImplementedError


def normalize(images: Tensor) -> Tensor:
    """uint8 [B, D] to float32 [B, D]: (x/255 - 0.5)/0.5, in one pass over memory."""
    return torch.add(_MINUS_ONE, images, alpha=2 / 255)


_MINUS_ONE = torch.tensor(-1.0)


def score(outputs_BxC: Tensor, y_B: Tensor, loss_fn: Loss) -> tuple[float, float, float]:
    """Of labelled examples, for `Task.scores`."""
    count = len(y_B)
    return float(loss_fn(outputs_BxC, y_B)) * count, int((outputs_BxC.argmax(dim=-1) == y_B).sum()), count


class Classification(Task):
    """Images with labels.

    loss_fn: the mean over the batch. prepare: from uint8 [B, H*W*C] to the model's input; runs on the device.
    """

    def __init__(self, data: ImageDataset, loss_fn: Loss, prepare: Prepare = normalize) -> None:
        self.data, self._loss_fn, self._prepare = data, loss_fn, prepare
        self.count = len(data.train_labels)
        self.to(torch.device("cpu"))

    def to(self, device: torch.device) -> None:
        self._images, self._labels = self.data.train_images.flatten(1).to(device), self.data.train_labels.to(device)

    def batches(self, rows_SxB: Tensor) -> Iterator[tuple[Tensor, ...]]:
        rows = rows_SxB.to(self._labels.device)
        return zip(rows.unbind(), self._labels[rows].unbind(), strict=True)

    def loss(self, model: nn.Module, *batch: Tensor) -> Tensor:
        rows_B, y_B = batch
        return self._loss_fn(model(self._prepare(self._images.index_select(0, rows_B))), y_B)

    def scores(self, model: nn.Module) -> Iterator[tuple[float, float, float]]:
        device = self._labels.device
        images, labels = self.data.test_images.flatten(1).to(device), self.data.test_labels.to(device)
        for x, y_B in zip(images.split(EVAL_BATCH), labels.split(EVAL_BATCH), strict=True):
            yield score(model(self._prepare(x)), y_B, self._loss_fn)


class NextToken(Task):
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

    def scores(self, model: nn.Module) -> Iterator[tuple[float, float, float]]:
        windows = self.data.windows("test", self._length)
        for rows in evenly(len(windows), EVAL_WINDOWS).split(EVAL_WINDOW_BATCH):
            batch = windows[rows].to(self._windows.device)
            mean, logits = self._of(model, batch)
            accuracy = float((logits.argmax(-1) == batch[:, 1:]).float().mean())
            yield float(mean) * len(batch), accuracy * len(batch), len(batch)

    @staticmethod
    def _of(model: nn.Module, windows_BxT1: Tensor) -> tuple[Tensor, Tensor]:
        """The mean loss of a batch of windows, and the logits [B, T, V]."""
        tokens = windows_BxT1.long()
        logits_BxTxV = model(tokens[:, :-1])
        return F.cross_entropy(logits_BxTxV.flatten(0, 1), tokens[:, 1:].flatten()), logits_BxTxV


def evenly(count: int, most: int) -> Tensor:
    """Up to ``most`` of ``count`` rows, from the first to the last."""
    return torch.linspace(0, count - 1, min(most, count)).round().long()
