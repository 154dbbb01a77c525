"""Figure 21 is redrawn from committed numbers: the same bytes, its claim in picture and table, or a named gap."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mutransfer.errors import UserError
from mutransfer.reporting.stability import STABILITY

PAPER = {"table_or_figure": "Figure 21", "statement": "Instability is reproduced.", "differs": "narrower."}


@pytest.fixture
def stability(folder):
    """Write the folder: real edges an octave apart, simulated ones ``miss`` octaves higher; the last n diverges."""

    def write(miss=0.3, seeds=2, top=-2.0, change=lambda runs: runs, **more):
        rng, rows = np.random.default_rng(0), []
        for key, shift in (("real", 0.0), ("simulated", miss)):
            for k, width in enumerate((32, 64, 128)):
                for x in np.arange(-9.0, top):
                    off = x - (-5.0 - k + shift)
                    for seed in range(seeds):
                        loss = 2.2 + 0.02 * off**2 + 0.4 * max(off, 0) + 0.002 * rng.normal()
                        loss = np.inf if off > 2.6 else loss
                        status = "diverged" if np.isinf(loss) else "finished"
                        rows.append((key, x, width, seed, status, loss))
        runs = pd.DataFrame(rows, columns=["panel", "x", "line", "seed", "status", "train_loss"])
        return folder(change(runs), **{"paper": PAPER, "threshold": 2.9, **more})

    return write


def test_redrawing_gives_the_same_bytes_in_any_order_of_rows(stability):
    text, paths = STABILITY.redraw(stability())
    assert [path.name for path in paths] == ["stability.png", "stability.svg", "table.md"]
    first = [path.read_bytes() for path in paths]
    again, paths = STABILITY.redraw(stability(change=lambda runs: runs.sample(frac=1, random_state=1)))
    assert ([path.read_bytes() for path in paths], again) == (first, text)


def test_the_claim_stands_in_the_table(stability):
    text, paths = STABILITY.redraw(stability())
    table = paths[-1].read_text()
    assert text.startswith("All 3 widths: predicted; the largest miss is 0.")
    assert "- The widest, n = 128: predicted within 0." in table
    assert "| conclusion | Instability is reproduced. | All 3 widths: predicted" in table
    assert "Threshold: 2.9000, the entropy of the training text's single tokens." in table
    assert "| reverse µTransfer: widths | 256,512,1024,2048,4096,8192 | 32,64,128 |" in table


def test_a_miss_is_not_called_predicted(stability):
    text, paths = STABILITY.redraw(stability(miss=-1.5, seeds=1))
    assert text.startswith("All 3 widths: missed; the largest miss is -1.5")
    assert "missed by 1.5" in paths[-1].read_text()
    assert "One seed gives no interval." in text


def test_a_grid_that_ends_too_early_is_undecided(stability):
    """Nothing broke: the figure is drawn, and claims nothing."""
    text, paths = STABILITY.redraw(stability(top=-6.0))
    assert text.startswith("All 3 widths: undecided.\nn = 32: undecided (neither breaks up to 2^-7).")
    assert "above 2^-7" in paths[-1].read_text()


def test_a_model_that_never_learned_is_drawn_and_named(stability):
    def spoil(runs):
        at = (runs["panel"] == "simulated") & (runs["line"] == 64)
        return runs.assign(status=np.where(at, "diverged", runs["status"]))

    text, paths = STABILITY.redraw(stability(change=spoil))
    assert "n = 64: undecided (the simulated model is above the threshold at its best learning rate)" in text
    assert "| none |" in paths[-1].read_text()


def test_gaps_and_a_missing_threshold_are_named(stability):
    with pytest.raises(UserError, match=r"1 runs are missing: \(simulated, n = 64, x 2\^-6, seed 1\)"):
        cut = "not (panel == 'simulated' and line == 64 and x == -6 and seed == 1)"
        STABILITY.redraw(stability(change=lambda runs: runs.query(cut)))
    with pytest.raises(UserError, match="threshold None is no loss"):
        STABILITY.redraw(stability(threshold=None))
