"""Optima, drift, verdict and measures: right on planted sweeps, and honest about what they cannot know."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutransfer.errors import UserError
from mutransfer.results import Estimate, needs_extension, transfer, transfer_report, untested_transfers
from mutransfer.results.frame import Curves

WIDTHS = np.array([64.0, 128, 256, 512, 1024])
GRID = np.arange(-8.0, 1.0)


def of_sp(runs, **options):
    return transfer_report(runs, **options).parametrizations["sp"]


@given(st.lists(st.floats(0.25, 3.0), min_size=4, max_size=10), st.floats(0.01, 0.99), st.floats(0.01, 5.0))
def test_a_parabola_on_any_grid_gives_back_its_vertex(steps, place, curvature):
    """Three points determine a parabola, whatever their spacing: the refinement must be exact for it."""
    x = np.cumsum([-11.0, *steps])
    vertex = x[1] + place * (x[-2] - x[1])
    optima = transfer.find_optima(x, curvature * (x - vertex)[None] ** 2)  # its nearest point may be an end of the grid
    assert optima.edge[0] or (optima.refined[0] and optima.log2_lr[0] == pytest.approx(vertex, abs=1e-6))


def test_the_vertex_stays_between_the_neighbours():
    """A kink's parabola must not point beyond the rates that enclose the best, nor a flat curve divide by zero."""
    x = np.array([-8.0, -5.0, -4.0, -3.0])
    kinks = [[9.0, 1.0, 1.0 - 1e-9, 1.0], [1.0 + 1e-12, 1.0, 5.0, 9.0], [1e9, 1.0, 1.0, 1e9]]
    optima = transfer.find_optima(x, np.array([*kinks, [2.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0]]))
    k = optima.index
    assert (x[(k - 1).clip(0)] <= optima.log2_lr).all() and (optima.log2_lr <= x[(k + 1).clip(max=3)]).all()


def test_divergence_brackets_but_absence_does_not(planted):
    """Beside divergence LR* is known to the grid, and no extension is needed; at the grid's end it is only bounded."""
    x = np.array([-4.0, -3.0, -2.0])
    for y, told in (([3.0, 1.0, np.inf], (-3.0, False, False)), ([3.0, 2.0, 1.0], (-2.0, True, False))):
        optima = transfer.find_optima(x, np.array([y]))
        assert (optima.log2_lr[0], optima.edge[0], optima.refined[0]) == told
    runs = planted(start=-4.0)
    runs.loc[runs.log2_lr > -4, "train_loss"] = np.inf
    assert needs_extension(runs) == []
    assert needs_extension(runs[runs.log2_lr <= -4]) == [("sp", width, "high") for width in WIDTHS]
    runs.loc[(runs.log2_lr == -4) & (runs.seed == 0), "train_loss"] = np.inf  # one seed disqualifies a learning rate
    optima = transfer_report(runs).optima
    assert (optima.grid_log2_lr == -5).all() and np.isfinite(optima.loss).all()


@pytest.mark.parametrize("seeds", [2, 3])
def test_bootstrap_variance_is_unbiased(seeds):
    """Drawing n of n seeds would understate the variance of a mean by (n-1)/n: by half at two seeds."""
    rng, spread = np.random.default_rng(0), []
    for _ in range(300):
        curves = Curves(64, GRID, (GRID - rng.normal(-4, 0.1, size=(seeds, 1))) ** 2)
        spread.append(transfer.bootstrap_optima(curves, 200, rng).log2_lr[1:].var())
    assert np.mean(spread) == pytest.approx(0.01 / seeds, rel=0.15)


def test_an_optimum_beside_divergence_is_not_known_better_than_its_grid():
    """All seeds agree on the grid point, yet half an octave is not resolved: no interval of width zero."""
    loss = np.where(GRID > -4, np.inf, (GRID + 3.0) ** 2) + np.zeros((3, 1))
    optima = transfer.bootstrap_optima(Curves(64, GRID, loss), 2000, np.random.default_rng(0))
    draws = (optima.log2_lr + optima.shift)[1:]
    assert optima.log2_lr[0] == -4
    assert np.quantile(draws, [0.025, 0.975]) == pytest.approx([-4.475, -3.525], abs=0.05)


