"""The verdict: right on planted drifts, honest about what it does not know."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mutransfer.errors import UserError
from mutransfer.results import Estimate, transfer_report
from mutransfer.results.drift import decide, freedom, seeds_to_decide, stretch


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
    sweeps, hits, error, width = 120, 0, [], []
    for k in range(sweeps):
        runs = planted(-0.4, widths=(64, 256, 1024), grid=range(-9, 0), noise=0.01, random_state=k, seeds=seeds)
        slope = transfer_report(runs, draws=200, seed=k).parametrizations["sp"].slope
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
