"""A page of panels: where they stand in inches, their titles and legends, the caption below and the banner on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, MultipleLocator, NullFormatter

from mutransfer.results.draw.style import WIDTH, Look, new_figure, save, wrapped, write_banner

CAPTION_POINTS, CAPTION_LINE = 7.5, 0.143
"""Size of the caption's letters, and height of its lines in inches."""
LETTER = 0.58
"""Width of a letter over the size of its font, on average and with room."""
GREY = "#f2f2f2"


@dataclass(frozen=True)
class Distances:
    """Distances on a page, in inches."""

    left: float = 0.62
    right: float = 0.12
    gap: float = 0.18
    """Between the panels of a row."""
    ticks: float = 0.44
    """Tick labels and axis label below a panel."""
    legend_line: float = 0.17
    title_line: float = 0.15
    title_gap: float = 0.07
    """Between a panel, or its strip, and its title."""
    title_room: float = 0.12
    """Around the titles: their gap, and what is above them."""
    between: float = 0.0
    """Above the titles of a row that another row stands on."""
    foot: float = 0.2
    """Around the caption."""
    caption: tuple[float, float] = (0.62, 0.08)
    """Its lower left corner."""
    points: float = 8.0
    """Of the titles."""
    legend: Look = field(default_factory=lambda: {"handlelength": 1.9, "columnspacing": 1.4})


LARGE = Distances()
"""For one row of two or three panels."""
SMALL = Distances(
    left=0.58,
    right=0.1,
    gap=0.13,
    ticks=0.34,
    legend_line=0.15,
    title_line=0.125,
    title_gap=0.05,
    title_room=0.1,
    between=0.1,
    foot=0.12,
    caption=(0.1, 0.06),
    points=6.5,
    legend={"fontsize": 6.5, "handlelength": 1.7, "handletextpad": 0.5, "columnspacing": 1.2, "borderaxespad": 0},
)
"""For rows of small panels."""


