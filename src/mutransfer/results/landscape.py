"""Does the best choice of a hyperparameter stay where it is from the first line of a panel to the last?

The paper's Figures 4, 10, 12, 13 and 16 to 19. A panel is the loss against one hyperparameter x, a line for every value
of another; x is a number (a learning rate's log2) or a word (a schedule). The rule, declared before any result, is
`RULE`. Of equal choices the lowest x is named, or the first word. A wide interval makes ``transfers`` easy to reach, so
the regret stands beside it: every draw picks the first line's choice anew, a line's own best stays that of all seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mutransfer.errors import UserError
from mutransfer.results.draw.curves import TRANSFERRED, CurvePanel, curve_figure, star
from mutransfer.results.draw.page import Axes
from mutransfer.results.draw.style import MINUS, MUTED, WARNING, Look
from mutransfer.results.estimate import Estimate, counted, label, number, power
from mutransfer.results.folder import Claim, Described, FigureFolder, Kind, Part, grid, points
from mutransfer.results.frame import METRICS, PanelAxis, PanelCurves, read_panels
from mutransfer.results.schema import Facts
from mutransfer.results.transfer import Optima, panel_line, panel_optima, rule_of_thumb, slopes

WINS = 0.025
"""Least share of the draws that a choice must win to be in the interval."""


RULE = (
    "The best choice of a line is the one with the least mean {loss} over seeds (one at which a seed diverged cannot "
    f"win); the refined value is a parabola's. The interval holds every choice that wins at least {WINS:.1%} of the "
    "bootstrap draws over seeds (numbers: the span of them). `transfers`: the smallest line's best choice lies in the "
    "largest line's interval, and no seed of the largest line diverged there; else `does not transfer`. With one seed, "
    "or where either of the two best choices is an edge of a numeric grid, the verdict is `undecided`. Regret: mean "
    "loss at the smallest line's best choice, less the line's own least mean loss, with its 95% bootstrap interval."
)
"""Of a landscape of ``{loss}``."""
Verdict = Literal["transfers", "does not transfer", "undecided"]


@dataclass(frozen=True)
class LineResult:
    """What one line of a panel says."""

    value: float  # of the line's hyperparameter
    best: int  # index of the best choice
    refined: float  # x of the parabola's vertex, or of the best choice where no parabola could refine it; NaN for words
    on_edge: bool  # whether the best choice is the lowest or the highest of a numeric grid
    interval: tuple[int, ...]  # indices of the choices in it, ascending; empty with one seed
    losses: tuple[float, ...]  # [S] at the best choice
    regret: Estimate


@dataclass(frozen=True)
class PanelReport:
    """The claim of one panel; ``str`` gives it in one sentence."""

    panel: PanelCurves
    lines: tuple[LineResult, ...]
    verdict: Verdict
    reason: str  # why it is undecided, in three words; else empty
    drift: Estimate | None  # units of x per doubling of the line's value; None for words, or where nothing doubles

    @property
    def regret(self) -> Estimate:
        """Of the last line."""
        return self.lines[-1].regret

    @property
    def text(self) -> str:
        """``transfers`` or ``undecided (on the edge)``."""
        return f"{self.verdict} ({self.reason})" if self.reason else self.verdict

    def interval_text(self, which: int = -1) -> str:
        """The interval of one line: ``[-7, -6]``, ``{cosine, linear}``; with a word where the grid may cut it off."""
        inside = self.lines[which].interval
        names = [self.panel.choice(i) for i in inside]
        if self.panel.words or not inside:
            return f"{{{', '.join(names)}}}" if inside else "no interval"
        cut = inside[0] == 0 or inside[-1] == len(self.panel.x) - 1
        return f"[{names[0]}, {names[-1]}]" + " (reaches the edge of the grid)" * cut

    def __str__(self) -> str:
        panel, ends = self.panel, (self.lines[0], self.lines[-1])
        low, high = (f"{panel.choice(line.best)} at {panel.axis.line_name} {line.value:g}" for line in ends)
        interval = f", interval {self.interval_text()}" * bool(ends[1].interval)
        regret = f"regret of {panel.choice(ends[0].best)} there {regret_text(self.regret)}"
        seeds = counted([panel.seeds], "seed")
        return f"{panel.key}: {self.text}. Best {low}, {high}{interval}; {regret} ({seeds})."


def landscape_report(
    runs: pd.DataFrame,
    *,
    axes: Mapping[str, PanelAxis] | None = None,
    draws: int = 2000,
    seed: int = 0,
    metric: str = "train_loss",
) -> dict[str, PanelReport]:
    """The report of every panel of a runs table, read as `read_panels` does with ``axes`` and ``metric``.

    The same runs and ``seed`` give the same reports, whatever the order of a panel's rows. Raises `UserError` as that
    does, and for a panel with one line, or a line without a choice at which all seeds finished.
    """
    return {key: _report(panel, draws, seed) for key, panel in read_panels(runs, axes, metric=metric).items()}


def regret_text(regret: Estimate, digits: int = 4) -> str:
    """``0.0031 [0.0010, 0.0060]``, without an interval where there is none or the loss diverged."""
    return regret.brief(digits) if math.isfinite(regret.value) else number(regret.value)


def _report(panel: PanelCurves, draws: int, seed: int) -> PanelReport:
    if len(panel.lines) < 2:
        raise UserError(f"panel '{panel.key}' has one line only ({min(panel.lines):g}); transfer needs two or more.")
    masked = {}
    for value, curve in panel.lines.items():
        diverged = np.isinf(curve.loss).any(axis=0)
        if diverged.all():
            finished = f"at which all seeds of {panel.axis.line_name} {value:g} finished"
            raise UserError(f"panel '{panel.key}' has no choice {finished} ({len(panel.x)} tested); extend the grid.")
        masked[value] = replace(curve, loss=np.where(diverged, np.inf, curve.loss))
    optima = panel_optima(panel.key, masked, draws, seed)
    lines = tuple(_line(panel, value, o, optima[0].index) for value, o in zip(panel.lines, optima, strict=True))
    first, last = lines[0], lines[-1]
    is_inside = first.best in last.interval and math.isfinite(last.regret.value)
    verdict: Verdict = "transfers" if is_inside else "does not transfer"
    reason = "on the edge" if first.on_edge or last.on_edge else "" if last.interval else "one seed"
    drift = None
    if not panel.words and min(panel.lines) > 0:
        slope = slopes(np.log2([*panel.lines]), optima, panel.seeds)
        bounded = Estimate(float(slope[0]), reason="an optimum on the edge of the grid is only bounded")
        drift = bounded if any(line.on_edge for line in lines) else Estimate.of(slope)
    return PanelReport(panel, lines, "undecided" if reason else verdict, reason, drift)


def _line(panel: PanelCurves, value: float, optima: Optima, base: NDArray[np.intp]) -> LineResult:
    """``base``: index of the first line's best choice, in all draws."""
    best, draws = int(optima.index[0]), optima.curve[1:]
    inside = list[int]()
    if len(draws):
        share = (draws == draws.min(axis=1, keepdims=True)).mean(axis=0)
        inside = sorted({best, *np.flatnonzero(share >= WINS).tolist()})
        inside = inside if panel.words else list(range(inside[0], inside[-1] + 1))
    refined, on_edge = (math.nan, False) if panel.words else (float(optima.log2_lr[0]), bool(optima.edge[0]))
    regret = Estimate.of(optima.curve[np.arange(len(base)), base] - optima.curve[:, best])
    losses = panel.lines[value].loss[:, best].tolist()
    return LineResult(value, best, refined, on_edge, tuple(inside), tuple(losses), regret)


