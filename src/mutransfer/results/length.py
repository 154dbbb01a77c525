"""Test accuracy against the length of training: do short trainings say what a long one reaches?

The rule, declared before any result, is `RULE`. Where the fit of any seed has no prediction there is none at all: the
other seeds alone would be a choice of the lucky.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mutransfer.results.draw.page import Axes, Entry, new_page, write_title
from mutransfer.results.draw.style import MINUS, MUTED, Look, palette, paper_style, save
from mutransfer.results.estimate import Array, Estimate, counted, number
from mutransfer.results.folder import Claim, Described, FigureFolder, Kind, Part, grid
from mutransfer.results.schema import Rows, Schema
from mutransfer.results.transfer import EXPONENTS, LIMIT_WIDTHS, PowerLaw, power_law

SCHEMA = Schema(
    name="the runs table",
    columns={
        **dict.fromkeys(("seed", "steps", "batch"), "whole number"),
        **{"status": "text", "train_loss": "number", "test_accuracy": "number"},
    },
    key=("steps", "seed"),
    rows=(
        Rows(
            name="the figure",
            constant=("panel", "x", "batch", "data_fingerprint"),
            complete={"steps": None, "seed": None},
            results=("train_loss", "test_accuracy"),
        ),
    ),
)
SAME = 0.01
"""How far, relatively, a length may be off the recipe's and be it: 97 batches of 512 are 99.3% of 50,000 images."""
RULE = (
    "Length T: steps x batch / training images, in epochs. Accuracy: of the test part after the last step; a diverged "
    "run's counts as 0. The test error of each seed is fitted by E + A T^-b, all lengths with one weight, A > 0 and "
    f"{EXPONENTS[0]:g} < b < {EXPONENTS[-1]:g}; a fit needs {LIMIT_WIDTHS} lengths. The longest length is predicted "
    f"from all the others, the recipe's own from all lengths, unless it was run (to within {SAME:.0%}: a partial batch "
    "is dropped). Means over seeds with their 95% t intervals; the difference, predicted less measured, is paired by "
    "seed. No prediction where the fit of any seed has A <= 0 or b on its bound."
)


@dataclass(frozen=True)
class Length:
    """What one length of training reached, over seeds."""

    steps: int
    epochs: float
    accuracy: Estimate  # of the test part, in per cent
    loss: Estimate  # final training loss (nats); +inf if a seed diverged


@dataclass(frozen=True)
class Prediction:
    """The test accuracy (%) at ``epochs`` from the fit to ``count`` lengths; NaN with a reason where it has none."""

    epochs: float
    count: int
    accuracy: Estimate
    law: PowerLaw  # of the test error (%), [S]; empty with too few lengths

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
    longest: Prediction  # of the last of ``lengths``, from all the others
    difference: Estimate  # predicted less measured, in percentage points
    recipe_epochs: float
    recipe: Length | Prediction  # measured if it was run, else predicted from all lengths

    @property
    def fits(self) -> dict[str, Prediction]:
        """What was predicted, by what it was fitted to: the ``shorter`` lengths or ``all``."""
        return {"shorter": self.longest, **({"all": self.recipe} if isinstance(self.recipe, Prediction) else {})}

    def __str__(self) -> str:
        last, short, own = self.lengths[-1], self.longest, self.recipe
        longest = f"{short.accuracy.brief()}% predicted from the {short.count} shorter lengths; difference "
        longest += f"{self.difference.brief()} points"
        if not short.is_known:
            longest = f"no prediction from the shorter lengths: {short.accuracy.reason}"
        if isinstance(own, Length):
            recipe = f"run, test accuracy {own.accuracy.brief()}% after {own.epochs:.3g}"
        elif own.is_known:
            recipe = f"not run; {own.accuracy.brief()}% predicted from all {own.count} lengths"
        else:
            recipe = f"not run; no prediction: {own.accuracy.reason}"
        head = f"{last.epochs:.3g} epochs, the longest: test accuracy {last.accuracy.brief()}% measured; {longest}."
        lines = [head, f"{self.recipe_epochs:g} epochs, the recipe's own: {recipe}."]
        return "\n".join([*lines, *["One seed gives no interval."] * (self.seeds == 1)])


