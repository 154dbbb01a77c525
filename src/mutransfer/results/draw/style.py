"""One look for every figure of the suite, and the same bytes for the same numbers."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mutransfer.files import write

WIDTH = 7.2
"""Inches: the text width of a two-column paper."""
DPI = 200
MARKERS = "osDvPXph<>"  # not ^, which says "above the axis"
"""Beside the colour, so that a curve is known in greyscale and in print."""
WARNING = "#b00020"
MUTED = "#6b6b6b"
MINUS = "\N{MINUS SIGN}"
"""As matplotlib writes it at the axes."""
Look = dict[str, Any]
"""Keywords of a line, or of a text."""

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same glyphs on every machine
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.6,
    "svg.hashsalt": "mutransfer",  # element ids are random without it
    "svg.fonttype": "path",
}


@contextmanager
def paper_style(*, small: bool = False) -> Iterator[None]:
    """Draw and save inside of this; the caller's own matplotlib settings are untouched. small: for many panels."""
    sizes = {name: 0.85 * value for name, value in RC.items() if isinstance(value, float)} if small else {}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc must not change a committed figure
        matplotlib.rcParams.update(RC | sizes)  # type: ignore[arg-type]
        yield


def palette(count: int, dark: float = 0.0, light: float = 0.85) -> list[str]:
    """``count`` hex colours, dark (narrow) to light (wide): ordered, safe for colour-blind readers and in greyscale.

    dark, light: the part of the map, in [0, 1]; its last sixth is too light on white.
    """
    colours = matplotlib.colormaps["viridis"]
    return [to_hex(colours(dark + (light - dark) * k / max(count - 1, 1))) for k in range(count)]


def wrapped(text: str, inches: float, points: float) -> str:
    """``text`` broken into lines that fit ``inches`` at ``points``; a letter of DejaVu Sans is about 0.53 em wide."""
    return textwrap.fill(" ".join(text.split()), width=int(inches * 72 / (0.53 * points)))


def save(figure: Figure, out: Path, stem: str) -> list[Path]:
    """Write ``out/stem.png`` (200 dpi) and ``out/stem.svg``, without dates or versions in their metadata."""
    if engine := figure.get_layout_engine():  # once, for both files
        engine.execute(figure)
        figure.set_layout_engine("none")
    png, svg = io.BytesIO(), io.BytesIO()
    FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})  # savefig would draw each twice
    FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None, "Creator": None})
    return [write(out / f"{stem}.png", png.getvalue()), write(out / f"{stem}.svg", svg.getvalue())]