COLOURS = {"transfers": "black", "does not transfer": WARNING, "undecided": MUTED}
PUBLISHED = {"width": "widths", "depth": "depths", "batch": "batch_sizes", "sequence length": "seq_lens"}
"""What is scaled -> the published list of its values."""
EXCEPTIONS: dict[tuple[str, str, str, str], str | None] = {
    ("Figure 4", "mup", "init std", "depth"): None,  # "but for the init std across depth"
    ("App G.1.1", "sp", "alpha_output", "width"): None,  # Figure 16 draws SP's learning rate only
    ("Figure 10", "mup", "d_k = width / 4", "width"): "does not transfer",  # the panel that d_k is too small in
}
"""(figure, parametrization, x or heading, line) -> the verdict that the paper's panel has; None: it claims nothing."""


def describe_landscape(folder: Path) -> Described[dict[str, PanelReport]]:
    """The table of `LANDSCAPE` in words, and the report of every panel; raises as it does."""
    figure = FigureFolder.open(folder)
    facts, runs, metric = figure["panels"], figure.runs, figure.provenance.get("metric", "train_loss")
    axes = {key: PanelAxis(p["line_name"], p["is_log2"], tuple(p.get("choices", ()))) for key, p in facts.items()}
    every = landscape_report(runs, axes=axes, metric=metric)
    if apart := {*every} ^ {*facts}:
        differ = f"runs.csv and provenance.json differ in their panels: {', '.join(sorted(apart))}"
        raise UserError(f"{folder}: {differ}; run the sweep again.")
    reports, loss = {key: every[key] for key in facts}, figure.provenance.get("metric_label", METRICS[metric])
    names = {key: f"{p['x_name']} across {p['line_name']}, {label(p['parametrization'])}" for key, p in facts.items()}
    of_rule, ours = list[tuple[str, str]](), {"seeds": _seeds(reports).split(" seed")[0]}
    for key, p in facts.items():
        own, report, line = runs[runs["panel"] == key], reports[key], p["line_name"]
        ours[PUBLISHED.get(line, line)] = ",".join(f"{value:g}" for value in report.panel.lines)
        if p["parametrization"] == "mup":
            of_rule.append((names[key], panel_line(own, report.verdict, x_name=p["x_name"], line_name=line)))
    pictures = {"landscape": "Loss against one hyperparameter per panel, a line for every value of what is scaled"}
    parts = [
        *figure.heading(f"{_seeds(reports)} at every point"),
        "## Does it transfer?",
        "\n".join(f"- {names[key]}: {str(report).split(': ', 1)[1]}" for key, report in reports.items()),
        "## Best choice of every line",
        *(f"### {names[key]}\n\n{_lines(report, facts[key], loss)}" for key, report in reports.items()),
        *figure.beside_the_paper(_counts(reports, facts), ours),
        "## The rule of thumb of section 6.1",
        "The paper: transfer works for language modelling if all of these hold and the target is in the tested range.",
        rule_of_thumb(runs, of_rule),
        "## How to read it",
        f"{RULE.format(loss=loss)} Drift: slope of the refined choice against log2 of the line's value, its interval "
        "widened by Student's t for few seeds. Losses are means ± standard errors over seeds. The rule of thumb claims "
        "nothing about SP.",
    ]
    return Described(figure, reports, "\n".join(map(str, reports.values())), parts, pictures)


