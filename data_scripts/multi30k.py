"""Multi30k (Elliott et al. 2016): descriptions of photographs in German and English, found on disk.

29,000 pairs for training, 1,014 for validation, the 1,000 of the 2016 test set. Short sentences of everyday words: a
small model learns to translate them in minutes. Looked for in ``<data>/multi30k_de_en/{train,val,test}.{de,en}``;
made lower case, as fairseq's recipe for IWSLT14 does (`iwslt14`), unless told otherwise. Nothing is downloaded.

``<data>`` is ``--data``, else ``$MUTRANSFER_DATA``, else ``data/`` at the root of the repository. Alone:

    python data_scripts/multi30k.py [--data DIR] [--pieces N] [--binary DIR]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not __package__:  # run alone: then the path has this folder, not its parent
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from data_scripts import corpora, iwslt14
from data_scripts.corpora import Found, Recipe
from data_scripts.places import Missing

if TYPE_CHECKING:
    from mutransfer.data.pairs import PairDataset

FOLDER = "multi30k_de_en"
LANGUAGES = ("de", "en")
COUNTS = {"train": 29_000, "valid": 1_014, "test": 1_000}
SOURCE = "Multi30k"


def load(data_dir: Path | None = None, **options: Any) -> PairDataset:
    """Multi30k, or the parallel corpus that is named; ``options`` are those of `corpora.load`.

    Raises `Missing` if it is not on the disk, `UserError` if a file is missing beside the others or broken.
    """
    recipe = Recipe(FOLDER, SOURCE, LANGUAGES, 10_000, iwslt14.CLEANING, _find)
    return corpora.load(recipe, data_dir, **options)


def _find(folder: Path, languages: tuple[str, str], download: bool, clean: bool | None) -> Found:
    if not corpora.has_files(folder, languages):
        raise Missing(
            f"Multi30k is not here: expected {folder / 'train'}.{languages[0]} and .{languages[1]}. Put it there, or "
            f"name the folder that has {FOLDER} (--data or MUTRANSFER_DATA); nothing is downloaded."
        )
    parts = corpora.read(folder, languages)
    return Found(parts, corpora.is_known(parts, COUNTS), lowers=True)


def main(argv: list[str] | None = None) -> int:
    """Summarise and cut; exit code 2 and one line on stderr for an error of the user's."""
    return corpora.command("Cut Multi30k German-English, or another parallel corpus, into pieces.", load, argv)


if __name__ == "__main__":
    sys.exit(main())
