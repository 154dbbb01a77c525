"""The text for BERT on made-up files: where it looks, what becomes a document, what it refuses and says."""

from string import ascii_lowercase

import pytest
from corpus_files import documented, put
from small_data import documents, spelt, words_of

from data_scripts import bert_corpus, books
from mutransfer.data.standins.grammar import stories_texts
from mutransfer.data.wordpiece import SPECIALS
from mutransfer.errors import UserError

STORIES = stories_texts({"test": 6, "train": 40})
BOOKS = {
    "train.txt": "CHAPTER I\n\nIt was a truth\r\nuniversally known. Mr. Darcy left.\n\n“Oh!” said she.\n\n"
    "CHAPTER II\n\n" + "He came. She saw. " * 40,
    "valid.txt": "Call me Ishmael. Some years ago I went.\n",
}


@pytest.fixture(autouse=True)
def known(folder, monkeypatch):
    """The made-up books are the documented ones."""
    monkeypatch.setattr(books, "FILES", {name: documented(content) for name, content in BOOKS.items()})


@pytest.fixture
def asked(hub, monkeypatch):
    """The hub has endless texts; the list of what it was asked for."""
    texts = ("Title {0}\n\nArticle {0} is here. It ends.\n\nSee also {0}", "book sentence {0} .")
    for name, text in zip((bert_corpus.WIKIPEDIA, bert_corpus.BOOKCORPUS), texts, strict=True):
        hub.rows[name] = lambda *_, text=text: ({"text": text.format(i)} for i in range(10**9))
    monkeypatch.setattr(bert_corpus, "BOOK_SENTENCES", 250)
    return hub.asked


def put_corpus(folder, **more):
    """Stories as a text of one's own: one line per sentence, a blank line between documents."""
    train, test = ("\n\n".join(map("\n".join, STORIES[part])) + "\n" for part in ("train", "test"))
    return put(folder / "bert_corpus", {"train.txt": train, "valid.txt": test, **more})


def test_text_of_ones_own(folder, capsys):
    """Its documents and sentences as they are; prepared once, and found by the next run."""
    place = put_corpus(folder)
    dataset = bert_corpus.load(folder, pieces=300, tasks=())
    assert (dataset.name, dataset.is_real, dataset.vocab, dataset.tasks) == ("bert_corpus", True, 300, {})
    assert dataset.source == "text of bert_corpus, 40 training documents, wordpiece-300"
    for part in ("train", "test"):
        assert documents(dataset, part) == [[words_of(line) for line in story] for story in STORIES[part]]
    assert dataset.folder is not None and dataset.folder.parent == place / "prepared"
    assert bert_corpus.load(folder, pieces=300, tasks=()).folder == dataset.folder
    assert capsys.readouterr().err == ""
    put(place, {"source.txt": "my diary\nand more\n"})
    assert bert_corpus.load(folder, pieces=300, tasks=()).source.startswith("my diary, 40 training documents")


def test_a_published_vocabulary_is_taken(folder):
    """Special pieces where it has them; a file that is none is refused by name of what it lacks."""
    pieces = ["[PAD]", "[unused0]", *SPECIALS[1:], ".", *ascii_lowercase, *(f"##{x}" for x in ascii_lowercase), "the"]
    put_corpus(folder, **{"vocab.txt": "\n".join(pieces)})
    dataset = bert_corpus.load(folder, tasks=())
    assert dataset.special == (0, 2, 3, 4, 5) and dataset.tokenizer == f"vocab.txt-{len(pieces)}"
    assert documents(dataset, "test")[0][0] == words_of(STORIES["test"][0][0])
    put_corpus(folder, **{"vocab.txt": "\n".join(pieces[6:])})
    with pytest.raises(UserError, match=r"vocab\.txt of 54 entries lacks \[PAD"):
        bert_corpus.load(folder, tasks=())


