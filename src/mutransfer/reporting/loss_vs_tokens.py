"""The paper's Figure 8: training loss against tokens, a line a width, at fixed hyperparameters (wider is better)."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from mutransfer.analysis.estimate import label, power
from mutransfer.analysis.learning import LearningReport
from mutransfer.reporting.learning import VERDICT_COLOURS, loss_limits, write_banner
from mutransfer.reporting.lr_figure import Look
from mutransfer.reporting.style import MARKERS, MUTED, WARNING, WIDTH, new_figure, palette, paper_style, save, wrapped

STEM = "loss_vs_tokens"
POINTS = 7.5
EDGE: Look = {"markeredgecolor": "white", "markeredgewidth": 0.4}
PLAIN: Look = {"color": "black", "linestyle": "none"}
# Inches.
LEFT, RIGHT, TALL, ROW, TITLE, BELOW, LEGEND, CAPTION_LINE = 0.62, 0.15, 2.7, 0.07, 0.42, 0.46, 0.18, 0.143


def loss_vs_tokens(report: LearningReport, *, out: Path, caption: str = "", banner: str = "") -> list[Path]:
    """Draw ``out/loss_vs_tokens.png`` and ``.svg``; returns the two paths.

    Lines are means over seeds, bands their standard error; a line ends in a cross where the first seed diverged. The
    strip above has a row a pair of adjacent widths, the narrowest lowest, with a tick at every violation.
    """
    signs = zip(report.widths, palette(len(report.widths)), itertools.cycle(MARKERS), strict=False)
    looks: dict[int, Look] = {width: {"color": color, "marker": marker} for width, color, marker in signs}
    limits = loss_limits([report])
    with paper_style():
        text = wrapped(caption, WIDTH - 0.2, POINTS)
        lines = (text.count("\n") + 1) * bool(text)
        signs_shown = _signs(report, limits[1])
        floor = 0.12 + lines * CAPTION_LINE + (1 + bool(signs_shown)) * LEGEND + BELOW
        strip = ROW * len(report.widths)
        height = floor + TALL + strip + TITLE + 0.3 * bool(banner)
        figure = new_figure(height)
        where = (LEFT / WIDTH, floor / height, (WIDTH - LEFT - RIGHT) / WIDTH, TALL / height)
        axes = figure.add_axes(where, zorder=2)
        axes.patch.set_visible(False)  # crosses at its upper end reach into the strip above
        last = float(report.tokens[-1])
        axes.set(xlim=(-0.02 * last, 1.02 * last), ylim=limits, xlabel="training tokens", ylabel="training loss (nats)")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(alpha=0.25, linewidth=0.5)
        _draw_curves(axes, report, looks)
        above = (where[0], (floor + TALL) / height, where[2], strip / height)
        _draw_strip(figure.add_axes(above, sharex=axes), report)
        title = f"{label(report.parametrization)} at LR {power(report.log2_lr, 1)}; wider is better: {report.verdict}"
        low = (floor + TALL + strip + 0.06) / height
        font: Look = {"va": "bottom", "color": VERDICT_COLOURS[report.verdict]}
        figure.text(LEFT / WIDTH, low + 0.15 / height, title, fontweight="bold", fontsize=8.5, **font)
        figure.text(LEFT / WIDTH, low, f"the wider model is behind at {report.whole.text}", fontsize=7, **font)
        widths = [Line2D([], [], label=f"width {width}", **look, **EDGE) for width, look in looks.items()]
        for row, handles in enumerate((widths, signs_shown)):
            figure.legend(
                handles=handles,
                loc="upper center",
                bbox_to_anchor=(0.5, (floor - BELOW - row * LEGEND) / height),
                ncols=max(len(handles), 1),
                frameon=False,
                borderpad=0,
                borderaxespad=0,
            )
        figure.text(0.1 / WIDTH, 0.06 / height, text, fontsize=POINTS, va="bottom", linespacing=1.25)
        write_banner(figure, banner)
        return save(figure, Path(out), STEM)


def _draw_curves(axes: Axes, report: LearningReport, looks: dict[int, Look]) -> None:
    top = axes.get_ylim()[1]
    for k, (width, loss, mean) in enumerate(zip(report.widths, report.loss, report.mean, strict=True)):
        alive, color = np.isfinite(mean), looks[width]["color"]
        x, y = report.tokens[alive], mean[alive]
        gap = max(len(mean) // 8, 1)
        axes.plot(x, y, **looks[width], **EDGE, markevery=(gap * k // len(report.widths), gap), zorder=3 + k / 10)
        if report.seeds > 1:
            error = loss[:, alive].std(axis=0, ddof=1) / np.sqrt(report.seeds)
            axes.fill_between(x, y - error, y + error, color=color, alpha=0.25, linewidth=0, zorder=2)
        end = (x[-1], min(y[-1], top)) if len(x) else (report.tokens[0], top)
        sign: Look = {"color": color, "clip_on": False, "zorder": 5}
        if not alive.all():
            axes.plot(*end, "x", markersize=6, markeredgewidth=1.6, **sign)
        elif y[-1] > top:
            axes.plot(*end, "^", markersize=5, **sign)


def _draw_strip(axes: Axes, report: LearningReport) -> None:
    for row, (violation, clear) in enumerate(zip(report.violation, report.clear, strict=True)):
        for chosen, color, low in ((violation & ~clear, MUTED, row + 0.3), (clear, WARNING, row + 0.1)):
            axes.vlines(report.tokens[chosen], low, 2 * row + 1 - low, color=color, linewidth=1.2)
    axes.set_ylim(-0.25, len(report.violation) + 0.25)
    axes.set_yticks([len(report.violation) / 2], ["violations"])
    axes.tick_params(axis="both", length=0, labelbottom=False)
    axes.set_facecolor("#f2f2f2")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _signs(report: LearningReport, top: float) -> list[Line2D]:
    """Those that occur in this figure."""
    found = []
    if (report.violation & ~report.clear).any():
        words = "within the seeds' spread" if report.seeds > 1 else "one seed: no interval"
        mark: Look = {"marker": "|", "markersize": 4, "markeredgewidth": 1.2, "linestyle": "none"}
        found.append(Line2D([], [], color=MUTED, label=f"wider is behind ({words})", **mark))
    if report.clear.any():
        mark = {"marker": "|", "markersize": 7, "markeredgewidth": 1.2, "linestyle": "none"}
        found.append(Line2D([], [], color=WARNING, label="wider is behind, clearly", **mark))
    if report.diverged:
        found.append(Line2D([], [], marker="x", markersize=5, markeredgewidth=1.4, label="diverged", **PLAIN))
    if (np.isfinite(report.mean[:, -1]) & (report.mean[:, -1] > top)).any():
        found.append(Line2D([], [], marker="^", markersize=5, label="ends above the axis", **PLAIN))
    return found
