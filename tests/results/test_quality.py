"""E, kappa and R(inf) give back what was planted, and say so when nothing can be said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mutransfer.results import transfer_report
from mutransfer.results.transfer import centred, interpolate, kappa, limit_loss, line, octave_cost

WIDTHS = np.array([64.0, 128, 256, 512, 1024])


def test_line_by_hand():
    """Slope and RMS residual of three points, worked out on paper; a NaN is as if it had never been there."""
    slope, rms = line(np.array([0.0, 1, 2, 9]), np.array([[0.0, 3, 0, np.nan], [1, 2, 3, np.nan]]))
    assert slope == pytest.approx([0, 1])
    assert rms == pytest.approx([np.sqrt(2), 0])


def test_interpolate_ends_at_the_grid_and_at_divergence():
    """An extrapolated or infinite cost would enter kappa as if it were measured."""
    x, y = np.array([-3.0, -2.0, -1.0]), np.array([[4.0, 2.0, np.inf]] * 5)
    got = interpolate(x, y, np.array([-3.5, -3.0, -2.25, -2.0, -1.5]))
    assert got == pytest.approx([np.nan, 4.0, 2.5, 2.0, np.nan], nan_ok=True)


def test_octave_cost_of_a_parabola_is_its_curvature():
    """a(x - x0)^2 costs exactly a one octave off, wherever x0 lies between the grid points."""
    x = np.arange(-10.0, 1.0)
    for vertex in (-5.0, -4.7, -4.5):
        cost = octave_cost(x, 0.3 * (x - vertex)[None] ** 2, np.array([vertex]))
        assert cost == pytest.approx([0.3])


def test_kappa_recovers_a_planted_exponent(planted):
    """If a miss costs width^0.5, kappa is 0.5; with fewer than three usable widths it is not a fit."""
    runs = pd.concat([planted(widths=[int(w)], curvature=0.01 * w**0.5) for w in WIDTHS])
    result = transfer_report(runs).parametrizations["sp"]
    assert result.kappa.value == pytest.approx(0.5, abs=1e-6) and result.kappa_widths == 5
    runs.loc[(runs.width > 128) & (runs.log2_lr > -4), "train_loss"] = np.inf
    result = transfer_report(runs).parametrizations["sp"]
    assert np.isnan(result.kappa.value) and result.kappa_widths == 2
    assert "only 2 of 5 widths" in result.kappa.reason


def test_kappa_leaves_out_and_goes_on():
    """One width without a measured side must not take the other widths with it."""
    cost = np.array([[1.0, 2.0, np.nan, 8.0, 16.0]])
    assert kappa(np.log2(WIDTHS), cost) == pytest.approx([1.0])


@pytest.mark.parametrize("exponent", [0.3, 0.5, 1.0, 1.6])
def test_limit_loss_recovers_a_planted_law(exponent):
    """The fit must find L(inf) of losses that obey L + A n^-b exactly."""
    loss = 1.2 + 3.0 * WIDTHS**-exponent
    assert limit_loss(WIDTHS, loss[None]) == pytest.approx([1.2], abs=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        np.array([1.0, 1.1, 1.2, 1.3, 1.4]),  # rises with width
        np.ones(5),  # does not move
        3.0 - 0.2 * np.log2(WIDTHS),  # falls forever: b on its lower bound
    ],
)
def test_limit_loss_says_when_it_cannot_know(loss):
    """An extrapolation without support in the data must be NaN, not a number."""
    assert np.isnan(limit_loss(WIDTHS, loss[None])).all()
    assert np.isnan(limit_loss(WIDTHS[:3], 1 + 1 / WIDTHS[None, :3])).all()


def test_r_inf_is_the_planted_penalty(planted):
    """SP's limit loss is 0.07 above µP's: that is its R(inf). Alone there is nothing to compare with."""
    runs = planted({"sp": 0.0, "mup": 0.0}, start=-4.0)
    runs["train_loss"] += 0.07 * (runs.parametrization == "sp")
    found = transfer_report(runs).parametrizations
    assert found["sp"].r_inf.value == pytest.approx(0.07, abs=1e-6)
    assert found["mup"].r_inf.value == 0
    alone = transfer_report(runs[runs.parametrization == "sp"]).parametrizations["sp"]
    assert np.isnan(alone.r_inf.value) and "no other parametrization" in alone.r_inf.reason


def test_error_of_fit_is_zero_on_a_line_and_the_bend_otherwise(planted):
    """E is the distance from the power law: none when planted on one, the residual when a width is off."""
    assert transfer_report(planted(-0.5)).parametrizations["sp"].E.value == pytest.approx(0, abs=1e-9)
    bent = pd.concat([planted(widths=[64, 256], start=-4.0), planted(widths=[128], start=-5.0)])
    # Log-widths 0, 1, 2 at -4, -5, -4: the line is -13/3, residuals 1/3, -2/3, 1/3.
    expected = transfer_report(bent).parametrizations["sp"].E.value
    assert expected == pytest.approx(np.sqrt(6) / 9 * np.sqrt(3), abs=1e-9)
    two = transfer_report(planted(widths=[64, 128])).parametrizations["sp"].E
    assert np.isnan(two.value) and two.reason


def test_centred_draws_keep_their_estimate_inside():
    """Noise makes a draw's residual larger than the point's; the shift takes the mean excess away."""
    raw = np.array([0.1, 0.2, 0.3, 0.25])
    assert np.mean(centred(raw)[1:] ** 2) >= 0.01 - 1e-12
    assert centred(raw)[0] == pytest.approx(0.1)
