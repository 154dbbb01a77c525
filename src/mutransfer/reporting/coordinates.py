"""The coordinate check as a picture, in the form of the paper's Figure 5."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mutransfer.analysis.coordinates import CoordFrame
from mutransfer.analysis.estimate import label
from mutransfer.errors import UserError, unknown
from mutransfer.reporting.style import MARKERS, WARNING, WIDTH, new_figure, palette, paper_style, save, wrapped

MOST_COLUMNS = 4
VERDICT_COLOURS = {"ok": "black", "grows": WARNING, "shrinks": WARNING}


def coordinate_figure(
    frames: Sequence[CoordFrame], out: Path, *, activations: Sequence[str] | None = None, caption: str = ""
) -> list[Path]:
    """Draw ``out/coordinate_check.png`` and ``.svg``: a row a frame (SP, µP), a column an activation.

    Each panel shows the root mean square of x_t - x_0 against width, a line a step t, with the growth exponent and the
    verdict of the last step. A dot is a mean over seeds (geometric), the bar its range. Returns the two paths.

    activations: up to four of the frames' names; default: spread over the network, ending with the output.
    Raises `UserError` for no frame, or an activation that a frame does not have.
    """
    if not frames:
        raise UserError("a coordinate figure needs at least one frame of coord_check.")
    names = list(dict.fromkeys(frames[0].data["activation"]))
    shown = list(activations or _spread(names))
    for frame in frames:
        for name in shown:
            if name not in set(frame.data["activation"]):
                raise unknown("activation", name, names)
    steps = sorted(frames[0].data.query("kind == 'change'")["step"].unique())
    text = wrapped(caption, WIDTH - 0.2, 7.5) if caption else ""
    with paper_style():
        figure = new_figure(1.85 * len(frames) + 0.8 + 0.14 * (text.count("\n") + 1) * bool(text))
        axes = figure.subplots(len(frames), len(shown), sharex=True, sharey="col", squeeze=False)
        for row, frame in zip(axes, frames, strict=True):
            fits = frame.exponents().query("kind == 'change'").groupby("activation").last()
            for ax, name in zip(row, shown, strict=True):
                for step, colour, marker in zip(steps, palette(len(steps)), MARKERS, strict=False):
                    _line(ax, frame, name, step, color=colour, marker=marker)
                ax.set_xscale("log", base=2)
                ax.set_yscale("log")
                ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
                ax.yaxis.set_minor_formatter(NullFormatter())
                ax.grid(alpha=0.25, linewidth=0.4)
                if name in fits.index:
                    fit = fits.loc[name]
                    title = f"{name}\n{fit['verdict']}: width$^{{{fit['exponent']:.2f}}}$"
                    ax.set_title(title, color=VERDICT_COLOURS[fit["verdict"]], fontsize=7)
            row[0].set_ylabel(f"{label(frame.parametrization)}, {frame.optimizer}\nrms of $x_t - x_0$", fontsize=7.5)
        for ax in axes[-1]:
            ax.set_xlabel("width")
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        if text:
            figure.text(0.1 / WIDTH, 0.005, text, fontsize=7.5, va="bottom")
        height = figure.get_size_inches()[1]
        bottom = (0.68 + 0.14 * (text.count("\n") + 1) * bool(text)) / height
        figure.subplots_adjust(0.1, bottom, 0.99, 1 - 0.33 / height, wspace=0.3, hspace=0.35)
        if text:
            figure.legends[0].set_bbox_to_anchor((0.5, (0.03 + 0.14 * (text.count("\n") + 1)) / height))
        return save(figure, Path(out), "coordinate_check")


def _line(ax: Axes, frame: CoordFrame, name: str, step: int, **look: Any) -> None:
    rows = frame.data.query("activation == @name and kind == 'change' and step == @step and rms > 0")
    logs = np.log(
        rows.assign(rms=rows["rms"].replace(np.inf, np.nan)).pivot(index="seed", columns="width", values="rms")
    )
    if logs.empty:
        return  # nothing moved at this step, as behind a readout of zeros
    mean, low, high = (np.exp(part.to_numpy()) for part in (logs.mean(), logs.min(), logs.max()))
    ax.errorbar(logs.columns, mean, [mean - low, high - mean], label=f"t = {step}", elinewidth=0.7, **look)


def _spread(names: Sequence[str]) -> list[str]:
    inner = [n for n in names if n != "output"]
    count = min(MOST_COLUMNS - 1, len(inner))
    picked = [inner[round(k)] for k in np.linspace(0, len(inner) - 1, count)]
    return [*dict.fromkeys(picked), "output"]
