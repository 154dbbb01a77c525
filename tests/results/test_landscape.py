"""Does a choice transfer: right on planted panels, undecided where nothing is known, loud about gaps; and drawn."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pandas as pd
import pytest

from mutransfer.errors import UserError
from mutransfer.results import PanelAxis, landscape_report
from mutransfer.results.frame import read_panels
from mutransfer.results.landscape import LANDSCAPE, PanelReport, regret_text

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
    return landscape_report(runs, axes={"p": axis or PanelAxis("width", is_log2=True)}, draws=500, **more)["p"]


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
    words = report(runs, PanelAxis("width"))
    assert words.lines[1].interval == (0, 2)
    assert (words.verdict, words.interval_text()) == ("does not transfer", "{constant, linear}")
    assert words.drift is None and math.isnan(words.lines[0].refined)
    numbers = report(runs.assign(x=runs["x"].map({"constant": 0.5, "cosine": 1.0, "linear": 2.0})), PanelAxis("width"))
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
    assert report(panel({32: 0, 64: 0}, x=WORDS), PanelAxis("width")).verdict == "transfers"


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
    assert report(runs, PanelAxis("width")).interval_text() == "{constant, linear}"


def test_the_best_choice_of_all_seeds_is_in_its_interval():
    """With two seeds a draw is one of them: a compromise that is best on the mean wins no draw."""
    runs = panel({32: 1, 64: 1}, x=WORDS, seeds=2)
    losses = {("constant", 0): 1.0, ("constant", 1): 3.0, ("linear", 0): 3.0, ("linear", 1): 1.0}
    for (word, seed), loss in losses.items():
        runs.loc[(runs["line"] == 64) & (runs["x"] == word) & (runs["seed"] == seed), "train_loss"] = loss
    runs.loc[(runs["line"] == 64) & (runs["x"] == "cosine"), "train_loss"] = 1.5
    found = report(runs, PanelAxis("width"))
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
    found = report(runs, PanelAxis("width", words=("linear", "constant", "cosine")))
    assert found.interval_text() == "{linear, constant, cosine}"
    assert found.panel.choice(found.lines[0].best) == "linear"
    assert found.verdict == "transfers"
    runs = panel({32: 2, 64: 2.5})  # 2 and 3 are equal at the last line, 3 alone at the first
    assert report(pd.concat([panel({32: 3}), runs[runs["line"] == 64]])).verdict == "transfers"


def test_the_order_of_rows_and_other_panels_change_nothing():
    runs = panel({32: 2, 64: 2.4}, noise=0.05)
    other = panel({8: 1, 16: 2}, x=WORDS, key="q")
    both = landscape_report(
        pd.concat([other, runs.sample(frac=1, random_state=1)]), axes={"p": PanelAxis("width", True)}
    )
    alone = landscape_report(runs, axes={"p": PanelAxis("width", True)})
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
            "lacks 1 of 30 runs, first line 64, x -6.0, seed 1; run the sweep",
        ),
        ("line == 64 and x == -4", "lacks 3 of 30 runs, first line 64, x -4.0, seed 0"),
        ("line == 64 and seed == 2", "lacks 5 of 30 runs, first line 64, x -4.0, seed 2"),
    ],
)
def test_a_gap_is_named(drop, message):
    """A claim over missing runs would be a claim about runs that nobody made."""
    with pytest.raises(UserError, match=f"the figure with panel p {message}"):
        report(panel({32: 2, 64: 2}).query(f"not ({drop})"))


def test_bad_tables_are_one_line_errors():
    runs = panel({32: 2, 64: 2})
    for bad, message in (
        (runs.drop(columns="line"), "lacks line"),
        (runs.iloc[:0], "no rows"),
        (pd.concat([runs, runs.iloc[[3]]]), "1 runs stand there twice, first panel p, line 32, x -7.0, seed 0"),
        (
            runs.assign(status=["failed", *runs["status"][1:]]),
            "1 runs failed, first panel p, line 32, x -8.0, seed 0",
        ),
        (runs.assign(train_loss=np.nan), "30 runs of the figure finished without a train_loss"),
        (runs.assign(train_loss="low"), "has 'low' as train_loss, expected a number"),
        (runs.assign(data_fingerprint=range(30)), "runs of the figure with panel p differ in data_fingerprint"),
        (runs.assign(x=["cosine", *map(str, runs["x"][1:])]), "an x that is a word, first 'cosine', beside numbers"),
        (runs.query("line == 32"), "has one line only"),
    ):
        with pytest.raises(UserError, match=message):
            report(bad)
    with pytest.raises(UserError, match=r"unknown choice of panel 'p' 'cosine'. Did you mean 'cosines'"):
        report(panel({32: 1, 64: 1}, x=WORDS), PanelAxis(words=("cosines", "constant", "linear")))
    with pytest.raises(UserError, match="draws=3 is too few"):
        landscape_report(runs, draws=3)


def test_an_infinite_loss_is_a_divergence():
    """Whether a column says so or not."""
    runs = panel({32: 2, 64: 2}, diverges=lambda place, line: place == 4)
    told = report(runs)
    infinite = runs.assign(train_loss=runs["train_loss"].mask(runs["status"] == "diverged", np.inf))
    for table in (infinite.assign(status="finished"), infinite.drop(columns="status")):
        assert report(table).lines == told.lines


def test_words_and_numbers_read_back_from_one_csv_column(tmp_path):
    """A figure with a word axis makes the whole column text."""
    both = pd.concat([panel({32: 2, 64: 2}), panel({32: 1, 64: 1}, x=WORDS, key="q")])
    both.to_csv(tmp_path / "runs.csv", index=False)
    panels = read_panels(pd.read_csv(tmp_path / "runs.csv"))
    assert panels["p"].x.tolist() == list(GRID) and not panels["p"].words
    assert panels["q"].words == WORDS


CHOICES = ["constant", "cosine", "inverse sqrt", "linear"]
LINES = {"width": (32, 64, 128), "depth": (2, 4)}


@pytest.fixture
def landscape(folder):
    """Write a 2 x 2 figure: µP transfers in width, the learning rate does not in depth; ``more`` changes provenance."""

    def write(change=lambda runs: runs, seeds=2, edit=lambda panels: panels, **more):
        rng, rows, panels = np.random.default_rng(0), [], {}
        for row, (name, lines) in enumerate(LINES.items()):
            for column, (x_name, xs) in enumerate((("learning rate", np.arange(-9.0, -2.0)), ("LR schedule", CHOICES))):
                key = f"{name}/{x_name}"
                panels[key] = {
                    "row": row, "column": column, "x_label": x_name, "x_name": x_name, "line_name": name,
                    "parametrization": "mup", "is_log2": column == 0, "heading": x_name, "row_heading": name,
                }  # fmt: skip
                for k, line in enumerate(lines):
                    for place, x in enumerate(xs):
                        off = place - (2 + 2 * k * (key == "depth/learning rate"))
                        for seed in range(seeds):
                            loss = 2.5 - 0.1 * k + 0.05 * off**2 + 0.003 * rng.normal()
                            loss = np.inf if off > 3 and column == 0 else loss
                            status = "diverged" if np.isinf(loss) else "finished"
                            rows.append((key, x, line, seed, "mup", line if name == "width" else 64, status, loss))
        columns = ["panel", "x", "line", "seed", "parametrization", "width", "status", "train_loss"]
        runs = change(pd.DataFrame(rows, columns=columns))
        paper = {"table_or_figure": "Figure 4", "statement": "All four stay.", "differs": "narrower."}
        return folder(runs, paper=paper, panels=edit(panels), **more)

    return write


def test_the_table_says_each_verdict_the_paper_and_the_rule_of_thumb(landscape):
    table = LANDSCAPE.describe(landscape()).text
    assert "- learning rate across width, µP: transfers. Best 2^-7 at width 32" in table
    assert "- learning rate across depth, µP: does not transfer. Best 2^-7 at depth 2, 2^-5 at depth 4" in table
    assert "- LR schedule across width, µP: transfers. Best inverse sqrt at width 32" in table
    assert re.search(r"\| 128 \| 2\^-7 \| 2\^-[67]\.\d\d \| \[2\^-7, 2\^-7\] \| 2\.\d{4} ± 0\.\d{4} \| 0\.0000", table)
    assert "| conclusion | All four stay. | µP: 3 of 4 panels transfer, 1 do not |" in table
    assert "µP pre-LN defaults: widths | 128,256,512,1024,2048,4096 | 32,64,128 |" in table
    assert "- width >= 256: out of reach (32..128)" in table
    assert "transfers, outside of the rule's range (width from 32, depth not recorded" in table


def test_verdicts_and_stand_in_data_stand_in_the_picture(landscape, words):
    """A figure is passed around without its table."""
    said = words(LANDSCAPE.redraw(landscape(data_is_real=False, stands_in_for="WikiText-2"))[1][1])
    assert (said.count("transfers"), said.count("does not transfer")) == (3, 1)
    assert "STAND-IN DATA, not WikiText-2" in said
    assert {"width 32", "width 128", "depth 2"} <= set(said)
    assert sum(text.startswith("regret") for text in said) == 4
    flat = " ".join(" ".join(said).split())
    assert "band: standard error" in flat and "Crosses on grey: diverged" in flat


def test_different_headings_in_a_column_stand_over_their_own_panels(landscape, words):
    """Figure 18 has one heading per column; a figure without that must not show a wrong one."""

    def rename(panels):
        panels["depth/LR schedule"]["heading"] = "schedule, deep"
        return panels

    _, paths = LANDSCAPE.redraw(landscape(edit=rename, seeds=1))
    said = words(paths[1])
    assert (said.count("schedule, deep"), said.count("undecided (one seed)")) == (1, 4)
    assert "undecided (one seed)" in paths[-1].read_text()


def test_a_long_name_stands_at_the_first_entry_of_the_legend_alone(landscape, words):
    """Where a line has no room for all."""

    def deepen(panels):
        for key in panels:
            panels[key]["line_name"] = "width of the whole network over that of its base"
        return panels

    said = words(LANDSCAPE.redraw(landscape(edit=deepen))[1][1])
    assert "width of the whole network over that of its base 32" in said and {"64", "128"} <= set(said)


def test_gaps_of_a_folder_are_named(landscape):
    with pytest.raises(UserError, match=r"panel width/learning rate lacks 1 of 42 runs, first line 64, x -6.0, seed 1"):
        LANDSCAPE.describe(landscape(lambda r: r.query("not (width == 64 and x == -6 and seed == 1 and line == 64)")))
    with pytest.raises(UserError, match="differ in their panels: depth/LR schedule"):
        LANDSCAPE.describe(landscape(lambda r: r.query("panel != 'depth/LR schedule'")))
    with pytest.raises(UserError, match="panel 'width/LR schedule' lacks is_log2"):
        LANDSCAPE.describe(landscape(edit=lambda p: (p["width/LR schedule"].pop("is_log2") and p) or p))
    where = landscape()
    known = json.loads((where / "provenance.json").read_text())
    del known["panels"]
    (where / "provenance.json").write_text(json.dumps(known))
    with pytest.raises(UserError, match="lacks panels"):
        LANDSCAPE.describe(where)


def test_another_loss_is_read_and_named(landscape, words):
    """As for Figures 10 and 12: the validation loss decides, diverged runs have none, and no text says training."""

    def moved(runs):
        """The training loss is of no use; the validation loss is what it was."""
        lost = runs["status"] == "diverged"
        return runs.assign(test_loss=runs["train_loss"].mask(lost), train_loss=0.0)

    before = LANDSCAPE.describe(landscape())
    facts = {"metric": "test_loss", "metric_label": "validation loss"}
    summary, paths = LANDSCAPE.redraw(landscape(moved, **facts))
    ours, said = paths[-1].read_text(), words(paths[1])
    assert summary == before.summary
    assert "training" not in ours.split("## The paper beside ours")[0].split("\n", 1)[1]
    assert "least mean validation loss over seeds" in ours and "| 95% interval | validation loss | regret |" in ours
    assert said.count("validation loss (nats)") == 2 and "training loss (nats)" not in said
    assert "least mean training loss over seeds" in before.text and "| 95% interval | loss | regret |" in before.text
    unnamed = LANDSCAPE.describe(landscape(moved, metric="test_loss"))
    assert unnamed.summary == before.summary and "least mean test loss over seeds" in unnamed.text
    named = LANDSCAPE.describe(landscape(metric="train_loss", metric_label="training loss"))
    assert named.summary == before.summary


def test_a_loss_that_is_not_there_is_named(landscape):
    def gap(runs):
        return runs.assign(test_loss=runs["train_loss"].mask(runs.index == 0))

    for change, facts, message in (
        (None, {"metric": "test_loss"}, "the runs table lacks test_loss"),
        (None, {"metric": "test_los"}, r"unknown metric of .* 'test_los'. Did you mean 'test_loss'"),
        (None, {"metric_label": "validation loss"}, "metric train_loss cannot be labelled 'validation loss'"),
        (gap, {"metric": "test_loss"}, "1 runs of the figure finished without a test_loss, first panel width/learning"),
    ):
        with pytest.raises(UserError, match=message):
            LANDSCAPE.describe(landscape(change or (lambda runs: runs), **facts))
