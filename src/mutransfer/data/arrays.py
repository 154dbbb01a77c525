"""Named tensors in memory with where they came from: saved, opened memory-mapped, shared, fingerprinted."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from mutransfer.errors import UserError
from mutransfer.files import keep, write

_META = "dataset.json"


@dataclass(frozen=True, eq=False, repr=False)
class ArrayDataset:
    """What every data set has. A kind of data adds fields; those that are annotated as ``Tensor`` are its arrays.

    The tensors may lie in memory that cannot be written: they are only read.
    """

    ARRAYS: ClassVar[tuple[str, ...]] = ()  # their names, in the order of the fields

    name: str  # short, for records: "cifar10", "books"
    source: str  # for captions, e.g. "CIFAR-10 (JPEG-recompressed pixels)"
    is_real: bool  # False: a stand-in, which every record and caption must say
    fingerprint: str  # `content_fingerprint`, taken when the data set was made
    folder: Path | None = field(default=None, init=False)  # where the tensors are mapped from; None: only in memory

    def __init_subclass__(cls) -> None:
        cls.ARRAYS = tuple(name for name, kind in cls.__annotations__.items() if kind == "Tensor")

    @classmethod
    def made(cls, name: str, source: str, *, is_real: bool, **content: Any) -> Self:
        """A data set of this content, with its fingerprint. Raises ValueError for what does not fit together."""
        dataset = cls(name, source, is_real, "", **content)
        object.__setattr__(dataset, "fingerprint", dataset.content_fingerprint())
        return dataset

    def tensors(self) -> dict[str, Tensor]:
        """The arrays by name."""
        return {name: getattr(self, name) for name in self.ARRAYS}

    def _head(self) -> str:
        """What of the other fields decides a run: the fingerprint sees it too."""
        return ""

    def content_fingerprint(self) -> str:
        """First 16 hex digits of a sha256 over the head, then name, shape, dtype and bytes of each array in order."""
        digest = hashlib.sha256(self._head().encode())
        for name, tensor in self.tensors().items():
            array = np.ascontiguousarray(tensor.numpy())
            # Little-endian bytes, so that the same data has the same fingerprint on every machine.
            array = array.astype(array.dtype.newbyteorder("<"), copy=False)
            digest.update(f"{name} {[*array.shape]} {array.dtype.name}\n".encode())
            digest.update(array.data)
        return digest.hexdigest()[:16]

    def __getstate__(self) -> dict[str, Any]:
        """With arrays instead of tensors: pickle protocol 5 can share their memory instead of copying it.

        Without the folder, which another machine has not, and without what can be made of the fields again.
        """
        state = {f.name: getattr(self, f.name) for f in fields(self)}
        return state | {name: tensor.numpy() for name, tensor in self.tensors().items()} | {"folder": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # shared memory cannot be written; nobody wants to
            self.__dict__.update(state, **{name: torch.from_numpy(state[name]) for name in self.ARRAYS})

    def save(self, folder: Path) -> None:
        """Write one .npy file per tensor and a json into ``folder`` (made if missing); half a data set never opens.

        Raises `UserError` if the folder cannot be written (read-only, full).
        """
        meta = {f.name: getattr(self, f.name) for f in fields(self) if f.init and f.name not in self.ARRAYS}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # The json is removed first and written last: where it is, the rest is whole.
            (folder / _META).unlink(missing_ok=True)
            with tempfile.TemporaryDirectory(prefix=".", dir=folder) as part:
                for name, tensor in self.tensors().items():
                    np.save(Path(part, f"{name}.npy"), tensor.numpy())
                    os.replace(Path(part, f"{name}.npy"), folder / f"{name}.npy")  # never into a file that is mapped
            write(folder / _META, (json.dumps(meta, indent=1) + "\n").encode())
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"cannot write the data set into {folder}: {reason}; free space there or name another folder."
            ) from error

    @classmethod
    def prepared(cls, folder: Path | None, make: Callable[[], Self]) -> Self:
        """What lies whole in ``folder``, else what ``make`` gives: kept there and opened, if that can be written."""
        if folder is not None and (folder / _META).is_file():
            return cls.open(folder)
        dataset = make()
        note = f"{dataset.source}\nMade by mutransfer from the text beside it; may be deleted.\n"
        if folder is None or not keep(folder / "source.txt", note.encode()):
            return dataset
        dataset.save(folder)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open what `save` wrote, memory-mapped copy-on-write: all workers share one copy in the page cache.

        Raises `UserError` if a file is missing, cut short or does not give the recorded fingerprint.
        """
        folder = Path(folder).resolve()
        try:
            meta = json.loads((folder / _META).read_text())
            for name in cls.ARRAYS:
                meta[name] = torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c"))
            dataset = cls(**meta)
        except (OSError, ValueError, TypeError, EOFError) as error:
            raise UserError(
                f"{folder} is not a whole prepared data set ({error}); delete the folder and run again."
            ) from error
        if (content := dataset.content_fingerprint()) != dataset.fingerprint:
            raise UserError(
                f"the data set in {folder} is corrupt: fingerprint {content}, expected {dataset.fingerprint}; "
                "delete the folder and run again."
            )
        object.__setattr__(dataset, "folder", folder)
        return dataset


def dtype_of(vocab: int) -> type[np.uint8] | type[np.int32]:
    """The integer type of the tokens of a vocabulary."""
    return np.uint8 if vocab <= 256 else np.int32


def check_form(name: str, tensor: Tensor, dtype: type, *, columns: int | None = None, least: int = 0) -> None:
    """Raise ValueError unless ``tensor`` is [N] (or [N, columns]) of ``dtype``, with N at least ``least``."""
    shape = [len(tensor)] + [columns] * (columns is not None)
    if tensor.numpy().dtype != dtype or [*tensor.shape] != shape or len(tensor) < least:
        expected = f"{np.dtype(dtype)} {['N', *shape[1:]]} with N of at least {least}".replace("'", "")
        raise ValueError(f"{name}: expected {expected}, got {tensor.dtype} {[*tensor.shape]}")


def check_range(name: str, numbers: Tensor | np.ndarray, low: int, high: int, kind: str = "tokens") -> None:
    """Raise ValueError unless all numbers are in low..high."""
    array = np.asarray(numbers)
    if array.size and (array.min() < low or array.max() > high):
        raise ValueError(f"{name}: expected {kind} in {low}..{high}, got {array.min()}..{array.max()}")


def check_ends(name: str, ends: Tensor, whole: int, least: int = 0) -> None:
    """Raise ValueError unless ``ends`` rises to ``whole``, by ``least`` each time or more."""
    if (ends.diff(prepend=ends.new_zeros(1)) < least).any() or ends[-1] != whole:
        raise ValueError(f"{name}: expected ends that rise to {whole}, got {int(ends[-1])} as last")
