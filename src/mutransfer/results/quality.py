"""Three measures of how well a learning rate transfers: E, kappa and R(inf).

The ideas are those of Kalra and Barkeshli 2026 (arXiv:2605.21486): the error of the scaling-law fit of the
best learning rate, the robustness of the loss to an error in it, and the asymptotic loss penalty of a
parametrization. The formulas are our reading of them, for sweeps of a few widths:

- E: root-mean-square residual, in octaves, of the straight line through log2 LR* against log2 width.
- kappa: slope of log2 c(n) against log2 n, where c(n) is the mean extra loss of missing LR* by one octave to
  either side. Positive: the same miss costs more on a wider model.
- R(inf): L*(n) = L(inf) + A n^-b is fitted per parametrization; R(inf) is its L(inf) less the smallest L(inf)
  of the report.

All functions work on ``B`` rows at once: row 0 is the point estimate, the others are bootstrap draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mutransfer.results.estimate import Array

EXPONENTS = np.linspace(0.1, 2.0, 381)
"""Candidates for b. Outside of them n^-b over a few octaves is a logarithm or a step, and L(inf) is a guess.
"""
KAPPA_WIDTHS, LIMIT_WIDTHS = 3, 4
"""Fewest widths for a slope that is not exact by construction, and for a fit of three parameters."""


def line(x: Array, y: Array) -> tuple[Array, Array]:
    """Least-squares slope and RMS residual [B] of ``y`` [B, K] against ``x`` [K]; NaN entries of ``y`` are
    left out.
    """
    known = ~np.isnan(y)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    dx = np.where(known, x - (known * x).sum(axis=1, keepdims=True) / count, 0.0)
    dy = np.where(known, y - np.nansum(y, axis=1, keepdims=True) / count, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = (dx * dy).sum(axis=1) / (dx * dx).sum(axis=1)
    residual = dy - slope[:, None] * dx
    return slope, np.sqrt((residual**2).sum(axis=1) / count[:, 0])


def centred(residual: Array) -> Array:
    """``residual`` [B] with the squares of its draws shifted so that their mean is the square of row 0.

    A draw's residual carries the seeds' noise twice, once from the runs and once from the draw; without the
    shift the interval of a small residual would lie above its own estimate.
    """
    square = residual**2
    square[1:] += square[0] - square[1:].mean() if len(square) > 1 else 0.0
    return np.sqrt(np.maximum(square, 0.0))


def interpolate(x: Array, y: Array, at: Array) -> Array:
    """The piecewise-linear curves ``y`` [B, G] on the grid ``x`` [G], each at its own ``at`` [B].

    NaN outside the grid or where a needed neighbour is infinite.
    """
    if len(x) < 2:
        return np.where(at == x[0], y[:, 0], np.nan)
    left = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    rows, t = np.arange(len(y)), (at - x[left]) / (x[left + 1] - x[left])
    with np.errstate(invalid="ignore"):
        value = np.where(t == 1, y[rows, left + 1], np.where(t == 0, y[rows, left], 0.0))
        between = y[rows, left] * (1 - t) + y[rows, left + 1] * t
    value = np.where((t == 0) | (t == 1), value, between)
    return np.where((t < 0) | (t > 1) | ~np.isfinite(value), np.nan, value)


def octave_cost(log2_lr: Array, curve: Array, optimum: Array) -> Array:
    """c [B]: mean extra loss one octave below and above ``optimum`` [B], from the measured ``curve`` [B, G].

    All three losses come from the same piecewise-linear curve: on a grid of octaves its error is the same at
    all three and cancels. NaN where a side was not tested, diverged, or does not cost anything (noise).
    """
    low, here, high = (interpolate(log2_lr, curve, optimum + shift) for shift in (-1.0, 0.0, 1.0))
    cost = (low + high) / 2 - here
    return np.where(cost > 0, cost, np.nan)


def kappa(log2_width: Array, cost: Array) -> Array:
    """Slope [B] of log2 ``cost`` [B, K] against ``log2_width`` [K]; NaN where fewer than three widths are
    known.
    """
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
        """[B] whether it falls with x: A > 0."""
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
    """L(inf) [B] of the fit L(inf) + A n^-b to ``loss`` [B, K] at ``width`` [K], with A > 0 and b inside
    `EXPONENTS`.

    NaN with fewer than four widths, where the loss does not fall with width (A <= 0), or where the best b is on
    its bound: the data then do not say where the fall ends.
    """
    if len(width) < LIMIT_WIDTHS:
        return np.full(len(loss), np.nan)
    law = power_law(width, loss)
    return np.where(law.falls & ~law.on_bound, law.limit, np.nan)
