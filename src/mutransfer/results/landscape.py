"""Does the best choice of a hyperparameter stay where it is from the first line of a panel to the last?

The paper's Figures 4, 10, 12, 13 and 16 to 19. A panel is the loss against one hyperparameter x, a line for every value
of another (width, depth, batch, ...); x is a number (a learning rate's log2) or a word (a schedule). The rule, declared
before any result, is `rule`. Of equal choices the lowest x is named, or the first word. Draws are those of `transfer`:
per line n-1 of the n seeds with replacement. A wide interval makes ``transfers`` easy to reach, so the regret always
stands beside it: every draw picks the first line's choice anew, while a line's own best stays that of all seeds.
"""

from __future__ import annotations

import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from mutransfer.errors import UserError, unknown
from mutransfer.results.draw.curves import (
    SMALL_MARKS,
    TRANSFERRED,
    curve_panel,
    line_legend,
    line_looks,
    loss_limits,
    star,
    strip_height,
)
from mutransfer.results.draw.page import LETTER, SMALL, Axes, PageOfRows, set_ticks
from mutransfer.results.draw.style import MINUS, MUTED, WARNING, WIDTH, Look, paper_style
from mutransfer.results.estimate import Estimate, counted, label, number, power, span
from mutransfer.results.folder import Claim, Described, FigureFolder, Kind, Part, grid, points
from mutransfer.results.frame import METRICS, Curves, PanelAxis, PanelCurves, read_panels
from mutransfer.results.transfer import Optima, panel_line, panel_optima, rule_of_thumb, slopes

WINS = 0.025
"""Least share of the draws that a choice must win to be in the interval."""


def rule(metric_label: str = "training loss") -> str:
    """The rule in words, for a landscape of this loss."""
    return (
        f"The best choice of a line is the one with the least mean {metric_label} over seeds (one at which a seed "
        "diverged cannot win); the refined value is a parabola's. The interval holds every choice that wins at least "
        f"{WINS:.1%} of the bootstrap draws over seeds (numbers: the span of them). `transfers`: the smallest line's "
        "best choice lies in the largest line's interval, and no seed of the largest line diverged there; else "
        "`does not transfer`. With one seed, or where either of the two best choices is an edge of a numeric grid, the "
        "verdict is `undecided`. Regret: mean loss at the smallest line's best choice, less the line's own least mean "
        "loss, with its 95% bootstrap interval."
    )


RULE = rule()

Verdict = Literal["transfers", "does not transfer", "undecided"]


@dataclass(frozen=True)
class LineResult:
    """What one line of a panel says."""

    value: float
    """Of the line's hyperparameter."""
    best: int
    """Index of the best choice."""
    refined: float
    """x of the parabola's vertex; that of the best choice where no parabola could refine it."""
    on_edge: bool
    """Whether the best choice is the lowest or the highest of a numeric grid."""
    interval: tuple[int, ...]
    """Indices of the choices in the interval, ascending; empty with one seed."""
    loss: float
    loss_se: float
    """Standard error over seeds; NaN with one."""
    regret: Estimate


@dataclass(frozen=True)
class PanelReport:
    """The claim of one panel; ``str`` gives it in one sentence."""

    panel: PanelCurves
    lines: tuple[LineResult, ...]
    verdict: Verdict
    reason: str
    """Why it is undecided, in three words; else empty."""
    drift: Estimate | None
    """Units of x per doubling of the line's value; None for words, or lines that have no doubling."""

    @property
    def line_name(self) -> str:
        """What the lines are values of."""
        return self.panel.axis.line_name

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
        if not inside:
            return "no interval"
        names = [self.panel.choice(i) for i in inside]
        if self.panel.words:
            return f"{{{', '.join(names)}}}"
        cut = inside[0] == 0 or inside[-1] == len(self.panel.x) - 1
        return f"[{names[0]}, {names[-1]}]" + (" (reaches the edge of the grid)" if cut else "")

    def __str__(self) -> str:
        first, last, name = self.lines[0], self.lines[-1], self.line_name
        low, high = (self.panel.choice(line.best) for line in (first, last))
        interval = f", interval {self.interval_text()}" if last.interval else ""
        seeds = counted([self.panel.seeds], "seed")
        return (
            f"{self.panel.key}: {self.text}. Best {low} at {name} {first.value:g}, {high} at {name} {last.value:g}"
            f"{interval}; regret of {low} there {regret_text(self.regret)} ({seeds})."
        )


