"""What the data scripts share: where data lies, how a text is read, what one says of it alone on the command line."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mutransfer.errors import UserError
from mutransfer.files import keep

if TYPE_CHECKING:
    from mutransfer.data import TokenDataset

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


def data_folder(named: Path | None, name: str) -> Path:
    """``named``, else $MUTRANSFER_DATA, else ``data/`` at the root of the repository (which need not exist).

    Raises `UserError` if one that was named is no folder, or it or its folder ``name`` cannot be read.
    """
    chosen = named or os.environ.get("MUTRANSFER_DATA")
    if not chosen:
        return Path(__file__).resolve().parents[1] / "data"
    folder = Path(chosen).expanduser()
    if not folder.is_dir():
        raise UserError(f"data folder {folder} does not exist or is no folder; create it or name another.")
    for place in (folder, folder / name):
        if place.is_dir() and not os.access(place, os.R_OK | os.X_OK):
            raise UserError(f"data folder {place} cannot be read; allow it (chmod u+rx) or name another.")
    return folder


def has_any(folder: Path, names: Iterable[str]) -> bool:
    """Whether one of these is there; a dangling link is a broken file, not an absent one."""
    return any(os.path.lexists(folder / name) for name in names)


def keep_all(folder: Path, files: Mapping[str, str]) -> None:
    """Keep the texts in this order, as far as that can be: what decides whether all is there comes last."""
    all(keep(folder / name, text.encode()) for name, text in files.items())


def read_text(path: Path, documented: Documented | None = None) -> tuple[str, bool]:
    """The text of a file, its line ends untouched, and whether it is the ``documented`` one (if not, a note on stderr).

    Raises `UserError` if the file is empty, unreadable, not UTF-8, or the beginning of the documented one.
    """
    try:
        raw = path.read_bytes()
        text = raw.decode()
        if not text.strip():
            raise ValueError("it is empty")
        if documented and len(raw) < documented.size and _sha256(raw[:HEAD_BYTES])[:16] == documented.head:
            raise ValueError(f"cut short: {len(raw):,} of {documented.size:,} bytes")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a whole text in UTF-8 ({error}); {MENDING}") from error
    if documented is None or (digest := _sha256(raw)) == documented.sha256:
        return text, True
    print(
        f"note: {path} has sha256 {digest[:16]}..., not the documented {documented.sha256[:16]}...: another text, "
        "whose results carry another fingerprint.",
        file=sys.stderr,
    )
    return text, False


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def command(
    description: str,
    load: Callable[..., Any],
    summary: Callable[[Any], Iterable[tuple[str, str]]],
    argv: Sequence[str] | None = None,
    **options: Mapping[str, Any],
) -> int:
    """Run a script alone: fetch, verify and summarise; exit code 2 and one line on stderr for a `UserError`.

    Args:
        load: gets the options of the command line by their names, ``data_dir`` among them.
        summary: of what it returns, lines of a label and a text.
        options: name to arguments of `add_argument`.
    """
    parser = argparse.ArgumentParser(description=description)
    default = "data folder (default: $MUTRANSFER_DATA, else data/)"
    parser.add_argument("--data", type=Path, metavar="DIR", dest="data_dir", help=default)
    for name, arguments in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **arguments)
    try:
        lines = [f"{label:<13}{text}" for label, text in summary(load(**vars(parser.parse_args(argv))))]
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(*lines, sep="\n")
    return 0


NO_DOWNLOAD = {"action": "store_false", "dest": "download", "help": "ask nobody"}
"""The option that each script with a download may have."""


def text_command(
    description: str, load: Callable[..., TokenDataset], argv: Sequence[str] | None, **options: Mapping[str, Any]
) -> int:
    """`command` for a text that is cut into tokens."""

    def summary(dataset: TokenDataset) -> list[tuple[str, str]]:
        counts = f"{len(dataset.train_tokens)} train, {len(dataset.test_tokens)} test, vocabulary {dataset.vocab}"
        return [("source", dataset.source), ("tokens", counts), ("fingerprint", dataset.fingerprint)]

    names = "bytes, words, sentencepiece-8000 (default: bytes)"
    return command(description, load, summary, argv, tokenizer={"default": "bytes", "help": names}, **options)
