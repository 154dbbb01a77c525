"""Did the best learning rate move with width? Optima, their drift, the verdict on it, and how well a rate transfers.

Declared before any result, as `RULE` was (training loss is the paper's metric, Definition A.3):

- A learning rate at which any seed diverged has mean +inf and cannot win.
- The parabola goes through the grid point and its two neighbours and is clipped to lie between them. If one is absent
  or diverged, the grid point is kept. An absent one puts the optimum *on the edge* of the tested grid; a diverged one
  brackets it.
- Draws: per draw, and per width independently, n-1 of the n seeds with replacement (the rescaled bootstrap of Rao and
  Wu 1988: drawing n of n would understate the variance by (n-1)/n, a third at three seeds). An optimum that a diverged
  neighbour kept on its grid point is known only to the grid: in each such draw it is spread uniformly over half a step
  to either side.
- The slope is unweighted, its interval the percentiles 2.5 and 97.5 of the draws. The seeds' part of it is widened by
  Student's t over the normal's 1.96, without which two seeds at three widths would hold the truth in 65% of sweeps.
- E, kappa and R(inf) follow Kalra and Barkeshli 2026 (arXiv:2605.21486), by our formulas for sweeps of a few widths.
- Section 6.1's rule of thumb is a claim on a µP panel *all of whose runs* meet every condition of `LEAST`. It excepts
  the init std across depth, and depth in post-LN.

Arrays have ``B`` = 1 + draws rows: row 0 is the point estimate, the others are bootstrap draws.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from mutransfer.errors import UserError, unknown
from mutransfer.results.estimate import LEVEL, Array, Estimate, aligned, counted, label, listing, number, power, span
from mutransfer.results.frame import Curves, curves, tidy

Verdict = Literal["stable", "drifts", "undecided"]
Side = Literal["low", "high"]

TOLERANCE = 0.25  # octaves per doubling of width within which an optimum counts as staying
MOST_SEEDS = 100  # more are not suggested to anyone
EDGE_SHARE = 0.025  # if more draws than this fall on an edge, an end of the interval is cut off by the grid
EXPONENTS = np.linspace(0.1, 2.0, 381)
"""Candidates for b. Outside of them n^-b over a few octaves is a logarithm or a step, and L(inf) is a guess."""
KAPPA_WIDTHS, LIMIT_WIDTHS = 3, 4
"""Fewest widths for a slope that is not exact by construction, and for a fit of three parameters."""
LEAST = {"width": 256, "depth": 4, "batch": 32, "length": 128, "steps": 5000}
"""Column of the runs table -> least value at which the paper's rule of thumb says that transfer works."""
NAMES = {name: "sequence length" if name == "length" else name for name in LEAST}
RULE = (
    "The optimum LR* of a width is the learning rate with the least mean training loss over seeds, refined by a "
    "parabola in log2 LR; intervals are 95% bootstrap intervals over seeds. The drift is the least-squares slope of "
    "log2 LR* against log2 width, its interval widened by Student's t for few seeds. `stable`: its whole interval "
    f"lies within ±{TOLERANCE} octave per doubling of width; `drifts`: it lies wholly below -{TOLERANCE} or wholly "
    f"above {TOLERANCE}; else `undecided`. With one seed, or an optimum on the edge of the tested grid, the verdict "
    "is `undecided`."
)


@dataclass(frozen=True)
class Optima:
    """Optima of ``B`` mean curves on one grid of G learning rates.

    curve: [B, G] mean losses. index: [B] the best grid point. log2_lr: [B] LR*. shift: [B] what is added to a draw of
    LR* because it is known only to the grid; 0 in row 0. refined: [B] False where the grid point was kept.
    """

    curve: Array
    index: NDArray[np.intp]
    log2_lr: Array
    shift: Array
    refined: NDArray[np.bool_]

    @property
    def loss(self) -> Array:
        """[B] the least mean loss, as measured on the grid."""
        return self.curve[np.arange(len(self.index)), self.index]

    @property
    def edge(self) -> NDArray[np.bool_]:
        """[B] whether the best grid point is the lowest or the highest that was tested."""
        return (self.index == 0) | (self.index == self.curve.shape[1] - 1)


