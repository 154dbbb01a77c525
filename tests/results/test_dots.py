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
    offsets = spread(np.array([1.0, 1.0, 1.0, 5.0]), near=0.1, step=0.2)
    assert sorted(offsets[:3]) == pytest.approx([-0.2, 0, 0.2]) and offsets[3] == 0


def test_axes_are_in_log_units():
    """Of the space's own base and range; of other texts the values span the axis, words in equal steps."""
    places, ticks = scale(pd.Series([1e-4, 1e-3, 0.1]), "10^U(-4, -1)")
    assert places == pytest.approx([0, 1 / 3, 1]) and [t for _, t in ticks] == ["0.0001", "0.001", "0.01", "0.1"]
    places, ticks = scale(pd.Series([0.25, 2.0]), "4^U(-1, 1)")
    assert places == pytest.approx([0, 0.75]) and ticks == [(0, "0.25"), (0.5, "1"), (1, "4")]
    assert [t for _, t in scale(pd.Series([0.25]), "2^U(-2.5, 0)")[1]] == ["$2^{-2}$", "$2^{-1}$", "$2^{0}$"]
    places, ticks = scale(pd.Series([1, 4, 2]), "{1, 2, 4}")
    assert places == pytest.approx([0, 1, 0.5]) and [t for _, t in ticks] == ["1", "2", "4"]
    assert scale(pd.Series(["linear", "cosine"]), "{linear, cosine}")[0] == pytest.approx([1, 0])
    assert scale(pd.Series([3, 3]), "{3}")[0] == pytest.approx([0.5, 0.5])


def test_one_bad_sample_does_not_flatten_the_loss_axis():
    assert loss_range(np.array([2.0, 2.1, 2.2])) == (2.0, 2.2)
    assert loss_range(np.array([2.0, 2.1, 9.0])) == pytest.approx((2.0, 2.4))
    low, high = loss_range(np.array([2.0]))
    assert low == 2.0 < high
