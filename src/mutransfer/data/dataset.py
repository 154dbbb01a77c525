"""A data set of labelled images as four tensors in memory, with where it came from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mutransfer.errors import UserError

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
_META = "dataset.json"


@dataclass(frozen=True, eq=False, repr=False)
class ImageDataset:
    """Images as uint8 [N, H, W, C] in 0..255 and labels as int64 [N], in a training and a test part.

    Pixels stay bytes: the training step normalises them, so that all workers can share one copy. They may lie
    in memory that cannot be written: the tensors are only read.
    """

    name: str  # "cifar10" or "synthetic"
    source: str  # for captions, e.g. "CIFAR-10 (JPEG-recompressed pixels)"
    is_real: bool  # False: a stand-in, which every record and caption must say
    fingerprint: str  # `fingerprint_of` the four tensors
    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    folder: Path | None = field(default=None, init=False)  # where the tensors are mapped from; None: only in memory

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

    def __getstate__(self) -> dict[str, Any]:
        """With arrays instead of tensors: pickle protocol 5 can share their memory instead of copying it."""
        return {**self.__dict__, **{n: getattr(self, n).numpy() for n in ARRAYS}, "folder": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # shared memory cannot be written; nobody wants to
            self.__dict__.update(state, **{n: torch.from_numpy(state[n]) for n in ARRAYS})

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

    def save(self, folder: Path) -> None:
        """Write four .npy files and a json into ``folder`` (made if missing); half a data set never opens.

        Raises `UserError` if the folder cannot be written (read-only, full).
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # The json is removed first and written last: where it is, the rest is whole.
            (folder / _META).unlink(missing_ok=True)
            for name in ARRAYS:
                with _replacing(folder / f"{name}.npy") as path, path.open("wb") as file:
                    np.save(file, getattr(self, name).numpy())
            meta = {f.name: getattr(self, f.name) for f in fields(self) if f.init and f.name not in ARRAYS}
            with _replacing(folder / _META) as path:
                path.write_text(json.dumps(meta, indent=1) + "\n")
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"cannot write the data set into {folder}: {reason}; free space there or name another folder."
            ) from error

    @classmethod
    def open(cls, folder: Path) -> ImageDataset:
        """Open what `save` wrote, memory-mapped copy-on-write: all workers share one copy in the page cache.

        Raises `UserError` if a file is missing, cut short or does not give the recorded fingerprint.
        """
        folder = Path(folder).resolve()
        try:
            meta = json.loads((folder / _META).read_text())
            tensors: dict[str, Any] = {n: torch.from_numpy(np.load(folder / f"{n}.npy", mmap_mode="c")) for n in ARRAYS}
            dataset = cls(**meta, **tensors)
        except (OSError, ValueError, TypeError, EOFError) as error:
            raise UserError(
                f"{folder} is not a whole prepared data set ({error}); delete the folder and run again."
            ) from error
        if (found := fingerprint_of(tensors)) != dataset.fingerprint:
            raise UserError(
                f"the data set in {folder} is corrupt: fingerprint {found}, expected {dataset.fingerprint}; "
                "delete the folder and run again."
            )
        object.__setattr__(dataset, "folder", folder)
        return dataset


def fingerprint_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """First 16 hex digits of a sha256 over shape, dtype and bytes of the four `ARRAYS`, in that order."""
    digest = hashlib.sha256()
    for name in ARRAYS:
        array = np.ascontiguousarray(tensors[name].numpy())
        # Little-endian bytes, so that the same data has the same fingerprint on every machine.
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name} {[*array.shape]} {array.dtype.name}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well, and goes when not."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
