"""IWSLT14 German-English (Cettolo et al. 2014): find it on disk or download it, clean and split it as fairseq does.

160,000 sentences of TED talks with their translation. Looked for, in this order:

1. ``--corpus DIR``: any parallel corpus instead, see `corpora`;
2. ``<data>/iwslt14/{train,valid,test}.{de,en}``, which somebody prepared: taken as they are, see `corpora`;
3. ``<data>/iwslt14/de-en/``, WIT3's archive unpacked (fairseq's ``orig/de-en``);
4. ``<data>/iwslt14/de-en.tgz``, WIT3's archive, verified by its md5;
5. a download of it from where fairseq keeps it (WIT3's own address is gone), verified likewise, kept there;
6. the stand-in: synthetic sentences of a small grammar, which are not IWSLT14 and say so.

Cleaned and split as fairseq's examples/translation/prepare-iwslt14.sh: of the training file without the lines of
addresses, keywords and talk numbers, and without the tags of title and description, the pairs of 1 to 175 words on
each side and a ratio of at most 1.5; every 23rd of them is in the validation part; the test part is dev2010, dev2012,
tst2010, tst2011 and tst2012 (6,750 pairs); all in lower case (``lowercase=False``, --no-lowercase: as it is written;
the texts for BLEU follow). Different from there: words are counted without Moses' tokenizer, so that a few pairs more
or fewer may be left (fairseq: 160,239 and 7,283 for validation); text is not tokenized before it is cut into pieces;
the pieces are SentencePiece's; the XML's escapes are undone.

Neither WIT3 nor fairseq publishes a checksum; the md5 is the one that a public run of the recipe recorded. An archive
that differs from it is not opened; one that you trust is read after you unpacked it (3).

``<data>`` is ``--data``, else ``$MUTRANSFER_DATA``, else ``data/`` at the root of the repository. Alone:

    python data_scripts/iwslt14.py [--data DIR] [--corpus DIR] [--pieces N] [--binary DIR]
"""

from __future__ import annotations

import html
import io
import os
import re
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not __package__:  # run alone: then the path has this folder, not its parent
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from data_scripts import corpora, parallel
from data_scripts import download as web
from data_scripts.corpora import Found, Recipe
from data_scripts.parallel import Cleaning, Lines
from data_scripts.places import MENDING, read_text
from mutransfer.errors import UserError
from mutransfer.files import keep

if TYPE_CHECKING:
    from mutransfer.data.pairs import PairDataset

FOLDER, UNPACKED, ARCHIVE = "iwslt14", "de-en", "de-en.tgz"
URL = "https://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz"
CHECKSUM = "md5:10936dfdf616504ddbd844e91b94ef4a"
MOST_BYTES = 100_000_000  # five times the archive; and what a file in it may have unpacked
LANGUAGES = ("de", "en")
TRAIN = "train.tags.de-en.{}"
TESTS = [
    f"IWSLT14.{name}.de-en.{{}}.xml"
    for name in ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")
]
COUNTS = {"train": 160_239, "valid": 7_283, "test": 6_750}
VALID_EVERY = 23
CLEANING = Cleaning(ratio=1.5, least=1, most=175)
SOURCE = "IWSLT14"
_LEFT_OUT = ("<url>", "<talkid>", "<keywords>")
_TAGS = re.compile("</?(?:title|description)>")
_SEGMENT = re.compile(r'<seg id="[0-9]*">\s*(.*?)\s*</seg>')


def load(data_dir: Path | None = None, **options: Any) -> PairDataset:
    """IWSLT14, or the parallel corpus that is named, from the first place that has it, else the stand-in.

    ``options`` and errors are those of `corpora.load`.
    """
    return corpora.load(Recipe(FOLDER, SOURCE, LANGUAGES, 10_000, CLEANING, _find), data_dir, **options)


def _find(folder: Path, languages: tuple[str, str], download: bool, clean: bool | None) -> Found | str:
    if corpora.has_files(folder, languages):
        parts = corpora.read(folder, languages)
        return Found(parts, corpora.is_known(parts, COUNTS))
    try:
        if set(languages) != set(LANGUAGES):
            raise web.DownloadError("WIT3's archive has only German and English")
        read_file = _archive(folder, download)
    except web.DownloadError as error:
        return (
            f"Tried {folder / 'train.de'}, {folder / UNPACKED}, {folder / ARCHIVE}; {error}. For the real text put "
            f"{ARCHIVE} into {folder}, or name the folder that has {FOLDER} (--data or MUTRANSFER_DATA)."
        )
    parts = _parts(read_file, languages, CLEANING if clean is not False else None)
    return Found(parts, len(parts["test"][0]) == COUNTS["test"], lowers=True, is_cleaned=True)


