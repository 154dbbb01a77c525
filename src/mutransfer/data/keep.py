"""Keeping what was downloaded or fitted beside the data, where that is possible."""

from __future__ import annotations

import sys
from pathlib import Path

from mutransfer.errors import UserError
from mutransfer.files import write


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
