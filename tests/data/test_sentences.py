"""Documents and labelled sentences: tokens spell the text, ends cut it where it was cut, nothing changes unnoticed."""

from __future__ import annotations

import json
import pickle
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mutransfer.data.documents import Examples, TaskTexts
from mutransfer.data.sentences import ARRAYS, PARTS, SentenceDataset, Task, fingerprint_of_sentences
from mutransfer.data.stories import stories_dataset, stories_task, stories_texts
from mutransfer.data.wordpiece import WordPiece
from mutransfer.errors import UserError
from mutransfer.runs.sweep import on_disk

TEXTS = stories_texts(counts={"test": 4, "train": 40})
LINES = [line for story in TEXTS["train"] for line in story]
SINGLE = TaskTexts(
    "matthews", 3, "a test", True, Examples(LINES[:5], None, [0, 1, 2, 0, 1]), Examples(LINES[5:7], None, [2, 2])
)
TASKS = {"single": SINGLE, "pairs": stories_task(counts={"test": 6, "train": 9})}


def made(**changes: Any) -> SentenceDataset:
    """Forty stories with two tasks."""
    given: dict[str, Any] = {"is_real": False, "pieces": 250, "tasks": TASKS, **TEXTS}
    return SentenceDataset.from_texts("made-up", "test", **(given | changes))


@pytest.fixture(scope="module")
def dataset() -> SentenceDataset:
    """Made once: it cannot be written."""
    return made()


@pytest.fixture(scope="module")
def alone() -> SentenceDataset:
    """Without tasks."""
    return made(tasks=None)


def spelt(text: str) -> str:
    return WordPiece.normalize(text)


@pytest.mark.parametrize("part", PARTS)
def test_tokens_spell_the_text(dataset: SentenceDataset, part: str) -> None:
    """Sentence by sentence in every document: a shift would make each next sentence another one."""
    found = dataset.documents(part)
    assert len(found) == len(TEXTS[part])
    for i, story in enumerate(TEXTS[part]):
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
    assert dataset.tasks["single"] == Task("matthews", 3, "a test", True, False, 5, 2)
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
    train = [["", "\x00"], *TEXTS["train"][:2], [], ["  ", TEXTS["train"][2][0], ""], []]
    found = made(train=train, tasks={"task": task})
    documents = found.documents("train")
    assert [len(documents[i]) for i in range(len(documents))] == [*map(len, TEXTS["train"][:2]), 1]
    examples = found.examples("task", "train")
    texts = [[found.decode(text) for text in examples[i][:2]] for i in range(3)]
    assert texts == [["[UNK]", "the cat"], ["the dog", "[UNK]"], ["[UNK]", "[UNK]"]]


@pytest.mark.parametrize("name", ["dataset", "alone"])
def test_opened_equals_saved(tmp_path: Path, name: str, request: pytest.FixtureRequest) -> None:
    """Workers must train on exactly what the driver loaded, through a sweep's own protocol; without tasks too."""
    dataset: SentenceDataset = request.getfixturevalue(name)
    with on_disk(dataset, tmp_path / "data") as opened:
        assert opened.folder == tmp_path / "data" and repr(opened) == repr(dataset)
        assert opened.tasks == dataset.tasks
        assert all(torch.equal(getattr(opened, array), getattr(dataset, array)) for array in ARRAYS)
        for task in dataset.tasks:
            assert torch.equal(opened.examples(task, "test").labels, dataset.examples(task, "test").labels)
        assert opened.decode(opened.documents("test")[3][0]) == spelt(TEXTS["test"][3][0])
    assert not (tmp_path / "data").exists()


def test_without_tasks(alone: SentenceDataset, dataset: SentenceDataset) -> None:
    """Pretraining alone: nothing else changes."""
    assert alone.tasks == {} and len(alone.task_tokens) == 0 and "no tasks" in repr(alone)
    assert torch.equal(alone.train_tokens, dataset.train_tokens) and alone.fingerprint != dataset.fingerprint
    with pytest.raises(UserError, match="unknown task"):
        alone.examples("single", "train")


