"""Does a choice transfer: right on planted panels, undecided where nothing is known, loud about gaps; and drawn."""

from __future__ import annotations

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


def panel(best, *, x=GRID, seeds=3, key="p", noise=0.0):
    """Parabolas over the places of ``x``; ``best`` is line -> place of the least loss, which may be a fraction."""
    rng = np.random.default_rng(0)
    rows = [
        (key, choice, line, seed, "finished", 2 + 0.1 * (place - least) ** 2 + noise * rng.normal())
        for line, least in best.items()
        for place, choice in enumerate(x)
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows, columns=["panel", "x", "line", "seed", "status", "train_loss"])


def put(runs, losses, line=64):
    """``losses``: (x, seed) -> loss of that run of a line; inf: diverged."""
    runs = runs.copy()
    for (x, seed), loss in losses.items():
        at = (runs["line"] == line) & (runs["x"] == x) & (runs["seed"] == seed)
        runs.loc[at, ["status", "train_loss"]] = ["diverged" if math.isinf(loss) else "finished", loss]
    return runs


def report(runs, axis=None) -> PanelReport:
    return landscape_report(runs, axes={"p": axis or PanelAxis("width", is_log2=True)}, draws=500)["p"]


def words_report(runs, words=()):
    return report(runs, PanelAxis("width", words=words))


def test_a_choice_that_stays_transfers():
    told = report(panel({32: 2.2, 64: 2.1, 128: 2.2}, noise=0.005))
    assert (told.verdict, told.text) == ("transfers", "transfers")
    assert [line.best for line in told.lines] == [2, 2, 2]
    assert (told.interval_text(), told.regret.value) == ("[2^-6, 2^-6]", 0.0)
    assert (told.lines[0].refined, told.drift.value) == pytest.approx((-5.8, 0.0), abs=0.05)


def test_a_choice_that_moves_does_not_and_its_regret_is_what_was_planted():
    """Two places away on a parabola of 0.1: the regret is 0.1 * 2^2, the drift -1 octave per doubling."""
    told = report(panel({32: 3, 64: 2, 128: 1}))
    assert [line.regret.value for line in told.lines] == pytest.approx([0.0, 0.1, 0.4])
    assert told.drift.value == pytest.approx(-1.0)
    assert str(told) == (
        "p: does not transfer. Best 2^-5 at width 32, 2^-7 at width 128, interval [2^-7, 2^-7]; regret of 2^-5 there "
        "0.4000 [0.4000, 0.4000] (3 seeds)."
    )


def test_noise_that_hides_the_difference_widens_the_interval():
    """Two choices that share the wins are both in the interval, and the regret says how little it matters."""
    runs = panel({32: 2, 64: 2.5})
    told = report(put(runs, {(-5.0, seed): 2.024 + swing for seed, swing in enumerate((0.02, -0.02, 0.0))}))
    assert (told.lines[1].best, told.lines[1].interval, told.verdict) == (3, (2, 3), "transfers")
    assert told.regret.value == pytest.approx(0.001) and told.regret.low < 0 < told.regret.high


def test_the_interval_of_words_is_a_set_and_of_numbers_a_span():
    """Choices 0 and 2 win by turns."""
    runs = put(panel({32: 1, 64: 1}, x=WORDS, seeds=2), {("constant", 0): 1.0, ("linear", 1): 1.0})
    told = words_report(runs)
    assert (told.verdict, told.interval_text()) == ("does not transfer", "{constant, linear}")
    assert told.drift is None and math.isnan(told.lines[0].refined)
    numbers = words_report(runs.assign(x=runs["x"].map({"constant": 0.5, "cosine": 1.0, "linear": 2.0})))
    assert numbers.interval_text() == "[0.5, 2] (reaches the edge of the grid)"


def test_an_optimum_on_the_edge_is_undecided_even_if_it_stays():
    """It is only bounded: the true ones may lie anywhere beyond the grid, each elsewhere."""
    stays = report(panel({32: -1, 64: -1}))
    assert (stays.verdict, stays.text) == ("undecided", "undecided (on the edge)")
    assert math.isnan(stays.drift.low) and "edge" in stays.drift.reason
    for best in ({32: 4, 64: 2}, {32: 2, 64: 9}):
        assert report(panel(best)).text == "undecided (on the edge)"
    # a middle line on the edge leaves the claim about first and last as it is, and words have no edge
    assert report(panel({32: 2, 64: 0, 128: 2})).verdict == "transfers"
    assert words_report(panel({32: 0, 64: 0}, x=WORDS)).verdict == "transfers"


def test_one_seed_is_undecided_with_a_regret_but_no_interval():
    told = report(panel({32: 2, 64: 3}, seeds=1))
    assert (told.text, told.interval_text()) == ("undecided (one seed)", "no interval")
    assert told.lines[1].interval == () and regret_text(told.regret) == "0.1000"


