"""Accuracy against the length of training: a planted power law is found, what breaks it is said, and drawn."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mutransfer.errors import UserError
from mutransfer.results.length import LENGTH, Length, Prediction, length_report

EXAMPLES, BATCH = 1000, 100
STEPS = (5, 10, 20, 40, 80, 160)  # half an epoch to 16


def law(epochs, exponent=0.6):
    return 0.05 + 0.2 * epochs**-exponent


def table(error=law, *, steps=STEPS, seeds=1, noise=0.0):
    rng, runs = np.random.default_rng(0), pd.DataFrame({"steps": np.repeat(steps, seeds)})
    epochs = runs["steps"] * BATCH / EXAMPLES
    accuracy = 1 - epochs.map(error) + noise * rng.normal(size=len(runs))
    runs = runs.assign(panel="length", x=-1.3, seed=[*range(seeds)] * len(steps), batch=BATCH, status="finished")
    return runs.assign(train_loss=0.1 + 1 / epochs, test_accuracy=accuracy)


def report(runs, recipe_epochs=24):
    return length_report(runs, examples=EXAMPLES, recipe_epochs=recipe_epochs)


@pytest.mark.parametrize("exponent", [0.3, 0.6, 1.5])
def test_a_power_law_is_recovered_exactly(exponent):
    """The longest from the shorter, the recipe's from all; limit, amplitude and exponent are the planted ones."""
    told = report(table(lambda epochs: law(epochs, exponent=exponent)))
    assert (told.longest.epochs, told.longest.count, told.recipe.count) == (16, 5, 6)
    for fit in (told.longest, told.recipe):
        assert fit.accuracy.value == pytest.approx(100 * (1 - law(fit.epochs, exponent=exponent)), abs=1e-6)
    assert told.difference.value == pytest.approx(0, abs=1e-6)
    fit = told.recipe.law
    assert (fit.limit[0], fit.amplitude[0], fit.exponent[0]) == pytest.approx((5, 20, exponent))
    assert told.recipe.at(np.array([0.5]))[0] == pytest.approx(100 * (1 - law(0.5, exponent=exponent)))


def test_every_length_has_its_own_numbers():
    """Epochs, accuracy in per cent and loss; one seed has no interval, and that is said."""
    told = report(table())
    assert [length.epochs for length in told.lengths] == [0.5, 1, 2, 4, 8, 16]
    assert told.lengths[1].accuracy.value == pytest.approx(75) and told.lengths[1].loss.value == pytest.approx(1.1)
    assert math.isnan(told.lengths[1].accuracy.low) and math.isnan(told.difference.low)
    assert told.difference.reason == "one seed gives no interval" and str(told).endswith("One seed gives no interval.")


def test_a_broken_law_is_predicted_wrongly():
    """Four points too low at the longest: the difference says so, with its sign, and nothing calls it right."""
    for points in (4, -4):
        told = report(table(lambda epochs, off=points / 100: law(epochs) + off * (epochs == 16)))
        assert told.difference.value == pytest.approx(points) and f"difference {points}.00 points" in str(told)


def test_intervals_are_students_over_seeds():
    """Each seed is fitted alone; the difference is paired by seed; the order of rows says nothing."""
    runs = table(seeds=4, noise=0.002)
    told = report(runs)
    alone = [report(runs[runs["seed"] == seed]) for seed in range(4)]
    measured, misses = 100 * runs.loc[runs["steps"] == 160, "test_accuracy"], [a.difference.value for a in alone]
    for estimate, values in ((told.lengths[-1].accuracy, measured), (told.difference, misses)):
        interval = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
        assert (estimate.low, estimate.high) == pytest.approx(interval)
    assert told.recipe.accuracy.value == pytest.approx(np.mean([a.recipe.accuracy.value for a in alone]))
    assert "One seed" not in str(told) and str(report(runs.sample(frac=1, random_state=1))) == str(told)


@pytest.mark.parametrize("recipe_epochs", [16, 16.1, 15.9])
def test_a_recipe_that_was_run_is_measured(recipe_epochs):
    """16 epochs are those of the recipe's 16.1, which drops a partial batch, but not of its 17."""
    told = report(table(), recipe_epochs)
    assert f"{recipe_epochs:g} epochs, the recipe's own: run, test accuracy 91.21% after 16." in str(told)
    assert isinstance(report(table(), 17).recipe, Prediction)
    assert isinstance(report(table(), 2).recipe, Length)  # it need not be the longest


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (lambda epochs: 0.3 + 0.01 * epochs, "does not fall"),
        (lambda epochs: 0.3, "does not fall"),
        (lambda epochs: 0.5 - 0.08 * np.log2(epochs), "b is on its bound"),
        (lambda epochs: 0.1 + 0.7 * (epochs == 0.5), "b is on its bound"),
    ],
)
def test_no_prediction_without_a_fall_that_ends(error, reason):
    """An error that stays, rises, falls as a logarithm or in one step has no fit; its lengths are still measured."""
    told = report(table(error))
    for fit in (told.longest, told.recipe):
        assert math.isnan(fit.accuracy.value) and reason in fit.accuracy.reason and not fit.is_known
    assert math.isnan(told.difference.value) and reason in told.difference.reason
    assert str(told).count("no prediction") == 2
    assert all(math.isfinite(n.accuracy.value) for n in told.lengths)


