"""The text scripts on made-up texts: where they look, what they refuse, what they say, and how fast they give up."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants

from data_scripts import books, hub, openwebtext, text, wikitext2
from data_scripts.places import Documented, Missing
from mutransfer.data import TokenDataset, topics_dataset
from mutransfer.data.standins import topics
from mutransfer.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = {"wikitext2": wikitext2, "books": books, "openwebtext": openwebtext}
ROWS = {
    "train": ["", " = Valkyria Chronicles III = \n", "", " the cat sat \n"],
    "validation": ["", " the dog <unk> \n"],
}
TRAIN, VALID = " \n = Valkyria Chronicles III = \n \n the cat sat \n", " \n the dog <unk> \n"
BOOKS = {"train.txt": "It was a truth\r\n\r\nuniversally acknowledged — " * 20, "valid.txt": "Call me Ishmael.\n" * 20}
REFUSED = "http://127.0.0.1:9"  # the discard port


@pytest.fixture(autouse=True)
def miniature(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Made-up texts are the documented ones; no network; the default folder is an empty one."""
    monkeypatch.setattr(wikitext2, "LINES", TRAIN.count("\n"))
    monkeypatch.setattr(wikitext2, "FILES", {f"wiki.valid.{form}": documented(VALID) for form in ("raw", "tokens")})
    monkeypatch.setitem(wikitext2.FILES, "vocab.txt", documented("<eos>\n=\nthe\n<unk>\ncat\n"))
    monkeypatch.setattr(books, "FILES", {name: documented(content) for name, content in BOOKS.items()})
    monkeypatch.setattr(constants, "ENDPOINT", REFUSED)
    for script in SCRIPTS.values():
        monkeypatch.setattr(script, "__file__", str(tmp_path / "repository" / "data_scripts" / "x.py"))
    monkeypatch.delenv("MUTRANSFER_DATA", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty data folder."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A hub on this machine that has the made-up texts; the list of what it was asked for."""
    import datasets

    calls: list[dict[str, Any]] = []

    def load_dataset(name: str, config: str | None = None, *, split: str, streaming: bool) -> Any:
        calls.append({"name": name, "config": config, "split": split, "streaming": streaming})
        if name == openwebtext.HUB:
            return ({"text": f"document {i}\n\n"} for i in range(10**9))
        return datasets.Dataset.from_dict({"text": ROWS[split]})

    monkeypatch.setattr(hub, "_knock", lambda name: None)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


def documented(content: str) -> Documented:
    """What would be documented of a file with this content."""
    raw = content.encode()
    return Documented(hashlib.sha256(raw[:256]).hexdigest()[:16], len(raw), hashlib.sha256(raw).hexdigest())


def put(folder: Path, files: dict[str, str]) -> Path:
    """Write ``files`` into ``folder``, line ends as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content.encode())
    return folder


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
    """Line ends and long dashes included; the documented files cause no note."""
    put_books(folder)
    dataset = books.load(folder)
    assert (dataset.name, dataset.is_real) == ("books", True)
    assert dataset.source == "classic books (40 English novels and essays), bytes"
    assert as_text(dataset) == list(BOOKS.values())
    assert capsys.readouterr().err == ""


def test_another_text_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the log and in every caption: forty novels are not whatever lies under their name."""
    put(put_books(folder), {"valid.txt": "another text"})
    dataset = books.load(folder)
    assert dataset.source.startswith("other text in the place of ") and as_text(dataset)[1] == "another text"
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "valid.txt" in said and "not the documented" in said


@pytest.mark.parametrize("name", BOOKS)
@pytest.mark.parametrize("damage", ["cut", "empty", "blank", "missing", "latin-1", "folder", "link"])
def test_damaged_books_are_refused(folder: Path, name: str, damage: str) -> None:
    """A broken file was meant to be the data: never the stand-in, never half the text in silence."""
    path = put_books(folder) / name
    raw = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "link":
        path.symlink_to("gone")
    elif damage != "missing":
        cuts = {"cut": raw[:300], "empty": b"", "blank": b" \n" * 9, "latin-1": raw + "é".encode("latin-1")}
        path.write_bytes(cuts[damage])
    for load in (books.load, text.load):
        with pytest.raises(UserError, match=name) as error:
            load(folder)
        assert "\n" not in str(error.value) and not isinstance(error.value, Missing)


def test_wikitext_as_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The numbers are those of vocab.txt; the test part is the validation text."""
    put_wikitext(folder)
    put(folder / "wikitext2", {"vocab.txt": "<eos>\n=\nthe\n<unk>\ncat\n"})
    dataset = wikitext2.load(folder, tokenizer="words")
    assert (dataset.name, dataset.source, dataset.is_real) == ("wikitext2", "WikiText-2, words", True)
    assert dataset.vocab == 5
    assert words_of(dataset) == [[0, 1, 3, 3, 3, 1, 0, 0, 2, 4, 3, 0], [0, 2, 3, 3, 0]]
    assert capsys.readouterr().err == ""


def test_wikitext_words_without_a_vocabulary_are_numbered_as_they_appear(folder: Path) -> None:
    """As in the vocab.txt of the reference implementation, so that a download has the same numbers."""
    put_wikitext(folder)
    dataset = wikitext2.load(folder, tokenizer="words")
    assert words_of(dataset) == [[0, 1, 2, 3, 4, 1, 0, 0, 5, 6, 7, 0], [0, 5, 8, 8, 0]]
    assert dataset.vocab == 9


def test_wikitext_as_bytes_prefers_the_raw_text(folder: Path) -> None:
    """Bytes of "<unk>" are WikiText's gaps, not English; the caption says so where nothing better is there."""
    put_wikitext(folder, "tokens")
    assert wikitext2.load(folder).source == "WikiText-2 (rare words as <unk>), bytes"
    put_wikitext(folder, "raw")
    dataset = wikitext2.load(folder, tokenizer="bytes", download=False)
    assert dataset.source == "WikiText-2, bytes" and as_text(dataset) == [TRAIN, VALID]


@pytest.mark.parametrize(("content", "says"), [(TRAIN[:-5], "cut short: 3 of 4"), ("", "wiki.train.raw")])
def test_wikitext_cut_short_is_refused(folder: Path, content: str, says: str) -> None:
    """Its first lines under its name are a broken download."""
    put(put_wikitext(folder, "raw"), {"wiki.train.raw": content})
    with pytest.raises(UserError, match=says):
        text.load(folder)


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
    assert asked == [
        {"name": "Salesforce/wikitext", "config": config, "split": split, "streaming": False} for split in ROWS
    ]
    kept = {path.name: path.read_bytes().decode() for path in (folder / "wikitext2").iterdir()}
    assert kept == {f"wiki.train.{form}": TRAIN, f"wiki.valid.{form}": VALID}
    assert wikitext2.load(folder, tokenizer=tokenizer, download=False).fingerprint == dataset.fingerprint
    assert dataset.source == f"WikiText-2, {tokenizer}" and len(asked) == 2


def test_only_what_is_missing_is_downloaded(folder: Path, asked: list) -> None:
    """The validation text on this disk stays the one that is used."""
    (put_wikitext(folder, "raw") / "wiki.train.raw").unlink()
    assert as_text(wikitext2.load(folder)) == [TRAIN, VALID]
    assert [call["split"] for call in asked] == ["train"]


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
    assert asked == [{"name": "Skylion007/openwebtext", "config": None, "split": "train", "streaming": True}]
    assert datasets.config.STREAMING_READ_MAX_RETRIES == before > hub.RETRIES
    assert openwebtext.load(folder, documents=500, download=False).fingerprint == dataset.fingerprint
    assert dataset.source.startswith("OpenWebText (") and dataset.is_real
    (folder / "openwebtext" / "train.txt").unlink()
    with pytest.raises(UserError, match=r"train\.txt"):
        openwebtext.load(folder)


def test_a_hub_that_breaks_off_gives_nothing(folder: Path, asked: list, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a stream must not become a smaller data set that nobody asked for."""

    def breaks(*args: object, **kwargs: object) -> Iterator[dict[str, str]]:
        yield {"text": "one"}
        raise ConnectionError("gone\nfor good")

    monkeypatch.setattr("datasets.load_dataset", breaks)
    with pytest.raises(Missing, match="gone for good"):
        openwebtext.load(folder)
    assert not list(folder.rglob("*"))


@pytest.mark.parametrize("name", ["wikitext2", "openwebtext"])
def test_refused_network_is_one_line_at_once(folder: Path, name: str) -> None:
    """The real client against a closed port: it must not retry for minutes."""
    start = time.monotonic()
    with pytest.raises(Missing, match=r"hub failed .*refused") as error:
        text.load(folder, dataset=name)
    assert time.monotonic() - start < 10
    assert "\n" not in str(error.value) and str(folder / name) in str(error.value)


def test_silent_network_times_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that accepts and never answers (a captive firewall) must not hang the run."""
    monkeypatch.setattr(hub, "CONNECT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(Missing):
            wikitext2.load(folder)
    assert time.monotonic() - start < 5


def test_a_download_that_stalls_is_given_up(folder: Path, asked: list, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that answers, but whose files never come (another host, blocked), would be tried for minutes."""
    done = threading.Event()

    def stalls(*args: object, **kwargs: object) -> Iterator[dict[str, str]]:
        yield {"text": "one"}
        done.wait(20)

    monkeypatch.setattr("datasets.load_dataset", stalls)
    monkeypatch.setattr(hub, "STALL_SECONDS", 0.3)
    start = time.monotonic()
    with pytest.raises(Missing, match=r"nothing came for 0\.3 seconds"):
        openwebtext.load(folder)
    assert time.monotonic() - start < 5
    done.set()


@pytest.mark.parametrize("name", SCRIPTS)
def test_turned_off_download_asks_nobody(folder: Path, asked: list, name: str) -> None:
    """``download=False`` means it, even where the download would work."""
    with pytest.raises(Missing):
        SCRIPTS[name].load(folder, download=False)
    assert asked == []


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


def test_the_stand_in_is_loud(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A newcomer without data or network trains within seconds, knows on what, and how to do better."""
    dataset = text.load(folder)
    assert (dataset.name, dataset.is_real) == ("topics", False)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("WARNING: NO REAL TEXT")
    for help_ in ("wiki.train.raw", "train.txt", "MUTRANSFER_DATA"):
        assert help_ in said


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


@pytest.mark.parametrize("name", [None, *SCRIPTS])
def test_named_folder_must_exist(folder: Path, name: str | None) -> None:
    """A mistyped path must not end in the stand-in."""
    with pytest.raises(UserError, match="no-such"):
        text.load(folder / "no-such", dataset=name)


def test_environment_names_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for images."""
    put_books(folder)
    monkeypatch.setenv("MUTRANSFER_DATA", str(folder))
    assert text.load().name == books.load().name == "books"


def test_runs_alone(folder: Path) -> None:
    """As a command without any path set: one loud line, the summary, exit code 0; or one line and exit code 2."""
    env = {**os.environ, "HF_ENDPOINT": REFUSED, "MUTRANSFER_DATA": str(folder)}
    env.pop("PYTHONPATH", None)
    start = time.monotonic()
    run = subprocess.run(
        [sys.executable, "data_scripts/text.py"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60
    )
    assert time.monotonic() - start < 20
    assert run.returncode == 0 and run.stderr.startswith("WARNING") and run.stderr.count("\n") == 1
    assert topics_dataset().fingerprint in run.stdout and "STAND-IN" in run.stdout


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


def test_tokens_can_be_trained_on(folder: Path) -> None:
    """What the experiments take: integer windows of the length they ask for."""
    put_books(folder)
    windows = text.load(folder).windows("train", 16)
    expected = np.frombuffer(BOOKS["train.txt"].encode(), np.uint8)[:17]
    np.testing.assert_array_equal(windows[0].numpy(), expected)
