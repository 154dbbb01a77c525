"""Does a narrow µP model of base width n predict at which learning rate a real SP model of width n breaks?

The paper's reverse-µTransfer (App. I, Figure 21). The rule, declared before any result, is `RULE`. The threshold is
the loss of a model that ignores context; a curve whose optimum is at or above it has no edge. A width is `undecided` if
both edges are above the grid, or one is and the other lies less than an octave below the grid's end; all widths are
predicted together if each one is, missed if any one is, else `undecided`. Real and simulated are drawn apart, as in
`optimum`; where the interval of a miss reaches beyond an octave the text says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mutransfer.errors import UserError
from mutransfer.results.draw.curves import (
    SMALL_MARKS,
    curve_panel,
    line_legend,
    line_looks,
    loss_limits,
    star,
    strip_height,
)
from mutransfer.results.draw.page import SMALL, Axes, PageOfRows, set_ticks, sign
from mutransfer.results.draw.style import MINUS, MUTED, WARNING, Look, paper_style
from mutransfer.results.estimate import Array, Estimate, counted, listing, number, power
from mutransfer.results.folder import Claim, Described, FigureFolder, Kind, Part, grid, points
from mutransfer.results.frame import PanelAxis, PanelCurves, read_panels
from mutransfer.results.transfer import panel_optima

REAL, SIMULATED = "real", "simulated"
OCTAVES = 1.0
"""How far the simulated edge may lie from the real one."""
RULE = (
    "The edge of a curve is the log2 LR above its optimum at which the mean final loss over seeds reaches the "
    "threshold: linear interpolation between the two learning rates on either side of it, halfway if the upper one "
    "diverged. A curve that stays below the threshold has its edge above the grid, known only as a bound. `predicted`: "
    f"the simulated edge lies within {OCTAVES:g} octave of the real one (point estimates); `missed`: it does not; "
    "`undecided`: a bound leaves both open. Miss: the simulated edge less the real one, with its 95% bootstrap "
    "interval over seeds."
)

Verdict = Literal["predicted", "missed", "undecided"]


@dataclass(frozen=True)
class WidthResult:
    """Real against simulated at one width n; log2 LR and octaves."""

    width: int
    real: Estimate
    """The edge; +inf if above the grid, NaN if there is none."""
    simulated: Estimate
    miss: Estimate
    """Simulated less real; NaN unless both are known."""
    verdict: Verdict
    reason: str
    """What is known instead of a miss; empty where there is one."""

    @property
    def text(self) -> str:
        """``predicted within 0.4 octaves`` or ``undecided (neither breaks on its grid)``."""
        if self.reason:
            return f"{self.verdict} ({self.reason})"
        off = abs(self.miss.value)
        if self.verdict == "missed":
            return f"missed by {number(off)} octaves"
        return f"predicted within {math.ceil(off * 10 - 1e-9) / 10:.1f} octaves"

    @property
    def is_wide(self) -> bool:
        """Whether the interval of the miss reaches beyond one octave."""
        return max(abs(self.miss.low), abs(self.miss.high)) > OCTAVES


@dataclass(frozen=True)
class StabilityReport:
    """The claim of Figure 21; ``str`` gives it in sentences."""

    panels: dict[str, PanelCurves]
    threshold: float
    results: tuple[WidthResult, ...]
    """By width, ascending."""
    verdict: Verdict
    """Over all widths."""

    @property
    def seeds(self) -> str:
        """``2 seeds``."""
        return counted([min(panel.seeds for panel in self.panels.values())], "seed")

    @property
    def widest(self) -> WidthResult:
        return self.results[-1]

    @property
    def largest(self) -> WidthResult | None:
        """The width with the largest known miss."""
        known = [result for result in self.results if not math.isnan(result.miss.value)]
        return max(known, key=lambda result: abs(result.miss.value)) if known else None

    def __str__(self) -> str:
        head = f"All {len(self.results)} widths: {self.verdict}"
        if self.largest:
            head += f"; the largest miss is {number(self.largest.miss.value)} octaves, at n = {self.largest.width}"
        lines = [head + "."]
        if self.verdict != "predicted":
            lines.append(" ".join(f"n = {r.width}: {r.text}." for r in self.results if r.verdict != "predicted"))
        wide = [str(result.width) for result in self.results if result.is_wide]
        if wide:
            lines.append(f"The interval of the miss reaches beyond {OCTAVES:g} octave at n = {listing(wide)}.")
        last = self.widest
        edges = (
            f"real {edge_text(last.real, self.top(REAL))}, simulated {edge_text(last.simulated, self.top(SIMULATED))}"
        )
        lines.append(f"The widest, n = {last.width}: {last.text}: {edges}.")
        if math.isnan(last.miss.low) and self.seeds == "1 seed":
            lines.append("One seed gives no interval.")
        return "\n".join(lines)

    def top(self, panel: str) -> float:
        """The highest log2 LR of a panel's grid."""
        return float(self.panels[panel].x[-1])


