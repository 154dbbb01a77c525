"""Documents of sentences to pretrain on and labelled sentences to fine-tune on, as tokens of one vocabulary."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mutransfer.data.arrays import ArrayDataset, bytes_of, dtype_of
from mutransfer.data.wordpiece import LEAST, LETTERS, WORDS, Special, WordPiece
from mutransfer.errors import UserError, unknown

PARTS = ("train", "test")

Text = Sequence[Sequence[str]]
"""The sentences of each document."""


class Examples(NamedTuple):
    """Labelled texts of a part; ``second`` is None where an example is one text, not a pair."""

    first: Sequence[str]
    second: Sequence[str] | None
    labels: Sequence[int]


class LabelledTask(NamedTuple):
    """What is known of a task of a `SentenceDataset`; train, test: examples of these parts."""

    metric: str
    classes: int
    source: str
    is_real: bool
    is_pair: bool
    train: int
    test: int


@dataclass(frozen=True)
class TaskTexts:
    """A task as text. metric: "accuracy", "f1" or "matthews"; source: for captions; labels: 0..classes-1."""

    metric: str
    classes: int
    source: str
    is_real: bool
    train: Examples
    test: Examples


class Documents(NamedTuple):
    """The text of a part: tokens [N]; where each sentence ends, in tokens, and each document, in sentences, int64."""

    tokens: Tensor
    sentence_ends: Tensor
    document_ends: Tensor


class Labelled(NamedTuple):
    """The examples of a part: tokens; where the first and the second text of each ends, int64 [n, 2] (the same where
    an example is one text); labels, int64 [n]."""

    tokens: Tensor
    ends: Tensor
    labels: Tensor

    @property
    def starts(self) -> Tensor:
        """Where each example begins, int64 [n]."""
        return F.pad(self.ends[:-1, 1], (1, 0))


@dataclass(frozen=True, eq=False, repr=False)
class SentenceDataset(ArrayDataset):
    """Documents in the parts "train" and "test", and labelled tasks in the same two parts (or none).

    Tokens are pieces of a WordPiece vocabulary, never its special ones but [UNK]: uint8 where vocab <= 256, else int32.
    No sentence and no document is empty. Of the tasks all examples stand one after the other, task by task, the
    training part first; ``task_ends`` count from the beginning of each part. ``model`` is the vocabulary, a piece a
    line (UTF-8).
    """

    vocab: int
    tokenizer: str  # "wordpiece-4000"
    tasks: Mapping[str, LabelledTask]
    train_tokens: Tensor
    train_sentence_ends: Tensor
    train_document_ends: Tensor
    test_tokens: Tensor
    test_sentence_ends: Tensor
    test_document_ends: Tensor
    task_tokens: Tensor
    task_ends: Tensor
    task_labels: Tensor
    model: Tensor

    def __post_init__(self) -> None:
        # From a json, tasks are lists.
        object.__setattr__(self, "tasks", {name: LabelledTask(*task) for name, task in self.tasks.items()})

    def _head(self) -> str:
        # Of a task not where it came from.
        facts = {name: [t.metric, t.classes, t.is_pair, t.train, t.test] for name, t in self.tasks.items()}
        return f"{self.vocab} {self.tokenizer} {json.dumps(facts)}\n"

    @classmethod
    def from_texts(
        cls,
        name: str,
        source: str,
        *,
        is_real: bool,
        train: Text,
        test: Text,
        pieces: int,
        vocabulary: str | None = None,
        tasks: Mapping[str, TaskTexts] | None = None,
        cache: Path | None = None,
    ) -> SentenceDataset:
        """From documents of sentences; ``source`` gets the tokenizer's name.

        Args:
            pieces: wanted; fewer if the training part has no more.
            vocabulary: a published one (BERT's vocab.txt) instead; ``pieces`` is then not read.
            tasks: name to texts, in the order in which they are kept.
            cache: a folder in which the finished data set is kept, and opened the next time.

        Sentences without a token and documents without a sentence are left out; a text of a task without one is [UNK].
        Raises `UserError` if a part has no document, or a task lacks examples in a part, has unequally many texts and
        labels, one text in one part and pairs in the other, or a label that is none of its classes.
        """
        tasks = tasks or {}
        for task, texts in tasks.items():
            _check_texts(task, texts)
        published = None if vocabulary is None else WordPiece("vocab.txt", vocabulary)
        tokenizer = f"wordpiece-{pieces}" if published is None else f"vocab.txt-{published.vocab}"
        source = f"{source}, {tokenizer}"

        def make() -> SentenceDataset:
            fitted = published or WordPiece.fit([*chain.from_iterable(train)], pieces)
            facts = {
                name: (t.metric, t.classes, t.source, t.is_real, bool(t.train.second), len(t.train[0]), len(t.test[0]))
                for name, t in tasks.items()
            }
            content = {"vocab": fitted.vocab, "tokenizer": tokenizer, "tasks": facts, **_cut_tasks(fitted, tasks)}
            for part, documents in (("train", train), ("test", test)):
                content |= _cut_documents(name, part, fitted, documents)
            content["model"] = bytes_of(fitted.vocabulary.encode())
            return cls.made(name, source, is_real=is_real, **content)

        head = [str((name, source, is_real, LEAST, LETTERS, WORDS)), vocabulary or ""]
        content = chain(head, _lines_of(train), _lines_of(test), lines_of_tasks(tasks))
        return cls.prepared(cache, tokenizer, content, make)

    @cached_property
    def pieces(self) -> WordPiece:
        """The vocabulary."""
        return WordPiece(self.tokenizer, self.model.numpy().tobytes().decode())

    @property
    def special(self) -> Special:
        """The numbers of [PAD], [UNK], [CLS], [SEP] and [MASK]."""
        return self.pieces.special

    def documents(self, part: str) -> Documents:
        """The text of "train" or "test", views."""
        if part not in PARTS:
            raise unknown("part of the corpus", part, PARTS)
        return Documents(*(getattr(self, f"{part}_{kind}") for kind in ("tokens", "sentence_ends", "document_ends")))

    def examples(self, task: str, part: str) -> Labelled:
        """The examples of a task's "train" or "test" part, views."""
        if task not in self.tasks:
            raise unknown("task", task, self.tasks)
        if part not in PARTS:
            raise unknown(f"part of {task}", part, PARTS)
        token = row = 0
        for at in product(self.tasks, PARTS):
            rows = slice(row, row + getattr(self.tasks[at[0]], at[1]))
            size = int(self.task_ends[rows.stop - 1, 1])
            if at == (task, part):
                break
            token, row = token + size, rows.stop
        return Labelled(self.task_tokens[token : token + size], self.task_ends[rows], self.task_labels[rows])


def _lines_of(documents: Text) -> Iterator[str]:
    yield str(len(documents))
    for document in documents:
        yield str(len(document))
        yield from document


def lines_of_tasks(tasks: Mapping[str, TaskTexts]) -> Iterator[str]:
    """What decides what becomes of tasks, for `mark_of`."""
    for name, task in tasks.items():
        yield f"{name} {task.metric} {task.classes} {task.source} {task.is_real}"
        for first, second, labels in (task.train, task.test):
            yield f"{[*labels]} {second is None}"
            yield from chain(first, second or ())


def _check_texts(name: str, task: TaskTexts) -> None:
    if (task.train.second is None) != (task.test.second is None):
        raise UserError(f"task {name} has pairs in one part only; expected pairs in both or in none.")
    for part, (first, second, labels) in (("train", task.train), ("test", task.test)):
        counts = {len(labels), len(first), len(first if second is None else second)}
        if len(counts) > 1 or not labels or not {*labels} <= {*range(task.classes)}:
            has = f"{sorted(counts)} texts or labels of {sorted({*labels})[:9]}"
            raise UserError(f"task {name}, {part}: {has}; expected as many of both, in 0..{task.classes - 1}.")


def _cut_documents(name: str, part: str, pieces: WordPiece, documents: Text) -> dict[str, Any]:
    """What a `SentenceDataset` has of a part."""
    tokens, ends = pieces.encode_lines([*chain.from_iterable(documents)])
    is_kept = np.diff(ends, prepend=0) > 0
    # How many sentences are kept up to the end of each document; a document without one repeats a number.
    kept = np.concatenate([[0], np.cumsum(is_kept)])[np.cumsum([len(d) for d in documents], dtype=np.int64)]
    document_ends = np.unique(kept[kept > 0]).astype(np.int64)
    if not len(document_ends):
        raise UserError(f"the {part} part of {name} has no sentence; expected at least one document.")
    arrays = {"tokens": tokens, "sentence_ends": ends[is_kept], "document_ends": document_ends}
    return {f"{part}_{kind}": torch.from_numpy(array) for kind, array in arrays.items()}


def _cut_tasks(pieces: WordPiece, tasks: Mapping[str, TaskTexts]) -> dict[str, Any]:
    """What a `SentenceDataset` has of its tasks."""
    tokens, ends, labels = [np.empty(0, dtype_of(pieces.vocab))], [np.empty((0, 2), np.int64)], list[int]()
    for first, second, numbers in (examples for task in tasks.values() for examples in (task.train, task.test)):
        texts = first if second is None else [*chain.from_iterable(zip(first, second, strict=True))]
        part_tokens, part_ends = pieces.encode_lines(texts)
        is_empty = np.diff(part_ends, prepend=0) == 0
        tokens.append(np.insert(part_tokens, part_ends[is_empty], pieces.special.unk))
        part_ends = part_ends + np.cumsum(is_empty)
        ends.append(np.repeat(part_ends, 2 if second is None else 1).reshape(-1, 2))
        labels += numbers
    arrays = {"tokens": np.concatenate(tokens), "ends": np.concatenate(ends), "labels": np.array(labels, np.int64)}
    return {f"task_{kind}": torch.from_numpy(array) for kind, array in arrays.items()}
