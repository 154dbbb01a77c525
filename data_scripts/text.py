"""Text to train a language model on: the named one, or the best that this machine has.

By default the first of: WikiText-2 on disk, the classic books on disk, WikiText-2 by download, and the stand-in, which
is the documentation text that ships with Python and says so. Alone:

    python data_scripts/text.py [--data DIR] [--dataset NAME] [--tokenizer NAME]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run alone: then the path has this folder, not its parent
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from data_scripts import books, openwebtext, wikitext2
from data_scripts.places import Missing, text_command
from mutransfer.errors import unknown

if TYPE_CHECKING:
    from mutransfer.data import TokenDataset

REAL = {"wikitext2": wikitext2.load, "books": books.load, "openwebtext": openwebtext.load}
SETS = (*REAL, "topics")


def load(data_dir: Path | None = None, *, dataset: str | None = None, tokenizer: str = "bytes") -> TokenDataset:
    """The data set that is named, or the first that can be had, else the stand-in with one loud line on stderr.

    Raises `UserError` if the one that is named cannot be had, or a file that should hold real text is cut short or
    unreadable: the stand-in never hides a broken file.
    """
    if dataset is not None and dataset not in SETS:
        raise unknown("text", dataset, SETS)
    if dataset in REAL:
        return REAL[dataset](data_dir, tokenizer=tokenizer)
    if dataset is None:
        reasons = []
        for name, download in (("wikitext2", False), ("books", False), ("wikitext2", True)):
            try:
                return REAL[name](data_dir, tokenizer=tokenizer, download=download)
            except Missing as missing:
                reasons.append(str(missing))
        print(
            "WARNING: NO REAL TEXT: training on the stand-in, the documentation text that ships with Python. "
            f"{_sentence(reasons[2])} {_sentence(reasons[1])} Then run again.",
            file=sys.stderr,
        )
    from mutransfer.data import topics_dataset

    return topics_dataset(tokenizer)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def main(argv: list[str] | None = None) -> int:
    """Fetch, verify and summarise; exit code 2 and one line on stderr for an error of the user's."""
    dataset = {"metavar": "NAME", "help": f"{', '.join(SETS)} (default: the first that can be had)"}
    return text_command("Fetch and verify a text.", load, argv, dataset=dataset)


if __name__ == "__main__":
    sys.exit(main())
