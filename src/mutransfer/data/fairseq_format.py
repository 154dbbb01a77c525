"""fairseq's folder of preprocessed text: written from a `PairDataset`, and read from whoever wrote it.

What ``fairseq-preprocess`` calls its destination: for each language a dictionary ``dict.LANG.txt`` (a line "symbol
count" for each number from 4 on; 0..3 are fairseq's own), and for each part and language a pair of files in its mmap
format. With ``train.de-en.de`` as PREFIX: ``PREFIX.bin`` holds the numbers of all sentences one after the other, each
sentence with `EOS` at its end; ``PREFIX.idx`` says of which type they are and where each sentence lies. All numbers
are little-endian, as on every machine that fairseq runs on.

The pieces of a `PairDataset` have the numbers that fairseq gives them, so that a model trained on one side can be
used on the other. The text and the SentencePiece model go along as ``PART.SOURCE-TARGET.LANG.txt`` and
``sentencepiece.model``; fairseq does not look at them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mutransfer.data.pairs import EOS, PARTS, SPECIALS, PairDataset, Pairs, Side
from mutransfer.errors import UserError, unknown
from mutransfer.files import write as write_file

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
HEADER = struct.Struct("<9sQBQ")  # magic, version, code of the type, number of sentences
TYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2", 9: "<u4", 10: "<u8"}
SMALL, LARGE = 8, 4  # the codes that are written: two bytes per token up to `MOST_SMALL` symbols, else four
MOST_SMALL = 65_500


@dataclass(frozen=True, eq=False)
class FairseqFolder:
    """A folder of preprocessed text. Sentences are without their `EOS`."""

    languages: tuple[str, str]  # source, target
    dictionaries: dict[str, list[str]]  # by language: the symbol of each number, the four of fairseq's own too
    parts: dict[str, Pairs]  # those of "train", "valid", "test" that are there

    def sentence(self, language: str, tokens: Sequence[int] | Tensor) -> str:
        """The symbols with spaces between them: whoever wrote them knows how to put them together."""
        if language not in self.dictionaries:
            raise unknown("language", language, self.dictionaries)
        return " ".join(self.dictionaries[language][int(number)] for number in tokens)


def write(dataset: PairDataset, folder: Path) -> Path:
    """Write ``dataset`` for fairseq; returns ``folder``, which is made if it is missing.

    Both dictionaries are the same (fairseq's --joined-dictionary), with counts from the training part. Raises
    `UserError` if the folder cannot be written.
    """
    languages = (dataset.source_lang, dataset.target_lang)
    train = dataset.pairs("train")
    both = np.concatenate([train.source.tokens.numpy(), train.target.tokens.numpy()])
    count = np.bincount(both, minlength=dataset.vocab).tolist()
    lines = [f"{piece} {n}\n" for piece, n in zip(dataset.pieces.pieces(), count, strict=True)]
    dictionary = "".join(lines[len(SPECIALS) :]).encode()
    for part in PARTS:
        pairs, texts = dataset.pairs(part), (dataset.sources, dataset.references)
        for language, side, text in zip(languages, (pairs.source, pairs.target), texts, strict=True):
            prefix = folder / f"{part}.{'-'.join(languages)}.{language}"
            _write_side(prefix, side, dataset.vocab)
            if part != "train":
                write_file(_path(prefix, ".txt"), "".join(f"{line}\n" for line in text(part)).encode())
    write_file(folder / "sentencepiece.model", dataset.pieces.model)
    # The dictionaries last: fairseq asks for them first, and a folder without them is none.
    for language in languages:
        write_file(folder / f"dict.{language}.txt", dictionary)
    return folder


def read(folder: Path, languages: tuple[str, str] | None = None) -> FairseqFolder:
    """What fairseq-preprocess or `write` put into ``folder``.

    Args:
        languages: source and target; by default those of the files ``train.SOURCE-TARGET.SOURCE.idx``.

    Raises `UserError` if the folder has no such files, or one is missing, cut short or not what it should be.
    """
    pair = _languages(folder) if languages is None else languages
    dictionaries = {language: _read_dictionary(folder / f"dict.{language}.txt") for language in pair}
    parts = {}
    for part in PARTS:
        prefixes = [folder / f"{part}.{'-'.join(pair)}.{language}" for language in pair]
        if part != "train" and not any(_path(prefix, ".idx").exists() for prefix in prefixes):
            continue
        source, target = (_read_side(x, len(dictionaries[lang])) for x, lang in zip(prefixes, pair, strict=True))
        if len(source) != len(target):
            raise UserError(
                f"{folder}: part {part} has {len(source):,} sentences in {pair[0]} and {len(target):,} in {pair[1]}; "
                "run fairseq-preprocess again."
            )
        parts[part] = Pairs(source, target)
    return FairseqFolder(pair, dictionaries, parts)


def _path(prefix: Path, ending: str) -> Path:
    return prefix.with_name(prefix.name + ending)


def _languages(folder: Path) -> tuple[str, str]:
    """The languages of the one training part that ``folder`` has."""
    pairs = set()
    for path in folder.glob("train.*-*.*.idx"):
        _, pair, language, _ = path.name.split(".")
        source, _, target = pair.partition("-")
        if language in (source, target):
            pairs.add((source, target))
    if len(pairs) != 1:
        has = ", ".join("-".join(pair) for pair in sorted(pairs)) or "none"
        raise UserError(f"{folder}: expected train.SOURCE-TARGET.LANG.idx of one pair of languages, found {has}.")
    return pairs.pop()


def _write_side(prefix: Path, side: Side, vocab: int) -> None:
    """``PREFIX.bin`` and ``PREFIX.idx``, with `EOS` after each sentence."""
    code = SMALL if vocab < MOST_SMALL else LARGE
    content = np.insert(side.tokens.numpy().astype(TYPES[code]), side.ends.numpy(), EOS)
    sizes = side.lengths.numpy() + 1
    pointers = (np.cumsum(sizes) - sizes) * content.itemsize
    header = HEADER.pack(MAGIC, VERSION, code, len(sizes))
    write_file(_path(prefix, ".bin"), content.tobytes())
    write_file(_path(prefix, ".idx"), header + sizes.astype("<i4").tobytes() + pointers.astype("<i8").tobytes())


def _read_side(prefix: Path, vocab: int) -> Side:
    """The sentences of ``PREFIX.bin`` without their `EOS`, int32."""
    index, content = (_path(prefix, ending) for ending in (".idx", ".bin"))
    try:
        raw, data = index.read_bytes(), content.read_bytes()
        magic, version, code, n = HEADER.unpack_from(raw)
        if magic != MAGIC or version != VERSION or code not in TYPES:
            raise ValueError(f"begins with {magic!r}, version {version}, type {code}; expected {MAGIC!r}, {VERSION}")
        if len(raw) != HEADER.size + 12 * n:
            raise ValueError(f"has {len(raw):,} bytes; expected {HEADER.size + 12 * n:,} of {n:,} sentences")
        sizes = np.frombuffer(raw, "<i4", n, HEADER.size).astype(np.int64)
        pointers = np.frombuffer(raw, "<i8", n, HEADER.size + 4 * n)
        kind = np.dtype(TYPES[code])
        if not np.array_equal(pointers, (np.cumsum(sizes) - sizes) * kind.itemsize) or (sizes < 1).any():
            raise ValueError("has sentences that are empty or do not follow one another")
        if len(data) != sizes.sum() * kind.itemsize:
            raise ValueError(f"{content.name} has {len(data):,} bytes; expected {sizes.sum() * kind.itemsize:,}")
        tokens = np.frombuffer(data, kind).astype(np.int64)
        last = np.cumsum(sizes) - 1
        if (tokens[last] != EOS).any():
            raise ValueError(f"has a sentence without {SPECIALS[EOS]} ({EOS}) at its end")
        if tokens.size and (tokens.min() < 0 or tokens.max() >= vocab):
            raise ValueError(f"has numbers {tokens.min()}..{tokens.max()}; expected 0..{vocab - 1} of its dictionary")
    except (OSError, struct.error, ValueError) as error:
        raise UserError(f"{index} cannot be read as fairseq's mmap format ({error}); preprocess again.") from error
    return Side(torch.from_numpy(np.delete(tokens, last).astype(np.int32)), torch.from_numpy(np.cumsum(sizes - 1)))


def _read_dictionary(path: Path) -> list[str]:
    """The symbols of a dictionary, fairseq's own first."""
    symbols = [*SPECIALS]
    try:
        for line in path.read_text(encoding="utf-8").removesuffix("\n").split("\n"):
            symbol, _, count = line.rpartition(" ")
            if not symbol or not count.isdigit():
                raise ValueError(f"expected a line 'symbol count', got {line!r}")
            symbols.append(symbol)
        if len(set(symbols)) < len(symbols):
            raise ValueError("a symbol stands in it twice, or is one of fairseq's own")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as fairseq's dictionary ({error}); preprocess again.") from error
    return symbols
