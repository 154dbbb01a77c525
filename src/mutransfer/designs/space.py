"""What varies between runs: changed settings of a run, and search spaces.

A space is data, as the paper prints it: ``{"lr": LogUniform(-4, -1, base=10), "output_mult": Grid((0.5, 1, 2))}``.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

from mutransfer.errors import UserError, unknown
from mutransfer.training.spec import RunSpec, Value


@dataclass(frozen=True)
class LogUniform:
    """``base^U(low, high)``, such as the 10^U(-4, -1) of App. F.4; rounded to the six digits that tables print."""

    low: float  # exponents
    high: float
    base: float = 2.0
    size = math.inf

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise UserError(f"the exponents of {self} are no range, expected the lower one first.")
        if not 1 < self.base < math.inf:
            raise UserError(f"the base of {self} is {self.base:g}, expected a number above 1.")

    def at(self, u: float) -> float:
        """The value at quantile ``u`` in [0, 1)."""
        return float(f"{self.base ** (self.low + u * (self.high - self.low)):g}")

    def __str__(self) -> str:
        return f"{self.base:g}^U({self.low:g}, {self.high:g})"


@dataclass(frozen=True)
class Grid:
    """One of ``values``, all equally likely."""

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) < len(self.values):
            raise UserError(f"a grid has the values {self.values}, expected at least one, and none twice.")

    @property
    def size(self) -> int:
        return len(self.values)

    def at(self, u: float) -> Value:
        """The value at quantile ``u`` in [0, 1)."""
        return self.values[int(u * len(self.values))]

    def __str__(self) -> str:
        if len(self.values) > 6:
            return f"{{{self.values[0]}, ..., {self.values[-1]}}} ({len(self.values)} values)"
        return f"{{{', '.join(map(str, self.values))}}}"


Distribution = LogUniform | Grid
Space = Mapping[str, Distribution]  # by the hyperparameter's name
Sample = dict[str, Value]
_FIELDS = {f.name for f in fields(RunSpec)} - {"hps"}


def defaults(hps: type) -> dict[str, Value]:
    """Of a dataclass of hyperparameters, those that have a default."""
    return {f.name: f.default for f in fields(hps) if f.default is not MISSING}


def put(spec: RunSpec, changes: Mapping[str, Value]) -> RunSpec:
    """``spec`` with fields or hps changed, by name; `UserError` for a name that it does not have."""
    own = dict(spec.hps)
    for name in changes:
        if name not in own and name not in _FIELDS:
            raise unknown("hyperparameter", name, [*own, *sorted(_FIELDS)])
    changed: dict[str, Any] = {name: value for name, value in changes.items() if name in _FIELDS}
    own.update((name, value) for name, value in changes.items() if name not in _FIELDS)
    return replace(spec, **changed, hps=tuple(own.items()))


def draw(space: Space, count: int, seed: int) -> list[Sample]:
    """``count`` samples; all points of the space, once each, if it is finite and has no more than that.

    Sample i depends on the space, the seed and i alone: a larger ``count`` keeps the earlier samples. The order
    of the names is irrelevant, and one hyperparameter more leaves the values of the others alone.
    """
    size = math.prod(distribution.size for distribution in space.values())
    found: dict[Any, Sample] = {}
    for i in itertools.count():
        if len(found) >= min(count, size):
            return list(found.values())
        sample = {name: space[name].at(_uniform(seed, i, name)) for name in sorted(space)}
        # A point of a grid that was drawn before is passed over: the last of n points takes n ln n draws in all.
        found.setdefault(i if size == math.inf else tuple(sample.values()), sample)
    raise AssertionError("unreachable")


def _uniform(seed: int, i: int, name: str) -> float:
    """A uniform number in [0, 1) from a hash: the same on every machine and with every version of NumPy."""
    digest = hashlib.sha256(f"{seed}/{i}/{name}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) * 2.0**-53


def assign(spec: RunSpec, sample: Mapping[str, Value]) -> RunSpec:
    """``spec`` with the values of ``sample``; as against `put`, a learning rate is no exponent: ``lr``.

    Raises `UserError` for a name that the spec does not have, and for a learning rate that is not positive.
    """
    own, changes = dict(spec.hps), dict(sample)
    if wrong := [name for name in sample if name not in ("lr", "momentum", *own)]:
        raise unknown("hyperparameter", wrong[0], ["lr", "momentum", *own])
    if "lr" in changes:
        lr = changes.pop("lr")
        if isinstance(lr, str) or lr <= 0:
            raise UserError(f"lr is {lr!r}, expected a positive number.")
        changes["log2_lr"] = round(math.log2(lr), 9)  # without the last bits, in which machines differ
    return put(spec, changes)
