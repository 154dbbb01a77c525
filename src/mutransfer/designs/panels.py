"""A figure of an experiment beside its learning-rate sweep: panels of loss against one hyperparameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from mutransfer.designs.design import Bench, Design, Output, Tables, with_points
from mutransfer.designs.space import put
from mutransfer.training.spec import RunRecord, RunSpec, Value

NAMES = {"sp": "SP", "mup": "µP"}


@dataclass(frozen=True)
class Values:
    """One hyperparameter and its values. Numbers of a swept one are octaves; words are choices."""

    name: str  # a field of `RunSpec`, or one of its hps
    label: str  # for the axis
    values: Sequence[Value]

    @property
    def is_log2(self) -> bool:
        """Whether the values are exponents of 2."""
        return not isinstance(self.values[0], str)

    def set(self, spec: RunSpec, value: Value) -> RunSpec:
        """``spec`` with this value of a swept hyperparameter."""
        in_octaves = self.is_log2 and self.name != "log2_lr"
        return put(spec, {self.name: 2.0 ** float(value) if in_octaves else value})


@dataclass(frozen=True, kw_only=True)
class PanelRuns:
    """Loss against ``x``, a curve for every value of ``line`` (plain numbers)."""

    key: str
    x: Values
    line: Values
    row: int = 0
    column: int = 0
    parametrization: str = "mup"
    heading: str = ""  # default: what x is called
    row_heading: str = ""
    changes: Mapping[str, Value] = field(default_factory=dict)  # what else differs from the figure's template

    def cells(self, template: RunSpec, seeds: int) -> list[tuple[Value, Value, RunSpec]]:
        """(x, line, run) of every point."""
        start = put(replace(template, parametrization=self.parametrization), self.changes)
        points = product(self.line.values, self.x.values, range(seeds))
        return [(x, n, replace(self.x.set(put(start, {self.line.name: n}), x), seed=seed)) for n, x, seed in points]

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


def rectangle(
    columns: Sequence[Values], rows: Sequence[Values], parametrizations: Sequence[str] = ("mup",)
) -> list[PanelRuns]:
    """One panel for each column's x and each row's lines, the rows once for each parametrization."""
    panels = []
    for i, (parametrization, lines) in enumerate(product(parametrizations, rows)):
        heading = f"over {lines.label}"
        if len(parametrizations) > 1:
            heading = f"{NAMES[parametrization]}, {heading}"
        for j, x in enumerate(columns):
            key = f"{parametrization}/{lines.name}/{x.name}"
            place: dict[str, Any] = {"row": i, "column": j, "row_heading": heading}
            panels.append(PanelRuns(key=key, x=x, line=lines, parametrization=parametrization, **place))
    return panels


@dataclass(frozen=True, kw_only=True)
class Panels(Output):
    """A figure of panels by its number.

    kind: "landscape", "stability", "learning" or "length": how it is drawn.
    panels: of a scale. ``template``: changes of every run, by scale. ``facts``: more for provenance.json, from the data
    set and the scale. ``best_by``: the score by which a run is chosen whose translations are shown.
    """

    kind: str = "landscape"
    title: str
    panels: Callable[[str], Sequence[PanelRuns]]
    template: Callable[[str], Mapping[str, Value]] = lambda scale: {}
    where: str = ""  # it stands in the paper; "": "Figure" and the number
    statement: str  # what the paper says of it
    seeds: Mapping[str, int] = field(default_factory=dict)  # by scale, where not the scale's
    facts: Callable[[Any, str], Mapping[str, Any]] = lambda dataset, scale: {}
    best_by: str = ""

    def describe(self, scale: str) -> str:
        """The lines of its panels, in words."""
        lines = {(p.line.label, tuple(p.line.values)) for p in self.panels(scale)}
        return "; ".join(f"{label} {', '.join(map(str, values))}" for label, values in sorted(lines, key=str))

    def cells(self, bench: Bench) -> list[tuple[str, Value, Value, RunSpec]]:
        """(panel, x, line, run) of every point; panels share runs. Raises `UserError` for a name that no run has."""
        template = put(bench.specs()[0], self.template(bench.scale))
        seeds = bench.seeds or self.seeds.get(bench.scale, bench.size.seeds)
        return [(p.key, *cell) for p in self.panels(bench.scale) for cell in p.cells(template, seeds)]

    def design(self, bench: Bench) -> Design[list[RunRecord]]:
        records = yield [spec for *_, spec in self.cells(bench)]
        return records

    def tables(self, bench: Bench, trained: list[RunRecord]) -> Tables:
        from mutransfer.runs.table import curve_rows

        panels, cells = self.panels(bench.scale), self.cells(bench)
        points = [(key, x, line, spec.run_id) for key, x, line, spec in cells]
        frame = with_points(points, ("panel", "x", "line"), trained, bench.experiment.columns)
        paper = {"table_or_figure": self.where or f"Figure {self.number}", "statement": self.statement}
        scored = [record for record in trained if record.scores]
        for name in dict.fromkeys(name for record in scored for name in record.scores):
            frame[name] = frame["run_id"].map({record.spec.run_id: record.scores[name] for record in scored})
        facts = {
            "kind": self.kind,
            "title": self.title,
            "panels": {panel.key: panel.facts for panel in panels},
            "paper": bench.paper(trained, paper, self.describe(bench.scale), frame["seed"].nunique()),
            **self.facts(bench.dataset, bench.scale),
        }
        if scored and self.best_by:
            best = max(scored, key=lambda record: record.scores[self.best_by])
            facts["translations"] = {"width": best.spec.width, "seed": best.spec.seed, "samples": best.samples}
            facts["signature"] = best.provenance.get("bleu", "")
        if self.kind != "learning":
            return Tables(runs=frame, facts=facts)
        facts["learning"] = {"panels": {panel.key: panel.heading for panel in panels}}
        curves = curve_rows((key, record) for (key, *_), record in zip(cells, trained, strict=True))
        return Tables(runs=frame, facts=facts, others={"curves.csv": curves})