def test_the_sweep_is_told_where_to_go_on(planted):
    """It extends by what this says, also where every learning rate diverged, of which the report can say nothing."""
    narrow = {"seeds": 1, "widths": [64, 1024], "grid": range(-7, 0)}
    assert needs_extension(planted(-1.0, **narrow)) == [("sp", 1024, "low")]
    assert needs_extension(planted(1.0, **narrow)) == [("sp", 1024, "high")]
    assert needs_extension(planted(0.0, seeds=1, widths=[64])) == []
    assert needs_extension(planted(0.0, seeds=1, widths=[64], grid=[-4])) == [("sp", 64, "low"), ("sp", 64, "high")]
    runs = planted()
    runs.loc[runs.width == 512, "train_loss"] = np.inf
    assert needs_extension(runs) == [("sp", 512, "low")]
    with pytest.raises(UserError, match="'sp' at width 512 has no learning rate at which all seeds finished"):
        transfer_report(runs)


def test_untested_transfers_are_the_runs_that_the_figures_lack(planted):
    """The smallest width's best rate, of its extended grid, at the others; for Figure 7 the widest's everywhere."""
    runs = planted(-1.0, widths=[64, 128], seeds=1)
    assert untested_transfers(runs) == untested_transfers(runs, of_widest=True) == []
    assert untested_transfers(runs.query("width == 64 or log2_lr < -4")) == [("sp", 128, -4.0)]
    lacking = runs.query("width == 128 or log2_lr > -5")
    assert untested_transfers(lacking) == []
    assert untested_transfers(lacking, of_widest=True) == [("sp", 64, -5.0)]


def test_planted_drifts_get_their_verdict(planted):
    """The three verdicts, each on data that can have no other."""
    cases = [(-0.75, "drifts"), (0.75, "drifts"), (0.0, "stable"), (-0.25, "undecided"), (0.25, "undecided")]
    for drift, verdict in cases:
        report = transfer_report(planted(drift, noise=0.01))
        result = report.parametrizations["sp"]
        assert report.verdict("sp") == result.verdict == verdict and verdict in result.sentence
        assert result.slope.value == pytest.approx(drift, abs=0.1)
        assert result.slope.low <= result.slope.value <= result.slope.high


@pytest.mark.parametrize(("seeds", "floor"), [(2, 0.8), (3, 0.9)])
def test_the_interval_covers_the_truth(planted, seeds, floor):
    """A 95% interval from few seeds must hold the planted slope most times, and not by being useless."""
    sweeps, hits, error, width = 70, 0, [], []
    for k in range(sweeps):
        runs = planted(-0.4, widths=(64, 256, 1024), grid=range(-9, 0), noise=0.01, random_state=k, seeds=seeds)
        slope = of_sp(runs, draws=100, seed=k).slope
        hits += slope.low <= -0.4 <= slope.high
        error.append(slope.value + 0.4)
        width.append(slope.high - slope.low)
    assert hits / sweeps >= floor
    assert np.mean(width) < 3 * 3.92 * np.std(error)


def test_the_rule_at_its_boundaries():
    """The rule is fixed beforehand, its boundaries included: stable is closed, drifts is open."""
    cases = {"stable": [(-0.25, 0.25)], "drifts": [(-0.9, -0.2500001), (0.26, 0.9)]}
    cases["undecided"] = [(-0.2500001, 0.2), (-0.9, -0.25), (-1.0, 1.0), (np.nan, np.nan)]
    for verdict, (low, high) in [(verdict, ends) for verdict, intervals in cases.items() for ends in intervals]:
        slope = Estimate((low + high) / 2, low, high)
        assert (transfer.decide(slope), transfer.decide(slope, on_edge=True)) == (verdict, "undecided")


def test_seeds_to_decide_by_hand():
    """Half-width 0.2, 0.1 from the boundary: four times the seeds where t is normal; on it, none help."""
    many = 1e9  # degrees of freedom: Student's t is the normal, the half-width shrinks as 1/sqrt(seeds)
    slopes = [Estimate(*x) for x in ((-0.3501, -0.5501, -0.1501), (0.1499, -0.0501, 0.3499), (0.25, 0.1, 0.4))]
    assert [transfer.seeds_to_decide(slope, 3, many) for slope in slopes] == [12, 12, None]
    assert transfer.seeds_to_decide(slopes[0], 3, 2.0) < 12
    assert transfer.seeds_to_decide(Estimate(0.26, 0.1, 0.42), 3, many) is None
    # three widths and two seeds leave two degrees of freedom: t is 4.303 where the normal has 1.960
    assert transfer.freedom(np.array([6.0, 8.0, 10.0])) == pytest.approx(2.0)
    assert transfer.stretch(2.0, 2) == pytest.approx(4.3027 / 1.95996, rel=1e-4)
    assert transfer.stretch(2.0, 100) == pytest.approx(1.0, abs=0.01)