def edge_text(edge: Estimate, top: float) -> str:
    """``2^-5.20 [-5.40, -5.10]``, ``above 2^-4`` or ``none``; ``top`` is the grid's end."""
    if math.isnan(edge.value):
        return "none"
    if math.isinf(edge.value):
        return f"above 2^{top:g}"
    high = "above the grid" if math.isinf(edge.high) else number(edge.high)
    tail = "" if math.isnan(edge.low) else f" [{number(edge.low)}, {high}]"
    return power(edge.value) + tail


def edges(log2_lr: Array, curve: Array, index: NDArray[np.intp], threshold: float) -> Array:
    """Edges [B] of the mean curves ``curve`` [B, G] with their optima at ``index`` [B]: +inf if above the grid
    ``log2_lr`` [G], NaN where the optimum itself is not below the threshold.
    """
    places = np.arange(len(log2_lr))
    rows = np.arange(len(curve))
    is_over = (curve >= threshold) & (places > index[:, None])
    upper = np.where(is_over.any(axis=1), is_over.argmax(axis=1), 0)
    lower = np.maximum(upper - 1, 0)
    low, high = curve[rows, lower], curve[rows, upper]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(np.isinf(high), 0.5, (threshold - low) / (high - low))
        edge = log2_lr[lower] + share * (log2_lr[upper] - log2_lr[lower])
    edge = np.where(is_over.any(axis=1), edge, np.inf)
    return np.where(curve[rows, index] < threshold, edge, np.nan)


def stability_report(runs: pd.DataFrame, threshold: float, *, draws: int = 2000, seed: int = 0) -> StabilityReport:
    """The edges of every width n in the panels "real" and "simulated", and whether the one predicts the other.

    ``runs`` is a landscape table (`read_panels`) whose x is log2 LR and whose line is n; ``threshold`` is a loss.

    Raises `UserError` as `read_panels` does, for a missing or another panel, an n that stands in one panel only, or
    a threshold that is no number.
    """
    if draws < 100:
        raise UserError(f"draws={draws} is too few for a 95% interval; use at least 100.")
    if not isinstance(threshold, int | float) or not math.isfinite(threshold):
        raise UserError(f"threshold {threshold!r} is no loss; give the entropy of the training text's single tokens.")
    panels = read_panels(runs, dict.fromkeys((REAL, SIMULATED), PanelAxis("n =", is_log2=True)))
    if set(panels) != {REAL, SIMULATED}:
        raise UserError(f"a stability table has the panels {REAL} and {SIMULATED}, not {', '.join(panels)}.")
    real, simulated = panels[REAL], panels[SIMULATED]
    for panel in (real, simulated):
        if panel.words:
            raise UserError(f"x of panel '{panel.key}' is log2 of a learning rate, not '{panel.words[0]}'.")
    if apart := sorted(set(real.lines) ^ set(simulated.lines)):
        names = listing([f"{n:g} ({REAL if n in real.lines else SIMULATED} only)" for n in apart])
        raise UserError(f"real and simulated widths differ: {names}; run the sweep again to fill the gap.")
    pairs = [
        [
            edges(panel.x, optima.curve, optima.index, threshold)
            for optima in panel_optima(panel.key, panel.lines, draws, seed)
        ]
        for panel in (real, simulated)
    ]
    tops = float(real.x[-1]), float(simulated.x[-1])
    results = tuple(_compare(int(n), a, b, *tops) for n, a, b in zip(real.lines, *pairs, strict=True))
    verdicts = {result.verdict for result in results}
    verdict: Verdict = "missed" if "missed" in verdicts else "undecided" if "undecided" in verdicts else "predicted"
    return StabilityReport({REAL: real, SIMULATED: simulated}, float(threshold), results, verdict)