def _archive(folder: Path, download: bool) -> Callable[[str], str]:
    """A function from the name of a file of WIT3's archive to its text. Raises `DownloadError` if it is not here."""
    unpacked, archive = folder / UNPACKED, folder / ARCHIVE
    if os.path.lexists(unpacked):
        return lambda name: read_text(unpacked / name)[0]
    if not os.path.lexists(archive):
        if not download:
            raise web.DownloadError("downloading was turned off")
        raw = web.fetch(URL, CHECKSUM, MOST_BYTES)
        keep(archive, raw)
        return _unpacked(raw, archive)
    try:
        raw = archive.read_bytes()
    except OSError as error:
        raise UserError(f"{archive} cannot be read ({error}); {MENDING}") from error
    if difference := web.differs(raw, CHECKSUM):
        raise UserError(
            f"{archive} is not the known archive: {difference}; {MENDING} If you trust it, unpack it beside itself."
        )
    return _unpacked(raw, archive)


def _unpacked(raw: bytes, archive: Path) -> Callable[[str], str]:
    """The files of an archive, read in memory: nothing is written where its names say."""

    def read_file(name: str) -> str:
        try:
            with tarfile.open(fileobj=io.BytesIO(raw), mode="r:gz") as tar:
                member = tar.getmember(f"{UNPACKED}/{name}")
                file = tar.extractfile(member) if member.isfile() and member.size <= MOST_BYTES else None
                if file is None:
                    raise ValueError("it is no file, or too large")
                return file.read().decode()
        except (tarfile.TarError, KeyError, EOFError, OSError, ValueError) as error:
            raise UserError(f"{archive} has no readable {name} ({error}); {MENDING}") from error

    return read_file


def _parts(read_file: Callable[[str], str], languages: tuple[str, str], cleaning: Cleaning | None) -> dict[str, Lines]:
    """The three parts of WIT3's archive by fairseq's recipe, but for its tokenizer and the lower case."""
    train = _both(read_file, TRAIN, languages, _training_lines)
    train = parallel.without_empty(train)
    if cleaning:
        train = parallel.clean(train, cleaning)
    train, valid = parallel.split_every(train, VALID_EVERY)
    tests = [_both(read_file, name, languages, _segments) for name in TESTS]
    test = ([line for lines in tests for line in lines[0]], [line for lines in tests for line in lines[1]])
    return {"train": train, "valid": valid, "test": test}


def _both(
    read_file: Callable[[str], str], name: str, languages: tuple[str, str], lines_of: Callable[[str], list[str]]
) -> Lines:
    """The lines of a file in both languages. Raises `UserError` unless they are equally many."""
    source, target = (
        [parallel.tidy(line) for line in lines_of(read_file(name.format(language)))] for language in languages
    )
    if len(source) != len(target) or not source:
        counts = f"{len(source):,} sentences in {languages[0]}, {len(target):,} in {languages[1]}"
        raise UserError(f"IWSLT14's {name.format('*')} has {counts}; expected equally many; {MENDING}")
    return source, target


def _training_lines(text: str) -> list[str]:
    """The sentences of a file train.tags, among them titles and descriptions of the talks."""
    lines = text.removesuffix("\n").split("\n")
    return [_TAGS.sub("", line) for line in lines if not any(tag in line for tag in _LEFT_OUT)]


def _segments(text: str) -> list[str]:
    """The sentences of a file of the development and test sets; its curly apostrophes made straight, as there."""
    return [
        html.unescape(match[1]).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'") for match in _SEGMENT.finditer(text)
    ]


def main(argv: list[str] | None = None) -> int:
    """Fetch, verify and summarise; exit code 2 and one line on stderr for an error of the user's."""
    return corpora.command("Fetch, verify and cut IWSLT14 German-English, or another parallel corpus.", load, argv)


if __name__ == "__main__":
    sys.exit(main())
