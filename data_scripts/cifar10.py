"""CIFAR-10 (Krizhevsky 2009): find it on disk or download it, verify it, and hold it in memory as bytes.

50,000 training and 10,000 test images of 32x32 RGB pixels, 10 balanced classes. Looked for, in this order:

1. ``<data>/cifar10/cifar10_jpeg.parquet``: every image as a JPEG file (recompressed: other pixels);
2. torchvision's ``cifar-10-batches-py/`` or ``cifar-10-python.tar.gz`` in ``<data>`` or ``<data>/cifar10``;
3. a download of that archive, verified by its md5, kept in ``<data>/cifar10``;
4. the procedural stand-in, which is not CIFAR-10 and says so.

``<data>`` is ``--data``, else ``$MUTRANSFER_DATA``, else ``data/`` at the root of the repository. Alone:

    python data_scripts/cifar10.py [--data DIR]
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if not __package__:  # run alone: then the path has this folder, not its parent
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from data_scripts import places
from data_scripts.places import MENDING, command, data_folder
from mutransfer.errors import UserError

if TYPE_CHECKING:
    from mutransfer.data import ImageDataset

COUNTS = {"train": 50_000, "test": 10_000}
CLASSES = 10
PARQUET = "cifar10_jpeg.parquet"
PARQUET_SHA256 = "fd207847b2be16fb49e85ba2cffa8c332dac926057ce09199f34a36b4248e2e0"

Part = tuple[np.ndarray, np.ndarray]  # uint8 [N, 32, 32, 3], integer labels [N]


def load(data_dir: Path | None = None, *, download: bool = True) -> ImageDataset:
    """CIFAR-10 from the first place that has it, else the stand-in with one loud line on stderr.

    Raises `UserError` if a folder that was named does not exist, or a file that should hold the real images
    is cut short, corrupt or unreadable: the stand-in never hides a broken file.
    """
    folder = data_folder(data_dir, "cifar10")
    parquet = folder / "cifar10" / PARQUET
    if os.path.lexists(parquet):  # a dangling link is a broken file, not an absent one
        return _from_parquet(parquet)
    if (found := _from_disk([folder, folder / "cifar10"])) is not None:
        return found
    reason = "downloading was turned off"
    if download:
        found, reason = _from_download(folder / "cifar10")
        if found is not None:
            return found
    archive = _torchvision().filename
    print(
        f"WARNING: NOT CIFAR-10: training on the procedural stand-in. Tried {parquet}; {archive} in {folder} "
        f"and {folder / 'cifar10'}; {reason}. For the real images put {archive} into {folder}, or name the "
        "folder that has it (--data or MUTRANSFER_DATA), and run again.",
        file=sys.stderr,
    )
    from mutransfer.data.standins import synthetic

    return synthetic.synthetic_cifar()


def _check(part: str, x: np.ndarray, y: np.ndarray) -> Part:
    """Raise ValueError unless the part has CIFAR-10's shape and equally many images of each class."""
    if x.shape != (COUNTS[part], 32, 32, 3) or x.dtype != np.uint8:
        raise ValueError(f"{part}: expected {COUNTS[part]} images of 32x32x3 bytes, got {x.dtype} {[*x.shape]}")
    if y.shape != x.shape[:1] or y.min() < 0 or y.max() >= CLASSES:
        raise ValueError(f"{part}: expected {COUNTS[part]} labels in 0..{CLASSES - 1}")
    counts = np.bincount(y, minlength=CLASSES)
    if counts.min() != counts.max():
        raise ValueError(f"{part}: the classes are not balanced: {counts.tolist()}")
    return x, y


def _dataset(source: str, parts: dict[str, Part]) -> ImageDataset:
    from mutransfer.data import ImageDataset

    return ImageDataset.from_arrays("cifar10", source, is_real=True, train=parts["train"], test=parts["test"])


