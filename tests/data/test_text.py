"""The text scripts on made-up texts: where they look, what they refuse, what they say, and how fast they give up."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from corpus_files import DAMAGE, damage, documented, put

from data_scripts import books, openwebtext, text, wikitext2
from data_scripts import hub as client
from data_scripts.places import Missing
from mutransfer.data import TokenDataset, topics_dataset
from mutransfer.data.standins import topics
from mutransfer.errors import UserError

SCRIPTS = {"wikitext2": wikitext2, "books": books, "openwebtext": openwebtext}
ROWS = {
    "train": ["", " = Valkyria Chronicles III = \n", "", " the cat sat \n"],
    "validation": ["", " the dog <unk> \n"],
}
TRAIN, VALID = " \n = Valkyria Chronicles III = \n \n the cat sat \n", " \n the dog <unk> \n"
BOOKS = {"train.txt": "It was a truth\r\n\r\nuniversally acknowledged — " * 20, "valid.txt": "Call me Ishmael.\n" * 20}


@pytest.fixture(autouse=True)
def miniature(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up texts are the documented ones."""
    monkeypatch.setattr(wikitext2, "LINES", TRAIN.count("\n"))
    monkeypatch.setattr(wikitext2, "FILES", {f"wiki.valid.{form}": documented(VALID) for form in ("raw", "tokens")})
    monkeypatch.setitem(wikitext2.FILES, "vocab.txt", documented("<eos>\n=\nthe\n<unk>\ncat\n"))
    monkeypatch.setattr(books, "FILES", {name: documented(content) for name, content in BOOKS.items()})


@pytest.fixture
def asked(hub: Any) -> list[tuple[str, str | None, str, bool]]:
    """The hub has the made-up texts; the list of what it was asked for."""
    import datasets

    hub.rows[wikitext2.HUB] = lambda _, split: datasets.Dataset.from_dict({"text": ROWS[split]})
    hub.rows[openwebtext.HUB] = lambda *_: ({"text": f"document {i}\n\n"} for i in range(10**9))
    return hub.asked


def put_wikitext(folder: Path, form: str = "tokens") -> Path:
    """The made-up WikiText-2 on disk, without a vocabulary."""
    return put(folder / "wikitext2", {f"wiki.train.{form}": TRAIN, f"wiki.valid.{form}": VALID})


def put_books(folder: Path) -> Path:
    """The made-up books on disk."""
    return put(folder / "classic_books", BOOKS)


def words_of(dataset: TokenDataset) -> list[list[int]]:
    """Both parts."""
    return [dataset.train_tokens.tolist(), dataset.test_tokens.tolist()]


def as_text(dataset: TokenDataset) -> list[str]:
    """Both parts of a data set of bytes."""
    return [bytes(part).decode() for part in words_of(dataset)]


def test_books_are_the_bytes_of_the_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Line ends and long dashes included. Another text says so in the log and in every caption."""
    put_books(folder)
    dataset = books.load(folder)
    assert (dataset.name, dataset.is_real) == ("books", True)
    assert dataset.source == "classic books (40 English novels and essays), bytes"
    assert as_text(dataset) == list(BOOKS.values()) and capsys.readouterr().err == ""
    put(folder / "classic_books", {"valid.txt": "another text"})
    dataset, said = books.load(folder), capsys.readouterr().err
    assert dataset.source.startswith("other text in the place of ") and as_text(dataset)[1] == "another text"
    assert said.count("\n") == 1 and "valid.txt" in said and "not the documented" in said


@pytest.mark.parametrize("name", BOOKS)
@pytest.mark.parametrize("how", [*DAMAGE, "cut"])
def test_damaged_books_are_refused(folder: Path, name: str, how: str) -> None:
    """A broken file was meant to be the data: never the stand-in, never half the text in silence."""
    damage(put_books(folder) / name, how)
    for load in (books.load, text.load):
        with pytest.raises(UserError, match=name) as error:
            load(folder)
        assert "\n" not in str(error.value) and not isinstance(error.value, Missing)


def test_wikitext_as_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The numbers are those of vocab.txt, without it those in which the words appear, as in the reference's vocab.txt.

    The test part is the validation text.
    """
    put_wikitext(folder)
    dataset = wikitext2.load(folder, tokenizer="words")
    assert words_of(dataset) == [[0, 1, 2, 3, 4, 1, 0, 0, 5, 6, 7, 0], [0, 5, 8, 8, 0]] and dataset.vocab == 9
    put(folder / "wikitext2", {"vocab.txt": "<eos>\n=\nthe\n<unk>\ncat\n"})
    dataset = wikitext2.load(folder, tokenizer="words")
    assert (dataset.name, dataset.source, dataset.is_real) == ("wikitext2", "WikiText-2, words", True)
    assert words_of(dataset) == [[0, 1, 3, 3, 3, 1, 0, 0, 2, 4, 3, 0], [0, 2, 3, 3, 0]] and dataset.vocab == 5
    assert capsys.readouterr().err == ""


