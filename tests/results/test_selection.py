"""Which samples a search looks at, who wins it, what it costs, and the rungs of successive halving."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutransfer.errors import UserError
from mutransfer.results import selection
from mutransfer.results.selection import ETA, halve, rung_plan, searches

INF, NAN = math.inf, math.nan


def test_gpt3_costs_seven_percent():
    """App. F.4: 350 runs of 4B tokens and 117 of 16B at 40M parameters, for 6.7B parameters and 300B tokens."""
    assert pytest.approx(0.0651, abs=5e-5) == selection.GPT3 and round(selection.GPT3, 2) == 0.07  # as printed
    first_stage = selection.tuning_cost_fraction(40e6, [(350, 4e9)], 6.7e9, 300e9)
    assert first_stage == pytest.approx(0.0279, abs=5e-5)


@given(st.integers(1, 500), st.integers(1, 20_000))
def test_rungs_shrink_and_lengthen_by_eta(samples, steps):
    """From all samples to a whole run; every rung is long enough to compare, and above 1/50 of a run (its curve)."""
    if samples < ETA or steps < ETA * selection.LEAST_STEPS:
        with pytest.raises(UserError, match=f"here are {samples} and {steps}"):
            rung_plan(samples, steps)
        return
    plan = rung_plan(samples, steps)
    assert len(plan) >= 2 and plan[0][0] == samples and plan[-1][1] == steps
    for (many, short), (few, long) in pairwise(plan):
        assert few == many // ETA >= 1 and short == long // ETA >= selection.LEAST_STEPS
    assert plan[0][1] >= steps // 50


@pytest.mark.parametrize(("samples", "steps", "k"), [(64, 640, 3), (16, 100, 2), (4, 6400, 2), (256, 16_000, 3)])
def test_the_cost_of_halving_is_the_closed_form(samples, steps, k):
    """Where no run diverges, k rungs cost k / ETA^(k-1) of the full search."""
    plan = rung_plan(samples, steps)
    assert len(plan) == k and sum(n * t for n, t in plan) / (samples * steps) == pytest.approx(k / ETA ** (k - 1))


LOSSES = st.lists(st.one_of(st.floats(0, 10), st.just(INF), st.just(NAN)), min_size=16, max_size=16)


@given(LOSSES, LOSSES, LOSSES)
def test_halving_keeps_no_diverged_run_while_a_finite_one_waits(first, second, third):
    """Whatever the losses: those that go on have the least finite losses of their rung, and nothing runs twice."""
    table = {40: first, 160: second, 640: third}
    rungs = halve(rung_plan(16, 640), lambda samples, steps: {i: table[steps][i] for i in samples})
    for before, after in pairwise(rungs):
        went_on = list(after.losses)
        assert all(math.isfinite(before.losses[i]) for i in went_on)
        assert went_on == before.ranking[: len(went_on)]
        assert after.ranking or len(went_on) == len(before.ranking)  # none left in line
    assert bool(rungs[1].ranking) == any(math.isfinite(second[i]) for i in rungs[0].ranking)


def test_if_all_that_went_on_diverge_the_next_in_line_are_taken_up():
    """A learning rate that is best for 25 steps and diverges afterwards must not end the search without a winner."""
    calls = []

    def measure(samples, steps):
        calls.append((list(samples), steps))
        return {i: INF if steps == 100 and i < 3 else float(i) for i in samples}

    rungs = halve([(8, 25), (2, 100)], measure)
    assert calls == [(list(range(8)), 25), ([0, 1], 100), ([2, 3], 100)]
    assert rungs[-1].ranking == [3]


def test_looks_are_the_same_on_every_machine():
    """A committed table is read by what these give: they must never change. All are looked at equally often."""
    assert searches(8, 3, 3, seed=0) == [(5, 0, 2), (7, 4, 1), (1, 7, 0)]  # by sha256sum(1)
    assert searches(8, 3, 3, seed=1) != searches(8, 3, 3, seed=0)
    counts = np.bincount(np.ravel(searches(20, 5, 2000, seed=0)), minlength=20)
    assert (abs(counts - 500) < 5 * math.sqrt(2000 * 0.25 * 0.75)).all()  # five standard errors


@given(st.integers(1, 40), st.data(), st.integers(1, 6), st.integers(0, 9))
def test_looks_are_without_replacement_and_nested(pool, data, count, seed):
    """No sample twice; more samples or more searches keep what was looked at, so that a study can grow."""
    size = data.draw(st.integers(1, pool))
    looks = searches(pool, size, count, seed)
    assert all(len(set(look)) == size and set(look) <= set(range(pool)) for look in looks)
    assert [look[:1] for look in looks] == searches(pool, 1, count, seed)
    assert searches(pool, size, count + 1, seed)[:count] == looks
    for size in (0, pool + 1):
        with pytest.raises(UserError, match=f"looks at {size} samples of a pool of {pool}"):
            searches(pool, size, count, seed)


def test_winners():
    """The least loss; of a tie the lower number, whatever the order; nobody where all diverged or failed."""
    losses = {0: 2.0, 1: 1.0, 2: 1.0, 3: INF, 4: NAN, 5: 0.5}
    assert selection.winners(losses, [(0, 2, 1), (3, 4), (3, 0), (5,)]) == [1, None, 0, 5]
    assert selection.ranking(losses) == [5, 1, 2, 0]