@pytest.mark.parametrize(("count", "longest", "recipe"), [(1, 0, 0), (3, 0, 0), (4, 0, 1), (5, 1, 1)])
def test_a_fit_needs_four_lengths(count, longest, recipe):
    """So five to predict one of them."""
    told = report(table(steps=STEPS[:count]))
    assert (told.longest.is_known, told.recipe.is_known) == (longest, recipe)
    assert (f"a fit needs 4 lengths, not {count - 1}" in told.longest.accuracy.reason) == (not longest)


def test_a_diverged_run_counts_as_zero():
    """Its accuracy, not its fit: no seed is left out of a prediction, so there is none."""
    runs = table(seeds=3, noise=0.001)
    lost = (runs["steps"] == 160) & (runs["seed"] == 1)
    runs.loc[lost, ["status", "train_loss", "test_accuracy"]] = ["diverged", np.inf, np.nan]
    told = report(runs)
    kept = 100 * runs.loc[(runs["steps"] == 160) & ~lost, "test_accuracy"].sum()
    assert told.lengths[-1].accuracy.value == pytest.approx(kept / 3) and math.isinf(told.lengths[-1].loss.value)
    assert told.longest.is_known and told.difference.value > 30
    assert not told.recipe.is_known and "1 of 3 seeds" in told.recipe.accuracy.reason


def at(column, value):
    return lambda runs: runs.assign(**{column: runs[column].mask((runs["steps"] == 20) & (runs["seed"] == 1), value)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda runs: pd.concat([runs, runs[5:6]]), "1 runs stand there twice, first steps 20, seed 1"),
        (lambda runs: runs.drop(index=5), "lacks 1 of 12 runs, first steps 20, seed 1"),
        (at("test_accuracy", np.nan), "1 runs of the figure finished without a test_accuracy, first steps 20, seed 1"),
        (at("status", "failed"), "1 runs failed, first steps 20, seed 1"),
        (lambda runs: runs.drop(columns=["batch", "test_accuracy"]), "lacks batch, test_accuracy"),
        (at("batch", 50), r"differ in batch \(100, 50\)"),
        (at("x", -2.3), "differ in x"),
        (at("panel", "more"), "differ in panel"),
    ],
)
def test_gaps_and_mixtures_are_named(change, message):
    """Lengths of training are compared at one setting, of complete seeds."""
    with pytest.raises(UserError, match=message):
        report(change(table(seeds=2)))


PAPER = {"table_or_figure": "App G.1.1", "statement": "94% after 24 epochs.", "differs": "JPEG."}
FACTS = {"paper": PAPER | {"ours": {"epochs": "0.49"}}, "examples": EXAMPLES, "recipe_epochs": 24}


def test_the_claim_stands_in_the_table(folder):
    """Both predictions, every length, and the paper beside ours: its statement, and all our lengths, not the usual."""
    described = LENGTH.describe(folder(table(seeds=3, noise=0.001), **FACTS))
    told, lines = described.text, described.summary.split("\n")
    assert len(lines) == 2 and all(f"- {line}" in told for line in lines)
    assert "predicted from the 5 shorter lengths" in lines[0] and "predicted from all 6 lengths" in lines[1]
    assert "| 160 | 16 | 91." in told
    assert "| shorter lengths (5) | 16 epochs | 9" in told and "| all lengths (6) | 24 epochs | 9" in told
    assert f"| conclusion | 94% after 24 epochs. | {' '.join(lines)} |" in told
    assert "| setup: epochs | 10 | 0.5, 1, 2, 4, 8, 16 |" in told and "| setup: seeds | 15 | 3 |" in told
    assert "What differs in ours: JPEG." in told
    with pytest.raises(UserError, match="lacks examples"):
        LENGTH.describe(folder(table(), **{**FACTS, "examples": None}))


LOST = table(seeds=3).assign(status=lambda runs: np.where(runs["steps"] == 20, "diverged", "finished"))


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        (table(), "One seed gives no interval."),
        (table(steps=(*STEPS, 240), seeds=3, noise=0.001), "24 epochs, the recipe's own: run, test accuracy 9"),
        (table(steps=STEPS[:3]), "no prediction: a fit needs 4 lengths, not 3."),
        (table(steps=STEPS[:1]), "not 1."),
        (LOST, "no prediction: "),
        (LOST.assign(status="diverged"), "the error does not fall with length"),
        (table(steps=range(5, 10)), "0.9 epochs, the longest"),
    ],
)
def test_odd_tables_are_drawn(folder, words, runs, said):
    """What a small, a wild or a complete experiment leaves is drawn, without a warning, and named."""
    text, paths = LENGTH.redraw(folder(runs, **FACTS))
    assert said in text and text.split("\n")[0] in paths[-1].read_text()
    assert {"Test accuracy", "Final training loss", "measured"} <= set(words(paths[1]))
    assert ("| diverged |" in paths[-1].read_text()) == ("diverged" in set(runs["status"]))
