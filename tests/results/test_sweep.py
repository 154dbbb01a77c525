"""The verdict on a sweep: right on planted drifts, honest about what it cannot know, in figure and table too."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from mutransfer.errors import UserError
from mutransfer.results import Estimate, lr_figure, transfer_report
from mutransfer.results.draw.curves import loss_limits
from mutransfer.results.draw.style import palette
from mutransfer.results.frame import Curves
from mutransfer.results.sweep import RULE, SWEEP
from mutransfer.results.transfer import decide, freedom, seeds_to_decide, stretch


@pytest.mark.parametrize(
    ("drift", "verdict"),
    [(-0.75, "drifts"), (0.75, "drifts"), (0.0, "stable"), (-0.25, "undecided"), (0.25, "undecided")],
)
def test_planted_drifts_get_their_verdict(planted, drift, verdict):
    """The three verdicts, each on data that can have no other."""
    report = transfer_report(planted(drift, noise=0.01))
    result = report.parametrizations["sp"]
    assert report.verdict("sp") == result.verdict == verdict
    assert result.slope.value == pytest.approx(drift, abs=0.1)
    assert result.interval[0] <= result.slope.value <= result.interval[1]
    assert verdict in result.sentence


@pytest.mark.parametrize(("seeds", "floor"), [(2, 0.8), (3, 0.9)])
def test_the_interval_covers_the_truth(planted, seeds, floor):
    """A 95% interval from few seeds must hold the planted slope most times, and not by being useless."""
    sweeps, hits, error, width = 70, 0, [], []
    for k in range(sweeps):
        runs = planted(-0.4, widths=(64, 256, 1024), grid=range(-9, 0), noise=0.01, random_state=k, seeds=seeds)
        slope = transfer_report(runs, draws=100, seed=k).parametrizations["sp"].slope
        hits += slope.low <= -0.4 <= slope.high
        error.append(slope.value + 0.4)
        width.append(slope.high - slope.low)
    assert hits / sweeps >= floor
    assert np.mean(width) < 3 * 3.92 * np.std(error)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.25, 0.25, "stable"),
        (-0.2500001, 0.2, "undecided"),
        (-0.9, -0.2500001, "drifts"),
        (-0.9, -0.25, "undecided"),
        (0.26, 0.9, "drifts"),
        (-1.0, 1.0, "undecided"),
        (np.nan, np.nan, "undecided"),
    ],
)
def test_the_rule_at_its_boundaries(low, high, verdict):
    """The rule is fixed beforehand, its boundaries included: stable is closed, drifts is open."""
    assert decide(Estimate((low + high) / 2, low, high)) == verdict
    assert decide(Estimate((low + high) / 2, low, high), on_edge=True) == "undecided"


def test_seeds_to_decide_by_hand():
    """Half-width 0.2, 0.1 from the boundary: four times the seeds where t is normal; on it, none help."""
    many = 1e9  # degrees of freedom: Student's t is the normal, the half-width shrinks as 1/sqrt(seeds)
    assert seeds_to_decide(Estimate(-0.3501, -0.5501, -0.1501), 3, many) == 12
    assert seeds_to_decide(Estimate(0.1499, -0.0501, 0.3499), 3, many) == 12
    assert seeds_to_decide(Estimate(-0.3501, -0.5501, -0.1501), 3, 2.0) < 12
    assert seeds_to_decide(Estimate(0.25, 0.1, 0.4), 3, many) is None
    assert seeds_to_decide(Estimate(0.26, 0.1, 0.42), 3, many) is None


def test_stretch_is_students_t():
    """Three widths and two seeds leave two degrees of freedom: t is 4.303 where the normal has 1.960."""
    assert freedom(np.array([6.0, 8.0, 10.0])) == pytest.approx(2.0)
    assert stretch(2.0, 2) == pytest.approx(4.3027 / 1.95996, rel=1e-4)
    assert stretch(2.0, 100) == pytest.approx(1.0, abs=0.01)


def test_one_seed_is_undecided_and_says_why(planted):
    """However clear the slope looks, one seed carries no spread."""
    result = transfer_report(planted(-0.75, seeds=1)).parametrizations["sp"]
    assert result.verdict == "undecided" and np.isnan(result.interval).all()
    assert "run at least two" in result.sentence
    assert transfer_report(planted(-0.75, seeds=1)).optima[["low", "high", "loss_se"]].isna().all(axis=None)


def test_an_edge_optimum_is_undecided_and_said_so(planted):
    """The true optimum may lie anywhere beyond the edge; neither verdict would be earned."""
    report = transfer_report(planted(-0.75, grid=range(-7, 0)))
    result = report.parametrizations["sp"]
    assert result.verdict == "undecided" and result.edges == ((512, "low"), (1024, "low"))
    assert "low edge at width 512 and low edge at width 1024" in result.sentence
    assert report.optima.on_edge.tolist() == [False, False, False, True, True]
    assert "on the low edge of the grid" in str(report)


def test_regret_by_hand(planted):
    """Vertices at -4 and -6, curvature 0.1: at width 256 the transferred 2^-4 costs 0.1 x 2^2 more."""
    runs = planted(-1.0, widths=[64, 256], start=-4.0, curvature=0.1)
    optima = transfer_report(runs).optima
    assert optima.transferred_log2_lr.tolist() == [-4, -4]
    assert optima.regret.tolist() == pytest.approx([0.0, 0.4])
    assert transfer_report(runs).parametrizations["sp"].regret.value == pytest.approx(0.4)


def test_regret_is_infinite_where_the_transferred_rate_diverged(planted):
    """Divergence is a result: the price of that transfer is not a missing value."""
    runs = planted(-1.0, widths=[64, 256], start=-4.0)
    runs.loc[(runs.width == 256) & (runs.log2_lr >= -4), "train_loss"] = np.inf
    optimum = transfer_report(runs).optima.iloc[1]
    assert optimum.regret == optimum.regret_low == optimum.regret_high == np.inf
    assert "diverged" in str(transfer_report(runs))


def test_regret_is_unknown_where_the_transferred_rate_was_not_run(planted):
    """An interpolated regret is no measurement; it must say that a run is missing."""
    runs = planted(-1.0, widths=[64, 256], start=-4.0).query("width == 64 or log2_lr < -4")
    result = transfer_report(runs).parametrizations["sp"]
    assert np.isnan(result.regret.value) and "not run" in result.regret.reason


def test_adding_a_parametrization_moves_no_other_interval(planted):
    """Each curve has its own random stream: a report on two must agree with the reports on each."""
    both = planted({"sp": -0.5, "mup": 0.0}, noise=0.02)
    alone = transfer_report(both[both.parametrization == "sp"]).parametrizations["sp"]
    assert transfer_report(both).parametrizations["sp"].slope == alone.slope


def test_the_seed_of_the_draws_decides_them(planted):
    """A committed interval must be found again, and another seed must really draw anew."""
    runs = planted(-0.3, noise=0.02)
    slopes = [transfer_report(runs, seed=s).parametrizations["sp"].slope for s in (0, 0, 1)]
    assert slopes[0] == slopes[1] != slopes[2]


def test_one_width_is_an_error(planted):
    """There is no slope through one point."""
    with pytest.raises(UserError, match=r"'sp' was run at one width only \(64\)"):
        transfer_report(planted(widths=[64]))


def test_unknown_verdict_names_the_nearest(planted):
    """A typo in a notebook should cost one line."""
    with pytest.raises(UserError, match="Did you mean 'mup'"):
        transfer_report(planted({"sp": 0.0, "mup": 0.0})).verdict("mupp")


def test_the_report_cannot_be_changed(planted):
    """A claim that a later cell can overwrite is none."""
    report = transfer_report(planted())
    taken = report.optima
    taken["loss"] = 0.0
    assert (report.optima.loss > 1).all()
    with pytest.raises(TypeError):
        report.parametrizations["sp"] = None
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.parametrizations["sp"].verdict = "stable"


def test_print_shows_every_width_and_one_sentence_each(planted):
    """`print(report)` is the whole interface for most users."""
    text = str(transfer_report(planted({"mup": 0.0, "sp": -0.75}, noise=0.005))).splitlines()
    assert len(text) == 1 + 10 + 2
    assert text[-2].startswith("SP: drifts.") and text[-1].startswith("µP: stable.")


def drawn(words, runs: pd.DataFrame, out: Path, **kwargs: object) -> str:
    """Every text of the figure of ``runs``."""
    paths = lr_figure(runs, transfer_report(runs), **{"caption": "Data: here.", "out": out, **kwargs})
    return "\n".join(words(paths[1]))


def test_the_figure_says_what_the_report_says_and_hides_nothing(runs, words, tmp_path):
    """Verdict and interval in words; divergence, in all seeds or in some, and an edge, where they happened alone."""
    said = drawn(words, runs, tmp_path)
    assert (
        "SP: drifts" in said and "\N{MINUS SIGN}0.7" in said and "µP: stable" in said and "octaves per doubling" in said
    )
    assert "Data: here." in said and "diverged" in said and "95% interval" in said
    assert not any(word in said for word in ("faint", "edge", "STAND-IN"))
    at = (runs.width == 64) & (runs.log2_lr == -2) & (runs.seed == 0)
    lost = runs.assign(train_loss=runs.train_loss.where(~at, np.inf))
    assert "faint" in drawn(words, lost, tmp_path, banner="STAND-IN DATA")
    assert "STAND-IN DATA" in words(tmp_path / "lr_vs_loss.svg")
    calm = drawn(words, runs[np.isfinite(runs.train_loss) & (runs.seed == 0)].query("-7 <= log2_lr < -4"), tmp_path)
    assert "diverged" not in calm and "95% interval" not in calm
    assert re.search(r"optimum on the edge of the grid at width .*1024 \(low\)", calm)


def test_the_loss_axis_shows_the_basins():
    """A plateau at 50 nats must not squeeze basins of 0.1 nats into a line; every optimum stays inside."""
    x = np.arange(-10.0, 0.0)
    wide = np.minimum(1.3 + 0.05 * (x + 5) ** 2, 1.8)[None]
    wide[:, -2:] = 50.0
    low, high = loss_limits([Curves(64, x, wide), Curves(128, x, wide + 0.3)])
    assert low < 1.3 and 1.6 < high < 3
    assert loss_limits([Curves(64, x, wide)], ceiling=1.6)[1] < 1.7


def test_the_users_matplotlib_settings_are_left_alone_and_do_not_matter(runs, tmp_path):
    """A committed figure must not depend on a matplotlibrc, nor change what the user draws next. 200 dpi at the
    width of a two-column paper; smaller is unreadable in print.
    """
    report = transfer_report(runs)
    paths = lr_figure(runs, report, caption="c", out=tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["lr_vs_loss.png", "lr_vs_loss.svg"]
    assert imread(paths[0]).shape[1] == 1440
    plain = [path.read_bytes() for path in paths]
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "svg.hashsalt": "x"}):
        assert [path.read_bytes() for path in lr_figure(runs, report, caption="c", out=tmp_path)] == plain
        assert matplotlib.rcParams["font.size"] == 20


def test_the_palette_is_ordered_in_greyscale():
    """Printed without colour, wider must still be lighter, by steps that can be seen."""
    grey = [np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) for colour in palette(6)]
    assert (np.diff(grey) > 0.05).all() and grey[-1] < 0.85


def table(folder, runs, **changes) -> str:
    """The Markdown that ``runs`` give."""
    return SWEEP.describe(folder(runs, **changes)).text


def row(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_the_table_is_the_report_digit_for_digit(runs, folder):
    """It is what people quote; a loss that diverged is a word, and the rule stands there."""
    text = table(folder, runs)
    for o in transfer_report(runs).optima.itertuples():
        line = row(text, f"| {'SP' if o.parametrization == 'sp' else 'µP'} | {o.width} |")
        assert f"2^{o.log2_lr:.2f}" in line and f"{o.loss:.4f} ± {o.loss_se:.4f}" in line and "(n = 2)" in line
    assert "diverged" in row(text, "| SP | 1024 |") and "inf]" not in text and "nan" not in text
    assert RULE in text


def test_the_paper_and_our_settings_stand_in_the_table(runs, folder):
    """Widths and base width beside the paper's are read off the runs, not typed; what differs is said."""
    paper = {"table_or_figure": "Figure 3", "statement": "it moves", "differs": "all of it", "ours": {"epochs": "2"}}
    text = table(folder, runs, paper=paper)
    assert "| SP and µP: epochs | 20 | 2 |" in text
    assert "| conclusion | it moves | SP drifts" in text and "What differs in ours: all of it" in text
    assert "| SP and µP: widths | 256,512,1024,2048,4096,8192 | 64,256,1024 |" in text
    assert "| SP and µP: base width | 128 | 64 |" in text


