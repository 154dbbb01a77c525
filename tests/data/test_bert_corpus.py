"""The text for BERT on made-up files: where it looks, what becomes a document, what it refuses and says."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from data_scripts import bert_corpus, books, glue, hub
from data_scripts.places import Documented, Missing
from mutransfer.data.sentences import SentenceDataset
from mutransfer.data.standins.grammar import stories_dataset, stories_texts
from mutransfer.data.wordpiece import SPECIALS
from mutransfer.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
STORIES = stories_texts(counts={"test": 6, "train": 40})
BOOKS = {
    "train.txt": "CHAPTER I\n\nIt was a truth\r\nuniversally known. Mr. Darcy left.\n\n“Oh!” said she.\n\n"
    "CHAPTER II\n\n" + "He came. She saw. " * 40,
    "valid.txt": "Call me Ishmael. Some years ago I went.\n",
}
PAN = {
    "train": "label\tsentence1\tsentence2\n1\tThe dog.\tA dog.\n",
    "test": "label\tsentence1\tsentence2\n0\tA.\tB.\n",
}


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty data folder; no network; a small stand-in; the made-up books are the documented ones."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the discard port
    small = functools.partial(stories_dataset, counts={"test": 4, "train": 40})
    monkeypatch.setattr(bert_corpus, "stories_dataset", small)
    known = {}
    for name, content in BOOKS.items():
        raw = content.encode()
        head, whole = (hashlib.sha256(x).hexdigest() for x in (raw[:256], raw))
        known[name] = Documented(head[:16], len(raw), whole)
    monkeypatch.setattr(books, "FILES", known)
    for script in (bert_corpus, books, glue):
        monkeypatch.setattr(script, "__file__", str(tmp_path / "repository" / "data_scripts" / "x.py"))
    monkeypatch.delenv("MUTRANSFER_DATA", raising=False)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """A hub on this machine with endless texts; the list of what it was asked for."""
    import datasets

    calls: list[tuple[str, str | None]] = []

    def load_dataset(name: str, config: str | None = None, *, split: str, streaming: bool) -> Any:
        assert split == "train" and streaming
        calls.append((name, config))
        if name == bert_corpus.WIKIPEDIA:
            return ({"text": f"Title {i}\n\nArticle {i} is here. It ends.\n\nSee also {i}"} for i in range(10**9))
        return ({"text": f"book sentence {i} ."} for i in range(10**9))

    monkeypatch.setattr(hub, "_knock", lambda name: None)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(bert_corpus, "BOOK_SENTENCES", 250)
    return calls


def put(folder: Path, files: dict[str, str]) -> Path:
    """Write ``files`` into ``folder``, line ends as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content.encode())
    return folder


def put_corpus(folder: Path, **more: str) -> Path:
    """Stories as a text of one's own: a line a sentence, a blank line between documents."""
    files = {"train.txt": STORIES["train"], "valid.txt": STORIES["test"]}
    whole = {name: "\n\n".join("\n".join(story) for story in text) + "\n" for name, text in files.items()}
    return put(folder / "bert_corpus", whole | more)


def spelt(dataset: SentenceDataset, part: str) -> list[list[str]]:
    """The documents of a part."""
    found = dataset.documents(part)
    return [[dataset.decode(sentence) for sentence in found[i]] for i in range(len(found))]