def length_report(runs: pd.DataFrame, *, examples: int, recipe_epochs: float) -> LengthReport:
    """From a runs table as `SCHEMA` has it, else raises `UserError`; ``examples``: training images of an epoch."""
    table = SCHEMA.check(runs)
    for name, lost in (("train_loss", np.inf), ("test_accuracy", 0.0)):
        table[name] = table[name].astype(float).mask(table["status"] == "diverged", lost)
    by_length = table.pivot(index="seed", columns="steps", values=["train_loss", "test_accuracy"])
    loss, accuracy = by_length["train_loss"].to_numpy(), 100 * by_length["test_accuracy"].to_numpy()  # [S, T]
    steps = by_length["train_loss"].columns.to_numpy()
    epochs = steps * float(table["batch"].iloc[0]) / examples
    lengths = tuple(
        Length(int(n), float(t), Estimate.mean(right), Estimate.mean(nats))
        for n, t, right, nats in zip(steps, epochs, accuracy.T, loss.T, strict=True)
    )
    longest = _predict(epochs[:-1], accuracy[:, :-1], epochs[-1])
    difference = longest.accuracy
    if longest.is_known:
        difference = Estimate.mean(longest.at(epochs[-1:])[:, 0] - accuracy[:, -1])
    own = [length for length in lengths if abs(length.epochs / recipe_epochs - 1) <= SAME]
    recipe = own[0] if own else _predict(epochs, accuracy, recipe_epochs)
    return LengthReport(lengths, len(loss), longest, difference, recipe_epochs, recipe)


def _predict(epochs: Array, accuracy: Array, at: float) -> Prediction:
    """The accuracy at ``at`` from ``accuracy`` [S, T] at ``epochs`` [T]."""
    if len(epochs) < LIMIT_WIDTHS:
        unknown = Estimate(math.nan, reason=f"a fit needs {LIMIT_WIDTHS} lengths, not {len(epochs)}")
        return Prediction(float(at), len(epochs), unknown, PowerLaw(*[np.empty(0)] * 3))
    law = power_law(epochs, 100 - accuracy)
    value = Estimate.mean(100 - law.at(np.array([at]))[:, 0])
    lost = {"the error does not fall with length": ~law.falls, "b is on its bound": law.falls & law.on_bound}
    if reasons := [f"{words} in {int(k.sum())} of {counted([len(k)], 'seed')}" for words, k in lost.items() if k.any()]:
        value = Estimate(math.nan, reason=" and ".join(reasons))
    return Prediction(float(at), len(epochs), value, law)


DARK, TEAL, _ = palette(3)
MEASURED: Look = {"color": DARK, "marker": "o", "markersize": 4, "linestyle": "none"}
DIVERGED: Look = {"color": DARK, "marker": "x", "markersize": 5, "linestyle": "none"}
HOLLOW: Look = {"markerfacecolor": "white", "markersize": 5.5}
FITS: dict[str, Entry] = {
    "shorter": ("the longest, predicted from the shorter", {"color": TEAL, "linestyle": "--", "marker": "D", **HOLLOW}),
    "all": ("the recipe's own, predicted from all", {"color": MUTED, "linestyle": ":", "marker": "s", **HOLLOW}),
}


def describe_length(folder: Path) -> Described[LengthReport]:
    """The table of `LENGTH` in words; raises as it does."""
    figure = FigureFolder.open(folder)
    report = length_report(figure.runs, examples=figure["examples"], recipe_epochs=figure["recipe_epochs"])
    # of our lengths the provenance names one, the usual one
    ours = {"epochs": ", ".join(f"{length.epochs:.3g}" for length in report.lengths), "seeds": str(report.seeds)}
    lines = str(report).split("\n")
    lengths = [(str(n.steps), f"{n.epochs:.3g}", n.accuracy.brief(), n.loss.brief(4)) for n in report.lengths]
    parts = [
        *figure.heading(f"{counted([report.seeds], 'seed')} at every length"),
        "## Do the shorter lengths predict the longest?",
        "\n".join(f"- {line}" for line in lines),
        "## Every length",
        grid(("steps", "epochs", "test accuracy (%)", "final training loss (nats)"), lengths),
        "## The fits",
        _fits(report),
        *figure.beside_the_paper(" ".join(lines), ours, is_sure=True),
        "## How to read it",
        f"{RULE} Final training loss: mean over the last 10% of the steps. E and b: means over seeds.",
    ]
    picture = "Test accuracy and training loss against the length of training"
    return Described(figure, report, str(report), parts, {"length": picture})


