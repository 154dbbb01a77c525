"""Test accuracy against the length of training: do short trainings say what a long one reaches?

The rule, declared before any result, is `RULE`. Test errors are in per cent, and b is scanned as in `quality`. A length
within 1% is the recipe's own, since what drops the last, partial batch of an epoch trains a little less than it counts.
Where the fit of any seed has no prediction there is none at all: the other seeds alone would be a choice of the lucky.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mutransfer.errors import UserError
from mutransfer.results.draw.page import LETTER, SMALL, Axes, PageOfRows, set_ticks, sign
from mutransfer.results.draw.style import MINUS, MUTED, Look, palette, paper_style
from mutransfer.results.estimate import Array, Estimate, counted, number
from mutransfer.results.folder import Claim, Described, FigureFolder, Kind, Part, grid
from mutransfer.results.frame import PanelAxis, read_panels
from mutransfer.results.transfer import EXPONENTS, LIMIT_WIDTHS, PowerLaw, power_law

COLUMNS = ("panel", "x", "line", "seed", "train_loss", "steps", "batch", "test_accuracy")
FEWEST = LIMIT_WIDTHS
"""Lengths for a fit of three parameters."""
SAME = 0.01
"""How far, relatively, a length may be from the recipe's and be it: 97 batches of 512 are 99.3% of 50,000 images."""
RULE = (
    "Length T: steps x batch / training images, in epochs. Accuracy: of the test part after the last step; a diverged "
    "run's counts as 0. The test error of each seed is fitted by E + A T^-b, all lengths with one weight, A > 0 and "
    f"{EXPONENTS[0]:g} < b < {EXPONENTS[-1]:g}; a fit needs {FEWEST} lengths. The longest length is predicted from all "
    f"the others, the recipe's own from all lengths, unless it was run (to within {SAME:.0%}: a partial batch is "
    "dropped). Means over seeds with their 95% t intervals; the difference, predicted less measured, is paired by "
    "seed. No prediction where the fit of any seed has A <= 0 or b on its bound."
)


@dataclass(frozen=True)
class Length:
    """What one length of training reached, over seeds."""

    steps: int
    epochs: float
    accuracy: Estimate
    """Of the test part, in per cent."""
    loss: Estimate
    """Final training loss (nats); +inf if a seed diverged."""


@dataclass(frozen=True)
class Prediction:
    """The test accuracy (%) at ``epochs`` from the fit to ``count`` lengths; NaN with a reason where it has none."""

    epochs: float
    count: int
    accuracy: Estimate
    law: PowerLaw
    """Of the test error (%), [S]; empty with too few lengths."""

    @property
    def is_known(self) -> bool:
        return not math.isnan(self.accuracy.value)

    def at(self, epochs: Array) -> Array:
        """[S, X] the fitted accuracies (%) of every seed at ``epochs`` [X]."""
        return 100 - self.law.at(epochs)


@dataclass(frozen=True)
class LengthReport:
    """Every length, shortest first, and what the shorter ones say of the longest and of the recipe's."""

    lengths: tuple[Length, ...]
    seeds: int
    longest: Prediction
    """Of the last of ``lengths``, from all the others."""
    difference: Estimate
    """Predicted less measured, in percentage points."""
    recipe_epochs: float
    recipe: Length | Prediction
    """Measured if it was run, else predicted from all lengths."""

    def __str__(self) -> str:
        last = self.lengths[-1]
        lines = [f"{last.epochs:.3g} epochs, the longest: test accuracy {last.accuracy.brief()}% measured"]
        if self.longest.is_known:
            lines[0] += f", {self.longest.accuracy.brief()}% predicted from the {self.longest.count} shorter lengths"
            lines[0] += f"; difference {self.difference.brief()} points."
        else:
            lines[0] += f"; no prediction from the shorter lengths: {self.longest.accuracy.reason}."
        lines.append(f"{self.recipe_epochs:g} epochs, the recipe's own: ")
        if isinstance(self.recipe, Length):
            lines[1] += f"run, test accuracy {self.recipe.accuracy.brief()}% after {self.recipe.epochs:.3g}."
        elif self.recipe.is_known:
            lines[1] += f"not run; {self.recipe.accuracy.brief()}% predicted from all {self.recipe.count} lengths."
        else:
            lines[1] += f"not run; no prediction: {self.recipe.accuracy.reason}."
        return "\n".join([*lines, *["One seed gives no interval."] * (self.seeds == 1)])


