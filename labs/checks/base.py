"""What the checks of all labs share: the scale of a lab, the line that a check prints, and reading an answer.

A check is a function of the answer that returns what is wrong with it in words (a hint), or None if it is right:

    @exercise("1a")
    def ex1a(answer: object) -> str | None:
        drift = number(answer, "the drift")
        return None if abs(drift - expected()) < 0.05 else f"you gave {drift:g}; ..."

It prints one line and never raises, so that a notebook runs from top to bottom whatever stands in it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, Literal

import numpy as np

from mutransfer.errors import unknown

SCALE = "MUTRANSFER_LAB_SCALE"
LINE = re.compile(r"^(?P<exercise>\d[a-z]): (?P<verdict>right|not yet\. .+|not done yet: .+)$", re.MULTILINE)
"""A line that a check printed."""


def scale() -> Literal["full", "smoke"]:
    """``"smoke"`` (seconds; for tests) if $MUTRANSFER_LAB_SCALE says so, else ``"full"``."""
    return "smoke" if os.environ.get(SCALE) == "smoke" else "full"


class Wrong(Exception):
    """An answer that cannot be judged further; its message is the hint."""


class Undone(Exception):
    """A function of the student's that still returns the stub's ``...``."""


def verdict(exercise: str, hint: str | None) -> bool:
    """Print whether the answer is right, else the hint. Returns whether it is."""
    print(f"{exercise}: right" if hint is None else f"{exercise}: not yet. {' '.join(hint.split())}")
    return hint is None


def unanswered(*values: object) -> bool:
    """Whether a ``...`` of the stub is still in one of the values, or inside a list, tuple or dict of them."""

    def has_stub(value: object) -> bool:
        if isinstance(value, Mapping):
            return unanswered(*value.values())
        return unanswered(*value) if isinstance(value, list | tuple) else value is ...

    return any(map(has_stub, values))


def exercise(name: str) -> Callable[[Callable[..., str | None]], Callable[..., bool]]:
    """Make a function from answers to a hint (None: right) into a check: it prints one line and returns a bool."""

    def decorate(hint_of: Callable[..., str | None]) -> Callable[..., bool]:
        @wraps(hint_of)
        def check(*answers: object, **given: object) -> bool:
            try:
                if unanswered(*answers, *given.values()):
                    raise Undone
                return verdict(name, hint_of(*answers, **given))
            except Undone:
                print(f"{name}: not done yet: replace the ...")
                return False
            except Wrong as wrong:
                return verdict(name, str(wrong))

        return check

    return decorate


def number(value: object, what: str) -> float:
    """The answer as a float. Raises `Wrong` unless it is one finite number (a 0-d tensor or array will do)."""
    try:
        if isinstance(value, str | bool):
            raise TypeError
        given = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise Wrong(f"{what} must be a number, you gave {shown(value)}.") from None
    if not math.isfinite(given):
        raise Wrong(f"{what} must be a finite number, you gave {given}.")
    return given


def choice(value: object, what: str, valid: Iterable[str]) -> str:
    """The answer as one of the ``valid`` words. Raises `Wrong` with the nearest valid one."""
    valid = list(valid)
    if value not in valid:
        raise Wrong(str(unknown(what, value, valid)))
    return str(value)


def table(value: object, what: str, keys: Iterable[Any]) -> dict[Any, Any]:
    """The answer as a dict with exactly these keys. Raises `Wrong` with the first one missing or not known."""
    keys = list(keys)
    if not isinstance(value, Mapping):
        raise Wrong(f"{what} must be a dict with the keys {listed(keys)}, you gave {shown(value)}.")
    for key in value:
        if key not in keys:
            raise Wrong(f"{what} has the key {key!r}; the keys are {listed(keys)}.")
    for key in keys:
        if key not in value:
            raise Wrong(f"{what} lacks the key {key!r}.")
    return dict(value)


def numbers(value: object, what: str, keys: Iterable[Any]) -> dict[Any, float]:
    """The answer as a dict with exactly these keys, of finite numbers; raises `Wrong` as `table` and `number` do."""
    return {key: number(part, f"{what}[{key!r}]") for key, part in table(value, what, keys).items()}


def choices(value: object, what: str, keys: Iterable[Any], valid: Iterable[str]) -> dict[Any, str]:
    """The answer as a dict with exactly these keys, of ``valid`` words; raises `Wrong` as `table` and `choice` do."""
    return {key: choice(part, f"word in {what}", valid) for key, part in table(value, what, keys).items()}


def slip(given: float, slips: Iterable[tuple[Any, str]], otherwise: str, **tolerance: float) -> str:
    """The hint of the first usual slip that leads to the number given, else ``otherwise``.

    ``slips`` are pairs of a number, or several, and the hint that they deserve; ``tolerance`` is `math.isclose`'s.
    """
    for values, hint in slips:
        if any(math.isclose(given, value, **tolerance) for value in np.atleast_1d(values)):
            return hint
    return otherwise


def call(function: object, *arguments: object) -> Any:
    """What the student's function returns. Raises `Wrong` if it is none or raises, `Undone` if it returns ``...``."""
    if not callable(function):
        raise Wrong(f"expected a function, you gave {shown(function)}.")
    try:
        result = function(*arguments)
    except Exception as error:
        given = ", ".join(map(shown, arguments))
        raise Wrong(f"your function raised {type(error).__name__} on ({given}): {error}") from error
    if unanswered(result):
        raise Undone
    return result


def growth(size_at: Callable[[int], float], widths: Iterable[int]) -> float:
    """The exponent k of size ~ width^k: the least-squares slope of log2 size on log2 width."""
    widths = list(widths)
    return float(np.polyfit(np.log2(widths), [math.log2(size_at(n)) for n in widths], 1)[0])


def shown(value: object) -> str:
    """The value in at most 60 characters, on one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def listed(values: Iterable[object]) -> str:
    """The values with commas, as code."""
    return ", ".join(map(repr, values))