def test_what_no_sweep_can_decide_is_undecided_and_said_so(planted):
    """However clear the slope looks, one seed carries no spread; beyond an edge the true optimum may lie anywhere."""
    report = transfer_report(planted(-0.75, seeds=1))
    assert report.verdict("sp") == "undecided" and np.isnan(report.parametrizations["sp"].slope.low)
    assert "run at least two" in str(report)
    assert report.optima[["low", "high", "loss_se"]].isna().all(axis=None)
    report = transfer_report(planted(-0.75, grid=range(-7, 0)))
    result = report.parametrizations["sp"]
    assert result.verdict == "undecided" and result.edges == ((512, "low"), (1024, "low"))
    assert "low edge at width 512 and low edge at width 1024" in result.sentence
    assert report.optima.on_edge.tolist() == [False, False, False, True, True]
    assert "on the low edge of the grid" in str(report)


def test_regret_by_hand(planted):
    """Vertices at -4 and -6: at width 256 2^-4 costs 0.1 x 2^2 more; +inf where it diverged, unknown if not run."""
    runs = planted(-1.0, widths=[64, 256], start=-4.0, curvature=0.1)
    optima = transfer_report(runs).optima
    assert optima.transferred_log2_lr.tolist() == [-4, -4]
    assert optima.regret.tolist() == pytest.approx([0.0, 0.4]) and of_sp(runs).regret.value == pytest.approx(0.4)
    lost = runs.assign(train_loss=runs.train_loss.mask((runs.width == 256) & (runs.log2_lr >= -4), np.inf))
    optimum = transfer_report(lost).optima.iloc[1]
    assert optimum.regret == optimum.regret_low == optimum.regret_high == np.inf
    assert "diverged" in str(transfer_report(lost))
    result = of_sp(runs.query("width == 64 or log2_lr < -4"))
    assert np.isnan(result.regret.value) and "not run" in result.regret.reason


def test_a_committed_interval_is_found_again(planted):
    """Each curve has its own random stream: another parametrization moves none, another seed draws anew."""
    both = planted({"sp": -0.5, "mup": 0.0}, noise=0.02)
    alone = both[both.parametrization == "sp"]
    assert of_sp(both).slope == of_sp(alone).slope != of_sp(alone, seed=1).slope


def test_the_report_cannot_be_changed_and_prints_all(planted):
    """A claim that a later cell can overwrite is none; `print(report)` is the whole interface for most users."""
    report = transfer_report(planted({"mup": 0.0, "sp": -0.75}, noise=0.005))
    taken = report.optima
    taken["loss"] = 0.0
    assert (report.optima.loss > 1).all()
    with pytest.raises(TypeError):
        report.parametrizations["sp"] = None
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.parametrizations["sp"].verdict = "stable"
    text = str(report).splitlines()
    assert len(text) == 1 + 10 + 2 and text[-2].startswith("SP: drifts.") and text[-1].startswith("µP: stable.")
    with pytest.raises(UserError, match="Did you mean 'mup'"):
        report.verdict("mupp")
    with pytest.raises(UserError, match=r"'sp' was run at one width only \(64\)"):
        transfer_report(planted(widths=[64]))


def test_kappa_recovers_a_planted_exponent(planted):
    """If a miss costs width^0.5, kappa is 0.5. A width without a measured side is left out; two are no fit."""
    runs = pd.concat([planted(widths=[int(w)], curvature=0.01 * w**0.5) for w in WIDTHS])
    assert of_sp(runs).kappa.value == pytest.approx(0.5, abs=1e-6) and of_sp(runs).kappa_widths == 5
    runs.loc[(runs.width > 128) & (runs.log2_lr > -4), "train_loss"] = np.inf
    result = of_sp(runs)
    assert np.isnan(result.kappa.value) and result.kappa_widths == 2
    assert "only 2 of 5 widths" in result.kappa.reason
    assert transfer.kappa(np.log2(WIDTHS), np.array([[1.0, 2.0, np.nan, 8.0, 16.0]])) == pytest.approx([1.0])


