"""Sentences in two languages as tensors of token numbers in memory, and the pieces that both were cut into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mutransfer.data.arrays import ArrayDataset, bytes_of
from mutransfer.data.tokens import SentencePiece
from mutransfer.errors import UserError, unknown

PARTS = ("train", "valid", "test")
BOS, PAD, EOS, UNK = range(4)
"""The first four numbers, as in fairseq's Dictionary: begin of a sentence, padding, its end, unknown character."""
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
LINES = 2_000_000  # that pieces are fitted to, of more every second (third, ...): all would cost memory

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

    def decode(self, tokens: Tensor | np.ndarray | Sequence[int]) -> str:
        """The sentence up to the first `EOS`, without the special tokens (`UNK` is one of them)."""
        numbers = np.asarray(tokens).tolist()
        if EOS in numbers:
            numbers = numbers[: numbers.index(EOS)]
        return self._model.decode([n for n in numbers if n >= len(SPECIALS)])

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
        return self.tokens[int(self.ends[i - 1]) if i else 0 : int(self.ends[i])]

    @cached_property
    def lengths(self) -> Tensor:
        """Tokens of each sentence, without begin and end, int64 [N]."""
        return torch.diff(self.ends, prepend=self.ends.new_zeros(1))


class Pairs(NamedTuple):
    """The sentences of a part in both languages."""

    source: Side
    target: Side


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
        """From sentences; ``source`` gets the tokenizer's name.

        Args:
            languages: of the source and of the target.
            pieces: wanted in both languages together; fewer if the training part has no more.
            cache: a folder in which the finished data set is kept, and opened the next time.

        Raises `UserError` if a part is empty, its sides have not equally many sentences, or one has a line end.
        """
        parts = dict(zip(PARTS, (train, valid, test), strict=True))
        for part, texts in parts.items():
            counts = [len(side) for side in texts]
            if counts[0] != counts[1] or not counts[0]:
                raise UserError(
                    f"the {part} part has {counts[0]:,} sentences in {languages[0]} and {counts[1]:,} in "
                    f"{languages[1]}; expected equally many, and at least one."
                )
            if any("\n" in line for side in texts for line in side):
                raise UserError(f"the {part} part has a sentence with a line end inside; expected one per line.")
        tokenizer = f"joint-bpe-{pieces}"
        source = f"{source}, {tokenizer}"

        def make() -> PairDataset:
            both = [*train[0], *train[1]]
            model = JointPieces.fit(both[:: -(-len(both) // LINES)], pieces)
            content: dict[str, Any] = {"model": bytes_of(model.model), "vocab": model.vocab, "tokenizer": tokenizer}
            content |= {"source_lang": languages[0], "target_lang": languages[1]}
            for part, texts in parts.items():
                for key, lines in zip((f"{part}_source", f"{part}_target"), texts, strict=True):
                    content[key], content[f"{key}_ends"] = map(torch.from_numpy, model.encode_lines(lines))
                    if part != "train":
                        content[f"{key}_text"] = bytes_of("".join(f"{line}\n" for line in lines).encode())
            return cls.made(name, source, is_real=is_real, **content)

        content = [[f"{part} {len(lines)}", *lines] for part, texts in parts.items() for lines in texts]
        head = f"{(name, source, is_real, languages)} {JointPieces.SETTINGS}"
        return cls.prepared(cache, tokenizer, chain([head], *content), make)

    @cached_property
    def pieces(self) -> JointPieces:
        """The pieces that both languages were cut into."""
        return JointPieces(self.model.numpy().tobytes())

    def count(self, part: str) -> int:
        """Pairs of a part."""
        return len(self.pairs(part).source)

    def pairs(self, part: str) -> Pairs:
        """The pairs of "train", "valid" or "test" as tokens."""
        if part not in PARTS:
            raise unknown("part of the corpus", part, PARTS)
        names = (f"{part}_source", f"{part}_target")
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

    def decode(self, tokens: Tensor | np.ndarray | Sequence[int]) -> str:
        """The sentence that the tokens spell, up to the first `EOS`; special tokens (`UNK` too) are left out."""
        return self.pieces.decode(tokens)