def _compare(width: int, real: Array, simulated: Array, real_top: float, simulated_top: float) -> WidthResult:
    both = Estimate.of(real), Estimate.of(simulated)
    edge, guess = float(real[0]), float(simulated[0])
    none = [name for name, value in ((REAL, edge), (SIMULATED, guess)) if math.isnan(value)]
    if none:
        reason = f"the {listing(none)} model is above the threshold at its best learning rate"
        return WidthResult(width, *both, Estimate(math.nan, reason=reason), "undecided", reason)
    if math.isfinite(edge) and math.isfinite(guess):
        common = min(len(real), len(simulated))
        with np.errstate(invalid="ignore"):
            miss = Estimate.of(np.concatenate([simulated[:1] - real[:1], simulated[1:common] - real[1:common]]))
        return WidthResult(width, *both, miss, "predicted" if abs(miss.value) <= OCTAVES else "missed", "")
    if math.isinf(edge) and math.isinf(guess):
        reason = f"neither breaks up to 2^{min(real_top, simulated_top):g}"
        return WidthResult(width, *both, Estimate(math.nan, reason=reason), "undecided", reason)
    at_least = real_top - guess if math.isinf(edge) else simulated_top - edge
    reason = f"the {REAL if math.isinf(edge) else SIMULATED} edge is above the grid"
    reason += f", at least {number(at_least, 1)} octaves from the other" if at_least > 0 else ""
    verdict: Verdict = "missed" if at_least >= OCTAVES else "undecided"
    return WidthResult(width, *both, Estimate(math.nan, reason=reason), verdict, reason)


THRESHOLD: Look = {"color": MUTED, "linestyle": (0, (4, 2)), "linewidth": 0.9}
COLOURS = {"predicted": "black", "missed": WARNING, "undecided": MUTED}
PICTURES = {"stability": "Training loss against learning rate: real SP models beside one µP model that simulates them"}


def describe_stability(folder: Path) -> Described[StabilityReport]:
    """The table of `STABILITY` in words; raises as it does."""
    figure = FigureFolder.open(folder, ("threshold",))
    report = stability_report(figure.runs, figure["threshold"])
    ours = {"widths": ",".join(str(result.width) for result in report.results)}
    lines = str(report).split("\n")
    parts = [
        *figure.heading(f"{report.seeds} at every point"),
        "## Is the divergence predicted?",
        "\n".join(f"- {line}" for line in lines),
        _table(report),
        f"Threshold: {number(report.threshold, 4)}, {_threshold_name(figure)}.",
        *figure.beside_the_paper(lines[0], ours),
        "## How to read it",
        RULE,
    ]
    return Described(figure, report, str(report), parts, PICTURES)


def _threshold_name(figure: FigureFolder) -> str:
    return str(figure.provenance.get("threshold_name", "the entropy of the training text's single tokens"))


def _table(report: StabilityReport) -> str:
    header = ("n", "edge of the real model", "edge of the simulation", "miss (octaves)", "verdict")
    rows = []
    for result in report.results:
        edges = (edge_text(result.real, report.top(REAL)), edge_text(result.simulated, report.top(SIMULATED)))
        rows.append((str(result.width), *edges, _miss(result.miss), result.text))
    return grid(header, rows)


def _miss(miss: Estimate) -> str:
    """``-0.12 [-0.40, 0.10]``; an end that lies above or below every grid is written so."""
    if math.isnan(miss.low):
        return number(miss.value)
    low, high = ("beyond the grid" if math.isinf(end) else number(end) for end in (miss.low, miss.high))
    return f"{number(miss.value)} [{low}, {high}]"


def _draw(described: Described[StabilityReport]) -> list[Path]:
    report, figure = described.report, described.folder
    limits, looks = (
        _limits(report, figure.provenance.get("loss_ceiling")),
        line_looks([r.width for r in report.results], markersize=2.8),
    )
    curves = [panel.curves for panel in report.panels.values()]
    rates = np.concatenate([panel.x for panel in report.panels.values()])
    x_limits = float(rates.min()) - 0.5, float(rates.max()) + 0.5
    ends = "" if report.seeds == "1 seed" else " (bars: 95% bootstrap intervals)"
    words = f"Lines: {points(report.seeds)}. Edge: the learning rate above the optimum at which the loss reaches the "
    words += f"threshold{ends}. Threshold: {_threshold_name(figure)}."
    with paper_style():
        page = PageOfRows(
            2,
            2.4,
            SMALL,
            figure.caption(words),
            figure.banner,
            strips=(strip_height(curves, len(looks), SMALL_MARKS),),
            legends=(2,),
        )
        for column, (key, panel) in enumerate(report.panels.items()):
            axes = curve_panel(page, 0, column, panel.lines, looks, x_limits, limits, SMALL_MARKS, first=column == 0)
            set_ticks(axes.xaxis, count=max(3, round(page.panel / 0.3)), whole=True)
            set_ticks(axes.yaxis, count=5)
            axes.set_xlabel(r"$\log_2$ learning rate", labelpad=1.5)
            axes.set_ylabel(figure["y_label"] if column == 0 else "")
            axes.axhline(report.threshold, **THRESHOLD, zorder=1)
            _draw_edges(axes, report, looks, key)
            heading = figure.provenance.get("panels", {}).get(key, {}).get("heading", key)
            page.title(0, column, [(heading, {"fontweight": "bold", "fontsize": 8.5}), _title(report, key)])
        line_legend(page, 0, "n =", looks, SMALL_MARKS)
        page.legend(0, _signs(report), line=1)
        return page.save(figure.path, "stability")


