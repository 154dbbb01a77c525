"""What the data scripts share: where data lies, how a text is read, what one says of it alone on the command line."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutransfer.data import TokenDataset
from mutransfer.data.tokens import NAMES
from mutransfer.errors import UserError

CONNECT_SECONDS = 8.0
MENDING = "delete it or put a whole copy in its place, then run again."
HEAD_BYTES = 256
OTHER_TEXT = "other text in the place of "  # before the source, in captions


class Missing(UserError):
    """The data set is nowhere on the disk and cannot be downloaded; says what to do."""


@dataclass(frozen=True)
class Documented:
    """What is known of a file of text, to tell a file cut short from another text."""

    head: str  # first 16 hex digits of the sha256 of its first `HEAD_BYTES` bytes
    size: int  # bytes
    sha256: str


def data_folder(named: Path | None, script: str, name: str) -> Path:
    """``named``, else $MUTRANSFER_DATA, else ``data/`` at the repository root of ``script`` (which need not exist).

    Raises `UserError` if one that was named is no folder, or it or its folder ``name`` cannot be read.
    """
    chosen = named or os.environ.get("MUTRANSFER_DATA")
    if not chosen:
        return Path(script).resolve().parents[1] / "data"
    folder = Path(chosen).expanduser()
    if not folder.is_dir():
        raise UserError(f"data folder {folder} does not exist or is no folder; create it or name another.")
    for place in (folder, folder / name):
        if place.is_dir() and not os.access(place, os.R_OK | os.X_OK):
            raise UserError(f"data folder {place} cannot be read; allow it (chmod u+rx) or name another.")
    return folder


def read_text(path: Path, documented: Documented | None = None) -> tuple[str, bool]:
    """The text of a file, its line ends untouched, and whether it is the ``documented`` one (if not, a note on stderr).

    Raises `UserError` if the file is empty, unreadable, not UTF-8, or the beginning of the documented one.
    """
    try:
        raw = path.read_bytes()
        text = raw.decode()
        if not text.strip():
            raise ValueError("it is empty")
        if documented and len(raw) < documented.size and _mark(raw[:HEAD_BYTES]) == documented.head:
            raise ValueError(f"cut short: {len(raw):,} of {documented.size:,} bytes")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a whole text in UTF-8 ({error}); {MENDING}") from error
    if documented is None or (found := hashlib.sha256(raw).hexdigest()) == documented.sha256:
        return text, True
    print(
        f"note: {path} has sha256 {found[:16]}..., not the documented {documented.sha256[:16]}...: another text, "
        "whose results carry another fingerprint.",
        file=sys.stderr,
    )
    return text, False


def _mark(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:16]


def command(description: str, load: Callable[..., TokenDataset], argv: list[str] | None, **options: Any) -> int:
    """Run a script for text alone: fetch, verify and summarise; exit code 2 and one line on stderr for a `UserError`.

    ``options`` are further options of the command, passed on to ``load``: name to arguments of `add_argument`.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        dest="data_dir",
        help="data folder (default: $MUTRANSFER_DATA, else data/)",
    )
    parser.add_argument("--tokenizer", default="bytes", help=f"{', '.join(NAMES)} (default: bytes)")
    for name, arguments in options.items():
        parser.add_argument(f"--{name}", **arguments)
    try:
        dataset = load(**vars(parser.parse_args(argv)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"source       {dataset.source}")
    print(
        f"tokens       {len(dataset.train_tokens)} train, {len(dataset.test_tokens)} test, vocabulary {dataset.vocab}"
    )
    print(f"fingerprint  {dataset.fingerprint}")
    return 0