def _fits(report: LengthReport) -> str:
    header = ("fitted to", "predicts", "predicted (%)", "measured (%)", "difference (points)", "E (%)", "b")
    rows = []
    for key, fit in report.fits.items():
        measured = (report.lengths[-1].accuracy.brief(), report.difference.brief()) if key == "shorter" else ("-", "-")
        law = [number(float(x.mean())) if fit.is_known else "-" for x in (fit.law.limit, fit.law.exponent)]
        predicted = fit.accuracy.brief() if fit.is_known else f"none: {fit.accuracy.reason}"
        rows.append((f"{key} lengths ({fit.count})", f"{fit.epochs:.3g} epochs", predicted, *measured, *law))
    return grid(header, rows)


def _draw(described: Described[LengthReport]) -> list[Path]:
    report, figure = described.report, described.folder
    known = {key: fit for key, fit in report.fits.items() if fit.is_known}
    signs = [("measured", MEASURED), *(FITS[key] for key in known)]
    signs += [("a seed diverged", DIVERGED)] * any(math.isinf(length.loss.value) for length in report.lengths)
    seeds, last = report.seeds, report.lengths[-1]
    text = "Points: one run per point." if seeds == 1 else f"Points: mean over {seeds} seeds, bars: 95% t interval."
    text += " Dashed and dotted: E + A T^-b fitted to the test error of the lengths T." * bool(known)
    claim = "no prediction of the longest"
    if "shorter" in known:
        claim = f"{last.epochs:.3g} epochs: predicted {number(report.longest.accuracy.value)}, measured "
        claim += f"{number(last.accuracy.value)} (difference {number(report.difference.value)})".replace("-", MINUS)
    with paper_style():
        words = {"caption": figure.caption(text), "banner": figure.banner}
        page, ((left, right),) = new_page(1, 2, 3.0, legends=[signs], **words, sharex=True)
        for length in report.lengths:
            _mark(left, length.epochs, length.accuracy, MEASURED)
            _mark(right, length.epochs, length.loss, MEASURED)
            if math.isinf(length.loss.value):
                right.plot(length.epochs, 0.97, **DIVERGED, transform=right.get_xaxis_transform())
        for key, fit in known.items():
            look = FITS[key][1]
            along = np.geomspace(report.lengths[0].epochs, max(last.epochs, fit.epochs), 200)
            left.plot(along, fit.at(along).mean(axis=0), **{**look, "marker": "none"})
            _mark(left, fit.epochs * (1.07 if key == "shorter" else 1.0), fit.accuracy, look)  # beside the measured
        left.set_xscale("log", base=2)
        left.xaxis.set_major_formatter("{x:g}")
        left.minorticks_off()
        bottom, top = left.get_ylim()
        left.set(ylim=(max(bottom, -2.0), min(top, 102.0)), ylabel="test accuracy (%)")
        right.set_ylabel("final training loss (nats)")
        for axes, title, told in ((left, "Test accuracy", claim), (right, "Final training loss", "")):
            axes.set_xlabel("length of training (epochs)")
            write_title(axes, (title, {"fontweight": "bold"}), (told, {"fontsize": 7}))
        return save(page, figure.path, "length")


def _mark(axes: Axes, epochs: float, estimate: Estimate, look: Look) -> None:
    """With its interval, where there is one; nothing where the value is not finite."""
    if math.isfinite(estimate.value):
        bars = np.nan_to_num([[estimate.value - estimate.low], [estimate.high - estimate.value]])
        axes.errorbar(epochs, estimate.value, bars, **{**look, "linestyle": "none"}, elinewidth=1, capsize=2, zorder=4)


def _claims(described: Described[LengthReport]) -> list[Claim]:
    """Accuracies beside the paper's, of another length of training: not judged."""
    first, *more = described.summary.split("\n")
    return [described.folder.claim([Part("longest", first.split(": ", 1)[1], "not judged")], " ".join([first, *more]))]


LENGTH = Kind("length", describe_length, _draw, _claims)
"""A folder with ``length.png``, ``length.svg`` and ``table.md``, from ``runs.csv`` (as `SCHEMA` has it) and
``provenance.json``, which has ``examples`` (training images) and ``recipe_epochs``; raises as `length_report` does.
"""
