"""What a `SentenceDataset` is made of: documents and labelled texts as they come, as tokens, and views of these."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mutransfer.data.tokens import dtype_of
from mutransfer.data.wordpiece import WordPiece
from mutransfer.errors import UserError

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
