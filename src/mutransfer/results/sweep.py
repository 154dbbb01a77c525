"""Did the best learning rate move with width? A sweep's figure and table, and what copying the rate is worth.

The rules are those of `transfer` and, for the accuracy of the copied rate (Tables 12 and 13), `ACCURACY_RULE`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mutransfer.errors import UserError
from mutransfer.results import published
from mutransfer.results.coordinates import read_coordinates
from mutransfer.results.draw.curves import TRANSFERRED, CurvePanel, curve_figure, star
from mutransfer.results.draw.page import Axes, Entry
from mutransfer.results.draw.style import MINUS, WARNING, Look
from mutransfer.results.estimate import Estimate, counted, label, listing, power
from mutransfer.results.folder import Claim, Described, FigureFolder, Kind, Part, Shown, grid, points
from mutransfer.results.frame import KEY, Curves, curves, missing_cells, tidy
from mutransfer.results.learning import read_learning
from mutransfer.results.schema import cell
from mutransfer.results.transfer import RULE, DriftResult, TransferReport, rule_of_thumb, transfer_report

MEASURES = {"drift": "slope", "E": "E", "kappa": "kappa", "L(inf)": "l_inf", "R(inf)": "r_inf", "regret": "regret"}
READING = (
    f"{RULE} Regret: mean loss at the best grid learning rate of the smallest width, less the width's own least mean "
    "loss. E: root-mean-square distance of log2 LR* from that straight line. kappa: how fast the cost of missing LR* "
    "by an octave grows with width (slope in log2-log2; positive: wider models forgive less). L(inf): least loss "
    "extrapolated to infinite width; R(inf): L(inf) less the smallest one of the parametrizations. E, kappa and R(inf) "
    "follow Kalra and Barkeshli 2026 (arXiv:2605.21486); the formulas are our reading. Losses are means ± standard "
    "errors over "
)
ACCURACY_RULE = (
    "The learning rate with the least mean training loss at the smallest width is copied to the others. Accuracy: of "
    "the test part after the last step, a mean over seeds with its 95% t interval; a diverged run's counts as 0. The "
    "difference is paired by seed; `higher`: its whole interval lies above 0, `lower`: below, else `undecided`."
)
MORE_ACCURATE = "With hyperparameters copied from the narrow network, the widest is more accurate in µP than in SP."


def accuracy(runs: pd.DataFrame, table: str = "Table 12") -> Shown:
    """What the copied rate is worth in test accuracy (in per cent), beside that ``table`` of the paper.

    ``runs`` has the column test_accuracy, in [0, 1]. Raises `UserError` as `tidy` and `curves` do; if that column has
    no number for a finished run; if SP or µP is missing; if a width lacks the copied rate.
    """
    frame = tidy(runs.assign(test_accuracy=runs.get("test_accuracy")), ["test_accuracy"])
    scores = 100 * frame["test_accuracy"].astype(float).where(np.isfinite(frame["train_loss"]), 0.0)
    if scores.isna().any():
        raise UserError(f"{int(scores.isna().sum())} finished runs have no test_accuracy.")
    if absent := {"sp", "mup"} - set(frame["parametrization"]):
        raise UserError(f"the runs table has no {' and no '.join(sorted(absent))}; accuracy is compared between both.")
    losses, accuracies = curves(frame), curves(frame.assign(train_loss=scores))
    rows, widest = [], {}
    for name in ("sp", "mup"):
        base = losses[name][0]
        for loss, score in zip(losses[name], accuracies[name], strict=True):
            rate, own = (float(c.log2_lr[c.loss.mean(axis=0).argmin()]) for c in (base, loss))
            if rate not in loss.log2_lr:
                raise UserError(f"{name} at width {loss.width} lacks the copied learning rate 2^{rate:g}; run it too.")
            copied, best = (score.loss[:, list(loss.log2_lr).index(x)] for x in (rate, own))
            cells = (power(rate, 1), Estimate.mean(copied).brief(), f"{Estimate.mean(best).brief()} at {power(own, 1)}")
            rows.append((label(name), str(loss.width), *cells))
        widest[name] = copied
    apart = Estimate.mean(widest["mup"] - widest["sp"])
    verdict = "higher" if apart.low > 0 else "lower" if apart.high < 0 else "undecided"
    words = [f"{label(name)} {Estimate.mean(widest[name]).brief()}%" for name in ("mup", "sp")]
    line = (
        f"test accuracy at width {loss.width} with the learning rate copied from width {base.width}: "
        f"{', '.join(words)}; µP is {verdict}: difference {apart.brief()} points ({counted([len(copied)], 'seed')})."
    )
    rows_of_paper = published.rows(table_or_figure=table)
    theirs = [(f"{p.setup}: {p.metric}".replace("muP", "µP"), f"{p.value} {p.unit}".strip()) for p in rows_of_paper]
    header = ("", "width", "copied LR", "its test accuracy (%)", "at the width's own best LR (%)")
    parts = ["## What is copying worth?", f"- {line}", grid(header, rows), f"{table} of the paper:"]
    parts += [grid(("", "the paper"), theirs), f"Rule: {ACCURACY_RULE}"]
    what = "accuracy in µP less that in SP, at the widest"
    part = Part.of(what, f"{verdict}, {apart.full()} points", verdict, "higher")
    return Shown([line], "\n\n".join(parts), Claim(table, MORE_ACCURATE, (part,)))


BESIDE: dict[str, Callable[[FigureFolder], Shown]] = {
    "learning": read_learning,
    "coordinates": read_coordinates,
    "accuracy": lambda folder: accuracy(folder.runs, str(folder["accuracy"])),
}
"""Key of the provenance -> what the folder then shows beside its figure (of curves.csv, of coordinates.csv, of a table
of the paper, such as Table 12)."""


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
        raise UserError(f"{folder / 'runs.csv'} lacks {len(gap)} runs, first {cell(KEY, gap[0])}; run the sweep again.")
    report = transfer_report(runs)
    others = tuple(read(figure) for name, read in BESIDE.items() if name in provenance)
    pictures = {"lr_vs_loss": "Training loss against learning rate, one line per width"}
    pictures |= {stem: what for other in others for stem, what in other.pictures.items()}
    widths, rates = frame["width"].unique(), frame["log2_lr"]
    ours = {"widths": ",".join(map(str, sorted(widths))), "log2lr_ticks": f"{rates.min():g}..{rates.max():g}"}
    settings = runs.filter(["base_width", "batch", "steps", "optimizer"])
    ours |= {name: str(column.iloc[0]) for name, column in settings.items() if column.nunique() == 1}
    claims = "; ".join(f"{label(r.name)} {r.verdict}, {r.slope.full()} octaves per doubling" for r in report.results)
    unknown = [(r, what, getattr(r, name).reason) for r in report.results for what, name in MEASURES.items()]
    reasons = [f"- {label(r.name)}: {what}: {why}." for r, what, why in unknown if why]
    parts = [
        *figure.heading(f"{report.seeds} at every point"),
        "## Best learning rate of every width",
        grid(report.table[0], report.table[1:]),
        "## Does it transfer?",
        _drift(report),
        "\n".join(f"- {result.sentence}" for result in report.results),
        *(["Not known, and why:", "\n".join(reasons)] if reasons else []),
        *figure.beside_the_paper(claims, ours),
        *(other.section for other in others),
        *(["## The rule of thumb of section 6.1", rule_of_thumb(runs)] if "length" in runs.columns else []),
        "## How to read it",
        f"{READING}{report.seeds}; the bootstrap resamples a seed's whole curve as one.",
    ]
    summary = "\n".join([str(report), *(line for other in others for line in other.lines)])
    return Described(figure, Sweep(runs, report, others), summary, parts, pictures)


def _drift(report: TransferReport) -> str:
    header = ("", "verdict", "drift (octaves per doubling)", "E (octaves)", "kappa", "L(inf)", "R(inf)")
    rows = []
    for r in report.results:
        used = "" if r.kappa_widths == len(r.widths) else f" ({r.kappa_widths} of {len(r.widths)} widths)"
        cells = (r.slope.full(), r.E.full(), r.kappa.full() + used, r.l_inf.full(3), r.r_inf.full(3))
        rows.append((label(r.name), f"**{r.verdict}**", *cells))
    return grid(header, rows)


def _draw(described: Described[Sweep]) -> list[Path]:
    figure, sweep = described.folder, described.report
    words = f"Lines: {points(sweep.transfer.seeds)}. "
    words += "In the titles: slope of log2 LR* against log2 width with its 95% bootstrap interval."
    options = {"banner": figure.banner, "ceiling": figure.provenance.get("loss_ceiling"), "y_label": figure["y_label"]}
    paths = lr_figure(sweep.runs, sweep.transfer, figure.path, caption=figure.caption(words), **options)
    return paths + [path for other in sweep.others for path in other.draw(figure)]


def lr_figure(
    runs: pd.DataFrame, report: TransferReport, out: Path, *, y_label: str = "training loss (nats)", **options: Any
) -> list[Path]:
    """The paper's Figures 1, 3 and 9: draw ``out/lr_vs_loss.png`` and ``.svg`` and return their paths.

    ``runs`` is the table that ``report`` was made of, ``y_label`` names the loss and its unit; options: ``caption``,
    ``banner`` (a warning across the top) and ``ceiling`` (a loss above which nothing is drawn) of `curve_figure`.
    """
    table = curves(tidy(runs))
    panels = [
        CurvePanel(
            lines={curve.width: curve for curve in table[name]},
            line_name="width",
            x_label=r"$\log_2$ learning rate",
            y_label=y_label,
            title=_title_lines(result),
            mark=partial(_draw_optima, table[name], report.optima.query("parametrization == @name")),
            column=column,
        )
        for column, (name, result) in enumerate(report.parametrizations.items())
    ]
    return curve_figure(panels, out, "lr_vs_loss", signs=_signs(report.optima), **options)


def _draw_optima(lines: Sequence[Curves], optima: pd.DataFrame, axes: Axes, looks: Mapping[float, Look]) -> None:
    """Stars with their intervals, and the smallest width's choice as a dashed line."""
    axes.axvline(float(optima["transferred_log2_lr"].iloc[0]), **TRANSFERRED, zorder=1)
    for curve, optimum in zip(lines, optima.itertuples(), strict=True):
        color = "white" if optimum.on_edge else looks[curve.width]["color"]
        y = star(axes, curve, optimum.log2_lr, optimum.loss, color)
        if not pd.isna(optimum.low):
            bar: Look = {"color": "black", "linewidth": 1.1, "markersize": 6}
            axes.plot([optimum.low, optimum.high], [y, y], "|-", **bar, zorder=4)


