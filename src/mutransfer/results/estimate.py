"""A number with its 95% interval, and the one place that says how such a number is written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Array = NDArray[np.float64]

LABELS = {"sp": "SP", "mup": "µP", "ntk": "NTK", "mean_field": "mean field"}
LEVEL = 0.95
"""Coverage of every interval of the suite."""


def label(parametrization: str) -> str:
    """The name as the paper writes it: ``"mup"`` -> ``"µP"``; an unknown name stays as it is."""
    return LABELS.get(parametrization, parametrization)


def number(value: float, digits: int = 2) -> str:
    """``value`` with ``digits`` decimals; +inf (a loss that diverged) is written ``diverged``, NaN a dash."""
    if math.isfinite(value):
        return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0 turns -0.00 into 0.00
    return "-" if math.isnan(value) else "diverged"


def span(low: float, high: float, digits: int = 2) -> str:
    """``[low, high]``, or the words for a missing interval."""
    if math.isnan(low) or math.isnan(high):
        return "no interval"
    return f"[{number(low, digits)}, {number(high, digits)}]"


def power(log2_value: float, digits: int = 2) -> str:
    """A learning rate by its exponent: -4.0 -> ``2^-4.00``."""
    return "-" if math.isnan(log2_value) else f"2^{number(log2_value, digits)}"


def t_half(values: Array, axis: int = 0) -> Array:
    """Half the 95% t interval of the mean along ``axis``; NaN for one value."""
    n = values.shape[axis]
    if n < 2:
        return np.full(values.mean(axis=axis).shape, np.nan)
    return np.asarray(stdtrit(n - 1, (1 + LEVEL) / 2) * values.std(axis=axis, ddof=1) / math.sqrt(n))


def listing(words: list[str]) -> str:
    """``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def counted(counts: Iterable[int], what: str) -> str:
    """``1 seed``, ``3 seeds``, or ``2 to 3 seeds`` where the counts differ."""
    low, high = min(counts := list(counts)), max(counts)
    return f"{low if low == high else f'{low} to {high}'} {what}{'' if high == 1 else 's'}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows of a table for the terminal, their cells in columns."""
    size = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(n) for cell, n in zip(row, size, strict=True)).rstrip() for row in rows]


@dataclass(frozen=True)
class Estimate:
    """``value`` with its 95% bootstrap interval [``low``, ``high``]; what is unknown is NaN and has a ``reason``."""

    value: float
    low: float = math.nan
    high: float = math.nan
    reason: str = ""

    @classmethod
    def of(cls, values: Array, unknown: str = "") -> Estimate:
        """Of ``values`` [1 + draws]: the point estimate first, the bootstrap draws after it, NaN if not identifiable.

        If more than 5% of the draws are, an interval over the rest would describe the lucky ones only: there is none.
        ``unknown`` is the reason if the point estimate itself is NaN.
        """
        value, draws = float(values[0]), values[1:]
        if math.isnan(value):
            return cls(value, reason=unknown)
        if not len(draws):
            return cls(value, reason="one seed gives no interval")
        known = draws[~np.isnan(draws)]
        if len(known) < LEVEL * len(draws):
            return cls(value, reason="no interval: not identifiable in more than 5% of the bootstrap draws")
        # Order statistics, never a blend of two draws: a draw may be +inf.
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf")
        return cls(value, float(low), float(high))

    @classmethod
    def mean(cls, values: Array) -> Estimate:
        """The mean of ``values`` [S], one a seed, with its 95% t interval; +inf if a seed's is."""
        mean = float(values.mean())
        if math.isinf(mean):
            return cls(mean, reason="a seed diverged")
        if len(values) == 1:
            return cls(mean, reason="one seed gives no interval")
        half = float(t_half(values))
        return cls(mean, mean - half, mean + half)

    def brief(self, digits: int = 2) -> str:
        """``91.20 [90.88, 91.52]``, the value alone where there is no interval, a dash where there is none."""
        interval = "" if math.isnan(self.low) else f" {span(self.low, self.high, digits)}"
        return number(self.value, digits) + interval

    def full(self, digits: int = 2) -> str:
        """`brief`, but in words where there is no interval; a dash where there is no value."""
        value = number(self.value, digits)
        return value if math.isnan(self.value) else f"{value} {span(self.low, self.high, digits)}"

    def text(self, digits: int = 2) -> str:
        """``-0.75 [-0.81, -0.70]``, or the words for what is missing."""
        if math.isnan(self.value):
            return f"not identifiable ({self.reason})"
        tail = f" ({self.reason})" if math.isnan(self.low) else ""
        return f"{number(self.value, digits)} {span(self.low, self.high, digits)}{tail}"
