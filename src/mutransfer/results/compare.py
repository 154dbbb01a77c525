"""``./reproduce.sh compare A B``: do two sets of runs have the same best learning rates? Shifts, width by width.

The rule, declared before any result, is `RULE`, but for the form of the interval: percentiles of draws, which
`transfer` has for slopes, were tried first, and at one width and two seeds they can miss the very shift that they are
of. The bootstrap's standard error is the root-mean-square distance of the draws from the shift of all seeds; Student's
t has one degree of freedom for each seed after the first of the set that has fewer, for the mean shift over K widths K
of them, for drifts as many as in `transfer`. What else differs between the two (data, scale, precision, ...) is named
first: a shift is one of all that differs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from mutransfer.errors import UserError
from mutransfer.results import transfer
from mutransfer.results.estimate import LEVEL, Array, Estimate, aligned, counted, label, listing, power
from mutransfer.results.folder import read_provenance, read_runs
from mutransfer.results.frame import Curves, curves, tidy

OWN = ("run_id", "seed", "parametrization", "width", "log2_lr", "status", "steps_done", "wall_seconds")
"""Columns that are a run's own, as are its losses and scores; all others are settings that two sets should share."""
WANTED = ("data_fingerprint", "scale", "steps", "batch", "precision")
"""Settings without which nothing is known of what a shift is due to."""
OUTCOMES = ("train_", "test_", "bleu_")
MOST = 6  # a column with more values than this is a run's own, too

RULE = (
    "LR* of a width: the learning rate with the least mean training loss over seeds, refined by a parabola in log2 LR. "
    "Intervals of B less A: 95%, Student's t times the bootstrap's standard error over seeds. "
    f"`same`: the whole interval lies within ±{transfer.TOLERANCE} octave (per doubling of width, for drifts); "
    "`differs`: it lies wholly outside; else `undecided`, as with one seed or an optimum on the edge of its grid."
)


@dataclass(frozen=True)
class Shift:
    """B less A of one quantity, in octaves (of drifts: per doubling of width), with its word."""

    value: Estimate
    word: str  # same, differs or undecided
    edges: str = ""  # whose optimum lies on which edge of its grid

    @classmethod
    def of(cls, draws: Array, freedom: float, edges: str = "") -> Shift:
        """From ``draws`` [1 + draws], the shift of all seeds first, and the degrees of freedom of their error."""
        value, half = float(draws[0]), math.nan
        if len(draws) > 1:
            half = float(stdtrit(freedom, (1 + LEVEL) / 2) * np.sqrt(((draws[1:] - value) ** 2).mean()))
        estimate = Estimate(value, value - half, value + half)
        verdict = transfer.decide(estimate, on_edge=bool(edges))
        return cls(estimate, {"stable": "same", "drifts": "differs"}.get(verdict, verdict), edges)

    @property
    def cells(self) -> tuple[str, str]:
        return self.value.full(), f"{self.word}, {self.edges}" if self.edges else self.word


@dataclass(frozen=True)
class Shifts:
    """One parametrization of A against one of B, over the widths that both have."""

    names: tuple[str, str]  # of A and of B; the same one, but where A and B hold nothing else
    widths: tuple[int, ...]
    optima: tuple[tuple[float, float], ...]  # log2 LR* of A and of B, one pair per width
    shifts: tuple[Shift, ...]  # one per width
    mean: Shift  # over widths
    drifts: tuple[transfer.DriftResult, ...]  # of A and of B over these widths; none if there is one width only
    drift: Shift | None


def compare_runs(a: pd.DataFrame, b: pd.DataFrame, *, draws: int = 2000, seed: int = 0) -> list[Shifts]:
    """Every parametrization that the runs tables ``a`` and ``b`` share; the one of each if they share none.

    Both are as for `transfer_report`. Raises `UserError` as it does, and where there is no pair of parametrizations
    or no width in common.
    """
    tables = [curves(tidy(runs)) for runs in (a, b)]
    pairs = [(name, name) for name in sorted({*tables[0]} & {*tables[1]}, key=lambda name: (name != "sp", name))]
    if not pairs and len(tables[0]) == len(tables[1]) == 1:
        pairs = list(zip(*tables, strict=True))
    if not pairs:
        has = [listing([*table]) for table in tables]
        raise UserError(
            f"A and B share no parametrization (A has {has[0]}, B has {has[1]}); expected a common one, or "
            "one in each, as ./reproduce.sh runs EXPERIMENT --where parametrization=sp --export A.csv gives."
        )
    both = [[{c.width: c for c in own[name]} for own, name in zip(tables, names, strict=True)] for names in pairs]
    return [_compare(names, by_width, (a, b), draws, seed) for names, by_width in zip(pairs, both, strict=True)]


