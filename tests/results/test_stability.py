"""Figure 21's claim: edges where they were planted, bounds where the grid ends, the verdict over all widths, drawn."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from mutransfer.errors import UserError
from mutransfer.results.stability import STABILITY, edges, stability_report

X = np.arange(-10.0, -2.0)
INF = math.inf


def curve(edge, *, bottom=-8.0, threshold=3.0, diverges=INF):
    """Loss on `X`: 2 at ``bottom``, linear from there to ``threshold`` at ``edge`` and on; a left side of 0.1 an
    octave.
    """
    loss = np.where(bottom > X, 2 + 0.1 * (bottom - X), 2 + (threshold - 2) * (X - bottom) / (edge - bottom))
    return np.where(diverges <= X, INF, loss)


def table(real, simulated, *, seeds=1, noise=0.0):
    """``real`` and ``simulated`` are width -> curve."""
    rng, rows = np.random.default_rng(0), []
    for key, curves in (("real", real), ("simulated", simulated)):
        for width, losses in curves.items():
            for x, loss in zip(X, losses, strict=True):
                status = "diverged" if math.isinf(loss) else "finished"
                rows += [(key, x, width, seed, status, loss + noise * rng.normal()) for seed in range(seeds)]
    return pd.DataFrame(rows, columns=["panel", "x", "line", "seed", "status", "train_loss"])


def one_edge(losses, threshold=3.0):
    losses = np.asarray(losses, dtype=float)[None]
    return float(edges(X[: losses.shape[1]], losses, np.argmin(losses, axis=1), threshold)[0])


def test_the_edge_is_interpolated_between_grid_points():
    assert one_edge(curve(-5.5)) == pytest.approx(-5.5)
    assert one_edge(curve(-5.0)) == pytest.approx(-5.0)
    assert one_edge([2.5, 2.0, 2.2, 3.2]) == pytest.approx(-7.2)


def test_a_diverged_upper_point_puts_the_edge_halfway():
    assert one_edge([2.5, 2.0, 2.2, INF]) == pytest.approx(-7.5)


def test_only_what_lies_above_the_optimum_counts():
    """Far below the optimum a model has not learned yet: a loss above the threshold there is no instability."""
    assert one_edge([9.0, 4.0, 2.0, 2.5, 3.5]) == pytest.approx(-6.5)
    assert one_edge([2.9, 2.0, 4.0, 2.1, 5.0]) == pytest.approx(-8.5)  # the first crossing is the edge


def test_bounds():
    assert one_edge([2.5, 2.0, 2.9]) == INF
    assert math.isnan(one_edge([4.0, 3.5, 5.0]))
    assert math.isnan(one_edge([INF, INF, INF]))
    assert one_edge([2.5, 2.0, 3.0]) == pytest.approx(-8.0)  # reaching the threshold is enough


def test_predicted_within_the_planted_miss():
    found = stability_report(
        table({64: curve(-4.5), 256: curve(-5.5)}, {64: curve(-4.3), 256: curve(-5.9)}), threshold=3.0
    )
    assert found.verdict == "predicted"
    assert [one.miss.value for one in found.results] == pytest.approx([0.2, -0.4])
    assert (found.largest.width, found.widest.width) == (256, 256)
    assert found.widest.text == "predicted within 0.4 octaves"
    assert "the largest miss is -0.40 octaves, at n = 256" in str(found)
    assert "One seed gives no interval" in str(found)


def test_one_missed_width_is_enough_and_the_widest_is_said_apart():
    found = stability_report(
        table({64: curve(-4.0), 256: curve(-5.5)}, {64: curve(-5.25), 256: curve(-5.5)}), threshold=3.0
    )
    assert [one.verdict for one in found.results] == ["missed", "predicted"]
    assert found.verdict == "missed"
    assert "n = 64: missed by 1.25 octaves." in str(found)
    assert "The widest, n = 256: predicted within 0.0 octaves: real 2^-5.50, simulated 2^-5.50." in str(found)


def test_exactly_one_octave_is_predicted():
    assert stability_report(table({64: curve(-4.0)}, {64: curve(-5.0)}), 3.0).verdict == "predicted"


@pytest.mark.parametrize(
    ("real", "simulated", "verdict", "reason"),
    [
        (curve(9.0), curve(9.0), "undecided", "neither breaks up to 2^-3"),
        (curve(-3.5), curve(9.0), "undecided", "the simulated edge is above the grid, at least 0.5 octaves"),
        (curve(9.0), curve(-5.0), "missed", "the real edge is above the grid, at least 2.0 octaves"),
        (curve(-4.0), np.full(len(X), 4.0), "undecided", "the simulated model is above the threshold"),
    ],
)
def test_a_bound_decides_only_what_it_can(real, simulated, verdict, reason):
    """Two curves that never broke agree on nothing; one that breaks two octaves early is wrong however far the other
    goes.
    """
    found = stability_report(table({64: real}, {64: simulated}), 3.0)
    assert found.verdict == found.widest.verdict == verdict
    assert reason in found.widest.text
    assert math.isnan(found.widest.miss.value) and found.largest is None
    assert reason in str(found)


def test_intervals_come_from_the_seeds():
    runs = table({64: curve(-5.5)}, {64: curve(-5.5)}, seeds=4, noise=0.05)
    found = stability_report(runs, 3.0, draws=400)
    miss = found.widest.miss
    assert miss.low <= miss.value <= miss.high and 0.01 < miss.high - miss.low < 0.8
    shuffled = runs.sample(frac=1, random_state=1)
    assert stability_report(shuffled, 3.0, draws=400).results == found.results


def test_an_interval_beyond_an_octave_is_said():
    """The verdict is on the point estimate; nobody shall read more certainty into it than the seeds give."""
    runs = table({64: curve(-5.5)}, {64: curve(-5.5)}, seeds=2)
    early = (runs["panel"] == "simulated") & (runs["seed"] == 0)
    runs.loc[early, "train_loss"] = np.tile(curve(-7.2), 1)
    found = stability_report(runs, 3.0, draws=400)
    assert found.widest.is_wide
    assert "The interval of the miss reaches beyond 1 octave at n = 64." in str(found)


def test_bad_tables_are_one_line_errors():
    runs = table({64: curve(-5.5), 128: curve(-5.5)}, {64: curve(-5.5), 128: curve(-5.5)})
    for bad, message in (
        (runs.query("not (panel == 'simulated' and line == 128)"), r"widths differ: 128 \(real only\)"),
        (runs.query("panel == 'real'"), "has the panels real and simulated, not real"),
        (
            runs.query("not (panel == 'real' and line == 64 and x == -5)"),
            r"the figure with panel real lacks 1 of 16 runs, first line 64, x -5.0",
        ),
        (runs.assign(x="word"), "stand there twice"),
    ):
        with pytest.raises(UserError, match=message):
            stability_report(bad, 3.0)
    for threshold in ("3", math.nan, INF):
        with pytest.raises(UserError, match="is no loss"):
            stability_report(runs, threshold)


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


def test_the_claim_stands_in_the_table(stability):
    described = STABILITY.describe(stability())
    text, table = described.summary, described.text
    assert text.startswith("All 3 widths: predicted; the largest miss is 0.")
    assert "- The widest, n = 128: predicted within 0." in table
    assert "| conclusion | Instability is reproduced. | All 3 widths: predicted" in table
    assert "Threshold: 2.9000, the entropy of the training text's single tokens." in table
    assert "| reverse µTransfer: widths | 256,512,1024,2048,4096,8192 | 32,64,128 |" in table


def test_a_miss_is_not_called_predicted(stability):
    described = STABILITY.describe(stability(miss=-1.5, seeds=1))
    text = described.summary
    assert text.startswith("All 3 widths: missed; the largest miss is -1.5")
    assert "missed by 1.5" in described.text
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
    with pytest.raises(UserError, match=r"panel simulated lacks 1 of 42 runs, first line 64, x -6.0, seed 1"):
        cut = "not (panel == 'simulated' and line == 64 and x == -6 and seed == 1)"
        STABILITY.describe(stability(change=lambda runs: runs.query(cut)))
    with pytest.raises(UserError, match="threshold None is no loss"):
        STABILITY.describe(stability(threshold=None))
