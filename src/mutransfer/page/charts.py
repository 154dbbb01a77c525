"""The learning-rate sweeps as charts that can be hovered, one panel per parametrization, one line per width."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mutransfer.results.draw.curves import loss_limits
from mutransfer.results.draw.style import palette
from mutransfer.results.estimate import label, number, span
from mutransfer.results.folder import Described
from mutransfer.results.frame import Curves, curves, tidy
from mutransfer.results.sweep import Sweep, title
from mutransfer.results.transfer import interpolate

SYMBOLS = ("circle", "square", "diamond", "triangle-down", "cross", "x", "pentagon", "hexagon")
"""As `mutransfer.results.draw.style.MARKERS`, by Plotly's names."""


@dataclass(frozen=True)
class ChartLine:
    """One width, as the switches and the table show it: a hex colour on white, and one on black."""

    width: int
    light: str
    dark: str


@dataclass(frozen=True)
class ChartPanel:
    """One parametrization."""

    name: str
    title: str
    figure: str  # Plotly's JSON; the traces have ``meta``: their width
    rows: dict[float, list[str]]  # of the table: losses in words, one per width, by log2 learning rate


@dataclass(frozen=True)
class Chart:
    lines: tuple[ChartLine, ...]
    panels: tuple[ChartPanel, ...]


def sweep_chart(described: Described[Sweep]) -> Chart:
    """The chart of a sweep: means over seeds, what a hover shows, optima as stars, diverged runs as crosses."""
    transfer = described.report.transfer
    table = curves(tidy(described.report.runs))
    every = [curve for name in transfer.parametrizations for curve in table[name]]
    widths = sorted({curve.width for curve in every})
    lines = tuple(map(ChartLine, widths, palette(len(widths)), palette(len(widths), 0.35, 1.0)))
    low, high = loss_limits(every, described.folder.provenance.get("loss_ceiling"))
    grid = np.concatenate([curve.log2_lr for curve in every])
    layout = {
        "xaxis": {
            "title": {"text": "log<sub>2</sub> learning rate"},
            "range": [float(grid.min()) - 0.5, float(grid.max()) + 0.5],
            "dtick": 1 if np.ptp(grid) <= 10 else 2,
        },
        "yaxis": {"range": [low, high]},
        "margin": {"l": 44, "r": 12, "t": 14, "b": 48},
        "showlegend": False,
        "hovermode": "closest",
        "template": None,
    }
    panels = []
    for name, verdict in transfer.parametrizations.items():
        optima = transfer.optima.query("parametrization == @name")
        figure = go.Figure(layout=layout)
        figure.add_vline(optima["transferred_log2_lr"].iloc[0], layer="below", line={"dash": "dot", "width": 1.2})
        for curve, optimum in zip(table[name], optima.itertuples(), strict=True):
            k = widths.index(curve.width)
            _add_traces(figure, curve, optimum, lines[k].light, SYMBOLS[k % len(SYMBOLS)], high)
        by_width = {curve.width: curve for curve in table[name]}
        rates = sorted({float(x) for curve in table[name] for x in curve.log2_lr})
        rows = {rate: [_cell(by_width.get(width), rate) for width in widths] for rate in rates}
        text = json.dumps(json.loads(figure.to_json()), separators=(",", ":"))
        without_tags = text.replace("<", "\\u003c")  # what would end a script element
        panels.append(ChartPanel(label(name), title(verdict), without_tags, rows))
    return Chart(lines, tuple(panels))


def _add_traces(figure: go.Figure, curve: Curves, optimum: Any, colour: str, symbol: str, top: float) -> None:
    """Of one width: its curve, crosses at ``top`` where it diverged, and a star."""
    width, mean = curve.width, curve.loss.mean(axis=0)

    def add(
        x: Iterable[float], y: Iterable[float | None], words: Iterable[str], marker: dict[str, Any], **more: Any
    ) -> None:
        hover = [f"<b>width {width}</b><br>{said}" for said in words]
        marks = {"color": colour, **marker}
        more |= {"hovertext": hover, "hoverinfo": "text", "meta": width, "name": f"width {width}"}
        figure.add_scatter(x=[*map(float, x)], y=[*y], marker=marks, **more)

    words = [f"LR 2<sup>{x:g}</sup><br>loss {_cell(curve, x)}" for x in curve.log2_lr]
    losses = [round(float(y), 6) if np.isfinite(y) else None for y in mean]
    line = {"color": colour, "width": 2}
    add(curve.log2_lr, losses, words, {"symbol": symbol, "size": 7}, mode="lines+markers", line=line)
    if len(lost := curve.log2_lr[~np.isfinite(mean)]):
        words = [f"LR 2<sup>{x:g}</sup><br>{_cell(curve, x)}" for x in lost]
        cross = {"symbol": "x-thin", "size": 8, "line": {"width": 2, "color": colour}}
        add(lost, [top] * len(lost), words, cross, mode="markers", cliponaxis=False)
    y = interpolate(curve.log2_lr, mean[None], np.array([optimum.log2_lr]))[0]
    interval = "no interval" if pd.isna(optimum.low) else f"95% interval {span(optimum.low, optimum.high)}"
    best = f"best LR 2<sup>{number(optimum.log2_lr)}</sup>, {interval} of log2"
    best += "<br>on the edge of the grid" * bool(optimum.on_edge)
    star = {"symbol": "star-open" if optimum.on_edge else "star", "size": 13, "line": {"width": 1.2, "color": "black"}}
    add([optimum.log2_lr], [float(optimum.loss if np.isnan(y) else y)], [best], star, mode="markers")


def _cell(curve: Curves | None, rate: float) -> str:
    """``1.8942 ± 0.0091 (n = 2)``, with the standard error; ``diverged``; a dash where it was not run."""
    if curve is None or rate not in curve.log2_lr:
        return "-"
    losses = curve.loss[:, curve.log2_lr == rate][:, 0]
    n, lost = len(losses), int(np.isinf(losses).sum())
    if lost:
        return f"diverged ({lost} of {n})"
    spread = f" ± {number(float(losses.std(ddof=1)) / np.sqrt(n), 4)}" if n > 1 else ""
    return f"{number(float(losses.mean()), 4)}{spread} (n = {n})"
