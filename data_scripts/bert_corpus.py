"""Text to pretrain BERT on, in documents of sentences, and GLUE's tasks beside it, cut by one WordPiece vocabulary.

The text is looked for in this order:

1. ``<data>/bert_corpus/train.txt`` and ``valid.txt`` (the test part), whatever their size: UTF-8, a blank line between
   documents, each line one or more whole sentences (a line that begins with a small letter goes on the one before,
   unless that ends as a sentence does);
2. ``<data>/classic_books``, see `books`, if the first is not there and no data set is named, or "books" is: a document
   is what stands between two chapter headings (the headings are left out), of at most 500 sentences; there are
   no marks between books, but nearly all begin with such a heading. Line ends inside of a paragraph are spaces;
3. a download through the library `datasets`, streamed: the first articles of ``wikimedia/wikipedia`` (20231101.en),
   and of ``bookcorpus/bookcorpus`` as many sentences as `BOOK_SENTENCES`, in documents of a hundred; Wikipedia alone,
   and named so, where the hub does not give the latter. Kept as (1); every 50th document is in the test part;
4. the stand-in: synthetic stories of a small grammar, which are no real text and say so.

Sentences are told by rule, see `data_scripts.prose`; long ones are kept whole. Of WordPiece as many pieces as asked
for are fitted to the training part; a published vocabulary in ``<data>/bert_corpus/vocab.txt`` is used instead for
that text. The tasks are those of `glue`; the stand-in has its own. Kept in a folder ``prepared`` beside the text, if
that can be written.

``<data>`` is ``--data``, else ``$MUTRANSFER_DATA``, else ``data/`` at the root of the repository. Alone:

    python data_scripts/bert_corpus.py [--data DIR] [--dataset NAME] [--pieces N] [--tasks NAME ...] [--no-download]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run alone: then the path has this folder, not its parent
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from data_scripts import books, glue, hub, prose
from data_scripts.places import NO_DOWNLOAD, OTHER_TEXT, Missing, command, data_folder, has_any, keep_all, read_text
from mutransfer.errors import UserError, unknown

if TYPE_CHECKING:
    from mutransfer.data.sentences import SentenceDataset, Text

FOLDER = "bert_corpus"
FILES = ("train.txt", "valid.txt")
VOCABULARY, NOTE = "vocab.txt", "source.txt"
STAND_IN = "stories"
SETS = (FOLDER, "books", STAND_IN)
WIKIPEDIA, CONFIG = "wikimedia/wikipedia", "20231101.en"
BOOKCORPUS = "bookcorpus/bookcorpus"
DOCUMENTS, BOOK_SENTENCES, BOOK_DOCUMENT = 10_000, 500_000, 100
MOST_SENTENCES = 500  # of a document of the books: nine chapters of ten have at most 300
LEAST_PIECES, MOST_PIECES = 100, 1_000_000


def load(
    data_dir: Path | None = None,
    *,
    dataset: str | None = None,
    pieces: int = 30_522,
    download: bool = True,
    tasks: Sequence[str] | None = None,
    documents: int = DOCUMENTS,
) -> SentenceDataset:
    """The text that is named, or the first that can be had, with its tasks; else the stand-in, told on stderr.

    Args:
        dataset: "bert_corpus" (files or download), "books" or "stories" (the stand-in).
        pieces: of the vocabulary; fewer if the text is short.
        tasks: names of `glue.load`; by default those that can be had, of the stand-in its own; () for none.
        documents: articles that a download draws.

    Raises `UserError` for what is no data set, task or number, or if a file that should hold real text is missing
    beside the other, cut short or unreadable: the stand-in never hides a broken file. `Missing` if books are named and
    not there.
    """
    if dataset is not None and dataset not in SETS:
        raise unknown("data set of bert", dataset, SETS)
    if not LEAST_PIECES <= pieces <= MOST_PIECES:
        raise UserError(f"{pieces} pieces are no vocabulary; expected {LEAST_PIECES} to {MOST_PIECES:,}.")
    if documents < hub.TEST_EVERY:
        raise UserError(f"{documents} documents are too few; expected at least {hub.TEST_EVERY}.")
    for name in tasks or ():
        if name not in glue.NAMES:
            raise unknown("task", name, glue.NAMES)
    data = data_folder(data_dir, FOLDER)
    folder = data / FOLDER
    if dataset is None and not has_any(folder, FILES) and has_any(data / books.FOLDER, books.FILES):
        dataset = "books"
    if dataset == "books":
        source, parts = _books(data)
        folder = data / books.FOLDER
    elif dataset == STAND_IN:
        return _stand_in(data, pieces, download, tasks)
    else:
        try:
            source, parts = _files(folder, download, documents)
        except Missing as missing:
            print(
                f"WARNING: NO REAL TEXT: training on the stand-in, synthetic stories of a small grammar. {missing} "
                "Then run again.",
                file=sys.stderr,
            )
            return _stand_in(data, pieces, download, tasks)
    from mutransfer.data.sentences import SentenceDataset

    vocabulary = folder / VOCABULARY
    return SentenceDataset.from_texts(
        FOLDER if dataset != "books" else "books",
        source,
        is_real=True,
        train=parts[0],
        test=parts[1],
        pieces=pieces,
        vocabulary=read_text(vocabulary)[0] if os.path.lexists(vocabulary) else None,
        tasks=glue.load(data, tasks=tasks, download=download),
        cache=folder / "prepared",
    )


def _stand_in(data: Path, pieces: int, download: bool, tasks: Sequence[str] | None) -> SentenceDataset:
    from mutransfer.data.standins.grammar import stories_dataset

    return stories_dataset(pieces, None if tasks is None else glue.load(data, tasks=tasks, download=download))


def _books(data: Path) -> tuple[str, list[Text]]:
    """Their name and both parts. Raises `Missing` with what to do."""
    parts: list[Text] = []
    folder, is_known = data / books.FOLDER, True
    if not has_any(folder, books.FILES):
        books.load(data)  # says where they are to be had
    for name, documented in books.FILES.items():
        text, is_as_documented = read_text(folder / name, documented)
        parts.append([*prose.chapters(prose.paragraphs(text), MOST_SENTENCES)])
        is_known &= is_as_documented
    return books.SOURCE if is_known else OTHER_TEXT + books.SOURCE, parts


def _files(folder: Path, download: bool, documents: int) -> tuple[str, list[Text]]:
    """The name and both parts of what lies in ``folder``, or is downloaded and kept there. Raises `Missing`."""
    if has_any(folder, FILES):
        texts = [read_text(folder / name)[0] for name in FILES]
        note = folder / NOTE
        source = read_text(note)[0].split("\n")[0].strip() if note.is_file() else f"text of {folder.name}"
    else:
        source, texts = _from_hub(folder, documents, download)
    parts: list[Text] = [[_sentences(block) for block in prose.blocks(text)] for text in texts]
    return f"{source}, {len(parts[0]):,} training documents", parts


def _sentences(lines: list[str]) -> list[str]:
    return [sentence for line in lines for sentence in prose.sentences(line)]


def _from_hub(folder: Path, documents: int, download: bool) -> tuple[str, list[str]]:
    """The name, the training and the test text, kept in ``folder`` if that can be written. Raises `Missing`."""
    source = "Wikipedia and BookCorpus (their beginnings)"
    try:
        found = [_document(article.split("\n")) for article in hub.first_texts(WIKIPEDIA, CONFIG, documents, download)]
    except hub.HubError as error:
        raise Missing(
            f"No text is in {folder} ({' and '.join(FILES)}) or {folder.parent / books.FOLDER}; {error}. Put text "
            "there, or name the folder that has it (--data or MUTRANSFER_DATA)."
        ) from error
    try:
        rows = hub.first_texts(BOOKCORPUS, None, BOOK_SENTENCES)
        found += [_document(rows[i : i + BOOK_DOCUMENT]) for i in range(0, len(rows), BOOK_DOCUMENT)]
    except hub.HubError as error:
        print(f"note: Wikipedia without BookCorpus: {error}", file=sys.stderr)
        source = "Wikipedia without BookCorpus (its beginning)"
    train, test = ("\n".join(part) for part in hub.split([document for document in found if document]))
    # The training text last: a kill before that leaves the smaller one, which is refused by name.
    keep_all(folder, {NOTE: f"{source}\n", FILES[1]: test, FILES[0]: train})
    return source, [train, test]


def _document(lines: Sequence[str]) -> str:
    """A document as it is kept: lines without blank ones between."""
    return "".join(f"{tidy}\n" for line in lines if (tidy := " ".join(line.split())))


def main(argv: list[str] | None = None) -> int:
    """Fetch, verify, cut and summarise; exit code 2 and one line on stderr for an error of the user's."""
    return command(
        "Fetch and cut a text for BERT, and the tasks beside it.",
        load,
        _summary,
        argv,
        dataset={"metavar": "NAME", "help": f"{', '.join(SETS)} (default: the first that can be had)"},
        pieces={"type": int, "default": 30_522, "metavar": "N", "help": "of the vocabulary (default: 30522)"},
        tasks={"nargs": "*", "metavar": "NAME", "help": f"of {', '.join(glue.NAMES)} (default: those that can be had)"},
        documents={"type": int, "default": DOCUMENTS, "metavar": "N", "help": f"to download (default: {DOCUMENTS})"},
        no_download=NO_DOWNLOAD,
    )


def _summary(dataset: SentenceDataset) -> Iterator[tuple[str, str]]:
    yield "source", dataset.source
    for part in ("train", "test"):
        text = dataset.documents(part)
        counts = (
            f"{len(text.document_ends):,} documents, {len(text.sentence_ends):,} sentences, {len(text.tokens):,} tokens"
        )
        yield part, counts
    for name, task in dataset.tasks.items():
        yield name, f"{task.source}: {task.train:,} to train, {task.test:,} to test; {task.metric}"
    yield "vocabulary", f"{dataset.vocab:,} pieces"
    yield "fingerprint", dataset.fingerprint


if __name__ == "__main__":
    sys.exit(main())
