"""Documents of sentences to pretrain on and labelled sentences to fine-tune on, as tokens of one vocabulary."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mutransfer.data.arrays import ArrayDataset, digest_of
from mutransfer.data.tokens import dtype_of
from mutransfer.data.wordpiece import LEAST, LETTERS, WORDS, Special, WordPiece
from mutransfer.errors import UserError, unknown

PARTS = ("train", "test")
KINDS = ("tokens", "sentence_ends", "document_ends")

Text = Sequence[Sequence[str]]
"""The sentences of each document."""


class Examples(NamedTuple):
    """Labelled texts of a part; ``second`` is None where an example is one text, not a pair."""

    first: Sequence[str]
    second: Sequence[str] | None
    labels: Sequence[int]


@dataclass(frozen=True)
class TaskTexts:
    """A task as text. metric: of `METRICS`; source: for captions; classes: the labels are 0..classes-1."""

    metric: str
    classes: int
    source: str
    is_real: bool
    train: Examples
    test: Examples


class Task(NamedTuple):
    """What is known of a task of a `SentenceDataset`; train, test: examples of these parts."""

    metric: str
    classes: int
    source: str
    is_real: bool
    is_pair: bool
    train: int
    test: int


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
        return torch.cat([self.ends.new_zeros(1), self.ends[:-1, 1]])[: len(self.ends)]

    @cached_property
    def lengths(self) -> Tensor:
        """Tokens of the first and of the second text, without special ones, int64 [n, 2]."""
        return torch.stack([self.ends[:, 0] - self.starts, self.ends[:, 1] - self.ends[:, 0]], dim=1)


def check_ends(name: str, ends: Tensor, whole: int) -> None:
    if ends[0] < 1 or (ends.diff() < 1).any() or ends[-1] != whole:
        raise ValueError(f"{name}: expected ends that rise to {whole}, got {int(ends[-1])} as last")


def check_texts(name: str, task: TaskTexts) -> None:
    for part in PARTS:
        found: Examples = getattr(task, part)
        counts = [len(found.first), len(found.labels), *([] if found.second is None else [len(found.second)])]
        if len(set(counts)) != 1 or not counts[0]:
            shown = ", ".join(map(str, counts))
            raise UserError(f"task {name}, {part}: {shown} texts and labels; expected equally many, and at least one.")
    if (task.train.second is None) != (task.test.second is None):
        raise UserError(f"task {name} has pairs in one part only; expected pairs in both or in none.")


def texts_as_tokens(name: str, pieces: WordPiece, parts: Mapping[str, Text]) -> dict[str, Tensor]:
    tensors = dict[str, Tensor]()
    for part, documents in parts.items():
        tokens, ends = pieces.encode_lines([*chain.from_iterable(documents)])
        is_kept = np.diff(ends, prepend=0) > 0
        # How many sentences are kept up to the end of each document; a document without one repeats a number.
        kept = np.concatenate([[0], np.cumsum(is_kept)])[np.cumsum([len(d) for d in documents], dtype=np.int64)]
        document_ends = np.unique(kept[kept > 0]).astype(np.int64)
        if not len(document_ends):
            raise UserError(f"the {part} part of {name} has no sentence; expected at least one document.")
        found = (tokens, ends[is_kept], document_ends)
        tensors |= {f"{part}_{kind}": torch.from_numpy(x) for kind, x in zip(KINDS, found, strict=True)}
    return tensors


def tasks_as_tokens(pieces: WordPiece, tasks: Mapping[str, TaskTexts]) -> dict[str, Tensor]:
    tokens, ends, labels = [np.empty(0, dtype_of(pieces.vocab))], [np.empty((0, 2), np.int64)], list[int]()
    for task in tasks.values():
        for part in PARTS:
            found: Examples = getattr(task, part)
            second = found.second
            texts = [*found.first] if second is None else [*chain.from_iterable(zip(found.first, second, strict=True))]
            part_tokens, part_ends = pieces.encode_lines(texts)
            is_empty = np.diff(part_ends, prepend=0) == 0
            tokens.append(np.insert(part_tokens, part_ends[is_empty], pieces.special.unk))
            part_ends = part_ends + np.cumsum(is_empty)
            ends.append(np.repeat(part_ends[:, None], 2, axis=1) if second is None else part_ends.reshape(-1, 2))
            labels += found.labels
    arrays = np.concatenate(tokens), np.concatenate(ends), np.array(labels, np.int64)
    return {f"task_{kind}": torch.from_numpy(x) for kind, x in zip(("tokens", "ends", "labels"), arrays, strict=True)}


def mark_of(head: tuple[object, ...], vocabulary: str, parts: tuple[Text, ...], tasks: Mapping[str, TaskTexts]) -> str:
    """Of everything that decides what a data set becomes."""
    digest = hashlib.sha256(f"{head}\n{vocabulary}\n".encode())
    for documents in parts:
        digest.update(f"{len(documents)}\n".encode())
        for document in documents:
            digest.update("\n".join([str(len(document)), *document, ""]).encode())
    for name, task in tasks.items():
        digest.update(f"{name} {task.metric} {task.classes} {task.source} {task.is_real}\n".encode())
        for found in (task.train, task.test):
            digest.update(f"{[*found.labels]} {found.second is None}\n".encode())
            digest.update("\n".join([*found.first, *(found.second or ()), ""]).encode())
    return digest.hexdigest()[:16]


METRICS = ("accuracy", "f1", "matthews")
ARRAYS = (
    *(f"{part}_{kind}" for part in PARTS for kind in KINDS),
    "task_tokens",
    "task_ends",
    "task_labels",
    "model",
)
_WHOLE = "dataset.json"  # what `ArrayDataset.save` writes last


@dataclass(frozen=True, eq=False, repr=False)
class SentenceDataset(ArrayDataset):
    """Documents in the parts "train" and "test", and labelled tasks in the same two parts (or none).

    Tokens are pieces of a WordPiece vocabulary, never its special ones but [UNK]: uint8 where vocab <= 256, else int32.
    No sentence and no document is empty. Of the tasks all examples stand one after the other, task by task, the
    training part first; ``task_ends`` count from the beginning of each part. ``model`` is the vocabulary, a piece a
    line (UTF-8).
    """

    ARRAYS: ClassVar[tuple[str, ...]] = ARRAYS

    vocab: int
    tokenizer: str  # "wordpiece-4000"
    tasks: Mapping[str, Task]
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
        object.__setattr__(self, "tasks", {name: Task(*task) for name, task in self.tasks.items()})
        tokens = torch.from_numpy(np.empty(0, dtype_of(self.vocab))).dtype
        for name, tensor in self._tensors().items():
            kind = tokens if name.endswith("tokens") else torch.uint8 if name == "model" else torch.int64
            shape = (len(tensor), 2) if name == "task_ends" else (len(tensor),)
            if tensor.dtype != kind or tensor.shape != shape or not (len(tensor) or name.startswith("task")):
                raise ValueError(f"{name}: expected {kind} {[*shape]}, got {tensor.dtype} {[*tensor.shape]}")
            if name.endswith("tokens") and len(tensor):
                low, high = (int(x) for x in tensor.aminmax())
                if low < 0 or high >= self.vocab:
                    raise ValueError(f"{name}: expected tokens in 0..{self.vocab - 1}, got {low}..{high}")
        for part in PARTS:
            found = self.documents(part)
            check_ends(f"{part}_sentence_ends", found.sentence_ends, len(found.tokens))
            check_ends(f"{part}_document_ends", found.document_ends, len(found.sentence_ends))
        self._check_tasks()

    def _check_tasks(self) -> None:
        tokens = examples = 0
        for name, task in self.tasks.items():
            if task.metric not in METRICS:
                raise unknown(f"metric of {name}", task.metric, METRICS)
            for part in PARTS:
                found = self.examples(name, part)
                if len(found) != getattr(task, part) or not len(found):
                    raise ValueError(f"{name}: expected {getattr(task, part)} examples in {part}, got {len(found)}")
                if (found.ends.flatten().diff(prepend=found.ends.new_zeros(1)) < 0).any():
                    raise ValueError(f"{name}: expected ends that rise in {part}")
                low, high = (int(x) for x in found.labels.aminmax())
                if low < 0 or high >= task.classes:
                    raise ValueError(f"{name}: expected labels in 0..{task.classes - 1}, got {low}..{high}")
                tokens, examples = tokens + int(found.ends[-1, 1]), examples + len(found)
        for name, tensor, count in (("tokens", self.task_tokens, tokens), ("labels", self.task_labels, examples)):
            if len(tensor) != count:
                raise ValueError(f"task_{name}: expected {count} of all tasks together, got {len(tensor)}")

    def __repr__(self) -> str:
        counts = ", ".join(f"{part}={len(self.documents(part)):,} documents" for part in PARTS)
        tasks = " ".join(self.tasks) or "no tasks"
        return (
            f"SentenceDataset({self.name!r}, {self.source!r}, vocab={self.vocab}, {counts}, {tasks}, "
            f"fingerprint={self.fingerprint})"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Without what can be made of the tensors again."""
        return {key: value for key, value in super().__getstate__().items() if key not in ("pieces", "_places")}

    def _found_fingerprint(self) -> str:
        return fingerprint_of_sentences(self._tensors(), vocab=self.vocab, tokenizer=self.tokenizer, tasks=self.tasks)

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
            check_texts(task, texts)
        fitted = None if vocabulary is None else WordPiece("vocab.txt", vocabulary)
        tokenizer = f"wordpiece-{pieces}" if fitted is None else f"vocab.txt-{fitted.vocab}"
        source = f"{source}, {tokenizer}"
        folder = None
        if cache is not None:
            mark = mark_of((name, source, is_real, LEAST, LETTERS, WORDS), vocabulary or "", (train, test), tasks)
            folder = cache / f"{tokenizer}-{mark}"
            if (folder / _WHOLE).is_file():
                return cls.open(folder)
        fitted = fitted or WordPiece.fit([*chain.from_iterable(train)], pieces)
        tensors = texts_as_tokens(name, fitted, {"train": train, "test": test}) | tasks_as_tokens(fitted, tasks)
        tensors["model"] = torch.from_numpy(np.frombuffer(fitted.vocabulary.encode(), np.uint8).copy())
        facts = {
            task: Task(
                texts.metric,
                texts.classes,
                texts.source,
                texts.is_real,
                texts.train.second is not None,
                len(texts.train.labels),
                len(texts.test.labels),
            )
            for task, texts in tasks.items()
        }
        head: dict[str, Any] = {"vocab": fitted.vocab, "tokenizer": tokenizer, "tasks": facts}
        fingerprint = fingerprint_of_sentences(tensors, **head)
        return cls(name, source, is_real, fingerprint, **(head | tensors)).kept(folder)

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
        return Documents(*(getattr(self, f"{part}_{kind}") for kind in KINDS))

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
            for part in PARTS:
                rows = slice(row, row + getattr(task, part))
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


def fingerprint_of_sentences(
    tensors: Mapping[str, Tensor], *, vocab: int, tokenizer: str, tasks: Mapping[str, Task]
) -> str:
    """First 16 hex digits of a sha256 over the head, and shape, dtype and bytes of all `ARRAYS`, in that order.

    Of a task its name, metric, classes, form and counts are in the head, not where it came from.
    """
    facts = {name: [t.metric, t.classes, t.is_pair, t.train, t.test] for name, t in tasks.items()}
    head = f"{vocab} {tokenizer} {json.dumps(facts)}\n"
    return digest_of({name: tensors[name] for name in ARRAYS}, head=head)