def find_optima(log2_lr: Array, curve: Array) -> Optima:
    """Optima of the mean curves ``curve`` [B, G] on the grid ``log2_lr`` [G] (ascending)."""
    index, rows = np.argmin(curve, axis=1), np.arange(len(curve))
    best = log2_lr[index].astype(float)
    padded_x = np.pad(log2_lr.astype(float), 1, constant_values=np.nan)
    padded_y = np.pad(curve, ((0, 0), (1, 1)), constant_values=np.inf)
    (x0, y0), (x1, y1), (x2, y2) = ((padded_x[index + k], padded_y[rows, index + k]) for k in range(3))
    with np.errstate(invalid="ignore", divide="ignore"):
        left, right = (x1 - x0) * (y2 - y1), (x2 - x1) * (y0 - y1)  # both >= 0: y1 is the least
        vertex = x1 + 0.5 * ((x2 - x1) * right - (x1 - x0) * left) / (left + right)
    refined = np.isfinite(y0) & np.isfinite(y2) & np.isfinite(vertex)  # three equal losses have no vertex
    best[refined] = np.clip(vertex, x0, x2)[refined]
    return Optima(curve, index, best, np.zeros(len(best)), refined)


def bootstrap_optima(
    curves: Curves, draws: int, rng: np.random.Generator, spread: np.random.Generator | None = None
) -> Optima:
    """The optimum of the mean over all seeds and of ``draws`` resampled means (none if there is one seed).

    ``rng`` picks the seeds, ``spread`` (default: ``rng``) where an optimum lies that is known only to the grid.
    """
    seeds, point = len(curves.loss), curves.loss.mean(axis=0, keepdims=True)
    if seeds == 1:
        return find_optima(curves.log2_lr, point)
    pick = rng.integers(seeds, size=(draws, seeds - 1))
    optima = find_optima(curves.log2_lr, np.concatenate([point, curves.loss[pick].mean(axis=1)]))
    kept, step = ~optima.refined & ~optima.edge, np.diff(curves.log2_lr)
    kept[0] = False
    where, shift = optima.index[kept], (spread or rng).uniform(-0.5, 0.5, size=int(kept.sum()))
    optima.shift[kept] = shift * np.where(shift < 0, step[where - 1], step[where])
    return optima


def panel_optima(key: str, lines: Mapping[float, Curves], draws: int, seed: int) -> list[Optima]:
    """The optima of every line of a panel and of its bootstrap draws; each line has its own stream."""
    streams = [np.random.default_rng([seed, zlib.crc32(f"{key} {value:g}".encode())]) for value in lines]
    return [bootstrap_optima(curve, draws, rng) for curve, rng in zip(lines.values(), streams, strict=True)]


def best_index(curves: Curves) -> int | None:
    """Of the grid point with the least mean loss; None if at every one a seed diverged."""
    mean = curves.loss.mean(axis=0)
    return int(np.argmin(mean)) if np.isfinite(mean).any() else None


def require_optimum(name: str, curves: Curves) -> None:
    """Raise `UserError` unless some learning rate finished in all seeds."""
    if best_index(curves) is None:
        low, high = curves.log2_lr[0], curves.log2_lr[-1]
        raise UserError(
            f"'{name}' at width {curves.width} has no learning rate at which all seeds finished "
            f"({len(curves.log2_lr)} tested, 2^{low:g} to 2^{high:g}); extend the grid downwards."
        )


def edge_sides(curves: Curves) -> list[Side]:
    """On which edges of its tested grid the optimum lies (both: of one rate); low where every rate lost some seed."""
    best = best_index(curves)
    ends: dict[Side, bool] = {"low": best in (0, None), "high": best == len(curves.log2_lr) - 1}
    return [side for side, is_there in ends.items() if is_there]


def needs_extension(runs: pd.DataFrame) -> list[tuple[str, int, Side]]:
    """The (parametrization, width, side) at which the tested grid must grow because the optimum lies on its edge.

    One seed and one width are enough. Raises `UserError` as `transfer_report` does on a malformed table or a gap.
    """
    table = curves(tidy(runs))
    return [(name, curve.width, side) for name in table for curve in table[name] for side in edge_sides(curve)]


