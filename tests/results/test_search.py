"""Who wins a search, what it costs, and successive halving, on losses made by hand."""

import math
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutransfer.errors import UserError
from mutransfer.results.search import Agreement, SearchReport
from mutransfer.results.selection import ETA, LEAST_STEPS, Rung, halve, ranking, rung_plan, tuning_cost_fraction

INF, NAN = math.inf, math.nan


def test_gpt3_costs_seven_percent():
    """App. F.4: 350 runs of 4B tokens and 117 of 16B at 40M parameters, for 6.7B parameters and 300B tokens."""
    fraction = tuning_cost_fraction(40e6, [(350, 4e9), (117, 16e9)], 6.7e9, 300e9)
    assert fraction == pytest.approx(0.0651, abs=5e-5)
    assert round(fraction, 2) == 0.07  # as printed
    assert tuning_cost_fraction(40e6, [(350, 4e9)], 6.7e9, 300e9) == pytest.approx(0.0279, abs=5e-5)  # not both stages


def test_best_first():
    """Diverged and failed runs have no rank; of a tie the sample drawn first, so that a repeat picks the same."""
    assert ranking({4: 1.0, 0: INF, 1: 2.0, 2: 1.0, 3: NAN}) == [2, 4, 1]
    assert ranking({0: INF, 1: NAN}) == []


@given(st.integers(1, 500), st.integers(1, 20_000))
def test_rungs_shrink_and_lengthen_by_eta(samples, steps):
    """From all samples to a whole run; every rung is long enough to compare, and above 1/50 of a run (its curve)."""
    if samples < ETA or steps < ETA * LEAST_STEPS:
        with pytest.raises(UserError, match=f"here are {samples} and {steps}"):
            rung_plan(samples, steps)
        return
    plan = rung_plan(samples, steps)
    assert len(plan) >= 2 and plan[0][0] == samples and plan[-1][1] == steps
    for (many, short), (few, long) in pairwise(plan):
        assert few == many // ETA >= 1 and short == long // ETA >= LEAST_STEPS
    assert plan[0][1] >= steps // 50


def test_the_cost_of_halving_is_the_closed_form():
    """Where no run diverges, k rungs cost k / ETA^(k-1) of the full search."""
    assert rung_plan(64, 640) == [(64, 40), (16, 160), (4, 640)]
    for samples, steps, k in ((64, 640, 3), (16, 100, 2), (4, 6400, 2), (256, 16_000, 3)):
        plan = rung_plan(samples, steps)
        assert len(plan) == k
        assert sum(n * t for n, t in plan) / (samples * steps) == pytest.approx(k / ETA ** (k - 1))


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


def test_agreement_by_hand():
    """Five samples, of which the rung ranks 0 1 2 3 4 and the full search 1 0 2 4 3: rho = 1 - 6*4/(5*24) = 0.8."""
    full = {0: 1.5, 1: 1.2, 2: 2.0, 3: INF, 4: 3.0}
    rungs = [Rung(25, {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0, 4: 5.0}), Rung(100, {0: 1.5})]
    found = Agreement.of(rungs, full)
    assert (found.winner, found.same_winner) == (1, False)
    assert found.regret == pytest.approx(0.3)
    assert found.rank_correlations[0] == pytest.approx(0.8)
    assert math.isnan(found.rank_correlations[1])  # of one sample there is none
    same = Agreement.of([rungs[0], Rung(100, {0: 1.5, 1: 1.2})], full)
    assert same.same_winner and same.regret == 0 and same.rank_correlations[1] == pytest.approx(1)


def runs_table(rows):
    """role, sample, steps, steps_done, status, loss; 10 FLOPs a step in the proxy, 1000 in the target of 400 steps."""
    names = ["role", "sample", "steps", "steps_done", "status", "train_loss"]
    frame = pd.DataFrame(rows, columns=names).assign(parametrization="mup")
    is_target = frame["role"] == "target"
    frame["width"] = is_target.map({True: 64, False: 8})
    return frame.assign(flops=frame["steps"] * is_target.map({True: 1000.0, False: 10.0}))


def finished(role, sample, steps, loss):
    return (role, sample, steps, steps, "finished", loss)


TARGET = finished("target", 0, 400, 0.5)
FULL = [finished("proxy", i, 400, 1.0 + i) for i in range(16)]


def test_a_diverged_run_costs_the_steps_it_lived():
    """15 runs of 400 steps and one of 50, at 1/100 of the target's FLOPs a step."""
    diverged = ("proxy", 15, 400, 50, "diverged", INF)
    report = SearchReport(runs_table([*FULL[:15], diverged, TARGET]), is_halved=False)
    assert report.cost_fraction == pytest.approx((15 * 400 + 50) / 400 / 100)
    assert SearchReport(runs_table([*FULL, TARGET]), is_halved=False).cost_fraction == pytest.approx(0.16)


