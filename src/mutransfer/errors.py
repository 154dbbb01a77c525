"""The one kind of error that is meant for the person at the keyboard."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


class UserError(Exception):
    """Something the user can mend. The command line prints its one line and exits with code 2."""


def unknown(kind: str, value: object, valid: Iterable[object]) -> UserError:
    """A `UserError` that names the bad ``value``, the nearest valid name and all valid names."""
    names = [str(v) for v in valid]
    near = difflib.get_close_matches(str(value), names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return UserError(f"unknown {kind} '{value}'.{hint} Valid: {', '.join(names)}.")


def known(kind: str, value: T, valid: Iterable[T]) -> T:
    """``value``. Raises `unknown` if it is not in ``valid``."""
    if value not in (names := [*valid]):
        raise unknown(kind, value, names)
    return value
