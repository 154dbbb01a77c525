"""Named tensors in memory with where they came from: saved, opened memory-mapped, shared, fingerprinted."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
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

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.source!r}, fingerprint={self.fingerprint})"

    @classmethod
    def made(cls, name: str, source: str, *, is_real: bool, **content: Any) -> Self:
        """A data set of this content, with its fingerprint."""
        dataset = cls(name, source, is_real, "", **content)
        return replace(dataset, fingerprint=dataset.content_fingerprint())

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
        """With arrays, whose memory pickle protocol 5 can share, and without the folder, which is on this machine."""
        state = {f.name: getattr(self, f.name) for f in fields(self)}
        return state | {name: tensor.numpy() for name, tensor in self.tensors().items()} | {"folder": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # shared memory cannot be written; nobody wants to
            self.__dict__.update(state, **{name: torch.from_numpy(state[name]) for name in self.ARRAYS})

    def save(self, folder: Path) -> None:
        """Write one .npy file per tensor, then a json, into ``folder`` (made if missing); half a data set never opens.

        Raises `UserError` if the folder cannot be written (read-only, full).
        """
        meta = {f.name: getattr(self, f.name) for f in fields(self) if f.init and f.name not in self.ARRAYS}
        for name, tensor in self.tensors().items():
            content = io.BytesIO()
            np.save(content, tensor.numpy())
            write(folder / f"{name}.npy", content.getbuffer())  # never into a file that is mapped
        write(folder / _META, (json.dumps(meta, indent=1) + "\n").encode())

    @classmethod
    def prepared(cls, cache: Path | None, name: str, content: Iterable[str], make: Callable[[], Self]) -> Self:
        """What ``make`` gives: kept in a folder of ``cache``, if that can be written, and opened the next time.

        name, content: of the folder; what decides what is made, as lines of text.
        """
        if cache is None:
            return make()
        folder = cache / f"{name}-{mark_of(content)}"
        if not (folder / _META).is_file():
            dataset = make()
            note = f"{dataset.source}\nMade by mutransfer from the text beside it; may be deleted.\n"
            if not keep(folder / "source.txt", note.encode()):
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
            if (content := dataset.content_fingerprint()) != dataset.fingerprint:
                raise ValueError(f"corrupt: fingerprint {content}, expected {dataset.fingerprint}")
        except (OSError, ValueError, TypeError, EOFError) as error:
            raise UserError(
                f"{folder} is not a whole prepared data set ({error}); delete the folder and run again."
            ) from error
        object.__setattr__(dataset, "folder", folder)
        return dataset


def dtype_of(vocab: int) -> type[np.uint8] | type[np.int32]:
    """The integer type of the tokens of a vocabulary."""
    return np.uint8 if vocab <= 256 else np.int32


def joined(texts: Iterable[Sequence[int]], vocab: int) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of all texts one after the other, uint8 or int32 [tokens], and where each text ends, int64 [texts]."""
    lengths = list[int]()

    def numbers() -> Iterable[int]:
        for text in texts:
            lengths.append(len(text))
            yield from text

    return np.fromiter(numbers(), dtype_of(vocab)), np.cumsum(lengths, dtype=np.int64)


def mark_of(lines: Iterable[str]) -> str:
    """16 hex digits of everything that decides what a data set becomes."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()[:16]


def bytes_of(content: bytes) -> Tensor:
    """uint8 [N]."""
    return torch.from_numpy(np.frombuffer(content, np.uint8).copy())
