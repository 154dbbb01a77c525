"""Files that are replaced whole or not at all."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from mutransfer.errors import UserError


def write(path: Path, content: bytes | memoryview) -> Path:
    """Write ``content`` in one step: a reader sees the old file or the new one, never a half; returns ``path``.

    The folder is made if it is missing. Raises `UserError` if the file cannot be written; nothing is left behind.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        cure = "free space, make the folder writable or use another --out"
        raise UserError(f"cannot write {path}: {error.strerror or error}; {cure}.") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return path


def keep(path: Path, content: bytes) -> bool:
    """Write ``content`` to ``path`` whole or not at all; a note on stderr and False where that cannot be.

    A folder whose mode lets nobody write is left alone, even by root.
    """
    try:
        folder = next(p for p in path.absolute().parents if p.exists())
        if not folder.stat().st_mode & 0o222:
            raise UserError(f"cannot write {path}: the folder is read-only.")
        write(path, content)
    except (OSError, UserError) as error:
        print(f"note: {path.name} cannot be kept for the next run ({error})", file=sys.stderr)
        return False
    return True