def test_what_is_not_known_has_its_reason_in_the_table(runs, folder):
    """A bare dash would look like an oversight, an interval beside an edge like knowledge of what lies beyond."""
    text = table(folder, runs)
    assert "SP: L(inf): the fit needs 4 widths, there are 3." in text
    assert "edge of the grid" not in text.split("## How to read it")[0]
    one = table(folder, runs[runs.seed == 0])
    assert "one seed gives no interval" in one and "±" not in one.split("## Does it transfer?")[0]
    assert "on the low edge of the grid" in table(folder, runs.query("log2_lr >= -7"))
    lacking = runs.query("width == 64 or log2_lr < -4 or parametrization == 'mup'")
    assert np.isnan(transfer_report(lacking).parametrizations["sp"].regret.value)
    assert "not run" in row(table(folder, lacking), "| SP | 256 |")


def test_a_gap_is_named_and_an_extended_grid_is_none(runs, folder):
    """A figure over missing runs would be a claim about runs that nobody made."""
    lacking = runs.query("not (parametrization == 'mup' and width == 256 and log2_lr == -4 and seed == 1)")
    with pytest.raises(UserError, match=r"lacks 1 runs: \(mup, width 256, 2\^-4, seed 1\)"):
        SWEEP.describe(folder(lacking))
    with pytest.raises(UserError, match=r"lacks 20 runs: \(mup, width 256, 2\^-10, seed 0\).* and 15 more"):
        SWEEP.describe(folder(runs.query("not (parametrization == 'mup' and width == 256)")))
    with pytest.raises(UserError, match=r"lacks 12 runs: \(mup, width 64, 2\^0, seed 0\)"):
        SWEEP.describe(folder(runs, log2_lrs=[-4, 0]))
    extra = runs.query("parametrization == 'sp' and width == 1024 and log2_lr == -10").assign(log2_lr=-11.0)
    SWEEP.describe(folder(pd.concat([runs, extra])))