def test_wikitext_as_bytes_prefers_the_raw_text(folder: Path) -> None:
    """Bytes of "<unk>" are WikiText's gaps, not English; the caption says so where nothing better is there."""
    put_wikitext(folder, "tokens")
    assert wikitext2.load(folder).source == "WikiText-2 (rare words as <unk>), bytes"
    put_wikitext(folder, "raw")
    dataset = wikitext2.load(folder, tokenizer="bytes", download=False)
    assert dataset.source == "WikiText-2, bytes" and as_text(dataset) == [TRAIN, VALID]


def test_another_wikitext_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Someone's own text under these names is used and named."""
    put(put_wikitext(folder, "raw"), {"wiki.train.raw": "some words\n"})
    assert wikitext2.load(folder).source == "other text in the place of WikiText-2, bytes"
    assert "not WikiText-2's training text" in capsys.readouterr().err


@pytest.mark.parametrize(("tokenizer", "form"), [("bytes", "raw"), ("words", "tokens")])
def test_wikitext_is_downloaded_and_kept(folder: Path, asked: list, tokenizer: str, form: str) -> None:
    """The hub's rows give the original files, empty lines included, and the next run asks nobody."""
    dataset = wikitext2.load(folder, tokenizer=tokenizer)
    config = {"raw": "wikitext-2-raw-v1", "tokens": "wikitext-2-v1"}[form]
    assert asked == [("Salesforce/wikitext", config, split, False) for split in ROWS]
    kept = {path.name: path.read_bytes().decode() for path in (folder / "wikitext2").iterdir()}
    assert kept == {f"wiki.train.{form}": TRAIN, f"wiki.valid.{form}": VALID}
    assert wikitext2.load(folder, tokenizer=tokenizer, download=False).fingerprint == dataset.fingerprint
    assert dataset.source == f"WikiText-2, {tokenizer}" and len(asked) == 2


