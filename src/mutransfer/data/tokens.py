"""A text as token numbers in memory, and the tokenizers that make them: bytes, words, SentencePiece's pieces."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from mutransfer.data.arrays import ArrayDataset, dtype_of, joined
from mutransfer.errors import UserError, unknown

PARTS = ("train", "test")
NAMES = ("bytes", "words", "sentencepiece-8000")  # sentencepiece-N for any other N is valid too
EOS, UNK = "<eos>", "<unk>"
LEAST = 3  # times a word stands in the training text: WikiText's own rule (Merity et al. 2016, section 4.3)
_LINES = 10_000  # encoded at once: bounds memory, changes no token


@dataclass(frozen=True, eq=False, repr=False)
class TokenDataset(ArrayDataset):
    """Token numbers 0..vocab-1 of a training [N] and a test text [M]: uint8 where vocab <= 256, else int32.

    They stay that small in memory: a batch is turned into int64 when it is cut out.
    """

    vocab: int  # number of different tokens, seen in the text or not
    tokenizer: str  # "bytes", "words", "sentencepiece-8000"
    train_tokens: Tensor
    test_tokens: Tensor

    def _head(self) -> str:
        return f"{self.vocab} {self.tokenizer}\n"

    @classmethod
    def from_arrays(
        cls, name: str, source: str, *, is_real: bool, vocab: int, tokenizer: str, train: np.ndarray, test: np.ndarray
    ) -> TokenDataset:
        """From token numbers [N] and [M] of any integer type. Raises ValueError for others, or outside 0..vocab-1."""
        content: dict[str, Any] = {"vocab": vocab, "tokenizer": tokenizer}
        for key, array in (("train_tokens", train), ("test_tokens", test)):
            is_form = array.ndim == 1 and array.dtype.kind in "ui"
            if not is_form or (array.size and not 0 <= array.min() <= array.max() < vocab):
                raise ValueError(f"{key}: expected integers [N] in 0..{vocab - 1}, got {array.dtype} {[*array.shape]}")
            content[key] = torch.from_numpy(array.astype(dtype_of(vocab)))
        return cls.made(name, source, is_real=is_real, **content)

    def windows(self, part: str, length: int) -> Tensor:
        """[n, length + 1]: consecutive windows of ``part`` ("train" or "test"), a view of its tokens, no copy.

        The last token of a window is the first of the next: with inputs ``[:, :-1]`` and targets ``[:, 1:]`` each token
        but the first is the target once; what fills no window is left out. Raises `UserError` if there is none.
        """
        if part not in PARTS:
            raise unknown("part of the text", part, PARTS)
        tokens: Tensor = getattr(self, f"{part}_tokens")
        if not 1 <= length < len(tokens):
            raise UserError(
                f"length {length} is no window of the {part} part of {self.name}, which has {len(tokens)} tokens; take "
                f"a length of 1 to {max(len(tokens) - 1, 0)} or a longer text."
            )
        return tokens.unfold(0, length + 1, length)


def frequent_words(text: str) -> list[str]:
    """<eos>, <unk>, and what ``text`` has `LEAST` times or more: the frequent first, then in order of appearance."""
    counts = Counter(split_words(text))
    return list(dict.fromkeys([EOS, UNK, *(word for word, count in counts.most_common() if count >= LEAST)]))


def split_words(text: str) -> list[str]:
    """The words of ``text`` with <eos> at the end of each line."""
    return (text if text.endswith("\n") or not text else text + "\n").replace("\n", f" {EOS} ").split()


def numbers_of(name: str, vocabulary: Sequence[str], special: Sequence[str]) -> dict[str, int]:
    """The number of each entry of a vocabulary.

    Raises `UserError` if it lacks one that is ``special``, has an entry twice, an empty one or one with white space.
    """
    numbers = {entry: i for i, entry in enumerate(vocabulary)}
    if missing := [entry for entry in special if entry not in numbers]:
        has = f"{name} of {len(vocabulary):,} entries lacks {missing[0]}"
        raise UserError(f"{has}; expected {' '.join(special)} in it, each on its line.")
    for entry, count in Counter(vocabulary).items():
        if count > 1 or entry.split() != [entry]:
            raise UserError(f"{name} has {entry!r} {count} times; expected each entry once, and none with white space.")
    return numbers


class SentencePiece:
    """Pieces of words (byte-pair encoding), fitted to the training text; the same text gives the same pieces.

    Text is taken as it is, not normalised: line ends are a piece of their own and what no piece spells is spelt in
    bytes, so that all text comes back but for the character U+2581, SentencePiece's own mark of a space.
    """

    # BPE counts whole numbers: unlike the unigram model's, its pieces do not depend on the order of a float sum.
    SETTINGS: ClassVar[dict[str, Any]] = {
        "model_type": "bpe",
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "add_dummy_prefix": False,
        "user_defined_symbols": ["\n"],
        "byte_fallback": True,
        "character_coverage": 0.9999,
        "max_sentence_length": 1 << 24,  # bytes: the default leaves out paragraphs longer than 4192
        "hard_vocab_limit": False,  # a short text has fewer pieces
        "bos_id": -1,
        "eos_id": -1,
        "pad_id": -1,
        "num_threads": 1,
        "minloglevel": 2,
    }

    def __init__(self, model: bytes) -> None:
        """``model``: a serialised SentencePiece model."""
        from sentencepiece import SentencePieceProcessor

        self.model = model
        self._model = SentencePieceProcessor(model_proto=model)
        self.vocab: int = self._model.vocab_size()

    @classmethod
    def fit(cls, lines: Iterable[str], size: int) -> Self:
        """``size`` pieces; fewer if the lines have no more. Raises `UserError` if there cannot be so few."""
        from sentencepiece import SentencePieceTrainer

        model = io.BytesIO()
        try:
            SentencePieceTrainer.train(
                sentence_iterator=filter(None, lines), model_writer=model, vocab_size=size, **cls.SETTINGS
            )
        except RuntimeError as error:
            raise UserError(
                f"SentencePiece cannot make {size} pieces of this text ({' '.join(str(error).split())}); "
                "take another number of pieces or a longer text."
            ) from error
        return cls(model.getvalue())

    def encode(self, text: str) -> np.ndarray:
        """uint8 or int32 [N]."""
        *whole, last = text.split("\n")
        return self.encode_lines([*(line + "\n" for line in whole), last])[0]

    def encode_lines(self, lines: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """All lines one after the other, uint8 or int32 [tokens], and where each ends, int64 [lines]."""
        blocks = (list(lines[start : start + _LINES]) for start in range(0, len(lines), _LINES))
        return joined(chain.from_iterable(map(self._model.encode, blocks)), self.vocab)


def pieces_of(name: str) -> int | None:
    """The N of "sentencepiece-N"; None for the other tokenizers. Raises `UserError` if ``name`` is none."""
    if match := re.fullmatch(r"sentencepiece-([1-9]\d{1,6})", name):
        return int(match[1])
    if name not in NAMES:
        raise unknown("tokenizer", name, NAMES)
    return None


def tokenize(
    name: str,
    source: str,
    tokenizer: str,
    *,
    is_real: bool,
    train: str,
    test: str,
    vocabulary: Sequence[str] | None = None,
    cache: Path | None = None,
) -> TokenDataset:
    """The texts ``train`` and ``test`` as a data set; ``source`` gets the tokenizer's name.

    Args:
        tokenizer: "bytes", "words" or "sentencepiece-N", fitted to the training text.
        vocabulary: of "words"; by default it is made from the text.
        cache: a folder in which the text as "sentencepiece-N" is kept, and opened the next time.

    Raises `UserError` if there is no tokenizer of this name.
    """
    size, source = pieces_of(tokenizer), f"{source}, {tokenizer}"

    def make() -> TokenDataset:
        if size is not None:
            pieces = SentencePiece.fit(train.split("\n"), size)
            vocab, arrays = pieces.vocab, [pieces.encode(text) for text in (train, test)]
        elif tokenizer == "bytes":
            vocab, arrays = 256, [np.frombuffer(text.encode(), np.uint8) for text in (train, test)]
        else:
            number = numbers_of("the vocabulary", vocabulary or frequent_words(train), (EOS, UNK))
            numbers = ([number.get(word, number[UNK]) for word in split_words(text)] for text in (train, test))
            vocab, arrays = len(number), [np.array(some, np.int64) for some in numbers]
        return TokenDataset.from_arrays(
            name, source, is_real=is_real, vocab=vocab, tokenizer=tokenizer, train=arrays[0], test=arrays[1]
        )

    content = [f"{(name, source, is_real)} {SentencePiece.SETTINGS}", train, test]
    return TokenDataset.prepared(cache if size else None, tokenizer, content, make)
