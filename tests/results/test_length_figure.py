"""Accuracy against length is redrawn from committed numbers: the same bytes, its claim in picture and table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mutransfer.errors import UserError
from mutransfer.reporting.length import LENGTH

PAPER = {
    "table_or_figure": "App G.1.1",
    "statement": "94% after 24 epochs.",
    "differs": "JPEG.",
    "ours": {"epochs": "0.49"},
}
STEPS = (48, 97, 194, 388, 970)


@pytest.fixture
def length(folder):
    """Write the folder: a power law of the test error with noise; the last length is ``worse`` by so many points."""

    def write(steps=STEPS, seeds=3, worse=0.0, change=lambda runs: runs, **more):
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


def test_redrawing_gives_the_same_bytes_in_any_order_of_rows(length):
    text, paths = LENGTH.redraw(length())
    assert [path.name for path in paths] == ["length.png", "length.svg", "table.md"]
    first = [path.read_bytes() for path in paths]
    again, paths = LENGTH.redraw(length(change=lambda runs: runs.sample(frac=1, random_state=1)))
    assert ([path.read_bytes() for path in paths], again) == (first, text)


def test_the_claim_stands_in_the_table(length):
    """Both predictions, every length, and the paper beside ours: its statement, and all our lengths, not the usual."""
    text, paths = LENGTH.redraw(length())
    table = paths[-1].read_text()
    lines = text.split("\n")
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
    text, _ = LENGTH.redraw(length(worse=5))
    difference = float(text.split("; difference ")[1].split(" ")[0])
    assert difference == pytest.approx(5, abs=1)


def test_stand_in_data_is_announced(length):
    real = [path.read_bytes() for path in LENGTH.redraw(length())[1]]
    paths = LENGTH.redraw(length(data_is_real=False))[1]
    assert "**STAND-IN DATA, not CIFAR-10**" in paths[-1].read_text()
    assert all(path.read_bytes() != before for path, before in zip(paths, real, strict=True))


def lost(runs):
    """One seed of the second length, and all of the third, diverged."""
    at = ((runs["steps"] == 97) & (runs["seed"] == 0)) | (runs["steps"] == 194)
    return runs.assign(status=np.where(at, "diverged", "finished"), test_accuracy=runs["test_accuracy"].mask(at))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"seeds": 1}, "One seed gives no interval."),
        ({"steps": (*STEPS, 2328)}, "24 epochs, the recipe's own: run, test accuracy 91."),
        ({"steps": STEPS[:3]}, "no prediction: a fit needs 4 lengths, there are 3."),
        ({"steps": STEPS[:1], "seeds": 1}, "there is 1"),
        ({"change": lost}, "no prediction: "),
        ({"change": lambda runs: runs.assign(status="diverged")}, "the error does not fall with length"),
        ({"steps": tuple(range(48, 96, 4))}, "0.942 epochs, the longest"),
    ],
)
def test_odd_tables_are_drawn(length, more, words):
    """What a small, a wild or a complete experiment leaves is drawn, without a warning, and named."""
    text, paths = LENGTH.redraw(length(**more))
    assert words in text and text.split("\n")[0] in paths[-1].read_text()
    assert all(path.stat().st_size for path in paths)
    assert ("| diverged |" in paths[-1].read_text()) == ("change" in more)


def test_gaps_are_refused(length):
    """A missing run, a missing fact, and no table."""
    with pytest.raises(UserError, match=r"1 runs are missing: \(length, steps 97, .* seed 2\)"):
        LENGTH.redraw(length(change=lambda runs: runs.query("not (steps == 97 and seed == 2)")))
    with pytest.raises(UserError, match="no test_accuracy"):
        LENGTH.redraw(length(change=lambda runs: runs.assign(test_accuracy=np.nan)))
    with pytest.raises(UserError, match="training images: a positive number is needed"):
        LENGTH.redraw(length(examples=None))
    folder = length()
    (folder / "runs.csv").unlink()
    with pytest.raises(UserError, match="does not exist"):
        LENGTH.redraw(folder)