def length_report(runs: pd.DataFrame, *, examples: int, recipe_epochs: float) -> LengthReport:
    """From a runs table with `COLUMNS`, one panel whose lines are steps; ``examples``: training images an epoch has.

    Raises `UserError` as `read_panels` does (failed, double and missing runs are named), and for missing columns,
    several panels, learning rates or batch sizes, lines that are not the steps, a finished run without accuracy, and
    numbers of images and epochs that are none.
    """
    for value, what in ((examples, "training images"), (recipe_epochs, "epochs of the recipe")):
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            raise UserError(f"{value} {what}: a positive number is needed; run the experiment again.")
    if missing := [name for name in COLUMNS if name not in runs.columns]:
        raise UserError(f"the runs table lacks {', '.join(missing)}; it needs the columns {', '.join(COLUMNS)}.")
    panels = read_panels(runs, dict.fromkeys(runs["panel"].astype(str), PanelAxis("steps")))
    panel = next(iter(panels.values()))
    counts = {"panels": len(panels), "learning rates": len(panel.x), "batch sizes": runs["batch"].nunique()}
    for name, count in counts.items():
        if count > 1:
            raise UserError(f"the runs table has {count} {name}; lengths of training are compared at one.")
    if (runs["line"] != runs["steps"]).any():
        raise UserError("the lines of the runs table are not its steps; lengths of training are.")
    loss = np.concatenate([length.loss for length in panel.curves], axis=1)  # [S, T]
    accuracy = _accuracy(runs, np.isinf(loss))
    steps = np.array([*panel.lines])
    epochs = steps * float(runs["batch"].iloc[0]) / examples
    lengths = tuple(
        Length(int(n), float(t), Estimate.mean(right), Estimate.mean(nats))
        for n, t, right, nats in zip(steps, epochs, accuracy.T, loss.T, strict=True)
    )
    longest = _predict(epochs[:-1], accuracy[:, :-1], epochs[-1])
    missed = longest.at(epochs[-1:])[:, 0] - accuracy[:, -1] if longest.is_known else None
    difference = longest.accuracy if missed is None else Estimate.mean(missed)
    own = [length for length in lengths if abs(length.epochs / recipe_epochs - 1) <= SAME]
    recipe = own[0] if own else _predict(epochs, accuracy, recipe_epochs)
    return LengthReport(lengths, len(loss), longest, difference, recipe_epochs, recipe)


def _accuracy(runs: pd.DataFrame, diverged: Array) -> Array:
    """[S, T] in per cent, 0 where ``diverged`` [S, T]; the runs are known to be a full table of (seed, steps)."""
    given = runs[["seed", "steps", "test_accuracy"]].apply(pd.to_numeric, errors="coerce").astype(float)
    table = given.pivot(index="seed", columns="steps", values="test_accuracy")
    accuracy = np.where(diverged, 0.0, table.to_numpy())
    wrong = ~((accuracy >= 0) & (accuracy <= 1))
    if wrong.any():
        seed, length = np.argwhere(wrong)[0]
        raise UserError(
            f"{int(wrong.sum())} finished runs have no test_accuracy in [0, 1], first (steps "
            f"{table.columns[length]:g}, seed {table.index[seed]:g}); run them again."
        )
    return 100 * accuracy


