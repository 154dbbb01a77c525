"""Repeated searches at equal compute, on losses made by hand: who wins, what it cost, what may be said of it."""

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutransfer.errors import UserError
from mutransfer.results.comparison import Comparison, percentile
from mutransfer.results.equal_compute import METHODS, EqualCompute
from mutransfer.results.selection import searches, winners

INF, NAN = math.inf, math.nan
PROXY, TARGET = 10.0, 100.0  # FLOPs of a whole run
FACTS = {"samples": 20, "search": 10, "searches": 7, "direct": 2, "direct_samples": 6, "seed": 3}


def study(proxy=lambda i: 3 + i / 10, mutransfer=lambda i: 2 + i / 10, naive=lambda i: 2.5 + i / 10, **more):
    """Runs of a study from losses by sample; the search costs 10 x 10 FLOPs, one training of the target 100.

    ``more``: losses of direct, default and default_long. A run that diverges lives a fifth of its steps.
    """
    losses = {"proxy": (range(20), proxy), "mutransfer": (range(20), mutransfer), "naive": (range(20), naive)}
    losses["direct"] = (range(6), more.get("direct", lambda i: 2.3 + i / 10))
    losses["default"] = ([-1], lambda i: more.get("default", 2.6))
    losses["default_long"] = ([-1], lambda i: more.get("default_long", 2.4))
    rows = []
    for role, (samples, loss) in losses.items():
        for i in samples:
            is_proxy, long = role == "proxy", 1 + (role == "default_long")
            steps = 50 * long
            lost = loss(i) == INF
            rows.append(
                {
                    "role": role,
                    "sample": i,
                    "parametrization": "mup" if role in ("proxy", "mutransfer") else "sp",
                    "width": 32 if is_proxy else 128,
                    "steps": steps,
                    "steps_done": steps // 5 if lost else steps,
                    "status": "diverged" if lost else "finished",
                    "train_loss": loss(i),
                    "test_loss": NAN if lost else loss(i) + 1,
                    "flops": (PROXY if is_proxy else TARGET) * long,
                }
            )
    return pd.DataFrame(rows)


def report(facts=(), **losses):
    return EqualCompute(study(**losses), {**FACTS, **dict(facts)})


def test_looks_are_the_same_on_every_machine():
    """A committed table is read by what these give: they must never change."""
    assert searches(8, 3, 3, seed=0) == [(5, 0, 2), (7, 4, 1), (1, 7, 0)]  # by sha256sum(1)
    assert searches(8, 3, 3, seed=1) != searches(8, 3, 3, seed=0)


@given(st.integers(1, 40), st.data(), st.integers(1, 6), st.integers(0, 9))
def test_looks_are_without_replacement_and_nested(pool, data, count, seed):
    """No sample twice; more samples or more searches keep what was looked at, so that a study can grow."""
    size = data.draw(st.integers(1, pool))
    looks = searches(pool, size, count, seed)
    assert all(len(set(look)) == size and set(look) <= set(range(pool)) for look in looks)
    assert [look[:1] for look in looks] == searches(pool, 1, count, seed)
    assert searches(pool, size, count + 1, seed)[:count] == looks


def test_every_sample_is_looked_at_equally_often():
    """2000 searches at 5 of 20: 500 each, within five standard errors."""
    counts = np.bincount(np.ravel(searches(20, 5, 2000, seed=0)), minlength=20)
    assert (abs(counts - 500) < 5 * math.sqrt(2000 * 0.25 * 0.75)).all()


def test_impossible_looks_are_refused():
    for pool, size in ((5, 6), (5, 0)):
        with pytest.raises(UserError, match=f"looks at {size} samples of a pool of {pool}"):
            searches(pool, size, 1, 0)
    with pytest.raises(UserError, match="0 searches"):
        searches(5, 2, 0, 0)


def test_winners():
    """The least loss; of a tie the lower number, whatever the order; nobody where all diverged."""
    losses = {0: 2.0, 1: 1.0, 2: 1.0, 3: INF, 4: INF, 5: 0.5}
    assert winners(losses, [(0, 2, 1), (3, 4), (3, 0), (5,)]) == [1, None, 0, 5]
    with pytest.raises(UserError, match="search 1 looks at sample 7, which has no run"):
        winners(losses, [(0, 1), (7, 1)])


