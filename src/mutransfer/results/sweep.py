"""Did the best learning rate move with width? The report on all parametrizations of a runs table, and its figures.

The rule is `RULE`. What it leaves open stands where it is decided: the optimum of a width and its draws in `optimum`,
the drift and its verdict in `drift`, E, kappa and R(inf) in `quality`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from mutransfer.errors import UserError, unknown
from mutransfer.results import rule_of_thumb
from mutransfer.results.accuracy import accuracy_report
from mutransfer.results.coordinates import read_coordinates
from mutransfer.results.draw.curves import (
    LARGE_MARKS,
    TRANSFERRED,
    curve_panel,
    line_looks,
    loss_limits,
    star,
    strip_height,
)
from mutransfer.results.draw.page import LARGE, Page, set_ticks, sign
from mutransfer.results.draw.style import MINUS, WARNING, Look, paper_style
from mutransfer.results.drift import (
    RULE,
    DriftResult,
    Verdict,
    decide,
    describe_drift,
    freedom,
    seeds_to_decide,
    slopes,
)
from mutransfer.results.estimate import Array, Estimate, aligned, counted, label, listing, number, power, span
from mutransfer.results.folder import Claim, Described, FigureFolder, Kind, Part, Shown, grid, points
from mutransfer.results.frame import Curves, curves, describe, missing_cells, tidy
from mutransfer.results.learning import read_learning
from mutransfer.results.optimum import Optima, bootstrap_optima, edge_sides, require_optimum
from mutransfer.results.quality import KAPPA_WIDTHS, LIMIT_WIDTHS, centred, kappa, limit_loss, line, octave_cost

EDGE_SHARE = 0.025
"""If more draws than this fall on an edge, an end of the interval is cut off by the grid."""
LEGEND_COLUMNS = 7
NO_FALL = "the least losses do not fall with width as L + A n^-b with b between 0.1 and 2"
READING = (
    f"{RULE} Regret: mean loss at the best grid learning rate of the smallest width, less the width's "
    "own least mean loss. E: root-mean-square distance of log2 LR* from that straight line. kappa: how "
    "fast the cost of missing LR* by an octave grows with width (slope in log2-log2; positive: wider "
    "models forgive less). L(inf): least loss extrapolated to infinite width; R(inf): L(inf) less the "
    "smallest one of the parametrizations. E, kappa and R(inf) follow Kalra and Barkeshli 2026 "
    "(arXiv:2605.21486); the formulas are our reading. Losses are means ± standard errors over "
)


@dataclass(frozen=True)
class TransferReport:
    """The claims that a runs table supports. Immutable; ``print(report)`` shows all of it."""

    results: tuple[DriftResult, ...]
    _optima: pd.DataFrame = field(repr=False, compare=False)

    @property
    def optima(self) -> pd.DataFrame:
        """A copy of the table with one row per parametrization and width.

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
        for o in self._optima.itertuples():
            cells = (power(o.log2_lr), _interval(o), number(o.loss, 4), number(o.regret, 4))
            rows.append((label(o.parametrization), str(o.width), *cells))
        return "\n".join([*aligned(rows), *(result.sentence for result in self.results)])

    @property
    def seeds(self) -> str:
        """``3 seeds``, or ``2 to 3 seeds`` where the widths differ."""
        return counted(self._optima["seeds"], "seed")


def _interval(optimum: Any) -> str:
    """The interval of log2 LR* of a row of ``TransferReport.optima``, with a word if the grid cuts it off."""
    if optimum.on_edge:
        return f"on the {optimum.edge.replace(' ', ' and ')} edge of the grid"
    cut = " (reaches the edge of the grid)" * bool(optimum.edge_share > EDGE_SHARE)
    return span(optimum.low, optimum.high) + cut