def _predict(epochs: Array, accuracy: Array, at: float) -> Prediction:
    """The accuracy at ``at`` from ``accuracy`` [S, T] at ``epochs`` [T]."""
    if len(epochs) < FEWEST:
        nothing = PowerLaw(*[np.empty(0)] * 3)
        reason = f"a fit needs {FEWEST} lengths, there {'is' if len(epochs) == 1 else 'are'} {len(epochs)}"
        return Prediction(float(at), len(epochs), Estimate(math.nan, reason=reason), nothing)
    law = power_law(epochs, 100 - accuracy)
    value = Estimate.mean(100 - law.at(np.array([at]))[:, 0])
    lost = {"the error does not fall with length": ~law.falls, "b is on its bound": law.falls & law.on_bound}
    if reasons := [f"{words} in {int(k.sum())} of {len(k)} seeds" for words, k in lost.items() if k.any()]:
        reason = " and ".join(reasons) if len(accuracy) > 1 else reasons[0].removesuffix(" in 1 of 1 seeds")
        value = Estimate(math.nan, reason=reason)
    return Prediction(float(at), len(epochs), value, law)


DARK, TEAL, _ = palette(3)
MEASURED: Look = {"color": DARK, "marker": "o", "markersize": 4}
SHORTER: Look = {"color": TEAL, "linestyle": (0, (4, 2)), "linewidth": 1.2}
ALL: Look = {"color": MUTED, "linestyle": (0, (1, 1.5)), "linewidth": 1.4}
HOLLOW: Look = {"markerfacecolor": "white", "markeredgewidth": 1.1, "markersize": 5.5}
MARKS = {"shorter": "D", "all": "s"}
WORDS = {"shorter": "the longest, predicted from the shorter", "all": "the recipe's own, predicted from all"}
BESIDE = 0.025
"""How far right of the measured point its prediction stands, over the width of the axis."""
LAYOUT = replace(
    SMALL,
    gap=0.62,
    ticks=0.42,
    legend_line=0.2,
    title_gap=0.06,
    title_room=0.15,
    between=0.0,
    foot=0.1,
    points=7,
    legend={"fontsize": 7, "handlelength": 3.6, "columnspacing": 1.4, "borderaxespad": 0},
)
PICTURES = {"length": "Test accuracy and training loss against the length of training"}


def describe_length(folder: Path) -> Described[LengthReport]:
    """The table of `LENGTH` in words; raises as it does."""
    figure = FigureFolder.open(folder, ("examples", "recipe_epochs"))
    report = length_report(figure.runs, examples=figure["examples"], recipe_epochs=figure["recipe_epochs"])
    # of our lengths the provenance names one, the usual one
    ours = {"epochs": ", ".join(f"{length.epochs:.3g}" for length in report.lengths), "seeds": str(report.seeds)}
    lines = str(report).split("\n")
    parts = [
        *figure.heading(f"{counted([report.seeds], 'seed')} at every length"),
        "## Do the shorter lengths predict the longest?",
        "\n".join(f"- {line}" for line in lines),
        "## Every length",
        _lengths(report),
        "## The fits",
        _fits(report),
        *figure.beside_the_paper(" ".join(lines), {}, ours),
        "## How to read it",
        f"{RULE} Final training loss: mean over the last 10% of the steps. E and b: means over seeds.",
    ]
    return Described(figure, report, str(report), parts, PICTURES)


def _fitted(report: LengthReport) -> dict[str, Prediction]:
    """The predictions that were asked for, by what they were fitted to."""
    every = {"all": report.recipe} if isinstance(report.recipe, Prediction) else {}
    return {"shorter": report.longest, **every}


def _lengths(report: LengthReport) -> str:
    header = ("steps", "epochs", "test accuracy (%)", "final training loss (nats)")
    rows = []
    for length in report.lengths:
        cells = (f"{length.epochs:.3g}", length.accuracy.brief(), length.loss.brief(4))
        rows.append((str(length.steps), *cells))
    return grid(header, rows)