def landscape_report(
    runs: pd.DataFrame,
    *,
    axes: Mapping[str, PanelAxis] | None = None,
    draws: int = 2000,
    seed: int = 0,
    metric: str = "train_loss",
) -> dict[str, PanelReport]:
    """The report of every panel of a runs table that `read_panels` can read; ``axes`` say what its columns mean.

    ``metric``: the column that holds the loss.

    The same runs and ``seed`` give the same reports, whatever the order of a panel's rows.

    Raises `UserError` as `read_panels` does, and for a panel with one line, or a line without a choice at which
    all seeds finished.
    """
    if draws < 100:
        raise UserError(f"draws={draws} is too few for a 95% interval; use at least 100.")
    return {key: _report(panel, draws, seed) for key, panel in read_panels(runs, axes, metric=metric).items()}


def regret_text(regret: Estimate, digits: int = 4) -> str:
    """``0.0031 [0.0010, 0.0060]``, without an interval where there is none or the loss diverged."""
    has_interval = math.isfinite(regret.value) and not math.isnan(regret.low)
    return number(regret.value, digits) + (f" {span(regret.low, regret.high, digits)}" if has_interval else "")


def _report(panel: PanelCurves, draws: int, seed: int) -> PanelReport:
    if len(panel.lines) < 2:
        raise UserError(f"panel '{panel.key}' has one line only ({min(panel.lines):g}); transfer needs two or more.")
    masked = {}
    for value, curve in panel.lines.items():
        diverged = np.isinf(curve.loss).any(axis=0)
        if diverged.all():
            raise UserError(
                f"panel '{panel.key}' has no choice at which all seeds of {panel.axis.line_name} {value:g} finished "
                f"({len(panel.x)} tested); extend the grid."
            )
        masked[value] = Curves(curve.width, curve.log2_lr, np.where(diverged, np.inf, curve.loss))
    optima = panel_optima(panel.key, masked, draws, seed)
    lines = tuple(
        _line(panel, value, curve, optimum, optima[0])
        for (value, curve), optimum in zip(masked.items(), optima, strict=True)
    )
    verdict, reason = _decide(lines)
    return PanelReport(panel, lines, verdict, reason, _drift(panel, lines, optima))


def _line(panel: PanelCurves, value: float, curve: Curves, optima: Optima, base: Optima) -> LineResult:
    best, draws = int(optima.index[0]), optima.curve[1:]
    inside: list[int] = []
    if len(draws):
        share = (draws == draws.min(axis=1, keepdims=True)).mean(axis=0)
        won = np.flatnonzero(share >= WINS).tolist()
        inside = sorted({best, *won})
        if not panel.words:
            inside = list(range(inside[0], inside[-1] + 1))
    at = curve.loss[:, best]
    return LineResult(
        value=value,
        best=best,
        refined=math.nan if panel.words else float(optima.log2_lr[0]),
        on_edge=bool(optima.edge[0]) and not panel.words,
        interval=tuple(inside),
        loss=float(at.mean()),
        loss_se=float(at.std(ddof=1) / math.sqrt(len(at))) if len(at) > 1 else math.nan,
        regret=Estimate.of(optima.curve[np.arange(len(base.index)), base.index] - optima.curve[:, best]),
    )


