"""Labelled images: a data set as four tensors in memory, and ImageNet as a folder of files, decoded when needed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mutransfer.data.arrays import ArrayDataset
from mutransfer.errors import UserError

FOLDERS = {"train": "train", "test": "val"}
COUNTS, CLASSES = {"train": 1_281_167, "test": 50_000}, 1000
TRIES, AREA, SHAPE = 10, (0.08, 1.0), (3 / 4, 4 / 3)
DRAWS = 4 * TRIES + 1
"""Uniform numbers that `cropped` needs: area, shape and place of ten tries, and whether the image is mirrored."""
SHORTER = 256 / 224
"""The shorter side of a test image before its centre is cut out, over the side of what is cut out."""

Part = tuple[np.ndarray, np.ndarray]
"""Images uint8 [N, H, W, C] in 0..255 and labels [N] of any integer type."""


@dataclass(frozen=True, eq=False, repr=False)
class ImageDataset(ArrayDataset):
    """Images as uint8 [N, H, W, C] in 0..255 and labels as int64 [N], in a training and a test part.

    Pixels stay bytes: the training step normalises them, so that all workers can share one copy.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    @classmethod
    def from_arrays(cls, name: str, source: str, *, is_real: bool, train: Part, test: Part) -> ImageDataset:
        """From the images and labels of each part. Raises ValueError if they have another form than `Part`."""
        content = {}
        for part, (x, y) in (("train", train), ("test", test)):
            if x.dtype != np.uint8 or x.ndim != 4 or np.shape(y) != x.shape[:1]:
                has = f"{x.dtype} {[*x.shape]} and {[*np.shape(y)]}"
                raise ValueError(f"{part}: expected images uint8 [N, H, W, C] and labels [N], got {has}")
            content[f"{part}_images"] = torch.from_numpy(np.ascontiguousarray(x))
            content[f"{part}_labels"] = torch.from_numpy(np.asarray(y).astype(np.int64))
        return cls.made(name, source, is_real=is_real, **content)

    def head(self, train: int, test: int) -> ImageDataset:
        """The first images of both parts, named as such."""
        source = f"{self.source}, the first {train:,} training and {test:,} test images"
        content = {name: x[: train if name.startswith("train") else test] for name, x in self.tensors().items()}
        return ImageDataset.made(self.name, source, is_real=self.is_real, **content)


@dataclass(frozen=True, eq=False, repr=False)
class ImageNetFolder:
    """``folder/train/CLASS/*`` and ``folder/val/CLASS/*``; files and classes in the order of their names.

    paths, labels (int64, the number of the class): of the parts "train" and "test". missing: why there are no files,
    where only their number is known.
    """

    source: str
    is_real: bool  # whether it is the whole of ImageNet-1k, by its counts
    fingerprint: str  # of the names and sizes of all files
    folder: Path
    paths: dict[str, list[str]]
    labels: dict[str, Tensor]
    missing: str = ""
    name: str = "imagenet"

    @classmethod
    def open(cls, folder: Path) -> ImageNetFolder:
        """List a folder.

        Raises `UserError` if a part is missing, has no class folders or an empty one, or if their classes differ.
        """
        from torchvision.datasets import ImageFolder

        listed, digest = {}, hashlib.sha256()
        for part, name in FOLDERS.items():
            try:
                listed[part] = ImageFolder(str(folder / name))
            except (OSError, RuntimeError) as error:  # RuntimeError: a class without an image, of older versions
                words = f"{folder / name} cannot be read as torchvision's ImageFolder ({error})"
                raise UserError(f"{words}; expected {name}/CLASS/*.JPEG.") from error
            for path, _ in listed[part].samples:
                digest.update(f"{Path(path).relative_to(folder).as_posix()} {Path(path).stat().st_size}\n".encode())
        classes = listed["train"].classes
        if strange := sorted({*classes} ^ {*listed["test"].classes}):
            raise UserError(f"{folder}: class {strange[0]} is in one of {' and '.join(FOLDERS.values())} only.")
        is_whole = {part: len(images) for part, images in listed.items()} == COUNTS and len(classes) == CLASSES
        counts = f"{len(listed['train']):,} training images of {len(classes)} classes, in the place of ImageNet"
        return cls(
            source="ImageNet" if is_whole else counts,
            is_real=is_whole,
            fingerprint=digest.hexdigest()[:16],
            folder=folder,
            paths={part: [path for path, _ in images.samples] for part, images in listed.items()},
            labels={part: torch.tensor(images.targets) for part, images in listed.items()},
        )

    @classmethod
    def absent(cls, folder: Path, reason: str) -> ImageNetFolder:
        """Its counts alone, to plan with."""
        labels = {part: torch.zeros(count, dtype=torch.int64) for part, count in COUNTS.items()}
        empty: dict[str, list[str]] = {part: [] for part in FOLDERS}
        return cls("ImageNet (not here: its counts alone)", True, "absent", folder, empty, labels, reason)

    @property
    def classes(self) -> int:
        return CLASSES if self.missing else int(self.labels["train"].max()) + 1


def cropped(path: str, uniform: Sequence[float], size: int) -> np.ndarray:
    """A training image: a random part of it, scaled to uint8 [size, size, 3] and mirrored half of the time.

    Area and shape are torchvision's ``RandomResizedCrop`` with its defaults. uniform: `DRAWS` numbers in [0, 1).
    Raises `UserError` if the file is no image.
    """
    image = _read(path)
    pixels = np.asarray(image.crop(_box(*image.size, uniform)).resize((size, size), Image.Resampling.BILINEAR))
    return pixels[:, ::-1] if uniform[-1] < 0.5 else pixels


def central(path: str, size: int) -> np.ndarray:
    """A test image: scaled so that its shorter side is `SHORTER` times ``size``, its centre cut out."""
    from torchvision.transforms import functional

    scaled = functional.resize(_read(path), [round(SHORTER * size)])
    return np.asarray(functional.center_crop(scaled, [size, size]))


def _read(path: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all of these on broken images
        raise UserError(f"{path} is no whole image ({error}); delete it or put a whole copy in its place.") from error


def _box(width: int, height: int, uniform: Sequence[float]) -> tuple[int, int, int, int]:
    """Left, upper, right, lower of the first try that lies inside of the image; else the largest central part."""
    for k in range(0, 4 * TRIES, 4):
        a, s, x, y = uniform[k : k + 4]
        area = width * height * (AREA[0] + a * (AREA[1] - AREA[0]))
        shape = SHAPE[0] * (SHAPE[1] / SHAPE[0]) ** s
        w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < w <= width and 0 < h <= height:
            left, upper = int(x * (width - w + 1)), int(y * (height - h + 1))
            return left, upper, left + w, upper + h
    shape = min(max(width / height, SHAPE[0]), SHAPE[1])
    w, h = min(width, round(height * shape)), min(height, round(width / shape))
    left, upper = (width - w) // 2, (height - h) // 2
    return left, upper, left + w, upper + h