def _fits(report: LengthReport) -> str:
    header = ("fitted to", "predicts", "predicted (%)", "measured (%)", "difference (points)", "E (%)", "b")
    rows = []
    for key, fit in _fitted(report).items():
        measured = ("-", "-")
        if key == "shorter":
            measured = (report.lengths[-1].accuracy.brief(), report.difference.brief())
        law = [number(float(x.mean())) if fit.is_known else "-" for x in (fit.law.limit, fit.law.exponent)]
        predicted = fit.accuracy.brief() if fit.is_known else f"none: {fit.accuracy.reason}"
        rows.append((f"{key} lengths ({fit.count})", f"{fit.epochs:.3g} epochs", predicted, *measured, *law))
    return grid(header, rows)


def _draw(described: Described[LengthReport]) -> list[Path]:
    report, figure = described.report, described.folder
    page = PageOfRows(2, 2.4, LAYOUT, figure.caption(_caption(report)), figure.banner)
    with paper_style():
        shown = (("Test accuracy", _claim(report), _draw_accuracy), ("Final training loss", "", _draw_loss))
        for column, (title, claim, draw) in enumerate(shown):
            axes = page.axes(0, column)
            _draw_epochs(axes, report, page.panel)
            draw(axes, report)
            page.title(0, column, [(title, {"fontweight": "bold", "fontsize": 8.5}), ("", {})])
            page.title(0, column, [(claim, {})])
        page.legend(0, _signs(report))
        return page.save(figure.path, "length")


def _claim(report: LengthReport) -> str:
    last = report.lengths[-1]
    if not report.longest.is_known:
        return "no prediction of the longest"
    text = f"{last.epochs:.3g} epochs: predicted {number(report.longest.accuracy.value)}, measured "
    return text + f"{number(last.accuracy.value)} (difference {number(report.difference.value).replace('-', MINUS)})"


def _draw_epochs(axes: Axes, report: LengthReport, inches: float) -> None:
    """The log2 axis of both panels, with ticks at the lengths and at what is predicted."""
    predicted = [fit.epochs for fit in _fitted(report).values() if fit.is_known]
    at = sorted({*(length.epochs for length in report.lengths), *predicted})
    margin = 0.08 * max(math.log2(at[-1] / at[0]), 1.0)
    low, high = math.log2(at[0]) - margin, math.log2(at[-1]) + margin
    axes.set_xscale("log", base=2)
    axes.set_xlim(2**low, 2**high)
    axes.set_xticks(at, _words([(math.log2(x) - low) / (high - low) * inches for x in at], at))
    axes.minorticks_off()
    axes.set_xlabel("length of training (epochs)", labelpad=2)
    set_ticks(axes.yaxis, count=6)
    axes.tick_params(labelsize=7, length=2.5, pad=2)


def _words(places: Sequence[float], epochs: Sequence[float]) -> list[str]:
    """The labels of the ticks at ``places`` inches, longest first; none where there is no room."""
    texts, free = [], math.inf
    for place, length in sorted(zip(places, epochs, strict=True), reverse=True):
        text = f"{length:.2g}"
        half = (len(text) + 0.5) * LETTER * 7 / 72 / 2
        has_room = place + half <= free
        texts.append(text if has_room else "")
        free = place - half if has_room else free
    return texts[::-1]


def _draw_points(axes: Axes, report: LengthReport, estimates: Sequence[Estimate]) -> None:
    epochs = np.array([length.epochs for length in report.lengths])
    mean = np.array([estimate.value for estimate in estimates])
    known = np.isfinite(mean)
    style: Look = {"linestyle": "none", "elinewidth": 1.0, "capsize": 2, "zorder": 4}
    axes.errorbar(epochs[known], mean[known], yerr=_bars(estimates)[:, known], **MEASURED, **style)


def _bars(estimates: Sequence[Estimate]) -> Array:
    """[2, K] below and above; 0 where there is no interval."""
    return np.nan_to_num([[e.value - e.low for e in estimates], [e.high - e.value for e in estimates]], posinf=0.0)