def transfer_report(runs: pd.DataFrame, *, draws: int = 2000, seed: int = 0) -> TransferReport:
    """Optimum of every width, drift, verdict, regret, E, kappa and R(inf), by `RULE`.

    ``runs`` has one row per run, with columns parametrization, width, log2_lr, seed, train_loss (+inf if
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
        analysed[name] = _Analysed(name, table[name], draws, seed)

    limits = {name: sweep.limit for name, sweep in analysed.items()}
    results = tuple(sweep.result(_penalty(name, limits)) for name, sweep in analysed.items())
    optima = pd.DataFrame([row for sweep in analysed.values() for row in sweep.rows()])
    return TransferReport(results, optima)


class _Analysed:
    """One parametrization: every array has the point estimate in row 0 and the bootstrap draws after it."""

    def __init__(self, name: str, widths: list[Curves], draws: int, seed: int) -> None:
        for curve in widths:
            require_optimum(name, curve)
        self.name, self.curves = name, widths
        self.seeds = min(len(curve.loss) for curve in widths)
        # Each width has its own stream, so that adding a width or a parametrization moves no other interval.
        streams = [np.random.default_rng([seed, zlib.crc32(name.encode()), curve.width]) for curve in widths]
        self.optima = [
            bootstrap_optima(curve, draws if self.seeds > 1 else 0, rng)
            for curve, rng in zip(widths, streams, strict=True)
        ]
        width = np.array([curve.width for curve in widths], dtype=float)
        self.freedom = freedom(np.log2(width))
        self.slope = slopes(np.log2(width), self.optima, self.seeds)
        _, self.residual = line(np.log2(width), np.stack([o.log2_lr + o.shift for o in self.optima], axis=1))
        self.cost = np.stack(
            [octave_cost(c.log2_lr, o.curve, o.log2_lr) for c, o in zip(widths, self.optima, strict=True)],
            axis=1,
        )
        self.kappa = kappa(np.log2(width), self.cost)
        self.limit = limit_loss(width, np.stack([o.loss for o in self.optima], axis=1))
        self.regret = [self._regret(c, o) for c, o in zip(widths, self.optima, strict=True)]

    def _regret(self, curves: Curves, optima: Optima) -> Array:
        """Regret [1 + draws]; +inf where it diverged, NaN where this width never ran the smallest width's choice.

        Every draw picks the smallest width's best anew; the width's own best stays that of all seeds, since the least
        loss of a noisy draw is too low by construction.
        """
        chosen = self.curves[0].log2_lr[self.optima[0].index]
        place = np.searchsorted(curves.log2_lr, chosen).clip(max=len(curves.log2_lr) - 1)
        loss = optima.curve[np.arange(len(place)), place]
        own = optima.curve[:, optima.index[0]]
        return np.where(curves.log2_lr[place] == chosen, loss - own, np.nan)

    def rows(self) -> list[dict[str, object]]:
        """The rows of ``TransferReport.optima``."""
        rows = []
        for k, (curve, optima) in enumerate(zip(self.curves, self.optima, strict=True)):
            seeds, at = len(curve.loss), optima.index[0]
            best, regret = Estimate.of(optima.log2_lr + optima.shift), Estimate.of(self.regret[k])
            rows.append({
                "parametrization": self.name, "width": curve.width, "seeds": seeds,
                "log2_lr": best.value, "low": best.low, "high": best.high,
                "grid_log2_lr": float(curve.log2_lr[at]), "refined": bool(optima.refined[0]),
                "on_edge": bool(optima.edge[0]), "edge": " ".join(edge_sides(curve)),
                "edge_share": float(optima.edge[1:].mean()) if seeds > 1 and len(optima.edge) > 1 else math.nan,
                "loss": float(optima.loss[0]),
                "loss_se": float(curve.loss[:, at].std(ddof=1) / math.sqrt(seeds)) if seeds > 1 else math.nan,
                "transferred_log2_lr": float(self.curves[0].log2_lr[self.optima[0].index[0]]),
                "regret": regret.value, "regret_low": regret.low, "regret_high": regret.high,
                "octave_cost": float(self.cost[0, k]),
            })  # fmt: skip
        return rows

    def result(self, r_inf: Estimate) -> DriftResult:
        count = len(self.curves)
        slope = Estimate.of(self.slope)
        edges = [(curve.width, side) for curve in self.curves for side in edge_sides(curve)]
        kept = [c.width for c, o in zip(self.curves, self.optima, strict=True) if not o.refined[0]]
        verdict = decide(slope, on_edge=bool(edges))
        needed = seeds_to_decide(slope, self.seeds, self.freedom) if verdict == "undecided" and not edges else None
        cost_known = int((~np.isnan(self.cost[0])).sum())
        few = f"the fit needs {LIMIT_WIDTHS} widths, there are {count}"
        exact = Estimate(math.nan, reason="two widths always lie on a line")
        return DriftResult(
            name=self.name,
            widths=tuple(curve.width for curve in self.curves),
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
            l_inf=Estimate.of(self.limit, few if count < LIMIT_WIDTHS else NO_FALL),
            r_inf=r_inf,
            regret=Estimate.of(self.regret[-1], "the smallest width's best learning rate was not run here"),
            edges=tuple(edges),
            seeds_needed=needed,
            sentence=describe_drift(self.name, slope, verdict, seeds=self.seeds, needed=needed, edges=edges, kept=kept),
        )


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


@dataclass(frozen=True)
class Sweep:
    """The runs of a learning-rate sweep and what they say, with what else its folder shows."""

    runs: pd.DataFrame
    transfer: TransferReport
    others: tuple[Shown, ...]


def describe_sweep(folder: Path) -> Described[Sweep]:
    """The table of `SWEEP` in words; raises as it does."""
    figure = FigureFolder.open(folder)
    provenance, runs = figure.provenance, figure.runs
    frame = tidy(runs)
    if gap := missing_cells(frame, provenance.get("log2_lrs", ())):
        raise UserError(f"{folder / 'runs.csv'} lacks {len(gap)} runs: {describe(gap)}; run the sweep again.")
    report = transfer_report(runs)
    others: list[Shown] = []
    if "learning" in provenance:
        others.append(read_learning(figure))
    if "coordinates" in provenance:
        others.append(read_coordinates(figure))
    if "accuracy" in provenance:
        others.append(accuracy_report(runs, str(figure["accuracy"])))
    claims = "; ".join(f"{label(r.name)} {r.verdict}, {r.slope.full()} octaves per doubling" for r in report.results)
    unknown_values = [f"- {label(r.name)}: {what}: {why}." for r in report.results for what, why in _unknown(r)]
    parts = [
        *figure.heading(f"{report.seeds} at every point"),
        "## Best learning rate of every width",
        _optima(report),
        "## Does it transfer?",
        _drift(report),
        "\n".join(f"- {result.sentence}" for result in report.results),
        *(["Not known, and why:", "\n".join(unknown_values)] if unknown_values else []),
        *figure.beside_the_paper(claims, _ours(runs, frame)),
        *(other.section for other in others),
        *(["## The rule of thumb of section 6.1", rule_of_thumb.markdown(runs)] if "length" in runs.columns else []),
        "## How to read it",
        f"{READING}{report.seeds}; the bootstrap resamples a seed's whole curve as one.",
    ]
    pictures = {"lr_vs_loss": "Training loss against learning rate, one line per width"}
    for other in others:
        pictures |= other.pictures
    summary = "\n".join([str(report), *(line for other in others for line in other.lines)])
    return Described(figure, Sweep(runs, report, tuple(others)), summary, parts, pictures)


def _ours(runs: pd.DataFrame, frame: pd.DataFrame) -> dict[str, str]:
    """Our value for the metrics of the published table that the runs themselves show."""
    rates = frame["log2_lr"]
    ours = {
        "widths": ",".join(str(w) for w in sorted(frame["width"].unique())),
        "log2lr_ticks": f"{rates.min():g}..{rates.max():g}",
    }
    for metric in ("base_width", "batch", "steps", "optimizer"):
        if metric in runs.columns and runs[metric].nunique() == 1:
            ours[metric] = str(runs[metric].iloc[0])
    return ours


def _optima(report: TransferReport) -> str:
    header = ("", "width", "LR*", "95% interval of log2 LR*", "loss at the best grid LR")
    rows = []
    for o in report.optima.itertuples():
        spread = "" if pd.isna(o.loss_se) else f" ± {number(o.loss_se, 4)}"
        loss = f"{number(o.loss, 4)}{spread} at {power(o.grid_log2_lr, 1)} (n = {o.seeds})"
        regret = "not run" if pd.isna(o.regret) else number(o.regret, 4)
        if not pd.isna(o.regret_low):
            regret += f" {span(o.regret_low, o.regret_high, 4)}"
        rows.append((label(o.parametrization), str(o.width), power(o.log2_lr), _interval(o), loss, regret))
    return grid((*header, "regret of the transferred LR"), rows)


def _drift(report: TransferReport) -> str:
    header = ("", "verdict", "drift (octaves per doubling)", "E (octaves)", "kappa", "L(inf)", "R(inf)")
    rows = []
    for r in report.results:
        used = "" if r.kappa_widths == len(r.widths) else f" ({r.kappa_widths} of {len(r.widths)} widths)"
        cells = (r.slope.full(), r.E.full(), r.kappa.full() + used, r.l_inf.full(3), r.r_inf.full(3))
        rows.append((label(r.name), f"**{r.verdict}**", *cells))
    return grid(header, rows)


def _unknown(result: DriftResult) -> list[tuple[str, str]]:
    """What is missing in a row of the drift table, with the reason."""
    named = {"drift": result.slope, "E": result.E, "kappa": result.kappa, "L(inf)": result.l_inf}
    named |= {"R(inf)": result.r_inf, "regret": result.regret}
    return [(name, estimate.reason) for name, estimate in named.items() if estimate.reason]


def _draw(described: Described[Sweep]) -> list[Path]:
    figure, sweep = described.folder, described.report
    words = f"Lines: {points(sweep.transfer.seeds)}. "
    words += "In the titles: slope of log2 LR* against log2 width with its 95% bootstrap interval."
    paths = lr_figure(
        sweep.runs,
        sweep.transfer,
        caption=figure.caption(words),
        out=figure.path,
        y_label=figure["y_label"],
        banner=figure.banner,
        ceiling=figure.provenance.get("loss_ceiling"),
    )
    return paths + [path for other in sweep.others for path in other.draw(figure)]


def lr_figure(
    runs: pd.DataFrame,
    report: TransferReport,
    *,
    caption: str,
    out: Path,
    y_label: str = "training loss (nats)",
    banner: str = "",
    ceiling: float | None = None,
) -> list[Path]:
    """The paper's Figures 1, 3 and 9: draw ``out/lr_vs_loss.png`` and ``.svg`` and return their paths.

    ``runs`` is the table that ``report`` was made of, ``y_label`` names the loss and its unit, ``banner`` is
    a warning across the top (stand-in data) and ``ceiling`` a loss above which nothing is drawn (say, that of
    the untrained model). The loss axis ends where the basins stay readable; what lies above is marked by a
    triangle at its upper end, diverged runs by a cross in a strip above it.
    """
    table = curves(tidy(runs))
    names = list(report.parametrizations)
    every = [curve for name in names for curve in table[name]]
    looks = line_looks(sorted({curve.width for curve in every}))
    limits = loss_limits(every, ceiling)
    rates = np.concatenate([curve.log2_lr for curve in every])
    x_limits = (rates.min() - 0.5, rates.max() + 0.5)
    rows = -(-len(looks) // LEGEND_COLUMNS)
    strip = strip_height([every], len(looks), LARGE_MARKS)
    edges = any(result.edges for result in report.results)
    with paper_style():
        page = Page(len(names), 2.75, LARGE, caption, banner, (strip,), legends=(rows + 1,), title_lines=2 + edges)
        for k, name in enumerate(names):
            lines: dict[float, Curves] = {curve.width: curve for curve in table[name]}
            axes = curve_panel(page, 0, k, lines, looks, x_limits, limits, LARGE_MARKS, first=k == 0)
            axes.set(xlabel=r"$\log_2$ learning rate", ylabel=y_label if k == 0 else "")
            set_ticks(axes.xaxis, step=1 if np.ptp(rates) <= 10 else 2)
            optima = report.optima.query("parametrization == @name")
            axes.axvline(float(optima["transferred_log2_lr"].iloc[0]), **TRANSFERRED, zorder=1)
            for curve, optimum in zip(table[name], optima.itertuples(), strict=True):
                face = "white" if optimum.on_edge else looks[curve.width]["color"]
                edge: Look = {"markeredgecolor": "black", "markeredgewidth": 0.6}
                y = star(axes, curve, optimum.log2_lr, optimum.loss, color=face, markersize=9, **edge, zorder=5)
                if not pd.isna(optimum.low):
                    bar: Look = {"color": "black", "linewidth": 1.1, "markersize": 6}
                    axes.plot([optimum.low, optimum.high], [y, y], "|-", **bar, zorder=4)
            page.title(0, k, _title_lines(report.parametrizations[name], has_edges=edges))
        page.legend(0, [sign(f"width {w}", **look, **LARGE_MARKS.edge) for w, look in looks.items()], lines=rows)
        page.legend(0, _signs(report, every, limits[1]), line=rows)
        return page.save(out, "lr_vs_loss")


def title(result: DriftResult) -> str:
    """``SP: drifts, -0.75 [-0.81, -0.70] octaves per doubling``."""
    return f"{label(result.name)}: {result.verdict}, {result.slope.brief()} octaves per doubling".replace("-", MINUS)


def _title_lines(result: DriftResult, *, has_edges: bool) -> list[tuple[str, Look]]:
    verdict, slope = title(result).split(", ", 1)
    lines: list[tuple[str, Look]] = [(verdict, {"fontweight": "bold", "fontsize": 9}), (f"{slope} of width", {})]
    if has_edges:
        sides = [f"{width} ({side})" for width, side in result.edges]
        text = f"optimum on the edge of the grid at width {listing(sides)}" if sides else ""
        lines.append((text, {"color": WARNING, "fontsize": 7}))
    return lines


def _signs(report: TransferReport, every: list[Curves], top: float) -> list[Any]:
    """Of the legend: those that occur in this figure."""
    optima, black = report.optima, {"color": "black", "linestyle": "none"}
    mark: Look = {"color": "black", "marker": "*", "markersize": 8, "linewidth": 1.0}
    if optima["low"].isna().all():
        signs = [sign("optimum", **{**mark, "linestyle": "none"})]
    else:
        signs = [sign("optimum, 95% interval", **mark)]
    if optima["on_edge"].any():
        hollow = {**mark, "linestyle": "none", "markerfacecolor": "white"}
        signs.append(sign("optimum on the edge of the grid", **hollow))
    signs.append(sign(f"best LR of width {min(curve.width for curve in every)}", **TRANSFERRED))
    mean = np.concatenate([curve.loss.mean(axis=0) for curve in every])
    if (np.isfinite(mean) & (mean > top)).any():
        signs.append(sign("above the axis", marker="^", markersize=4, **black))
    share = np.concatenate([np.isinf(curve.loss).mean(axis=0) for curve in every])
    if share.any():
        faint = " (faint: some seeds)" if ((share > 0) & (share < 1)).any() else ""
        signs.append(sign(f"diverged{faint}", marker="x", markersize=4, **black))
    return signs


def _claims(described: Described[Sweep]) -> list[Claim]:
    """The best learning rate over widths, and what else the folder shows (Figures 5 and 7, Table 12)."""
    expected = {"sp": ("SP: the best learning rate moves", "drifts"), "mup": ("µP: it stays", "stable")}
    parts = []
    for result in described.report.transfer.results:
        what, verdict = expected.get(result.name, (label(result.name), None))
        moves = f"{result.slope.full()} octaves per doubling"
        parts.append(Part.of(what, f"{result.verdict}, {moves}", result.verdict, verdict))
    return [described.folder.claim(parts), *(other.claim for other in described.report.others)]


SWEEP = Kind("sweep", describe_sweep, _draw, _claims)
"""A folder with ``lr_vs_loss.png``, ``lr_vs_loss.svg`` and ``table.md``.

Where the provenance has ``learning`` or ``coordinates``, the figures of ``curves.csv`` and ``coordinates.csv`` too.
Reads only these CSV files and ``provenance.json``; the same files give the same bytes. The provenance has `KEYS`;
optional are ``log2_lrs`` (the planned grid, which every width
must then have), ``loss_ceiling`` (no loss above it is drawn), ``stands_in_for`` (what stand-in data replaces,
default CIFAR-10), ``accuracy`` (the paper's table of accuracies, such as Table 12), ``experiment``-wide remarks in
``notes`` (a list), and ``paper.ours`` (metric of the published values -> ours).

Raises `UserError` if a file is missing or malformed, or if a run of the complete table is missing: it
names which.
"""
