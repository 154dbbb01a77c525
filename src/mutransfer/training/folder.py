"""Classification of images that are read from their files while the model trains."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer.data.images import DRAWS, ImageNetFolder, central, cropped
from mutransfer.training.augment import Standardize
from mutransfer.training.provenance import cores
from mutransfer.training.task import Loss, scored

AHEAD = 2  # batches that are read while one is trained on


class FolderClassification:
    """An `ImageNetFolder`, cropped and mirrored at random in training; the draws depend on ``seed`` alone.

    loss_fn: of training; the test loss is the plain cross-entropy. standardize: its ``size`` is that of the images.
    eval_batch: images at once in evaluation. threads: that read files (Pillow decodes without Python's lock; worker
    processes of a sweep may have no processes of their own); default: one a core.
    """

    def __init__(
        self,
        data: ImageNetFolder,
        loss_fn: Loss,
        standardize: Standardize,
        *,
        seed: int,
        eval_batch: int,
        threads: int | None = None,
    ) -> None:
        self.data, self._loss_fn, self._standardize, self._eval_batch = data, loss_fn, standardize, eval_batch
        self.count = len(data.labels["train"])
        self.generator = torch.Generator().manual_seed(seed)
        self._threads = threads or cores()
        self._device = torch.device("cpu")

    def to(self, device: torch.device) -> None:
        self._device = device
        self._standardize.to(device)

    def batches(self, rows_SxB: Tensor) -> Iterator[tuple[Tensor, ...]]:
        paths, size = self.data.paths["train"], self._standardize.size

        def jobs() -> Iterator[list[tuple[Any, ...]]]:
            for rows in rows_SxB.tolist():
                yield [(paths[row], draw, size) for row, draw in zip(rows, self._draws(rows), strict=True)]

        labels = self.data.labels["train"][rows_SxB]
        for pixels, y_B in zip(self._read(cropped, jobs()), labels, strict=True):
            yield pixels, y_B.to(self._device)

    def skip(self, rows_SxB: Tensor) -> None:
        for rows_B in rows_SxB:
            self._draws(rows_B)

    def loss(self, model: nn.Module, *batch: Tensor) -> Tensor:
        images_BxD, y_B = batch
        return self._loss_fn(model(self._standardize(images_BxD)), y_B)

    def evaluate(self, model: nn.Module) -> tuple[float, float]:
        paths, labels, n = self.data.paths["test"], self.data.labels["test"], self._eval_batch
        jobs = ([(p, self._standardize.size) for p in paths[i : i + n]] for i in range(0, len(paths), n))
        batches = zip(self._read(central, jobs), labels.split(n), strict=True)
        return scored(((model(self._standardize(x)), y.to(self._device)) for x, y in batches), F.cross_entropy)

    def _draws(self, rows_B: Sequence[int] | Tensor) -> list[list[float]]:
        """Of each image of a batch: where it is cropped, and whether it is mirrored."""
        return torch.rand(len(rows_B), DRAWS, generator=self.generator).tolist()

    def _read(self, read: Callable[..., np.ndarray], batches: Iterable[Sequence[tuple[Any, ...]]]) -> Iterator[Tensor]:
        """uint8 [B, H*W*C] of every batch, in order; ``read(*job)`` gives one image."""
        waiting: deque[list[Future[np.ndarray]]] = deque()
        with ThreadPoolExecutor(self._threads) as pool:
            try:
                for batch in batches:
                    waiting.append([pool.submit(read, *job) for job in batch])
                    if len(waiting) > AHEAD:
                        yield self._stacked(waiting.popleft())
                while waiting:
                    yield self._stacked(waiting.popleft())
            finally:
                pool.shutdown(cancel_futures=True)

    def _stacked(self, images: Sequence[Future[np.ndarray]]) -> Tensor:
        return torch.from_numpy(np.stack([image.result() for image in images])).flatten(1).to(self._device)
