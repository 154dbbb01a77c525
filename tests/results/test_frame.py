"""A malformed runs table is refused in words, never averaged over."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mutransfer.errors import UserError
from mutransfer.results import needs_extension, transfer_report
from mutransfer.results.frame import missing_cells, tidy


def test_missing_columns_are_named(planted):
    """A user's own table often lacks a column; the error must say which, not raise a KeyError."""
    with pytest.raises(UserError, match="lacks log2_lr, train_loss"):
        transfer_report(planted().drop(columns=["log2_lr", "train_loss"]))


def test_empty_table(planted):
    """No rows is a sweep that never ran, not a report without results."""
    with pytest.raises(UserError, match="no rows"):
        transfer_report(planted().iloc[:0])


def test_duplicates_are_refused(planted):
    """A run that stands twice would weigh double in every mean."""
    runs = planted()
    with pytest.raises(UserError, match=r"stand twice.*\(sp, width 64, 2\^-12, seed 0\)"):
        transfer_report(pd.concat([runs, runs.iloc[:1]]))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("train_loss", np.nan),
        ("train_loss", -np.inf),
        ("log2_lr", np.inf),
        ("width", 0),
        ("seed", "abc"),
        ("width", np.nan),
    ],
)
def test_values_that_are_no_numbers_are_refused(planted, column, value):
    """NaN compares false with everything: an argmin over it returns nonsense without a word."""
    runs = planted().astype(object)
    runs.loc[7, column] = value
    with pytest.raises(UserError, match=r"1 of 195 runs.*seed=" if column != "seed" else "seed=abc"):
        transfer_report(runs)


def test_status_overrules_the_loss(planted):
    """A diverged run may carry its last finite loss; it must not win. A failed run is no measurement."""
    runs = planted().assign(status="finished")
    best = transfer_report(runs).optima.loc[0, "grid_log2_lr"]
    at = (runs.width == 64) & (runs.log2_lr == best) & (runs.seed == 1)
    diverged = transfer_report(runs.assign(status=np.where(at, "diverged", "finished"))).optima.loc[0]
    assert diverged.grid_log2_lr != best and not diverged.refined
    with pytest.raises(UserError, match="1 of 195 runs failed"):
        transfer_report(runs.assign(status=np.where(at, "failed", "finished")))


def test_mixed_settings_are_refused(planted):
    """Losses of two variants or two data sets in one curve look like an optimum that is none."""
    runs = planted()
    runs["variant"] = np.where(runs.width == 64, "relu", "tanh")
    with pytest.raises(UserError, match=r"several values of variant \(relu, tanh\)"):
        transfer_report(runs)


def test_a_gap_raises_and_is_named(planted):
    """A learning rate without one of its seeds has a mean over other seeds than its neighbours."""
    runs = planted().query("not (width == 256 and log2_lr == -5 and seed == 2)")
    for claim in (transfer_report, needs_extension):
        with pytest.raises(UserError, match=r"1 runs are missing: \(sp, width 256, 2\^-5, seed 2\)"):
            claim(runs)


def test_missing_cells_knows_an_extension_from_a_gap(planted):
    """A grid that the sweep extended at one width is whole; a hole inside of another width's range is not."""
    runs = tidy(planted(widths=[64, 128], grid=range(-8, 0), seeds=1))
    extended = tidy(pd.concat([runs, runs.query("width == 64 and log2_lr == -8").assign(log2_lr=-9.0)]))
    assert missing_cells(extended) == []
    assert missing_cells(extended.query("not (width == 128 and log2_lr == -6)")) == [("sp", 128, -6.0, 0)]
    assert missing_cells(runs, [0.0]) == [("sp", 64, 0.0, 0), ("sp", 128, 0.0, 0)]


def test_row_order_does_not_matter(planted):
    """Workers finish in any order; the same runs must give the same report, intervals included."""
    runs = planted({"sp": -0.5, "mup": 0.1}, noise=0.01)
    shuffled = runs.sample(frac=1, random_state=3)
    assert str(transfer_report(runs)) == str(transfer_report(shuffled))
    pd.testing.assert_frame_equal(transfer_report(runs).optima, transfer_report(shuffled).optima)
