"""A malformed runs table is refused in words, never averaged over."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mutransfer.errors import UserError
from mutransfer.results import needs_extension, transfer_report
from mutransfer.results.frame import missing_cells, tidy


def put(column, value):
    return lambda runs: runs.assign(**{column: runs[column].astype(object).mask(runs.index == 7, value)})


BAD = {
    "a column is missing": (lambda runs: runs.drop(columns=["log2_lr", "train_loss"]), "lacks log2_lr, train_loss"),
    "no rows": (lambda runs: runs[:0], "no rows"),
    "twice": (lambda runs: pd.concat([runs, runs[:1]]), "twice, first parametrization sp, width 64, log2_lr -12, seed"),
    "no loss": (put("train_loss", np.nan), "1 runs of the figure finished without a train_loss, .* width 64, log2_lr"),
    "-inf": (put("train_loss", -np.inf), "finished without a train_loss"),
    "an infinite rate": (put("log2_lr", np.inf), "'inf' as log2_lr, expected a finite number"),
    "no width": (put("width", 0), "a width below 1"),
    "half a width": (put("width", 64.5), "'64.5' as width, expected a whole number"),
    "a word": (put("seed", "abc"), "'abc' as seed"),
    "failed": (lambda runs: put("status", "failed")(runs.assign(status="finished")), "1 runs failed, first"),
    "two variants": (lambda runs: put("variant", "tanh")(runs.assign(variant="relu")), r"in variant \(relu, tanh\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_table_is_refused(planted, name):
    """It would weigh a run double, average over what is no number, or mix losses that do not compare."""
    change, message = BAD[name]
    with pytest.raises(UserError, match=message):
        transfer_report(change(planted()))


def test_status_overrules_the_loss(planted):
    """A diverged run may still carry its last finite loss; it must not win."""
    runs = planted().assign(status="finished")
    best = transfer_report(runs).optima.loc[0, "grid_log2_lr"]
    at = (runs.width == 64) & (runs.log2_lr == best) & (runs.seed == 1)
    diverged = transfer_report(runs.assign(status=runs["status"].mask(at, "diverged"))).optima.loc[0]
    assert diverged.grid_log2_lr != best and not diverged.refined


def test_a_gap_raises_and_is_named(planted):
    """A learning rate without one of its seeds has a mean over other seeds than its neighbours."""
    runs = planted().query("not (width == 256 and log2_lr == -5 and seed == 2)")
    for claim in (transfer_report, needs_extension):
        with pytest.raises(UserError, match=r"1 runs are missing, .* width 256, log2_lr -5, seed 2;"):
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
    told, shuffled = transfer_report(runs), transfer_report(runs.sample(frac=1, random_state=3))
    assert str(told) == str(shuffled)
    pd.testing.assert_frame_equal(told.optima, shuffled.optima)