def test_a_choice_at_which_a_seed_diverged_cannot_win_and_never_transfers():
    """No transfer at the first line's best, whatever the other seeds say; of words, in no interval."""
    told = report(put(panel({32: 2, 64: 2}), {(-6.0, 0): math.inf}))
    assert told.lines[1].best in (1, 3) and told.verdict == "does not transfer"
    assert math.isinf(told.regret.value) and regret_text(told.regret) == "diverged"
    told = words_report(put(panel({32: 1, 64: 1}, x=WORDS), {("cosine", 0): math.inf}))
    assert told.interval_text() == "{constant, linear}"
    # choices 1 and 3 win by turns, so that the span holds 2, at which the last line diverged
    lost = {(-6.0, 0): math.inf, (-6.0, 1): math.inf}
    told = report(put(panel({32: 2, 64: 2}, seeds=2), {**lost, (-7.0, 0): 1.5, (-5.0, 1): 1.5}))
    assert 2 in told.lines[1].interval and told.verdict == "does not transfer"


def test_the_best_choice_of_all_seeds_is_in_its_interval():
    """With two seeds a draw is one of them: a compromise that is best on the mean wins no draw."""
    losses = {("constant", 0): 1.0, ("constant", 1): 3.0, ("linear", 0): 3.0, ("linear", 1): 1.0}
    compromise = {("cosine", 0): 1.5, ("cosine", 1): 1.5}
    told = words_report(put(panel({32: 1, 64: 1}, x=WORDS, seeds=2), losses | compromise))
    assert (told.interval_text(), told.verdict) == ("{constant, cosine, linear}", "transfers")


def test_the_regret_knows_that_the_first_lines_choice_is_itself_uncertain():
    """One of three seeds of the first line, a ninth of the draws, likes the next choice; it costs 0.1 at the last."""
    told = report(put(panel({32: 2, 64: 2}), {(-5.0, 2): 1.85}, line=32))
    assert (told.lines[0].best, told.regret.value, told.regret.low) == (2, 0.0, 0.0)
    assert told.regret.high == pytest.approx(0.1)


def test_ties_are_won_by_all_of_them():
    """A hyperparameter without any effect transfers; of equals the lowest x and the first word are named."""
    told = words_report(panel({32: 1, 64: 1}, x=WORDS).assign(train_loss=2.0), ("linear", "constant", "cosine"))
    assert (told.interval_text(), told.verdict) == ("{linear, constant, cosine}", "transfers")
    assert told.panel.choice(told.lines[0].best) == "linear"
    runs = panel({32: 2, 64: 2.5})  # 2 and 3 are equal at the last line, 3 alone at the first
    assert report(pd.concat([panel({32: 3}), runs[runs["line"] == 64]])).verdict == "transfers"


def test_the_order_of_rows_and_other_panels_change_nothing():
    runs, other = panel({32: 2, 64: 2.4}, noise=0.05), panel({8: 1, 16: 2}, x=WORDS, key="q")
    both = landscape_report(pd.concat([other, runs.sample(frac=1, random_state=1)]))
    alone = landscape_report(runs)["p"]
    assert [*both] == ["q", "p"] and (both["p"].lines, both["p"].drift) == (alone.lines, alone.drift)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda runs: runs.drop(columns="line"), "lacks line"),
        (lambda runs: runs[runs.index != 20], "panel p lacks 1 of 30 runs, first line 64, x -7.0, seed 2; run the"),
        (lambda runs: runs.query("line != 64 or x != -4"), "panel p lacks 3 of 30 runs, first line 64, x -4.0, seed 0"),
        (lambda runs: pd.concat([runs, runs[3:4]]), "1 runs stand there twice, first panel p, line 32, x -7.0, seed 0"),
        (lambda runs: runs.assign(status="failed"), "30 runs failed, first panel p, line 32, x -8"),
        (lambda runs: runs.assign(data_fingerprint=range(30)), "panel p differ in data_fingerprint"),
        (lambda runs: runs.assign(x=["cosine", *map(str, runs["x"][1:])]), "panel p lacks 6 of 36 runs"),
        (lambda runs: runs.query("line == 32"), "has one line only"),
        (
            lambda runs: runs.assign(train_loss=runs["train_loss"].mask(runs["line"] == 64, np.inf)),
            "no choice at which",
        ),
    ],
)
def test_bad_tables_are_one_line_errors(change, message):
    """A claim over missing runs would be a claim about runs that nobody made."""
    with pytest.raises(UserError, match=message):
        report(change(panel({32: 2, 64: 2})))


def test_an_infinite_loss_is_a_divergence():
    """Whether a column says so or not."""
    infinite = put(panel({32: 2, 64: 2}), {(-4.0, seed): math.inf for seed in range(3)})
    told = report(infinite.assign(train_loss=infinite["train_loss"].mask(infinite["status"] == "diverged", 2.0)))
    for table in (infinite.assign(status="finished"), infinite.drop(columns="status")):
        assert report(table).lines == told.lines


