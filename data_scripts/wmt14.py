"""WMT14 English-German (Bojar et al. 2014): find it on disk or download it, clean it and cut it into pieces.

4.5 million sentences of Europarl, Common Crawl and News Commentary with their translation; newstest2013 (3,000 pairs)
for validation, newstest2014 (3,003) for testing. Looked for, in this order:

1. ``--corpus DIR``: any parallel corpus instead, see `corpora`;
2. ``<data>/wmt14/{train,valid,test}.{en,de}``, whatever their size;
3. a download of ``wmt/wmt14`` through the library `datasets`, kept there in these files;
4. the stand-in: synthetic sentences of a small grammar, which are not WMT14 and say so.

Of the training part the pairs of 1 to 250 words a side and a ratio of at most 1.5 are kept, as fairseq's
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
from collections.abc import Mapping
from pathlib import Path

if not __package__:  # run alone: then the path has this folder, not its parent
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from data_scripts import corpora, hub
from data_scripts.parallel import Cleaning, Lines
from data_scripts.places import OTHER_TEXT, data_folder
from mutransfer.data.pairs import PairDataset
from mutransfer.files import keep

FOLDER = "wmt14"
HUB, CONFIG = "wmt/wmt14", "de-en"
SPLITS = {"valid": "validation", "test": "test", "train": "train"}  # the training part last: see `_from_hub`
LANGUAGES = ("en", "de")
COUNTS = {"train": 4_508_785, "valid": 3_000, "test": 3_003}
CLEANING = Cleaning(ratio=1.5, least=1, most=250)
SOURCE = "WMT14"


def load(
    data_dir: Path | None = None,
    *,
    corpus: Path | None = None,
    languages: tuple[str, str] = LANGUAGES,
    pieces: int = 32_000,
    download: bool = True,
    lowercase: bool | None = None,
    clean: bool | None = None,
    names: Mapping[str, str] | None = None,
) -> PairDataset:
    """WMT14, or the parallel corpus that is named, from the first place that has it, else the stand-in.

    Args:
        languages: source and target.
        pieces: of the vocabulary of both languages together; fewer if the text is short.
        lowercase, clean: None stands for what fairseq's recipe does to the whole WMT14, and for nothing elsewhere.
        names: of a ``corpus``: part ("train", "valid", "test") to the NAME of its files.

    Raises `UserError` if a folder that was named does not exist, or a file that should hold real text is missing
    beside the others, cut short or unreadable: the stand-in never hides a broken file.
    """
    corpora.check(languages, pieces, corpus, names)
    if corpus is not None:
        return corpora.from_folder(
            corpus, languages, pieces, names=names, lowercase=bool(lowercase), cleaning=CLEANING if clean else None
        )
    folder = data_folder(data_dir, __file__, FOLDER) / FOLDER
    name, reason = f"{SOURCE} {'-'.join(languages)}", ""
    if corpora.has_files(folder, languages):
        parts = corpora.read(folder, languages)
    else:
        found, reason = _from_hub(folder, languages, download)
        if found is None:
            return corpora.stand_in(
                name,
                languages,
                pieces,
                f"Tried {folder / 'train.en'}; {reason}. For the real text put train, valid and test as .en and .de "
                f"into {folder}, or name the folder that has {FOLDER} (--data or MUTRANSFER_DATA).",
            )
        parts = found
    is_known = corpora.is_known(parts, COUNTS)
    return corpora.dataset(
        FOLDER,
        name if is_known else OTHER_TEXT + name,
        parts,
        languages,
        pieces,
        lowercase=bool(lowercase),
        cleaning=CLEANING if (is_known if clean is None else clean) else None,
        cache=folder / "prepared",
    )


def _from_hub(folder: Path, languages: tuple[str, str], download: bool) -> tuple[dict[str, Lines] | None, str]:
    """The three parts and "", kept in ``folder`` if that can be written; or None and why there are none."""
    if set(languages) != set(LANGUAGES):
        return None, f"{HUB} is asked for English and German only"
    if not download:
        return None, "downloading was turned off"
    raw = dict[str, Lines]()
    try:
        for part, split in SPLITS.items():
            with contextlib.closing(hub.texts(HUB, CONFIG, split=split, streaming=True, column="translation")) as rows:
                source, target = list[str](), list[str]()
                for row in rows:
                    for language, side in zip(languages, (source, target), strict=True):
                        side.append(" ".join(row[language].split()))
            raw[part] = (source, target)
    except hub.HubError as error:
        return None, str(error)
    # The training part is the last one: a folder without it counts as empty and is filled again.
    for part, lines in raw.items():
        for language, side in zip(languages, lines, strict=True):
            if not keep(folder / f"{part}.{language}", "".join(f"{line}\n" for line in side).encode()):
                return _tidied(raw), ""
    return _tidied(raw), ""


def _tidied(raw: dict[str, Lines]) -> dict[str, Lines]:
    return {part: corpora.tidied(part, lines) for part, lines in raw.items()}


def main(argv: list[str] | None = None) -> int:
    """Fetch, summarise and cut; exit code 2 and one line on stderr for an error of the user's."""
    return corpora.command("Fetch and cut WMT14 English-German, or another parallel corpus.", load, argv)


if __name__ == "__main__":
    sys.exit(main())