def _from_parquet(path: Path) -> ImageDataset:
    """Decode the JPEG images of the parquet file, rows in order (columns: image, label, split)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        raw = path.read_bytes()
        table = pq.read_table(pa.BufferReader(raw), columns=["image", "label", "split"])
        split = table["split"].to_numpy()
        if strange := sorted(set(split) - set(COUNTS)):
            raise ValueError(f"unknown split {strange[0]!r}")
        labels = table["label"].to_numpy().astype(np.int64)
        parts = {}
        for part, count in COUNTS.items():
            rows = np.flatnonzero(split == part)
            if len(rows) != count:
                raise ValueError(f"{part}: expected {count} images, got {len(rows)}")
            parts[part] = _check(part, _decode(table["image"].take(rows)), labels[rows])
    # pyarrow's own errors are subclasses of these; Pillow raises OSError or SyntaxError on broken images
    except (OSError, ValueError, KeyError, TypeError, SyntaxError, pa.ArrowException) as error:
        message = " ".join(str(error).split())
        raise UserError(f"{path} is not a whole CIFAR-10 parquet file ({message}); {MENDING}") from error
    if (found := hashlib.sha256(raw).hexdigest()) != PARQUET_SHA256:
        print(
            f"note: {path} has sha256 {found[:16]}..., not the documented {PARQUET_SHA256[:16]}...: it holds "
            "whole images, but results carry another fingerprint.",
            file=sys.stderr,
        )
    return _dataset("CIFAR-10 (JPEG-recompressed pixels)", parts)


def _decode(jpegs: Any) -> np.ndarray:
    """A pyarrow column of JPEG files -> uint8 [N, 32, 32, 3]."""
    from PIL import Image

    images = np.empty((len(jpegs), 32, 32, 3), np.uint8)
    for i, jpeg in enumerate(jpegs.to_pylist()):
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
            if image.size != (32, 32) or image.mode != "RGB":
                raise ValueError(f"image {i} is {image.mode} {image.size[0]}x{image.size[1]}, not RGB 32x32")
            images[i] = np.frombuffer(image.tobytes(), np.uint8).reshape(32, 32, 3)
    return images


def _torchvision() -> Any:
    from torchvision.datasets import CIFAR10  # slow to import, and the parquet file needs none of it

    return CIFAR10


def _unpickle(root: Path) -> ImageDataset:
    """Through torchvision, which verifies the md5 of every batch file before it unpickles one."""
    cifar = _torchvision()
    parts = {}
    for part in COUNTS:
        batch = cifar(root, train=part == "train")
        parts[part] = _check(part, batch.data, np.asarray(batch.targets))
    return _dataset("CIFAR-10", parts)


def _unpack(archive: Path) -> ImageDataset:
    """Read a verified archive, unpacked into a folder that goes again: none stays half-unpacked."""
    with tempfile.TemporaryDirectory(prefix="cifar10-") as scratch:
        shutil.unpack_archive(archive, scratch, format="gztar")  # its md5 is verified: no filter needed
        return _unpickle(Path(scratch))


def _from_disk(folders: list[Path]) -> ImageDataset | None:
    """The first whole copy among torchvision's folder and archive; None if there is neither.

    Raises `UserError` if there are copies, but none is whole.
    """
    from torchvision.datasets.utils import check_integrity

    cifar = _torchvision()
    broken = []
    for folder in folders:
        batches, archive = folder / cifar.base_folder, folder / cifar.filename
        for path in filter(os.path.lexists, (batches, archive)):
            try:
                if path == batches:
                    return _unpickle(folder)
                if not check_integrity(str(archive), cifar.tgz_md5):
                    raise ValueError(f"its md5 is not {cifar.tgz_md5}")
                return _unpack(archive)
            except (OSError, ValueError, RuntimeError) as error:
                broken.append(f"{path} is not a whole copy of CIFAR-10 ({error}); {MENDING}")
    if broken:
        raise UserError(broken[0])
    return None


def _from_download(folder: Path) -> tuple[ImageDataset | None, str]:
    """The data set and "", or None and why not. The archive is kept in ``folder`` if that can be written."""
    cifar = _torchvision()
    with tempfile.TemporaryDirectory(prefix="cifar10-") as scratch, _socket_timeout(places.CONNECT_SECONDS):
        # In a scratch folder: a refused or interrupted download leaves nothing that looks like the archive.
        try:
            cifar(scratch, download=True)
            dataset = _unpickle(Path(scratch))
        except (OSError, ValueError, RuntimeError) as error:  # urllib's errors are OSErrors
            return None, f"the download of {cifar.url} failed ({error})"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            part = folder / f".{cifar.filename}.{os.getpid()}"
            shutil.copyfile(Path(scratch) / cifar.filename, part)
            part.replace(folder / cifar.filename)
        except OSError as error:
            print(f"note: CIFAR-10 was downloaded but cannot be kept in {folder} ({error}).", file=sys.stderr)
    return dataset, ""


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """torchvision sets no timeout of its own: without this, a network that drops packets hangs the run."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def main(argv: list[str] | None = None) -> int:
    """Fetch, verify and summarise; exit code 2 and one line on stderr for an error of the user's."""
    return command("Fetch and verify CIFAR-10.", load, _summary, argv)


def _summary(dataset: ImageDataset) -> list[tuple[str, str]]:
    counts = f"{len(dataset.train_labels)} train, {len(dataset.test_labels)} test"
    return [("source", dataset.source), ("images", counts), ("fingerprint", dataset.fingerprint)]


if __name__ == "__main__":
    sys.exit(main())