def test_percentiles_with_infinity():
    """+inf is a loss like others; the median of an even number is the mean of the two in the middle."""
    assert [float(percentile(np.array([3.0, INF, 1.0, 2.0]), q)) for q in (0, 25, 50, 75, 100)] == [
        1,
        1.5,
        2.5,
        INF,
        INF,
    ]
    assert [float(percentile(np.array([3.0, 1.0, 2.0]), q)) for q in (25, 50, 75)] == [1, 2, 3]
    assert float(percentile(np.array([INF, INF]), 50)) == INF
    values = np.random.default_rng(0).normal(size=(50, 9))
    assert np.array_equal(percentile(values, 50), np.median(values, axis=1))


def test_what_each_method_reached_and_spent():
    """Losses, winners and FLOPs are those of the searches, by hand."""
    one = report()
    looks = searches(20, 10, 7, 3)
    best = [min(look) for look in looks]  # sample i has a proxy loss that grows with i
    mup, direct = one.methods["mutransfer"], one.methods["direct"]
    assert list(one.methods) == list(METHODS) and list(mup.chosen) == best
    assert mup.train_loss == pytest.approx([2 + i / 10 for i in best])
    assert mup.test_loss == pytest.approx([3 + i / 10 for i in best])
    assert one.methods["naive"].chosen == mup.chosen
    chosen = [min(look) for look in searches(6, 2, 7, 3)]
    assert list(direct.chosen) == chosen and direct.train_loss == pytest.approx([2.3 + i / 10 for i in chosen])
    assert {name: set(m.spent) for name, m in one.methods.items()} == {
        "mutransfer": {200.0}, "naive": {200.0}, "direct": {200.0}, "default": {100.0}, "default_long": {200.0},
    }  # fmt: skip
    assert [m.looked for m in one.methods.values()] == [10, 10, 2, 1, 1]
    assert mup.percentile(0) == min(mup.train_loss) and mup.percentile(100, "test_loss") == max(mup.test_loss)
    assert one.is_equal and one.gap("planned")[0] == 0 and one.trainings(mup.planned) == 2


def test_diverged_runs_cost_what_they_lived():
    """Every other proxy diverges after a fifth: it costs 2 of 10 FLOPs, and wins nothing."""
    one = report(proxy=lambda i: INF if i % 2 else 3 + i / 10)
    looks = searches(20, 10, 7, 3)
    cost = [sum(2 if i % 2 else 10 for i in look) + 100 for look in looks]
    assert one.methods["mutransfer"].spent == pytest.approx(cost)
    assert one.methods["mutransfer"].planned == 200 and not any(i % 2 for i in one.methods["naive"].chosen)
    assert one.cost_fraction() == pytest.approx(1.0)
    assert one.cost_fraction(lived=True) == pytest.approx(np.mean(cost) / 100 - 1)
    assert one.cost_fraction(["proxy"]) == pytest.approx(2.0)
    assert one.cost_fraction(["proxy"], lived=True) == pytest.approx(1.2)


def test_unequal_compute_is_seen():
    """Direct tuning with one sample of what two would cost, the longer default not longer: equal is a finding."""
    one = report({"direct": 1})
    gap, least, most = one.gap("spent")
    assert (gap, least.name, one.is_equal) == (1.0, "direct", False) and most.name != "direct"
    early = report(direct=lambda i: INF)
    assert not early.is_equal and early.gap("planned")[0] == 0 and early.gap("spent")[0] == pytest.approx(4.0)


def test_diverged_targets_and_searches_without_a_winner_count_as_infinite():
    """Only sample 0 trains on the proxy; its copy in SP diverges."""
    one = report(proxy=lambda i: 1.0 if i == 0 else INF, naive=lambda i: INF, direct=lambda i: INF)
    found = sum(0 in look for look in searches(20, 10, 7, 3))
    assert 0 < found < 7
    mup, naive, direct = (one.methods[name] for name in ("mutransfer", "naive", "direct"))
    assert (mup.without_winner, mup.diverged) == (7 - found, 0)
    assert (naive.without_winner, naive.diverged) == (7 - found, found)
    assert (direct.without_winner, direct.diverged) == (7, 0)
    assert np.isinf(mup.test_loss).sum() == 7 - found
    assert min(mup.spent) == pytest.approx(10 * 2)  # nothing to copy: no training of the target


def test_better_worse_and_undecided():
    """µTransfer's median against others that are clearly above, clearly below, and in the midst of its spread."""
    one = report(default=1.0)
    verdicts = {c.other: c for c in one.comparisons()}
    assert verdicts["naive transfer"].verdict == "better" and verdicts["naive transfer"].better == 7
    assert verdicts["naive transfer"].difference.value == pytest.approx(-0.5)
    assert verdicts["SP default"].verdict == "worse" and verdicts["SP default"].better == 0
    same = report(naive=lambda i: 2 + i / 10).against("naive")
    assert (same.verdict, same.tied, same.better, same.difference.value) == ("undecided", 7, 0, 0.0)
    assert "(7 ties)" in same.sentence


