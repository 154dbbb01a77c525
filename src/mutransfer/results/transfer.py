"""Did the best learning rate move with width? One report on all parametrizations of a runs table.

The rules were declared before any result: that of one width's optimum and of the bootstrap draws in
`optimum`, that of the drift and its verdict in `drift`, E, kappa and R(inf) in `quality`. The regret of a
width is its mean loss at the best *grid* learning rate of the smallest width, less its own least mean loss;
+inf if it diverged there. Every draw picks the smallest width's best anew; the width's own best stays that of
all seeds, since the least loss of a noisy draw is too low by construction.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import pandas as pd

from mutransfer.errors import UserError, unknown
from mutransfer.results.drift import (
    DriftResult,
    Verdict,
    decide,
    describe_drift,
    freedom,
    seeds_to_decide,
    stretch,
)
from mutransfer.results.estimate import Array, Estimate, label, number, power, span
from mutransfer.results.frame import Curves, curves, tidy
from mutransfer.results.optimum import Optima, bootstrap_optima, edge_sides, require_optimum
from mutransfer.results.quality import (
    KAPPA_WIDTHS,
    LIMIT_WIDTHS,
    centred,
    kappa,
    limit_loss,
    line,
    octave_cost,
)

EDGE_SHARE = 0.025
"""If more draws than this fall on an edge, an end of the interval is cut off by the grid."""


@dataclass(frozen=True)
class TransferReport:
    """The claims that a runs table supports. Immutable; ``print(report)`` shows all of it."""

    results: tuple[DriftResult, ...]
    _optima: pd.DataFrame = field(repr=False, compare=False)

    @property
    def optima(self) -> pd.DataFrame:
        """A copy of the table with one row a parametrization and width.

        Columns: parametrization, width, seeds, log2_lr (LR*), low, high (its interval), grid_log2_lr,
        refined, on_edge, edge ("low", "high", "low high" or ""), edge_share (of the draws), loss, loss_se
        (mean and standard error over seeds at grid_log2_lr), transferred_log2_lr, regret, regret_low,
        regret_high, octave_cost (c of kappa).
        """
        return self._optima.copy()

    @property
    def parametrizations(self) -> Mapping[str, DriftResult]:
        """Read-only: name -> result, SP first."""
        return MappingProxyType({result.name: result for result in self.results})

    def verdict(self, parametrization: str) -> Verdict:
        """``"stable"``, ``"drifts"`` or ``"undecided"``. Raises `UserError` for a name that the runs do not
        have.
        """
        if parametrization not in self.parametrizations:
            raise unknown("parametrization", parametrization, self.parametrizations)
        return self.parametrizations[parametrization].verdict

    def __str__(self) -> str:
        rows = [("", "width", "LR*", "95% interval", "loss", "regret")]
        rows += [
            (
                label(o.parametrization),
                str(o.width),
                power(o.log2_lr),
                interval_text(o),
                number(o.loss, 4),
                number(o.regret, 4),
            )
            for o in self._optima.itertuples()
        ]
        size = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(n) for cell, n in zip(row, size, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, *(result.sentence for result in self.results)])


def interval_text(optimum: object) -> str:
    """The interval of log2 LR* of a row of ``TransferReport.optima``, with a word if the grid cuts it off."""
    o = optimum
    if o.on_edge:  # type: ignore[attr-defined]
        return f"on the {o.edge.replace(' ', ' and ')} edge of the grid"  # type: ignore[attr-defined]
    return span(o.low, o.high) + (" (reaches the edge of the grid)" if o.edge_share > EDGE_SHARE else "")  # type: ignore[attr-defined]


def transfer_report(runs: pd.DataFrame, *, draws: int = 2000, seed: int = 0) -> TransferReport:
    """Optimum of every width, drift, verdict, regret, E, kappa and R(inf), by the rule at the top of this
    module.

    ``runs`` has one row a run, with columns parametrization, width, log2_lr, seed, train_loss (+inf if
    diverged) and optionally status. The same table and ``seed`` give the same report, whatever the order of
    the rows.

    Raises `UserError` on missing columns, duplicates, NaN, failed runs, mixed settings, a learning rate that
    lacks a seed, a parametrization with one width only, or a width with no learning rate at which all seeds
    finished.
    """
    if draws < 100:
        raise UserError(f"draws={draws} is too few for a 95% interval; use at least 100.")
    table = curves(tidy(runs))
    analysed = {}
    for name in sorted(table, key=lambda n: (n != "sp", n)):
        if len(table[name]) < 2:
            raise UserError(f"'{name}' was run at one width only ({table[name][0].width}); transfer needs two or more.")
        analysed[name] = _Sweep(name, table[name], draws, seed)

    limits = {name: sweep.limit for name, sweep in analysed.items()}
    results = tuple(sweep.result(_penalty(name, limits)) for name, sweep in analysed.items())
    optima = pd.DataFrame([row for sweep in analysed.values() for row in sweep.rows()])
    return TransferReport(results, optima)


class _Sweep:
    """One parametrization: every array has the point estimate in row 0 and the bootstrap draws after it."""

    def __init__(self, name: str, widths: list[Curves], draws: int, seed: int) -> None:
        for one in widths:
            require_optimum(name, one)
        self.name, self.curves = name, widths
        self.seeds = min(len(one.loss) for one in widths)
        # Each width has its own stream, so that adding a width or a parametrization moves no other interval.
        streams = [np.random.default_rng([seed, zlib.crc32(name.encode()), one.width]) for one in widths]
        self.optima = [
            bootstrap_optima(one, draws if self.seeds > 1 else 0, rng) for one, rng in zip(widths, streams, strict=True)
        ]
        width = np.array([one.width for one in widths], dtype=float)
        best, shift = (np.stack([getattr(o, part) for o in self.optima], axis=1) for part in ("log2_lr", "shift"))
        self.freedom = freedom(np.log2(width))
        slope, _ = line(np.log2(width), best)
        self.slope = slope[0] + stretch(self.freedom, self.seeds) * (slope - slope[0]) + line(np.log2(width), shift)[0]
        _, self.residual = line(np.log2(width), best + shift)
        self.cost = np.stack(
            [octave_cost(c.log2_lr, o.curve, o.log2_lr) for c, o in zip(widths, self.optima, strict=True)],
            axis=1,
        )
        self.kappa = kappa(np.log2(width), self.cost)
        self.limit = limit_loss(width, np.stack([found.loss for found in self.optima], axis=1))
        self.regret = [self._regret(c, o) for c, o in zip(widths, self.optima, strict=True)]

    def _regret(self, curves: Curves, optima: Optima) -> Array:
        """Regret [1 + draws]; NaN where this width never ran the learning rate chosen at the smallest."""
        chosen = self.curves[0].log2_lr[self.optima[0].index]
        place = np.searchsorted(curves.log2_lr, chosen).clip(max=len(curves.log2_lr) - 1)
        loss = optima.curve[np.arange(len(place)), place]
        own = optima.curve[:, optima.index[0]]
        return np.where(curves.log2_lr[place] == chosen, loss - own, np.nan)

    def rows(self) -> list[dict[str, object]]:
        """The rows of ``TransferReport.optima``."""
        rows = []
        for k, (one, found) in enumerate(zip(self.curves, self.optima, strict=True)):
            seeds, at = len(one.loss), found.index[0]
            best, regret = Estimate.of(found.log2_lr + found.shift), Estimate.of(self.regret[k])
            rows.append({
                "parametrization": self.name, "width": one.width, "seeds": seeds,
                "log2_lr": best.value, "low": best.low, "high": best.high,
                "grid_log2_lr": float(one.log2_lr[at]), "refined": bool(found.refined[0]),
                "on_edge": bool(found.edge[0]), "edge": " ".join(edge_sides(one)),
                "edge_share": float(found.edge[1:].mean()) if seeds > 1 and len(found.edge) > 1 else math.nan,
                "loss": float(found.loss[0]),
                "loss_se": float(one.loss[:, at].std(ddof=1) / math.sqrt(seeds)) if seeds > 1 else math.nan,
                "transferred_log2_lr": float(self.curves[0].log2_lr[self.optima[0].index[0]]),
                "regret": regret.value, "regret_low": regret.low, "regret_high": regret.high,
                "octave_cost": float(self.cost[0, k]),
            })  # fmt: skip
        return rows

    def result(self, r_inf: Estimate) -> DriftResult:
        count = len(self.curves)
        slope = Estimate.of(self.slope)
        edges = [(one.width, side) for one in self.curves for side in edge_sides(one)]
        kept = [c.width for c, o in zip(self.curves, self.optima, strict=True) if not o.refined[0]]
        verdict = decide(slope, on_edge=bool(edges))
        needed = seeds_to_decide(slope, self.seeds, self.freedom) if verdict == "undecided" and not edges else None
        cost_known = int((~np.isnan(self.cost[0])).sum())
        exact = Estimate(math.nan, reason="two widths always lie on a line")
        return DriftResult(
            name=self.name,
            widths=tuple(one.width for one in self.curves),
            seeds=self.seeds,
            slope=slope,
            verdict=verdict,
            E=Estimate.of(centred(self.residual)) if count > 2 else exact,
            kappa=Estimate.of(
                self.kappa,
                f"only {cost_known} of {count} widths have a higher loss measured an octave to either side "
                f"of LR*; {KAPPA_WIDTHS} are needed",
            ),
            kappa_widths=cost_known,
            l_inf=Estimate.of(self.limit, limit_reason(count)),
            r_inf=r_inf,
            regret=Estimate.of(self.regret[-1], "the smallest width's best learning rate was not run here"),
            edges=tuple(edges),
            seeds_needed=needed,
            sentence=describe_drift(self.name, slope, verdict, seeds=self.seeds, needed=needed, edges=edges, kept=kept),
        )


def limit_reason(widths: int) -> str:
    """Why L(inf) is not known."""
    if widths < LIMIT_WIDTHS:
        return f"the fit needs {LIMIT_WIDTHS} widths, there are {widths}"
    return "the least losses do not fall with width as L + A n^-b with b between 0.1 and 2"


def _penalty(name: str, limits: Mapping[str, Array]) -> Estimate:
    """R(inf) of ``name`` from every parametrization's L(inf) [1 + draws]."""
    known = {other: limit for other, limit in limits.items() if not np.isnan(limit[0])}
    if name not in known:
        return Estimate(math.nan, reason="its loss at infinite width is not identifiable")
    if len(known) < 2:
        return Estimate(
            math.nan, reason="there is no other parametrization whose loss at infinite width is identifiable"
        )
    rows = min(len(limit) for limit in known.values())
    stacked = np.stack([limit[:rows] for limit in known.values()])
    return Estimate.of(limits[name][:rows] - stacked.min(axis=0))
