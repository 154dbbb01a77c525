"""The best learning rate of a width, refined and bounded as the rule says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutransfer.errors import UserError
from mutransfer.results import needs_extension, transfer_report, untested_transfers
from mutransfer.results.frame import Curves
from mutransfer.results.transfer import bootstrap_optima, find_optima


@given(
    st.lists(st.floats(0.25, 3.0), min_size=4, max_size=10),
    st.floats(0.01, 0.99),
    st.floats(0.01, 5.0),
)
def test_a_parabola_on_any_grid_gives_back_its_vertex(steps, place, curvature):
    """Three points determine a parabola, whatever their spacing: the refinement must be exact for it."""
    x = np.cumsum([-11.0, *steps])
    vertex = x[1] + place * (x[-2] - x[1])
    found = find_optima(x, curvature * (x - vertex)[None] ** 2)
    if found.edge[0]:  # a lopsided grid can put the nearest point on its end
        return
    assert found.refined[0]
    assert found.log2_lr[0] == pytest.approx(vertex, abs=1e-6)


def test_the_vertex_stays_between_the_neighbours():
    """A kink's parabola must not point to a learning rate beyond the ones that enclose the best."""
    x = np.array([-8.0, -5.0, -4.0, -3.0])
    for y in ([9.0, 1.0, 1.0 - 1e-9, 1.0], [1.0 + 1e-12, 1.0, 5.0, 9.0], [1e9, 1.0, 1.0, 1e9]):
        found = find_optima(x, np.array([y]))
        k = found.index[0]
        assert x[max(k - 1, 0)] <= found.log2_lr[0] <= x[min(k + 1, 3)]


def test_three_equal_losses_keep_the_grid_point():
    """A flat curve has no vertex; dividing by its curvature would give NaN."""
    found = find_optima(np.array([-3.0, -2.0, -1.0, 0.0]), np.array([[2.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0]]))
    assert not np.isnan(found.log2_lr).any()


def test_divergence_brackets_but_absence_does_not():
    """Beside divergence LR* is known to the grid; at the end of the grid it is only bounded."""
    x = np.array([-4.0, -3.0, -2.0])
    diverged = find_optima(x, np.array([[3.0, 1.0, np.inf]]))
    assert (diverged.log2_lr[0], diverged.edge[0], diverged.refined[0]) == (-3.0, False, False)
    absent = find_optima(x, np.array([[3.0, 2.0, 1.0]]))
    assert (absent.log2_lr[0], absent.edge[0], absent.refined[0]) == (-2.0, True, False)


def test_one_diverged_seed_disqualifies_a_learning_rate(planted):
    """A mean over the survivors would prefer the learning rate at which the others died."""
    runs = planted(seeds=3, start=-4.0)
    runs.loc[(runs.log2_lr == -4) & (runs.seed == 0), "train_loss"] = np.inf
    optima = transfer_report(runs).optima
    assert (optima.grid_log2_lr != -4).all() and np.isfinite(optima.loss).all()


def test_bootstrap_variance_is_unbiased_at_two_and_three_seeds():
    """Drawing n of n seeds would understate the variance of a mean by (n-1)/n: by half at two seeds."""
    rng = np.random.default_rng(0)
    for seeds in (2, 3):
        spread = []
        for _ in range(300):
            vertex = rng.normal(-4, 0.1, size=(seeds, 1))
            x = np.arange(-8.0, 1.0)
            # The mean of equal parabolas has the mean of their vertices.
            found = bootstrap_optima(Curves(64, x, (x - vertex) ** 2), 200, rng)
            spread.append(found.log2_lr[1:].var())
        assert np.mean(spread) == pytest.approx(0.01 / seeds, rel=0.15)


def test_an_optimum_beside_divergence_is_not_known_better_than_its_grid():
    """All seeds agree on the grid point, yet half an octave is not resolved: no interval of width zero."""
    x = np.arange(-8.0, 1.0)
    loss = np.where(x > -4, np.inf, (x + 3.0) ** 2) + np.zeros((3, 1))
    found = bootstrap_optima(Curves(64, x, loss), 2000, np.random.default_rng(0))
    assert found.log2_lr[0] == -4
    draws = (found.log2_lr + found.shift)[1:]
    assert np.quantile(draws, [0.025, 0.975]) == pytest.approx([-4.475, -3.525], abs=0.05)


def test_all_diverged_width_is_an_error_for_the_report_and_a_request_for_the_sweep(planted):
    """Nothing can be said about that width, but the sweep knows what to do: go lower."""
    runs = planted()
    runs.loc[runs.width == 512, "train_loss"] = np.inf
    with pytest.raises(UserError, match="'sp' at width 512 has no learning rate at which all seeds finished"):
        transfer_report(runs)
    assert needs_extension(runs) == [("sp", 512, "low")]


def test_needs_extension_names_the_side(planted):
    """The sweep extends by what this says: a wrong side would never find the optimum."""
    assert needs_extension(planted(-1.0, seeds=1, widths=[64, 1024], grid=range(-7, 0))) == [("sp", 1024, "low")]
    assert needs_extension(planted(1.0, seeds=1, widths=[64, 1024], grid=range(-7, 0))) == [("sp", 1024, "high")]
    assert needs_extension(planted(0.0, seeds=1, widths=[64])) == []
    runs = planted(0.0, seeds=1, widths=[64], grid=[-4])
    assert needs_extension(runs) == [("sp", 64, "low"), ("sp", 64, "high")]


def test_a_diverged_neighbour_needs_no_extension(planted):
    """Divergence brackets the optimum: extending beyond it would burn runs that all diverge."""
    runs = planted(start=-4.0)
    runs.loc[runs.log2_lr > -4, "train_loss"] = np.inf
    assert needs_extension(runs) == []
    assert needs_extension(runs[runs.log2_lr <= -4]) == [("sp", width, "high") for width in (64, 128, 256, 512, 1024)]


def test_untested_transfers_are_the_runs_that_regret_lacks(planted):
    """An optimum found in an extension of the smallest width's grid was never run at the others."""
    runs = planted(-1.0, widths=[64, 128], seeds=1)
    assert untested_transfers(runs) == []
    assert untested_transfers(runs.query("width == 64 or log2_lr < -4")) == [("sp", 128, -4.0)]


def test_the_widest_models_rate_is_asked_for_everywhere(planted):
    """Figure 7's third panel: at the rate that suits the widest model every width must have run."""
    runs = planted(-1.0, widths=[64, 128], seeds=1)
    best = {width: part.loc[part["train_loss"].idxmin(), "log2_lr"] for width, part in runs.groupby("width")}
    assert best[128] < best[64]
    lacking = runs.query(f"width == 128 or log2_lr > {best[128]}")
    assert untested_transfers(runs, of_widest=True) == untested_transfers(lacking) == []
    assert untested_transfers(lacking, of_widest=True) == [("sp", 64, best[128])]
