"""One search: its winner, its cost, and successive halving beside the full search, on losses made by hand."""

import math

import pandas as pd
import pytest

from mutransfer.errors import UserError
from mutransfer.results.selection import Rung
from mutransfer.results.tuning import Agreement, SearchReport

INF, NAN = math.inf, math.nan


def test_agreement_by_hand():
    """Five samples, of which the rung ranks 0 1 2 3 4 and the full search 1 0 2 4 3: rho = 1 - 6*4/(5*24) = 0.8."""
    full = {0: 1.5, 1: 1.2, 2: 2.0, 3: INF, 4: 3.0}
    rungs = [Rung(25, {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0, 4: 5.0}), Rung(100, {0: 1.5})]
    of_one = pytest.approx(NAN, nan_ok=True)  # of one sample there is no correlation
    assert Agreement.of(rungs, full) == Agreement(1, False, pytest.approx(0.3), (pytest.approx(0.8), of_one))
    same = Agreement.of([rungs[0], Rung(100, {0: 1.5, 1: 1.2})], full)
    assert same.same_winner and same.regret == 0 and same.rank_correlations[1] == pytest.approx(1)


def runs_table(rows):
    """role, sample, steps, steps_done, status, loss; 10 FLOPs per step of the proxy, 1000 of the target (400 steps)."""
    names = ["role", "sample", "steps", "steps_done", "status", "train_loss"]
    frame = pd.DataFrame(rows, columns=names).assign(parametrization="mup")
    is_target = frame["role"] == "target"
    frame["width"] = is_target.map({True: 64, False: 8})
    return frame.assign(flops=frame["steps"] * is_target.map({True: 1000.0, False: 10.0}))


def full_search(rows, on_the_way=None):
    """``on_the_way``: every run's loss after 25 steps, and after 100."""
    losses = {} if on_the_way is None else {"loss_at_25": on_the_way, "loss_at_100": on_the_way}
    return SearchReport(runs_table(rows).assign(**losses), is_halved=False)


def finished(role, sample, steps, loss):
    return (role, sample, steps, steps, "finished", loss)


TARGET = finished("target", 0, 400, 0.5)
FULL = [finished("proxy", i, 400, 1.0 + i) for i in range(16)]


def test_a_diverged_run_costs_the_steps_it_lived():
    """15 runs of 400 steps and one of 50, at 1/100 of the target's FLOPs a step."""
    diverged = ("proxy", 15, 400, 50, "diverged", INF)
    report = full_search([*FULL[:15], diverged, TARGET])
    assert report.cost_fraction == pytest.approx((15 * 400 + 50) / 400 / 100)
    assert full_search([*FULL, TARGET]).cost_fraction == pytest.approx(0.16)


def test_a_full_search_tells_what_halving_would_have_done():
    """From the losses on the way: two short rungs rank sample 5 first, so halving misses sample 0, and by how much."""
    on_the_way = [0.1 if i == 5 else 1.0 + i for i in range(16)]
    report = full_search([*FULL, TARGET], [*on_the_way, NAN])
    rungs, share = report.halving
    assert [(r.steps, len(r.losses)) for r in rungs] == [(25, 16), (100, 4), (400, 1)]
    assert share == pytest.approx(3 / 16)  # the closed form
    assert report.agreement.winner == 0 and not report.agreement.same_winner
    assert report.agreement.regret == pytest.approx(5)
    assert report.winner["sample"] == 0  # the search itself is the full one


def test_simulated_halving_saves_less_where_runs_diverge_early():
    """Diverged runs are cheap in the full search too: the share is of what was really spent."""
    dead = [("proxy", i, 400, 10, "diverged", INF) for i in range(4, 16)]
    rungs, share = full_search([*FULL[:4], *dead, TARGET], [1.0, 2.0, 3.0, 4.0, *[INF] * 12, NAN]).halving
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
    correlations = pytest.approx(-1), pytest.approx(NAN, nan_ok=True)
    assert beside.agreement == Agreement(3, False, pytest.approx(0.3), correlations)
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
        report = full_search([*runs, TARGET])
        assert report.halving is None and report.agreement is None


def test_half_a_table_is_refused():
    """A table that lost its target or a column must not give a report."""
    for runs, message in (
        (runs_table(FULL), "has no runs of its target"),
        (runs_table([*FULL, TARGET, TARGET]), "1 runs of its target with parametrization mup stand there twice"),
        (runs_table([*FULL, TARGET]).assign(parametrization="sp"), "has no runs of the proxy in µP"),
        (runs_table([*FULL, TARGET]).drop(columns="flops"), "lacks flops"),
        (runs_table([("proxy", 0, 400, 10, "diverged", INF), TARGET]), "a proxy that trained"),
    ):
        with pytest.raises(UserError, match=message):
            SearchReport(runs, is_halved=False)


def test_failed_runs_have_no_say():
    failed = ("proxy", 16, 400, 0, "failed", NAN)
    report = full_search([failed, *FULL, TARGET])
    assert report.winner["sample"] == 0 and report.rungs[0].ranking == list(range(16))
