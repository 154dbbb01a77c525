"""Named tensors in memory with where they came from: saved, opened memory-mapped, shared, fingerprinted."""

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
from typing import Any, ClassVar, Self

import numpy as np
import torch

from mutransfer.errors import UserError
from mutransfer.files import keep

_META = "dataset.json"


@dataclass(frozen=True, eq=False, repr=False)
class ArrayDataset:
    """What every data set has. A kind of data adds its tensors as fields, and names them in ``ARRAYS``.

    The tensors may lie in memory that cannot be written: they are only read.
    """

    ARRAYS: ClassVar[tuple[str, ...]] = ()

    name: str  # short, for records: "cifar10", "books"
    source: str  # for captions, e.g. "CIFAR-10 (JPEG-recompressed pixels)"
    is_real: bool  # False: a stand-in, which every record and caption must say
    fingerprint: str  # `_found_fingerprint`, taken when the data set was made
    folder: Path | None = field(default=None, init=False)  # where the tensors are mapped from; None: only in memory

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {n: getattr(self, n) for n in self.ARRAYS}

    def _found_fingerprint(self) -> str:
        """The fingerprint that the content really has."""
        return digest_of(self._tensors())

    def __getstate__(self) -> dict[str, Any]:
        """With arrays instead of tensors: pickle protocol 5 can share their memory instead of copying it."""
        return {**self.__dict__, **{n: tensor.numpy() for n, tensor in self._tensors().items()}, "folder": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # shared memory cannot be written; nobody wants to
            self.__dict__.update(state, **{n: torch.from_numpy(state[n]) for n in self.ARRAYS})

    def save(self, folder: Path) -> None:
        """Write one .npy file a tensor and a json into ``folder`` (made if missing); half a data set never opens.

        Raises `UserError` if the folder cannot be written (read-only, full).
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # The json is removed first and written last: where it is, the rest is whole.
            (folder / _META).unlink(missing_ok=True)
            for name, tensor in self._tensors().items():
                with _replacing(folder / f"{name}.npy") as path, path.open("wb") as file:
                    np.save(file, tensor.numpy())
            meta = {f.name: getattr(self, f.name) for f in fields(self) if f.init and f.name not in self.ARRAYS}
            with _replacing(folder / _META) as path:
                path.write_text(json.dumps(meta, indent=1) + "\n")
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"cannot write the data set into {folder}: {reason}; free space there or name another folder."
            ) from error

    def kept(self, folder: Path | None) -> Self:
        """Saved in ``folder`` and opened there; itself without one or, with a note, where it cannot be written."""
        note = f"{self.source}\nMade by mutransfer from the text beside it; may be deleted.\n"
        if folder is None or not keep(folder / "source.txt", note.encode()):
            return self
        self.save(folder)
        return self.open(folder)

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
        if (found := dataset._found_fingerprint()) != dataset.fingerprint:
            raise UserError(
                f"the data set in {folder} is corrupt: fingerprint {found}, expected {dataset.fingerprint}; "
                "delete the folder and run again."
            )
        object.__setattr__(dataset, "folder", folder)
        return dataset


def digest_of(tensors: Mapping[str, torch.Tensor], head: str = "") -> str:
    """First 16 hex digits of a sha256 over ``head``, then name, shape, dtype and bytes of each tensor in order."""
    digest = hashlib.sha256(head.encode())
    for name, tensor in tensors.items():
        array = np.ascontiguousarray(tensor.numpy())
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
