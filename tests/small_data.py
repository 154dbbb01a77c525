"""A small data set of each kind."""

from __future__ import annotations

from typing import Any

import numpy as np

from mutransfer.data import ImageDataset, TokenDataset
from mutransfer.data.pairs import PairDataset
from mutransfer.data.sentences import Examples, SentenceDataset, TaskTexts
from mutransfer.data.standins.grammar import grammar_texts, stories_task, stories_texts

SENTENCES = grammar_texts(counts={"test": 7, "valid": 5, "train": 90})
STORIES = stories_texts(counts={"test": 4, "train": 40})
_LINES = [line for story in STORIES["train"] for line in story]
SINGLE = TaskTexts(
    "matthews", 3, "a test", True, Examples(_LINES[:5], None, [0, 1, 2, 0, 1]), Examples(_LINES[5:7], None, [2, 2])
)
TASKS = {"single": SINGLE, "pairs": stories_task(counts={"test": 6, "train": 9})}


def images(seed: int = 0) -> ImageDataset:
    """Twelve random images."""
    rng = np.random.default_rng(seed)
    train, test = ((rng.integers(0, 256, (n, 32, 32, 3), np.uint8), rng.integers(0, 10, n)) for n in (8, 4))
    return ImageDataset.from_arrays("synthetic", "test", is_real=False, train=train, test=test)


def tokens(vocab: int = 256, seed: int = 0) -> TokenDataset:
    """Thirty random tokens."""
    rng = np.random.default_rng(seed)
    train, test = (rng.integers(0, vocab, n) for n in (21, 9))
    return TokenDataset.from_arrays(
        "made-up", "test", is_real=False, vocab=vocab, tokenizer="bytes", train=train, test=test
    )


def pairs(pieces: int = 120, **changes: Any) -> PairDataset:
    """A hundred sentences of the grammar."""
    given: dict[str, Any] = {"languages": ("de", "en"), "pieces": pieces, "is_real": False, **SENTENCES}
    return PairDataset.from_texts("made-up", "test", **(given | changes))


def sentences(**changes: Any) -> SentenceDataset:
    """Forty stories with two tasks."""
    given: dict[str, Any] = {"is_real": False, "pieces": 250, "tasks": TASKS, **STORIES}
    return SentenceDataset.from_texts("made-up", "test", **(given | changes))
