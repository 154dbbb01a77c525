"""Documents of sentences to pretrain on and labelled sentences to fine-tune on, as tokens of one vocabulary."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mutransfer.data.arrays import ArrayDataset, check_ends, check_form, check_range, dtype_of
from mutransfer.data.wordpiece import LEAST, LETTERS, WORDS, Special, WordPiece
from mutransfer.errors import UserError, unknown

PARTS = ("train", "test")
METRICS = ("accuracy", "f1", "matthews")

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
    """A task as text. metric: of `METRICS`; source: for captions; classes: the labels are 0..classes-1."""

    metric: str
    classes: int
    source: str
    is_real: bool
    train: Examples
    test: Examples

    def facts(self) -> LabelledTask:
        """What a data set says of it."""
        counts = len(self.train.labels), len(self.test.labels)
        return LabelledTask(
            self.metric, self.classes, self.source, self.is_real, self.train.second is not None, *counts
        )


@dataclass(frozen=True, eq=False)
class Documents:
    """The text of a part: tokens [N]; where each sentence ends, in tokens, and each document, in sentences, int64."""

    tokens: Tensor
    sentence_ends: Tensor
    document_ends: Tensor

    def __len__(self) -> int:
        return len(self.document_ends)

    def __getitem__(self, i: int) -> list[Tensor]:
        """The sentences of document ``i``, views."""
        if not 0 <= i < len(self):
            raise IndexError(f"document {i} of {len(self)}")
        first = int(self.document_ends[i - 1]) if i else 0
        ends = [int(self.sentence_ends[first - 1]) if first else 0]
        ends += self.sentence_ends[first : int(self.document_ends[i])].tolist()
        return [self.tokens[a:b] for a, b in pairwise(ends)]


@dataclass(frozen=True, eq=False)
class Labelled:
    """The examples of a part: tokens; where the first and the second text of each ends, int64 [n, 2] (the same where
    an example is one text); labels, int64 [n]."""

    tokens: Tensor
    ends: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, int]:
        """First and second text of example ``i``, views, and its label."""
        if not 0 <= i < len(self):
            raise IndexError(f"example {i} of {len(self)}")
        start, (middle, end) = int(self.starts[i]), self.ends[i].tolist()
        return self.tokens[start:middle], self.tokens[middle:end], int(self.labels[i])

    @cached_property
    def starts(self) -> Tensor:
        """Where each example begins, int64 [n]."""
        return self.ends[:, 0] - self.lengths[:, 0]

    @cached_property
    def lengths(self) -> Tensor:
        """Tokens of the first and of the second text, without special ones, int64 [n, 2]."""
        return self.ends.flatten().diff(prepend=self.ends.new_zeros(1)).view(-1, 2)


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
        for name, tensor in self.tensors().items():
            dtype = dtype_of(self.vocab) if name.endswith("tokens") else np.uint8 if name == "model" else np.int64
            columns = 2 if name == "task_ends" else None
            check_form(name, tensor, dtype, columns=columns, least=0 if name.startswith("task") else 1)
            if name.endswith("tokens"):
                check_range(name, tensor, 0, self.vocab - 1)
        for part in PARTS:
            text = self.documents(part)
            check_ends(f"{part}_sentence_ends", text.sentence_ends, len(text.tokens), least=1)
            check_ends(f"{part}_document_ends", text.document_ends, len(text.sentence_ends), least=1)
        tokens = examples = 0
        for name, task in self.tasks.items():
            if task.metric not in METRICS:
                raise unknown(f"metric of {name}", task.metric, METRICS)
            for part, count in (("train", task.train), ("test", task.test)):
                labelled = self.examples(name, part)
                if len(labelled) != count or not count:
                    raise ValueError(f"{name}: expected {count} examples in {part}, got {len(labelled)}")
                check_ends(f"{name}, {part}", labelled.ends.flatten(), len(labelled.tokens))
                check_range(f"{name}, {part}", labelled.labels, 0, task.classes - 1, "labels")
                tokens, examples = tokens + len(labelled.tokens), examples + count
        if (len(self.task_tokens), len(self.task_labels)) != (tokens, examples):
            counts = f"{len(self.task_tokens)} tokens, {len(self.task_labels)} labels"
            raise ValueError(f"tasks: expected {tokens} tokens, {examples} labels of all together, got {counts}")

    def __repr__(self) -> str:
        counts = ", ".join(f"{part}={len(self.documents(part)):,} documents" for part in PARTS)
        tasks = " ".join(self.tasks) or "no tasks"
        return (
            f"SentenceDataset({self.name!r}, {self.source!r}, vocab={self.vocab}, {counts}, {tasks}, "
            f"fingerprint={self.fingerprint})"
        )

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
        Raises `UserError` if a part has no document, a task lacks examples in a part, has unequally many texts and
        labels or one text in one part and pairs in the other.
        """
        tasks = tasks or {}
        for task, texts in tasks.items():
            _check_texts(task, texts)
        published = None if vocabulary is None else WordPiece("vocab.txt", vocabulary)
        tokenizer = f"wordpiece-{pieces}" if published is None else f"vocab.txt-{published.vocab}"
        source = f"{source}, {tokenizer}"

        def make() -> SentenceDataset:
            fitted = published or WordPiece.fit([*chain.from_iterable(train)], pieces)
            facts = {task: texts.facts() for task, texts in tasks.items()}
            content = {"vocab": fitted.vocab, "tokenizer": tokenizer, "tasks": facts, **_cut_tasks(fitted, tasks)}
            for part, documents in (("train", train), ("test", test)):
                content |= _cut_documents(name, part, fitted, documents)
            content["model"] = torch.from_numpy(np.frombuffer(fitted.vocabulary.encode(), np.uint8).copy())
            return cls.made(name, source, is_real=is_real, **content)

        if cache is None:
            return make()
        head = (name, source, is_real, LEAST, LETTERS, WORDS)
        mark = mark_of(head, vocabulary or "", (train, test), tasks)
        return cls.prepared(cache / f"{tokenizer}-{mark}", make)

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
        tokens, rows = self._places[task, part]
        return Labelled(self.task_tokens[tokens], self.task_ends[rows], self.task_labels[rows])

    @cached_property
    def _places(self) -> dict[tuple[str, str], tuple[slice, slice]]:
        """Which tokens and which examples each part of each task has."""
        places, token, row = {}, 0, 0
        for name, task in self.tasks.items():
            for part, count in (("train", task.train), ("test", task.test)):
                rows = slice(row, row + count)
                ends = self.task_ends[rows]
                size = int(ends[-1, 1]) if len(ends) else 0
                places[name, part] = slice(token, token + size), rows
                token, row = token + size, rows.stop
        return places

    def encode(self, text: str) -> Tensor:
        """The tokens of a text, without special ones."""
        return torch.from_numpy(self.pieces.encode(text))

    def decode(self, tokens: Tensor | np.ndarray | Sequence[int]) -> str:
        """The words that the tokens spell; special tokens as they are written, [PAD] left out."""
        return self.pieces.decode(np.asarray(tokens))


