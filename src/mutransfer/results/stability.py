"""Does a narrow µP model of base width n predict at which learning rate a real SP model of width n breaks?

The paper's reverse-µTransfer (App. I, Figure 21). The rule, declared before any result:

- The *edge* of a curve is the log2 LR above its optimum (the least mean final loss over seeds) at which the mean
  final loss first reaches the threshold, the loss of a model that ignores context. Between the last learning rate
  below the threshold and the first at or above it the loss is interpolated linearly; a diverged run (in any seed)
  counts as above, with the edge halfway.
- A curve that never reaches the threshold has its edge above its grid: only bounded from below. A curve whose
  optimum is at or above the threshold has no edge.
- A width n is ``predicted`` if the simulated edge lies within one octave of the real one, else ``missed``;
  ``undecided`` if a bound leaves both open: both edges above the grid, or one above it and the other less than an
  octave below the grid's end. All widths are predicted together if each one is, missed if any one is, else
  ``undecided``.
- The verdict is on the point estimates. The interval of a miss is the 95% bootstrap interval over seeds, real and
  simulated drawn apart as in `optimum`; one seed gives none. Where it reaches beyond an octave the text says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mutransfer.errors import UserError
from mutransfer.results.estimate import Array, Estimate, listing, number, power
from mutransfer.results.panels import Axis, Panel, draw_optima, read_panels

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

    panels: dict[str, Panel]
    threshold: float
    results: tuple[WidthResult, ...]
    """By width, ascending."""
    verdict: Verdict
    """Over all widths."""

    @property
    def widest(self) -> WidthResult:
        return self.results[-1]

    @property
    def largest(self) -> WidthResult | None:
        """The width with the largest known miss."""
        known = [one for one in self.results if not math.isnan(one.miss.value)]
        return max(known, key=lambda one: abs(one.miss.value)) if known else None

    def __str__(self) -> str:
        head = f"All {len(self.results)} widths: {self.verdict}"
        if self.largest:
            head += f"; the largest miss is {number(self.largest.miss.value)} octaves, at n = {self.largest.width}"
        lines = [head + "."]
        if self.verdict != "predicted":
            lines.append(" ".join(f"n = {r.width}: {r.text}." for r in self.results if r.verdict != "predicted"))
        wide = [str(one.width) for one in self.results if one.is_wide]
        if wide:
            lines.append(f"The interval of the miss reaches beyond {OCTAVES:g} octave at n = {listing(wide)}.")
        last = self.widest
        edges = (
            f"real {edge_text(last.real, self.top(REAL))}, simulated {edge_text(last.simulated, self.top(SIMULATED))}"
        )
        lines.append(f"The widest, n = {last.width}: {last.text}: {edges}.")
        if math.isnan(last.miss.low) and min(panel.seeds for panel in self.panels.values()) == 1:
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
        found = log2_lr[lower] + share * (log2_lr[upper] - log2_lr[lower])
    found = np.where(is_over.any(axis=1), found, np.inf)
    return np.where(curve[rows, index] < threshold, found, np.nan)


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
    panels = read_panels(runs, dict.fromkeys((REAL, SIMULATED), Axis("n =", is_log2=True)))
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
        [edges(panel.x, found.curve, found.index, threshold) for found in draw_optima(panel, panel.curves, draws, seed)]
        for panel in (real, simulated)
    ]
    tops = float(real.x[-1]), float(simulated.x[-1])
    results = tuple(_compare(int(n), a, b, *tops) for n, a, b in zip(real.lines, *pairs, strict=True))
    found = {one.verdict for one in results}
    verdict: Verdict = "missed" if "missed" in found else "undecided" if "undecided" in found else "predicted"
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