def title(result: DriftResult) -> str:
    """``SP: drifts, -0.75 [-0.81, -0.70] octaves per doubling``."""
    return f"{label(result.name)}: {result.verdict}, {result.slope.brief()} octaves per doubling".replace("-", MINUS)


def _title_lines(result: DriftResult) -> list[tuple[str, Look]]:
    verdict, slope = title(result).split(", ", 1)
    lines: list[tuple[str, Look]] = [(verdict, {"fontweight": "bold"}), (f"{slope} of width", {"fontsize": 8})]
    if sides := [f"{width} ({side})" for width, side in result.edges]:
        edge = f"optimum on the edge of the grid at width {listing(sides)}"
        lines.append((edge, {"color": WARNING, "fontsize": 7.5}))
    return lines


def _signs(optima: pd.DataFrame) -> list[Entry]:
    """Of the legend: those that occur in this figure."""
    mark: Look = {"color": "black", "marker": "*", "markersize": 8}
    point: Look = {**mark, "linestyle": "none"}
    has_none = optima["low"].isna().all()
    signs: list[Entry] = [("optimum", point) if has_none else ("optimum, 95% interval", {**mark, "linewidth": 1.0})]
    if optima["on_edge"].any():
        signs.append(("optimum on the edge of the grid", {**point, "markerfacecolor": "white"}))
    return [*signs, (f"best LR of width {optima['width'].min()}", TRANSFERRED)]


def _claims(described: Described[Sweep]) -> list[Claim]:
    """The best learning rate over widths, and what else the folder shows (Figures 5 and 7, Table 12)."""
    expected = {"sp": ("SP: the best learning rate moves", "drifts"), "mup": ("µP: it stays", "stable")}
    parts = []
    for r in described.report.transfer.results:
        what, verdict = expected.get(r.name, (label(r.name), None))
        parts.append(Part.of(what, f"{r.verdict}, {r.slope.full()} octaves per doubling", r.verdict, verdict))
    return [described.folder.claim(parts), *(other.claim for other in described.report.others)]


SWEEP = Kind("sweep", describe_sweep, _draw, _claims)
"""A folder with ``lr_vs_loss.png``, ``lr_vs_loss.svg``, ``table.md``, and what else of `BESIDE` its provenance has.

Also optional in the provenance are ``log2_lrs`` (the planned grid, which every width must then have), ``loss_ceiling``
(no loss above it is drawn), ``stands_in_for`` (what stand-in data replaces), ``notes`` (a list of remarks), and
``paper.ours`` (metric of the published values -> ours). Raises `UserError` if a file is missing or malformed, or if a
run of the complete table is missing: it names which.
"""
