"""OpenWebText (Gokaslan and Cohen 2019): the first documents of the open copy of GPT-2's training text.

Web pages linked from Reddit, in English; by default 10,000 documents, some 50 MB. Looked for, in this order:

1. ``<data>/openwebtext/train.txt`` and ``valid.txt``, whatever their size: delete them to draw another number;
2. a download of ``Skylion007/openwebtext`` through the library `datasets`, streamed, so that no more is downloaded than
   is asked for; kept in ``<data>/openwebtext``. Every 50th document is in the test part.

``<data>`` is ``--data``, else ``$MUTRANSFER_DATA``, else ``data/`` at the root of the repository. Alone:

    python data_scripts/openwebtext.py [--data DIR] [--tokenizer NAME] [--documents N]
"""

from __future__ import annotations

import contextlib
import os
import sys
from itertools import islice
from pathlib import Path

if not __package__:  # run alone: then the path has this folder, not its parent
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from data_scripts import hub
from data_scripts.places import Missing, command, data_folder, read_text
from mutransfer.data import TokenDataset
from mutransfer.data.tokens import pieces_of, tokenize
from mutransfer.errors import UserError
from mutransfer.files import keep

FOLDER = "openwebtext"
HUB = "Skylion007/openwebtext"
DOCUMENTS = 10_000
TEST_EVERY = 50
FILES = ("train.txt", "valid.txt")


def load(
    data_dir: Path | None = None, *, tokenizer: str = "bytes", download: bool = True, documents: int = DOCUMENTS
) -> TokenDataset:
    """OpenWebText from the first place that has it; ``documents`` says how many a download draws.

    Raises `Missing` if no place has it, within seconds where there is no network; `UserError` if a file that should
    hold it is missing beside the other, unreadable or not UTF-8.
    """
    pieces_of(tokenizer)
    if documents < TEST_EVERY:
        raise UserError(f"{documents} documents are too few; expected at least {TEST_EVERY}.")
    folder = data_folder(data_dir, __file__, FOLDER) / FOLDER
    if any(os.path.lexists(folder / name) for name in FILES):
        train, test = (read_text(folder / name)[0] for name in FILES)
    else:
        train, test = _from_hub(folder, documents, download)
    source = f"OpenWebText (the first {(len(train) + len(test)) / 1e6:.3g} million characters)"
    return tokenize("openwebtext", source, tokenizer, is_real=True, train=train, test=test, cache=folder)


def _from_hub(folder: Path, documents: int, download: bool) -> tuple[str, str]:
    """The training and the test text, kept in ``folder`` if that can be written."""
    reason, found = "downloading was turned off", []
    if download:
        try:
            # Closed at once: the library's retries are set back and the connection goes.
            with contextlib.closing(hub.texts(HUB, split="train", streaming=True)) as stream:
                found = [text.strip() + "\n\n" for text in islice(stream, documents)]
            reason = f"the hub gave {len(found)} of {documents} documents"
        except hub.HubError as error:
            reason = str(error)
    if len(found) < documents:
        raise Missing(
            f"OpenWebText ({' and '.join(FILES)}) is not in {folder}; {reason}. Put these files there, or name the "
            f"folder that has {FOLDER} (--data or MUTRANSFER_DATA)."
        )
    test = "".join(found[TEST_EVERY - 1 :: TEST_EVERY])
    del found[TEST_EVERY - 1 :: TEST_EVERY]
    train = "".join(found)
    # The training text last: a kill between the two leaves the smaller one, which is refused by name.
    for name, text in zip(reversed(FILES), (test, train), strict=True):
        if not keep(folder / name, text.encode()):
            break
    return train, test


def main(argv: list[str] | None = None) -> int:
    """Fetch and summarise; exit code 2 and one line on stderr for an error of the user's."""
    documents = {"type": int, "default": DOCUMENTS, "metavar": "N", "help": f"to download (default: {DOCUMENTS})"}
    return command("Fetch OpenWebText.", load, argv, documents=documents)


if __name__ == "__main__":
    sys.exit(main())