def test_books(folder, capsys, monkeypatch):
    """Chapters without headings, line ends as spaces, long chapters in parts; chosen where no other text is."""
    put(folder / "classic_books", BOOKS)
    dataset = bert_corpus.load(folder, pieces=100, tasks=[])
    assert (dataset.name, dataset.is_real) == ("books", True)
    assert dataset.source == "classic books (40 English novels and essays), wordpiece-100"
    assert [*map(len, documents(dataset, "train"))] == [3, 80] and len(documents(dataset, "test")[0]) == 2
    assert documents(dataset, "train")[0][1] == "mr . darcy left ."
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(bert_corpus, "MOST_SENTENCES", 30)  # a book without headings is not one document
    put(folder / "classic_books", {"valid.txt": "Another text, longer than it."})
    other = bert_corpus.load(folder, pieces=100, tasks=[])
    assert [*map(len, documents(other, "train"))] == [3, 30, 30, 20]
    assert other.source.startswith("other text in the place of classic books")
    put_corpus(folder)
    assert bert_corpus.load(folder, pieces=100, tasks=[]).name == "bert_corpus"
    assert bert_corpus.load(folder, dataset="books", pieces=100, tasks=[]).name == "books"


def test_a_download_is_streamed_and_kept(folder, asked, capsys):
    """No more than asked for; no document in both parts; titles are lines of their own; asked once."""
    dataset = bert_corpus.load(folder, pieces=200, documents=100, tasks=())
    names = [(bert_corpus.WIKIPEDIA, "20231101.en"), (bert_corpus.BOOKCORPUS, None)]
    assert asked == [(*name, "train", True) for name in names]
    assert dataset.source.startswith("Wikipedia and BookCorpus (their beginnings), 101 training documents")
    train, test = documents(dataset, "train"), documents(dataset, "test")
    assert [document[0] for document in test] == ["title 49", "title 99"] and len(train) == 101
    assert train[0] == ["title 0", "article 0 is here .", "it ends .", "see also 0"]
    assert [len(document) for document in train[-3:]] == [100, 100, 50] and train[-1][-1] == "book sentence 249 ."
    again = bert_corpus.load(folder, pieces=200, documents=500, tasks=(), download=False)
    assert again.fingerprint == dataset.fingerprint and again.source == dataset.source and len(asked) == 2
    assert capsys.readouterr().err == ""


def test_wikipedia_alone_says_so(folder, asked, hub, capsys):
    """The hub may not give BookCorpus: newer versions of `datasets` run no script."""
    del hub.rows[bert_corpus.BOOKCORPUS]
    dataset = bert_corpus.load(folder, pieces=200, documents=50, tasks=())
    assert dataset.source.startswith("Wikipedia without BookCorpus (its beginning), 49 training documents")
    assert "Wikipedia without BookCorpus: the download" in capsys.readouterr().err


def test_the_stand_in_may_be_named(folder, capsys):
    """Then it needs no warning."""
    stand_in = bert_corpus.load(folder, dataset="stories")
    assert (stand_in.name, [*stand_in.tasks]) == ("stories", ["stories"]) and capsys.readouterr().err == ""


def test_tasks_come_along(folder, capsys):
    """In the same vocabulary: those that are there by default, those that are named, or none."""
    put_corpus(folder)
    head = "label\tsentence1\tsentence2\n"
    pan = {"train.tsv": f"{head}1\tThe dog.\tA dog.\n", "test.tsv": f"{head}0\tA.\tB.\n"}
    put(folder / "glue_like" / "PAN-paraphrase", pan)
    dataset = bert_corpus.load(folder, pieces=200, download=False)
    assert [*dataset.tasks] == ["pan"] and dataset.tasks["pan"].is_pair
    assert spelt(dataset, dataset.examples("pan", "train").tokens) == "the dog . a dog ."
    assert "no data for mnli, qqp (pan stands in for it), mrpc" in capsys.readouterr().err
    assert [*bert_corpus.load(folder, pieces=200, tasks=["stories", "pan"]).tasks] == ["stories", "pan"]
    assert [*bert_corpus.load(folder, dataset="stories", tasks=["pan"]).tasks] == ["pan"]
