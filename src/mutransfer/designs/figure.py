"""A figure of an experiment beside its learning-rate sweep: panels of loss against one hyperparameter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import product
from typing import Any

import pandas as pd

from mutransfer.errors import unknown
from mutransfer.results.estimate import label
from mutransfer.runs.table import to_frame
from mutransfer.training.spec import RunRecord, RunSpec, Value

_FIELDS = {f.name for f in fields(RunSpec)} - {"hps"}


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One hyperparameter and its values. Numbers of a swept one are octaves; words are choices."""

    name: str  # a field of `RunSpec`, or one of its hps
    label: str  # for the axis
    values: tuple[Value, ...]

    @property
    def is_log2(self) -> bool:
        """Whether the values are exponents of 2."""
        return not isinstance(self.values[0], str)

    def set(self, spec: RunSpec, value: Value) -> RunSpec:
        """``spec`` with this value of a swept hyperparameter."""
        in_octaves = self.is_log2 and self.name != "log2_lr"
        return put(spec, self.name, 2.0 ** float(value) if in_octaves else value)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Loss against ``x``, a curve for every value of ``line`` (plain numbers)."""

    key: str
    row: int
    column: int
    x: Axis
    line: Axis
    parametrization: str = "mup"
    heading: str = ""  # default: what x is called
    row_heading: str = ""
    changes: Mapping[str, Value] = field(default_factory=dict)  # what else differs from the figure's template

    def cells(self, template: RunSpec, seeds: int) -> list[tuple[Value, Value, RunSpec]]:
        """(x, line, run) of every point."""
        start = replace(template, parametrization=self.parametrization)
        for name, value in self.changes.items():
            start = put(start, name, value)
        points = product(self.line.values, self.x.values, range(seeds))
        return [(x, n, replace(self.x.set(put(start, self.line.name, n), x), seed=seed)) for n, x, seed in points]

    @property
    def facts(self) -> dict[str, Any]:
        """For provenance.json: where the panel stands and what its axes are."""
        choices = {} if self.x.is_log2 else {"choices": list(self.x.values)}
        return {
            **choices,
            "row": self.row,
            "column": self.column,
            "x_name": self.x.label,
            "x_label": f"log2 {self.x.label}" if self.x.is_log2 else self.x.label,
            "line_name": self.line.label,
            "parametrization": self.parametrization,
            "is_log2": self.x.is_log2,
            "heading": self.heading or self.x.label,
            "row_heading": self.row_heading,
        }


def rectangle(columns: Sequence[Axis], rows: Sequence[Axis], parametrizations: Sequence[str] = ("mup",)) -> list[Panel]:
    """A panel for every column's x and every row's lines, the rows once for each parametrization."""
    found = []
    for i, (parametrization, lines) in enumerate(product(parametrizations, rows)):
        heading = f"over {lines.label}"
        if len(parametrizations) > 1:
            heading = f"{label(parametrization)}, {heading}"
        for j, x in enumerate(columns):
            key = f"{parametrization}/{lines.name}/{x.name}"
            place: dict[str, Any] = {"row": i, "column": j, "row_heading": heading}
            found.append(Panel(key=key, x=x, line=lines, parametrization=parametrization, **place))
    return found


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of the paper by its number.

    variant: of the experiment, whose hyperparameters it starts from. ``template``: changes of every run, by scale.
    panels: of a scale. ``facts``: more for provenance.json, from the data set and the scale.
    """

    kind: str  # "landscape", "stability" or "learning": how it is drawn
    title: str
    variant: str
    panels: Callable[[str], Sequence[Panel]]
    template: Callable[[str], Mapping[str, Value]] = lambda scale: {}
    paper: Mapping[str, Any]  # as `Variant.paper`
    seeds: Mapping[str, int] = field(default_factory=dict)  # by scale, where not the scale's
    facts: Callable[[Any, str], Mapping[str, Any]] = lambda dataset, scale: {}

    def describe(self, scale: str) -> str:
        """The lines of its panels, in words."""
        lines = {(p.line.label, p.line.values) for p in self.panels(scale)}
        return "; ".join(f"{label} {', '.join(map(str, values))}" for label, values in sorted(lines, key=str))


def put(spec: RunSpec, name: str, value: Value) -> RunSpec:
    """``spec`` with a field or one of its hps changed; `UserError` if it has none of that name."""
    if name in _FIELDS:
        changes: dict[str, Any] = {name: value}
        return replace(spec, **changes)
    if name not in dict(spec.hps):
        raise unknown("hyperparameter", name, [*dict(spec.hps), *sorted(_FIELDS)])
    return replace(spec, hps=tuple({**dict(spec.hps), name: value}.items()))


def to_panels(
    cells: Sequence[tuple[str, Value, Value, str]], records: Iterable[RunRecord], hps: Sequence[str]
) -> pd.DataFrame:
    """The runs table of a figure: ``cells`` are (panel, x, line, run_id); a run may stand in several."""
    points = pd.DataFrame(cells, columns=["panel", "x", "line", "run_id"])
    return points.merge(to_frame(records, hps), on="run_id", validate="many_to_one")
