"""fairseq's folder of preprocessed text, written from a `PairDataset`.

What ``fairseq-preprocess`` calls its destination: for each language a dictionary ``dict.LANG.txt`` (a line "symbol
count" for each number from 4 on; 0..3 are fairseq's own), and for each part and language a pair of files in its mmap
format. With ``train.de-en.de`` as PREFIX: ``PREFIX.bin`` holds the numbers of all sentences one after the other, each
sentence with `EOS` at its end; ``PREFIX.idx`` says of which type they are and where each sentence lies. All numbers
are little-endian, as on every machine that fairseq runs on.

The pieces of a `PairDataset` have the numbers that fairseq gives them, so that a model trained on one side can be
used on the other. Text and SentencePiece model go along, which fairseq does not look at.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from mutransfer.data.pairs import EOS, PARTS, SPECIALS, PairDataset, Side
from mutransfer.files import write as write_file

MAGIC, VERSION = b"MMIDIDX\x00\x00", 1
TYPES = {8: "<u2", 4: "<i4"}  # by fairseq's codes: two bytes per token below `MOST_SMALL` symbols, else four
MOST_SMALL = 65_500


def write(dataset: PairDataset, folder: Path) -> Path:
    """Write ``dataset`` for fairseq; returns ``folder``, which is made if it is missing.

    Both dictionaries are the same (fairseq's --joined-dictionary), with counts from the training part. Raises
    `UserError` if the folder cannot be written.
    """
    languages = (dataset.source_lang, dataset.target_lang)
    both = np.concatenate([dataset.train_source.numpy(), dataset.train_target.numpy()])
    count = np.bincount(both, minlength=dataset.vocab).tolist()
    lines = [f"{piece} {n}\n" for piece, n in zip(dataset.pieces.pieces(), count, strict=True)]
    for part in PARTS:
        texts = (dataset.sources, dataset.references)
        for language, side, text in zip(languages, dataset.pairs(part), texts, strict=True):
            prefix = f"{part}.{'-'.join(languages)}.{language}"
            index, content = _mmap_format(side, dataset.vocab)
            write_file(folder / f"{prefix}.bin", content)
            write_file(folder / f"{prefix}.idx", index)
            if part != "train":
                write_file(folder / f"{prefix}.txt", "".join(f"{line}\n" for line in text(part)).encode())
    write_file(folder / "sentencepiece.model", dataset.pieces.model)
    # The dictionaries last: fairseq asks for them first, and a folder without them is none.
    for language in languages:
        write_file(folder / f"dict.{language}.txt", "".join(lines[len(SPECIALS) :]).encode())
    return folder


def _mmap_format(side: Side, vocab: int) -> tuple[bytes, bytes]:
    """What ``PREFIX.idx`` and ``PREFIX.bin`` hold, with `EOS` after each sentence."""
    code = 8 if vocab < MOST_SMALL else 4
    content = np.insert(side.tokens.numpy().astype(TYPES[code]), side.ends.numpy(), EOS)
    sizes = side.lengths.numpy() + 1
    pointers = (np.cumsum(sizes) - sizes) * content.itemsize
    header = struct.pack("<9sQBQ", MAGIC, VERSION, code, len(sizes))
    return header + sizes.astype("<i4").tobytes() + pointers.astype("<i8").tobytes(), content.tobytes()