def _compare(
    names: tuple[str, str], by_width: Sequence[dict[int, Curves]], runs: Sequence[pd.DataFrame], draws: int, seed: int
) -> Shifts:
    widths = sorted({*by_width[0]} & {*by_width[1]})
    if not widths:
        has = [listing([str(w) for w in own]) for own in by_width]
        raise UserError(f"A and B share no width (A has {has[0]}, B has {has[1]}); an optimum shift needs one.")
    both = [(by_width[0][width], by_width[1][width]) for width in widths]
    edges = []
    for pair in both:
        for which, name, curve in zip("AB", names, pair, strict=True):
            transfer.require_optimum(f"{which}: {name}", curve)
        sides = [(which, " and ".join(transfer.edge_sides(curve))) for which, curve in zip("AB", pair, strict=True)]
        edges.append(", ".join(f"{which} on the {own} edge" for which, own in sides if own))
    free = min(len(curve.loss) for pair in both for curve in pair) - 1
    log2_lr = np.stack([_draw(*pair, draws if free else 0, seed) for pair in both], axis=2)
    shift = log2_lr[1] - log2_lr[0]
    where = ", ".join(f"width {width}: {edge}" for width, edge in zip(widths, edges, strict=True) if edge)
    drifts, drift = list[transfer.DriftResult](), None
    if len(widths) > 1:
        for part, name in zip(runs, names, strict=True):
            own = part[(part["parametrization"] == name) & part["width"].isin(widths)]
            drifts.append(transfer.transfer_report(own, draws=draws, seed=seed).results[0])
        x = np.log2(np.array(widths, dtype=float))
        drift = Shift.of(transfer.line(x, shift)[0], transfer.freedom(x) * free, where)
    optima = tuple(map(tuple, log2_lr[:, 0].T.tolist()))
    shifts = tuple(Shift.of(shift[:, k], free, edge) for k, edge in enumerate(edges))
    mean = Shift.of(shift.mean(axis=1), len(widths) * free, where)
    return Shifts(names, tuple(widths), optima, shifts, mean, tuple(drifts), drift)


def _draw(a: Curves, b: Curves, draws: int, seed: int) -> Array:
    """log2 LR* [2, 1 + draws] of A and B, draw by draw; the first is that of all seeds."""
    picks = 0 if len(a.loss) == len(b.loss) else 2
    spread = 1 if np.array_equal(a.log2_lr, b.log2_lr) and np.array_equal(a.loss, b.loss) else 3
    rngs = [[np.random.default_rng([seed, a.width, k]) for k in own] for own in ((0, 1), (picks, spread))]
    optima = [transfer.bootstrap_optima(curve, draws, *own) for curve, own in zip((a, b), rngs, strict=True)]
    return np.stack([o.log2_lr + o.shift for o in optima])


def compare(a: Path, b: Path) -> str:
    """The text that says how the optima of ``b`` lie to those of ``a``: two runs.csv, or folders that hold one.

    Raises `UserError`, in one line with the path, for a file that is missing or no runs table, and where the two
    share no parametrization or no width.
    """
    paths = [path / "runs.csv" if path.is_dir() else path for path in (a, b)]
    runs = [_read(path) for path in paths]
    pairs = compare_runs(*runs)
    lines = [f"{name}: {path} ({_describe(own)})" for name, path, own in zip("AB", paths, runs, strict=True)]
    lines += _differences(*(_settings(path, own) for path, own in zip(paths, runs, strict=True)))
    return "\n".join([*lines, *(line for shifts in pairs for line in ["", *_lines(shifts)]), "", RULE])


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise UserError(f"{path} does not exist; expected a runs.csv, or a folder that holds one.")
    runs = read_runs(path)
    try:
        tidy(runs)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return runs


def _settings(path: Path, runs: pd.DataFrame) -> dict[str, str]:
    """All values of each setting in one text; 64 and 64.0 are one."""
    settings, provenance = dict[str, str](), path.with_name("provenance.json")
    for name in runs.columns:
        values = runs[name].unique()
        if name not in OWN and not name.startswith(OUTCOMES) and len(values) <= MOST:
            texts = [f"{v:.12g}" if isinstance(v, Real) and not isinstance(v, bool) else str(v) for v in values]
            settings[name] = ", ".join(sorted(texts))
    facts = read_provenance(provenance) if provenance.is_file() else {}
    return settings | {name: str(facts[name]) for name in ("scale", "data_source") if name in facts}


def _describe(runs: pd.DataFrame) -> str:
    names = sorted(runs["parametrization"].unique(), key=lambda name: (name != "sp", name))
    widths = [str(width) for width in sorted(runs["width"].unique())]
    seeds = counted(runs.groupby(["parametrization", "width"])["seed"].nunique(), "seed")
    return (
        f"{listing([label(name) for name in names])}; widths {', '.join(widths)}; "
        f"log2 LR {runs['log2_lr'].min():g} to {runs['log2_lr'].max():g}; {seeds}"
    )


def _differences(a: dict[str, str], b: dict[str, str]) -> list[str]:
    """What is the same in both, what differs, and what is not known."""
    both = [name for name in a if name in b]
    alike = [name for name in both if a[name] == b[name]]
    unknown = [name for name in WANTED if name not in both]
    lines = [f"differs: {name}: A {a[name]}; B {b[name]}" for name in both if name not in alike]
    lists = {"the same in both": alike, "not known of both": unknown}
    return [*(f"{what}: {', '.join(names)}" for what, names in lists.items() if names), *lines]


def _lines(shifts: Shifts) -> list[str]:
    first, other = (label(name) for name in shifts.names)
    rows = [("width", "LR* of A", "LR* of B", "B less A, octaves", "")]
    for width, (a, b), shift in zip(shifts.widths, shifts.optima, shifts.shifts, strict=True):
        rows.append((str(width), power(a), power(b), *shift.cells))
    drift = "one width in common: no drifts"
    if shifts.drift:
        rows.append(("mean", "", "", *shifts.mean.cells))
        own = [f"{name} {r.slope.full()} {r.verdict}" for name, r in zip("AB", shifts.drifts, strict=True)]
        drift = f"drift, octaves per doubling of width: {'; '.join(own)}"
        drift += f"; B less A {shifts.drift.value.full()}: {shifts.drift.word}"
    return [first if first == other else f"{first} of A against {other} of B", *aligned(rows), drift]
