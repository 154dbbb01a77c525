"""A page: rows of panels with their titles, the legends below, the caption at the foot, a banner on top.

Matplotlib's constrained layout says where each of them stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from mutransfer.results.draw.style import DPI, WARNING, WIDTH, Look, wrapped

CAPTION_POINTS, CAPTION_LINE, LEGEND_LINE = 7.5, 0.145, 0.17
"""Size of the caption's letters; inches of its lines and of those of a legend."""
Entry = tuple[str, Look]
"""Of a legend: a label and the look of a line."""


def sheet(height: float, caption: str, banner: str) -> tuple[Figure, SubFigure]:
    """A figure, and its part of ``height`` inches for panels and legends; ``banner`` warns of stand-in data on top."""
    text = wrapped(caption, WIDTH - 0.15, CAPTION_POINTS)
    height += CAPTION_LINE * (text.count("\n") + 1) * bool(text) + 0.3 * bool(banner)
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    figure.set_layout_engine("constrained", h_pad=0.07, hspace=0.0)
    if banner:
        box = {"facecolor": WARNING, "edgecolor": "none", "boxstyle": "square,pad=0.3"}
        figure.suptitle(banner, color="white", fontweight="bold", fontsize=9, bbox=box)
    if text:
        figure.supxlabel(text, x=0.01, ha="left", fontsize=CAPTION_POINTS, linespacing=1.25)
    part: Any = figure.subfigures()
    return figure, part


def legend(part: SubFigure, handles: Iterable[Artist]) -> None:
    """Below the panels; of handles with one label the first."""
    known = dict[str, Artist]()
    for handle in handles:
        known.setdefault(str(handle.get_label()), handle)
    look: Look = {"frameon": False, "borderpad": 0, "borderaxespad": 0.5, "ncols": _columns([*known])}
    part.legend(handles=[*known.values()], loc="outside lower center", **look)


def _columns(labels: Sequence[str]) -> int:
    """How many entries of a legend stand in a line."""
    inches = [0.45 + 0.06 * len(label) for label in labels]
    lines = 1 if sum(inches) < WIDTH - 0.3 else -(-len(labels) // max(int((WIDTH - 0.3) / max(inches)), 1))
    return -(-len(labels) // lines)


def new_page(
    rows: int,
    columns: int,
    tall: float,
    *,
    legends: Sequence[Sequence[Entry]] = (),
    caption: str = "",
    banner: str = "",
    **share: Any,
) -> tuple[Figure, NDArray[Any]]:
    """A figure and its empty panels [rows, columns]; used inside of `paper_style`.

    tall: inches of a row of panels, with its titles and labels. legends: their entries, the first legend on top. share:
    which panels share their axes, as in `Figure.subplots`.
    """
    legends = [entries for entries in legends if entries]
    lines = sum(-(-len(entries) // _columns([label for label, _ in entries])) for entries in legends)
    figure, part = sheet(rows * tall + LEGEND_LINE * lines + 0.15 * len(legends), caption, banner)
    body: Any = part
    for entries in reversed(legends):
        legend(body, [Line2D([], [], label=label, **look) for label, look in entries])
        body = body.subfigures()
    panels = body.subplots(rows, columns, squeeze=False, **share)
    for axes in panels.flat:
        axes.grid(alpha=0.25, linewidth=0.5)
        axes.set_axisbelow(True)
    return figure, panels


def write_title(axes: Axes, *lines: tuple[str, Look]) -> None:
    """Up to three texts above a panel and its strip, one under the other from its left end, each with its own look."""
    for k, (text, look) in enumerate(lines):
        below = "\n" * sum(part.count("\n") + 1 for part, _ in lines[k + 1 :])
        axes.set_title(text + below, loc=("left", "center", "right")[k], **{"x": 0.0, "ha": "left", **look})


def set_ticks(axis: Axis, *, count: int, thousands: bool = False) -> None:
    """Ticks at about ``count`` whole numbers; thousands: labels such as 20k and 3M."""
    axis.set_major_locator(MaxNLocator(nbins=count, integer=True))
    if thousands:
        axis.set_major_formatter(EngFormatter(sep=""))


def log_scales(axes: Axes) -> None:
    """Width in powers of 2, and a size with labels at 1, 2 and 5."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
