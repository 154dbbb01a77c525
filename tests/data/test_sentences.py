"""Documents and labelled sentences: tokens spell the text, ends cut it where it was cut."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_data import SINGLE, STORIES, TASKS
from small_data import sentences as made

from mutransfer.data.sentences import PARTS, Examples, LabelledTask, SentenceDataset, TaskTexts
from mutransfer.data.standins.grammar import stories_dataset, stories_task, stories_texts
from mutransfer.data.wordpiece import WordPiece
from mutransfer.errors import UserError


@pytest.fixture(scope="module")
def dataset() -> SentenceDataset:
    """Made once: it cannot be written."""
    return made()


spelt = WordPiece.normalize


@pytest.mark.parametrize("part", PARTS)
def test_tokens_spell_the_text(dataset: SentenceDataset, part: str) -> None:
    """Sentence by sentence in every document: a shift would make each next sentence another one."""
    found = dataset.documents(part)
    assert len(found) == len(STORIES[part])
    for i, story in enumerate(STORIES[part]):
        assert [dataset.decode(sentence) for sentence in found[i]] == [spelt(sentence) for sentence in story]
    assert int(found.document_ends[-1]) == len(found.sentence_ends)
    assert int(found.sentence_ends[-1]) == len(found.tokens)
    assert found[1][0].data_ptr() == found.tokens[int(found.sentence_ends[found.document_ends[0] - 1]) :].data_ptr()
    for beyond in (-1, len(found)):
        with pytest.raises(IndexError):
            found[beyond]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", TASKS)
def test_examples_spell_the_task(dataset: SentenceDataset, name: str, part: str) -> None:
    """Texts and labels of each example, of the second task too, which lies behind the first."""
    found, texts = dataset.examples(name, part), getattr(TASKS[name], part)
    second = texts.second or [""] * len(texts.first)
    assert [(dataset.decode(a), dataset.decode(b), y) for a, b, y in (found[i] for i in range(len(found)))] == [
        (spelt(a), spelt(b), y) for a, b, y in zip(texts.first, second, texts.labels, strict=True)
    ]
    assert torch.equal(found.starts + found.lengths.sum(1), found.ends[:, 1]) and found.starts[0] == 0
    assert torch.equal(found.starts + found.lengths[:, 0], found.ends[:, 0])
    assert bool((found.lengths[:, 1] == 0).all()) == (texts.second is None)
    assert found.tokens.untyped_storage().data_ptr() == dataset.task_tokens.untyped_storage().data_ptr()
    with pytest.raises(IndexError):
        found[len(found)]


def test_what_is_known_of_a_task(dataset: SentenceDataset) -> None:
    """For captions and for the head of a model."""
    assert [*dataset.tasks] == ["single", "pairs"]
    assert dataset.tasks["single"] == LabelledTask("matthews", 3, "a test", True, False, 5, 2)
    assert dataset.tasks["pairs"][:1] + dataset.tasks["pairs"][3:] == ("accuracy", False, True, 9, 6)
    assert "STAND-IN" in dataset.tasks["pairs"].source


def test_one_vocabulary_for_all(dataset: SentenceDataset) -> None:
    """No special piece is in the text; the tokens take the smallest type."""
    assert dataset.special == (0, 1, 2, 3, 4) and dataset.vocab == 250 == dataset.pieces.vocab
    assert (dataset.tokenizer, dataset.source) == ("wordpiece-250", "test, wordpiece-250")
    for name in ("train_tokens", "test_tokens", "task_tokens"):
        tensor = getattr(dataset, name)
        assert tensor.dtype == torch.uint8 and int(tensor.min()) > dataset.special.mask
    assert made(pieces=300).task_tokens.dtype == torch.int32
    text = "The Dög, is it?"
    assert dataset.decode(dataset.encode(text)) == spelt(text) == "the dog , is it ?"
    assert dataset.decode([2, 4, 3, 0]) == "[CLS] [MASK] [SEP]"


def test_a_published_vocabulary(dataset: SentenceDataset) -> None:
    """Its numbers are kept, wherever it has the special ones; nothing is fitted."""
    published = "\n".join(["[PAD]", "[unused0]", *dataset.pieces.pieces[1:]])
    found = made(vocabulary=published, pieces=-1)
    assert found.special == (0, 2, 3, 4, 5) and found.tokenizer == "vocab.txt-251"
    assert torch.equal(found.train_tokens, dataset.train_tokens + 1)


def test_nothing_empty_is_kept() -> None:
    """Sentences and documents without a token; of a task every example stays, its text as [UNK]."""
    pairs = Examples(["", "the dog", "\x00"], ["the cat", "", " "], [0, 1, 1])
    task = TaskTexts("f1", 2, "x", True, pairs, pairs)
    train = [["", "\x00"], *STORIES["train"][:2], [], ["  ", STORIES["train"][2][0], ""], []]
    found = made(train=train, tasks={"task": task})
    documents = found.documents("train")
    assert [len(documents[i]) for i in range(len(documents))] == [*map(len, STORIES["train"][:2]), 1]
    examples = found.examples("task", "train")
    texts = [[found.decode(text) for text in examples[i][:2]] for i in range(3)]
    assert texts == [["[UNK]", "the cat"], ["the dog", "[UNK]"], ["[UNK]", "[UNK]"]]


def test_without_tasks(dataset: SentenceDataset) -> None:
    """Pretraining alone: nothing else changes."""
    alone = made(tasks=None)
    assert alone.tasks == {} and len(alone.task_tokens) == 0 and "no tasks" in repr(alone)
    assert torch.equal(alone.train_tokens, dataset.train_tokens) and alone.fingerprint != dataset.fingerprint
    with pytest.raises(UserError, match="unknown task"):
        alone.examples("single", "train")


def test_unknown_names(dataset: SentenceDataset) -> None:
    """The nearest name is in the line."""
    with pytest.raises(UserError, match="Did you mean 'train'"):
        dataset.documents("trian")
    with pytest.raises(UserError, match="Did you mean 'pairs'"):
        dataset.examples("pair", "train")
    with pytest.raises(UserError, match="part of pairs 'valid'"):
        dataset.examples("pairs", "valid")


def test_texts_that_do_not_fit_are_refused() -> None:
    """Each by the task and the part."""
    short = SINGLE.train._replace(labels=[0])
    empty = Examples([], None, [])
    mixed = replace(SINGLE, test=TASKS["pairs"].test)
    for task, says in (
        (replace(SINGLE, train=short), "task x, train: 5, 1 texts"),
        (replace(SINGLE, test=empty), "task x, test: 0, 0"),
        (mixed, "pairs in one part only"),
        (replace(SINGLE, metric="matthew"), "Did you mean 'matthews'"),
    ):
        with pytest.raises(UserError, match=says):
            made(tasks={"x": task})
    for change in ({"test": []}, {"train": [[""], []]}):
        with pytest.raises(UserError, match="has no sentence"):
            made(**change)
    with pytest.raises(ValueError, match=r"labels in 0\.\.1, got 0\.\.2"):
        made(tasks={"x": replace(SINGLE, classes=2)})


def test_wrong_tensors_are_refused(dataset: SentenceDataset) -> None:
    """A folder whose arrays do not fit together does not open."""
    ends = dataset.train_sentence_ends
    wrong: list[dict[str, Any]] = [
        {"train_tokens": dataset.train_tokens.int()},
        {"test_tokens": dataset.test_tokens[:0]},
        {"task_tokens": dataset.task_tokens[:-1]},
        {"task_labels": dataset.task_labels[:-1]},
        {"task_ends": dataset.task_ends[:, 0]},
        {"task_ends": dataset.task_ends.flip(1)},
        {"train_sentence_ends": ends[:-1]},
        {"train_sentence_ends": torch.cat([ends[:1], ends])},
        {"train_document_ends": dataset.train_document_ends.flip(0)},
        {"vocab": 200},
        {"model": dataset.model[None]},
    ]
    for change in wrong:
        with pytest.raises(ValueError, match="expected"):
            replace(dataset, **change)


def test_the_stand_in() -> None:
    """Stories that say what they are, the same everywhere; the first ones do not depend on how many are drawn."""
    found = stories_dataset(300, counts={"test": 4, "train": 100})
    assert (found.name, found.is_real, found.vocab) == ("stories", False, 300)
    assert found.source.startswith("STAND-IN: ") and [*found.tasks] == ["stories"]
    assert stories_texts(counts={"test": 4, "train": 2})["train"] == STORIES["train"][:2]
    assert STORIES["test"][0][0] == "I show my strong man this blue knife."
    assert [found.decode(sentence) for sentence in found.documents("train")[39]] == [*map(spelt, STORIES["train"][39])]


def test_sentences_of_a_story_are_alike() -> None:
    """What the stand-in's task has to learn is there: common words tell three pairs of four, or nearly."""
    task = stories_task(counts={"train": 600, "test": 1}).train
    common = {"the", "a", "an", "this", "these", "my", "his", "her", "our"}
    pairs = zip(task.first, task.second or [], strict=True)
    said = [bool(set(spelt(a).split()) & set(spelt(b).split()) - common - {".", "?", ","}) for a, b in pairs]
    assert np.mean(np.array(said) == np.array(task.labels)) > 0.6
