"""Does a choice transfer: right on planted panels, undecided where nothing is known, loud about gaps."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from mutransfer.errors import UserError
from mutransfer.results.landscape import PanelReport, landscape_report, regret_text
from mutransfer.results.panels import Axis, read_panels

GRID = (-8.0, -7.0, -6.0, -5.0, -4.0)
WORDS = ("constant", "cosine", "linear")


def panel(best, *, x=GRID, seeds=3, key="p", noise=0.0, diverges=lambda place, line: False, random_state=0):
    """Parabolas over the places of ``x``; ``best`` is line -> place of the least loss, which may be a fraction."""
    rng, rows = np.random.default_rng(random_state), []
    for line, least in best.items():
        for place, choice in enumerate(x):
            for seed in range(seeds):
                loss = 2 + 0.1 * (place - least) ** 2 + noise * rng.normal()
                status = "diverged" if diverges(place, line) else "finished"
                rows.append((key, choice, line, seed, status, loss))
    return pd.DataFrame(rows, columns=["panel", "x", "line", "seed", "status", "train_loss"])


def report(runs, axis=None, **more) -> PanelReport:
    return landscape_report(runs, axes={"p": axis or Axis("width", is_log2=True)}, draws=500, **more)["p"]


def test_a_choice_that_stays_transfers():
    found = report(panel({32: 2.2, 64: 2.1, 128: 2.2}, noise=0.005))
    assert (found.verdict, found.text) == ("transfers", "transfers")
    assert [one.best for one in found.lines] == [2, 2, 2]
    assert found.lines[0].refined == pytest.approx(-5.8, abs=0.1)
    assert found.interval_text() == "[2^-6, 2^-6]"
    assert found.regret.value == 0.0
    assert found.drift.value == pytest.approx(0.0, abs=0.05)


def test_a_choice_that_moves_does_not_and_its_regret_is_what_was_planted():
    """Two places away on a parabola of 0.1: the regret is 0.1 * 2^2, the drift -1 octave per doubling."""
    found = report(panel({32: 3, 64: 2, 128: 1}))
    assert found.verdict == "does not transfer"
    assert found.regret.value == pytest.approx(0.4)
    assert [one.regret.value for one in found.lines] == pytest.approx([0.0, 0.1, 0.4])
    assert found.drift.value == pytest.approx(-1.0)
    assert str(found) == (
        "p: does not transfer. Best 2^-5 at width 32, 2^-7 at width 128, interval [2^-7, 2^-7]; regret of 2^-5 there "
        "0.4000 [0.4000, 0.4000] (3 seeds)."
    )


def test_noise_that_hides_the_difference_widens_the_interval():
    """Two choices that share the wins are both in the interval, and the regret says how little it matters."""
    runs = panel({32: 2, 64: 2.5})
    swing = {0: 0.02, 1: -0.02, 2: 0.0}
    at = (runs["line"] == 64) & (runs["x"] == -5)
    runs.loc[at, "train_loss"] += runs.loc[at, "seed"].map(swing) - 0.001
    found = report(runs)
    assert (found.lines[1].best, found.lines[1].interval) == (3, (2, 3))
    assert found.verdict == "transfers"
    assert found.regret.value == pytest.approx(0.001)
    assert found.regret.low < 0 < found.regret.high
    assert landscape_report(runs, draws=500)["p"].lines == found.lines


def test_the_interval_of_words_is_a_set_and_of_numbers_a_span():
    """Choices 0 and 2 win by turns: what lies between two numbers is inside, a word between is not."""
    runs = panel({32: 1, 64: 1}, x=WORDS, seeds=2)
    for seed, winner in ((0, "constant"), (1, "linear")):
        runs.loc[(runs["line"] == 64) & (runs["x"] == winner) & (runs["seed"] == seed), "train_loss"] = 1.0
    words = report(runs, Axis("width"))
    assert words.lines[1].interval == (0, 2)
    assert (words.verdict, words.interval_text()) == ("does not transfer", "{constant, linear}")
    assert words.drift is None and math.isnan(words.lines[0].refined)
    numbers = report(runs.assign(x=runs["x"].map({"constant": 0.5, "cosine": 1.0, "linear": 2.0})), Axis("width"))
    assert numbers.lines[1].interval == (0, 1, 2)
    assert numbers.interval_text() == "[0.5, 2] (reaches the edge of the grid)"


def test_an_optimum_on_the_edge_is_undecided_even_if_it_stays():
    """It is only bounded: the true ones may lie anywhere beyond the grid, each elsewhere."""
    stays = report(panel({32: -1, 64: -1}))
    assert (stays.verdict, stays.text) == ("undecided", "undecided (on the edge)")
    assert all(one.on_edge for one in stays.lines)
    assert math.isnan(stays.drift.low) and "edge" in stays.drift.reason
    assert report(panel({32: 4, 64: 2})).text == "undecided (on the edge)"
    assert report(panel({32: 2, 64: 9})).text == "undecided (on the edge)"
    # a middle line on the edge leaves the claim about first and last as it is
    assert report(panel({32: 2, 64: 0, 128: 2})).verdict == "transfers"
    # words have no edge
    assert report(panel({32: 0, 64: 0}, x=WORDS), Axis("width")).verdict == "transfers"


def test_one_seed_is_undecided_with_a_regret_but_no_interval():
    found = report(panel({32: 2, 64: 3}, seeds=1))
    assert found.text == "undecided (one seed)"
    assert found.lines[1].interval == () and found.interval_text() == "no interval"
    assert regret_text(found.regret) == "0.1000"


def test_a_choice_at_which_a_seed_diverged_cannot_win_and_never_transfers():
    """One seed of the last line diverged at the first line's best: no transfer, whatever the other seeds say."""
    runs = panel({32: 2, 64: 2}, seeds=3)
    runs.loc[(runs["line"] == 64) & (runs["x"] == -6) & (runs["seed"] == 0), "status"] = "diverged"
    found = report(runs)
    assert found.lines[1].best in (1, 3)
    assert math.isinf(found.regret.value) and regret_text(found.regret) == "diverged"
    assert found.verdict == "does not transfer"


