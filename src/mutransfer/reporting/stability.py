"""The paper's Figure 21: where SP models of width n break, and where a narrow µP model of base width n does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from mutransfer.reporting.panels import (
    CAPTION_POINTS,
    LEGEND,
    TICKS,
    Page,
    draw_panel,
    line_looks,
    row_legend,
    strip_height,
    write_frame,
    write_legend,
    write_title,
)
from mutransfer.results.claims import Claim, Part, paper_claim
from mutransfer.results.draw.lr_figure import MINUS, Look, loss_limits
from mutransfer.results.draw.style import MUTED, WARNING, WIDTH, new_figure, paper_style, save, wrapped
from mutransfer.results.estimate import Estimate, number
from mutransfer.results.files import read_figure, read_runs, stand_in
from mutransfer.results.quality import interpolate
from mutransfer.results.sections import Described, Kind, heading_section, joined, paper_section
from mutransfer.results.stability import REAL, RULE, SIMULATED, StabilityReport, edge_text, stability_report
from mutransfer.results.table import grid

STEM = "stability"
THRESHOLD: Look = {"color": MUTED, "linestyle": (0, (4, 2)), "linewidth": 0.9}
COLOURS = {"predicted": "black", "missed": WARNING, "undecided": MUTED}
PICTURES = {"stability": "Training loss against learning rate: real SP models beside one µP model that simulates them"}
"""The one, and what it is."""


def _draw(folder: Path, described: Described[Any]) -> list[Path]:
    return _figure(described.report, described.provenance, folder)


def describe_stability(folder: Path) -> Described[StabilityReport]:
    """What `render_stability` writes in ``table.md``; raises as it does."""
    provenance = read_figure(folder, ("threshold",))
    report = stability_report(read_runs(folder / "runs.csv"), provenance["threshold"])
    seeds = min(panel.seeds for panel in report.panels.values())
    ours = {"widths": ",".join(str(one.width) for one in report.results)}
    parts = [
        *heading_section(provenance, f"{seeds} seed{'s' if seeds > 1 else ''} at every point"),
        "## Is the divergence predicted?",
        "\n".join(f"- {line}" for line in str(report).split("\n")),
        _table(report),
        f"Threshold: {number(report.threshold, 4)}, {_threshold_name(provenance)}.",
        *paper_section(provenance, str(report).split("\n")[0], ours),
        "## How to read it",
        RULE,
    ]
    return Described(
        provenance,
        report,
        str(report),
        joined(parts),
        PICTURES,
    )


def _threshold_name(provenance: Mapping[str, Any]) -> str:
    return str(provenance.get("threshold_name", "the entropy of the training text's single tokens"))


def _table(report: StabilityReport) -> str:
    header = ("n", "edge of the real model", "edge of the simulation", "miss (octaves)", "verdict")
    rows = []
    for one in report.results:
        edges = (edge_text(one.real, report.top(REAL)), edge_text(one.simulated, report.top(SIMULATED)))
        rows.append((str(one.width), *edges, _miss(one.miss), one.text))
    return grid(header, rows)


def _miss(miss: Estimate) -> str:
    """``-0.12 [-0.40, 0.10]``; an end that lies above or below every grid is written so."""
    if math.isnan(miss.low):
        return number(miss.value)
    low, high = ("beyond the grid" if math.isinf(end) else number(end) for end in (miss.low, miss.high))
    return f"{number(miss.value)} [{low}, {high}]"


def _figure(report: StabilityReport, provenance: Mapping[str, Any], out: Path) -> list[Path]:
    banner, limits = stand_in(provenance), _limits(report, provenance)
    looks = line_looks([one.width for one in report.results])
    page = Page(
        columns=2,
        tall=2.4,
        strips=(strip_height(list(report.panels.values())),),
        legends=(2,),
        caption_lines=0,
        banner=0.3 if banner else 0.0,
        title_lines=2,
    )
    text = wrapped(_caption(report, provenance), WIDTH - 0.2, CAPTION_POINTS)
    page = replace(page, caption_lines=text.count("\n") + 1)
    given = provenance.get("panels", {})
    grid_ = np.concatenate([panel.x for panel in report.panels.values()])
    with paper_style():
        figure = new_figure(page.height)
        for column, (key, panel) in enumerate(report.panels.items()):
            x_limits = (float(grid_.min()) - 0.5, float(grid_.max()) + 0.5)
            axes = draw_panel(figure, page, 0, column, panel, looks, limits, x_limits=x_limits, first=column == 0)
            axes.set_xlabel(r"$\log_2$ learning rate", labelpad=1.5)
            axes.set_ylabel(provenance["y_label"] if column == 0 else "")
            axes.axhline(report.threshold, **THRESHOLD, zorder=1)
            _draw_edges(axes, report, looks, key)
            heading = given.get(key, {}).get("heading", key)
            font: Look = {"fontweight": "bold", "fontsize": 8.5}
            write_title(figure, page, 0, column, [(heading, font), _title(report, key)])
        row_legend(figure, page, 0, "n =", looks)
        write_legend(figure, page, page.floor(0) - TICKS - LEGEND, _signs(report))
        write_frame(figure, page, text, banner)
        return save(figure, out, STEM)


def _limits(report: StabilityReport, provenance: Mapping[str, Any]) -> tuple[float, float]:
    """Readable basins, and the threshold with some room above it."""
    every = [one for p in report.panels.values() for one in p.curves if np.isfinite(one.loss).all(axis=0).any()]
    low, high = loss_limits(every, provenance.get("loss_ceiling")) if every else (report.threshold,) * 2
    room = 0.1 * max(report.threshold - low, 1e-3 * abs(report.threshold))
    return min(low, report.threshold - room), max(high, report.threshold + room)


def _draw_edges(axes: Axes, report: StabilityReport, looks: Mapping[float, Look], key: str) -> None:
    """Stars at the optima, diamonds at the edges; in the simulation hollow ones where the real edges are."""
    panel = report.panels[key]
    for one, curve in zip(report.results, panel.curves, strict=True):
        color = looks[one.width]["color"]
        sign: Look = {"markeredgecolor": "black", "markeredgewidth": 0.5, "zorder": 6, "linestyle": "none"}
        mean = curve.loss.mean(axis=0)
        if np.isfinite(mean).any():
            best = int(np.argmin(mean))
            y = interpolate(panel.x, mean[None], panel.x[[best]])[0]
            axes.plot(panel.x[best], y, "*", color=color, markersize=7, **sign)
        edge = one.real if key == REAL else one.simulated
        if math.isfinite(edge.value):
            if not math.isnan(edge.low):
                span = [edge.low, min(edge.high, float(panel.x[-1]))]
                axes.plot(span, [report.threshold] * 2, "-", color=color, linewidth=1.4, zorder=4)
            axes.plot(edge.value, report.threshold, "D", color=color, markersize=5, **sign)
        if key == SIMULATED and math.isfinite(one.real.value):
            hollow = {**sign, "markeredgecolor": color, "markeredgewidth": 1.2, "zorder": 5}
            axes.plot(one.real.value, report.threshold, "D", color="white", markersize=5, **hollow)


def _title(report: StabilityReport, key: str) -> tuple[str, Look]:
    if key == REAL:
        count = sum(math.isfinite(one.real.value) for one in report.results)
        return f"{count} of {len(report.results)} widths break inside the grid", {"fontsize": 7.5}
    text: str = report.verdict
    largest = report.largest
    if largest:
        miss = number(largest.miss.value).replace("-", MINUS)
        text += f"; largest miss {miss} octaves (n = {largest.width})"
    return text, {"fontsize": 7.5, "color": COLOURS[report.verdict]}


def _signs(report: StabilityReport) -> list[Line2D]:
    black: Look = {"color": "black", "linestyle": "none", "markersize": 5}
    signs = [
        Line2D([], [], label="optimum", **black, marker="*"),
        Line2D([], [], label="edge", **black, marker="D"),
        Line2D([], [], label="edge of the real model", **{**black, "marker": "D", "markerfacecolor": "white"}),
        Line2D([], [], label="threshold", **THRESHOLD),
    ]
    if any(np.isinf(one.loss).any() for panel in report.panels.values() for one in panel.curves):
        signs.append(Line2D([], [], label="diverged (faint: some seeds)", marker="x", **{**black, "markersize": 3.5}))
    return signs


def _caption(report: StabilityReport, provenance: Mapping[str, Any]) -> str:
    seeds = min(panel.seeds for panel in report.panels.values())
    shown = "one run a point" if seeds == 1 else f"mean over {seeds} seeds, band: standard error"
    ends = "" if seeds == 1 else " (bars: 95% bootstrap intervals)"
    return (
        f"{provenance['title']}, scale '{provenance['scale']}' (after {provenance['paper']['table_or_figure']} of the "
        f"paper). Lines: {shown}. Edge: the learning rate above the optimum at which the loss reaches the threshold"
        f"{ends}. Threshold: {_threshold_name(provenance)}. Data: {provenance['data_source']}."
    )


def _claims(provenance: Mapping[str, Any], report: StabilityReport) -> list[Claim]:
    """Figure 21."""
    line = str(report).split("\n")[0]
    return [paper_claim(provenance, [Part.of("simulation", line, report.verdict, "predicted")], counts=line)]


STABILITY = Kind("stability", describe_stability, _draw, _claims)
"""A folder with ``stability.png``, ``stability.svg`` and ``table.md`` in ``folder``.

Reads only ``folder/runs.csv`` (columns panel, x = log2 LR, line = n, then a runs table) and
``folder/provenance.json``; the same two files give the same bytes. The provenance has the keys of `render`
and ``threshold`` (a loss); optional are ``threshold_name`` (what it is), ``panels`` (key -> object with a
``heading``, default the key), ``loss_ceiling``, ``stands_in_for``, ``notes`` and ``paper.ours``.

Raises `UserError` if a file is missing or malformed, or as `stability_report` does.
"""
