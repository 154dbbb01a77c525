"""The paper's Figures 4, 13, 17, 18 and 19: loss against one hyperparameter, a line for every value of another."""

from __future__ import annotations

import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from mutransfer.errors import UserError, unknown
from mutransfer.reporting.panels import (
    CAPTION_POINTS,
    LETTER,
    SMALL,
    TITLE_LINE,
    Page,
    draw_panel,
    line_looks,
    row_legend,
    strip_height,
    write_frame,
    write_title,
)
from mutransfer.results import rule_of_thumb
from mutransfer.results.claims import Claim, Part, paper_claim
from mutransfer.results.draw.lr_figure import MINUS, TRANSFERRED, Look, loss_limits
from mutransfer.results.draw.style import MUTED, WARNING, WIDTH, new_figure, paper_style, save, wrapped
from mutransfer.results.estimate import label, number, power
from mutransfer.results.files import read_figure, read_runs, stand_in
from mutransfer.results.landscape import PanelReport, landscape_report, regret_text, rule
from mutransfer.results.panels import METRICS, Axis, Panel
from mutransfer.results.quality import interpolate
from mutransfer.results.sections import Described, Kind, heading_section, joined, paper_section
from mutransfer.results.table import grid

STEM = "landscape"
PANEL_KEYS = ("row", "column", "x_label", "x_name", "line_name", "parametrization", "is_log2", "heading", "row_heading")
COLOURS = {"transfers": "black", "does not transfer": WARNING, "undecided": MUTED}
PICTURES = {"landscape": "Loss against one hyperparameter a panel, a line for every value of what is scaled"}
"""The one, and what it is."""


def _draw(folder: Path, described: Described[Any]) -> list[Path]:
    return _figure(described.report, described.provenance, folder)


def describe_landscape(folder: Path) -> Described[dict[str, PanelReport]]:
    """What `render_landscape` writes in ``table.md``, from the report of every panel; raises as it does."""
    provenance = read_figure(folder, ("panels",))
    panels: Mapping[str, Mapping[str, Any]] = provenance["panels"]
    for key, panel in panels.items():
        if absent := [name for name in PANEL_KEYS if name not in panel]:
            raise UserError(f"{folder / 'provenance.json'}: panel '{key}' lacks {', '.join(absent)}.")
    metric, metric_label = _metric(provenance, folder)
    runs = read_runs(folder / "runs.csv")
    if "panel" in runs.columns and (apart := set(runs["panel"]) ^ set(panels)):
        names = ", ".join(sorted(map(str, apart)))
        raise UserError(f"{folder}: runs.csv and provenance.json differ in their panels: {names}; run the sweep again.")
    found = landscape_report(
        runs,
        axes={
            key: Axis(panel["line_name"], panel["is_log2"], tuple(panel.get("choices", ())))
            for key, panel in panels.items()
        },
        metric=metric,
    )
    reports = {key: found[key] for key in panels}
    provenance["y_label"] = provenance["y_label"].replace(METRICS["train_loss"], metric_label)
    summary = [f"- {_name(provenance, key)}: {str(report).split(': ', 1)[1]}" for key, report in reports.items()]
    judged = [
        (
            _name(provenance, key),
            rule_of_thumb.panel_line(
                runs[runs["panel"] == key], report.verdict, x_name=panels[key]["x_name"], line_name=report.line_name
            ),
        )
        for key, report in reports.items()
        if panels[key]["parametrization"] == "mup"
    ]
    loss = "loss" if metric == "train_loss" else metric_label
    parts = [
        *heading_section(provenance, f"{_seeds(reports)} at every point"),
        "## Does it transfer?",
        "\n".join(summary),
        "## Best choice of every line",
        *(f"### {_name(provenance, key)}\n\n{_lines(report, panels[key], loss)}" for key, report in reports.items()),
        *paper_section(provenance, "; ".join(panel_counts(reports, panels)), _ours(reports)),
        "## The rule of thumb of section 6.1",
        "The paper: transfer works for language modelling if all of these hold and the target is in the tested range.",
        rule_of_thumb.markdown(runs, judged),
        "## How to read it",
        f"{rule(metric_label)} Drift: slope of the refined choice against log2 of the line's value, its interval "
        "widened by Student's t for few seeds. Losses are means ± standard errors over seeds. The rule of thumb claims "
        "nothing about SP.",
    ]
    return Described(
        provenance,
        reports,
        "\n".join(map(str, reports.values())),
        joined(parts),
        PICTURES,
    )