def untested_transfers(runs: pd.DataFrame, *, of_widest: bool = False) -> list[tuple[str, int, float]]:
    """The (parametrization, width, log2_lr) that must still run so that the regret is measured at every width.

    After the smallest width's grid was extended, its best learning rate may be one that other widths never ran. With
    ``of_widest`` the largest width's best learning rate is asked for everywhere too (Figure 7).
    """
    missing: dict[tuple[str, int, float], None] = {}
    for name, widths in curves(tidy(runs)).items():
        bases = (widths[-1], widths[0]) if of_widest else widths[:1]
        for best in (float(base.log2_lr[k]) for base in bases if (k := best_index(base)) is not None):
            missing |= {(name, curve.width, best): None for curve in widths if best not in curve.log2_lr}
    return list(missing)


def line(x: Array, y: Array) -> tuple[Array, Array]:
    """Least-squares slope and RMS residual [B] of ``y`` [B, K] against ``x`` [K]; NaNs of ``y`` are left out."""
    known = ~np.isnan(y)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    dx = np.where(known, x - (known * x).sum(axis=1, keepdims=True) / count, 0.0)
    dy = np.where(known, y - np.nansum(y, axis=1, keepdims=True) / count, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = (dx * dy).sum(axis=1) / (dx * dx).sum(axis=1)
    residual = dy - slope[:, None] * dx
    return slope, np.sqrt((residual**2).sum(axis=1) / count[:, 0])


def freedom(log2_width: Array) -> float:
    """Degrees of freedom of the slope's error per extra seed (Welch and Satterthwaite, equal noise).

    Fewer than the widths, because the outer ones carry most of a slope: 2 at three widths, 2.9 at five.
    """
    square = (log2_width - log2_width.mean()) ** 2
    return float(square.sum() ** 2 / (square**2).sum())


def stretch(freedom: float, seeds: int) -> float:
    """Student's t over the normal quantile, with ``freedom`` degrees of freedom per extra seed."""
    if seeds < 2:
        return 1.0
    return float(stdtrit(freedom * (seeds - 1), (1 + LEVEL) / 2) / ndtri((1 + LEVEL) / 2))


def slopes(x: Array, optima: Sequence[Optima], seeds: int) -> Array:
    """Slope [B] of LR* (or another refined choice) against ``x`` [K], stretched for few seeds."""
    best, shift = (np.stack(part, axis=1) for part in zip(*((o.log2_lr, o.shift) for o in optima), strict=True))
    slope, _ = line(x, best)
    return slope[0] + stretch(freedom(x), seeds) * (slope - slope[0]) + line(x, shift)[0]


def decide(slope: Estimate, *, on_edge: bool = False) -> Verdict:
    """The verdict on a slope with its interval, by `RULE`."""
    if not on_edge and (slope.high < -TOLERANCE or slope.low > TOLERANCE):
        return "drifts"
    return "stable" if not on_edge and slope.low >= -TOLERANCE and slope.high <= TOLERANCE else "undecided"


def seeds_to_decide(slope: Estimate, seeds: int, freedom: float) -> int | None:
    """About how many seeds would take the interval off the nearer boundary if the slope stayed; None if over 100."""
    distance, half = abs(abs(slope.value) - TOLERANCE), (slope.high - slope.low) / 2
    unit = half * math.sqrt(seeds) / stretch(freedom, seeds)  # the half-width shrinks as stretch / sqrt(seeds)
    counts = range(seeds + 1, MOST_SEEDS + 1)
    return next((more for more in counts if unit * stretch(freedom, more) / math.sqrt(more) < distance), None)


def centred(residual: Array) -> Array:
    """``residual`` [B] with the squares of its draws shifted so that their mean is the square of row 0.

    A draw's residual carries the seeds' noise twice, once from the runs and once from the draw; without the shift the
    interval of a small residual would lie above its own estimate.
    """
    square = residual**2
    square[1:] += square[0] - square[1:].mean() if len(square) > 1 else 0.0
    return np.sqrt(np.maximum(square, 0.0))


def interpolate(x: Array, y: Array, at: Array) -> Array:
    """The piecewise-linear ``y`` [B, G] on ``x`` [G], each at its own ``at`` [B]; NaN off the grid and by an inf."""
    rows, low = np.arange(len(y)), np.clip(np.searchsorted(x, at, side="right") - 1, 0, max(len(x) - 2, 0))
    high = np.minimum(low + 1, len(x) - 1)
    with np.errstate(invalid="ignore", divide="ignore"):  # beside a diverged neighbour; a grid of one point
        slope = (y[rows, high] - y[rows, low]) / (x[high] - x[low])
        between = slope * (at - x[low]) + y[rows, low]
    value = np.select([at == x[low], at == x[high]], [y[rows, low], y[rows, high]], between)
    return np.where((at >= x[0]) & (at <= x[-1]) & np.isfinite(value), value, np.nan)


def octave_cost(log2_lr: Array, curve: Array, optimum: Array) -> Array:
    """c [B]: mean extra loss one octave below and above ``optimum`` [B], from the measured ``curve`` [B, G].

    All three losses come from the same piecewise-linear curve: on a grid of octaves its error is the same at
    all three and cancels. NaN where a side was not tested, diverged, or does not cost anything (noise).
    """
    low, here, high = (interpolate(log2_lr, curve, optimum + shift) for shift in (-1.0, 0.0, 1.0))
    cost = (low + high) / 2 - here
    return np.where(cost > 0, cost, np.nan)


def kappa(log2_width: Array, cost: Array) -> Array:
    """Slope [B] of log2 ``cost`` [B, K] against ``log2_width`` [K]; NaN where fewer than three widths are known."""
    slope, _ = line(log2_width, np.log2(cost))
    return np.where((~np.isnan(cost)).sum(axis=1) >= KAPPA_WIDTHS, slope, np.nan)


@dataclass(frozen=True)
class PowerLaw:
    """``limit`` + ``amplitude`` x^-``exponent``, each [B]."""

    limit: Array
    amplitude: Array
    exponent: Array

    @property
    def falls(self) -> NDArray[np.bool_]:
        """[B] whether it falls with x."""
        return self.amplitude > 0

    @property
    def on_bound(self) -> NDArray[np.bool_]:
        """[B] whether the exponent is the first or the last of `EXPONENTS`: the data do not say where the fall ends."""
        return np.isin(self.exponent, EXPONENTS[[0, -1]])

    def at(self, x: Array) -> Array:
        """[B, X] its values at ``x`` [X]."""
        return self.limit[:, None] + self.amplitude[:, None] * x ** -self.exponent[:, None]


def power_law(x: Array, y: Array) -> PowerLaw:
    """The least-squares fit of a `PowerLaw` to each row of ``y`` [B, K] at ``x`` [K], its exponent from `EXPONENTS`.

    For a given exponent the fit is linear, so the best one is found by scanning: no start value, no local minimum.
    """
    basis = (x[:, None] / x[0]) ** -EXPONENTS  # [K, b]
    mean_basis, mean_y = basis.mean(axis=0), y.mean(axis=1, keepdims=True)
    dz, dy = basis - mean_basis, y - mean_y
    cross, square = dy @ dz, (dz**2).sum(axis=0)  # [B, b], [b]
    best = np.argmax(cross**2 / square, axis=1)  # largest explained sum of squares
    amplitude, exponent = cross[np.arange(len(y)), best] / square[best], EXPONENTS[best]
    return PowerLaw(mean_y[:, 0] - amplitude * mean_basis[best], amplitude * x[0] ** exponent, exponent)


def limit_loss(width: Array, loss: Array) -> Array:
    """L(inf) [B] of the fit L(inf) + A n^-b to ``loss`` [B, K] at ``width`` [K].

    NaN with fewer than four widths, where the loss does not fall with width, or where the best b is on its bound.
    """
    if len(width) < LIMIT_WIDTHS:
        return np.full(len(loss), np.nan)
    law = power_law(width, loss)
    return np.where(law.falls & ~law.on_bound, law.limit, np.nan)


@dataclass(frozen=True)
class DriftResult:
    """What the runs of one parametrization say; octaves per doubling of width unless said otherwise.

    seeds: the fewest of any width. E: octaves. kappa: log2 of loss per doubling of width, over ``kappa_widths`` widths
    (the others have a side of LR* that diverged or was not tested). l_inf, r_inf, regret (of the widest): loss.
    edges: widths whose optimum lies on an edge of the tested grid, and on which. kept: widths whose optimum no parabola
    could refine. seeds_needed: about how many would decide an undecided verdict; None if decided, or if over 100.
    """

    name: str
    widths: tuple[int, ...]
    seeds: int
    slope: Estimate
    verdict: Verdict
    E: Estimate
    kappa: Estimate
    kappa_widths: int
    l_inf: Estimate
    r_inf: Estimate
    regret: Estimate
    edges: tuple[tuple[int, Side], ...]
    kept: tuple[int, ...]
    seeds_needed: int | None

    @property
    def sentence(self) -> str:
        """The verdict, with its reason or what would decide it."""
        interval = f", 95% interval {span(self.slope.low, self.slope.high)}"
        why = f", wholly within ±{TOLERANCE}"
        if math.isnan(self.slope.low):
            interval, why = "", "; one seed gives no interval, run at least two"
        elif self.verdict == "drifts":
            why = f", wholly {'below -' if self.slope.value < 0 else 'above '}{TOLERANCE}"
        elif self.verdict == "undecided":
            many = (
                f"about {self.seeds_needed}" if self.seeds_needed else f"no reasonable number of (up to {MOST_SEEDS})"
            )
            why = f", which reaches across ±{TOLERANCE}; {many} seeds would decide it"
            if self.kept:
                where = listing([str(width) for width in self.kept])
                why += f"; a finer grid would help more than seeds at width {where}, where LR* lies beside divergence"
        if self.edges:
            where = listing([f"{side} edge at width {width}" for width, side in self.edges])
            why = f"; but the optimum lies on the edge of the tested grid ({where}): "
            why += "LR* is only bounded, extend the grid"
        return (
            f"{label(self.name)}: {self.verdict}. The best learning rate moves by {number(self.slope.value)} octaves "
            f"per doubling of width{interval} ({counted([self.seeds], 'seed')}){why}."
        )


@dataclass(frozen=True)
class TransferReport:
    """The claims that a runs table supports. Immutable; ``print(report)`` shows all of it."""

    results: tuple[DriftResult, ...]
    _optima: pd.DataFrame = field(repr=False, compare=False)

    @property
    def optima(self) -> pd.DataFrame:
        """A copy of the table with one row per parametrization and width.

        Columns: parametrization, width, seeds, log2_lr (LR*), low, high (its interval), grid_log2_lr, refined, on_edge,
        edge ("low", "high", "low high" or ""), edge_share (of the draws), loss, loss_se (mean and standard error over
        seeds at grid_log2_lr), transferred_log2_lr, regret, regret_low, regret_high, octave_cost (c of kappa).
        """
        return self._optima.copy()

    @property
    def parametrizations(self) -> Mapping[str, DriftResult]:
        """Read-only: name -> result, SP first."""
        return MappingProxyType({result.name: result for result in self.results})

    def verdict(self, parametrization: str) -> Verdict:
        """``"stable"``, ``"drifts"`` or ``"undecided"``. Raises `UserError` for a name that the runs do not have."""
        if parametrization not in self.parametrizations:
            raise unknown("parametrization", parametrization, self.parametrizations)
        return self.parametrizations[parametrization].verdict

    @property
    def table(self) -> Sequence[tuple[str, ...]]:
        """The optima in words, below a header; an interval has a word if the grid cuts it off."""
        rows = [("", "width", "LR*", "95% interval of log2 LR*", "loss at the best grid LR", "regret of the copied LR")]
        for o in self._optima.itertuples():
            interval = span(o.low, o.high) + " (reaches the edge of the grid)" * bool(o.edge_share > EDGE_SHARE)
            if o.on_edge:
                interval = f"on the {o.edge.replace(' ', ' and ')} edge of the grid"
            error = "" if math.isnan(o.loss_se) else f" ± {number(o.loss_se, 4)}"
            loss = f"{number(o.loss, 4)}{error} at {power(o.grid_log2_lr, 1)} (n = {o.seeds})"
            regret = "not run" if math.isnan(o.regret) else Estimate(o.regret, o.regret_low, o.regret_high).brief(4)
            rows.append((label(o.parametrization), str(o.width), power(o.log2_lr), interval, loss, regret))
        return rows

    def __str__(self) -> str:
        return "\n".join([*aligned(self.table), *(result.sentence for result in self.results)])

    @property
    def seeds(self) -> str:
        """``3 seeds``, or ``2 to 3 seeds`` where the widths differ."""
        return counted(self._optima["seeds"], "seed")


def transfer_report(runs: pd.DataFrame, *, draws: int = 2000, seed: int = 0) -> TransferReport:
    """Optimum of every width, drift, verdict, regret, E, kappa and R(inf), by `RULE`.

    ``runs`` has one row per run, with columns parametrization, width, log2_lr, seed, train_loss (+inf if diverged) and
    optionally status. The same table and ``seed`` give the same report, whatever the order of the rows. Raises
    `UserError` on missing columns, duplicates, NaN, failed runs, mixed settings, a learning rate that lacks a seed, a
    parametrization with one width only, or a width with no learning rate at which all seeds finished.
    """
    if draws < 100:
        raise UserError(f"draws={draws} is too few for a 95% interval; use at least 100.")
    table = curves(tidy(runs))
    told = {name: _analyse(name, table[name], draws, seed) for name in sorted(table, key=lambda n: (n != "sp", n))}
    limits = {name: limit for name, (_, _, limit) in told.items()}
    results = tuple(replace(result, r_inf=_penalty(name, limits)) for name, (_, result, _) in told.items())
    return TransferReport(results, pd.DataFrame([row for rows, _, _ in told.values() for row in rows]))


def _analyse(
    name: str, widths: Sequence[Curves], draws: int, seed: int
) -> tuple[list[dict[str, object]], DriftResult, Array]:
    """Of one parametrization: the rows of ``TransferReport.optima``, all but R(inf), and L(inf) [B]."""
    if len(widths) < 2:
        raise UserError(f"'{name}' was run at one width only ({widths[0].width}); transfer needs two or more.")
    for curve in widths:
        require_optimum(name, curve)
    seeds, count = min(len(curve.loss) for curve in widths), len(widths)
    # each width has its own stream, so that adding a width or a parametrization moves no other interval
    streams = [np.random.default_rng([seed, zlib.crc32(name.encode()), curve.width]) for curve in widths]
    draws = draws if seeds > 1 else 0
    both = [(c, bootstrap_optima(c, draws, rng)) for c, rng in zip(widths, streams, strict=True)]
    chosen = widths[0].log2_lr[both[0][1].index]
    regret = [_regret(curve, o, chosen) for curve, o in both]
    cost = np.stack([octave_cost(curve.log2_lr, o.curve, o.log2_lr) for curve, o in both], axis=1)
    rows = []
    for k, (curve, o) in enumerate(both):
        n, at = len(curve.loss), o.index[0]
        best, own = Estimate.of(o.log2_lr + o.shift), Estimate.of(regret[k])
        rows.append({
            "parametrization": name, "width": curve.width, "seeds": n,
            "log2_lr": best.value, "low": best.low, "high": best.high,
            "grid_log2_lr": float(curve.log2_lr[at]), "refined": bool(o.refined[0]),
            "on_edge": bool(o.edge[0]), "edge": " ".join(edge_sides(curve)),
            "edge_share": float(o.edge[1:].mean()) if len(o.edge) > 1 else math.nan,
            "loss": float(o.loss[0]),
            "loss_se": float(curve.loss[:, at].std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan,
            "transferred_log2_lr": float(chosen[0]),
            "regret": own.value, "regret_low": own.low, "regret_high": own.high,
            "octave_cost": float(cost[0, k]),
        })  # fmt: skip
    width = np.array([curve.width for curve in widths], dtype=float)
    x, known = np.log2(width), int((~np.isnan(cost[0])).sum())
    slope = Estimate.of(slopes(x, [o for _, o in both], seeds))
    residual = line(x, np.stack([o.log2_lr + o.shift for _, o in both], axis=1))[1]
    limit = limit_loss(width, np.stack([o.loss for _, o in both], axis=1))
    edges = tuple((curve.width, side) for curve in widths for side in edge_sides(curve))
    verdict = decide(slope, on_edge=bool(edges))
    few = f"only {known} of {count} widths have a higher loss measured an octave to either side of LR*; "
    flat = "the least losses do not fall with width as L + A n^-b with b between 0.1 and 2"
    flat = flat if count >= LIMIT_WIDTHS else f"the fit needs {LIMIT_WIDTHS} widths, there are {count}"
    result = DriftResult(
        name=name, widths=tuple(curve.width for curve in widths), seeds=seeds, slope=slope, verdict=verdict,
        E=Estimate.of(centred(residual if count > 2 else np.full(1, np.nan)), "two widths always lie on a line"),
        kappa=Estimate.of(kappa(x, cost), f"{few}{KAPPA_WIDTHS} are needed"), kappa_widths=known,
        l_inf=Estimate.of(limit, flat), r_inf=Estimate(math.nan),
        regret=Estimate.of(regret[-1], "the smallest width's best learning rate was not run here"),
        edges=edges, kept=tuple(curve.width for curve, o in both if not o.refined[0]),
        seeds_needed=seeds_to_decide(slope, seeds, freedom(x)) if verdict == "undecided" and not edges else None,
    )  # fmt: skip
    return rows, result, limit


def _regret(curves: Curves, optima: Optima, chosen: Array) -> Array:
    """Regret [B] of the smallest width's ``chosen`` [B]; +inf where it diverged, NaN where this width never ran it."""
    # every draw picks the smallest width's best anew; the width's own best stays that of all seeds, since the least
    # loss of a noisy draw is too low by construction
    place = np.searchsorted(curves.log2_lr, chosen).clip(max=len(curves.log2_lr) - 1)
    loss = optima.curve[np.arange(len(place)), place]
    return np.where(curves.log2_lr[place] == chosen, loss - optima.curve[:, optima.index[0]], np.nan)


def _penalty(name: str, limits: Mapping[str, Array]) -> Estimate:
    """R(inf) of ``name`` from every parametrization's L(inf) [B]."""
    known = [limit for limit in limits.values() if not np.isnan(limit[0])]
    if np.isnan(limits[name][0]) or len(known) < 2:
        why = "its loss at infinite width, or that of every other parametrization, is not identifiable"
        return Estimate(math.nan, reason=why)
    rows = min(map(len, known))
    return Estimate.of(limits[name][:rows] - np.min([limit[:rows] for limit in known], axis=0))


def conditions(runs: pd.DataFrame) -> dict[str, list[float]]:
    """Column of `LEAST` -> the values that ``runs`` have, ascending; none if it was not recorded."""
    columns = {name: pd.to_numeric(runs.get(name, pd.Series(dtype=float)), errors="coerce") for name in LEAST}
    return {name: np.unique(column.dropna()).tolist() for name, column in columns.items()}


def panel_line(runs: pd.DataFrame, verdict: str, *, x_name: str, line_name: str) -> str:
    """The verdict on the panel that ``runs`` are, and what the rule of thumb says of such a panel.

    Post-LN is read off a column ``norm`` ("post") or ``variant`` ("post_ln").
    """
    unmet = {name: values for name, values in conditions(runs).items() if not values or values[0] < LEAST[name]}
    have = [f"{NAMES[name]} {f'from {own[0]:g}' if own else 'not recorded'}" for name, own in unmet.items()]
    is_post = any(str(value).startswith("post") for name in ("norm", "variant") for value in runs.get(name, ()))
    where = "inside the rule's range, of which it says that it transfers"
    if unmet:
        where = f"outside of the rule's range ({listing(have)})"
    elif line_name == "depth" and (is_post or x_name.lower().startswith("init")):
        where = f"one of the rule's exceptions ({'depth in post-LN' if is_post else 'init std across depth'})"
    return f"{verdict}, {where}"


def rule_of_thumb(runs: pd.DataFrame, panels: Iterable[tuple[str, str]] = ()) -> str:
    """The conditions, then the panels (name, `panel_line`), as Markdown lists."""
    lines = []
    for name, values in conditions(runs).items():
        have = "..".join(f"{value:g}" for value in dict.fromkeys(values[:1] + values[-1:]))
        reached = [f"{value:g}" for value in values if value >= LEAST[name]]
        told = f"out of reach ({have})" if values else "not recorded"
        if reached:
            which = "all runs" if len(reached) == len(values) else f"those with {listing(reached)}"
            told = f"met by {which} ({have})"
        lines.append(f"- {NAMES[name]} >= {LEAST[name]}: {told}")
    more = [f"- {name}: {text}" for name, text in panels]
    return "\n".join([*lines, *([""] if more else []), *more])
