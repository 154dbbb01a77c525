"""Do two sets of runs, A and B, have the same best learning rates? Shifts of the optimum, width by width.

Declared before any result, but for the form of the interval (percentiles of draws, which `drift` has for slopes, were
tried first: at one width and two seeds they can miss the very shift that they are of):

- shift of a width: log2 LR* of B less that of A, in octaves, with LR* as in `optimum`. Only widths that both have.
- its 95% interval: to either side, Student's t times the standard error of the bootstrap over seeds, which is the
  root-mean-square distance of the draws from the shift of all seeds. Where A and B have as many seeds, a draw picks
  the same ones in both (what a seed does to both cancels; if it does nothing in common, nothing is lost), else each
  its own. What is known only to the grid is spread in A and B apart, but where all their losses are equal: these are
  the same runs. Student's t has one degree of freedom for each seed after the first of the set that has fewer; for
  the mean shift over K widths, K of them; for drifts, as many as in `drift`.
- difference of the drifts: the least-squares slope of the shifts against log2 width, in octaves per doubling.
- word: ``same`` if the whole interval lies within [-0.25, 0.25], ``differs`` if it lies wholly outside, else
  ``undecided``. With one seed in A or B, or an optimum on the edge of its grid, ``undecided``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from mutransfer.errors import UserError
from mutransfer.results.drift import TOLERANCE, DriftResult, decide, freedom
from mutransfer.results.estimate import LEVEL, Array, Estimate, listing
from mutransfer.results.frame import Curves, curves, tidy
from mutransfer.results.optimum import Optima, bootstrap_optima, edge_sides, require_optimum
from mutransfer.results.quality import line
from mutransfer.results.transfer import transfer_report

Word = Literal["same", "differs", "undecided"]

RULE = (
    "LR* of a width: the learning rate with the least mean training loss over seeds, refined by a parabola in log2 LR. "
    "Intervals of B less A: 95%, Student's t times the bootstrap's standard error over seeds. "
    f"`same`: the whole interval lies within ±{TOLERANCE} octave (per doubling of width, for drifts); `differs`: it "
    "lies wholly outside; else `undecided`, as with one seed or an optimum on the edge of its grid."
)


@dataclass(frozen=True)
class Shift:
    """B less A of one quantity, with its word."""

    value: Estimate
    """Octaves; of drifts, octaves per doubling of width."""
    word: Word
    edges: str = ""
    """Whose optimum lies on which edge of its grid."""

    @classmethod
    def of(cls, draws: Array, freedom: float, edges: str = "") -> Shift:
        """From ``draws`` [1 + draws], the shift of all seeds first, and the degrees of freedom of their error."""
        value = float(draws[0])
        half = math.nan
        if len(draws) > 1:
            half = float(stdtrit(freedom, (1 + LEVEL) / 2) * np.sqrt(((draws[1:] - value) ** 2).mean()))
        estimate = Estimate(value, value - half, value + half)
        words: dict[str, Word] = {"stable": "same", "drifts": "differs", "undecided": "undecided"}
        return cls(estimate, words[decide(estimate, on_edge=bool(edges))], edges)


@dataclass(frozen=True)
class Shifts:
    """One parametrization of A against one of B, over the widths that both have."""

    names: tuple[str, str]
    """The parametrization of A and of B; the same one, but where A and B hold nothing else."""
    widths: tuple[int, ...]
    optima: tuple[tuple[float, float], ...]
    """log2 LR* of A and of B, a pair a width."""
    shifts: tuple[Shift, ...]
    """One a width."""
    mean: Shift
    """Over widths."""
    drifts: tuple[DriftResult, DriftResult] | None
    """Of A and of B over these widths; None if there is one width only, as for what follows."""
    drift: Shift | None


def compare_runs(a: pd.DataFrame, b: pd.DataFrame, *, draws: int = 2000, seed: int = 0) -> list[Shifts]:
    """Every parametrization that the runs tables ``a`` and ``b`` share; the one of each if they share none.

    Both are as for `transfer_report`. Raises `UserError` as it does, and where there is no pair of parametrizations
    or no width in common.
    """
    tables = curves(tidy(a)), curves(tidy(b))
    return [_compare(pair, tables, (a, b), draws, seed) for pair in _pairs(*tables)]


def _pairs(a: dict[str, list[Curves]], b: dict[str, list[Curves]]) -> list[tuple[str, str]]:
    if shared := sorted(set(a) & set(b), key=lambda name: (name != "sp", name)):
        return [(name, name) for name in shared]
    if len(a) == len(b) == 1:
        return [(next(iter(a)), next(iter(b)))]
    raise UserError(
        f"A and B share no parametrization (A has {listing([*a])}, B has {listing([*b])}); expected a common one, or "
        "one in each, as ./reproduce.sh runs EXPERIMENT --where parametrization=sp --export A.csv gives."
    )


def _compare(
    names: tuple[str, str],
    tables: tuple[dict[str, list[Curves]], dict[str, list[Curves]]],
    runs: tuple[pd.DataFrame, pd.DataFrame],
    draws: int,
    seed: int,
) -> Shifts:
    by_width = [{one.width: one for one in table[name]} for table, name in zip(tables, names, strict=True)]
    widths = sorted(set(by_width[0]) & set(by_width[1]))
    if not widths:
        has = [listing([str(w) for w in own]) for own in by_width]
        raise UserError(f"A and B share no width (A has {has[0]}, B has {has[1]}); an optimum shift needs one.")
    both = [(by_width[0][width], by_width[1][width]) for width in widths]
    for pair in both:
        for set_name, name, one in zip("AB", names, pair, strict=True):
            require_optimum(f"{set_name}: {name}", one)
    seeds = min(len(one.loss) for pair in both for one in pair)
    found = [_draw(*pair, draws if seeds > 1 else 0, seed) for pair in both]
    shift = np.stack([(b.log2_lr + b.shift) - (a.log2_lr + a.shift) for a, b in found], axis=1)
    extra = seeds - 1
    edges = [_edges(*pair) for pair in both]
    where = ", ".join(f"width {width}: {edge}" for width, edge in zip(widths, edges, strict=True) if edge)
    drifts = drift = None
    if len(widths) > 1:
        reports = [
            transfer_report(
                part[(part["parametrization"] == name) & part["width"].isin(widths)], draws=draws, seed=seed
            )
            for part, name in zip(runs, names, strict=True)
        ]
        drifts = reports[0].results[0], reports[1].results[0]
        x = np.log2(np.array(widths, dtype=float))
        drift = Shift.of(line(x, shift)[0], freedom(x) * extra, where)
    return Shifts(
        names=names,
        widths=tuple(widths),
        optima=tuple((float(a.log2_lr[0]), float(b.log2_lr[0])) for a, b in found),
        shifts=tuple(Shift.of(shift[:, k], extra, edge) for k, edge in enumerate(edges)),
        mean=Shift.of(shift.mean(axis=1), len(widths) * extra, where),
        drifts=drifts,
        drift=drift,
    )


def _draw(a: Curves, b: Curves, draws: int, seed: int) -> tuple[Optima, Optima]:
    """Optima of A and B, draw by draw; row 0 is that of all seeds."""

    def stream(number: int) -> np.random.Generator:
        return np.random.default_rng([seed, a.width, number])

    is_same = np.array_equal(a.log2_lr, b.log2_lr) and np.array_equal(a.loss, b.loss)
    first = bootstrap_optima(a, draws, stream(0), stream(1))
    picks = stream(0 if len(a.loss) == len(b.loss) else 2)
    return first, bootstrap_optima(b, draws, picks, stream(1 if is_same else 3))


def _edges(a: Curves, b: Curves) -> str:
    sides = [
        f"{name} on the {' and '.join(edge_sides(one))} edge" for name, one in (("A", a), ("B", b)) if edge_sides(one)
    ]
    return ", ".join(sides)
