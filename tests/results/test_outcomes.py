"""Outcomes of repeated searches, made by hand: percentiles, intervals, and one method against another."""

import math
from dataclasses import replace

import numpy as np
import pytest
from search_table import outcomes

from mutransfer.results.estimate import Estimate
from mutransfer.results.outcomes import Metric, by_medians, difference_text, percentile

INF = math.inf
DOWN = -INF


METRIC = Metric("bleu_valid", "validation BLEU", "BLEU", 2, True)


def against(ours, its, higher_is_better=True):
    metric = replace(METRIC, higher_is_better=higher_is_better)
    return by_medians(outcomes(ours), outcomes(its, "direct"), metric)


def test_percentiles_with_infinity():
    """+inf is a loss like others; the median of an even number is the mean of the two in the middle."""
    values = np.array([3.0, INF, 1.0, 2.0])
    assert [float(percentile(values, q)) for q in (0, 25, 50, 75, 100)] == [1, 1.5, 2.5, INF, INF]
    assert [float(percentile(np.array([3.0, 1.0, 2.0]), q)) for q in (25, 50, 75)] == [1, 2, 3]
    assert float(percentile(np.array([INF, INF]), 50)) == INF
    values = np.random.default_rng(0).normal(size=(50, 9))
    assert np.array_equal(percentile(values, 50), np.median(values, axis=1))


@pytest.mark.parametrize(
    ("values", "percents", "expected"),
    [
        ([20, DOWN, 30, 10, DOWN], (0, 25, 50, 75, 100), [DOWN, DOWN, 10, 20, 30]),
        (np.random.default_rng(0).permutation(25) + 1, (25, 50, 75, 100), [7, 13, 19, 25]),
        ([25.69, DOWN, DOWN], (0, 50, 100), [DOWN, DOWN, 25.69]),
    ],
)
def test_percentiles_are_outcomes_of_a_search_diverged_ones_lowest(values, percents, expected):
    """As Tables 4 and 5 have them."""
    assert [outcomes(values).percentile(p, "bleu_valid").value for p in percents] == expected


def test_intervals_by_hand():
    """Of 3 searches draws take 2: the median lies anywhere from the least to the most, at 1/9 each end."""
    known = outcomes([1, 2, 3]).percentile(50, "bleu_valid")
    assert (known.value, known.low, known.high) == (2, 1, 3)
    mixed = outcomes([DOWN, 2, 3]).percentile(50, "bleu_valid")
    assert (mixed.value, mixed.low, mixed.high) == (2, DOWN, 3)
    alone = outcomes([2.0]).percentile(50, "bleu_valid")
    assert math.isnan(alone.low) and alone.reason == "one search"


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_better_worse_and_undecided(higher_is_better):
    """Of scores the higher median is better, of losses the lower."""
    high, low = [35.0, 35.1, 35.2, 35.3, 35.4], [33.0, 33.1, 33.2, 33.3, 33.4]
    good, bad = (high, low) if higher_is_better else (low, high)
    better, worse = against(good, bad, higher_is_better), against(bad, good, higher_is_better)
    assert (better.verdict, better.share) == ("better", "5 of 5 searches")
    assert better.difference.value == pytest.approx(2.0 if higher_is_better else -2.0)
    assert (worse.verdict, worse.share) == ("worse", "0 of 5 searches")
    same = against(bad, bad, higher_is_better)
    assert (same.verdict, same.share, same.difference.value) == ("undecided", "0 of 5 searches (5 ties)", 0.0)


@pytest.mark.parametrize(("lost", "higher_is_better"), [(DOWN, True), (INF, False)])
def test_diverged_medians_lose_by_infinity_and_two_tie(lost, higher_is_better):
    fine, lost = [35.0] * 5, [lost] * 5
    better = against(fine, lost, higher_is_better)
    words = {True: "+inf [+inf, +inf]", False: "-inf [-inf, -inf]"}
    assert better.verdict == "better" and difference_text(better.difference) == words[higher_is_better]
    assert against(lost, fine, higher_is_better).verdict == "worse"
    both = against(lost, lost, higher_is_better)
    assert (both.verdict, both.difference.value) == ("undecided", 0.0) and "(5 ties)" in both.share


def test_a_median_that_barely_diverged_is_undecided_where_the_rest_is_better():
    """5 of 9 diverged, the other 4 far above: the draws do not agree on the sign."""
    barely = against([35.0] * 9, [DOWN] * 5 + [40.0] * 4)
    assert barely.difference.value == INF and barely.difference.low < 0 and barely.verdict == "undecided"


def test_little_evidence_is_undecided_with_its_reason():
    """However large the difference: with four searches, or if all that had a winner selected one sample."""
    assert against([35.0] * 4, [33.0] * 4).text == "undecided (4 searches, fewer than 5)"
    means = {None: DOWN, 0: 35.0}
    for chosen in ((0,) * 5, (0, 0, None, 0, 0)):
        ours = replace(outcomes([means[i] for i in chosen]), chosen=chosen)
        same = by_medians(ours, outcomes([33.0] * 5, "direct"), METRIC)
        assert same.text == "undecided (all searches selected the same sample)" and same.share[0] in "45"


def test_noise_alone_is_rarely_called_better():
    """Two methods alike: in no more than 15% of 200 tables of 9 searches is the verdict anything but undecided.

    The percentile interval of a median over few values is known to cover less than 95%; a rule that saw winners in
    noise would be far above that.
    """
    rng = np.random.default_rng(0)
    verdicts = [against(*rng.normal(size=(2, 9))).verdict for _ in range(200)]
    assert verdicts.count("undecided") >= 170


def test_how_numbers_are_written():
    """Differences have a sign; what is diverged in every draw has no interval."""
    assert difference_text(Estimate(0.123, -0.031, 0.2)) == "+0.12 [-0.03, +0.20]"
    assert difference_text(Estimate(-0.12345, -0.2, -0.1), 4) == "-0.1235 [-0.2000, -0.1000]"
    assert difference_text(Estimate(0.001, reason="one search")) == "0.00 (no interval: one search)"
    assert outcomes([DOWN] * 5).text(50, "bleu_valid") == "diverged"
    assert outcomes([DOWN, 2, 3]).text(50, "bleu_valid") == "2.00 [diverged, 3.00]"