def test_text_of_ones_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its documents and sentences as they are; prepared once, and found by the next run."""
    place = put_corpus(folder)
    dataset = bert_corpus.load(folder, pieces=300, tasks=())
    assert (dataset.name, dataset.is_real, dataset.vocab, dataset.tasks) == ("bert_corpus", True, 300, {})
    assert dataset.source == "text of bert_corpus, 40 training documents, wordpiece-300"
    normalize = dataset.pieces.normalize
    for part in ("train", "test"):
        assert spelt(dataset, part) == [[normalize(line) for line in story] for story in STORIES[part]]
    assert dataset.folder is not None and dataset.folder.parent == place / "prepared"
    assert bert_corpus.load(folder, pieces=300, tasks=()).folder == dataset.folder
    assert capsys.readouterr().err == ""
    put(place, {"source.txt": "my diary\nand more\n"})
    assert bert_corpus.load(folder, pieces=300, tasks=()).source.startswith("my diary, 40 training documents")


def test_a_published_vocabulary_is_taken(folder: Path) -> None:
    """Special pieces where it has them; a file that is none is refused by name of what it lacks."""
    letters = [chr(ord("a") + i) for i in range(26)]
    pieces = ["[PAD]", "[unused0]", *SPECIALS[1:], ".", "?", ",", *letters, *(f"##{x}" for x in letters), "the"]
    put_corpus(folder, **{"vocab.txt": "\n".join(pieces)})
    dataset = bert_corpus.load(folder, tasks=())
    assert dataset.special == (0, 2, 3, 4, 5) and dataset.tokenizer == f"vocab.txt-{len(pieces)}"
    assert spelt(dataset, "test")[0][0] == dataset.pieces.normalize(STORIES["test"][0][0])
    put_corpus(folder, **{"vocab.txt": "\n".join(pieces[6:])})
    with pytest.raises(UserError, match=r"vocab\.txt of 56 entries lacks \[PAD"):
        bert_corpus.load(folder, tasks=())


def test_books(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Chapters without headings, line ends as spaces, long chapters in parts; chosen where no other text is."""
    put(folder / "classic_books", BOOKS)
    dataset = bert_corpus.load(folder, pieces=100, tasks=[])
    assert (dataset.name, dataset.is_real) == ("books", True)
    assert dataset.source == "classic books (40 English novels and essays), wordpiece-100"
    first, second = (len(document) for document in spelt(dataset, "train"))
    assert (first, second) == (3, 80) and len(spelt(dataset, "test")[0]) == 2
    assert spelt(dataset, "train")[0][1] == "mr . darcy left ."
    assert capsys.readouterr().err == ""
    put(folder / "classic_books", {"valid.txt": "Another text, longer than it."})
    assert bert_corpus.load(folder, pieces=100, tasks=[]).source.startswith("other text in the place of classic books")
    put_corpus(folder)
    assert bert_corpus.load(folder, pieces=100, tasks=[]).name == "bert_corpus"
    assert bert_corpus.load(folder, dataset="books", pieces=100, tasks=[]).name == "books"


