"""ImageNet-1k (Russakovsky et al. 2015): find it on the disk as a standard folder of images and list it.

1,281,167 training and 50,000 validation images of 1000 classes, in ``<data>/imagenet/train/CLASS/*.JPEG`` and
``<data>/imagenet/val/CLASS/*.JPEG``, as torchvision's ``ImageFolder`` reads. It cannot be downloaded without an account
(https://www.image-net.org/download.php). Other images in such folders can be trained on; they are named as others.

``<data>`` is ``--data``, else ``$MUTRANSFER_DATA``, else ``data/`` at the root of the repository. Alone:

    python data_scripts/imagenet.py [--data DIR]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run alone: then the path has this folder, not its parent
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from data_scripts.places import Missing, command, data_folder

if TYPE_CHECKING:
    from mutransfer.data.images import ImageNetFolder

FOLDER = "imagenet"


def load(data_dir: Path | None = None) -> ImageNetFolder:
    """The folder ``imagenet`` of the data folder; its counts alone, to plan with, if there is none.

    Raises `UserError` if it is there but not as it should be.
    """
    from mutransfer.data.images import ImageNetFolder

    folder = data_folder(data_dir, FOLDER) / FOLDER
    if folder.exists():
        return ImageNetFolder.open(folder.resolve())
    return ImageNetFolder.absent(
        folder,
        f"ImageNet is not in {folder}, and cannot be downloaded without an account. Put train/CLASS/*.JPEG and "
        f"val/CLASS/*.JPEG there (https://www.image-net.org/download.php), or name the folder that has {FOLDER} "
        "(--data or MUTRANSFER_DATA).",
    )


def main(argv: list[str] | None = None) -> int:
    """Find and summarise; exit code 2 and one line on stderr for an error of the user's."""
    return command("Find ImageNet.", load, _summary, argv)


def _summary(dataset: ImageNetFolder) -> list[tuple[str, str]]:
    if dataset.missing:
        raise Missing(dataset.missing)
    counts = f"{len(dataset.paths['train'])} train, {len(dataset.paths['test'])} test"
    return [("source", dataset.source), ("images", counts), ("fingerprint", dataset.fingerprint)]


if __name__ == "__main__":
    sys.exit(main())
