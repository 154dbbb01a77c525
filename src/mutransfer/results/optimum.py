"""The best learning rate of a width, its bootstrap draws, and where a grid must grow.

What `drift.RULE` leaves open, declared before any result too (training loss is the paper's metric, Definition A.3):

- A learning rate at which any seed diverged has mean +inf and cannot win.
- The parabola goes through the grid point and its two neighbours (their spacing may be uneven) and is clipped to lie
  between them. If a neighbour is absent or diverged, the grid point is kept. An absent neighbour puts the optimum *on
  the edge* of the tested grid; a diverged one does not: divergence brackets the optimum.
- Draws: per draw, and per width independently, n-1 of the n seeds with replacement (the rescaled bootstrap of Rao and
  Wu 1988: drawing n of n would understate the variance by (n-1)/n, a third at three seeds). An optimum that a diverged
  neighbour kept on its grid point is known only to the grid: in each such draw it is spread uniformly over half a step
  to either side.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mutransfer.errors import UserError
from mutransfer.results.estimate import Array
from mutransfer.results.frame import Curves, curves, tidy

Side = Literal["low", "high"]


@dataclass(frozen=True)
class Optima:
    """Optima of ``B`` mean curves on one grid; row 0 is the point estimate, the others are draws."""

    curve: Array
    """[B, G] mean losses."""
    index: NDArray[np.intp]
    """[B] the best grid point."""
    log2_lr: Array
    """[B] LR*, refined."""
    shift: Array
    """[B] What is added to a draw of LR* because it is known only to the grid; 0 in row 0."""
    refined: NDArray[np.bool_]
    """[B] False where the grid point was kept."""

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
    index = np.argmin(curve, axis=1)
    best = log2_lr[index].astype(float)
    padded_x = np.concatenate([[np.nan], log2_lr, [np.nan]])
    padded_y = np.pad(curve, ((0, 0), (1, 1)), constant_values=np.inf)
    rows = np.arange(len(curve))
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
    """The optimum of the mean over all seeds (row 0) and of ``draws`` resampled means (none if there is one
    seed).

    ``rng`` picks the seeds, ``spread`` (default: ``rng``) where an optimum lies that is known only to the grid.
    """
    seeds = len(curves.loss)
    point = curves.loss.mean(axis=0, keepdims=True)
    if seeds == 1:
        return find_optima(curves.log2_lr, point)
    pick = rng.integers(seeds, size=(draws, seeds - 1))
    optima = find_optima(curves.log2_lr, np.concatenate([point, curves.loss[pick].mean(axis=1)]))
    kept = ~optima.refined & ~optima.edge
    kept[0] = False
    step = np.diff(curves.log2_lr)
    where, shift = optima.index[kept], (spread or rng).uniform(-0.5, 0.5, size=int(kept.sum()))
    optima.shift[kept] = shift * np.where(shift < 0, step[where - 1], step[where])
    return optima


def require_optimum(name: str, curves: Curves) -> None:
    """Raise `UserError` unless some learning rate finished in all seeds."""
    if not np.isfinite(curves.loss).all(axis=0).any():
        low, high = curves.log2_lr[0], curves.log2_lr[-1]
        raise UserError(
            f"'{name}' at width {curves.width} has no learning rate at which all seeds finished "
            f"({len(curves.log2_lr)} tested, 2^{low:g} to 2^{high:g}); extend the grid downwards."
        )


def edge_sides(curves: Curves) -> list[Side]:
    """On which edge of its tested grid the optimum lies: none, one, or both (a grid of one learning rate)."""
    best = int(np.argmin(curves.loss.mean(axis=0)))
    sides: list[Side] = []
    if best == 0:
        sides.append("low")
    if best == len(curves.log2_lr) - 1:
        sides.append("high")
    return sides


def needs_extension(runs: pd.DataFrame) -> list[tuple[str, int, Side]]:
    """The (parametrization, width, side) at which the tested grid must grow because the optimum lies on its
    edge.

    A width at which every learning rate diverged (in some seed) needs lower ones. One seed and one width are
    enough.
    Raises `UserError` as `transfer_report` does on a malformed table or a gap.
    """
    needed: list[tuple[str, int, Side]] = []
    for name, widths in curves(tidy(runs)).items():
        for curve in widths:
            finite = bool(np.isfinite(curve.loss).all(axis=0).any())
            sides: list[Side] = edge_sides(curve) if finite else ["low"]
            needed += [(name, curve.width, side) for side in sides]
    return needed


def untested_transfers(runs: pd.DataFrame, *, of_widest: bool = False) -> list[tuple[str, int, float]]:
    """The (parametrization, width, log2_lr) that must still run so that the regret is measured at every
    width.

    After the smallest width's grid was extended, its best learning rate may be one that other widths never
    ran. With ``of_widest`` the largest width's best learning rate is asked for everywhere too (Figure 7).
    """
    missing: list[tuple[str, int, float]] = []
    for name, widths in curves(tidy(runs)).items():
        if of_widest and len(widths) > 1:
            missing += _untested(name, widths[-1], widths)
        missing += _untested(name, widths[0], widths)
    return list(dict.fromkeys(missing))


def _untested(name: str, base: Curves, widths: list[Curves]) -> list[tuple[str, int, float]]:
    """Where the best learning rate of ``base`` has not run."""
    if not np.isfinite(base.loss).all(axis=0).any():
        return []
    best = float(base.log2_lr[np.argmin(base.loss.mean(axis=0))])
    return [(name, curve.width, best) for curve in widths if best not in curve.log2_lr]


def panel_optima(key: str, lines: Mapping[float, Curves], draws: int, seed: int) -> list[Optima]:
    """The optima of every line of a panel and of its bootstrap draws; each line has its own stream."""
    streams = [np.random.default_rng([seed, zlib.crc32(f"{key} {value:g}".encode())]) for value in lines]
    return [bootstrap_optima(curve, draws, rng) for curve, rng in zip(lines.values(), streams, strict=True)]