def test_a_word_at_which_a_seed_diverged_is_in_no_interval():
    """Two of three seeds like it best: draws without the third would let it win."""
    runs = panel({32: 1, 64: 1}, x=WORDS)
    runs.loc[(runs["line"] == 64) & (runs["x"] == "cosine") & (runs["seed"] == 0), "status"] = "diverged"
    assert report(runs, Axis("width")).interval_text() == "{constant, linear}"


def test_the_best_choice_of_all_seeds_is_in_its_interval():
    """With two seeds a draw is one of them: a compromise that is best on the mean wins no draw."""
    runs = panel({32: 1, 64: 1}, x=WORDS, seeds=2)
    losses = {("constant", 0): 1.0, ("constant", 1): 3.0, ("linear", 0): 3.0, ("linear", 1): 1.0}
    for (word, seed), loss in losses.items():
        runs.loc[(runs["line"] == 64) & (runs["x"] == word) & (runs["seed"] == seed), "train_loss"] = loss
    runs.loc[(runs["line"] == 64) & (runs["x"] == "cosine"), "train_loss"] = 1.5
    found = report(runs, Axis("width"))
    assert (found.interval_text(), found.verdict) == ("{constant, cosine, linear}", "transfers")


def test_the_regret_knows_that_the_first_lines_choice_is_itself_uncertain():
    """One of three seeds of the first line likes the next choice, which costs 0.1 at the last line: a ninth of the
    draws.
    """
    runs = panel({32: 2, 64: 2})
    runs.loc[(runs["line"] == 32) & (runs["x"] == -5) & (runs["seed"] == 2), "train_loss"] = 1.85
    found = report(runs)
    assert found.lines[0].best == 2
    assert (found.regret.value, found.regret.low) == (0.0, 0.0)
    assert found.regret.high == pytest.approx(0.1)


def test_divergence_inside_the_interval_does_not_make_it_a_transfer():
    """Choices 1 and 3 win by turns, so that the span holds 2, at which a seed of the last line diverged."""
    runs = panel({32: 2, 64: 2}, diverges=lambda place, line: line == 64 and place == 2, seeds=2)
    for seed, winner in ((0, -7.0), (1, -5.0)):
        runs.loc[(runs["line"] == 64) & (runs["x"] == winner) & (runs["seed"] == seed), "train_loss"] = 1.5
    found = report(runs)
    assert 2 in found.lines[1].interval
    assert found.verdict == "does not transfer"


