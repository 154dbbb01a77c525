"""Does a narrow µP model of base width n predict at which learning rate a real SP model of width n breaks?

The paper's reverse-µTransfer (App. I, Figure 21), by `RULE`, declared before any result. The threshold is the loss of a
model that ignores context. Real and simulated are drawn apart, each line by itself, as in `transfer`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mutransfer.errors import UserError
from mutransfer.results.draw.curves import CurvePanel, curve_figure, loss_limits, star
from mutransfer.results.draw.page import Axes, Entry
from mutransfer.results.draw.style import MINUS, MUTED, WARNING, Look
from mutransfer.results.estimate import Array, Estimate, counted, listing, number, power
from mutransfer.results.folder import Claim, Described, FigureFolder, Kind, Part, grid, points
from mutransfer.results.frame import PanelCurves, read_panels
from mutransfer.results.transfer import best_index, panel_optima

REAL, SIMULATED = "real", "simulated"
THRESHOLD = "the entropy of the training text's single tokens"
OCTAVES = 1.0
"""How far the simulated edge may lie from the real one."""
RULE = (
    "The edge of a curve is the log2 LR above its optimum at which the mean final loss over seeds reaches the "
    "threshold: linear interpolation between the two learning rates on either side of it, halfway if the upper one "
    "diverged. A curve that stays below the threshold has its edge above the grid, known only as a bound. `predicted`: "
    f"the simulated edge lies within {OCTAVES:g} octave of the real one (point estimates); `missed`: it does not; "
    "`undecided`: a bound leaves both open. All widths: predicted if each one is, missed if any one is. Miss: the "
    "simulated edge less the real one, with its 95% bootstrap interval over seeds."
)

Verdict = Literal["predicted", "missed", "undecided"]


@dataclass(frozen=True)
class WidthResult:
    """Real against simulated at one width n; log2 LR and octaves."""

    width: int
    real: Estimate  # the edge; +inf if above the grid, NaN if there is none
    simulated: Estimate
    miss: Estimate  # simulated less real; NaN unless both are known, its reason says what is known instead
    verdict: Verdict

    @property
    def text(self) -> str:
        """``predicted within 0.4 octaves`` or ``undecided (neither breaks on its grid)``."""
        off = abs(self.miss.value)
        if math.isnan(off):
            return f"{self.verdict} ({self.miss.reason})"
        within = f"within {math.ceil(off * 10 - 1e-9) / 10:.1f}"
        return f"{self.verdict} {within if self.verdict == 'predicted' else f'by {number(off)}'} octaves"


@dataclass(frozen=True)
class StabilityReport:
    """The claim of Figure 21, its widths ascending and the verdict over all of them; ``str`` gives it in sentences."""

    panels: dict[str, PanelCurves]
    threshold: float
    results: tuple[WidthResult, ...]
    verdict: Verdict

    @property
    def seeds(self) -> str:
        """``2 seeds``."""
        return counted([min(panel.seeds for panel in self.panels.values())], "seed")

    @property
    def largest(self) -> WidthResult | None:
        """The width with the largest known miss."""
        known = [result for result in self.results if not math.isnan(result.miss.value)]
        return max(known, key=lambda result: abs(result.miss.value)) if known else None

    def edges(self, result: WidthResult) -> tuple[str, str]:
        """Real and simulated: ``2^-5.20 [-5.40, -5.10]``, ``above 2^-4`` (the grid's end) or ``none``."""
        real, simulated = self.panels.values()
        return _edge(result.real, real.x[-1]), _edge(result.simulated, simulated.x[-1])

    def __str__(self) -> str:
        lines, last, most = [f"All {len(self.results)} widths: {self.verdict}"], self.results[-1], self.largest
        lines[0] += f"; the largest miss is {number(most.miss.value)} octaves, at n = {most.width}." if most else "."
        if others := [f"n = {r.width}: {r.text}." for r in self.results if r.verdict != "predicted"]:
            lines.append(" ".join(others))
        if wide := [str(r.width) for r in self.results if max(abs(r.miss.low), abs(r.miss.high)) > OCTAVES]:
            lines.append(f"The interval of the miss reaches beyond {OCTAVES:g} octave at n = {listing(wide)}.")
        real, simulated = self.edges(last)
        lines.append(f"The widest, n = {last.width}: {last.text}: real {real}, simulated {simulated}.")
        return "\n".join([*lines, *["One seed gives no interval."] * (self.seeds == "1 seed")])


def _interval(estimate: Estimate, beyond: str) -> str:
    """`` [-0.40, 0.10]``; for an end that lies outside of every grid the words ``beyond``."""
    ends = [beyond if math.isinf(end) else number(end) for end in (estimate.low, estimate.high)]
    return "" if math.isnan(estimate.low) else f" [{', '.join(ends)}]"


def _edge(edge: Estimate, top: float) -> str:
    known = power(edge.value) + _interval(edge, "above the grid")
    return "none" if math.isnan(edge.value) else f"above 2^{top:g}" if math.isinf(edge.value) else known


def edges(log2_lr: Array, curve: Array, index: NDArray[np.intp], threshold: float) -> Array:
    """Edges [B] of the mean curves ``curve`` [B, G] with their optima at ``index`` [B]: +inf if above the grid
    ``log2_lr`` [G], NaN where the optimum itself is not below the threshold.
    """
    rows = np.arange(len(curve))
    is_over = (curve >= threshold) & (np.arange(len(log2_lr)) > index[:, None])
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

    runs: as `read_panels` reads them, x is log2 LR and line is n. threshold: a loss. Raises `UserError` as that does,
    and for a missing or another panel, or an n that stands in one panel only.
    """
    panels = read_panels(runs)
    if {*panels} != {REAL, SIMULATED} or [*panels[REAL].lines] != [*panels[SIMULATED].lines]:
        has = " and ".join(f"{key} ({', '.join(f'{n:g}' for n in panel.lines)})" for key, panel in panels.items())
        raise UserError(f"a table of stability has panels real and simulated of the same widths, not {has}.")
    panels = {REAL: panels[REAL], SIMULATED: panels[SIMULATED]}
    pairs = [
        [edges(panel.x, o.curve, o.index, threshold) for o in panel_optima(key, panel.lines, draws, seed)]
        for key, panel in panels.items()
    ]
    tops = [float(panel.x[-1]) for panel in panels.values()]
    results = tuple(_compare(int(n), a, b, *tops) for n, a, b in zip(panels[REAL].lines, *pairs, strict=True))
    order: tuple[Verdict, ...] = ("predicted", "undecided", "missed")
    return StabilityReport(panels, float(threshold), results, max((r.verdict for r in results), key=order.index))


def _compare(width: int, real: Array, simulated: Array, real_top: float, simulated_top: float) -> WidthResult:
    both = Estimate.of(real), Estimate.of(simulated)
    edge, guess = both[0].value, both[1].value
    if math.isfinite(edge) and math.isfinite(guess):
        common = min(len(real), len(simulated))
        with np.errstate(invalid="ignore"):
            miss = Estimate.of(simulated[:common] - real[:common])
        return WidthResult(width, *both, miss, "predicted" if abs(miss.value) <= OCTAVES else "missed")
    verdict: Verdict = "undecided"
    if none := [name for name, at in ((REAL, edge), (SIMULATED, guess)) if math.isnan(at)]:
        reason = f"the {listing(none)} model is above the threshold at its best learning rate"
    elif math.isinf(edge) and math.isinf(guess):
        reason = f"neither breaks up to 2^{min(real_top, simulated_top):g}"
    else:
        at_least = real_top - guess if math.isinf(edge) else simulated_top - edge
        reason = f"the {REAL if math.isinf(edge) else SIMULATED} edge is above the grid"
        reason += f", at least {number(at_least, 1)} octaves from the other" if at_least > 0 else ""
        verdict = "missed" if at_least >= OCTAVES else "undecided"
    return WidthResult(width, *both, Estimate(math.nan, reason=reason), verdict)


DASHED: Look = {"color": MUTED, "linestyle": (0, (4, 2)), "linewidth": 0.9}
EDGE: Look = {"marker": "D", "markersize": 5, "linestyle": "none", "markeredgewidth": 0.5}
SIGNS: list[Entry] = [
    ("optimum", {"color": "black", "marker": "*", "markersize": 7, "linestyle": "none"}),
    ("edge", {"color": "black", **EDGE}),
    ("edge of the real model", {**EDGE, "color": "black", "markerfacecolor": "white", "markeredgewidth": 1.2}),
    ("threshold", DASHED),
]
COLOURS = {"predicted": "black", "missed": WARNING, "undecided": MUTED}


def describe_stability(folder: Path) -> Described[StabilityReport]:
    """The table of `STABILITY` in words; raises as it does."""
    figure = FigureFolder.open(folder)
    report = stability_report(figure.runs, figure["threshold"])
    ours = {"widths": ",".join(str(result.width) for result in report.results)}
    lines = str(report).split("\n")
    rows = [
        (str(r.width), *report.edges(r), number(r.miss.value) + _interval(r.miss, "beyond the grid"), r.text)
        for r in report.results
    ]
    picture = "Training loss against learning rate: real SP models beside one µP model that simulates them"
    header = ("n", "edge of the real model", "edge of the simulation", "miss (octaves)", "verdict")
    parts = [
        *figure.heading(f"{report.seeds} at every point"),
        "## Is the divergence predicted?",
        "\n".join(f"- {line}" for line in lines),
        grid(header, rows),
        f"Threshold: {number(report.threshold, 4)}, {THRESHOLD}.",
        *figure.beside_the_paper(lines[0], ours),
        "## How to read it",
        RULE,
    ]
    return Described(figure, report, str(report), parts, {"stability": picture})


def _draw(described: Described[StabilityReport]) -> list[Path]:
    report, figure = described.report, described.folder
    headings = {key: facts["heading"] for key, facts in figure.provenance.get("panels", {}).items()}
    panels = [
        CurvePanel(
            lines=panel.lines,
            line_name="n =",
            x_label=r"$\log_2$ learning rate",
            y_label=figure["y_label"],
            title=[(headings.get(key, key), {"fontweight": "bold"}), _title(report, key)],
            mark=partial(_draw_edges, report, key),
            column=column,
        )
        for column, (key, panel) in enumerate(report.panels.items())
    ]
    curves = [curve for panel in panels for curve in panel.curves]
    low, high = loss_limits(curves, figure.provenance.get("loss_ceiling"))
    room = 0.1 * max(report.threshold - low, 1e-3 * abs(report.threshold))
    limits = min(low, report.threshold - room), max(high, report.threshold + room)
    words = f"Lines: {points(report.seeds)}. Edge: the learning rate above the optimum at which the loss reaches the "
    words += f"threshold (bars: 95% bootstrap intervals). Threshold: {THRESHOLD}."
    caption, banner = figure.caption(words), figure.banner
    return curve_figure(panels, figure.path, "stability", signs=SIGNS, caption=caption, banner=banner, limits=limits)


def _draw_edges(report: StabilityReport, key: str, axes: Axes, looks: Mapping[float, Look]) -> None:
    """Stars at the optima, diamonds at the edges; in the simulation hollow ones where the real edges are."""
    axes.axhline(report.threshold, **DASHED, zorder=1)
    panel = report.panels[key]
    for result, curve in zip(report.results, panel.curves, strict=True):
        color, mean = looks[result.width]["color"], curve.loss.mean(axis=0)
        if (best := best_index(curve)) is not None:
            star(axes, curve, panel.x[best], mean[best], color)
        edge = result.real if key == REAL else result.simulated
        if math.isfinite(edge.value):
            if not math.isnan(edge.low):
                span = [edge.low, min(edge.high, float(panel.x[-1]))]
                axes.plot(span, [report.threshold] * 2, "-", color=color, linewidth=1.4, zorder=4)
            axes.plot(edge.value, report.threshold, **EDGE, color=color, markeredgecolor="black", zorder=6)
        if key == SIMULATED and math.isfinite(result.real.value):
            hollow: Look = {**EDGE, "markeredgewidth": 1.2, "zorder": 5}
            axes.plot(result.real.value, report.threshold, **hollow, color="white", markeredgecolor=color)


def _title(report: StabilityReport, key: str) -> tuple[str, Look]:
    if key == REAL:
        count = sum(math.isfinite(result.real.value) for result in report.results)
        return f"{count} of {len(report.results)} widths break inside the grid", {}
    text, most = "", report.largest
    if most:
        text = f"; largest miss {number(most.miss.value)} octaves (n = {most.width})".replace("-", MINUS)
    return report.verdict + text, {"color": COLOURS[report.verdict]}


def _claims(described: Described[StabilityReport]) -> list[Claim]:
    """Figure 21."""
    line = described.summary.split("\n")[0]
    return [described.folder.claim([Part.of("simulation", line, described.report.verdict, "predicted")], counts=line)]


STABILITY = Kind("stability", describe_stability, _draw, _claims)
"""A folder with ``stability.png``, ``stability.svg`` and ``table.md``, from ``runs.csv`` (panel, x = log2 LR, line = n,
then a runs table) and ``provenance.json``, which has ``threshold`` (a loss), and may have ``panels`` (key -> object
with a ``heading``) and ``loss_ceiling``; raises as `stability_report` does.
"""
