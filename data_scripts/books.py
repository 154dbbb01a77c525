"""Classic books: 40 English novels and essays (18th century to 1912), 35 MB, split by whole book.

``<data>/classic_books/train.txt`` is the training part and ``valid.txt`` (3 other books, 1 MB) the test part, both
plain UTF-8. There is no download. The texts were drawn from github.com/mlschmitt/classic-books-markdown, commit
944882722e9a96fa6cf2739dc2ea757e101f412f ("All titles from the public domain"): title, author and year cut, markdown
marks taken out, runs of spaces made one. Any other two texts under these names are taken too, with a note.

``<data>`` is ``--data``, else ``$MUTRANSFER_DATA``, else ``data/`` at the root of the repository. Alone:

    python data_scripts/books.py [--data DIR] [--tokenizer NAME]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run alone: then the path has this folder, not its parent
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from data_scripts.places import OTHER_TEXT, Documented, Missing, data_folder, has_any, read_text, text_command

if TYPE_CHECKING:
    from mutransfer.data import TokenDataset

FOLDER = "classic_books"
SOURCE = "classic books (40 English novels and essays)"
FILES = {
    "train.txt": Documented(
        "85cd853bb6fb74f7", 34_953_160, "a223e65c8686e01c88b93bd64a04ed23e11a793d598c4c375c21b19a48bb8cf4"
    ),
    "valid.txt": Documented(
        "44ff1c3395d9288b", 1_009_767, "6719c2a65be4bf200b179d259fbd5be169e28cf481c4dfb9355ec14b6cdf37e5"
    ),
}


def load(data_dir: Path | None = None, *, tokenizer: str = "bytes", download: bool = True) -> TokenDataset:
    """The books from ``<data>/classic_books``; words are those that the training part has three times or more.

    ``download`` is there because the other texts have it: there is none. Raises `Missing` if neither file is there,
    `UserError` if one of them is missing, cut short, unreadable or not UTF-8.
    """
    from mutransfer.data.tokens import pieces_of, tokenize

    pieces_of(tokenizer)
    folder = data_folder(data_dir, FOLDER) / FOLDER
    if not has_any(folder, FILES):
        raise Missing(
            f"the classic books are not in {folder}, and there is no download: draw them from "
            "github.com/mlschmitt/classic-books-markdown, put any text as train.txt and valid.txt there, or name the "
            "folder that has classic_books (--data or MUTRANSFER_DATA)."
        )
    (train, is_known), (test, is_test_known) = (read_text(folder / name, known) for name, known in FILES.items())
    source = SOURCE if is_known and is_test_known else OTHER_TEXT + SOURCE
    return tokenize("books", source, tokenizer, is_real=True, train=train, test=test, cache=folder)


def main(argv: list[str] | None = None) -> int:
    """Verify and summarise; exit code 2 and one line on stderr for an error of the user's."""
    return text_command("Verify the classic books.", load, argv)


if __name__ == "__main__":
    sys.exit(main())
