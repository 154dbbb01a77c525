"""A data set of labelled images as four tensors in memory, with where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from mutransfer.data.arrays import ArrayDataset, digest_of

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True, eq=False, repr=False)
class ImageDataset(ArrayDataset):
    """Images as uint8 [N, H, W, C] in 0..255 and labels as int64 [N], in a training and a test part.

    Pixels stay bytes: the training step normalises them, so that all workers can share one copy. They may lie
    in memory that cannot be written: the tensors are only read.
    """

    ARRAYS: ClassVar[tuple[str, ...]] = ARRAYS

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            x, y = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            if x.dtype != torch.uint8 or x.ndim != 4:
                raise ValueError(f"{part}_images: expected uint8 [N, H, W, C], got {x.dtype} {[*x.shape]}")
            if y.dtype != torch.int64 or y.shape != x.shape[:1]:
                raise ValueError(f"{part}_labels: expected int64 [{len(x)}], got {y.dtype} {[*y.shape]}")

    def __repr__(self) -> str:
        counts = f"train={len(self.train_labels)}, test={len(self.test_labels)}"
        return f"ImageDataset({self.name!r}, {self.source!r}, {counts}, fingerprint={self.fingerprint})"

    @classmethod
    def from_arrays(
        cls,
        name: str,
        source: str,
        *,
        is_real: bool,
        train: tuple[np.ndarray, np.ndarray],
        test: tuple[np.ndarray, np.ndarray],
    ) -> ImageDataset:
        """From (images uint8 [N, H, W, C], labels [N] of any integer type) a part; takes the fingerprint."""
        tensors = {}
        for part, (x, y) in (("train", train), ("test", test)):
            tensors[f"{part}_images"] = torch.from_numpy(np.ascontiguousarray(x))
            tensors[f"{part}_labels"] = torch.from_numpy(np.asarray(y).astype(np.int64))
        return cls(name, source, is_real, fingerprint_of(tensors), **tensors)

    def head(self, train: int, test: int) -> ImageDataset:
        """The first images of both parts, named as such."""
        source = f"{self.source}, the first {train:,} training and {test:,} test images"
        tensors = {name: getattr(self, name)[: train if name.startswith("train") else test] for name in ARRAYS}
        return ImageDataset(self.name, source, self.is_real, fingerprint_of(tensors), **tensors)


def fingerprint_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """First 16 hex digits of a sha256 over shape, dtype and bytes of the four `ARRAYS`, in that order."""
    return digest_of({name: tensors[name] for name in ARRAYS})