def test_a_line_that_diverged_everywhere_is_an_error():
    runs = panel({32: 2, 64: 2}, diverges=lambda place, line: line == 64)
    with pytest.raises(UserError, match=r"'p' has no choice at which all seeds of width 64 finished"):
        report(runs)


def test_ties_are_won_by_all_of_them():
    """A hyperparameter without any effect transfers; of equals the lowest x and the first word are named."""
    runs = panel({32: 1, 64: 1}, x=WORDS).assign(train_loss=2.0)
    found = report(runs, Axis("width", words=("linear", "constant", "cosine")))
    assert found.interval_text() == "{linear, constant, cosine}"
    assert found.panel.choice(found.lines[0].best) == "linear"
    assert found.verdict == "transfers"
    runs = panel({32: 2, 64: 2.5})  # 2 and 3 are equal at the last line, 3 alone at the first
    assert report(pd.concat([panel({32: 3}), runs[runs["line"] == 64]])).verdict == "transfers"


def test_the_order_of_rows_and_other_panels_change_nothing():
    runs = panel({32: 2, 64: 2.4}, noise=0.05)
    other = panel({8: 1, 16: 2}, x=WORDS, key="q")
    both = landscape_report(pd.concat([other, runs.sample(frac=1, random_state=1)]), axes={"p": Axis("width", True)})
    alone = landscape_report(runs, axes={"p": Axis("width", True)})
    assert list(both) == ["q", "p"]
    assert (both["p"].lines, both["p"].verdict, both["p"].drift) == (
        alone["p"].lines,
        alone["p"].verdict,
        alone["p"].drift,
    )


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        (
            "line == 64 and x == -6 and seed == 1",
            r"1 runs are missing: \(p, width 64, x 2\^-6, seed 1\); run the sweep",
        ),
        ("line == 64 and x == -4", r"3 runs are missing: \(p, width 64, x 2\^-4, seed 0\)"),
        ("line == 64 and seed == 2", r"5 runs are missing: \(p, width 64, x 2\^-8, seed 2\)"),
        ("line == 64 and x < -4", r"12 runs are missing: .* and 7 more"),
    ],
)
def test_a_gap_is_named(drop, message):
    """A claim over missing runs would be a claim about runs that nobody made."""
    with pytest.raises(UserError, match=message):
        report(panel({32: 2, 64: 2}).query(f"not ({drop})"))


def test_bad_tables_are_one_line_errors():
    runs = panel({32: 2, 64: 2})
    for bad, message in (
        (runs.drop(columns="line"), "lacks line"),
        (runs.iloc[:0], "no rows"),
        (pd.concat([runs, runs.iloc[[3]]]), r"1 runs stand twice in the table, first \(p, width 32, x 2\^-7, seed 0\)"),
        (
            runs.assign(status=["failed", *runs["status"][1:]]),
            r"1 of 30 runs failed or hold no number, first \(panel=p",
        ),
        (runs.assign(train_loss=np.nan), "30 of 30 runs failed or hold no number"),
        (runs.assign(data_fingerprint=range(30)), "panel 'p' mixes several values of data_fingerprint"),
        (runs.assign(x=["cosine", *map(str, runs["x"][1:])]), "an x that is a word, first 'cosine', beside numbers"),
        (runs.query("line == 32"), "has one line only"),
    ):
        with pytest.raises(UserError, match=message):
            report(bad)
    with pytest.raises(UserError, match=r"unknown choice of panel 'p' 'cosine'. Did you mean 'cosines'"):
        report(panel({32: 1, 64: 1}, x=WORDS), Axis(words=("cosines", "constant", "linear")))
    with pytest.raises(UserError, match="draws=3 is too few"):
        landscape_report(runs, draws=3)


def test_words_and_numbers_read_back_from_one_csv_column(tmp_path):
    """A figure with a word axis makes the whole column text."""
    both = pd.concat([panel({32: 2, 64: 2}), panel({32: 1, 64: 1}, x=WORDS, key="q")])
    both.to_csv(tmp_path / "runs.csv", index=False)
    panels = read_panels(pd.read_csv(tmp_path / "runs.csv"))
    assert panels["p"].x.tolist() == list(GRID) and not panels["p"].words
    assert panels["q"].words == WORDS