def test_a_full_search_tells_what_halving_would_have_done():
    """From the losses on the way: two short rungs rank sample 5 first, so halving misses sample 0, and by how much."""
    frame = runs_table([*FULL, TARGET])
    on_the_way = [0.1 if i == 5 else 1.0 + i for i in range(16)]
    frame["loss_at_25"] = frame["loss_at_100"] = [*on_the_way, NAN]
    report = SearchReport(frame, is_halved=False)
    rungs, share = report.halving
    assert [(r.steps, len(r.losses)) for r in rungs] == [(25, 16), (100, 4), (400, 1)]
    assert share == pytest.approx(3 / 16)  # the closed form
    assert report.agreement.winner == 0 and not report.agreement.same_winner
    assert report.agreement.regret == pytest.approx(5)
    assert report.winner["sample"] == 0  # the search itself is the full one


def test_simulated_halving_saves_less_where_runs_diverge_early():
    """Diverged runs are cheap in the full search too: the share is of what was really spent."""
    dead = [("proxy", i, 400, 10, "diverged", INF) for i in range(4, 16)]
    frame = runs_table([*FULL[:4], *dead, TARGET])
    frame["loss_at_25"] = frame["loss_at_100"] = [1.0, 2.0, 3.0, 4.0, *[INF] * 12, NAN]
    rungs, share = SearchReport(frame, is_halved=False).halving
    assert [sorted(r.losses) for r in rungs] == [list(range(16)), [0, 1, 2, 3], [0]]
    assert share == pytest.approx((4 * 25 + 12 * 10 + 4 * 100 + 400) / (4 * 400 + 12 * 10))


RUNGS = [finished("proxy", i, 100, 2.0 + i) for i in range(4)] + [finished("proxy", 0, 400, 1.0)]


def test_a_halved_search_is_compared_only_with_a_known_full_search():
    """Without the full search's runs there is no agreement, and the savings are of a search in which all lived."""
    alone = SearchReport(runs_table([*RUNGS, TARGET]), is_halved=True)
    assert alone.agreement is None
    assert alone.halving[1] == pytest.approx(1 / 2)
    full = [finished("full", i, 400, 1.0 - i / 10) for i in range(4)]
    beside = SearchReport(runs_table([*RUNGS, TARGET, *full]), is_halved=True)
    assert beside.agreement == Agreement(
        3, False, pytest.approx(0.3), (pytest.approx(-1), pytest.approx(NAN, nan_ok=True))
    )
    assert beside.cost_fraction == alone.cost_fraction == pytest.approx(0.02)  # the full search was not this one's cost


def test_an_optimum_at_the_edge_of_the_space_is_said():
    """Five of five best in the outer quarter, on one side, speak of the space; four of five may be chance."""
    rows = [finished("proxy", i, 400, float(i)) for i in range(40)]
    names = ["rising", "falling", "lr", "choice", "words"]
    frame = runs_table([*rows, TARGET]).assign(words="linear", choice=[i % 2 for i in range(41)])
    frame["rising"], frame["falling"] = range(41), range(41, 0, -1)
    frame["log2_lr"] = [-4.0 if i == 4 else -8 + i / 10 for i in range(41)]  # the fifth best lies at the other end
    assert SearchReport(frame, is_halved=False).edges(names) == [("rising", "low"), ("falling", "high")]
    few = pd.concat([frame[:19], frame[40:]])
    assert SearchReport(few, is_halved=False).edges(names) == []


def test_halving_that_cannot_be_told():
    """Three samples leave no room for a rung, runs without loss curves tell none: nothing is claimed."""
    for runs in (FULL[:3], FULL):
        report = SearchReport(runs_table([*runs, TARGET]), is_halved=False)
        assert report.halving is None and report.agreement is None


def test_half_a_table_is_refused():
    """A table that lost its target or a column must not give a report."""
    with pytest.raises(UserError, match="lacks its target"):
        SearchReport(runs_table(FULL), is_halved=False)
    with pytest.raises(UserError, match="lacks flops"):
        SearchReport(runs_table([*FULL, TARGET]).drop(columns="flops"), is_halved=False)
    dead = [("proxy", 0, 400, 10, "diverged", INF), TARGET]
    with pytest.raises(UserError, match="a proxy that trained"):
        SearchReport(runs_table(dead), is_halved=False)