@dataclass(frozen=True)
class Page:
    """One row of panels. Drawn inside of `paper_style`; all sizes in inches."""

    columns: int
    tall: float
    """Height of a panel."""
    layout: Distances
    caption: str = ""
    banner: str = ""
    """A warning across the top (stand-in data)."""
    strips: tuple[float, ...] = (0.0,)
    """Height of the grey strip on the panels of every row."""
    legends: tuple[int, ...] = (1,)
    """Lines of the legend below every row."""
    title_lines: int = 2
    heading: float = 0.0
    """Above the titles of the first row."""

    @cached_property
    def figure(self) -> Figure:
        return new_figure(self.height)

    @cached_property
    def text(self) -> str:
        """The caption in lines."""
        return wrapped(self.caption, WIDTH - self.layout.caption[0] - self.layout.right, CAPTION_POINTS)

    @property
    def panel(self) -> float:
        """The width of one panel."""
        inside = WIDTH - self.layout.left - self.layout.right
        return (inside - self.layout.gap * (self.columns - 1)) / self.columns

    @property
    def height(self) -> float:
        titles = self.title_lines * self.layout.title_line
        return self.floor() + self.tall + self.strips[0] + titles + self.layout.title_room + self._head

    @property
    def _head(self) -> float:
        return self.heading + 0.3 * bool(self.banner)

    @property
    def _caption(self) -> float:
        return (self.text.count("\n") + 1 if self.text else 0) * CAPTION_LINE

    def _below(self, row: int) -> float:
        """How far the panels of a row stand above the lower end of its legend."""
        return self.layout.ticks + self.legends[row] * self.layout.legend_line

    def floor(self, row: int = 0) -> float:
        """The lower end of the panels of a row."""
        return self._below(row) + self._caption + self.layout.foot

    def left(self, column: int) -> float:
        """The left end of a panel."""
        return self.layout.left + column * (self.panel + self.layout.gap)

    def top(self, row: int = 0) -> float:
        """The lower end of the titles of a row."""
        return self.floor(row) + self.tall + self.strips[row] + self.layout.title_gap

    def _box(self, column: int, bottom: float, tall: float) -> tuple[float, float, float, float]:
        """As fractions of the figure."""
        return self.left(column) / WIDTH, bottom / self.height, self.panel / WIDTH, tall / self.height

    def axes(self, row: int, column: int) -> Axes:
        """One panel, with a faint grid."""
        axes = self.figure.add_axes(self._box(column, self.floor(row), self.tall))
        axes.grid(alpha=0.25, linewidth=0.5)
        axes.set_axisbelow(True)
        return axes

    def strip(self, row: int, column: int, axes: Axes, rows: tuple[float, float], label: str, **ticks: float) -> Axes:
        """The grey strip on top of the panel ``axes``; ``label`` stands beside it in the first column.

        rows: its lower and its upper end.
        """
        box = self._box(column, self.floor(row) + self.tall, self.strips[row])
        strip = self.figure.add_axes(box, sharex=axes)
        strip.set_ylim(rows)
        strip.set_yticks([sum(rows) / 2], [label])
        strip.tick_params(axis="both", labelbottom=False, **{**ticks, "length": 0})
        strip.set_facecolor(GREY)
        for spine in strip.spines.values():
            spine.set_visible(False)
        return strip

    def title(self, row: int, column: int, lines: Sequence[tuple[str, Look]]) -> None:
        """Lines of text over a panel, the last one lowest."""
        for k, (text, font) in enumerate(reversed(lines)):
            bottom = (self.top(row) + k * self.layout.title_line) / self.height
            font = {"fontsize": self.layout.points, **font}
            self.figure.text(self.left(column) / WIDTH, bottom, text, va="bottom", **font)

    def legend(self, row: int, handles: Sequence[Line2D], *, line: int = 0, lines: int = 1) -> None:
        """``lines`` lines of the legend of a row, from its ``line`` on."""
        top = self.floor(row) - self.layout.ticks - line * self.layout.legend_line
        self.figure.legend(
            handles=handles,
            loc="upper center",
            bbox_to_anchor=(0.5, top / self.height),
            ncols=-(-len(handles) // max(lines, 1)),
            frameon=False,
            borderpad=0,
            **self.layout.legend,
        )

    def save(self, out: Path, stem: str) -> list[Path]:
        """Write caption and banner, then ``out/stem.png`` and ``.svg``; returns their paths."""
        x, y = self.layout.caption
        font: Look = {"fontsize": CAPTION_POINTS, "va": "bottom", "linespacing": 1.25}
        self.figure.text(x / WIDTH, y / self.height, self.text, **font)
        write_banner(self.figure, self.banner)
        return save(self.figure, Path(out), stem)


class PageOfRows(Page):
    """Rows of panels, counted from the top."""

    @property
    def height(self) -> float:
        above = self.layout.title_room - self.layout.title_gap
        rows = sum(self._row(row) for row in range(len(self.strips)))
        return self._caption + self.layout.foot + rows - self.layout.between + above + self._head

    def _row(self, row: int) -> float:
        titles = self.title_lines * self.layout.title_line
        return self._below(row) + self.tall + self.strips[row] + titles + self.layout.title_gap + self.layout.between

    def floor(self, row: int = 0) -> float:
        rows = sum(self._row(k) for k in range(row + 1, len(self.strips)))
        return self._caption + self.layout.foot + rows + self._below(row)


def sign(label: str, **look: object) -> Line2D:
    """An entry of a legend."""
    return Line2D([], [], label=label, **look)  # type: ignore[arg-type]


def set_ticks(axis: Axis, *, count: int = 0, step: float = 0.0, whole: bool = False, thousands: bool = False) -> None:
    """Ticks at multiples of ``step``, or at about ``count`` places, ``whole``: at whole numbers.

    thousands: labels such as 20k and 3M.
    """
    axis.set_major_locator(MultipleLocator(step) if step else MaxNLocator(nbins=count, integer=whole))
    if thousands:
        axis.set_major_formatter(EngFormatter(sep=""))


def log_scales(axes: Axes) -> None:
    """Width in powers of 2, and a size with labels at 1, 2 and 5."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
