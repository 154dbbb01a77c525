"""Does pretraining matter: the declared rule on known scores, and what a figure must have."""

import pandas as pd
import pytest

from mutransfer.errors import UserError
from mutransfer.results.scores import pretraining_lines, pretraining_section

SCORES = {"sst2": {"label": "SST-2", "metric": "accuracy", "unit": "%"}}


def runs(pretrained, scratch):
    return pd.DataFrame({"width": 64, "seed": range(len(scratch)), "sst2": pretrained, "sst2_scratch": scratch})


@pytest.mark.parametrize(
    ("pretrained", "scratch", "verdict"),
    [
        ([70, 71, 72], [60, 61, 62.5], "yes"),  # +9.83, spread 0.29
        ([60, 61, 62.5], [70, 71, 72], "no"),
        ([70, 61, 72], [60, 61, 62.5], "undecided"),  # +6.5 with a spread of 5.6
        ([70, 71], [60, 61], "undecided (2 runs, fewer than 3)"),
    ],
)
def test_the_rule(pretrained, scratch, verdict):
    frame = runs(pretrained, scratch)
    (line,) = pretraining_lines({"scores": SCORES}, frame)
    assert line.startswith(f"width 64, does pretraining matter: SST-2, accuracy (%): {verdict}, ")
    _, table, rule = pretraining_section({"scores": SCORES}, frame)
    assert f"**{verdict}**" in table and "fewer than 3 runs" in rule


def test_pairs_decide_not_means():
    """Seeds that differ by more than the gain do not hide it: the difference is paired by run."""
    (line,) = pretraining_lines({"scores": SCORES}, runs([50, 70, 90], [48, 68.1, 88.2]))
    assert "(%): yes" in line


def test_a_gap_is_told_and_other_figures_have_no_section():
    frame = runs([1, 2, 3], [1, 2, 3])
    assert pretraining_section({}, frame) == [] == pretraining_lines({}, frame)
    with pytest.raises(UserError, match="lacks sst2_scratch; run the figure again"):
        pretraining_section({"scores": SCORES}, frame.drop(columns="sst2_scratch"))