def test_words_and_numbers_read_back_from_one_csv_column(tmp_path):
    """A figure with a word axis makes the whole column text."""
    both = pd.concat([panel({32: 2, 64: 2}), panel({32: 1, 64: 1}, x=WORDS, key="q")])
    both.to_csv(tmp_path / "runs.csv", index=False)
    panels = read_panels(pd.read_csv(tmp_path / "runs.csv"))
    assert panels["p"].x.tolist() == list(GRID) and not panels["p"].words
    assert panels["q"].words == WORDS
    with pytest.raises(UserError, match=r"unknown choice of panel 'q' 'cosine'. Did you mean 'cosines'"):
        read_panels(both, {"q": PanelAxis(words=("cosines", "constant", "linear"))})


CHOICES, LINES = ["constant", "cosine", "inverse sqrt", "linear"], {"width": (32, 64, 128), "depth": (2, 4)}


@pytest.fixture
def landscape(folder):
    """Write a 2 x 2 figure: µP transfers in width, the learning rate does not in depth; ``more`` changes provenance."""

    def write(change=lambda runs: runs, seeds=2, heading="LR schedule", **more):
        tables, facts = [], {}
        for row, (name, lines) in enumerate(LINES.items()):
            for column, (x_name, xs) in enumerate((("learning rate", range(-9, -2)), ("LR schedule", CHOICES))):
                key = f"{name}/{x_name}"
                facts[key] = {
                    "row": row, "column": column, "x_label": x_name, "x_name": x_name, "line_name": name,
                    "parametrization": "mup", "is_log2": column == 0, "heading": x_name, "row_heading": name,
                }  # fmt: skip
                moves = 2 * (key == "depth/learning rate")
                best = {line: 2 + moves * k for k, line in enumerate(lines)}
                runs = panel(best, x=xs, seeds=seeds, key=key, noise=0.003)
                lost = (runs["train_loss"] > 3) & (column == 0)
                width = runs["line"] if name == "width" else 64
                tables.append(runs.assign(width=width, status=np.where(lost, "diverged", "finished")))
        facts["depth/LR schedule"]["heading"] = heading
        runs = change(pd.concat(tables, ignore_index=True).assign(parametrization="mup"))
        paper = {"table_or_figure": "Figure 4", "statement": "All four stay.", "differs": "narrower."}
        return folder(runs, paper=paper, panels=facts, **more)

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
    with pytest.raises(UserError, match="differ in their panels: depth/LR schedule"):
        LANDSCAPE.describe(landscape(lambda runs: runs.query("panel != 'depth/LR schedule'")))


def test_verdicts_and_stand_in_data_stand_in_the_picture(landscape, words):
    """A figure is passed around without its table; one heading stands over a column where all panels have it."""
    said = words(LANDSCAPE.redraw(landscape(data_is_real=False, stands_in_for="WikiText-2"))[1][1])
    assert (said.count("transfers"), said.count("does not transfer"), said.count("LR schedule")) == (3, 1, 3)
    assert {"STAND-IN DATA, not WikiText-2", "width 32", "width 128", "depth 2", "diverged", *CHOICES} <= set(said)
    assert sum(text.startswith("regret") for text in said) == 4
    assert "band: standard error" in " ".join(" ".join(said).split())


def test_different_headings_in_a_column_stand_over_their_own_panels(landscape, words):
    """A figure without one heading over a column must not show a wrong one."""
    said = words(LANDSCAPE.redraw(landscape(heading="schedule, deep", seeds=1))[1][1])
    assert (said.count("schedule, deep"), said.count("undecided (one seed)")) == (1, 4)


def test_another_loss_is_read_and_named(landscape, words):
    """As for Figures 10 and 12: the validation loss decides, diverged runs have none, and no text says training."""

    def moved(runs):
        return runs.assign(test_loss=runs["train_loss"].mask(runs["status"] == "diverged"), train_loss=0.0)

    before = LANDSCAPE.describe(landscape())
    facts = {"metric": "test_loss", "metric_label": "validation loss", "y_label": "validation loss (nats)"}
    summary, paths = LANDSCAPE.redraw(landscape(moved, **facts))
    ours = paths[-1].read_text()
    assert summary == before.summary and words(paths[1]).count("validation loss (nats)") == 2
    assert "training" not in ours.split("## The paper beside ours")[0].split("\n", 1)[1]
    assert "least mean validation loss over seeds" in ours and "| 95% interval | validation loss | regret |" in ours
    assert "least mean training loss over seeds" in before.text and "| training loss | regret |" in before.text
    assert "least mean test loss over seeds" in LANDSCAPE.describe(landscape(moved, metric="test_loss")).text
    for metric, message in (("test_loss", "lacks test_loss"), ("test_los", "'test_los'. Did you mean 'test_loss'")):
        with pytest.raises(UserError, match=message):
            LANDSCAPE.describe(landscape(metric=metric))
