"""OpenWebText (Gokaslan and Cohen 2019): the first documents of the open copy of GPT-2's training text.

Web pages linked from Reddit, in English; by default 10,000 documents, some 50 MB. Looked for, in this order:

1. ``<data>/openwebtext/train.txt`` and ``valid.txt``, whatever their size: delete them to draw another number;
2. a download of ``Skylion007/openwebtext`` through the library `datasets`, streamed, so that no more is downloaded than
   is asked for; kept in ``<data>/openwebtext``. Every 50th document is in the test part.

``<data>`` is ``--data``, else ``$MUTRANSFER_DATA``, else ``data/`` at the root of the repository. Alone:

    python data_scripts/openwebtext.py [--data DIR] [--tokenizer NAME] [--documents N]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run alone: then the path has this folder, not its parent
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from data_scripts import hub
from data_scripts.places import Missing, data_folder, has_any, keep_all, read_text, text_command
from mutransfer.errors import UserError

if TYPE_CHECKING:
    from mutransfer.data import TokenDataset

FOLDER = "openwebtext"
HUB = "Skylion007/openwebtext"
DOCUMENTS = 10_000
FILES = ("train.txt", "valid.txt")


def load(
    data_dir: Path | None = None, *, tokenizer: str = "bytes", download: bool = True, documents: int = DOCUMENTS
) -> TokenDataset:
    """OpenWebText from the first place that has it; ``documents`` says how many a download draws.

    Raises `Missing` if no place has it, within seconds where there is no network; `UserError` if a file that should
    hold it is missing beside the other, unreadable or not UTF-8.
    """
    from mutransfer.data.tokens import pieces_of, tokenize

    pieces_of(tokenizer)
    if documents < hub.TEST_EVERY:
        raise UserError(f"{documents} documents are too few; expected at least {hub.TEST_EVERY}.")
    folder = data_folder(data_dir, FOLDER) / FOLDER
    if has_any(folder, FILES):
        train, test = (read_text(folder / name)[0] for name in FILES)
    else:
        train, test = _from_hub(folder, documents, download)
    source = f"OpenWebText (the first {(len(train) + len(test)) / 1e6:.3g} million characters)"
    return tokenize("openwebtext", source, tokenizer, is_real=True, train=train, test=test, cache=folder)


def _from_hub(folder: Path, documents: int, download: bool) -> tuple[str, str]:
    """The training and the test text, kept in ``folder`` if that can be written."""
    try:
        texts = hub.first_texts(HUB, None, documents, download)
    except hub.HubError as error:
        raise Missing(
            f"OpenWebText ({' and '.join(FILES)}) is not in {folder}; {error}. Put these files there, or name the "
            f"folder that has {FOLDER} (--data or MUTRANSFER_DATA)."
        ) from error
    train, test = ("".join(part) for part in hub.split([text.strip() + "\n\n" for text in texts]))
    # The training text last: a kill between the two leaves the smaller one, which is refused by name.
    keep_all(folder, {FILES[1]: test, FILES[0]: train})
    return train, test


def main(argv: list[str] | None = None) -> int:
    """Fetch and summarise; exit code 2 and one line on stderr for an error of the user's."""
    documents = {"type": int, "default": DOCUMENTS, "metavar": "N", "help": f"to download (default: {DOCUMENTS})"}
    return text_command("Fetch OpenWebText.", load, argv, documents=documents)


if __name__ == "__main__":
    sys.exit(main())
