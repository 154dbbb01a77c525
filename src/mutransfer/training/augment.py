"""Tasks of images that are augmented: on whole batches in memory, or read from their files while the model trains."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer.data import ImageDataset
from mutransfer.data.images import DRAWS, ImageNetFolder, central, cropped
from mutransfer.training.provenance import cores
from mutransfer.training.task import Classification, Loss, Task, score


class CropFlipCutout:
    """Random crops of reflection-padded images, mirrored half of the time, with a square set to the data's mean.

    size: H = W of the images. pad: pixels of padding on each side. cutout: side of the square, 0 for none. mean: of
    each channel, in 0..255. seed: all draws come from it, in the order of the batches.
    """

    def __init__(self, *, seed: int, size: int, pad: int, cutout: int, mean: Sequence[float]) -> None:
        self.generator = torch.Generator().manual_seed(seed)  # on the CPU, so that a GPU sees the same images
        self._size, self._cutout = size, cutout
        self._lowest = torch.tensor([[-pad], [-pad], [0], [0], [0]])
        self._choices = torch.tensor([[2 * pad + 1], [2 * pad + 1], [2], [size - cutout + 1], [size - cutout + 1]])
        self.mean = torch.tensor(mean).round().to(torch.uint8)

    def draw(self, batches: int, count: int) -> Tensor:
        """int64 [S, 5, B] for S batches of B images: its crop (y, x), mirrored or not, its square (y, x)."""
        uniform = torch.rand(batches, len(self._choices), count, generator=self.generator)
        return (uniform * self._choices).long() + self._lowest

    def __call__(self, images_NxD: Tensor, rows_B: Tensor, draws_5xB: Tensor) -> Tensor:
        """uint8 [N, H*W*C], the numbers of B of them and their draws -> uint8 [B, H*W*C]; all on one device."""
        n, at = self._size, torch.arange(self._size, device=images_NxD.device)
        top, left, mirrored, cut_top, cut_left = draws_5xB[..., None].unbind()
        y_BxH, x_BxH = self._reflect(at + top), self._reflect(at + left)
        x_BxH = torch.where(mirrored.bool(), x_BxH.flip(1), x_BxH)
        pixels_BxHxH = (y_BxH * n + rows_B[:, None] * (n * n))[:, :, None] + x_BxH[:, None, :]
        found = images_NxD.view(-1, len(self.mean)).index_select(0, pixels_BxHxH.flatten()).view(len(rows_B), -1)
        if not self._cutout:
            return found
        y_BxH, x_BxH = self._inside(at - cut_top), self._inside(at - cut_left)
        is_cut = (y_BxH[:, :, None] & x_BxH[:, None, :])[..., None]
        return torch.where(is_cut, self.mean, found.view(len(rows_B), n, n, -1)).flatten(1)

    def _reflect(self, at: Tensor) -> Tensor:
        """Coordinates beyond an edge, mirrored at the outermost pixel."""
        return (self._size - 1) - ((self._size - 1) - at.abs()).abs()

    def _inside(self, offset: Tensor) -> Tensor:
        return (offset >= 0) & (offset < self._cutout)


class Standardize:
    """uint8 [B, H*W*C] -> float32 [B, C, H, W] less ``mean``, over ``std`` (of each channel, in 0..255); channels-last,
    ``size`` = H = W.
    """

    def __init__(self, size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        self.size, self.mean, self.scale = size, torch.tensor(mean), 1 / torch.tensor(std)

    def to(self, device: torch.device) -> None:
        self.mean, self.scale = self.mean.to(device), self.scale.to(device)

    def __call__(self, images_BxD: Tensor) -> Tensor:
        pixels = images_BxD.view(len(images_BxD), self.size, self.size, -1)
        return pixels.float().sub_(self.mean).mul_(self.scale).permute(0, 3, 1, 2)


class Augmented(Classification):
    """`Classification` whose training images are augmented, afresh in every epoch; the test images are not."""

    def __init__(self, data: ImageDataset, loss_fn: Loss, standardize: Standardize, augment: CropFlipCutout) -> None:
        self._augment, self._standardize, self.generator = augment, standardize, augment.generator
        super().__init__(data, loss_fn, standardize)

    def to(self, device: torch.device) -> None:
        super().to(device)
        self._augment.mean = self._augment.mean.to(device)
        self._standardize.to(device)

    def skip(self, rows_SxB: Tensor) -> None:
        self._augment.draw(*rows_SxB.shape)

    def batches(self, rows_SxB: Tensor) -> Iterator[tuple[Tensor, ...]]:
        draws = self._augment.draw(*rows_SxB.shape).to(self._labels.device)
        for (rows_B, y_B), draws_5xB in zip(super().batches(rows_SxB), draws, strict=True):
            yield self._augment(self._images, rows_B, draws_5xB), y_B

    def loss(self, model: nn.Module, *batch: Tensor) -> Tensor:
        images_BxD, y_B = batch
        return self._loss_fn(model(self._standardize(images_BxD)), y_B)


AHEAD = 2  # batches that are read while one is trained on


class FolderClassification(Task):
    """An `ImageNetFolder`, cropped and mirrored at random in training; the draws depend on ``seed`` alone.

    loss_fn: of training; the test loss is the plain cross-entropy. standardize: its ``size`` is that of the images.
    eval_batch: images at once in evaluation. threads: that read files (Pillow decodes without Python's lock; worker
    processes of a sweep may have no processes of their own); default: one per core.
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
        self.generator: torch.Generator = torch.Generator().manual_seed(seed)
        self._threads, self._device = threads or cores(), torch.device("cpu")

    def to(self, device: torch.device) -> None:
        self._device = device
        self._standardize.to(device)

    def batches(self, rows_SxB: Tensor) -> Iterator[tuple[Tensor, ...]]:
        paths, size = self.data.paths["train"], self._standardize.size
        jobs = ([(paths[i], draw, size) for i, draw in zip(x.tolist(), self._draws(x), strict=True)] for x in rows_SxB)
        for pixels, y_B in zip(self._read(cropped, jobs), self.data.labels["train"][rows_SxB], strict=True):
            yield pixels, y_B.to(self._device)

    def skip(self, rows_SxB: Tensor) -> None:
        for rows_B in rows_SxB:
            self._draws(rows_B)

    def loss(self, model: nn.Module, *batch: Tensor) -> Tensor:
        images_BxD, y_B = batch
        return self._loss_fn(model(self._standardize(images_BxD)), y_B)

    def scores(self, model: nn.Module) -> Iterator[tuple[float, float, float]]:
        paths, labels, n = self.data.paths["test"], self.data.labels["test"], self._eval_batch
        jobs = ([(p, self._standardize.size) for p in paths[i : i + n]] for i in range(0, len(paths), n))
        for x, y_B in zip(self._read(central, jobs), labels.split(n), strict=True):
            yield score(model(self._standardize(x)), y_B.to(self._device), F.cross_entropy)

    def _draws(self, rows_B: Tensor) -> list[list[float]]:
        """Of each image of a batch: where it is cropped, and whether it is mirrored."""
        return torch.rand(len(rows_B), DRAWS, generator=self.generator).tolist()

    def _read(self, read: Callable[..., np.ndarray], batches: Iterable[Sequence[tuple[Any, ...]]]) -> Iterator[Tensor]:
        """uint8 [B, H*W*C] of every batch, in order; ``read(*job)`` gives one image."""
        waiting: deque[Iterator[np.ndarray]] = deque()
        with ThreadPoolExecutor(self._threads) as pool:
            try:
                for batch in chain(batches, repeat(None, AHEAD)):
                    if batch is not None:
                        waiting.append(pool.map(read, *zip(*batch, strict=True)))
                    if waiting and (batch is None or len(waiting) > AHEAD):
                        yield torch.from_numpy(np.stack([*waiting.popleft()])).flatten(1).to(self._device)
            finally:
                pool.shutdown(cancel_futures=True)