def test_half_a_download_is_not_kept(folder: Path, asked: list, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or it would be refused, or used, for ever."""
    monkeypatch.setattr(wikitext2, "LINES", 5)
    with pytest.raises(UserError, match="cut short"):
        wikitext2.load(folder)
    monkeypatch.setitem(ROWS, "validation", None)  # the second part breaks off
    with pytest.raises(Missing, match="failed"):
        wikitext2.load(folder)
    assert not list(folder.rglob("*"))


def test_openwebtext_is_streamed_and_kept(folder: Path, asked: list) -> None:
    """No more documents than asked for (the whole is 40 GB); none is in both parts; the retries are set back."""
    import datasets

    before = datasets.config.STREAMING_READ_MAX_RETRIES
    dataset = openwebtext.load(folder, documents=100)
    train, test = as_text(dataset)
    assert test == "document 49\n\ndocument 99\n\n"
    assert train.split("\n\n")[:-1] == [f"document {i}" for i in range(100) if i not in (49, 99)]
    assert asked == [("Skylion007/openwebtext", None, "train", True)]
    assert datasets.config.STREAMING_READ_MAX_RETRIES == before > client.RETRIES
    assert openwebtext.load(folder, documents=500, download=False).fingerprint == dataset.fingerprint
    assert dataset.source.startswith("OpenWebText (") and dataset.is_real
    (folder / "openwebtext" / "train.txt").unlink()
    with pytest.raises(UserError, match=r"train\.txt"):
        openwebtext.load(folder)


def test_a_hub_that_breaks_off_gives_nothing(folder: Path, hub: Any) -> None:
    """Half a stream must not become a smaller data set that nobody asked for."""

    def breaks(*_: object) -> Iterator[dict[str, str]]:
        yield {"text": "one"}
        raise ConnectionError("gone\nfor good")

    hub.rows[openwebtext.HUB] = breaks
    with pytest.raises(Missing, match="gone for good"):
        openwebtext.load(folder)
    hub.rows[openwebtext.HUB] = lambda *_: [{"text": "one"}] * 60
    with pytest.raises(Missing, match="the hub gave 60 of 100 documents"):
        openwebtext.load(folder, documents=100)
    assert not list(folder.rglob("*"))


def test_a_download_that_stalls_is_given_up(folder: Path, hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that answers, but whose files never come (another host, blocked), would be tried for minutes."""
    done = threading.Event()

    def stalls(*_: object) -> Iterator[dict[str, str]]:
        yield {"text": "one"}
        done.wait(20)

    hub.rows[openwebtext.HUB] = stalls
    monkeypatch.setattr(client, "STALL_SECONDS", 0.2)
    start = time.monotonic()
    with pytest.raises(Missing, match=r"nothing came for 0\.2 seconds"):
        openwebtext.load(folder)
    assert time.monotonic() - start < 5
    done.set()


def test_the_order_is_declared(folder: Path, asked: list, capsys: pytest.CaptureFixture[str]) -> None:
    """WikiText-2 on disk, books on disk, WikiText-2 by download: the same folder always gives the same data."""
    put_books(folder)
    assert text.load(folder).name == "books" and asked == []
    put_wikitext(folder, "raw")
    assert text.load(folder).name == "wikitext2" and asked == []
    for path in [*(folder / "wikitext2").iterdir(), *(folder / "classic_books").iterdir()]:
        path.unlink()
    assert text.load(folder).name == "wikitext2" and len(asked) == 2
    assert capsys.readouterr().err == ""


def test_topics_are_pythons_own_documentation() -> None:
    """Named as a stand-in with its version; every topic is in one part, whole and in order."""
    from pydoc_data.topics import topics as entries

    train, test = topics.topic_texts()
    places = [(train + test).index(entries[name].rstrip()) for name in sorted(entries)]
    assert len(train) + len(test) == sum(len(entry.rstrip()) + 2 for entry in entries.values())
    assert places[0] == 0 and test.startswith(entries[sorted(entries)[-(len(entries) // 10)]].rstrip())
    dataset = topics_dataset()
    version = ".".join(map(str, sys.version_info[:3]))
    assert dataset.source == (
        f"STAND-IN: the documentation text that ships with Python {version} (pydoc_data.topics), bytes"
    )
    assert as_text(dataset) == [train, test]
    assert topics_dataset("words").fingerprint != dataset.fingerprint == topics_dataset().fingerprint


def test_unknown_names(folder: Path) -> None:
    """The nearest valid name is in the line, and a wrong tokenizer is found before anything is read or asked."""
    with pytest.raises(UserError, match="Did you mean 'wikitext2'"):
        text.load(folder, dataset="wikitext-2")
    for script in SCRIPTS.values():
        with pytest.raises(UserError, match="Did you mean 'words'"):
            script.load(folder, tokenizer="word")
    with pytest.raises(UserError, match="49"):
        openwebtext.load(folder, documents=49)


def test_commands_take_their_options(folder: Path, asked: list, capsys: pytest.CaptureFixture[str]) -> None:
    """The same from the command line as from Python."""
    put_books(folder)
    assert text.main(["--data", str(folder), "--dataset", "books", "--tokenizer", "words"]) == 0
    assert "classic books (40 English novels and essays), words" in capsys.readouterr().out
    assert openwebtext.main(["--data", str(folder), "--documents", "50"]) == 0
    assert "OpenWebText" in capsys.readouterr().out
    for main, arguments in ((text.main, ["--dataset", "book"]), (books.main, ["--tokenizer", "x"])):
        assert main(["--data", str(folder), *arguments]) == 2
        assert capsys.readouterr().err.count("\n") == 1
