"""The coordinate check as a picture, in the form of the paper's Figure 5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mutransfer.errors import UserError, unknown
from mutransfer.results.coordinates import TOLERANCE, CoordFrame, against_theory, from_csv
from mutransfer.results.draw.style import (
    MARKERS,
    WARNING,
    WIDTH,
    new_figure,
    palette,
    paper_style,
    save,
    wrapped,
    write_banner,
)
from mutransfer.results.estimate import label, listing, number, span
from mutransfer.results.files import read, stand_in
from mutransfer.results.table import grid

CSV = "coordinates.csv"
MOST_COLUMNS = 4
MOST_NAMED = 6
VERDICT_COLOURS = {"ok": "black", "grows": WARNING, "shrinks": WARNING}
RULE = (
    "The growth exponent is the slope of log2(rms of x_t - x_0) against log2(width), mean over seeds with its 95% t "
    f"interval. An exponent above {TOLERANCE:g} `grows`, below -{TOLERANCE:g} `shrinks`, else it stays. Where theory "
    "expects a change to stay, it must at every step. Where theory expects growth, its exponent is derived for the "
    f"first step at which the quantity moves and must be met there within {TOLERANCE:g}; at every later step the "
    "change must still grow, at whatever rate."
)


def coordinate_figure(
    frames: Sequence[CoordFrame],
    out: Path,
    *,
    activations: Sequence[str] | Mapping[str, str] | None = None,
    caption: str = "",
    banner: str = "",
) -> list[Path]:
    """Draw ``out/coordinate_check.png`` and ``.svg``: a row a frame (SP, µP), a column an activation.

    Each panel shows the root mean square of x_t - x_0 against width, a line a step t, with the growth exponent and the
    verdict of the last step. A dot is a mean over seeds (geometric), the bar its range. Returns the two paths.

    activations: up to four of the frames' names, or a mapping of them to what stands above the panels; default: spread
        over the network, ending with the output.
    banner: a warning across the top (stand-in data).
    Raises `UserError` for no frame, or an activation that a frame does not have.
    """
    if not frames:
        raise UserError("a coordinate figure needs at least one frame of coord_check.")
    names = list(dict.fromkeys(frames[0].data["activation"]))
    shown = list(activations or _spread(names))
    headings = activations if isinstance(activations, Mapping) else dict(zip(shown, shown, strict=True))
    for frame in frames:
        for name in shown:
            if name not in set(frame.data["activation"]):
                raise unknown("activation", name, names)
    steps = sorted(frames[0].data.query("kind == 'change'")["step"].unique())
    text = wrapped(caption, WIDTH - 0.2, 7.5) if caption else ""
    with paper_style():
        figure = new_figure(1.85 * len(frames) + 0.8 + 0.14 * (text.count("\n") + 1) * bool(text) + 0.3 * bool(banner))
        axes = figure.subplots(len(frames), len(shown), sharex=True, sharey="col", squeeze=False)
        for row, frame in zip(axes, frames, strict=True):
            for ax, name in zip(row, shown, strict=True):
                moved = frame.changes(name).dropna(subset="exponent")
                for step, colour, marker in zip(steps, palette(len(steps)), MARKERS, strict=False):
                    _line(ax, frame, name, step, color=colour, marker=marker)
                ax.set_xscale("log", base=2)
                ax.set_yscale("log")
                ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
                ax.yaxis.set_minor_formatter(NullFormatter())
                ax.grid(alpha=0.25, linewidth=0.4)
                if len(moved):
                    fit = moved.iloc[-1]
                    title = f"{headings[name]}\n{fit['verdict']}: width$^{{{fit['exponent']:.2f}}}$"
                    ax.set_title(title, color=VERDICT_COLOURS[fit["verdict"]], fontsize=7)
                else:
                    ax.set_title(f"{headings[name]}\nnever moves", color=WARNING, fontsize=7)
            row[0].set_ylabel(f"{label(frame.parametrization)}, {frame.optimizer}\nrms of $x_t - x_0$", fontsize=7.5)
        for ax in axes[-1]:
            ax.set_xlabel("width")
            ax.set_ylim(_decade(*ax.get_ylim()))  # of a column: they share it
        # what does not move at first has no line for it
        every = [pair for ax in axes.flat for pair in zip(*ax.get_legend_handles_labels()[::-1], strict=True)]
        lines = dict(sorted(every, key=lambda pair: (len(pair[0]), pair[0])))
        figure.legend(
            list(lines.values()), list(lines), loc="outside lower center", ncols=max(len(lines), 1), frameon=False
        )
        if text:
            figure.text(0.1 / WIDTH, 0.005, text, fontsize=7.5, va="bottom")
        height = figure.get_size_inches()[1]
        bottom = (0.68 + 0.14 * (text.count("\n") + 1) * bool(text)) / height
        figure.subplots_adjust(0.1, bottom, 0.99, 1 - (0.33 + 0.3 * bool(banner)) / height, wspace=0.3, hspace=0.35)
        if text:
            figure.legends[0].set_bbox_to_anchor((0.5, (0.03 + 0.14 * (text.count("\n") + 1)) / height))
        write_banner(figure, banner)
        return save(figure, Path(out), "coordinate_check")


def coordinate_section(frames: Sequence[CoordFrame], activations: Mapping[str, str]) -> str:
    """The numbers of the figure in Markdown, without a final newline: the growth exponent of every shown activation
    after every step with its 95% interval, what theory expects, what follows; the reasons and the rule.

    activations: activation -> heading, a quantity of `mutransfer.results.coordinates.ADAM`, perhaps with a comma and
    more behind it (``attention logits, block 2``). Raises `UserError` for an activation or quantity that is unknown.
    """
    tables = [(frame, name, frame.changes(name)) for frame in frames for name in activations]
    steps = sorted({step for _, _, rows in tables for step in rows.index})
    header = ("", "change of", *(f"t = {step}" for step in steps), "theory", "verdict")
    lines, reasons = [], []
    for frame, name, rows in tables:
        quantity = _quantity(activations[name])
        expected = frame.expected(quantity)
        cells = [_cell(rows.loc[step]) if step in rows.index else "-" for step in steps]
        told = against_theory(frame, name, quantity)
        lines.append((label(frame.parametrization), activations[name], *cells, str(expected or "-"), f"**{told}**"))
        if expected:
            reasons.append(f"- {label(frame.parametrization)}, {quantity}, {expected}: {expected.reason}.")
    parts = [
        "## Coordinate check: how fast do changes grow with width?",
        "Growth exponents of the change since init with their 95% intervals (a change is width to this power):",
        grid(header, lines),
    ]
    if reasons:
        optimizers = listing(list(dict.fromkeys(frame.optimizer for frame in frames)))
        parts += [f"The exponent that theory expects, and why ({optimizers}; n: width, d: size of a head):"]
        parts += ["\n".join(dict.fromkeys(reasons))]
    parts += ["All that was measured:", "\n".join(f"- {_all_measured(frame)}" for frame in frames), f"Rule: {RULE}"]
    return "\n\n".join(parts)


def render_coordinates(folder: Path, provenance: Mapping[str, Any]) -> tuple[list[str], list[Path], str]:
    """Redraw ``coordinate_check.png`` and ``.svg`` from ``folder/coordinates.csv``; returns a line a parametrization
    for the terminal, the paths, and the Markdown section for the folder's table.

    ``provenance["coordinates"]`` has ``activations`` (activation -> heading, as `coordinate_section` reads it), and may
    have ``may_shrink_at_init`` (activations) and ``lr`` (parametrization -> base learning rate).
    Raises `UserError` as `from_csv` does, and where the provenance lacks ``coordinates.activations``.
    """
    frames, activations = read_coordinates(folder, provenance)
    paths = redraw_coordinates(folder, provenance, frames, activations)
    return coordinate_lines(frames, activations), paths, coordinate_section(frames, activations)


def redraw_coordinates(
    folder: Path, provenance: Mapping[str, Any], frames: Sequence[CoordFrame], activations: Mapping[str, str]
) -> list[Path]:
    """The figure of what `read_coordinates` read."""
    settings = provenance["coordinates"]
    seeds = max(frame.data["seed"].nunique() for frame in frames)
    rates = settings.get("lr", {})
    lr = ", ".join(f"{label(name)} {rate:g}" for name, rate in rates.items()) if isinstance(rates, Mapping) else rates
    caption = (
        f"Coordinate check, {provenance['title']}, scale '{provenance['scale']}' (after Figure 5 of the paper). Rows: "
        f"{listing([label(frame.parametrization) for frame in frames])}; lines: after t steps. Dots: geometric mean "
        f"over {seeds} seed{'s' if seeds > 1 else ''}, bars: range. In the titles: growth with width at the last step. "
        f"{f'Learning rate: {lr}. ' if lr else ''}Data: {provenance['data_source']}."
    )
    return coordinate_figure(frames, folder, activations=activations, caption=caption, banner=stand_in(provenance))


def read_coordinates(folder: Path, provenance: Mapping[str, Any]) -> tuple[list[CoordFrame], Mapping[str, str]]:
    """The frames of ``folder/coordinates.csv``, and activation -> heading; raises as `render_coordinates` does."""
    settings = provenance.get("coordinates")
    if not isinstance(settings, Mapping) or not isinstance(settings.get("activations"), Mapping):
        raise UserError(f"{folder / 'provenance.json'} lacks coordinates.activations; run the experiment again.")
    activations: Mapping[str, str] = settings["activations"]
    return from_csv(read(folder / CSV), settings.get("may_shrink_at_init", ())), activations


def coordinate_lines(frames: Sequence[CoordFrame], activations: Mapping[str, str]) -> list[str]:
    """A line a parametrization, for the terminal."""
    return [_summary(frame, activations) for frame in frames]


def _summary(frame: CoordFrame, activations: Mapping[str, str]) -> str:
    """``SP: logits grows as theory says (width^0.97 [0.93, 1.01] after step 1), ...``."""
    told = []
    for name, heading in activations.items():
        rows = frame.changes(name).dropna(subset="exponent")
        first = f" (width^{_cell(rows.iloc[0])} after step {rows.index[0]})" if len(rows) else ""
        told.append(f"{heading}: {against_theory(frame, name, _quantity(heading))}{first}")
    return f"Coordinate check, {label(frame.parametrization)}: {'; '.join(told)}."


def _all_measured(frame: CoordFrame) -> str:
    verdict = frame.verdict()
    bad = [f"{name} ({row['verdict']})" for name, row in verdict.items() if row["verdict"] != "ok"]
    head = f"{label(frame.parametrization)}, {len(verdict)} activations measured, values at init and changes: "
    if not bad:
        return head + "every one stays."
    more = f" and {len(bad) - MOST_NAMED} more" if len(bad) > MOST_NAMED else ""
    return f"{head}{len(bad)} of them do not stay: {', '.join(bad[:MOST_NAMED])}{more}."


def _quantity(heading: str) -> str:
    return heading.partition(",")[0]


def _cell(row: Any) -> str:
    """An exponent with its interval, or why there is none."""
    if np.isnan(row["exponent"]):
        return "has not moved"
    if np.isinf(row["exponent"]):
        return "overflows"
    interval = "" if np.isnan(row["low"]) else f" {span(row['low'], row['high'])}"
    return f"{number(row['exponent'])}{interval}"


def _line(ax: Axes, frame: CoordFrame, name: str, step: int, **look: Any) -> None:
    rows = frame.data.query("activation == @name and kind == 'change' and step == @step and rms > 0")
    logs = np.log(
        rows.assign(rms=rows["rms"].replace(np.inf, np.nan)).pivot(index="seed", columns="width", values="rms")
    )
    if logs.empty:
        return  # nothing moved at this step, as behind a readout of zeros
    mean, low, high = (np.exp(part.to_numpy()) for part in (logs.mean(), logs.min(), logs.max()))
    ax.errorbar(logs.columns, mean, [mean - low, high - mean], label=f"t = {step}", elinewidth=0.7, **look)


def _decade(low: float, high: float) -> tuple[float, float]:
    """At least a decade about the same middle: a change that stays must look as if it did."""
    middle, half = np.sqrt(low * high), max(np.sqrt(high / low), np.sqrt(10))
    return float(middle / half), float(middle * half)


def _spread(names: Sequence[str]) -> list[str]:
    inner = [n for n in names if n != "output"]
    count = min(MOST_COLUMNS - 1, len(inner))
    picked = [inner[round(k)] for k in np.linspace(0, len(inner) - 1, count)]
    return [*dict.fromkeys(picked), "output"]
