"""Pieces of words that two languages share: one SentencePiece model, with the special numbers of fairseq."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, ClassVar

import numpy as np

from mutransfer.data.tokenizers import _LINES, SentencePiece
from mutransfer.data.tokens import dtype_of
from mutransfer.errors import UserError

BOS, PAD, EOS, UNK = range(4)
"""The first four numbers, as in fairseq's Dictionary: begin of a sentence, padding, its end, unknown character."""
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
LINES = 2_000_000  # that pieces are fitted to: more change little and cost memory


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
        if (found := tuple(self.pieces()[: len(SPECIALS)])) != SPECIALS:
            raise UserError(f"{name}: the pieces begin with {found}; expected {SPECIALS}.")

    @classmethod
    def fit_lines(cls, lines: Sequence[str], size: int) -> JointPieces:
        """``size`` pieces (fewer if the lines have no more); of more than `LINES` lines, every second (third, ...)."""
        step = -(-len(lines) // LINES)
        return cls(f"joint-bpe-{size}", cls._fit("\n".join(lines[:: max(step, 1)]), size))

    def encode(self, text: str) -> np.ndarray:
        """One sentence, without begin and end: uint8 or int32 [N]."""
        return np.array(self._model.encode(text), dtype_of(self.vocab))

    def encode_lines(self, lines: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """All sentences one after the other, uint8 or int32 [tokens], and where each ends, int64 [lines]."""
        parts, lengths = [np.empty(0, dtype_of(self.vocab))], list[int]()
        for start in range(0, len(lines), _LINES):
            found = self._model.encode(list(lines[start : start + _LINES]))
            lengths += map(len, found)
            parts.append(np.fromiter(chain.from_iterable(found), dtype_of(self.vocab)))
        return np.concatenate(parts), np.cumsum(lengths, dtype=np.int64)

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
