"""WMT14 English-German (Bojar et al. 2014): find it on disk or download it, clean it and cut it into pieces.

4.5 million sentences of Europarl, Common Crawl and News Commentary with their translation; newstest2013 (3,000 pairs)
for validation, newstest2014 (3,003) for testing. Looked for, in this order:

1. ``--corpus DIR``: any parallel corpus instead, see `corpora`;
2. ``<data>/wmt14/{train,valid,test}.{en,de}``, whatever their size;
3. a download of ``wmt/wmt14`` through the library `datasets`, kept there in these files;
4. the stand-in: synthetic sentences of a small grammar, which are not WMT14 and say so.

Of the training part the pairs of 1 to 250 words per side and a ratio of at most 1.5 are kept, as fairseq's
examples/translation/prepare-wmt14en2de.sh does, and case is kept too; text in files that somebody prepared is taken as
it is, see `corpora` (both can be asked for: ``clean``, ``lowercase``). Different from there: words are counted, not
subwords; punctuation is not normalised; News Commentary is version 9, as in fairseq's ``--icml17``; validation is on
newstest2013, not on every 100th training pair; the pieces are SentencePiece's, fitted to 2 million lines, evenly drawn.

``<data>`` is ``--data``, else ``$MUTRANSFER_DATA``, else ``data/`` at the root of the repository. Alone:

    python data_scripts/wmt14.py [--data DIR] [--corpus DIR] [--pieces N] [--binary DIR]
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not __package__:  # run alone: then the path has this folder, not its parent
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from data_scripts import corpora, hub
from data_scripts.corpora import Found, Recipe
from data_scripts.parallel import Cleaning, Lines
from data_scripts.places import keep_all

if TYPE_CHECKING:
    from mutransfer.data.pairs import PairDataset

FOLDER = "wmt14"
HUB, CONFIG = "wmt/wmt14", "de-en"
SPLITS = {"valid": "validation", "test": "test", "train": "train"}  # the training part last: see `_from_hub`
LANGUAGES = ("en", "de")
COUNTS = {"train": 4_508_785, "valid": 3_000, "test": 3_003}
CLEANING = Cleaning(ratio=1.5, least=1, most=250)
SOURCE = "WMT14"


def load(data_dir: Path | None = None, **options: Any) -> PairDataset:
    """WMT14, or the parallel corpus that is named, from the first place that has it, else the stand-in.

    ``options`` and errors are those of `corpora.load`.
    """
    return corpora.load(Recipe(FOLDER, SOURCE, LANGUAGES, 32_000, CLEANING, _find), data_dir, **options)


def _find(folder: Path, languages: tuple[str, str], download: bool, clean: bool | None) -> Found | str:
    if corpora.has_files(folder, languages):
        parts = corpora.read(folder, languages)
    else:
        try:
            parts = _from_hub(folder, languages, download)
        except hub.HubError as error:
            return (
                f"Tried {folder / 'train.en'}; {error}. For the real text put train, valid and test as .en and .de "
                f"into {folder}, or name the folder that has {FOLDER} (--data or MUTRANSFER_DATA)."
            )
    is_known = corpora.is_known(parts, COUNTS)
    return Found(parts, is_known, cleans=is_known)


def _from_hub(folder: Path, languages: tuple[str, str], download: bool) -> dict[str, Lines]:
    """The three parts, kept in ``folder`` if that can be written. Raises `HubError` with why there are none."""
    if set(languages) != set(LANGUAGES):
        raise hub.HubError(f"{HUB} is asked for English and German only")
    if not download:
        raise hub.HubError("downloading was turned off")
    raw = dict[str, Lines]()
    for part, split in SPLITS.items():
        with contextlib.closing(hub.texts(HUB, CONFIG, split=split, streaming=True, column="translation")) as rows:
            pairs = [[" ".join(row[language].split()) for language in languages] for row in rows]
        raw[part] = [source for source, _ in pairs], [target for _, target in pairs]
    # The training part is the last one: a folder without it counts as empty and is filled again.
    files = {f"{part}.{x}": side for part, lines in raw.items() for x, side in zip(languages, lines, strict=True)}
    keep_all(folder, {name: "".join(f"{line}\n" for line in side) for name, side in files.items()})
    return {part: corpora.tidied(part, lines) for part, lines in raw.items()}


def main(argv: list[str] | None = None) -> int:
    """Fetch, summarise and cut; exit code 2 and one line on stderr for an error of the user's."""
    return corpora.command("Fetch and cut WMT14 English-German, or another parallel corpus.", load, argv)


if __name__ == "__main__":
    sys.exit(main())
