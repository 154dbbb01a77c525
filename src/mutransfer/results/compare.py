"""``./reproduce.sh compare A B``: two sets of runs, as shifts of the best learning rate, in words of a declared rule.

The rule stands in `analysis.compare_runs`. What else differs between the two (data, scale, precision, ...) is named
first: a shift is one of all that differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mutransfer.errors import UserError
from mutransfer.results.compare_runs import RULE, Shift, Shifts, compare_runs
from mutransfer.results.drift import DriftResult
from mutransfer.results.estimate import label, listing, number, power, span
from mutransfer.results.files import read_provenance, read_runs
from mutransfer.results.frame import tidy

OWN = ("run_id", "seed", "parametrization", "width", "log2_lr", "status", "steps_done", "wall_seconds")
"""Columns that are a run's own, as are its losses and scores; all others are settings that two sets should share."""
WANTED = ("data_fingerprint", "scale", "steps", "batch", "precision")
"""Settings without which nothing is known of what a shift is due to."""
MOST = 6
"""A column with more values than this is a run's own, too."""


@dataclass(frozen=True)
class _Set:
    path: Path
    runs: pd.DataFrame
    settings: dict[str, str]


def compare(a: Path, b: Path) -> str:
    """The text that says how the optima of ``b`` lie to those of ``a``: two runs.csv, or folders that hold one.

    Raises `UserError`, in one line with the path, for a file that is missing or no runs table, and where the two
    share no parametrization or no width.
    """
    sets = [_read(path) for path in (a, b)]
    found = compare_runs(sets[0].runs, sets[1].runs)
    lines = [f"{name}: {one.path} ({_describe(one.runs)})" for name, one in zip("AB", sets, strict=True)]
    lines += _differences(sets[0].settings, sets[1].settings)
    return "\n".join([*lines, *(line for shifts in found for line in ["", *_lines(shifts)]), "", RULE])


def _read(path: Path) -> _Set:
    if path.is_dir():
        path = path / "runs.csv"
    if not path.is_file():
        raise UserError(f"{path} does not exist; expected a runs.csv, or a folder that holds one.")
    try:
        runs = read_runs(path)
        tidy(runs)
    except UserError as error:
        text = str(error)
        raise UserError(text if text.startswith(str(path)) else f"{path}: {text}") from None
    outcomes = {name for name in runs.columns if name.startswith(("train_", "test_", "bleu_"))}
    names = [name for name in runs.columns if name not in {*OWN, *outcomes} and runs[name].nunique() <= MOST]
    settings = {name: _values(runs[name]) for name in names}
    provenance = path.with_name("provenance.json")
    if provenance.is_file():
        facts = read_provenance(provenance, ())
        settings |= {name: str(facts[name]) for name in ("scale", "data_source") if name in facts}
    return _Set(path, runs, settings)


def _values(column: pd.Series) -> str:
    """All values of a setting in one text; 64 and 64.0 are one."""
    is_number = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    found = [f"{value:.12g}" if is_number else str(value) for value in sorted(column.dropna().unique(), key=str)]
    return ", ".join(found + ["(none)"] * bool(column.isna().any()))


def _describe(runs: pd.DataFrame) -> str:
    names = sorted(runs["parametrization"].unique(), key=lambda name: (name != "sp", name))
    widths = [str(width) for width in sorted(runs["width"].unique())]
    seeds = runs.groupby(["parametrization", "width"])["seed"].nunique()
    count = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    return (
        f"{listing([label(name) for name in names])}; widths {', '.join(widths)}; "
        f"log2 LR {runs['log2_lr'].min():g} to {runs['log2_lr'].max():g}; {count} seed{'s' * (count != '1')}"
    )


def _differences(a: dict[str, str], b: dict[str, str]) -> list[str]:
    """What is the same in both, what differs, and what is not known."""
    both = [name for name in a if name in b]
    differ = [name for name in both if a[name] != b[name]]
    unknown = [name for name in WANTED if name not in both]
    lines = []
    if alike := [name for name in both if name not in differ]:
        lines.append(f"the same in both: {', '.join(alike)}")
    lines += [f"differs: {name}: A {a[name]}; B {b[name]}" for name in differ]
    if unknown:
        lines.append(f"not known of both: {', '.join(unknown)}")
    return lines


def _lines(shifts: Shifts) -> list[str]:
    one, other = (label(name) for name in shifts.names)
    rows = [("width", "LR* of A", "LR* of B", "B less A, octaves", "")]
    for width, (a, b), shift in zip(shifts.widths, shifts.optima, shifts.shifts, strict=True):
        rows.append((str(width), power(a), power(b), _text(shift), _word(shift)))
    if len(shifts.widths) > 1:
        rows.append(("mean", "", "", _text(shifts.mean), _word(shifts.mean)))
    size = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    table = ["  ".join(cell.ljust(n) for cell, n in zip(row, size, strict=True)).rstrip() for row in rows]
    head = one if one == other else f"{one} of A against {other} of B"
    if shifts.drifts is None or shifts.drift is None:
        return [head, *table, "one width in common: no drifts"]
    drifts = zip("AB", shifts.drifts, strict=True)
    return [
        head,
        *table,
        "drift, octaves per doubling of width: "
        + "; ".join(f"{name} {_drift(result)}" for name, result in drifts)
        + f"; B less A {_text(shifts.drift)}: {shifts.drift.word}",
    ]


def _text(shift: Shift) -> str:
    one = shift.value
    return f"{number(one.value)} {span(one.low, one.high)}"


def _drift(result: DriftResult) -> str:
    return f"{number(result.slope.value)} {span(*result.interval)} {result.verdict}"


def _word(shift: Shift) -> str:
    return f"{shift.word}, {shift.edges}" if shift.edges else shift.word