def _limits(report: StabilityReport, ceiling: float | None) -> tuple[float, float]:
    """Readable basins, and the threshold with some room above it."""
    every = [curve for p in report.panels.values() for curve in p.curves if np.isfinite(curve.loss).all(axis=0).any()]
    low, high = loss_limits(every, ceiling) if every else (report.threshold,) * 2
    room = 0.1 * max(report.threshold - low, 1e-3 * abs(report.threshold))
    return min(low, report.threshold - room), max(high, report.threshold + room)


def _draw_edges(axes: Axes, report: StabilityReport, looks: Mapping[float, Look], key: str) -> None:
    """Stars at the optima, diamonds at the edges; in the simulation hollow ones where the real edges are."""
    panel = report.panels[key]
    for result, curve in zip(report.results, panel.curves, strict=True):
        color = looks[result.width]["color"]
        sign: Look = {"markeredgecolor": "black", "markeredgewidth": 0.5, "zorder": 6, "linestyle": "none"}
        mean = curve.loss.mean(axis=0)
        if np.isfinite(mean).any():
            best = int(np.argmin(mean))
            star(axes, curve, panel.x[best], mean[best], color=color, markersize=7, **sign)
        edge = result.real if key == REAL else result.simulated
        if math.isfinite(edge.value):
            if not math.isnan(edge.low):
                span = [edge.low, min(edge.high, float(panel.x[-1]))]
                axes.plot(span, [report.threshold] * 2, "-", color=color, linewidth=1.4, zorder=4)
            axes.plot(edge.value, report.threshold, "D", color=color, markersize=5, **sign)
        if key == SIMULATED and math.isfinite(result.real.value):
            hollow = {**sign, "markeredgecolor": color, "markeredgewidth": 1.2, "zorder": 5}
            axes.plot(result.real.value, report.threshold, "D", color="white", markersize=5, **hollow)


def _title(report: StabilityReport, key: str) -> tuple[str, Look]:
    if key == REAL:
        count = sum(math.isfinite(result.real.value) for result in report.results)
        return f"{count} of {len(report.results)} widths break inside the grid", {"fontsize": 7.5}
    text: str = report.verdict
    largest = report.largest
    if largest:
        miss = number(largest.miss.value).replace("-", MINUS)
        text += f"; largest miss {miss} octaves (n = {largest.width})"
    return text, {"fontsize": 7.5, "color": COLOURS[report.verdict]}


def _signs(report: StabilityReport) -> list[Any]:
    black: Look = {"color": "black", "linestyle": "none", "markersize": 5}
    signs = [
        sign("optimum", **black, marker="*"),
        sign("edge", **black, marker="D"),
        sign("edge of the real model", **black, marker="D", markerfacecolor="white"),
        sign("threshold", **THRESHOLD),
    ]
    if any(np.isinf(curve.loss).any() for panel in report.panels.values() for curve in panel.curves):
        signs.append(sign("diverged (faint: some seeds)", marker="x", **{**black, "markersize": 3.5}))
    return signs


def _claims(described: Described[StabilityReport]) -> list[Claim]:
    """Figure 21."""
    line = described.summary.split("\n")[0]
    return [described.folder.claim([Part.of("simulation", line, described.report.verdict, "predicted")], counts=line)]


STABILITY = Kind("stability", describe_stability, _draw, _claims)
"""A folder with ``stability.png``, ``stability.svg`` and ``table.md``.

Reads only ``folder/runs.csv`` (columns panel, x = log2 LR, line = n, then a runs table) and
``folder/provenance.json``; the same two files give the same bytes. The provenance has `KEYS` and
``threshold`` (a loss); optional are ``threshold_name`` (what it is), ``panels`` (key -> object with a
``heading``, default the key), ``loss_ceiling``, ``stands_in_for``, ``notes`` and ``paper.ours``.

Raises `UserError` if a file is missing or malformed, or as `stability_report` does.
"""
