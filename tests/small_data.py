"""A small data set of each kind."""

import re
from itertools import pairwise

import numpy as np

from mutransfer.data import ImageDataset, TokenDataset
from mutransfer.data.pairs import PairDataset
from mutransfer.data.sentences import Examples, SentenceDataset, TaskTexts
from mutransfer.data.standins.grammar import grammar_texts, stories_task, stories_texts
from mutransfer.data.tokens import tokenize

SENTENCES = grammar_texts({"test": 7, "valid": 5, "train": 90})
STORIES = stories_texts({"test": 4, "train": 40})
_LINES = [line for story in STORIES["train"] for line in story]
SINGLE = TaskTexts(
    "matthews", 3, "a test", True, Examples(_LINES[:5], None, [0, 1, 2, 0, 1]), Examples(_LINES[5:7], None, [2, 2])
)
TASKS = {"single": SINGLE, "pairs": stories_task({"test": 6, "train": 9})}


def images(seed=0):
    """Twelve random images."""
    rng = np.random.default_rng(seed)
    train, test = ((rng.integers(0, 256, (n, 32, 32, 3), np.uint8), rng.integers(0, 10, n)) for n in (8, 4))
    return ImageDataset.from_arrays("synthetic", "test", is_real=False, train=train, test=test)


def tokens(vocab=256, seed=0):
    """Thirty random tokens."""
    rng = np.random.default_rng(seed)
    arrays = {"train": rng.integers(0, vocab, 21), "test": rng.integers(0, vocab, 9)}
    return TokenDataset.from_arrays("made-up", "test", is_real=False, vocab=vocab, tokenizer="bytes", **arrays)


def pieces(tokenizer="sentencepiece-300", **changes):
    """Ninety sentences as one text."""
    given = {"is_real": False, "train": "\n".join(SENTENCES["train"][1]), "test": "The  end.\n\n"}
    return tokenize("made-up", "test", tokenizer, **(given | changes))


def pairs(pieces=120, **changes):
    """A hundred sentences of the grammar."""
    given = {"languages": ("de", "en"), "pieces": pieces, "is_real": False, **SENTENCES}
    return PairDataset.from_texts("made-up", "test", **(given | changes))


def sentences(**changes):
    """Forty stories with two tasks."""
    given = {"is_real": False, "pieces": 250, "tasks": TASKS, **STORIES}
    return SentenceDataset.from_texts("made-up", "test", **(given | changes))


def words_of(text):
    """The words and signs of an English text as WordPiece has them, with spaces between."""
    return " ".join(re.findall(r"\w+|[^\w\s]", text.lower()))


def spelt(dataset, tokens):
    """What tokens spell."""
    return " ".join(dataset.pieces.pieces[n] for n in tokens.tolist()).replace(" ##", "")


def documents(dataset, part):
    """The sentences of each document of a part."""
    found = dataset.documents(part)
    sentences = [spelt(dataset, tokens) for tokens in found.tokens.tensor_split(found.sentence_ends[:-1])]
    return [sentences[a:b] for a, b in pairwise([0, *found.document_ends.tolist()])]
