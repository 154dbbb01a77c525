"""What a table must hold, declared: its columns and their types, a unique key, complete grids, what must be equal."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from mutransfer.errors import UserError, known

Type = Literal["text", "whole number", "number", "finite number", "value"]
"""Of a column. A ``number`` may be NaN (an empty cell) or infinite, the others may not; a ``value`` is any."""
STATUS = ("finished", "diverged", "failed")
AGAIN = "run the experiment again."


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What holds for the rows of a table with the values ``where``: for all of them, or in each group of ``by``."""

    name: str  # as a message calls them: "the proxy"
    where: Mapping[str, Collection[Any]] = field(default_factory=dict)  # column -> its values in these rows; {}: all
    by: tuple[str, ...] = ()  # `constant` and `complete` hold within each group of rows that agree in these columns
    constant: Sequence[str] = ()  # columns that hold one value, where the table has them
    complete: Mapping[str, Collection[Any] | None] = field(default_factory=dict)
    """Column -> its values, None: those of the group. Every combination stands there once, and nothing else does."""
    results: Sequence[str] = ()
    """Columns that hold a finite number in every row that finished; without a column ``status``, in every row."""
    may_be_none: bool = False


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What a table must hold. A ``status`` is one of `STATUS`."""

    name: str  # as a message calls it: "the table of the searches"
    columns: Mapping[str, Type]
    choices: Mapping[str, Collection[str]] = field(default_factory=dict)  # column -> the values that it may have
    key: tuple[str, ...] = ()  # no two rows agree in all of these; a message names a row by them
    rows: tuple[Rows, ...] = ()
    may_fail: bool = False  # whether runs may have failed
    again: str = AGAIN  # what to do about it: the end of a message

    def check(self, table: pd.DataFrame) -> pd.DataFrame:
        """``table`` with its numbers as numbers. Raises `UserError`, in one line, for the first thing that is wrong."""
        if missing := [name for name in self.columns if name not in table.columns]:
            raise UserError(f"{self.name} lacks {', '.join(missing)}; {self.again}")
        if table.empty:
            raise UserError(f"{self.name} has no rows; {self.again}")
        table = table.assign(**{name: self._typed(table[name], kind) for name, kind in self.columns.items()})
        for name, valid in {**({"status": STATUS} if "status" in self.columns else {}), **self.choices}.items():
            for value in table[name].unique():
                known(f"{name} in {self.name}", value, valid)
        if self.key:
            self._refuse(table[table.duplicated([*self.key])], "stand there twice", "keep one of each.")
        if "status" in self.columns and not self.may_fail:
            self._refuse(table[table["status"] == "failed"], "failed", "the same command tries them again.")
        for rows in self.rows:
            self._check_rows(rows, table)
        return table

    def _typed(self, column: pd.Series, kind: Type) -> pd.Series:
        if kind == "value":
            return column
        if kind == "text":
            bad, typed = column.isna(), column.astype(str)
        else:
            typed = pd.to_numeric(column, errors="coerce")
            bad = typed.isna() & ~column.isna() & (column.astype(str).str.lower() != "nan")
            if kind != "number":
                bad |= ~np.isfinite(typed.astype(float))
            if kind == "whole number":
                bad |= typed.astype(float) % 1 != 0
                typed = typed if bad.any() else typed.astype(int)
        if bad.any():
            has = f"'{column[bad].iloc[0]}' as {column.name}, expected a {kind}"
            raise UserError(f"{self.name} has {has}; {self.again}")
        return typed

    def _refuse(self, rows: pd.DataFrame, what: str, then: str = "") -> None:
        """Raises `UserError` if there are such ``rows``, which names the first."""
        if len(rows):
            first = cell(self.key, rows[[*self.key]].iloc[0]) if self.key else f"row {rows.index[0]}"
            raise UserError(f"{self.name}: {len(rows)} runs {what}, first {first}; {then or self.again}")

    def _check_rows(self, rows: Rows, table: pd.DataFrame) -> None:
        chosen = table
        for column, values in rows.where.items():
            chosen = chosen[chosen[column].isin([*values])]
        if chosen.empty and not rows.may_be_none:
            raise UserError(f"{self.name} has no runs of {rows.name}; {self.again}")
        finished = chosen["status"] == "finished" if "status" in chosen else np.ones(len(chosen), dtype=bool)
        for column in rows.results:
            lacking = chosen[finished & ~np.isfinite(chosen[column].astype(float))]
            self._refuse(lacking, f"of {rows.name} finished without a {column}")
        groups = {"": chosen} if len(chosen) else {}
        if rows.by:
            groups = {f" with {cell(rows.by, values)}": group for values, group in chosen.groupby([*rows.by])}
        for name, group in ((rows.name + which, group) for which, group in groups.items()):
            for column in rows.constant:
                if column in group and group[column].nunique(dropna=False) > 1:
                    values = ", ".join(map(str, sorted(group[column].unique(), key=str)[:4]))
                    raise UserError(f"the runs of {name} differ in {column} ({values}); {self.again}")
            if rows.complete:
                self._check_complete(name, group, rows.complete)

    def _check_complete(self, name: str, group: pd.DataFrame, grid: Mapping[str, Collection[Any] | None]) -> None:
        sides = [sorted(group[column].unique()) if side is None else side for column, side in grid.items()]
        wanted, present = {*itertools.product(*sides)}, {*zip(*(group[column] for column in grid), strict=True)}
        if lacks := sorted(wanted - present):
            first = f"first {cell(grid, lacks[0])}; {self.again}"
            raise UserError(f"{name} lacks {len(lacks)} of {len(wanted)} runs, {first}")
        if extra := sorted(present - wanted):
            raise UserError(f"{name} has {cell(grid, extra[0])}, which was not planned; {self.again}")
        self._refuse(group[group.duplicated([*grid])], f"of {name} stand there twice", "keep one of each.")


class Facts(dict[str, Any]):
    """What a JSON file says, under ``name`` in it; raises `UserError` for what it lacks, at any depth."""

    def __init__(self, facts: Mapping[str, Any], path: Any, name: str = "") -> None:
        self.path, self.name = path, name
        known = {key: value for key, value in facts.items() if value is not None}
        super().__init__({k: Facts(v, path, f"{name}{k}.") if isinstance(v, dict) else v for k, v in known.items()})

    def __missing__(self, key: str) -> Any:
        raise UserError(f"{self.path} lacks {self.name}{key}; {AGAIN}")


def cell(names: Iterable[str], values: Iterable[Any]) -> str:
    """``role proxy, sample 3``."""
    pairs = zip(names, values, strict=True)
    return ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in pairs)
