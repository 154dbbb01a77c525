"""The text scripts on made-up texts: where they look, what they refuse, what they say, and how fast they give up."""

import sys
import threading
import time

import pytest
from corpus_files import documented, put

from data_scripts import books, openwebtext, text, wikitext2
from data_scripts import hub as client
from data_scripts.places import Missing
from mutransfer.data import topics_dataset
from mutransfer.errors import UserError

ROWS = {
    "train": ["", " = Valkyria Chronicles III = \n", "", " the cat sat \n"],
    "validation": ["", " the dog <unk> \n"],
}
TRAIN, VALID = " \n = Valkyria Chronicles III = \n \n the cat sat \n", " \n the dog <unk> \n"
BOOKS = {"train.txt": "It was a truth\r\n\r\nuniversally acknowledged — " * 20, "valid.txt": "Call me Ishmael.\n" * 20}


@pytest.fixture(autouse=True)
def miniature(folder, monkeypatch):
    """Made-up texts are the documented ones."""
    monkeypatch.setattr(wikitext2, "LINES", TRAIN.count("\n"))
    monkeypatch.setattr(wikitext2, "FILES", {f"wiki.valid.{form}": documented(VALID) for form in ("raw", "tokens")})
    monkeypatch.setitem(wikitext2.FILES, "vocab.txt", documented("<eos>\n=\nthe\n<unk>\ncat\n"))
    monkeypatch.setattr(books, "FILES", {name: documented(content) for name, content in BOOKS.items()})


@pytest.fixture
def asked(hub):
    """The hub has the made-up texts; the list of what it was asked for."""
    import datasets

    hub.rows[wikitext2.HUB] = lambda _, split: datasets.Dataset.from_dict({"text": ROWS[split]})
    hub.rows[openwebtext.HUB] = lambda *_: ({"text": f"document {i}\n\n"} for i in range(10**9))
    return hub.asked


def put_wikitext(folder, form="tokens"):
    """The made-up WikiText-2 on disk, without a vocabulary."""
    return put(folder / "wikitext2", {f"wiki.train.{form}": TRAIN, f"wiki.valid.{form}": VALID})


def numbers(dataset):
    """Both parts."""
    return [dataset.train_tokens.tolist(), dataset.test_tokens.tolist()]


def as_text(dataset):
    """Both parts of a data set of bytes."""
    return [bytes(part).decode() for part in numbers(dataset)]


def test_books_are_the_bytes_of_the_files(folder, capsys):
    """Line ends and long dashes included. Another text says so in the log and in every caption."""
    put(folder / "classic_books", BOOKS)
    dataset = books.load(folder)
    assert (dataset.name, dataset.is_real) == ("books", True)
    assert dataset.source == "classic books (40 English novels and essays), bytes"
    assert as_text(dataset) == list(BOOKS.values()) and capsys.readouterr().err == ""
    put(folder / "classic_books", {"valid.txt": "another text"})
    dataset, said = books.load(folder), capsys.readouterr().err
    assert dataset.source.startswith("other text in the place of ") and as_text(dataset)[1] == "another text"
    assert said.count("\n") == 1 and "valid.txt" in said and "not the documented" in said
    put(folder / "classic_books", {"valid.txt": BOOKS["valid.txt"][:300]})
    with pytest.raises(UserError, match=r"valid\.txt .*cut short"):
        text.load(folder)


def test_wikitext_as_words(folder, capsys):
    """Numbers are those of vocab.txt, without it in order of appearance; the test part is the validation text."""
    put_wikitext(folder)
    dataset = wikitext2.load(folder, tokenizer="words")
    assert numbers(dataset) == [[0, 1, 2, 3, 4, 1, 0, 0, 5, 6, 7, 0], [0, 5, 8, 8, 0]] and dataset.vocab == 9
    put(folder / "wikitext2", {"vocab.txt": "<eos>\n=\nthe\n<unk>\ncat\n"})
    dataset = wikitext2.load(folder, tokenizer="words")
    assert (dataset.name, dataset.source, dataset.is_real) == ("wikitext2", "WikiText-2, words", True)
    assert numbers(dataset) == [[0, 1, 3, 3, 3, 1, 0, 0, 2, 4, 3, 0], [0, 2, 3, 3, 0]] and dataset.vocab == 5
    assert capsys.readouterr().err == ""


