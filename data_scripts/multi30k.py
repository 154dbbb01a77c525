"""Multi30k (Elliott et al. 2016): descriptions of photographs in German and English, found on disk.

29,000 pairs for training, 1,014 for validation, the 1,000 of the 2016 test set. Short sentences of everyday words: a
small model learns to translate them in minutes. Looked for in ``<data>/multi30k_de_en/{train,val,test}.{de,en}``;
made lower case, as fairseq's recipe for IWSLT14 does (`iwslt14`), unless told otherwise. Nothing is downloaded.

``<data>`` is ``--data``, else ``$MUTRANSFER_DATA``, else ``data/`` at the root of the repository. Alone:

    python data_scripts/multi30k.py [--data DIR] [--pieces N] [--binary DIR]
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

if not __package__:  # run alone: then the path has this folder, not its parent
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from data_scripts import corpora, iwslt14
from data_scripts.places import OTHER_TEXT, Missing, data_folder
from mutransfer.data.pairs import PairDataset

FOLDER = "multi30k_de_en"
LANGUAGES = ("de", "en")
COUNTS = {"train": 29_000, "valid": 1_014, "test": 1_000}
SOURCE = "Multi30k"


def load(
    data_dir: Path | None = None,
    *,
    corpus: Path | None = None,
    languages: tuple[str, str] = LANGUAGES,
    pieces: int = 10_000,
    download: bool = True,
    lowercase: bool | None = None,
    clean: bool | None = None,
    names: Mapping[str, str] | None = None,
) -> PairDataset:
    """Multi30k, or the parallel corpus that is named; the arguments are those of `iwslt14.load`.

    Raises `Missing` if it is not on the disk, `UserError` if a file is missing beside the others or broken.
    """
    corpora.check(languages, pieces, corpus, names)
    if corpus is not None:
        return iwslt14.load(
            corpus=corpus, languages=languages, pieces=pieces, lowercase=lowercase, clean=clean, names=names
        )
    folder = data_folder(data_dir, __file__, FOLDER) / FOLDER
    if not corpora.has_files(folder, languages):
        raise Missing(
            f"Multi30k is not here: expected {folder / 'train'}.{languages[0]} and .{languages[1]}. Put it there, or "
            f"name the folder that has {FOLDER} (--data or MUTRANSFER_DATA); nothing is downloaded."
        )
    parts = corpora.read(folder, languages)
    name = f"{SOURCE} {'-'.join(languages)}"
    return corpora.dataset(
        FOLDER,
        name if corpora.is_known(parts, COUNTS) else OTHER_TEXT + name,
        parts,
        languages,
        pieces,
        lowercase=lowercase is not False,
        cleaning=iwslt14.CLEANING if clean else None,
        cache=folder / "prepared",
    )


def main(argv: list[str] | None = None) -> int:
    """Summarise and cut; exit code 2 and one line on stderr for an error of the user's."""
    return corpora.command("Cut Multi30k German-English, or another parallel corpus, into pieces.", load, argv)


if __name__ == "__main__":
    sys.exit(main())
