"""Does pretraining matter: the declared rule on known scores, and what a figure must have."""

import math

import pandas as pd
import pytest

from mutransfer.errors import UserError
from mutransfer.results.scores import pretraining

NAN = math.nan
SCORES = {"scores": {"sst2": {"label": "SST-2", "metric": "accuracy", "unit": "%"}}}


def runs(pretrained, scratch):
    return pd.DataFrame({"width": 64, "seed": range(len(scratch)), "sst2": pretrained, "sst2_scratch": scratch})


@pytest.mark.parametrize(
    ("pretrained", "scratch", "verdict"),
    [
        ([70, 71, 72], [60, 61, 62.5], "yes"),  # +9.83, spread 0.29
        ([60, 61, 62.5], [70, 71, 72], "no"),
        ([70, 61, 72], [60, 61, 62.5], "undecided"),  # +6.5 with a spread of 5.6
        ([70, 71], [60, 61], "undecided (2 runs, fewer than 3)"),
        ([NAN, 71, 72], [NAN, 61, 62.5], "undecided (2 runs, fewer than 3)"),  # a diverged run has no score
        ([NAN, NAN, NAN], [NAN, NAN, NAN], "undecided (0 runs, fewer than 3)"),
        ([60, 61, 62.5], [60, 61, 62.5], "no"),
        ([50, 70, 90], [48, 68.1, 88.2], "yes"),  # seeds differ by more than the gain, but it is paired by run
    ],
)
def test_the_rule(pretrained, scratch, verdict):
    (line,), (_, table, rule) = pretraining(SCORES, runs(pretrained, scratch))
    assert line.startswith(f"width 64, does pretraining matter: SST-2, accuracy (%): {verdict}, ")
    assert f"**{verdict}**" in table and "fewer than 3 runs" in rule


def test_a_gap_is_told_and_other_figures_have_no_section():
    frame = runs([1, 2, 3], [1, 2, 3])
    assert pretraining({}, frame) == ([], [])
    with pytest.raises(UserError, match="lacks sst2_scratch; run the figure again"):
        pretraining(SCORES, frame.drop(columns="sst2_scratch"))
