"""The paper's Figures 1, 3 and 9: training loss against learning rate, a line a width, SP beside µP."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator

from mutransfer.results.draw.style import (
    MARKERS,
    MUTED,
    WARNING,
    WIDTH,
    new_figure,
    palette,
    paper_style,
    save,
    wrapped,
    write_banner,
)
from mutransfer.results.drift import DriftResult
from mutransfer.results.estimate import Array, label, listing, number, span
from mutransfer.results.frame import Curves, curves, tidy
from mutransfer.results.quality import interpolate
from mutransfer.results.transfer import TransferReport

STEM = "lr_vs_loss"
Look = dict[str, Any]
"""Keywords of a line."""
MINUS = "\N{MINUS SIGN}"
"""As matplotlib writes it at the axes."""
CAPTION_POINTS = 7.5
# Inches.
LEFT, RIGHT, GAP, PANEL = 0.62, 0.12, 0.18, 2.75
TITLE_LINE, STRIP_ROW, BELOW, LEGEND_ROW, CAPTION_LINE = 0.15, 0.085, 0.44, 0.17, 0.143
LEGEND_COLUMNS = 7
TRANSFERRED: Look = {"color": MUTED, "linestyle": (0, (2, 2)), "linewidth": 0.9}


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
    """Draw ``out/lr_vs_loss.png`` and ``.svg`` and return their paths.

    ``runs`` is the table that ``report`` was made of, ``y_label`` names the loss and its unit, ``banner`` is
    a warning across the top (stand-in data) and ``ceiling`` a loss above which nothing is drawn (say, that of
    the untrained model). The loss axis ends where the basins stay readable; what lies above is marked by a
    triangle at its upper end, diverged runs by a cross in a strip above it.
    """
    table = curves(tidy(runs))
    names = list(report.parametrizations)
    every = [one for name in names for one in table[name]]
    widths = sorted({one.width for one in every})
    signs = zip(widths, palette(len(widths)), itertools.cycle(MARKERS), strict=False)
    looks: dict[int, Look] = {width: {"color": color, "marker": marker} for width, color, marker in signs}
    limits = loss_limits(every, ceiling)
    grid = np.concatenate([one.log2_lr for one in every])

    with paper_style():
        legends = _legends(looks, report, every, limits[1])
        text = wrapped(caption, WIDTH - LEFT - RIGHT, CAPTION_POINTS)
        page = _Page(
            panels=len(names),
            legend_rows=-(-len(widths) // LEGEND_COLUMNS),
            caption_lines=text.count("\n") + 1,
            strip=STRIP_ROW * (len(widths) + 1) if any(np.isinf(one.loss).any() for one in every) else 0.0,
            title_lines=2 + any(result.edges for result in report.results),
            banner=bool(banner),
        )
        figure = new_figure(page.height)
        for k, name in enumerate(names):
            axes = figure.add_axes(page.box(k, page.below, PANEL), zorder=2)
            axes.patch.set_visible(False)  # the triangles at its upper end reach into the strip above
            axes.set(xlim=(grid.min() - 0.5, grid.max() + 0.5), ylim=limits, xlabel=r"$\log_2$ learning rate")
            axes.xaxis.set_major_locator(MultipleLocator(1 if np.ptp(grid) <= 10 else 2))
            axes.grid(alpha=0.25, linewidth=0.5)
            axes.set_axisbelow(True)
            axes.tick_params(labelleft=k == 0)
            axes.set_ylabel(y_label if k == 0 else "")
            _draw_curves(axes, table[name], report.optima.query("parametrization == @name"), looks)
            if page.strip:
                strip = figure.add_axes(page.box(k, page.below + PANEL, page.strip), sharex=axes)
                _draw_strip(strip, table[name], looks, first=k == 0)
            _write_title(figure, page, k, report.parametrizations[name])
        for handles, row in zip(legends, (0, page.legend_rows), strict=True):
            figure.legend(
                handles=handles,
                loc="upper center",
                bbox_to_anchor=(0.5, (page.below - BELOW - row * LEGEND_ROW) / page.height),
                ncols=-(-len(handles) // (1 if row else page.legend_rows)),
                frameon=False,
                handlelength=1.9,
                columnspacing=1.4,
                borderpad=0,
            )
        low = 0.08 / page.height
        figure.text(LEFT / WIDTH, low, text, fontsize=CAPTION_POINTS, va="bottom", linespacing=1.25)
        write_banner(figure, banner)
        return save(figure, out, STEM)


@dataclass(frozen=True)
class _Page:
    """Where things stand, in inches from the lower left."""

    panels: int
    legend_rows: int
    caption_lines: int
    strip: float
    title_lines: int
    banner: bool

    @property
    def below(self) -> float:
        """The height of all that stands below the panels."""
        return BELOW + (self.legend_rows + 1) * LEGEND_ROW + self.caption_lines * CAPTION_LINE + 0.2

    @property
    def height(self) -> float:
        titles = self.title_lines * TITLE_LINE + 0.12
        return self.below + PANEL + self.strip + titles + (0.3 if self.banner else 0.0)

    @property
    def panel(self) -> float:
        """The width of one panel."""
        return (WIDTH - LEFT - RIGHT - GAP * (self.panels - 1)) / self.panels

    def left(self, k: int) -> float:
        return LEFT + k * (self.panel + GAP)

    def box(self, k: int, bottom: float, tall: float) -> tuple[float, float, float, float]:
        """Axes of panel ``k``, as fractions of the figure."""
        return self.left(k) / WIDTH, bottom / self.height, self.panel / WIDTH, tall / self.height


def title(result: DriftResult) -> str:
    """``SP: drifts, -0.75 [-0.81, -0.70] octaves per doubling``."""
    value = number(result.slope.value)
    interval = "" if np.isnan(result.slope.low) else f" {span(*result.interval)}"
    return f"{label(result.name)}: {result.verdict}, {value}{interval} octaves per doubling".replace("-", MINUS)


def loss_limits(table: list[Curves], ceiling: float | None = None) -> tuple[float, float]:
    """The loss axis: from below the least loss to where a typical curve is two octaves off its optimum, and
    some.
    """
    means = [one.loss.mean(axis=0) for one in table]
    best = np.array([mean.min() for mean in means])
    rise = []
    for one, mean in zip(table, means, strict=True):
        near = (np.abs(one.log2_lr - one.log2_lr[mean.argmin()]) <= 2) & np.isfinite(mean)
        rise.append(mean[near].max() - mean.min())
    top = best.max() + 1.5 * float(np.median(rise))
    finite = np.concatenate([mean[np.isfinite(mean)] for mean in means])
    top = min(top, float(finite.max()), ceiling if ceiling is not None else np.inf)
    bottom = best.min()
    margin = 0.05 * max(top - bottom, 1e-3 * abs(bottom), 1e-9)
    return float(bottom - margin), float(max(top, best.max()) + margin)


def _draw_curves(axes: Axes, table: list[Curves], optima: pd.DataFrame, looks: dict[int, Look]) -> None:
    top = axes.get_ylim()[1]
    axes.axvline(
        float(optima["transferred_log2_lr"].iloc[0]),
        color=MUTED,
        linestyle=(0, (2, 2)),
        linewidth=0.9,
        zorder=1,
    )
    for one, optimum in zip(table, optima.itertuples(), strict=True):
        look, x = looks[one.width], one.log2_lr
        mean = one.loss.mean(axis=0)
        shown = np.where(np.isfinite(mean), mean, np.nan)
        axes.plot(x, shown, **look, markeredgecolor="white", markeredgewidth=0.4, zorder=3)
        for here, there in ((i, j) for i in range(len(x)) for j in (i - 1, i + 1) if 0 <= j < len(x)):
            if shown[here] < top and np.isinf(mean[there]):  # leads the eye to the cross in the strip
                axes.plot(x[[here, there]], [shown[here], top], ":", color=look["color"], linewidth=0.9, zorder=2)
        if len(one.loss) > 1:
            finite = np.where(np.isfinite(one.loss), one.loss, np.nan)
            error = finite.std(axis=0, ddof=1) / np.sqrt(len(one.loss))
            axes.fill_between(x, shown - error, shown + error, color=look["color"], alpha=0.25, linewidth=0, zorder=2)
        over = shown > top
        axes.plot(x[over], np.full(over.sum(), top), "^", color=look["color"], clip_on=False, markersize=4, zorder=3)
        _draw_star(axes, one, mean, optimum, look["color"])


def _draw_star(axes: Axes, one: Curves, mean: Array, optimum: Any, color: str) -> None:
    """The optimum on its curve with its horizontal interval; hollow if it lies on the edge of the tested
    grid.
    """
    y = interpolate(one.log2_lr, mean[None], np.array([optimum.log2_lr]))[0]
    y = optimum.loss if np.isnan(y) else y
    if not np.isnan(optimum.low):
        axes.plot([optimum.low, optimum.high], [y, y], "|-", color="black", linewidth=1.1, markersize=6, zorder=4)
    face = "white" if optimum.on_edge else color
    axes.plot(
        optimum.log2_lr,
        y,
        "*",
        color=face,
        markersize=9,
        markeredgecolor="black",
        markeredgewidth=0.6,
        zorder=5,
    )


def _write_title(figure: Figure, page: _Page, k: int, result: DriftResult) -> None:
    verdict, slope = title(result).split(", ", 1)
    lines: list[tuple[str, Look]] = [
        (verdict, {"fontweight": "bold", "fontsize": 9}),
        (f"{slope} of width", {}),
    ]
    if page.title_lines > 2:
        sides = [f"{width} ({side})" for width, side in result.edges]
        text = f"optimum on the edge of the grid at width {listing(sides)}" if sides else ""
        lines.append((text, {"color": WARNING, "fontsize": 7}))
    bottom = page.below + PANEL + page.strip + 0.07
    for row, (text, font) in enumerate(reversed(lines)):
        figure.text(page.left(k) / WIDTH, (bottom + row * TITLE_LINE) / page.height, text, va="bottom", **font)


def _draw_strip(axes: Axes, table: list[Curves], looks: dict[int, Look], *, first: bool) -> None:
    """A row a width, the narrowest lowest; a cross where runs diverged, faint where not all seeds did."""
    rows = {width: row for row, width in enumerate(looks)}
    for one in table:
        share = np.isinf(one.loss).mean(axis=0)
        for chosen, alpha in ((share == 1, 1.0), ((share > 0) & (share < 1), 0.4)):
            y = np.full(chosen.sum(), rows[one.width])
            cross: Look = {"color": looks[one.width]["color"], "markersize": 3.8, "markeredgewidth": 1.2}
            axes.plot(one.log2_lr[chosen], y, "x", alpha=alpha, **cross)
    axes.set_ylim(-1, len(rows))
    axes.set_yticks([(len(rows) - 1) / 2], ["diverged"] if first else [""])
    axes.tick_params(axis="both", length=0, labelbottom=False)
    axes.set_facecolor("#f2f2f2")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _legends(
    looks: dict[int, Look], report: TransferReport, every: list[Curves], top: float
) -> tuple[list[Line2D], list[Line2D]]:
    """The widths, and the signs that occur in this figure."""
    edge: Look = {"markeredgecolor": "white", "markeredgewidth": 0.4}
    widths = [Line2D([], [], label=f"width {w}", **look, **edge) for w, look in looks.items()]
    star: Look = {"color": "black", "marker": "*", "markersize": 8, "linewidth": 1.0}
    plain: Look = {"color": "black", "linestyle": "none", "markersize": 4}
    optima = report.optima
    if optima["low"].isna().all():
        signs = [Line2D([], [], label="optimum", **{**star, "linestyle": "none"})]
    else:
        signs = [Line2D([], [], label="optimum, 95% interval", **star)]
    if optima["on_edge"].any():
        hollow = {**star, "linestyle": "none", "markerfacecolor": "white"}
        signs.append(Line2D([], [], label="optimum on the edge of the grid", **hollow))
    signs.append(Line2D([], [], label=f"best LR of width {min(looks)}", **TRANSFERRED))
    mean = np.concatenate([one.loss.mean(axis=0) for one in every])
    if (np.isfinite(mean) & (mean > top)).any():
        signs.append(Line2D([], [], marker="^", label="above the axis", **plain))
    share = np.concatenate([np.isinf(one.loss).mean(axis=0) for one in every])
    if share.any():
        faint = " (faint: some seeds)" if ((share > 0) & (share < 1)).any() else ""
        signs.append(Line2D([], [], marker="x", label=f"diverged{faint}", **plain))
    return widths, signs