@pytest.mark.parametrize(
    ("loss", "limit"),
    [
        *((1.2 + 3.0 * WIDTHS**-exponent, 1.2) for exponent in (0.3, 0.5, 1.0, 1.6)),
        (np.array([1.0, 1.1, 1.2, 1.3, 1.4]), np.nan),  # rises with width
        (np.ones(5), np.nan),  # does not move
        (3.0 - 0.2 * np.log2(WIDTHS), np.nan),  # falls forever: b on its lower bound
        (1 + 1 / WIDTHS[:3], np.nan),  # too few widths
    ],
)
def test_limit_loss_recovers_a_planted_law(loss, limit):
    """L(inf) of losses that obey L + A n^-b exactly; an extrapolation without support in the data must be NaN."""
    assert transfer.limit_loss(WIDTHS[: len(loss)], loss[None]) == pytest.approx([limit], abs=1e-6, nan_ok=True)


def test_r_inf_is_the_planted_penalty(planted):
    """SP's limit loss is 0.07 above µP's: that is its R(inf). Alone there is nothing to compare with."""
    runs = planted({"sp": 0.0, "mup": 0.0}, start=-4.0)
    runs["train_loss"] += 0.07 * (runs.parametrization == "sp")
    results = transfer_report(runs).parametrizations
    assert results["sp"].r_inf.value == pytest.approx(0.07, abs=1e-6) and results["mup"].r_inf.value == 0
    alone = of_sp(runs[runs.parametrization == "sp"])
    assert np.isnan(alone.r_inf.value) and "every other parametrization" in alone.r_inf.reason


def test_error_of_fit_is_zero_on_a_line_and_the_bend_otherwise(planted):
    """E is the distance from the power law: none when planted on one, the residual when a width is off."""
    assert of_sp(planted(-0.5)).E.value == pytest.approx(0, abs=1e-9)
    bent = pd.concat([planted(widths=[64, 256], start=-4.0), planted(widths=[128], start=-5.0)])
    # log-widths 0, 1, 2 at -4, -5, -4: the line is -13/3, residuals 1/3, -2/3, 1/3
    assert of_sp(bent).E.value == pytest.approx(np.sqrt(2) / 3, abs=1e-9)
    two = of_sp(planted(widths=[64, 128])).E
    assert np.isnan(two.value) and two.reason


def inside(**changes):
    """Four runs inside of the rule of thumb, with changes to columns."""
    return pd.DataFrame({**{name: [least] * 4 for name, least in transfer.LEAST.items()}, **changes})


def test_what_the_rule_of_thumb_asks_for():
    """Five conditions with what the runs have, then the panels."""
    table = inside(width=[32, 64, 128, 256], depth=2, steps=[5000, 6000, 7000, 8000], batch=[16, 32, 64, 64])
    text = transfer.rule_of_thumb(table.drop(columns="length"), [("learning rate across width, µP", "transfers")])
    assert text.split("\n") == [
        "- width >= 256: met by those with 256 (32..256)",
        "- depth >= 4: out of reach (2)",
        "- batch >= 32: met by those with 32 and 64 (16..64)",
        "- sequence length >= 128: not recorded",
        "- steps >= 5000: met by all runs (5000..8000)",
        "",
        "- learning rate across width, µP: transfers",
    ]


@pytest.mark.parametrize(
    ("x_name", "line_name", "changes", "told"),
    [
        ("init std", "width", {}, "inside"),
        # the rule claims something only where every run, so the smallest line too, is in its range
        ("init std", "width", {"width": [32, 256, 256, 256]}, "outside of the rule's range (width from 32)"),
        ("init std", "width", {"width": 32, "steps": 250}, "outside of the rule's range (width from 32 and steps"),
        ("learning rate", "width", {"steps": None}, "outside of the rule's range (steps not recorded)"),
        ("init std", "depth", {}, "exceptions (init std across depth)"),
        ("learning rate", "depth", {"norm": "post"}, "exceptions (depth in post-LN)"),
        ("learning rate", "depth", {"variant": "post_ln"}, "exceptions (depth in post-LN)"),
        ("learning rate", "depth", {"norm": "pre"}, "inside"),
        ("init std", "width", {"norm": "post"}, "inside"),
    ],
)
def test_a_verdict_beside_the_rule_of_thumb(x_name, line_name, changes, told):
    """What it claims of the panel stands beside the verdict; what nobody wrote down cannot be claimed to hold."""
    text = transfer.panel_line(inside(**changes), "transfers", x_name=x_name, line_name=line_name)
    assert text.startswith("transfers, ") and told in text