def _seeds(reports: Mapping[str, PanelReport]) -> str:
    return counted([report.panel.seeds for report in reports.values()], "seed")


def _counts(reports: Mapping[str, PanelReport], facts: Facts) -> str:
    """``µP: 3 of 4 panels transfer, 1 undecided``, and so on."""
    counts = []
    for name in dict.fromkeys(panel["parametrization"] for panel in facts.values()):
        verdicts = [report.verdict for key, report in reports.items() if facts[key]["parametrization"] == name]
        text = f"{label(name)}: {verdicts.count('transfers')} of {len(verdicts)} panels transfer"
        text += f", {verdicts.count('does not transfer')} do not" * ("does not transfer" in verdicts)
        counts.append(text + f", {verdicts.count('undecided')} undecided" * ("undecided" in verdicts))
    return "; ".join(counts)


def _lines(report: PanelReport, facts: Mapping[str, Any], loss: str) -> str:
    """The table of one panel, with its verdict and drift below."""
    rows = []
    for k, line in enumerate(report.lines):
        mean, seeds = number(float(np.mean(line.losses)), 4), len(line.losses)
        spread = f" ± {number(float(np.std(line.losses, ddof=1)) / math.sqrt(seeds), 4)}" if seeds > 1 else ""
        best = report.panel.choice(line.best) + " (on the edge)" * line.on_edge
        refined = power(line.refined) if facts["is_log2"] else number(line.refined)
        told = (report.interval_text(k), mean + spread, regret_text(line.regret))
        rows.append((f"{line.value:g}", best, refined, *told))
    text = f"**{report.text}**"
    if report.drift is not None:
        unit = "octaves" if facts["is_log2"] else facts["x_name"]
        text += f"; drift {report.drift.text()} {unit} per doubling of {facts['line_name']}"
    header = (facts["line_name"], "best choice", "refined", "95% interval", loss, "regret")
    return f"{grid(header, rows)}\n\n{text}."