def test_long_chapters_are_cut(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A book without headings is not one document."""
    monkeypatch.setattr(bert_corpus, "MOST_SENTENCES", 30)
    put(folder / "classic_books", BOOKS)
    dataset = bert_corpus.load(folder, pieces=100, tasks=[])
    assert [len(document) for document in spelt(dataset, "train")] == [3, 30, 30, 20]


@pytest.mark.parametrize("place", ["bert_corpus", "classic_books"])
@pytest.mark.parametrize("name", ["train.txt", "valid.txt"])
@pytest.mark.parametrize("damage", ["missing", "empty", "latin-1"])
def test_damaged_text_is_refused(folder: Path, place: str, name: str, damage: str) -> None:
    """A broken file was meant to be the data: never the stand-in, never half the text in silence."""
    path = put(folder / place, BOOKS) / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b" \n" if damage == "empty" else path.read_bytes() + "é".encode("latin-1"))
    with pytest.raises(UserError, match=name) as error:
        bert_corpus.load(folder, pieces=100, tasks=())
    assert "\n" not in str(error.value) and not isinstance(error.value, Missing)


def test_a_download_is_streamed_and_kept(folder: Path, asked: list, capsys: pytest.CaptureFixture[str]) -> None:
    """No more than asked for; no document in both parts; titles are lines of their own; asked once."""
    dataset = bert_corpus.load(folder, pieces=200, documents=100, tasks=())
    assert asked == [(bert_corpus.WIKIPEDIA, "20231101.en"), (bert_corpus.BOOKCORPUS, None)]
    assert dataset.source.startswith("Wikipedia and BookCorpus (their beginnings), 101 training documents")
    train, test = spelt(dataset, "train"), spelt(dataset, "test")
    assert [document[0] for document in test] == ["title 49", "title 99"] and len(train) == 101
    assert train[0] == ["title 0", "article 0 is here .", "it ends .", "see also 0"]
    assert [len(document) for document in train[-3:]] == [100, 100, 50] and train[-1][-1] == "book sentence 249 ."
    assert {path.name for path in (folder / "bert_corpus").iterdir()} >= {"train.txt", "valid.txt", "source.txt"}
    again = bert_corpus.load(folder, pieces=200, documents=500, tasks=(), download=False)
    assert again.fingerprint == dataset.fingerprint and again.source == dataset.source and len(asked) == 2
    assert capsys.readouterr().err == ""


def test_wikipedia_alone_says_so(folder: Path, asked: list, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The hub may not give BookCorpus: newer versions of `datasets` run no script."""
    monkeypatch.setattr(bert_corpus, "BOOKCORPUS", "gone/gone")
    import datasets

    whole = datasets.load_dataset

    def load_dataset(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "gone/gone":
            raise RuntimeError("Dataset scripts are no longer supported")
        return whole(name, *args, **kwargs)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    dataset = bert_corpus.load(folder, pieces=200, documents=50, tasks=())
    assert dataset.source.startswith("Wikipedia without BookCorpus (its beginning), 49 training documents")
    assert "no longer supported" in capsys.readouterr().err


def test_the_stand_in_is_loud(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The real client against a closed port gives up at once; it is said what is trained on, and how to do better."""
    start = time.monotonic()
    dataset = bert_corpus.load(folder)
    assert time.monotonic() - start < 10
    assert (dataset.name, dataset.is_real, [*dataset.tasks]) == ("stories", False, ["stories"])
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("WARNING: NO REAL TEXT")
    for help_ in (str(folder / "bert_corpus"), "train.txt", "MUTRANSFER_DATA", "refused"):
        assert help_ in said
    assert bert_corpus.load(folder, dataset="stories").fingerprint == dataset.fingerprint
    assert capsys.readouterr().err == ""


def test_turned_off_download_asks_nobody(folder: Path, asked: list, capsys: pytest.CaptureFixture[str]) -> None:
    """``download=False`` means it, even where the download would work; nor is the text asked for that is named."""
    assert bert_corpus.load(folder, dataset="bert_corpus", download=False).name == "stories"
    assert asked == [] and "turned off" in capsys.readouterr().err
    with pytest.raises(Missing, match="classic books are not in"):
        bert_corpus.load(folder, dataset="books")


def test_tasks_come_along(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the same vocabulary: those that are there by default, those that are named, or none."""
    put_corpus(folder)
    put(folder / "glue_like" / "PAN-paraphrase", {f"{part}.tsv": content for part, content in PAN.items()})
    dataset = bert_corpus.load(folder, pieces=200, download=False)
    assert [*dataset.tasks] == ["pan"] and dataset.tasks["pan"].is_pair
    assert [dataset.decode(text) for text in dataset.examples("pan", "train")[0][:2]] == ["the dog .", "a dog ."]
    assert "no data for mnli, qqp (pan stands in for it), mrpc" in capsys.readouterr().err
    assert [*bert_corpus.load(folder, pieces=200, tasks=["stories", "pan"]).tasks] == ["stories", "pan"]
    assert [*bert_corpus.load(folder, dataset="stories", tasks=["pan"]).tasks] == ["pan"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dataset": "book"}, "unknown data set of bert 'book'. Did you mean 'books'"),
        ({"tasks": ["sst"]}, "Did you mean 'sst2'"),
        ({"pieces": 99}, "99 pieces are no vocabulary; expected 100"),
        ({"documents": 10}, "10 documents are too few"),
    ],
)
def test_what_is_none_is_refused(folder: Path, options: dict[str, Any], says: str) -> None:
    """Before anything is read or downloaded."""
    with pytest.raises(UserError, match=says):
        bert_corpus.load(folder, **options)


def test_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a script: source, counts, vocabulary and fingerprint; or one line."""
    put_corpus(folder)
    options = ["--data", str(folder), "--pieces", "150", "--no-download", "--tasks"]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    script = [sys.executable, str(ROOT / "data_scripts" / "bert_corpus.py"), *options]
    good = subprocess.run(script, env=env, capture_output=True, text=True)
    assert good.returncode == 0 and good.stderr == "", good.stderr
    names = [line.split()[0] for line in good.stdout.splitlines()]
    assert names == ["source", "train", "test", "vocabulary", "fingerprint"] and "150 pieces" in good.stdout
    assert bert_corpus.main([*options, "pam"]) == 2
    assert "Did you mean 'pan'" in capsys.readouterr().err
