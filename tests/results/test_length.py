"""Accuracy against the length of training: a planted power law is found, and what breaks it is said."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mutransfer.errors import UserError
from mutransfer.results.length import Length, Prediction, length_report

EXAMPLES, BATCH = 1000, 100
STEPS = (5, 10, 20, 40, 80, 160)  # half an epoch to 16


def law(epochs, limit=0.05, amplitude=0.2, exponent=0.6):
    """A test error."""
    return limit + amplitude * epochs**-exponent


def table(error=law, *, steps=STEPS, seeds=1, noise=0.0):
    rng, rows = np.random.default_rng(0), []
    for n in steps:
        epochs = n * BATCH / EXAMPLES
        for seed in range(seeds):
            accuracy = 1 - error(epochs) + noise * rng.normal()
            rows.append(("length", -1.3, n, seed, n, BATCH, "finished", 0.1 + 1 / epochs, accuracy))
    names = ["panel", "x", "line", "seed", "steps", "batch", "status", "train_loss", "test_accuracy"]
    return pd.DataFrame(rows, columns=names)


def report(runs, recipe_epochs=24):
    return length_report(runs, examples=EXAMPLES, recipe_epochs=recipe_epochs)


@pytest.mark.parametrize("exponent", [0.3, 0.6, 1.5])
def test_a_power_law_is_recovered_exactly(exponent):
    """The longest from the shorter, the recipe's from all; limit, amplitude and exponent are the planted ones."""
    found = report(table(lambda epochs: law(epochs, exponent=exponent)))
    assert found.longest.epochs == 16 and found.longest.count == 5
    assert found.longest.accuracy.value == pytest.approx(100 * (1 - law(16, exponent=exponent)), abs=1e-6)
    assert found.difference.value == pytest.approx(0, abs=1e-6)
    assert isinstance(found.recipe, Prediction) and found.recipe.count == 6
    assert found.recipe.accuracy.value == pytest.approx(100 * (1 - law(24, exponent=exponent)), abs=1e-6)
    fit = found.recipe.law
    assert (fit.limit[0], fit.amplitude[0], fit.exponent[0]) == pytest.approx((5, 20, exponent))
    assert found.recipe.at(np.array([0.5, 24]))[0] == pytest.approx(
        100 * (1 - law(np.array([0.5, 24]), 0.05, 0.2, exponent))
    )


def test_every_length_has_its_own_numbers():
    """Epochs, accuracy in per cent and loss; one seed has no interval, and that is said."""
    found = report(table())
    assert [one.epochs for one in found.lengths] == [0.5, 1, 2, 4, 8, 16]
    assert found.lengths[1].accuracy.value == pytest.approx(75) and found.lengths[1].loss.value == pytest.approx(1.1)
    assert math.isnan(found.lengths[1].accuracy.low) and math.isnan(found.difference.low)
    assert found.difference.reason == "one seed gives no interval"
    assert str(found).endswith("One seed gives no interval.")


def test_a_broken_law_is_predicted_wrongly():
    """Four points too low at the longest: the difference says so, with its sign, and nothing calls it right."""
    found = report(table(lambda epochs: law(epochs) + 0.04 * (epochs == 16)))
    assert found.difference.value == pytest.approx(4)
    assert "difference 4.00 points" in str(found)
    assert report(table(lambda epochs: law(epochs) - 0.04 * (epochs == 16))).difference.value == pytest.approx(-4)


def test_intervals_are_students_over_seeds():
    """Each seed is fitted alone; the difference is paired by seed; the order of rows says nothing."""
    runs = table(seeds=4, noise=0.002)
    found = report(runs)
    at = 100 * runs.loc[runs["steps"] == 160, "test_accuracy"]
    measured = found.lengths[-1].accuracy
    assert (measured.low, measured.high) == pytest.approx(stats.t.interval(0.95, 3, at.mean(), stats.sem(at)))
    alone = [report(runs[runs["seed"] == seed]) for seed in range(4)]
    misses = [one.difference.value for one in alone]
    interval = stats.t.interval(0.95, 3, np.mean(misses), stats.sem(misses))
    assert (found.difference.low, found.difference.high) == pytest.approx(interval)
    assert found.recipe.accuracy.value == pytest.approx(np.mean([one.recipe.accuracy.value for one in alone]))
    assert found.seeds == 4 and "One seed" not in str(found)
    assert str(report(runs.sample(frac=1, random_state=1))) == str(found)