def _draw(described: Described[dict[str, PanelReport]]) -> list[Path]:
    reports, figure = described.report, described.folder
    facts = figure["panels"]
    headings = {(panel["column"], panel["heading"]) for panel in facts.values()}
    is_shared = len({column for column, _ in headings}) == len(headings)  # one heading over each column
    panels = [
        CurvePanel(
            lines=report.panel.lines,
            title=[
                (facts[key]["heading"] * (not (is_shared and facts[key]["row"])), {"fontweight": "bold"}),
                (report.text, {"fontweight": "bold", "color": COLOURS[report.verdict]}),
                (f"regret {regret_text(report.regret, 3)}".replace("-", MINUS), {}),
            ],
            mark=partial(_draw_claim, report),
            y_label=f"{facts[key]['row_heading']}\n{figure['y_label']}".strip(),
            words=report.panel.words,
            **{name: facts[key][name] for name in ("line_name", "x_label", "row", "column")},
        )
        for key, report in reports.items()
    ]
    ceiling, caption = figure.provenance.get("loss_ceiling"), figure.caption(_caption(reports))
    return curve_figure(panels, figure.path, "landscape", caption=caption, banner=figure.banner, ceiling=ceiling)


def _draw_claim(report: PanelReport, axes: Axes, looks: Mapping[float, Look]) -> None:
    """Stars at the optima, the first line's choice as a dashed line, the last line's interval at the bottom."""
    panel, (bottom, top) = report.panel, axes.get_ylim()
    axes.axvline(float(panel.x[report.lines[0].best]), **TRANSFERRED, zorder=1)
    for line, curve in zip(report.lines, panel.curves, strict=True):
        x = panel.x[line.best] if panel.words else line.refined
        star(axes, curve, x, float(np.mean(line.losses)), "white" if line.on_edge else looks[line.value]["color"])
    inside = panel.x[list(report.lines[-1].interval)]
    style = "none" if panel.words else "-"
    level = np.full(len(inside), bottom + 0.03 * (top - bottom))
    axes.plot(inside, level, "|", linestyle=style, color="black", linewidth=1.1, markersize=5, zorder=4)


def _caption(reports: Mapping[str, PanelReport]) -> str:
    seeds, has_edge = _seeds(reports), any(line.on_edge for report in reports.values() for line in report.lines)
    text = f"Lines: {points(seeds)}. Star: best choice of a line (parabola); "
    text += "hollow: on the edge of the grid; " * has_edge + "dashed: the smallest line's best choice. "
    text += "Black mark at the bottom: the largest line's 95% interval. " * (seeds != "1 seed")
    return text + "Regret: loss of the dashed choice at the largest line, less its least loss."


def _claims(described: Described[dict[str, PanelReport]]) -> list[Claim]:
    """One part for every panel."""
    figure, parts = described.folder, list[Part]()
    for key, report in described.report.items():
        panel = figure["panels"][key]
        name, line, x, heading = (panel[k] for k in ("parametrization", "line_name", "x_name", "heading"))
        wanted = {"mup": "transfers", "sp": "does not transfer"}.get(name)
        for what in (x, heading):
            wanted = EXCEPTIONS.get((figure["paper"]["table_or_figure"], name, what, line), wanted)
        words = f"{label(name)}: {x} across {line}" + f", {heading}" * (heading != x)
        parts.append(Part.of(words, report.text, report.verdict, wanted))
    return [figure.claim(parts, counts=_counts(described.report, figure["panels"]))]


LANDSCAPE = Kind("landscape", describe_landscape, _draw, _claims)
"""A folder with ``landscape.png``, ``landscape.svg`` and ``table.md``, from ``runs.csv`` (panel, x, line, then a runs
table) and ``provenance.json``, which has ``panels``: key -> object as `PanelRuns.facts` makes it; optional are
``loss_ceiling`` and ``metric``, the column that holds the loss (default ``train_loss``), with ``metric_label``, that
loss in words. Raises as `landscape_report` does, and if the two files name different panels.
"""
