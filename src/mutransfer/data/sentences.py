"""Documents of sentences to pretrain on and labelled sentences to fine-tune on, as tokens of one vocabulary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mutransfer.data.arrays import ArrayDataset, digest_of
from mutransfer.data.documents import (
    KINDS,
    PARTS,
    Documents,
    Examples,
    Labelled,
    Task,
    TaskTexts,
    Text,
    check_ends,
    check_texts,
    mark_of,
    tasks_as_tokens,
    texts_as_tokens,
)
from mutransfer.data.tokens import dtype_of
from mutransfer.data.wordpiece import LEAST, LETTERS, WORDS, Special, WordPiece
from mutransfer.errors import unknown

__all__ = [
    "ARRAYS",
    "METRICS",
    "PARTS",
    "Documents",
    "Examples",
    "Labelled",
    "SentenceDataset",
    "Special",
    "Task",
    "TaskTexts",
]

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