def _decide(lines: Sequence[LineResult]) -> tuple[Verdict, str]:
    first, last = lines[0], lines[-1]
    if first.on_edge or last.on_edge:
        return "undecided", "on the edge"
    if not last.interval:
        return "undecided", "one seed"
    is_inside = first.best in last.interval and math.isfinite(last.regret.value)
    return ("transfers" if is_inside else "does not transfer"), ""


def _drift(panel: PanelCurves, lines: Sequence[LineResult], optima: Sequence[Optima]) -> Estimate | None:
    if panel.words or min(panel.lines) <= 0:
        return None
    log2_line = np.log2(np.array([*panel.lines]))
    slope = slopes(log2_line, optima, panel.seeds)
    if any(result.on_edge for result in lines):
        return Estimate(float(slope[0]), reason="an optimum on the edge of the grid is only bounded")
    return Estimate.of(slope)


PANEL_KEYS = ("row", "column", "x_label", "x_name", "line_name", "parametrization", "is_log2", "heading", "row_heading")
COLOURS = {"transfers": "black", "does not transfer": WARNING, "undecided": MUTED}
PICTURES = {"landscape": "Loss against one hyperparameter per panel, a line for every value of what is scaled"}
EXCEPTIONS: dict[tuple[str, str, str, str], str | None] = {
    ("Figure 4", "mup", "init std", "depth"): None,  # "but for the init std across depth"
    ("App G.1.1", "sp", "alpha_output", "width"): None,  # Figure 16 draws SP's learning rate only
    ("Figure 10", "mup", "d_k = width / 4", "width"): "does not transfer",  # the panel that d_k is too small in
}
"""(figure, parametrization, x or heading, line) -> the verdict that the paper's panel has; None: it claims nothing."""


def describe_landscape(folder: Path) -> Described[dict[str, PanelReport]]:
    """The table of `LANDSCAPE` in words, and the report of every panel; raises as it does."""
    figure = FigureFolder.open(folder, ("panels",))
    panels: Mapping[str, Mapping[str, Any]] = figure["panels"]
    for key, panel in panels.items():
        if absent := [name for name in PANEL_KEYS if name not in panel]:
            raise UserError(f"{folder / 'provenance.json'}: panel '{key}' lacks {', '.join(absent)}.")
    metric, metric_label = _metric(figure)
    runs = figure.runs
    if "panel" in runs.columns and (apart := set(runs["panel"]) ^ set(panels)):
        names = ", ".join(sorted(map(str, apart)))
        raise UserError(f"{folder}: runs.csv and provenance.json differ in their panels: {names}; run the sweep again.")
    axes = {key: PanelAxis(p["line_name"], p["is_log2"], tuple(p.get("choices", ()))) for key, p in panels.items()}
    every = landscape_report(runs, axes=axes, metric=metric)
    reports = {key: every[key] for key in panels}
    y_label = figure["y_label"].replace(METRICS["train_loss"], metric_label)
    figure = replace(figure, provenance={**figure.provenance, "y_label": y_label})
    summary = [f"- {_name(panels[key])}: {str(report).split(': ', 1)[1]}" for key, report in reports.items()]
    judged = [
        (
            _name(panels[key]),
            panel_line(
                runs[runs["panel"] == key], report.verdict, x_name=panels[key]["x_name"], line_name=report.line_name
            ),
        )
        for key, report in reports.items()
        if panels[key]["parametrization"] == "mup"
    ]
    loss = "loss" if metric == "train_loss" else metric_label
    parts = [
        *figure.heading(f"{_seeds(reports)} at every point"),
        "## Does it transfer?",
        "\n".join(summary),
        "## Best choice of every line",
        *(f"### {_name(panels[key])}\n\n{_lines(report, panels[key], loss)}" for key, report in reports.items()),
        *figure.beside_the_paper("; ".join(panel_counts(reports, panels)), _ours(reports)),
        "## The rule of thumb of section 6.1",
        "The paper: transfer works for language modelling if all of these hold and the target is in the tested range.",
        rule_of_thumb(runs, judged),
        "## How to read it",
        f"{rule(metric_label)} Drift: slope of the refined choice against log2 of the line's value, its interval "
        "widened by Student's t for few seeds. Losses are means ± standard errors over seeds. The rule of thumb claims "
        "nothing about SP.",
    ]
    return Described(figure, reports, "\n".join(map(str, reports.values())), parts, PICTURES)


