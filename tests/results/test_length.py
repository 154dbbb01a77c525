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
    with pytest.raises(UserError, match=r"1 runs stand there twice, first panel length, line 20, x -1.3, seed 1"):
        report(pd.concat([runs, runs[cell]]))
    with pytest.raises(UserError, match=r"lacks 1 of 12 runs, first line 20, x -1.3, seed 1"):
        report(runs[~cell])
    for wrong in (np.nan, 91.2):
        with pytest.raises(UserError, match=r"1 finished runs have no test_accuracy .* first \(steps 20, seed 1\)"):
            report(runs.assign(test_accuracy=runs["test_accuracy"].mask(cell, wrong)))
    with pytest.raises(UserError, match="1 runs failed, first panel length, line 20"):
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


PAPER = {
    "table_or_figure": "App G.1.1",
    "statement": "94% after 24 epochs.",
    "differs": "JPEG.",
    "ours": {"epochs": "0.49"},
}
LENGTHS = (48, 97, 194, 388, 970)


@pytest.fixture
def length(folder):
    """Write the folder: a power law of the test error with noise; the last length is ``worse`` by so many points."""

    def write(steps=LENGTHS, seeds=3, worse=0.0, change=lambda runs: runs, **more):
        rng, rows = np.random.default_rng(0), []
        for n in steps:
            epochs = n * 512 / 50_000
            for seed in range(seeds):
                error = 0.06 + 0.15 * epochs**-0.6 + 0.001 * rng.normal() + 0.01 * worse * (n == steps[-1])
                loss = 0.1 + 0.9 * epochs**-0.5 + 0.01 * rng.normal()
                rows.append(("length", -1.32, n, seed, n, 512, "finished", loss, 1 - error))
        names = ["panel", "x", "line", "seed", "steps", "batch", "status", "train_loss", "test_accuracy"]
        facts = {"paper": PAPER, "examples": 50_000, "recipe_epochs": 24}
        return folder(change(pd.DataFrame(rows, columns=names)), **{**facts, **more})

    return write


def test_the_claim_stands_in_the_table(length):
    """Both predictions, every length, and the paper beside ours: its statement, and all our lengths, not the usual."""
    described = LENGTH.describe(length())
    table, lines = described.text, described.summary.split("\n")
    assert len(lines) == 2 and all(f"- {line}" in table for line in lines)
    assert "predicted from the 4 shorter lengths" in lines[0] and "predicted from all 5 lengths" in lines[1]
    assert "| 970 | 9.93 | 90." in table
    assert "| shorter lengths (4) | 9.93 epochs | 9" in table and "| all lengths (5) | 24 epochs | 9" in table
    assert f"| conclusion | 94% after 24 epochs. | {' '.join(lines)} |" in table
    assert "| setup: epochs | 10 | 0.492, 0.993, 1.99, 3.97, 9.93 |" in table and "| setup: seeds | 15 | 3 |" in table
    assert "What differs in ours: JPEG." in table
    assert "STAND-IN" not in table


def test_a_wrong_prediction_is_a_difference(length):
    """The law broken by five points at the longest: predicted too high by about that."""
    difference = float(LENGTH.describe(length(worse=5)).summary.split("; difference ")[1].split(" ")[0])
    assert difference == pytest.approx(5, abs=1)


def lost(runs):
    """One seed of the second length, and all of the third, diverged."""
    at = ((runs["steps"] == 97) & (runs["seed"] == 0)) | (runs["steps"] == 194)
    return runs.assign(status=np.where(at, "diverged", "finished"), test_accuracy=runs["test_accuracy"].mask(at))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"seeds": 1}, "One seed gives no interval."),
        ({"steps": (*LENGTHS, 2328)}, "24 epochs, the recipe's own: run, test accuracy 91."),
        ({"steps": LENGTHS[:3]}, "no prediction: a fit needs 4 lengths, there are 3."),
        ({"steps": LENGTHS[:1], "seeds": 1}, "there is 1"),
        ({"change": lost}, "no prediction: "),
        ({"change": lambda runs: runs.assign(status="diverged")}, "the error does not fall with length"),
        ({"steps": tuple(range(48, 96, 4))}, "0.942 epochs, the longest"),
    ],
)
def test_odd_tables_are_drawn(length, words, more, said):
    """What a small, a wild or a complete experiment leaves is drawn, without a warning, and named."""
    text, paths = LENGTH.redraw(length(**more))
    assert said in text and text.split("\n")[0] in paths[-1].read_text()
    assert {"Test accuracy", "Final training loss", "measured"} <= set(words(paths[1]))
    assert ("| diverged |" in paths[-1].read_text()) == ("change" in more)


def test_gaps_of_a_folder_are_refused(length):
    """A missing run and a missing fact."""
    with pytest.raises(UserError, match="lacks 1 of 15 runs, first line 97"):
        LENGTH.describe(length(change=lambda runs: runs.query("not (steps == 97 and seed == 2)")))
    with pytest.raises(UserError, match="training images: a positive number is needed"):
        LENGTH.describe(length(examples=None))
