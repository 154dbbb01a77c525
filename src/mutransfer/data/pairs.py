"""Sentences in two languages as tensors of token numbers in memory, and the pieces that both were cut into."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mutransfer.data.arrays import ArrayDataset, check_ends, check_form, check_range, dtype_of
from mutransfer.data.tokens import SentencePiece
from mutransfer.errors import UserError, unknown

PARTS = ("train", "valid", "test")
SIDES = ("source", "target")
BOS, PAD, EOS, UNK = range(4)
"""The first four numbers, as in fairseq's Dictionary: begin of a sentence, padding, its end, unknown character."""
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
LINES = 2_000_000  # that pieces are fitted to: more change little and cost memory

Texts = tuple[Sequence[str], Sequence[str]]
"""Sentences of a part in both languages: line i of one is the translation of line i of the other."""


class JointPieces(SentencePiece):
    """Byte-pair encoding fitted to both sides of a parallel text; the same lines give the same pieces.

    Unlike its parent it normalises as SentencePiece does by default (NFKC, runs of white space made one space, a space
    before the first word), has no piece for the end of a line and no bytes: a character that was too rare in the
    training text is `UNK`.
    """

    SETTINGS: ClassVar[dict[str, Any]] = {
        "model_type": "bpe",  # counts whole numbers: the pieces do not depend on the order of a float sum
        "normalization_rule_name": "nmt_nfkc",
        "character_coverage": 0.99999,  # all letters of both languages; of web text not every stray sign
        "max_sentence_length": 1 << 24,  # bytes
        "hard_vocab_limit": False,  # a short text has fewer pieces
        "bos_id": BOS,
        "pad_id": PAD,
        "eos_id": EOS,
        "unk_id": UNK,
        "num_threads": 1,
        "minloglevel": 2,
    }

    def __init__(self, name: str, model: bytes) -> None:
        """``model``: a serialised SentencePiece model. Raises `UserError` if it is none, or has other numbers."""
        super().__init__(name, model)
        self.model = model
        if (first := tuple(self.pieces()[: len(SPECIALS)])) != SPECIALS:
            raise UserError(f"{name}: the pieces begin with {first}; expected {SPECIALS}.")

    @classmethod
    def fit_lines(cls, lines: Sequence[str], size: int) -> JointPieces:
        """``size`` pieces (fewer if the lines have no more); of more than `LINES` lines, every second (third, ...)."""
        step = -(-len(lines) // LINES)
        return cls(f"joint-bpe-{size}", cls._fit("\n".join(lines[:: max(step, 1)]), size))

    def encode(self, text: str) -> np.ndarray:
        """One sentence, without begin and end: uint8 or int32 [N]."""
        return self.encode_lines([text])[0]

    def decode(self, tokens: np.ndarray) -> str:
        """The sentence up to the first `EOS`, without the special tokens (`UNK` is one of them)."""
        numbers = np.asarray(tokens).tolist()
        if EOS in numbers:
            numbers = numbers[: numbers.index(EOS)]
        return self._model.decode([n for n in numbers if n >= len(SPECIALS)])

    def normalize(self, text: str) -> str:
        """``text`` as it comes back from `encode` and `decode` where no character is unknown."""
        return self._model.normalize(text).replace("\N{LOWER ONE EIGHTH BLOCK}", " ").strip(" ")

    def pieces(self) -> list[str]:
        """All pieces, each at its number."""
        return self._model.id_to_piece(list(range(self.vocab)))


@dataclass(frozen=True, eq=False)
class Side:
    """One language of a part: its sentences one after the other [tokens], and where each ends, int64 [N]."""

    tokens: Tensor
    ends: Tensor

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> Tensor:
        """Sentence ``i``, a view."""
        if not 0 <= i < len(self.ends):
            raise IndexError(f"sentence {i} of {len(self.ends)}")
        return self.tokens[int(self.ends[i - 1]) if i else 0 : int(self.ends[i])]

    @cached_property
    def starts(self) -> Tensor:
        """Where each sentence begins, int64 [N]."""
        return self.ends - self.lengths

    @cached_property
    def lengths(self) -> Tensor:
        """Tokens of each sentence, without begin and end, int64 [N]."""
        return torch.diff(self.ends, prepend=self.ends.new_zeros(1))


@dataclass(frozen=True, eq=False)
class Pairs:
    """The pairs of a part: ``pairs[i]`` is (tokens of the source, tokens of the target), views."""

    source: Side
    target: Side

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.source[i], self.target[i]


@dataclass(frozen=True, eq=False, repr=False)
class PairDataset(ArrayDataset):
    """Sentences and their translations in the parts "train", "valid" and "test".

    Of each part and side the token numbers without begin and end (`UNK`..vocab-1; uint8 where vocab <= 256, else
    int32) one after the other, and where each sentence ends; of the parts "valid" and "test" also the text (UTF-8, each
    sentence with a line end), for BLEU; and the SentencePiece model with which both languages were cut into pieces.
    """

    vocab: int  # of both languages together, with the four special numbers
    tokenizer: str  # "joint-bpe-10000"
    source_lang: str  # "de"
    target_lang: str  # "en"
    train_source: Tensor
    train_target: Tensor
    valid_source: Tensor
    valid_target: Tensor
    test_source: Tensor
    test_target: Tensor
    train_source_ends: Tensor
    train_target_ends: Tensor
    valid_source_ends: Tensor
    valid_target_ends: Tensor
    test_source_ends: Tensor
    test_target_ends: Tensor
    valid_source_text: Tensor
    valid_target_text: Tensor
    test_source_text: Tensor
    test_target_text: Tensor
    model: Tensor

    def __post_init__(self) -> None:
        counts: dict[str, set[int]] = {part: set() for part in PARTS}
        for name, tensor in self.tensors().items():
            part, _, kind = name.partition("_")
            if kind in SIDES:
                check_form(name, tensor, dtype_of(self.vocab), least=1)
                check_range(name, tensor, UNK, self.vocab - 1)
            elif kind.endswith("ends"):
                check_form(name, tensor, np.int64, least=1)
                check_ends(name, tensor, len(getattr(self, name.removesuffix("_ends"))))
                counts[part].add(len(tensor))
            else:
                check_form(name, tensor, np.uint8, least=1)
                if name != "model":
                    counts[part].add(int((tensor == ord("\n")).sum()))
        for part, different in counts.items():
            if len(different) > 1:
                raise ValueError(f"{part}: expected equally many sentences everywhere, got {sorted(different)}")

    def __repr__(self) -> str:
        counts = ", ".join(f"{part}={self.count(part)}" for part in PARTS)
        languages = f"{self.source_lang}-{self.target_lang}, vocab={self.vocab}"
        return f"PairDataset({self.name!r}, {self.source!r}, {languages}, {counts}, fingerprint={self.fingerprint})"

    def _head(self) -> str:
        return f"{self.vocab} {self.tokenizer} {self.source_lang} {self.target_lang}\n"

    @classmethod
    def from_texts(
        cls,
        name: str,
        source: str,
        *,
        is_real: bool,
        languages: tuple[str, str],
        train: Texts,
        valid: Texts,
        test: Texts,
        pieces: int,
        cache: Path | None = None,
    ) -> PairDataset:
        """From sentences without line ends; ``source`` gets the tokenizer's name.

        Args:
            languages: of the source and of the target.
            pieces: wanted in both languages together; fewer if the training part has no more.
            cache: a folder in which the finished data set is kept, and opened the next time.

        Raises `UserError` if a part is empty, or its sides have not equally many sentences.
        """
        parts = dict(zip(PARTS, (train, valid, test), strict=True))
        for part, texts in parts.items():
            counts = [len(side) for side in texts]
            if counts[0] != counts[1] or not counts[0]:
                raise UserError(
                    f"the {part} part has {counts[0]:,} sentences in {languages[0]} and {counts[1]:,} in "
                    f"{languages[1]}; expected equally many, and at least one."
                )
        tokenizer = f"joint-bpe-{pieces}"
        source = f"{source}, {tokenizer}"

        def make() -> PairDataset:
            model = JointPieces.fit_lines([*train[0], *train[1]], pieces)
            content: dict[str, Any] = {"model": _bytes(model.model)}
            for part, texts in parts.items():
                for side, lines in zip(SIDES, texts, strict=True):
                    key = f"{part}_{side}"
                    content[key], content[f"{key}_ends"] = map(torch.from_numpy, model.encode_lines(lines))
                    if part != "train":
                        content[f"{key}_text"] = _bytes("".join(f"{line}\n" for line in lines).encode())
            content |= {"vocab": model.vocab, "tokenizer": tokenizer}
            content |= {"source_lang": languages[0], "target_lang": languages[1]}
            return cls.made(name, source, is_real=is_real, **content)

        mark = "" if cache is None else _mark((name, source, is_real, languages), parts)
        return cls.prepared(None if cache is None else cache / f"{tokenizer}-{mark}", make)

    @cached_property
    def pieces(self) -> JointPieces:
        """The pieces that both languages were cut into."""
        return JointPieces(self.tokenizer, self.model.numpy().tobytes())

    def count(self, part: str) -> int:
        """Pairs of a part."""
        return len(self.pairs(part))

    def pairs(self, part: str) -> Pairs:
        """The pairs of "train", "valid" or "test" as tokens."""
        if part not in PARTS:
            raise unknown("part of the corpus", part, PARTS)
        names = [f"{part}_{side}" for side in SIDES]
        return Pairs(*(Side(getattr(self, name), getattr(self, f"{name}_ends")) for name in names))

    def sources(self, part: str) -> list[str]:
        """The sentences to translate; of the training part what its tokens spell."""
        return self._sentences(part, "source")

    def references(self, part: str) -> list[str]:
        """Their translations; of the training part what its tokens spell."""
        return self._sentences(part, "target")

    def _sentences(self, part: str, side: str) -> list[str]:
        pairs = self.pairs(part)
        if part == "train":
            return [self.decode(tokens) for tokens in getattr(pairs, side)]
        text: Tensor = getattr(self, f"{part}_{side}_text")
        return text.numpy().tobytes().decode().split("\n")[:-1]

    def encode(self, sentence: str) -> Tensor:
        """The tokens of a sentence in either language, without begin and end."""
        return torch.from_numpy(self.pieces.encode(sentence))

    def decode(self, tokens: Tensor | np.ndarray | Sequence[int]) -> str:
        """The sentence that the tokens spell, up to the first `EOS`; special tokens (`UNK` too) are left out."""
        return self.pieces.decode(np.asarray(tokens))


def _bytes(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, np.uint8).copy())


def _mark(head: tuple[object, ...], parts: Mapping[str, Texts]) -> str:
    """Of everything that decides what a data set becomes."""
    digest = hashlib.sha256(f"{head} {JointPieces.SETTINGS}\n".encode())
    for part, texts in parts.items():
        for lines in texts:
            digest.update(f"{part} {len(lines)}\n".encode())
            for line in lines:
                digest.update(f"{line}\n".encode())
    return digest.hexdigest()[:16]
