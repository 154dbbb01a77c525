"""Fine-tuning of BERT on sentences, or pairs of them, with labels (Devlin et al. 2018; App. F.3).

Letters: N examples, B of a batch, T places of a sequence, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer.errors import unknown
from mutransfer.training.pretraining import Special, sequences
from mutransfer.training.schedule import schedule
from mutransfer.training.step import Step

SCHEDULE = "warmup_0.1_linear"  # App. F.3
MULTIPLE = 8  # of which the length of a padded batch is one: fewer shapes
EVAL_BATCH = 256


class Examples(Protocol):
    """The labelled examples of a part, without special tokens."""

    @property
    def tokens(self) -> Tensor: ...  # integers, of all texts one after the other
    @property
    def starts(self) -> Tensor: ...  # int64 [N]: where each example begins
    @property
    def ends(self) -> Tensor: ...  # int64 [N, 2]: of its first and of its second text (the same: there is none)
    @property
    def labels(self) -> Tensor: ...  # int64 [N]


class Labelled:
    """Examples as sequences, on a device: of pairs that are too long, the end of the longer text is left out."""

    def __init__(self, examples: Examples, length: int, special: Special, device: torch.device) -> None:
        first = examples.ends[:, 0] - examples.starts
        second = examples.ends[:, 1] - examples.ends[:, 0]
        room = length - 2 - (second > 0).long()
        # what is left out goes from the longer one until both are equal, then from both
        kept_first = torch.minimum(first, torch.maximum(room - second, (room + 1) // 2))
        kept_second = torch.minimum(second, room - kept_first)
        self.sizes = (kept_first + kept_second + 2 + (second > 0)).numpy()
        columns = (examples.tokens, examples.starts, kept_first, examples.ends[:, 0], kept_second, examples.labels)
        self._tokens, *self._columns, self.labels = (x.to(device) for x in columns)
        self._length, self._special = length, special

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows_B: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """tokens, segments, padding [B, T] and labels [B]; T is the longest, a multiple of `MULTIPLE`."""
        width = min(-(-int(self.sizes[rows_B].max()) // MULTIPLE) * MULTIPLE, self._length)
        rows = torch.from_numpy(rows_B).to(self.labels.device)
        first, first_length, second, second_length = (x[rows] for x in self._columns)
        tokens, segments, _, padding = sequences(
            self._tokens, first, first_length, second, second_length, width, self._special
        )
        return tokens, segments, padding, self.labels[rows]


def finetune(
    classifier: nn.Module,
    train: Labelled,
    test: Labelled,
    *,
    metric: str,
    lr: float,
    steps: int,
    batch: int,
    seed: int,
) -> float:
    """The score on ``test`` after ``steps`` steps of Adam on ``train``; ``classifier`` is trained in place.

    The learning rate rises over the first tenth and falls to zero (App. F.3: 5e-5, batch 64). Every epoch is a new
    permutation; ``seed`` decides it, and dropout. 0 if the classifier gives no numbers.

    Raises `UserError` for an unknown metric.
    """
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=lr, fused=True)
    factor = schedule(SCHEDULE)

    def loss(tokens: Tensor, segments: Tensor, padding: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(classifier(tokens, segments, padding), labels)

    classifier.train()
    step = Step(loss, optimizer)
    for i, rows_B in zip(range(steps), epochs(train.sizes, batch, np.random.default_rng(seed)), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = lr * factor(i / steps)
        step(*train.batch(rows_B))
    return score(classifier, test, metric)


def epochs(sizes_N: np.ndarray, batch: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The numbers of the examples of one batch after the other, without end; batches have examples of like size.

    Of every epoch, a permutation, each 32 batches are sorted by size, and come in random order.
    """
    while True:
        order_N = rng.permutation(len(sizes_N))
        for start in range(0, len(order_N), 32 * batch):
            some = order_N[start : start + 32 * batch]
            some = some[np.argsort(sizes_N[some], kind="stable")]
            batches = [some[i : i + batch] for i in range(0, len(some), batch)]
            for i in rng.permutation(len(batches)):
                if len(batches[i]) == min(batch, len(sizes_N)):  # of an epoch's last ones some are too small
                    yield batches[i]


@torch.no_grad()
def score(classifier: nn.Module, test: Labelled, metric: str) -> float:
    """In percent; 0 if the classifier gives no numbers."""
    classifier.eval()
    order_N = np.argsort(test.sizes, kind="stable")
    said = np.empty(len(order_N), np.int64)
    for start in range(0, len(order_N), EVAL_BATCH):
        rows_B = order_N[start : start + EVAL_BATCH]
        *inputs, _ = test.batch(rows_B)
        logits_BxC = classifier(*inputs)
        if not bool(logits_BxC.isfinite().all()):
            return 0.0
        said[rows_B] = logits_BxC.argmax(-1).cpu().numpy()
    return 100 * METRICS[metric](said, test.labels.cpu().numpy())


def _accuracy(said: np.ndarray, labels: np.ndarray) -> float:
    return float((said == labels).mean())


def _f1(said: np.ndarray, labels: np.ndarray) -> float:
    """Of class 1."""
    right = int(((said == 1) & (labels == 1)).sum())
    return 2 * right / max(int((said == 1).sum() + (labels == 1).sum()), 1)


def _matthews(said: np.ndarray, labels: np.ndarray) -> float:
    """The correlation of two classes; 0 where one is never said."""
    if said.std() == 0 or labels.std() == 0:
        return 0.0
    return float(np.corrcoef(said, labels)[0, 1])


METRICS = {"accuracy": _accuracy, "f1": _f1, "matthews": _matthews}
