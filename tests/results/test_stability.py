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


def curve(edge, bottom=-8.0):
    """Loss on `X`: 2 at ``bottom``, linear from there to 3 at ``edge`` and on; a left side of 0.1 an octave."""
    return np.where(bottom > X, 2 + 0.1 * (bottom - X), 2 + (X - bottom) / (edge - bottom))


def table(real, simulated, *, seeds=1, noise=0.0):
    """``real`` and ``simulated`` are width -> curve."""
    rng, rows = np.random.default_rng(0), []
    for key, curves in (("real", real), ("simulated", simulated)):
        for width, losses in curves.items():
            for x, loss in zip(X, losses, strict=True):
                rows += [(key, x, width, seed, "finished", loss + noise * rng.normal()) for seed in range(seeds)]
    return pd.DataFrame(rows, columns=["panel", "x", "line", "seed", "status", "train_loss"])


@pytest.mark.parametrize(
    ("losses", "edge"),
    [
        (curve(-5.5), -5.5),
        (curve(-5.0), -5.0),
        ([2.5, 2.0, 2.2, 3.2], -7.2),
        ([2.5, 2.0, 3.0], -8.0),  # reaching the threshold is enough
        ([2.5, 2.0, 2.2, INF], -7.5),  # halfway to a diverged point
        ([9.0, 4.0, 2.0, 2.5, 3.5], -6.5),  # far below the optimum a model has not learned yet
        ([2.9, 2.0, 4.0, 2.1, 5.0], -8.5),  # the first crossing is the edge
        ([2.5, 2.0, 2.9], INF),
        ([4.0, 3.5, 5.0], math.nan),
        ([INF, INF, INF], math.nan),
    ],
)
def test_the_edge_is_where_it_was_planted(losses, edge):
    """Interpolated, above the optimum; a bound where the grid ends, none where the model never learned."""
    losses = np.asarray(losses, dtype=float)[None]
    assert edges(X[: losses.shape[1]], losses, np.argmin(losses, axis=1), 3.0) == pytest.approx([edge], nan_ok=True)


def test_predicted_within_the_planted_miss():
    told = stability_report(table({64: curve(-4.5), 256: curve(-5.5)}, {64: curve(-4.3), 256: curve(-5.9)}), 3.0)
    assert [result.miss.value for result in told.results] == pytest.approx([0.2, -0.4])
    assert (told.verdict, told.results[-1].text) == ("predicted", "predicted within 0.4 octaves")
    assert "the largest miss is -0.40 octaves, at n = 256.\n" in str(told) and "One seed gives no int" in str(told)
    assert stability_report(table({64: curve(-4.0)}, {64: curve(-5.0)}), 3.0).verdict == "predicted"  # one octave


def test_one_missed_width_is_enough_and_the_widest_is_said_apart():
    told = stability_report(table({64: curve(-4.0), 256: curve(-5.5)}, {64: curve(-5.25), 256: curve(-5.5)}), 3.0)
    assert ([result.verdict for result in told.results], told.verdict) == (["missed", "predicted"], "missed")
    assert "n = 64: missed by 1.25 octaves." in str(told)
    assert "The widest, n = 256: predicted within 0.0 octaves: real 2^-5.50, simulated 2^-5.50." in str(told)


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
    """Two curves that never broke agree on nothing; one that breaks two octaves early is wrong in any case."""
    told = stability_report(table({64: real}, {64: simulated}), 3.0)
    assert told.verdict == told.results[0].verdict == verdict
    assert reason in told.results[0].text and reason in str(told)
    assert math.isnan(told.results[0].miss.value) and told.largest is None


def test_intervals_come_from_the_seeds():
    """The verdict is on the point estimate; nobody shall read more certainty into it than the seeds give."""
    runs = table({64: curve(-5.5)}, {64: curve(-5.5)}, seeds=4, noise=0.05)
    told = stability_report(runs, 3.0, draws=400)
    miss = told.results[0].miss
    assert miss.low <= miss.value <= miss.high and 0.01 < miss.high - miss.low < 0.8
    assert stability_report(runs.sample(frac=1, random_state=1), 3.0, draws=400).results == told.results
    runs.loc[(runs["panel"] == "simulated") & (runs["seed"] == 0), "train_loss"] = curve(-7.9)
    assert "miss reaches beyond 1 octave at n = 64." in str(stability_report(runs, 3.0, draws=400))


def test_other_panels_and_gaps_are_refused():
    runs = table({64: curve(-5.5), 128: curve(-5.5)}, {64: curve(-5.5), 128: curve(-5.5)})
    for rows, message in (
        ("panel == 'real' or line == 64", r"same widths, not real \(64, 128\) and simulated \(64\)"),
        ("panel == 'real'", r"real and simulated of the same widths, not real \(64, 128\)"),
        ("panel != 'real' or line != 64 or x != -5", "panel real lacks 1 of 16 runs, first line 64, x -5.0"),
    ):
        with pytest.raises(UserError, match=message):
            stability_report(runs.query(rows), 3.0)


@pytest.fixture
def stability(folder):
    """Write the folder: real edges an octave apart, simulated ones ``miss`` octaves higher; far above, runs diverge."""

    def write(miss=0.3, seeds=2, threshold=3.0, **more):
        lines = [{32: curve(-3.6 + off), 64: curve(-4.6 + off), 128: curve(-5.6 + off)} for off in (0, miss)]
        runs = table(*lines, seeds=seeds, noise=0.002)
        runs = runs.assign(status=np.where(more.pop("lost", runs["train_loss"] > 3.9), "diverged", "finished"))
        paper = {"table_or_figure": "Figure 21", "statement": "Instability is reproduced.", "differs": "narrower."}
        return folder(runs, paper=paper, threshold=threshold, **more)

    return write


def test_the_claim_stands_in_the_table(stability):
    described = STABILITY.describe(stability())
    assert described.summary.startswith("All 3 widths: predicted; the largest miss is 0.3")
    assert "- The widest, n = 128: predicted within 0." in described.text
    assert "| conclusion | Instability is reproduced. | All 3 widths: predicted" in described.text
    assert "Threshold: 3.0000, the entropy of the training text's single tokens." in described.text
    assert "| reverse µTransfer: widths | 256,512,1024,2048,4096,8192 | 32,64,128 |" in described.text
    with pytest.raises(UserError, match="lacks threshold"):
        STABILITY.describe(stability(threshold=None))


NEVER_LEARNED = [False] * 64 + [True] * 16 + [False] * 16  # of 96 runs: the simulated n = 64


@pytest.mark.parametrize(
    ("more", "said", "table"),
    [
        ({"miss": -1.5, "seeds": 1}, "missed; the largest miss is -1.5", "missed by 1.5"),
        ({"threshold": 9.0}, "undecided (neither breaks up to 2^-3)", "above 2^-3"),
        ({"lost": NEVER_LEARNED}, "n = 64: undecided (the simulated model is above the threshold", "| none |"),
    ],
)
def test_what_claims_nothing_is_drawn_and_named(stability, words, more, said, table):
    """A miss, a grid that ends too early, and a model that never learned."""
    text, paths = STABILITY.redraw(stability(**more))
    assert said in text and table in paths[-1].read_text()
    assert {"n = 32", "edge", "threshold"} <= set(words(paths[1]))