def test_wikitext_as_bytes_prefers_the_raw_text(folder, capsys):
    """Bytes of "<unk>" are WikiText's gaps, not English; captions say so where nothing better, or another text, is."""
    put_wikitext(folder, "tokens")
    assert wikitext2.load(folder).source == "WikiText-2 (rare words as <unk>), bytes"
    put_wikitext(folder, "raw")
    dataset = wikitext2.load(folder, tokenizer="bytes", download=False)
    assert dataset.source == "WikiText-2, bytes" and as_text(dataset) == [TRAIN, VALID]
    put(folder / "wikitext2", {"wiki.train.raw": "some words\n"})
    assert wikitext2.load(folder).source == "other text in the place of WikiText-2, bytes"
    assert "not WikiText-2's training text" in capsys.readouterr().err


@pytest.mark.parametrize(("tokenizer", "form"), [("bytes", "raw"), ("words", "tokens")])
def test_wikitext_is_downloaded_and_kept(folder, asked, tokenizer, form):
    """The hub's rows give the original files, empty lines included, and the next run asks nobody."""
    dataset = wikitext2.load(folder, tokenizer=tokenizer)
    config = {"raw": "wikitext-2-raw-v1", "tokens": "wikitext-2-v1"}[form]
    assert asked == [("Salesforce/wikitext", config, split, False) for split in ROWS]
    kept = {path.name: path.read_bytes().decode() for path in (folder / "wikitext2").iterdir()}
    assert kept == {f"wiki.train.{form}": TRAIN, f"wiki.valid.{form}": VALID}
    assert wikitext2.load(folder, tokenizer=tokenizer, download=False).fingerprint == dataset.fingerprint
    assert dataset.source == f"WikiText-2, {tokenizer}" and len(asked) == 2


def test_half_a_download_is_not_kept(folder, asked, monkeypatch):
    """Or it would be refused, or used, for ever."""
    monkeypatch.setattr(wikitext2, "LINES", 5)
    with pytest.raises(UserError, match="cut short"):
        wikitext2.load(folder)
    monkeypatch.setitem(ROWS, "validation", None)  # the second part breaks off
    with pytest.raises(Missing, match="failed"):
        wikitext2.load(folder)
    assert not list(folder.rglob("*"))


def test_openwebtext_is_streamed_and_kept(folder, asked):
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


def test_a_hub_that_breaks_off_gives_nothing(folder, hub, monkeypatch):
    """Half a stream must not become a smaller data set; one that stalls is not tried for minutes."""
    done = threading.Event()

    def breaks(*_):
        yield {"text": "one"}
        raise ConnectionError("gone\nfor good")

    def stalls(*_):
        yield {"text": "one"}
        done.wait(20)

    monkeypatch.setattr(client, "STALL_SECONDS", 0.2)
    start = time.monotonic()
    for rows, says in (
        (breaks, "gone for good"),
        (lambda *_: [{"text": "one"}] * 60, "the hub gave 60 of 100 documents"),
        (stalls, r"nothing came for 0\.2 seconds"),
    ):
        hub.rows[openwebtext.HUB] = rows
        with pytest.raises(Missing, match=says):
            openwebtext.load(folder, documents=100)
    assert time.monotonic() - start < 5 and not list(folder.rglob("*"))
    done.set()


def test_the_order_is_declared(folder, asked, capsys):
    """WikiText-2 on disk, books on disk, WikiText-2 by download: the same folder always gives the same data."""
    put(folder / "classic_books", BOOKS)
    assert text.load(folder).name == "books" and asked == []
    put_wikitext(folder, "raw")
    assert text.load(folder).name == "wikitext2" and asked == []
    for path in [*(folder / "wikitext2").iterdir(), *(folder / "classic_books").iterdir()]:
        path.unlink()
    assert text.load(folder).name == "wikitext2" and len(asked) == 2
    assert capsys.readouterr().err == ""


def test_topics_are_pythons_own_documentation():
    """Named as a stand-in with its version; every topic is in one part, whole and in order."""
    from pydoc_data.topics import topics as entries

    dataset = topics_dataset()
    train, test = as_text(dataset)
    texts = [entries[name].rstrip() + "\n\n" for name in sorted(entries)]
    assert train + test == "".join(texts) and test.startswith(texts[-(len(texts) // 10)])
    assert dataset.source.startswith("STAND-IN: ") and f"ships with Python {sys.version.split()[0]} " in dataset.source
    assert topics_dataset("words").fingerprint != dataset.fingerprint == topics_dataset().fingerprint
