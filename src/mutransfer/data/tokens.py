"""A text as two tensors of token numbers in memory, with where it came from and how it was cut into tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from mutransfer.data.arrays import ArrayDataset, digest_of
from mutransfer.errors import UserError, unknown

PARTS = ("train", "test")
ARRAYS = ("train_tokens", "test_tokens")


@dataclass(frozen=True, eq=False, repr=False)
class TokenDataset(ArrayDataset):
    """Token numbers 0..vocab-1 of a training [N] and a test text [M]: uint8 where vocab <= 256, else int32.

    They stay that small in memory: a batch is turned into int64 when it is cut out.
    """

    ARRAYS: ClassVar[tuple[str, ...]] = ARRAYS

    vocab: int  # number of different tokens, seen in the text or not
    tokenizer: str  # "bytes", "words", "sentencepiece-8000"
    train_tokens: Tensor
    test_tokens: Tensor

    def __post_init__(self) -> None:
        wanted = torch.from_numpy(np.empty(0, dtype_of(self.vocab))).dtype
        for name, tokens in self._tensors().items():
            if tokens.dtype != wanted or tokens.ndim != 1:
                raise ValueError(f"{name}: expected {wanted} [N], got {tokens.dtype} {[*tokens.shape]}")
            low, high = (int(x) for x in tokens.aminmax()) if len(tokens) else (0, 0)
            if low < 0 or high >= self.vocab:
                raise ValueError(f"{name}: expected tokens in 0..{self.vocab - 1}, got {low}..{high}")

    def __repr__(self) -> str:
        counts = f"vocab={self.vocab}, train={len(self.train_tokens)}, test={len(self.test_tokens)}"
        return f"TokenDataset({self.name!r}, {self.source!r}, {counts}, fingerprint={self.fingerprint})"

    def _found_fingerprint(self) -> str:
        return fingerprint_of_tokens(self._tensors(), vocab=self.vocab, tokenizer=self.tokenizer)

    @classmethod
    def from_arrays(
        cls,
        name: str,
        source: str,
        *,
        is_real: bool,
        vocab: int,
        tokenizer: str,
        train: np.ndarray,
        test: np.ndarray,
    ) -> TokenDataset:
        """From token numbers [N] and [M] of any integer type; takes the fingerprint.

        Raises ValueError if one is not in 0..vocab-1 or an array is not a vector of integers.
        """
        tensors = {}
        for key, array in zip(ARRAYS, (train, test), strict=True):
            if array.ndim != 1 or array.dtype.kind not in "ui":
                raise ValueError(f"{key}: expected integers [N], got {array.dtype} {[*array.shape]}")
            # Before they are made smaller, which would wrap a number that is too large into a valid one.
            if array.size and (array.min() < 0 or array.max() >= vocab):
                raise ValueError(f"{key}: expected tokens in 0..{vocab - 1}, got {array.min()}..{array.max()}")
            array = np.ascontiguousarray(array, dtype_of(vocab))
            tensors[key] = torch.from_numpy(array if array.flags.writeable else array.copy())
        fingerprint = fingerprint_of_tokens(tensors, vocab=vocab, tokenizer=tokenizer)
        return cls(name, source, is_real, fingerprint, vocab=vocab, tokenizer=tokenizer, **tensors)

    def windows(self, part: str, length: int) -> Tensor:
        """[n, length + 1]: consecutive windows of ``part`` ("train" or "test"), a view of its tokens, no copy.

        The last token of a window is the first of the next, so that with inputs ``[:, :-1]`` and targets
        ``[:, 1:]`` each token of the text but the first is the target once; what fills no window is left out.
        n = (tokens - 1) // length. Raises `UserError` if that is 0.
        """
        if part not in PARTS:
            raise unknown("part of the text", part, PARTS)
        if length < 1:
            raise UserError(f"length {length} is no window; expected at least 1 token.")
        tokens: Tensor = getattr(self, f"{part}_tokens")
        if len(tokens) <= length:
            raise UserError(
                f"the {part} part of {self.name} has {len(tokens)} tokens, too few for a window of length {length}; "
                f"take a length of at most {max(len(tokens) - 1, 0)} or a longer text."
            )
        return tokens.unfold(0, length + 1, length)


def dtype_of(vocab: int) -> type[np.uint8] | type[np.int32]:
    """The integer type of the tokens of a vocabulary."""
    return np.uint8 if vocab <= 256 else np.int32


def fingerprint_of_tokens(tensors: Mapping[str, Tensor], *, vocab: int, tokenizer: str) -> str:
    """First 16 hex digits of a sha256 over ``vocab``, ``tokenizer``, and shape, dtype and bytes of the tokens."""
    return digest_of({name: tensors[name] for name in ARRAYS}, head=f"{vocab} {tokenizer}\n")