def test_noise_alone_is_rarely_called_better():
    """Two methods alike: in no more than 15% of 200 studies of 9 searches is the verdict anything but undecided.

    The percentile interval of a median over few values is known to cover less than 95%; a rule that saw winners in
    noise would be far above that.
    """
    rng = np.random.default_rng(0)
    verdicts = [
        Comparison.of(*rng.normal(size=(2, 9)), other="", metric="train_loss", runs=9).verdict for _ in range(200)
    ]
    assert verdicts.count("undecided") >= 170


def test_losses_that_all_diverged():
    """Against a method that never trains it is better by infinity; two such are tied."""
    lost, fine = np.full(7, INF), np.linspace(2, 3, 7)
    against = {"other": "x", "metric": "train_loss", "runs": 7}
    assert Comparison.of(fine, lost, **against).verdict == "better"
    assert "-inf [-inf, -inf]" in Comparison.of(fine, lost, **against).sentence
    assert Comparison.of(lost, fine, **against).verdict == "worse"
    both = Comparison.of(lost, lost, **against)
    assert (both.verdict, both.difference.value, both.tied) == ("undecided", 0.0, 7)


def test_little_evidence_is_undecided_with_its_reason():
    """However large the difference: with four searches, or if all of them copied one sample."""
    few = report({"searches": 4}).against("naive")
    assert (few.verdict, few.reason) == ("undecided", "4 searches, fewer than 5")
    whole = report({"search": 20}).against("naive")
    assert (whole.verdict, whole.reason) == ("undecided", "all searches copied the same sample")
    assert whole.better == 7 and "undecided (all searches copied the same sample)" in whole.sentence


def test_the_interval_tightens_with_searches():
    """It covers which samples were looked at, and nothing else: more looks, less of that."""
    wide = [
        c.difference.high - c.difference.low for c in (report({"searches": n}).against("default") for n in (5, 400))
    ]
    assert all(later < earlier for earlier, later in pairwise(wide))


def test_gaps_are_named():
    """A missing winner's target, sample or role; a failed run; a column, a fact; a double; a wrong length."""
    runs = study()
    first = min(searches(20, 10, 7, 3)[0])
    gone = runs[~((runs["role"] == "naive") & (runs["sample"] == first))]
    with pytest.raises(UserError, match=rf"sample {first} \(naive transfer\), the winner of search \d"):
        EqualCompute(gone, FACTS).methods  # noqa: B018
    with pytest.raises(UserError, match="no run with role 'default_long'"):
        EqualCompute(runs[runs["role"] != "default_long"], FACTS)
    with pytest.raises(UserError, match="lacks 1 of 20 samples on the proxy, first 4"):
        EqualCompute(runs[~((runs["role"] == "proxy") & (runs["sample"] == 4))], FACTS)
    with pytest.raises(UserError, match="looks at sample 5, which has no run"):
        EqualCompute(runs[~((runs["role"] == "direct") & (runs["sample"] == 5))], FACTS).methods  # noqa: B018
    with pytest.raises(UserError, match=r"lacks flops; run"):
        EqualCompute(runs.drop(columns="flops"), FACTS)
    with pytest.raises(UserError, match="whole numbers direct, seed"):
        EqualCompute(runs, {k: v for k, v in FACTS.items() if k not in ("direct", "seed")})
    with pytest.raises(UserError, match=r"unknown role in the table of a study 'mutransfr'. Did you mean 'mutransfer'"):
        EqualCompute(runs.replace({"role": {"mutransfer": "mutransfr"}}), FACTS)
    with pytest.raises(UserError, match="sample 0 of role 'naive' twice"):
        EqualCompute(pd.concat([runs, runs.query("role == 'naive' and sample == 0")]), FACTS)
    with pytest.raises(UserError, match=r"target's runs differ in steps \(40, 50\)"):
        EqualCompute(runs.assign(steps=runs["steps"].mask(runs["role"] == "direct", 40)), FACTS)
    with pytest.raises(UserError, match="1 runs of the study have no result, first sample -1 of role 'default'"):
        EqualCompute(runs.assign(status=runs["status"].mask(runs["role"] == "default", "failed")), FACTS)
    with pytest.raises(UserError, match="6 runs of the study have no result"):
        EqualCompute(runs.assign(test_loss=runs["test_loss"].mask(runs["role"] == "direct")), FACTS)