@pytest.mark.parametrize("recipe_epochs", [16, 16.1, 15.9])
def test_a_recipe_that_was_run_is_measured(recipe_epochs):
    """16 epochs are those of the recipe's 16.1, which drops a partial batch, but not of its 17."""
    found = report(table(), recipe_epochs)
    assert found.recipe is found.lengths[-1]
    assert f"{recipe_epochs:g} epochs, the recipe's own: run, test accuracy 91.21% after 16." in str(found)
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
    found = report(table(error))
    for one in (found.longest, found.recipe):
        assert math.isnan(one.accuracy.value) and reason in one.accuracy.reason and not one.is_known
    assert math.isnan(found.difference.value) and reason in found.difference.reason
    assert str(found).count("no prediction") == 2
    assert all(math.isfinite(one.accuracy.value) for one in found.lengths)


@pytest.mark.parametrize(("count", "longest", "recipe"), [(1, 0, 0), (3, 0, 0), (4, 0, 1), (5, 1, 1)])
def test_a_fit_needs_four_lengths(count, longest, recipe):
    """So five to predict one of them."""
    found = report(table(steps=STEPS[:count]))
    assert (found.longest.is_known, found.recipe.is_known) == (longest, recipe)
    if not longest:
        assert found.longest.accuracy.reason.startswith("a fit needs 4 lengths, there ")


def test_a_diverged_run_counts_as_zero():
    """Its accuracy, not its fit: no seed is left out of a prediction, so there is none."""
    runs = table(seeds=3, noise=0.001)
    lost = (runs["steps"] == 160) & (runs["seed"] == 1)
    runs.loc[lost, ["status", "train_loss", "test_accuracy"]] = ["diverged", np.inf, np.nan]
    found = report(runs)
    kept = 100 * runs.loc[(runs["steps"] == 160) & ~lost, "test_accuracy"].sum()
    assert found.lengths[-1].accuracy.value == pytest.approx(kept / 3)
    assert math.isinf(found.lengths[-1].loss.value) and math.isnan(found.lengths[-1].loss.low)
    assert found.longest.is_known and found.difference.value > 30
    assert not found.recipe.is_known and "1 of 3 seeds" in found.recipe.accuracy.reason


def test_gaps_and_mixtures_are_named():
    """Doubles, seeds not run everywhere, missing accuracies, failed runs, and what is no figure of lengths."""
    runs = table(seeds=2)
    cell = (runs["steps"] == 20) & (runs["seed"] == 1)
    with pytest.raises(UserError, match=r"1 runs stand twice in the table, first \(length, steps 20, .* seed 1\)"):
        report(pd.concat([runs, runs[cell]]))
    with pytest.raises(UserError, match=r"1 runs are missing: \(length, steps 20, .* seed 1\)"):
        report(runs[~cell])
    for wrong in (np.nan, 91.2):
        with pytest.raises(UserError, match=r"1 finished runs have no test_accuracy .* first \(steps 20, seed 1\)"):
            report(runs.assign(test_accuracy=runs["test_accuracy"].mask(cell, wrong)))
    with pytest.raises(UserError, match="1 of 12 runs failed"):
        report(runs.assign(status=runs["status"].mask(cell, "failed")))
    with pytest.raises(UserError, match="lacks batch, test_accuracy"):
        report(runs.drop(columns=["batch", "test_accuracy"]))
    with pytest.raises(UserError, match="2 batch sizes"):
        report(runs.assign(batch=runs["batch"].mask(cell, 50)))
    with pytest.raises(UserError, match="2 learning rates"):
        report(pd.concat([runs, runs.assign(x=-2.3)]))
    with pytest.raises(UserError, match="2 panels"):
        report(pd.concat([runs, runs.assign(panel="more")]))
    with pytest.raises(UserError, match="not its steps"):
        report(runs.assign(line=runs["line"] / 2))
    with pytest.raises(UserError, match="None epochs of the recipe"):
        report(runs, None)
    with pytest.raises(UserError, match="0 training images"):
        length_report(runs, examples=0, recipe_epochs=24)