@pytest.mark.parametrize("name", ["test_tokens.npy", "train_document_ends.npy", "task_labels.npy", "model.npy"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_damaged_folder_is_refused(tmp_path: Path, dataset: SentenceDataset, name: str, damage: str) -> None:
    """Labels too: a changed one is another score."""
    dataset.save(tmp_path)
    path = tmp_path / name
    raw = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(raw[: len(raw) // 2] if damage == "truncated" else raw[:-8] + bytes([raw[-8] ^ 1]) + raw[-7:])
    with pytest.raises(UserError, match=str(tmp_path)):
        SentenceDataset.open(tmp_path)


def test_changed_facts_are_refused(tmp_path: Path, dataset: SentenceDataset) -> None:
    """The counts that cut the tasks lie in the json, not in an array."""
    dataset.save(tmp_path)
    meta = json.loads((tmp_path / "dataset.json").read_text())
    for task in (["accuracy", 3, "a test", True, False, 5, 2], ["matthews", 3, "a test", True, False, 4, 3]):
        changed = meta | {"tasks": meta["tasks"] | {"single": task}}
        (tmp_path / "dataset.json").write_text(json.dumps(changed))
        with pytest.raises(UserError, match=r"corrupt|not a whole"):
            SentenceDataset.open(tmp_path)


def test_pickled_without_a_copy(dataset: SentenceDataset) -> None:
    """Ray's object store holds one copy a node; what is made of the tensors does not travel."""
    assert dataset.special.pad == 0 and len(dataset.examples("pairs", "train")) == 9
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(dataset, protocol=5, buffer_callback=buffers.append)
    assert len(buffers) == len(ARRAYS) and len(head) < 4000
    shared = [bytes(buffer.raw()) for buffer in buffers]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy = pickle.loads(head, buffers=shared)
    assert repr(copy) == repr(dataset) and copy.folder is None and copy.tasks == dataset.tasks
    assert not {"pieces", "_places"} & copy.__dict__.keys()
    assert copy.train_tokens.data_ptr() == np.frombuffer(shared[0], np.uint8).ctypes.data
    assert copy.examples("pairs", "test")[3][2] == TASKS["pairs"].test.labels[3]


def test_fingerprint_sees_everything_that_decides_a_run(dataset: SentenceDataset) -> None:
    """Each array in its last number, the head, and what a task is; not where it came from."""
    tensors = {name: getattr(dataset, name) for name in ARRAYS}
    head: dict[str, Any] = {"vocab": dataset.vocab, "tokenizer": dataset.tokenizer, "tasks": dataset.tasks}
    found = [dataset.fingerprint]
    for name, tensor in tensors.items():
        changed = tensor.clone()
        changed.view(-1)[-1] ^= 1
        found.append(fingerprint_of_sentences(tensors | {name: changed}, **head))
    single, pairs = dataset.tasks.values()
    others = [{"other": single, "pairs": pairs}, {"single": single._replace(metric="f1"), "pairs": pairs}]
    others += [{"single": single._replace(train=4, test=3), "pairs": pairs}, {"pairs": pairs, "single": single}]
    for change in ({"vocab": 251}, {"tokenizer": "x"}, *({"tasks": tasks} for tasks in others)):
        found.append(fingerprint_of_sentences(tensors, **(head | change)))
    assert len(set(found)) == len(found) == len(ARRAYS) + 7
    moved = {"single": single._replace(source="elsewhere"), "pairs": pairs}
    assert fingerprint_of_sentences(tensors, **(head | {"tasks": moved})) == dataset.fingerprint == made().fingerprint


def test_prepared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time the folder is opened; another text, name, label or number of pieces is prepared on its own."""
    first = made(cache=tmp_path)
    [folder] = tmp_path.iterdir()
    assert first.folder == folder and "test, wordpiece-250" in (folder / "source.txt").read_text()
    monkeypatch.setattr(WordPiece, "fit", None)  # a second fit would fail
    again = made(cache=tmp_path)
    assert again.folder == folder and repr(again) == repr(first) and len(list(tmp_path.iterdir())) == 1
    story = TEXTS["test"][0]
    other = replace(SINGLE, test=SINGLE.test._replace(labels=[2, 1]))
    joined = [[*TEXTS["train"][0], *TEXTS["train"][1]], *TEXTS["train"][2:]]
    for change in (
        {"test": [story[::-1], *TEXTS["test"][1:]]},
        {"train": joined},
        {"pieces": 260},
        {"is_real": True},
        {"tasks": {**TASKS, "single": other}},
        {"tasks": None},
    ):
        with pytest.raises(TypeError):
            made(cache=tmp_path, **change)


def test_a_read_only_folder_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Data may lie where nobody should write; that is no reason to stop."""
    tmp_path.chmod(0o555)
    try:
        assert made(cache=tmp_path / "prepared").folder is None
    finally:
        tmp_path.chmod(0o755)
    assert not list(tmp_path.iterdir()) and "read-only" in capsys.readouterr().err


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
    found = stories_dataset(400, counts={"test": 4, "train": 100})
    assert (found.name, found.is_real, found.vocab) == ("stories", False, 400)
    assert found.source.startswith("STAND-IN: ") and [*found.tasks] == ["stories"]
    assert stories_texts(counts={"test": 4, "train": 2})["train"] == TEXTS["train"][:2]
    assert TEXTS["test"][0][0] == "His ugly man is dark."
    assert [found.decode(sentence) for sentence in found.documents("train")[39]] == [*map(spelt, TEXTS["train"][39])]


def test_sentences_of_a_story_are_alike() -> None:
    """What the stand-in's task has to learn is there: common words tell three pairs of four, or nearly."""
    task = stories_task(counts={"train": 600, "test": 1}).train
    common = {"the", "a", "an", "this", "these", "my", "his", "her", "our"}
    pairs = zip(task.first, task.second or [], strict=True)
    said = [bool(set(spelt(a).split()) & set(spelt(b).split()) - common - {".", "?", ","}) for a, b in pairs]
    assert np.mean(np.array(said) == np.array(task.labels)) > 0.6