def _metric(provenance: Mapping[str, Any], folder: Path) -> tuple[str, str]:
    """The column of the loss, and that loss in words."""
    metric = provenance.get("metric", "train_loss")
    if metric not in METRICS:
        raise unknown(f"metric of {folder / 'provenance.json'}", metric, METRICS)
    words = str(provenance.get("metric_label", METRICS[metric]))
    if ("training" in words) != (metric == "train_loss"):
        raise UserError(f"{folder / 'provenance.json'}: metric {metric} cannot be labelled '{words}'.")
    return metric, words


def _name(provenance: Mapping[str, Any], key: str) -> str:
    panel = provenance["panels"][key]
    return f"{panel['x_name']} across {panel['line_name']}, {label(panel['parametrization'])}"


def _seeds(reports: Mapping[str, PanelReport]) -> str:
    count = sorted({report.panel.seeds for report in reports.values()})
    text = str(count[0]) if len(count) == 1 else f"{count[0]} to {count[-1]}"
    return f"{text} seed{'' if count[-1] == 1 else 's'}"


def panel_counts(reports: Mapping[str, PanelReport], panels: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """``µP: 3 of 4 panels transfer, 1 undecided`` for every parametrization."""
    found = []
    for name in dict.fromkeys(panel["parametrization"] for panel in panels.values()):
        verdicts = [report.verdict for key, report in reports.items() if panels[key]["parametrization"] == name]
        text = f"{label(name)}: {verdicts.count('transfers')} of {len(verdicts)} panels transfer"
        text += f", {verdicts.count('does not transfer')} do not" * ("does not transfer" in verdicts)
        found.append(text + f", {verdicts.count('undecided')} undecided" * ("undecided" in verdicts))
    return found


def _ours(reports: Mapping[str, PanelReport]) -> dict[str, str]:
    """Our values of the published lists: the lines of the panels that vary what they list."""
    metrics = {"width": "widths", "depth": "depths", "batch": "batch_sizes", "sequence length": "seq_lens"}
    found = {
        metrics.get(report.line_name, report.line_name): ",".join(f"{value:g}" for value in report.panel.lines)
        for report in reports.values()
    }
    return {**found, "seeds": _seeds(reports).split(" seed")[0]}


def _lines(report: PanelReport, panel: Mapping[str, Any], loss: str) -> str:
    """The table of one panel, with its verdict and drift below."""
    header = (panel["line_name"], "best choice", "refined", "95% interval", loss, "regret")
    rows = []
    for k, one in enumerate(report.lines):
        spread = "" if math.isnan(one.loss_se) else f" ± {number(one.loss_se, 4)}"
        best = report.panel.choice(one.best)
        refined = power(one.refined) if panel["is_log2"] else number(one.refined)
        cells = (best + " (on the edge)" * one.on_edge, refined, report.interval_text(k))
        rows.append((f"{one.value:g}", *cells, number(one.loss, 4) + spread, regret_text(one.regret)))
    text = f"**{report.text}**"
    if report.drift is not None:
        unit = "octaves" if panel["is_log2"] else panel["x_name"]
        text += f"; drift {report.drift.text()} {unit} per doubling of {panel['line_name']}"
    return f"{grid(header, rows)}\n\n{text}."


def _figure(reports: Mapping[str, PanelReport], provenance: Mapping[str, Any], out: Path) -> list[Path]:
    panels = provenance["panels"]
    rows: dict[int, list[str]] = {}
    for key in sorted(panels, key=lambda key: (panels[key]["row"], panels[key]["column"])):
        rows.setdefault(panels[key]["row"], []).append(key)
    columns = 1 + max(panel["column"] for panel in panels.values())
    headings = {(panel["column"], panel["heading"]) for panel in panels.values()}
    is_shared = len({column for column, _ in headings}) == len(headings)  # one heading over each column
    looks = {row: line_looks(sorted({v for k in keys for v in reports[k].panel.lines})) for row, keys in rows.items()}
    banner = stand_in(provenance)
    page = Page(
        columns=columns,
        tall=1.9 if columns < 3 else 1.2 if len(rows) < 4 else 1.1,
        strips=tuple(strip_height([reports[key].panel for key in keys]) for keys in rows.values()),
        legends=(1,) * len(rows),
        caption_lines=0,
        heading=0.22 if is_shared else 0.0,
        banner=0.3 if banner else 0.0,
        title_lines=2 if is_shared else 3,
    )
    ticks = {key: _ticks(report.panel, page.panel) for key, report in reports.items() if report.panel.words}
    text = wrapped(_caption(reports, provenance, ticks), WIDTH - 0.2, CAPTION_POINTS)
    page = replace(page, caption_lines=text.count("\n") + 1)
    with paper_style():
        figure = new_figure(page.height)
        for row, (where, keys) in enumerate(rows.items()):
            every = [one for key in keys for one in reports[key].panel.curves]
            limits = loss_limits(every, provenance.get("loss_ceiling"))
            for place, key in enumerate(keys):
                panel, report = panels[key], reports[key]
                axes = draw_panel(
                    figure,
                    page,
                    row,
                    panel["column"],
                    report.panel,
                    looks[where],
                    limits,
                    x_limits=_x_limits(reports, panels, key),
                    first=place == 0,
                )
                axes.set_xlabel(panel["x_label"], fontsize=7, labelpad=1.5)
                if place == 0:
                    axes.set_ylabel(f"{panel['row_heading']}\n{provenance['y_label']}".strip(), fontsize=7)
                if key in ticks:
                    axes.set_xticks(report.panel.x, ticks[key])
                _draw_claim(axes, report, looks[where])
                write_title(figure, page, row, panel["column"], _title(report, "" if is_shared else panel["heading"]))
                if is_shared and row == 0:
                    at = (page.left(panel["column"]) + page.panel / 2) / WIDTH
                    high = (page.top(0) + 2 * TITLE_LINE + 0.04) / page.height
                    figure.text(at, high, panel["heading"], ha="center", va="bottom", fontweight="bold", fontsize=8)
            row_legend(figure, page, row, panels[keys[0]]["line_name"], looks[where])
        write_frame(figure, page, text, banner)
        return save(figure, out, STEM)


def _x_limits(
    reports: Mapping[str, PanelReport], panels: Mapping[str, Mapping[str, Any]], key: str
) -> tuple[float, float]:
    """Of all panels in this column with the same x, so that the eye can compare them."""
    same = [k for k in panels if all(panels[k][n] == panels[key][n] for n in ("column", "x_name"))]
    grid = np.unique(np.concatenate([reports[k].panel.x for k in same]))
    margin = max(0.5 * float(np.diff(grid).min()) if len(grid) > 1 else 0.5, 0.04 * float(np.ptp(grid)))
    return float(grid[0]) - margin, float(grid[-1]) + margin


def _ticks(panel: Panel, inches: float) -> list[str]:
    """The words if all of them have room side by side, else letters."""
    longest = max(len(word) for word in panel.words)
    has_room = (longest + 1) * LETTER * SMALL / 72 * len(panel.words) < inches
    return list(panel.words) if has_room else list(string.ascii_lowercase[: len(panel.words)])


def _title(report: PanelReport, heading: str) -> list[tuple[str, Look]]:
    lines: list[tuple[str, Look]] = [(heading, {"fontweight": "bold", "fontsize": 7.5})] if heading else []
    lines.append((report.text, {"fontweight": "bold", "color": COLOURS[report.verdict]}))
    return [*lines, (f"regret {regret_text(report.regret, 3)}".replace("-", MINUS), {})]


def _draw_claim(axes: Axes, report: PanelReport, looks: Mapping[float, Look]) -> None:
    """Stars at the optima, the first line's choice as a dashed line, the last line's interval at the bottom."""
    panel, (bottom, top) = report.panel, axes.get_ylim()
    axes.axvline(float(panel.x[report.lines[0].best]), **TRANSFERRED, zorder=1)
    for one, curve in zip(report.lines, panel.curves, strict=True):
        x = panel.x[one.best] if panel.words else one.refined
        y = interpolate(panel.x, curve.loss.mean(axis=0)[None], np.array([x]))[0]
        face = "white" if one.on_edge else looks[one.value]["color"]
        star: Look = {"markersize": 6.5, "markeredgecolor": "black", "markeredgewidth": 0.5}
        axes.plot(x, one.loss if np.isnan(y) else y, "*", color=face, **star, zorder=5)
    inside = panel.x[list(report.lines[-1].interval)]
    if len(inside):
        style = "none" if panel.words else "-"
        level = np.full(len(inside), bottom + 0.03 * (top - bottom))
        axes.plot(inside, level, "|", linestyle=style, color="black", linewidth=1.1, markersize=5, zorder=4)


def _caption(
    reports: Mapping[str, PanelReport], provenance: Mapping[str, Any], ticks: Mapping[str, Sequence[str]]
) -> str:
    seeds = _seeds(reports)
    shown = "one run a point" if seeds == "1 seed" else f"mean over {seeds}, band: standard error"
    text = (
        f"{provenance['title']}, scale '{provenance['scale']}' "
        f"(after {provenance['paper']['table_or_figure']} of the paper). Lines: {shown}. "
        "Star: best choice of a line (parabola); "
    )
    if any(one.on_edge for report in reports.values() for one in report.lines):
        text += "hollow: on the edge of the grid; "
    text += "dashed: the smallest line's best choice. "
    if seeds != "1 seed":
        text += "Black mark at the bottom: the largest line's 95% interval. "
    share = np.concatenate([np.isinf(one.loss).mean(axis=0) for r in reports.values() for one in r.panel.curves])
    if share.any():
        text += f"Crosses on grey: diverged{' (faint: some seeds)' * bool((share % 1).any())}. "
    text += "Regret: loss of the dashed choice at the largest line, less its least loss. "
    named = {}
    for key, letters in ticks.items():
        words = reports[key].panel.words
        if tuple(letters) != words:
            named[", ".join(f"{a} {b}" for a, b in zip(letters, words, strict=True))] = provenance["panels"][key]
    text += "".join(f"{panel['x_name']}: {names}. " for names, panel in named.items())
    return text + f"Data: {provenance['data_source']}."


EXCEPTIONS: dict[tuple[str, str, str, str], str | None] = {
    ("Figure 4", "mup", "init std", "depth"): None,  # "but for the init std across depth"
    ("App G.1.1", "sp", "alpha_output", "width"): None,  # Figure 16 draws SP's learning rate only
    ("Figure 10", "mup", "d_k = width / 4", "width"): "does not transfer",  # the panel that d_k is too small in
}
"""(figure, parametrization, x or heading, line) -> the verdict that the paper's panel has; None: it claims nothing."""


def _claims(provenance: Mapping[str, Any], reports: dict[str, PanelReport]) -> list[Claim]:
    """A part a panel."""
    usual = {"mup": "transfers", "sp": "does not transfer"}
    figure, parts = provenance["paper"]["table_or_figure"], []
    for key, report in reports.items():
        panel = provenance["panels"][key]
        name, line = panel["parametrization"], panel["line_name"]
        wanted = usual.get(name)
        for x in (panel["x_name"], panel["heading"]):
            wanted = EXCEPTIONS.get((figure, name, x, line), wanted)
        words = f"{label(name)}: {panel['x_name']} across {line}"
        words += f", {panel['heading']}" * (panel["heading"] != panel["x_name"])
        parts.append(Part.of(words, report.text, report.verdict, wanted))
    return [paper_claim(provenance, parts, counts="; ".join(panel_counts(reports, provenance["panels"])))]


LANDSCAPE = Kind("landscape", describe_landscape, _draw, _claims)
"""A folder with ``landscape.png``, ``landscape.svg`` and ``table.md`` in ``folder``.

Reads only ``folder/runs.csv`` (columns panel, x, line, then a runs table) and ``folder/provenance.json``; the
same two files give the same bytes. The provenance has the keys of `render` and ``panels``: key -> object with
`PANEL_KEYS` and, optionally, ``choices``, the order of the words on a word axis. Also optional are
``loss_ceiling``, ``stands_in_for``, ``notes`` and ``paper.ours``, as in `render`, and ``metric``, the column that
holds the loss (default ``train_loss``), with ``metric_label``, that loss in words.

Raises `UserError` if a file is missing or malformed, if runs and provenance name different panels, or if a run
of a complete panel is missing.
"""