def _draw_accuracy(axes: Axes, report: LengthReport) -> None:
    _draw_points(axes, report, [length.accuracy for length in report.lengths])
    low, high = axes.get_xlim()
    for key, fit in _fitted(report).items():
        if not fit.is_known:
            continue
        look = SHORTER if key == "shorter" else ALL
        ends = [report.lengths[0].epochs, report.lengths[-1].epochs, fit.epochs]
        along = np.geomspace(min(ends), max(ends), 200)
        axes.plot(along, fit.at(along).mean(axis=0), **look, zorder=3 if key == "shorter" else 2)
        x = fit.epochs * (high / low) ** (BESIDE if key == "shorter" else 0.0)
        mark: Look = {"linestyle": "none", "marker": MARKS[key], "color": look["color"], **HOLLOW}
        axes.errorbar(x, fit.accuracy.value, yerr=_bars([fit.accuracy]), **mark, elinewidth=1.0, capsize=2, zorder=5)
    bottom, top = axes.get_ylim()
    axes.set_ylim(max(bottom, -2.0), min(top, 102.0))
    axes.set_ylabel("test accuracy (%)", labelpad=2)


def _draw_loss(axes: Axes, report: LengthReport) -> None:
    """Means over seeds; a cross at the upper end where a seed diverged."""
    _draw_points(axes, report, [length.loss for length in report.lengths])
    lost = [length.epochs for length in report.lengths if math.isinf(length.loss.value)]
    cross: Look = {"color": DARK, "markersize": 5, "markeredgewidth": 1.4, "clip_on": False}
    axes.plot(lost, [0.97] * len(lost), "x", **cross, transform=axes.get_xaxis_transform(), zorder=5)
    axes.set_ylabel("final training loss (nats)", labelpad=2)


def _signs(report: LengthReport) -> list[Any]:
    fitted = _fitted(report)
    signs = [sign("measured", linestyle="none", **MEASURED)]
    for key, look in (("shorter", SHORTER), ("all", ALL)):
        if key in fitted and fitted[key].is_known:
            signs.append(sign(WORDS[key], marker=MARKS[key], **look, **HOLLOW))
    if any(math.isinf(length.loss.value) for length in report.lengths):
        signs.append(sign("a seed diverged", color=DARK, linestyle="none", marker="x"))
    return signs


def _caption(report: LengthReport) -> str:
    seeds = counted([report.seeds], "seed")
    text = ["Points: one run a point." if seeds == "1 seed" else f"Points: mean over {seeds}, bars: 95% t interval."]
    if report.longest.is_known:
        text.append(f"Dashed: E + A T^-b fitted to the test error of the {report.longest.count} shorter lengths T;")
        text.append("diamond: what it predicts, beside what was measured.")
    else:
        text.append(f"No prediction of the longest length: {report.longest.accuracy.reason}.")
    if isinstance(report.recipe, Prediction) and report.recipe.is_known:
        text.append(
            f"Dotted: the same for all lengths, up to the recipe's own {report.recipe_epochs:g} epochs (square)."
        )
    elif isinstance(report.recipe, Prediction):
        text.append(f"No prediction of the recipe's {report.recipe_epochs:g} epochs: {report.recipe.accuracy.reason}.")
    return " ".join(text)


def _claims(described: Described[LengthReport]) -> list[Claim]:
    """Accuracies beside the paper's, of another length of training: not judged."""
    first, *more = described.summary.split("\n")
    part = Part("longest", first.split(": ", 1)[1], "not judged")
    return [described.folder.claim([part], counts=" ".join([first, *more]))]


LENGTH = Kind("length", describe_length, _draw, _claims)
"""A folder with ``length.png``, ``length.svg`` and ``table.md``.

Reads only ``folder/runs.csv`` (columns panel, x, line = steps, then a runs table) and ``folder/provenance.json``;
the same two files give the same bytes. The provenance has `KEYS`, ``examples`` (training images) and
``recipe_epochs``; optional are ``stands_in_for``, ``notes`` and ``paper.ours``.

Raises `UserError` if a file is missing or malformed, or as `length_report` does.
"""
