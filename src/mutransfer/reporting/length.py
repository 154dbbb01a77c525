"""Test accuracy and training loss against the length of training, and what the shorter lengths predict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mutransfer.reporting.panels import CAPTION_LINE, CAPTION_POINTS, LETTER, TITLE_LINE
from mutransfer.results.claims import Claim, Part, paper_claim
from mutransfer.results.draw.lr_figure import MINUS, Look
from mutransfer.results.draw.style import MUTED, WIDTH, new_figure, palette, paper_style, save, wrapped, write_banner
from mutransfer.results.estimate import Array, Estimate, number
from mutransfer.results.files import read_figure, read_runs, stand_in
from mutransfer.results.length import RULE, LengthReport, Prediction, length_report, short
from mutransfer.results.sections import Described, Kind, heading_section, joined, paper_section
from mutransfer.results.table import grid

STEM = "length"
DARK, TEAL, _ = palette(3)
MEASURED: Look = {"color": DARK, "marker": "o", "markersize": 4}
SHORTER: Look = {"color": TEAL, "linestyle": (0, (4, 2)), "linewidth": 1.2}
ALL: Look = {"color": MUTED, "linestyle": (0, (1, 1.5)), "linewidth": 1.4}
HOLLOW: Look = {"markerfacecolor": "white", "markeredgewidth": 1.1, "markersize": 5.5}
MARKS = {"shorter": "D", "all": "s"}
WORDS = {"shorter": "the longest, predicted from the shorter", "all": "the recipe's own, predicted from all"}
BESIDE = 0.025
"""How far right of the measured point its prediction stands, over the width of the axis."""
# Inches.
LEFT, RIGHT, GAP, TALL = 0.58, 0.1, 0.62, 2.4
BELOW, LEGEND = 0.42, 0.2
"""Below the panels: tick labels and axis label, and the legend."""
PICTURES = {"length": "Test accuracy and training loss against the length of training"}
"""The one, and what it is."""


def _draw(folder: Path, described: Described[Any]) -> list[Path]:
    return _figure(described.report, described.provenance, folder)


def describe_length(folder: Path) -> Described[LengthReport]:
    """What `render_length` writes in ``table.md``; raises as it does."""
    provenance = read_figure(folder, ("examples", "recipe_epochs"))
    report = length_report(
        read_runs(folder / "runs.csv"), examples=provenance["examples"], recipe_epochs=provenance["recipe_epochs"]
    )
    # of our lengths the provenance names one, the usual one
    ours = {"epochs": ", ".join(f"{one.epochs:.3g}" for one in report.lengths), "seeds": str(report.seeds)}
    paper = {**provenance["paper"], "ours": {**provenance["paper"].get("ours", {}), **ours}}
    lines = str(report).split("\n")
    parts = [
        *heading_section(provenance, f"{_seeds(report)} at every length"),
        "## Do the shorter lengths predict the longest?",
        "\n".join(f"- {line}" for line in lines),
        "## Every length",
        _lengths(report),
        "## The fits",
        _fits(report),
        *paper_section({**provenance, "paper": paper}, " ".join(lines), {}),
        "## How to read it",
        f"{RULE} Final training loss: mean over the last 10% of the steps. E and b: means over seeds.",
    ]
    return Described(
        provenance,
        report,
        str(report),
        joined(parts),
        PICTURES,
    )


def _seeds(report: LengthReport) -> str:
    return f"{report.seeds} seed{'s' if report.seeds > 1 else ''}"


def _fitted(report: LengthReport) -> dict[str, Prediction]:
    """The predictions that were asked for, by what they were fitted to."""
    every = {"all": report.recipe} if isinstance(report.recipe, Prediction) else {}
    return {"shorter": report.longest, **every}


def _lengths(report: LengthReport) -> str:
    header = ("steps", "epochs", "test accuracy (%)", "final training loss (nats)")
    rows = []
    for one in report.lengths:
        spread = "" if math.isnan(one.loss.low) else f" [{number(one.loss.low, 4)}, {number(one.loss.high, 4)}]"
        cells = (f"{one.epochs:.3g}", short(one.accuracy), number(one.loss.value, 4) + spread)
        rows.append((str(one.steps), *cells))
    return grid(header, rows)


def _fits(report: LengthReport) -> str:
    header = ("fitted to", "predicts", "predicted (%)", "measured (%)", "difference (points)", "E (%)", "b")
    rows = []
    for key, one in _fitted(report).items():
        measured = ("-", "-")
        if key == "shorter":
            measured = (short(report.lengths[-1].accuracy), short(report.difference))
        law = [number(float(x.mean())) if one.is_known else "-" for x in (one.law.limit, one.law.exponent)]
        predicted = short(one.accuracy) if one.is_known else f"none: {one.accuracy.reason}"
        rows.append((f"{key} lengths ({one.count})", f"{one.epochs:.3g} epochs", predicted, *measured, *law))
    return grid(header, rows)


def _figure(report: LengthReport, provenance: Mapping[str, Any], out: Path) -> list[Path]:
    banner = stand_in(provenance)
    text = wrapped(_caption(report, provenance), WIDTH - 0.2, CAPTION_POINTS)
    floor = 0.1 + (text.count("\n") + 1) * CAPTION_LINE + LEGEND + BELOW
    height = floor + TALL + 2 * TITLE_LINE + 0.15 + (0.3 if banner else 0.0)
    panel = (WIDTH - LEFT - RIGHT - GAP) / 2
    with paper_style():
        figure = new_figure(height)
        titles = (("Test accuracy", _claim(report)), ("Final training loss", ""))
        for column, (title, draw) in enumerate(zip(titles, (_draw_accuracy, _draw_loss), strict=True)):
            left = (LEFT + column * (panel + GAP)) / WIDTH
            axes = figure.add_axes((left, floor / height, panel / WIDTH, TALL / height))
            _draw_epochs(axes, report, panel)
            draw(axes, report)
            _write_title(figure, left, (floor + TALL + 0.06) / height, title)
        figure.legend(
            handles=_signs(report),
            loc="upper center",
            bbox_to_anchor=(0.5, (floor - BELOW) / height),
            ncols=4,
            frameon=False,
            fontsize=7,
            handlelength=3.6,
            columnspacing=1.4,
            borderpad=0,
            borderaxespad=0,
        )
        figure.text(0.1 / WIDTH, 0.06 / height, text, fontsize=CAPTION_POINTS, va="bottom", linespacing=1.25)
        write_banner(figure, banner)
        return save(figure, out, STEM)


def _write_title(figure: Figure, left: float, bottom: float, lines: tuple[str, str]) -> None:
    line = TITLE_LINE / figure.get_size_inches()[1]
    figure.text(left, bottom + line, lines[0], va="bottom", fontweight="bold", fontsize=8.5)
    figure.text(left, bottom, lines[1], va="bottom", fontsize=7)


def _claim(report: LengthReport) -> str:
    last = report.lengths[-1]
    if not report.longest.is_known:
        return "no prediction of the longest"
    text = f"{last.epochs:.3g} epochs: predicted {number(report.longest.accuracy.value)}, measured "
    return text + f"{number(last.accuracy.value)} (difference {number(report.difference.value).replace('-', MINUS)})"


def _draw_epochs(axes: Axes, report: LengthReport, inches: float) -> None:
    """The log2 axis of both panels, with ticks at the lengths and at what is predicted."""
    epochs = [one.epochs for one in report.lengths]
    at = sorted({*epochs, *(one.epochs for one in _fitted(report).values() if one.is_known)})
    margin = 0.08 * max(math.log2(at[-1] / at[0]), 1.0)
    low, high = math.log2(at[0]) - margin, math.log2(at[-1]) + margin
    axes.set_xscale("log", base=2)
    axes.set_xlim(2**low, 2**high)
    axes.set_xticks(at, _words([(math.log2(x) - low) / (high - low) * inches for x in at], at))
    axes.minorticks_off()
    axes.set_xlabel("length of training (epochs)", labelpad=2)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7, length=2.5, pad=2)


def _words(places: Sequence[float], epochs: Sequence[float]) -> list[str]:
    """The labels of the ticks at ``places`` inches, longest first; none where there is no room."""
    texts, free = [], math.inf
    for place, one in sorted(zip(places, epochs, strict=True), reverse=True):
        text = f"{one:.2g}"
        half = (len(text) + 0.5) * LETTER * 7 / 72 / 2
        has_room = place + half <= free
        texts.append(text if has_room else "")
        free = place - half if has_room else free
    return texts[::-1]


def _draw_points(axes: Axes, report: LengthReport, estimates: Sequence[Estimate]) -> None:
    epochs, mean = np.array([one.epochs for one in report.lengths]), np.array([one.value for one in estimates])
    known = np.isfinite(mean)
    style: Look = {"linestyle": "none", "elinewidth": 1.0, "capsize": 2, "zorder": 4}
    axes.errorbar(epochs[known], mean[known], yerr=_bars(estimates)[:, known], **MEASURED, **style)


def _bars(estimates: Sequence[Estimate]) -> Array:
    """[2, K] below and above; 0 where there is no interval."""
    return np.nan_to_num([[e.value - e.low for e in estimates], [e.high - e.value for e in estimates]], posinf=0.0)


def _draw_accuracy(axes: Axes, report: LengthReport) -> None:
    _draw_points(axes, report, [one.accuracy for one in report.lengths])
    low, high = axes.get_xlim()
    for key, one in _fitted(report).items():
        if not one.is_known:
            continue
        look = SHORTER if key == "shorter" else ALL
        ends = [report.lengths[0].epochs, report.lengths[-1].epochs, one.epochs]
        along = np.geomspace(min(ends), max(ends), 200)
        axes.plot(along, one.at(along).mean(axis=0), **look, zorder=3 if key == "shorter" else 2)
        x = one.epochs * (high / low) ** (BESIDE if key == "shorter" else 0.0)
        mark: Look = {"linestyle": "none", "marker": MARKS[key], "color": look["color"], **HOLLOW}
        axes.errorbar(x, one.accuracy.value, yerr=_bars([one.accuracy]), **mark, elinewidth=1.0, capsize=2, zorder=5)
    bottom, top = axes.get_ylim()
    axes.set_ylim(max(bottom, -2.0), min(top, 102.0))
    axes.set_ylabel("test accuracy (%)", labelpad=2)


def _draw_loss(axes: Axes, report: LengthReport) -> None:
    """Means over seeds; a cross at the upper end where a seed diverged."""
    _draw_points(axes, report, [one.loss for one in report.lengths])
    lost = [one.epochs for one in report.lengths if math.isinf(one.loss.value)]
    cross: Look = {"color": DARK, "markersize": 5, "markeredgewidth": 1.4, "clip_on": False}
    axes.plot(lost, [0.97] * len(lost), "x", **cross, transform=axes.get_xaxis_transform(), zorder=5)
    axes.set_ylabel("final training loss (nats)", labelpad=2)


def _signs(report: LengthReport) -> list[Line2D]:
    found = _fitted(report)
    signs = [Line2D([], [], linestyle="none", label="measured", **MEASURED)]
    for key, look in (("shorter", SHORTER), ("all", ALL)):
        if key in found and found[key].is_known:
            signs.append(Line2D([], [], label=WORDS[key], marker=MARKS[key], **look, **HOLLOW))
    if any(math.isinf(one.loss.value) for one in report.lengths):
        signs.append(Line2D([], [], color=DARK, linestyle="none", marker="x", label="a seed diverged"))
    return signs


def _caption(report: LengthReport, provenance: Mapping[str, Any]) -> str:
    points = "one run a point" if report.seeds == 1 else f"mean over {_seeds(report)}, bars: 95% t interval"
    text = (
        f"{provenance['title']}, scale '{provenance['scale']}' (after {provenance['paper']['table_or_figure']} of the "
        f"paper). Points: {points}. "
    )
    found = _fitted(report)
    if report.longest.is_known:
        text += f"Dashed: E + A T^-b fitted to the test error of the {report.longest.count} shorter lengths T; "
        text += "diamond: what it predicts, beside what was measured. "
    else:
        text += f"No prediction of the longest length: {report.longest.accuracy.reason}. "
    if "all" in found and found["all"].is_known:
        text += f"Dotted: the same for all lengths, up to the recipe's own {report.recipe_epochs:g} epochs (square). "
    elif "all" in found:
        text += f"No prediction of the recipe's {report.recipe_epochs:g} epochs: {found['all'].accuracy.reason}. "
    return text + f"Data: {provenance['data_source']}."


def _claims(provenance: Mapping[str, Any], report: LengthReport) -> list[Claim]:
    """Accuracies beside the paper's, of another length of training: not judged."""
    first, *more = str(report).split("\n")
    return [
        paper_claim(
            provenance, [Part("longest", first.split(": ", 1)[1], "not judged")], counts=" ".join([first, *more])
        )
    ]


LENGTH = Kind("length", describe_length, _draw, _claims)
"""A folder with ``length.png``, ``length.svg`` and ``table.md`` in ``folder``.

Reads only ``folder/runs.csv`` (columns panel, x, line = steps, then a runs table) and ``folder/provenance.json``;
the same two files give the same bytes. The provenance has the keys of `render`, ``examples`` (training images) and
``recipe_epochs``; optional are ``stands_in_for``, ``notes`` and ``paper.ours``.

Raises `UserError` if a file is missing or malformed, or as `length_report` does.
"""
