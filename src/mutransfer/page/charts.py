"""The learning-rate sweeps as charts that can be hovered, one panel per parametrization, one line per width."""

from __future__ import annotations

import json
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
    """One width, as the switches and the table show it."""

    width: int
    light: str
    """Hex colour on white."""
    dark: str
    """On black: of the part of the map that is light enough."""


@dataclass(frozen=True)
class ChartPanel:
    """One parametrization."""

    name: str
    title: str
    figure: str
    """Plotly's JSON; the traces have ``meta``: their width."""
    rates: tuple[float, ...]
    """Log2 of the learning rates, the rows of the table."""
    rows: tuple[tuple[str, ...], ...]
    """[rates][widths] losses in words."""


@dataclass(frozen=True)
class Chart:
    lines: tuple[ChartLine, ...]
    panels: tuple[ChartPanel, ...]


def sweep_chart(described: Described[Sweep]) -> Chart:
    """The chart of a sweep: means over seeds, what a hover shows, optima as stars, diverged runs as crosses."""
    sweep, provenance = described.report, described.folder.provenance
    table = curves(tidy(sweep.runs))
    names = list(sweep.transfer.parametrizations)
    every = [curve for name in names for curve in table[name]]
    widths = sorted({curve.width for curve in every})
    lines = tuple(map(ChartLine, widths, palette(len(widths)), palette(len(widths), 0.35, 1.0)))
    low, high = loss_limits(every, provenance.get("loss_ceiling"))
    grid = np.concatenate([curve.log2_lr for curve in every])
    panels = []
    for name in names:
        optima = sweep.transfer.optima.query("parametrization == @name")
        traces = []
        for curve, optimum in zip(table[name], optima.itertuples(), strict=True):
            k = widths.index(curve.width)
            traces += _traces(curve, optimum, lines[k], SYMBOLS[k % len(SYMBOLS)], high)
        figure = go.Figure(
            traces,
            {
                "xaxis": {
                    "title": {"text": "log<sub>2</sub> learning rate"},
                    "range": [float(grid.min()) - 0.5, float(grid.max()) + 0.5],
                    "dtick": 1 if np.ptp(grid) <= 10 else 2,
                },
                "yaxis": {"range": [low, high]},
                "shapes": [
                    {
                        "type": "line", "yref": "paper", "y0": 0, "y1": 1, "layer": "below",
                        "x0": optima["transferred_log2_lr"].iloc[0], "x1": optima["transferred_log2_lr"].iloc[0],
                        "line": {"dash": "dot", "width": 1.2},
                    }
                ],
                "margin": {"l": 44, "r": 12, "t": 14, "b": 48},
                "showlegend": False,
                "hovermode": "closest",
                "template": None,
            },
        )  # fmt: skip
        rates = tuple(sorted({float(x) for curve in table[name] for x in curve.log2_lr}))
        by_width = {curve.width: curve for curve in table[name]}
        rows = tuple(tuple(_cell(by_width.get(width), rate) for width in widths) for rate in rates)
        panels.append(ChartPanel(label(name), title(sweep.transfer.parametrizations[name]), _json(figure), rates, rows))
    return Chart(lines, tuple(panels))


def _json(figure: go.Figure) -> str:
    """Without what would end a script element."""
    return json.dumps(json.loads(figure.to_json()), separators=(",", ":")).replace("<", "\\u003c")


def _traces(curve: Curves, optimum: Any, line: ChartLine, symbol: str, top: float) -> list[go.Scatter]:
    mean, seeds = curve.loss.mean(axis=0), len(curve.loss)
    finite = np.isfinite(mean)
    shared: dict[str, Any] = {"meta": curve.width, "name": f"width {curve.width}"}
    hover = [f"<b>width {curve.width}</b><br>LR 2<sup>{x:g}</sup><br>loss {_cell(curve, x)}" for x in curve.log2_lr]
    traces = [
        go.Scatter(
            x=curve.log2_lr.tolist(),
            y=[round(float(y), 6) if np.isfinite(y) else None for y in mean],
            mode="lines+markers",
            line={"color": line.light, "width": 2},
            marker={"symbol": symbol, "size": 7, "color": line.light},
            hovertext=hover,
            hoverinfo="text",
            **shared,
        )
    ]
    if not finite.all():
        lost = np.isinf(curve.loss).sum(axis=0)[~finite]
        traces.append(
            go.Scatter(
                x=curve.log2_lr[~finite].tolist(),
                y=[top] * int((~finite).sum()),
                mode="markers",
                cliponaxis=False,
                marker={"symbol": "x-thin", "size": 8, "color": line.light, "line": {"width": 2, "color": line.light}},
                hovertext=[
                    f"<b>width {curve.width}</b><br>LR 2<sup>{x:g}</sup><br>diverged in {k} of {seeds} seeds"
                    for x, k in zip(curve.log2_lr[~finite], lost, strict=True)
                ],
                hoverinfo="text",
                **shared,
            )
        )
    y = interpolate(curve.log2_lr, mean[None], np.array([optimum.log2_lr]))[0]
    interval = "no interval" if pd.isna(optimum.low) else f"95% interval {span(optimum.low, optimum.high)}"
    traces.append(
        go.Scatter(
            x=[optimum.log2_lr],
            y=[float(optimum.loss if np.isnan(y) else y)],
            mode="markers",
            marker={
                "symbol": "star-open" if optimum.on_edge else "star",
                "size": 13,
                "color": line.light,
                "line": {"width": 1.2, "color": "black"},
            },
            hovertext=[
                f"<b>width {curve.width}: best LR</b><br>2<sup>{number(optimum.log2_lr)}</sup>, {interval} of log2"
                + "<br>on the edge of the grid" * bool(optimum.on_edge)
            ],
            hoverinfo="text",
            **shared,
        )
    )
    return traces


def _cell(curve: Curves | None, rate: float) -> str:
    """``1.8942 ± 0.0091 (n = 2)``, with the standard error; ``diverged``; a dash where it was not run."""
    if curve is None or rate not in curve.log2_lr:
        return "-"
    losses = curve.loss[:, np.flatnonzero(curve.log2_lr == rate)[0]]
    n, lost = len(losses), int(np.isinf(losses).sum())
    if lost:
        return f"diverged ({lost} of {n})"
    spread = f" ± {number(float(losses.std(ddof=1)) / np.sqrt(n), 4)}" if n > 1 else ""
    return f"{number(float(losses.mean()), 4)}{spread} (n = {n})"
