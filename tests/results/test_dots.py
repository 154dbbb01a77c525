"""The axes of pictures of methods and of parallel coordinates: what is drawn where."""

import math

import numpy as np
import pandas as pd
import pytest

from mutransfer.results.draw.dots import limits, spread
from mutransfer.results.draw.parallel import loss_range, scale
from mutransfer.results.estimate import Estimate


def test_one_bad_search_does_not_flatten_the_axis():
    """The best 35, the worst median 34: the axis reaches down to 33; of losses the other way round."""
    scores = [np.array([35.0, 2.0, -math.inf]), np.array([34.0])], [Estimate(35.0), Estimate(34.0)]
    assert limits(*scores, higher_is_better=True) == pytest.approx((33 - 0.12, 35 + 0.12))
    losses = [np.array([1.0, 9.0, math.inf]), np.array([2.0])], [Estimate(1.0), Estimate(2.0), Estimate(math.inf)]
    assert limits(*losses, higher_is_better=False) == pytest.approx((1 - 0.12, 3 + 0.12))
    assert limits([np.array([-math.inf])], [], higher_is_better=True) == (0, 1)


def test_dots_on_one_another_stand_side_by_side():
    """However many, within their column."""
    offsets = spread(np.array([1.0, 1.0, 1.0, 5.0]), near=0.1)
    assert sorted(offsets[:3]) == pytest.approx([-0.1, 0, 0.1]) and offsets[3] == 0
    many = spread(np.ones(41), near=0.1, most=0.4)
    assert len({*many}) == 41 and max(abs(many)) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("values", "text", "places", "ends", "words"),
    [
        ([1e-4, 1e-3, 0.1], "10^U(-4, -1)", [0, 1 / 3, 1], (1e-4, 0.1), []),
        ([0.25, 2.0], "4^U(-1, 1)", [0, 0.75], (0.25, 4), []),
        ([1, 4, 2], "{1, 2, 4}", [0, 1, 0.5], (0, 2), ["1", "2", "4"]),
        (["linear", "cosine"], "{linear, cosine}", [1, 0], (0, 1), ["cosine", "linear"]),
        ([3, 3], "{3}", [0, 0], (0, 1), ["3"]),
    ],
)
def test_axes_are_in_log_units_of_the_space_and_choices_equally_far_apart(values, text, places, ends, words):
    found, *known = scale(pd.Series(values), text)
    assert found == pytest.approx(places) and known == [*map(pytest.approx, ends), words]


def test_one_bad_sample_does_not_flatten_the_loss_axis():
    assert loss_range(np.array([2.0, 2.1, 2.2])) == (2.0, 2.2)
    assert loss_range(np.array([2.0, 2.1, 9.0])) == pytest.approx((2.0, 2.4))
    low, high = loss_range(np.array([2.0]))
    assert low == 2.0 < high
