"""Documents and labelled sentences: tokens spell the text, ends cut it where it was cut."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from small_data import SINGLE, STORIES, TASKS, documents, spelt, words_of
from small_data import sentences as made

from mutransfer.data.sentences import PARTS, Examples, LabelledTask, TaskTexts
from mutransfer.data.standins.grammar import stories_dataset, stories_task, stories_texts
from mutransfer.errors import UserError


@pytest.fixture(scope="module")
def dataset():
    """Made once: it cannot be written."""
    return made()


def examples(dataset, name, part):
    """First and second text, and label."""
    found = dataset.examples(name, part)
    texts = [spelt(dataset, found.tokens[a:b]) for a, b in pairwise([0, *found.ends.flatten().tolist()])]
    return [*zip(texts[::2], texts[1::2], found.labels.tolist(), strict=True)]


@pytest.mark.parametrize("part", PARTS)
def test_tokens_spell_the_text(dataset, part):
    """Sentence by sentence in every document: a shift would make each next sentence another one."""
    expected = [[words_of(sentence) for sentence in story] for story in STORIES[part]]
    assert documents(dataset, part) == expected
    found = dataset.documents(part)
    assert int(found.document_ends[-1]) == len(found.sentence_ends)
    assert int(found.sentence_ends[-1]) == len(found.tokens)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", TASKS)
def test_examples_spell_the_task(dataset, name, part):
    """Texts and labels of each example, of the second task too, which lies behind the first."""
    found, texts = dataset.examples(name, part), getattr(TASKS[name], part)
    second = texts.second or [""] * len(texts.first)
    assert examples(dataset, name, part) == [
        (words_of(a), words_of(b), y) for a, b, y in zip(texts.first, second, texts.labels, strict=True)
    ]
    assert found.starts.tolist() == [0, *found.ends[:-1, 1].tolist()]
    assert found.tokens.untyped_storage().data_ptr() == dataset.task_tokens.untyped_storage().data_ptr()


def test_what_is_known_of_a_task(dataset):
    """For captions and for the head of a model."""
    assert [*dataset.tasks] == ["single", "pairs"]
    assert dataset.tasks["single"] == LabelledTask("matthews", 3, "a test", True, False, 5, 2)
    assert dataset.tasks["pairs"][:1] + dataset.tasks["pairs"][3:] == ("accuracy", False, True, 9, 6)
    assert "STAND-IN" in dataset.tasks["pairs"].source


def test_one_vocabulary_for_all(dataset):
    """No special piece is in the text; the tokens take the smallest type; a published vocabulary keeps its numbers."""
    assert dataset.special == (0, 1, 2, 3, 4) and dataset.vocab == 250 == dataset.pieces.vocab
    assert (dataset.tokenizer, dataset.source) == ("wordpiece-250", "test, wordpiece-250")
    for name in ("train_tokens", "test_tokens", "task_tokens"):
        tensor = getattr(dataset, name)
        assert tensor.dtype == torch.uint8 and int(tensor.min()) > dataset.special.mask
    assert made(pieces=300).task_tokens.dtype == torch.int32
    found = made(vocabulary="\n".join(["[PAD]", "[unused0]", *dataset.pieces.pieces[1:]]), pieces=-1)
    assert found.special == (0, 2, 3, 4, 5) and found.tokenizer == "vocab.txt-251"
    assert torch.equal(found.train_tokens, dataset.train_tokens + 1)


def test_nothing_empty_is_kept():
    """Sentences and documents without a token; of a task every example stays, its text as [UNK]."""
    pairs = Examples(["", "the dog", "\x00"], ["the cat", "", " "], [0, 1, 1])
    train = [["", "\x00"], *STORIES["train"][:2], [], ["  ", STORIES["train"][2][0], ""], []]
    found = made(train=train, tasks={"task": TaskTexts("f1", 2, "x", True, pairs, pairs)})
    assert [*map(len, documents(found, "train"))] == [*map(len, STORIES["train"][:2]), 1]
    texts = [example[:2] for example in examples(found, "task", "train")]
    assert texts == [("[UNK]", "the cat"), ("the dog", "[UNK]"), ("[UNK]", "[UNK]")]


def test_names(dataset):
    """The nearest name is in the line; pretraining alone has no task, and else the same text."""
    with pytest.raises(UserError, match="Did you mean 'train'"):
        dataset.documents("trian")
    with pytest.raises(UserError, match="Did you mean 'pairs'"):
        dataset.examples("pair", "train")
    with pytest.raises(UserError, match="part of pairs 'valid'"):
        dataset.examples("pairs", "valid")
    alone = made(tasks=None)
    assert alone.tasks == {} and len(alone.task_tokens) == 0 and alone.fingerprint != dataset.fingerprint
    assert torch.equal(alone.train_tokens, dataset.train_tokens)


def test_texts_that_do_not_fit_are_refused():
    """Each by the task and the part."""
    for task, says in (
        (replace(SINGLE, train=SINGLE.train._replace(labels=[0])), r"task x, train: \[1, 5\] texts or labels"),
        (replace(SINGLE, test=Examples([], None, [])), "task x, test: .0. texts"),
        (replace(SINGLE, test=TASKS["pairs"].test), "pairs in one part only"),
        (replace(SINGLE, classes=2), r"task x, train: .*labels of \[0, 1, 2\]; .* in 0\.\.1"),
    ):
        with pytest.raises(UserError, match=says):
            made(tasks={"x": task})
    for change in ({"test": []}, {"train": [[""], []]}):
        with pytest.raises(UserError, match="has no sentence"):
            made(**change)


def test_the_stand_in():
    """Stories that say what they are, the same everywhere; the first ones do not depend on how many are drawn."""
    found = stories_dataset(300, counts={"test": 4, "train": 100})
    assert (found.name, found.is_real, found.vocab) == ("stories", False, 300)
    assert found.source.startswith("STAND-IN: ") and [*found.tasks] == ["stories"]
    assert stories_texts({"test": 4, "train": 2})["train"] == STORIES["train"][:2]
    assert STORIES["test"][0][0] == "My men know the man when this blue man slept."
    assert documents(found, "train")[39] == [words_of(sentence) for sentence in STORIES["train"][39]]


def test_sentences_of_a_story_are_alike():
    """What the stand-in's task has to learn is there: common words tell three pairs of four, or nearly."""
    task = stories_task({"train": 600, "test": 1}).train
    common = {"the", "a", "an", "this", "these", "my", "."}
    pairs = zip(task.first, task.second or [], strict=True)
    said = [bool(set(words_of(a).split()) & set(words_of(b).split()) - common) for a, b in pairs]
    assert np.mean(np.array(said) == np.array(task.labels)) > 0.6