def mark_of(head: tuple[object, ...], vocabulary: str, parts: tuple[Text, ...], tasks: Mapping[str, TaskTexts]) -> str:
    """Of everything that decides what a data set becomes: 16 hex digits."""
    digest = hashlib.sha256(f"{head}\n{vocabulary}\n".encode())
    for documents in parts:
        digest.update(f"{len(documents)}\n".encode())
        for document in documents:
            digest.update("\n".join([str(len(document)), *document, ""]).encode())
    for name, task in tasks.items():
        digest.update(f"{name} {task.metric} {task.classes} {task.source} {task.is_real}\n".encode())
        for examples in (task.train, task.test):
            digest.update(f"{[*examples.labels]} {examples.second is None}\n".encode())
            digest.update("\n".join([*examples.first, *(examples.second or ()), ""]).encode())
    return digest.hexdigest()[:16]


def _check_texts(name: str, task: TaskTexts) -> None:
    for part, (first, second, labels) in (("train", task.train), ("test", task.test)):
        counts = [len(first), len(labels), *([] if second is None else [len(second)])]
        if len({*counts}) != 1 or not counts[0]:
            shown = ", ".join(map(str, counts))
            raise UserError(f"task {name}, {part}: {shown} texts and labels; expected equally many, and at least one.")
    if (task.train.second is None) != (task.test.second is None):
        raise UserError(f"task {name} has pairs in one part only; expected pairs in both or in none.")


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
        texts = [*first] if second is None else [*chain.from_iterable(zip(first, second, strict=True))]
        part_tokens, part_ends = pieces.encode_lines(texts)
        is_empty = np.diff(part_ends, prepend=0) == 0
        tokens.append(np.insert(part_tokens, part_ends[is_empty], pieces.special.unk))
        part_ends = part_ends + np.cumsum(is_empty)
        ends.append(np.repeat(part_ends[:, None], 2, axis=1) if second is None else part_ends.reshape(-1, 2))
        labels += numbers
    arrays = {"tokens": np.concatenate(tokens), "ends": np.concatenate(ends), "labels": np.array(labels, np.int64)}
    return {f"task_{kind}": torch.from_numpy(array) for kind, array in arrays.items()}