def _metric(figure: FigureFolder) -> tuple[str, str]:
    """The column of the loss, and that loss in words."""
    path, metric = figure.path / "provenance.json", figure.provenance.get("metric", "train_loss")
    if metric not in METRICS:
        raise unknown(f"metric of {path}", metric, METRICS)
    words = str(figure.provenance.get("metric_label", METRICS[metric]))
    if ("training" in words) != (metric == "train_loss"):
        raise UserError(f"{path}: metric {metric} cannot be labelled '{words}'.")
    return metric, words


def _name(panel: Mapping[str, Any]) -> str:
    return f"{panel['x_name']} across {panel['line_name']}, {label(panel['parametrization'])}"


def _seeds(reports: Mapping[str, PanelReport]) -> str:
    return counted([report.panel.seeds for report in reports.values()], "seed")


def panel_counts(reports: Mapping[str, PanelReport], panels: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """``µP: 3 of 4 panels transfer, 1 undecided`` for every parametrization."""
    counts = []
    for name in dict.fromkeys(panel["parametrization"] for panel in panels.values()):
        verdicts = [report.verdict for key, report in reports.items() if panels[key]["parametrization"] == name]
        text = f"{label(name)}: {verdicts.count('transfers')} of {len(verdicts)} panels transfer"
        text += f", {verdicts.count('does not transfer')} do not" * ("does not transfer" in verdicts)
        counts.append(text + f", {verdicts.count('undecided')} undecided" * ("undecided" in verdicts))
    return counts


def _ours(reports: Mapping[str, PanelReport]) -> dict[str, str]:
    """Our values of the published lists: the lines of the panels that vary what they list."""
    metrics = {"width": "widths", "depth": "depths", "batch": "batch_sizes", "sequence length": "seq_lens"}
    lists = {
        metrics.get(report.line_name, report.line_name): ",".join(f"{value:g}" for value in report.panel.lines)
        for report in reports.values()
    }
    return {**lists, "seeds": _seeds(reports).split(" seed")[0]}


def _lines(report: PanelReport, panel: Mapping[str, Any], loss: str) -> str:
    """The table of one panel, with its verdict and drift below."""
    header = (panel["line_name"], "best choice", "refined", "95% interval", loss, "regret")
    rows = []
    for k, result in enumerate(report.lines):
        spread = "" if math.isnan(result.loss_se) else f" ± {number(result.loss_se, 4)}"
        best = report.panel.choice(result.best)
        refined = power(result.refined) if panel["is_log2"] else number(result.refined)
        cells = (best + " (on the edge)" * result.on_edge, refined, report.interval_text(k))
        rows.append((f"{result.value:g}", *cells, number(result.loss, 4) + spread, regret_text(result.regret)))
    text = f"**{report.text}**"
    if report.drift is not None:
        unit = "octaves" if panel["is_log2"] else panel["x_name"]
        text += f"; drift {report.drift.text()} {unit} per doubling of {panel['line_name']}"
    return f"{grid(header, rows)}\n\n{text}."


def _draw(described: Described[dict[str, PanelReport]]) -> list[Path]:
    reports, figure = described.report, described.folder
    panels = figure["panels"]
    rows: dict[int, list[str]] = {}
    for key in sorted(panels, key=lambda key: (panels[key]["row"], panels[key]["column"])):
        rows.setdefault(panels[key]["row"], []).append(key)
    columns = 1 + max(panel["column"] for panel in panels.values())
    headings = {(panel["column"], panel["heading"]) for panel in panels.values()}
    is_shared = len({column for column, _ in headings}) == len(headings)  # one heading over each column
    values = [sorted({value for key in keys for value in reports[key].panel.lines}) for keys in rows.values()]
    curves = [[reports[key].panel.curves for key in keys] for keys in rows.values()]
    page = PageOfRows(
        columns,
        1.9 if columns < 3 else 1.2 if len(rows) < 4 else 1.1,
        SMALL,
        banner=figure.banner,
        strips=tuple(strip_height(c, len(v), SMALL_MARKS) for c, v in zip(curves, values, strict=True)),
        legends=(1,) * len(rows),
        heading=0.22 if is_shared else 0.0,
        title_lines=2 if is_shared else 3,
    )
    ticks = {key: _ticks(report.panel, page.panel) for key, report in reports.items() if report.panel.words}
    page = replace(page, caption=figure.caption(_caption(reports, panels, ticks)))
    with paper_style():
        for row, keys in enumerate(rows.values()):
            looks = line_looks(values[row], markersize=2.8)
            limits = loss_limits(
                [curve for panel in curves[row] for curve in panel], figure.provenance.get("loss_ceiling")
            )
            for place, key in enumerate(keys):
                panel, report, column = panels[key], reports[key], panels[key]["column"]
                x_limits, lines = _x_limits(reports, panels, key), report.panel.lines
                axes = curve_panel(page, row, column, lines, looks, x_limits, limits, SMALL_MARKS, first=place == 0)
                set_ticks(axes.xaxis, count=max(3, round(page.panel / 0.3)), whole=True)
                set_ticks(axes.yaxis, count=5)
                axes.set_xlabel(panel["x_label"], fontsize=7, labelpad=1.5)
                if place == 0:
                    axes.set_ylabel(f"{panel['row_heading']}\n{figure['y_label']}".strip(), fontsize=7)
                if key in ticks:
                    axes.set_xticks(report.panel.x, ticks[key])
                _draw_claim(axes, report, looks)
                page.title(row, column, _title(report, "" if is_shared else panel["heading"]))
                if is_shared and row == 0:
                    at = (page.left(column) + page.panel / 2) / WIDTH
                    high = (page.top(0) + 2 * SMALL.title_line + 0.04) / page.height
                    font: Look = {"ha": "center", "va": "bottom", "fontweight": "bold", "fontsize": 8}
                    page.figure.text(at, high, panel["heading"], **font)
            line_legend(page, row, panels[keys[0]]["line_name"], looks, SMALL_MARKS)
        return page.save(figure.path, "landscape")


def _x_limits(
    reports: Mapping[str, PanelReport], panels: Mapping[str, Mapping[str, Any]], key: str
) -> tuple[float, float]:
    """Of all panels in this column with the same x, so that the eye can compare them."""
    same = [k for k in panels if all(panels[k][n] == panels[key][n] for n in ("column", "x_name"))]
    grid = np.unique(np.concatenate([reports[k].panel.x for k in same]))
    margin = max(0.5 * float(np.diff(grid).min()) if len(grid) > 1 else 0.5, 0.04 * float(np.ptp(grid)))
    return float(grid[0]) - margin, float(grid[-1]) + margin


def _ticks(panel: PanelCurves, inches: float) -> list[str]:
    """The words if all of them have room side by side, else letters."""
    longest = max(len(word) for word in panel.words)
    has_room = (longest + 1) * LETTER * SMALL.points / 72 * len(panel.words) < inches
    return list(panel.words) if has_room else list(string.ascii_lowercase[: len(panel.words)])


def _title(report: PanelReport, heading: str) -> list[tuple[str, Look]]:
    lines: list[tuple[str, Look]] = [(heading, {"fontweight": "bold", "fontsize": 7.5})] if heading else []
    lines.append((report.text, {"fontweight": "bold", "color": COLOURS[report.verdict]}))
    return [*lines, (f"regret {regret_text(report.regret, 3)}".replace("-", MINUS), {})]


def _draw_claim(axes: Axes, report: PanelReport, looks: Mapping[float, Look]) -> None:
    """Stars at the optima, the first line's choice as a dashed line, the last line's interval at the bottom."""
    panel, (bottom, top) = report.panel, axes.get_ylim()
    axes.axvline(float(panel.x[report.lines[0].best]), **TRANSFERRED, zorder=1)
    for result, curve in zip(report.lines, panel.curves, strict=True):
        x = panel.x[result.best] if panel.words else result.refined
        face = "white" if result.on_edge else looks[result.value]["color"]
        edge: Look = {"markersize": 6.5, "markeredgecolor": "black", "markeredgewidth": 0.5}
        star(axes, curve, x, result.loss, color=face, **edge, zorder=5)
    inside = panel.x[list(report.lines[-1].interval)]
    if len(inside):
        style = "none" if panel.words else "-"
        level = np.full(len(inside), bottom + 0.03 * (top - bottom))
        axes.plot(inside, level, "|", linestyle=style, color="black", linewidth=1.1, markersize=5, zorder=4)


def _caption(
    reports: Mapping[str, PanelReport], panels: Mapping[str, Mapping[str, Any]], ticks: Mapping[str, Sequence[str]]
) -> str:
    seeds = _seeds(reports)
    text = [f"Lines: {points(seeds)}.", "Star: best choice of a line (parabola);"]
    if any(result.on_edge for report in reports.values() for result in report.lines):
        text.append("hollow: on the edge of the grid;")
    text.append("dashed: the smallest line's best choice.")
    if seeds != "1 seed":
        text.append("Black mark at the bottom: the largest line's 95% interval.")
    share = np.concatenate([np.isinf(curve.loss).mean(axis=0) for r in reports.values() for curve in r.panel.curves])
    if share.any():
        text.append(f"Crosses on grey: diverged{' (faint: some seeds)' * bool((share % 1).any())}.")
    text.append("Regret: loss of the dashed choice at the largest line, less its least loss.")
    named = {}
    for key, letters in ticks.items():
        words = reports[key].panel.words
        if tuple(letters) != words:
            named[", ".join(f"{a} {b}" for a, b in zip(letters, words, strict=True))] = panels[key]["x_name"]
    return " ".join([*text, *(f"{name}: {names}." for names, name in named.items())])


def _claims(described: Described[dict[str, PanelReport]]) -> list[Claim]:
    """A part a panel."""
    usual = {"mup": "transfers", "sp": "does not transfer"}
    reports, panels, parts = described.report, described.folder["panels"], []
    where = described.folder["paper"]["table_or_figure"]
    for key, report in reports.items():
        panel = panels[key]
        name, line = panel["parametrization"], panel["line_name"]
        wanted = usual.get(name)
        for x in (panel["x_name"], panel["heading"]):
            wanted = EXCEPTIONS.get((where, name, x, line), wanted)
        words = f"{label(name)}: {panel['x_name']} across {line}"
        words += f", {panel['heading']}" * (panel["heading"] != panel["x_name"])
        parts.append(Part.of(words, report.text, report.verdict, wanted))
    return [described.folder.claim(parts, counts="; ".join(panel_counts(reports, panels)))]


LANDSCAPE = Kind("landscape", describe_landscape, _draw, _claims)
"""A folder with ``landscape.png``, ``landscape.svg`` and ``table.md`` in ``folder``.

Reads only ``folder/runs.csv`` (columns panel, x, line, then a runs table) and ``folder/provenance.json``; the
same two files give the same bytes. The provenance has `KEYS` and ``panels``: key -> object with
`PANEL_KEYS` and, optionally, ``choices``, the order of the words on a word axis. Also optional are
``loss_ceiling``, ``stands_in_for``, ``notes`` and ``paper.ours``, as for a sweep, and ``metric``, the column that
holds the loss (default ``train_loss``), with ``metric_label``, that loss in words.

Raises `UserError` if a file is missing or malformed, if runs and provenance name different panels, or if a run
of a complete panel is missing.
"""
