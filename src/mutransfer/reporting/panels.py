"""Rows of small panels with shared parts: curves, a strip of diverged runs, a legend a row, a caption."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mutransfer.results.draw.lr_figure import Look
from mutransfer.results.draw.style import MARKERS, WIDTH, palette, write_banner
from mutransfer.results.panels import Panel

SMALL, CAPTION_POINTS = 6.5, 7.5
LETTER = 0.58
"""Width of a letter over the size of its font, on average and with room."""
# Inches.
LEFT, RIGHT, GAP = 0.58, 0.1, 0.13
TITLE_LINE, STRIP_ROW, TICKS, LEGEND, BETWEEN, CAPTION_LINE = 0.125, 0.045, 0.34, 0.15, 0.1, 0.143
"""TICKS: tick labels and axis label below a panel."""
EDGE: Look = {"markeredgecolor": "white", "markeredgewidth": 0.3}


@dataclass(frozen=True)
class Page:
    """Where the rows of panels stand, in inches from the lower left."""

    columns: int
    tall: float
    """Height of a panel."""
    strips: tuple[float, ...]
    """Height of the strip of diverged runs of every row."""
    legends: tuple[int, ...]
    """Lines of the legend of every row."""
    caption_lines: int
    heading: float = 0.0
    banner: float = 0.0
    title_lines: int = 2

    @property
    def panel(self) -> float:
        """The width of one panel."""
        return (WIDTH - LEFT - RIGHT - GAP * (self.columns - 1)) / self.columns

    @property
    def bottom(self) -> float:
        """Lower end of the last legend."""
        return self.caption_lines * CAPTION_LINE + 0.12

    @property
    def height(self) -> float:
        return self.bottom + sum(map(self.row, range(len(self.strips)))) - BETWEEN + 0.05 + self.heading + self.banner

    def row(self, row: int) -> float:
        """Height of a row with its titles and legend."""
        return self.floor_above(row) + self.tall + self.strips[row] + self.title_lines * TITLE_LINE + 0.05 + BETWEEN

    def floor_above(self, row: int) -> float:
        """How far the panels of a row stand above the lower end of its legend."""
        return TICKS + self.legends[row] * LEGEND

    def floor(self, row: int) -> float:
        """Lower end of the panels of ``row``, 0 the uppermost."""
        below = sum(self.row(k) for k in range(row + 1, len(self.strips)))
        return self.bottom + below + self.floor_above(row)

    def top(self, row: int) -> float:
        """Lower end of the titles of ``row``."""
        return self.floor(row) + self.tall + self.strips[row] + 0.05

    def left(self, column: int) -> float:
        return LEFT + column * (self.panel + GAP)

    def box(self, column: int, bottom: float, tall: float) -> tuple[float, float, float, float]:
        """Axes as fractions of the figure."""
        return self.left(column) / WIDTH, bottom / self.height, self.panel / WIDTH, tall / self.height


def line_looks(lines: Sequence[float]) -> dict[float, Look]:
    """Colour and marker of every line value, dark for the smallest."""
    signs = zip(lines, palette(len(lines)), itertools.cycle(MARKERS), strict=False)
    return {value: {"color": color, "marker": marker, "markersize": 2.8} for value, color, marker in signs}


def strip_height(panels: Sequence[Panel]) -> float:
    """What the diverged runs of a row of panels need; 0 if there are none."""
    lines = {value for panel in panels for value in panel.lines}
    diverged = any(np.isinf(one.loss).any() for panel in panels for one in panel.curves)
    return STRIP_ROW * (len(lines) + 1) if diverged else 0.0


def draw_panel(
    figure: Figure,
    page: Page,
    row: int,
    column: int,
    panel: Panel,
    looks: Mapping[float, Look],
    limits: tuple[float, float],
    *,
    x_limits: tuple[float, float],
    first: bool,
) -> Axes:
    """The curves of ``panel`` and the strip above them; only the ``first`` panel of a row has y labels."""
    axes = figure.add_axes(page.box(column, page.floor(row), page.tall), zorder=2)
    axes.patch.set_visible(False)  # the triangles at its upper end reach into the strip above
    axes.set(xlim=x_limits, ylim=limits)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=max(3, round(page.panel / 0.3)), integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL, length=2, pad=1.5, labelleft=first)
    for value, one in zip(panel.lines, panel.curves, strict=True):
        look, mean = looks[value], one.loss.mean(axis=0)
        shown = np.where(np.isfinite(mean), mean, np.nan)
        axes.plot(panel.x, shown, **look, linewidth=1.0, **EDGE, zorder=3)
        if len(one.loss) > 1:
            finite = np.where(np.isfinite(one.loss), one.loss, np.nan)
            error = finite.std(axis=0, ddof=1) / np.sqrt(len(one.loss))
            axes.fill_between(
                panel.x, shown - error, shown + error, color=look["color"], alpha=0.25, linewidth=0, zorder=2
            )
        over = shown > limits[1]
        axes.plot(panel.x[over], np.full(over.sum(), limits[1]), "^", color=look["color"], clip_on=False, markersize=3)
    if any(np.isinf(one.loss).any() for one in panel.curves):
        strip = figure.add_axes(page.box(column, page.floor(row) + page.tall, page.strips[row]), sharex=axes)
        _draw_strip(strip, panel, looks, first=first)
    return axes


def _draw_strip(axes: Axes, panel: Panel, looks: Mapping[float, Look], *, first: bool) -> None:
    """A row a line, the smallest lowest; a cross where runs diverged, faint where not all seeds did."""
    rows = {value: row for row, value in enumerate(looks)}
    for value, one in zip(panel.lines, panel.curves, strict=True):
        share = np.isinf(one.loss).mean(axis=0)
        for chosen, alpha in ((share == 1, 1.0), ((share > 0) & (share < 1), 0.4)):
            y = np.full(chosen.sum(), rows[value])
            cross: Look = {"color": looks[value]["color"], "markersize": 2.8, "markeredgewidth": 0.9}
            axes.plot(panel.x[chosen], y, "x", alpha=alpha, **cross)
    axes.set_ylim(-1, len(rows))
    axes.set_yticks([(len(rows) - 1) / 2], ["diverged"] if first else [""])
    axes.tick_params(axis="both", length=0, labelbottom=False, labelsize=SMALL, pad=1.5)
    axes.set_facecolor("#f2f2f2")
    for spine in axes.spines.values():
        spine.set_visible(False)


def legend_labels(name: str, lines: Sequence[float]) -> list[str]:
    """``width 32``, ``width 64``, ...; the name stands at the first value only where a line has no room for all."""
    full = [f"{name} {value:g}" for value in lines]
    inches = sum(0.45 + len(text) * LETTER * SMALL / 72 for text in full)
    return full if inches < WIDTH - 0.3 else [full[0], *(f"{value:g}" for value in lines[1:])]


def row_legend(figure: Figure, page: Page, row: int, name: str, looks: Mapping[float, Look]) -> None:
    """The line values of a row of panels, below it."""
    texts = legend_labels(name, list(looks))
    handles = [Line2D([], [], label=text, **look, **EDGE) for text, look in zip(texts, looks.values(), strict=True)]
    write_legend(figure, page, (page.floor(row) - TICKS), handles)


def write_legend(figure: Figure, page: Page, top: float, handles: Sequence[Line2D]) -> None:
    """One line of a legend with its upper end at ``top`` inches."""
    figure.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, top / page.height),
        ncols=len(handles),
        frameon=False,
        fontsize=SMALL,
        handlelength=1.7,
        handletextpad=0.5,
        columnspacing=1.2,
        borderpad=0,
        borderaxespad=0,
    )


def write_title(figure: Figure, page: Page, row: int, column: int, lines: Sequence[tuple[str, Look]]) -> None:
    """Lines of text over a panel, the last one lowest."""
    for k, (text, font) in enumerate(reversed(lines)):
        bottom = (page.top(row) + k * TITLE_LINE) / page.height
        figure.text(page.left(column) / WIDTH, bottom, text, va="bottom", **{"fontsize": SMALL, **font})


def write_frame(figure: Figure, page: Page, caption: str, banner: str) -> None:
    """The caption at the bottom and the stand-in banner across the top."""
    figure.text(0.1 / WIDTH, 0.06 / page.height, caption, fontsize=CAPTION_POINTS, va="bottom", linespacing=1.25)
    write_banner(figure, banner)
