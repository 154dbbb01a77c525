"""Repeated searches by BLEU, on numbers made by hand: what is selected, what came of it, and what may be said of it."""

import math

import numpy as np
import pandas as pd
import pytest
from search_table import LOST, search_table

from mutransfer.errors import UserError
from mutransfer.results.front import LINES, Fronts, along
from mutransfer.results.repeated_searches import Against, Outcomes, RepeatedSearches, difference_text
from mutransfer.results.selection import searches

DOWN = -math.inf
N = 7
FACTS = {
    "samples": 6, "search": 3, "searches": N, "direct_samples": 4, "direct": 2, "inits": 2, "seed": 0,
    "proxy_width": 32, "target_width": 128, "space": {"lr": "", "output_mult": "", "attn_mult": ""},
}  # fmt: skip


def inits(first, step, samples):
    """Sample i has the BLEUs first + i step -+ 0.1: its mean is first + i step."""
    return {i: (first + i * step - 0.1, first + i * step + 0.1) for i in range(samples)}


def runs(proxy=None, direct_pool=None, **targets):
    """Sample i of a pool has loss 5 + i, so that the lowest number looked at wins."""
    every = {"mutransfer": inits(35, -1, 6), "naive": inits(20, -1, 6), "direct": inits(33, -1, 4)}
    every |= {"default": {-1: (31.0, 33.0)}, **targets}
    return search_table(proxy or [5.0 + i for i in range(6)], direct_pool or [5.0 + i for i in range(4)], every)


def report(table=None, **facts):
    return RepeatedSearches(runs() if table is None else table, {**FACTS, **facts})


def outcomes(name, bleu, looked=1, spent=None, draws=2000):
    """n searches with these outcomes, every one of its own sample, which was trained once."""
    n = len(bleu)
    means = {"bleu_valid": {i: np.full(1 + draws, float(value)) for i, value in enumerate(bleu)}}
    drawn = np.random.default_rng(0).integers(n, size=(draws, n - 1))
    return Outcomes(name, looked, tuple(range(n)), np.full(n, float(spent or looked)), 0.0, means, drawn)


def against(ours, its):
    return Against.of(outcomes("mutransfer", ours), outcomes("direct", its), "bleu_valid")


def test_outcomes_are_means_over_the_inits_of_the_sample_with_the_least_validation_loss():
    """By hand from the looks; BLEU decides nothing, though sample 5 has by far the best in both pools' targets."""
    one = report(runs(mutransfer={**inits(35, -1, 6), 5: (99.0, 99.0)}, direct={**inits(33, -1, 4), 3: (99.0, 99.0)}))
    best = [min(look) for look in searches(6, 3, N, 0)]
    of_direct = [min(look) for look in searches(4, 2, N, 0)]
    found = one.methods
    assert list(found) == ["default", "direct", "naive", "mutransfer"]
    assert list(found["mutransfer"].chosen) == best == list(found["naive"].chosen)
    assert found["mutransfer"].bleu() == pytest.approx([35 - i for i in best])
    assert found["naive"].bleu("bleu_test") == pytest.approx([19 - i for i in best])
    assert list(found["direct"].chosen) == of_direct and found["direct"].bleu() == pytest.approx(
        [33 - i for i in of_direct]
    )
    assert set(found["default"].bleu()) == {32.0}


def test_of_a_tie_the_lower_number_is_selected_and_a_diverged_sample_never():
    ties = report(runs(proxy=[LOST, 5.0, 5.0, LOST, 5.0, 5.0]))
    looks = searches(6, 3, N, 0)
    assert list(ties.methods["naive"].chosen) == [
        min((i for i in look if i not in (0, 3)), default=None) for look in looks
    ]


def test_one_diverged_init_makes_the_outcome_diverged():
    """Sample 0 loses one init of two; it ranks below every BLEU, in every draw."""
    one = report(runs(mutransfer={**inits(35, -1, 6), 0: (LOST, 40.0)}), search=6)
    mup = one.methods["mutransfer"]
    assert set(mup.chosen) == {0} and (mup.diverged, mup.without_winner) == (N, 0)
    assert (mup.percentiles(100) == DOWN).all()


def test_a_search_whose_samples_all_diverged_is_diverged_too():
    """Only sample 0 trains on the proxy."""
    one = report(runs(proxy=[5.0] + [LOST] * 5))
    without = sum(0 not in look for look in searches(6, 3, N, 0))
    mup = one.methods["mutransfer"]
    assert 0 < without < N and (mup.without_winner, mup.diverged) == (without, 0)
    assert sorted(mup.bleu()) == [DOWN] * without + [35.0] * (N - without)


def test_percentiles_are_outcomes_of_a_search_diverged_ones_lowest():
    one = outcomes("mutransfer", [20, DOWN, 30, 10, DOWN])
    assert [one.percentile(p).value for p in (0, 25, 50, 75, 100)] == [DOWN, DOWN, 10, 20, 30]
    many = outcomes("mutransfer", np.random.default_rng(0).permutation(25) + 1)
    assert [many.percentile(p).value for p in (25, 50, 75, 100)] == [7, 13, 19, 25]
    few = outcomes("mutransfer", [25.69, DOWN, DOWN])
    assert [few.percentile(p).value for p in (0, 50, 100)] == [DOWN, DOWN, 25.69]


def test_intervals_by_hand():
    """Of 3 searches draws take 2: the median lies anywhere from the least to the most, at 1/9 each end."""
    found = outcomes("mutransfer", [1, 2, 3]).percentile(50)
    assert (found.value, found.low, found.high) == (2, 1, 3)
    mixed = outcomes("mutransfer", [DOWN, 2, 3]).percentile(50)
    assert (mixed.value, mixed.low, mixed.high) == (2, DOWN, 3)
    alone = outcomes("mutransfer", [2.0]).percentile(50)
    assert math.isnan(alone.low) and alone.reason == "one search"


def test_inits_are_drawn_within_their_sample():
    """All searches select sample 0: what is left is its inits, all but one of them drawn: 34.9 or 35.1."""
    one = report(search=6)
    found = one.methods["mutransfer"].percentile(50)
    assert (found.value, found.low, found.high) == pytest.approx((35, 34.9, 35.1))
    both = {len(np.unique(one.methods["mutransfer"].percentiles(p)[1:])) for p in (0, 50, 100)}
    assert both == {2}
    alone = report(runs(**{role: {i: v[:1] for i, v in s.items()} for role, s in (
        ("mutransfer", inits(35, -1, 6)), ("naive", inits(20, -1, 6)), ("direct", inits(33, -1, 4)),
        ("default", {-1: (32.0,)}),
    )}), inits=1, search=6)  # fmt: skip
    found = alone.methods["mutransfer"].percentile(50)
    assert found.low == found.high == pytest.approx(34.9)


def test_what_a_search_spent():
    """3 proxies at 10 FLOPs and a target at 100; two targets, the winner among them; the default once."""
    found = {name: set(one.spent) for name, one in report().methods.items()}
    assert found == {"default": {100.0}, "direct": {200.0}, "naive": {130.0}, "mutransfer": {130.0}}
    assert report().gap("compute") == report().gap("planned") == pytest.approx(200 / 130 - 1)


def test_diverged_runs_cost_the_steps_that_they_lived():
    """A quarter: 2.5 for a proxy, 25 for a target, (25 + 100) / 2 for a target of which one init is lost."""
    table = runs(proxy=[5.0, LOST, LOST, 8.0, 9.0, 10.0], naive={**inits(20, -1, 6), 0: (LOST, 20.0)})
    one = report(table, search=6)
    assert set(one.methods["mutransfer"].spent) == {2 * 2.5 + 4 * 10 + 100}
    assert set(one.methods["naive"].spent) == {45 + 62.5}
    assert one.methods["naive"].planned == 160


def test_better_worse_and_undecided():
    better = against([35.0, 35.1, 35.2, 35.3, 35.4], [33.0, 33.1, 33.2, 33.3, 33.4])
    assert (better.verdict, better.better, better.tied) == ("better", 5, 0)
    assert better.difference.value == pytest.approx(2.0) and better.share_text == "5 of 5 searches"
    worse = against([33.0, 33.1, 33.2, 33.3, 33.4], [35.0, 35.1, 35.2, 35.3, 35.4])
    assert (worse.verdict, worse.better) == ("worse", 0) and difference_text(worse.difference).startswith("-2.00 [")
    same = against([33.0, 33.1, 33.2, 33.3, 33.4], [33.0, 33.1, 33.2, 33.3, 33.4])
    assert (same.verdict, same.tied, same.difference.value) == ("undecided", 5, 0.0)
    assert same.share_text == "0 of 5 searches (5 ties)"


def test_diverged_medians_are_infinitely_below_and_two_tie():
    fine, lost = [35.0] * 5, [DOWN] * 5
    assert (
        against(fine, lost).verdict == "better"
        and difference_text(against(fine, lost).difference) == "+inf [+inf, +inf]"
    )
    assert against(lost, fine).verdict == "worse"
    both = against(lost, lost)
    assert (both.verdict, both.difference.value, both.tied) == ("undecided", 0.0, 5)


def test_a_median_that_barely_diverged_is_undecided_where_the_rest_is_better():
    """5 of 9 diverged, the other 4 far above: the draws do not agree on the sign."""
    found = against([35.0] * 9, [DOWN] * 5 + [40.0] * 4)
    assert found.difference.value == math.inf and found.difference.low < 0 and found.verdict == "undecided"


def test_little_evidence_is_undecided_with_its_reason():
    few = report(searches=4).comparisons["naive", "bleu_valid"]
    assert few.text == "undecided (4 searches, fewer than 5)" and few.difference.low > 0
    whole = report(search=6).comparisons["naive", "bleu_valid"]
    assert whole.text == "undecided (all searches selected the same sample)"


def test_noise_alone_is_rarely_called_better():
    """Two methods alike: in no more than 15% of 200 tables of 9 searches is the verdict anything but undecided."""
    rng = np.random.default_rng(0)
    verdicts = [against(*rng.normal(size=(2, 9))).verdict for _ in range(200)]
    assert verdicts.count("undecided") >= 170


def test_the_order_of_rows_is_nothing():
    one, other = report(), report(runs().sample(frac=1, random_state=1))
    assert one.comparisons == other.comparisons and next(iter(one.comparisons)) == ("naive", "bleu_valid")


def row(table, role, sample, seed=0):
    return (table["role"] == role) & (table["sample"] == sample) & (table["seed"] == seed)


def changed(column, value, role, sample=0, seed=0):
    table = runs()
    table[column] = table[column].astype(object).mask(row(table, role, sample, seed), value)
    return table


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (runs().drop(columns="flops"), "lacks flops; run"),
        (runs().drop(columns="attn_mult"), "lacks attn_mult; run"),
        (runs().query("role != 'default'"), "no run with role 'default'"),
        (runs().replace({"role": {"naive": "naiv"}}), "unknown role in the table of the searches 'naiv'. Did you mean"),
        (changed("status", "failed", "naive"), "1 runs of the searches failed, first sample 0 of role 'naive'"),
        (changed("test_loss", math.nan, "proxy", 2), "1 runs of the searches finished without a validation loss"),
        (changed("bleu_valid", math.nan, "direct", 1), "1 runs of the searches of the target lack a BLEU, first"),
        (changed("bleu_test", math.nan, "default", -1), "lack a BLEU, first sample -1 of role 'default'"),
        (runs()[lambda t: ~row(t, "proxy", 4)], "lacks 1 of 6 samples of role 'proxy', first 4"),
        (runs(direct_pool=[5.0] * 5), "sample 4 of role 'direct_pool', beyond its 4"),
        (runs()[lambda t: ~row(t, "mutransfer", 0, 1)], "sample 0 of role 'mutransfer' has the inits 0, not 0 to 1"),
        (runs(default={-1: (30.0, 31.0), 0: (30.0, 31.0)}), "the default is sample -1, here also sample 0"),
        (pd.concat([runs(), runs()[lambda t: row(t, "naive", 1)]]), "sample 1 of role 'naive' with seed 0 twice"),
        (pd.concat([runs(), runs()[lambda t: row(t, "proxy", 1)].assign(seed=1)]), "role 'proxy' with seed 1 twice"),
        (changed("width", 64, "naive"), r"the runs of the target differ in width \(128, 64\)"),
        (changed("steps", 50, "proxy"), r"the runs of the proxy differ in steps \(100, 50\)"),
        (runs().assign(data_fingerprint=range(len(runs()))), "the runs of the searches differ in data_fingerprint"),
        (changed("parametrization", "mup", "naive"), "is in 'mup', expected 'sp'"),
        (changed("log2_lr", -1.0, "naive"), "sample 0 of role 'naive' with seed 0 differs in log2_lr from its sample"),
        (changed("test_loss", 5.5, "direct"), "is the pool's own run but has another validation loss"),
        (runs(mutransfer=inits(35, -1, 7)), "seed 0 copies a sample that role 'proxy' does not have"),
    ],
)  # fmt: skip
def test_gaps_are_named(table, message):
    with pytest.raises(UserError, match=message):
        report(table)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"inits": None, "searches": True}, "lacks the whole numbers searches, inits"),
        ({"inits": 0}, "has inits 0, expected 1 or more"),
        ({"space": None}, "lacks the space"),
        ({"proxy_width": 64}, "the proxy has width 32 in the table and 64 in the provenance"),
    ],
)
def test_wrong_facts_are_named(facts, message):
    with pytest.raises(UserError, match=message):
        report(**facts)


def test_a_selected_sample_without_its_target_is_named():
    best = min(min(look) for look in searches(6, 3, N, 0))
    one = report(runs()[lambda t: ~((t["role"] == "naive") & (t["sample"] == best))])
    with pytest.raises(
        UserError, match=rf"target's runs of sample {best} \(role 'naive'\), which search \d selects of 3"
    ):
        one.methods  # noqa: B018
    with pytest.raises(UserError, match="a search looks at 9 samples of a pool of 6"):
        report(search=9).methods  # noqa: B018


# Figure 6


class Line:
    """Stands for a report: one training of the target is 1 FLOP."""

    training = 1.0

    def __init__(self, n):
        self.facts = {"searches": n}


def fronts(direct, mutransfer):
    """Each a list of (samples, compute, outcomes)."""
    points = {"direct": direct, "mutransfer": mutransfer}
    n = len(direct[0][2])
    return Fronts(Line(n), {k: tuple(outcomes(k, b, s, c) for s, c, b in v) for k, v in points.items()})


def flat(value, n=5):
    return [value] * n


def test_between_points_a_line_is_straight_in_log2():
    x, values = np.array([1.0, 4.0]), [np.array([10.0]), np.array([20.0])]
    assert along(x, values, 2.0) == pytest.approx(15) and along(x, values, 4.0) == 20 and along(x, values, 1.0) == 10
    assert along(x[::-1], values[::-1], 2.0) == pytest.approx(15)
    assert along(x, [np.array([DOWN]), np.array([20.0])], 2.0) == DOWN
    assert along(np.array([1.0, 1.0, 4.0]), [*values, np.array([0.0])], 1.0) == 20


def test_lines_are_compared_where_both_have_a_value():
    """Direct at 2 and 8 trainings, µTransfer at 1, 4 and 16: at 2, 4 and 8; 30, 32, 34 against 31, 32, 36 there."""
    one = fronts([(2, 2, flat(30)), (8, 8, flat(34))], [(4, 1, flat(30)), (8, 4, flat(32)), (16, 16, flat(40))])
    duel = one.duel("compute")
    assert list(duel.x) == [2, 4, 8] and [d.value for d in duel.differences] == pytest.approx([1, 0, 2])
    assert duel.verdict == "µTransfer dominates" and (duel.better, duel.worse) == (2, 0)
    duel = one.duel("samples")
    assert list(duel.x) == [4, 8] and [d.value for d in duel.differences] == pytest.approx([-2, -2])
    assert duel.verdict == "tuning on 1x dominates"


def test_lines_cross_or_are_undecided_or_share_nothing():
    low, high = [(1, 1, flat(30)), (4, 4, flat(36))], [(1, 1, flat(32)), (4, 4, flat(34))]
    assert fronts(low, high).duel("compute").verdict == "the lines cross"
    noisy = [20.0, 25.0, 30.0, 35.0, 40.0]
    assert fronts([(1, 1, noisy)], [(1, 1, noisy[::-1])]).duel("samples").verdict == "undecided"
    assert fronts([(1, 1, flat(30, 4))], [(1, 1, flat(32, 4))]).duel("samples").text == (
        "undecided (4 searches, fewer than 5)"
    )
    assert fronts([(1, 1, flat(30))], [(2, 2, flat(32))]).duel("compute").text == (
        "undecided (no compute that both have)"
    )


def test_a_point_below_keeps_a_line_from_dominating():
    """Clearly better at 1, a little behind at 4, though not clearly."""
    ours = [(1, 1, flat(32)), (4, 4, [20.0, 25.0, 29.0, 35.0, 40.0])]
    assert fronts([(1, 1, flat(30)), (4, 4, flat(30))], ours).duel("compute").verdict == "undecided"


def test_a_diverged_median_loses():
    found = fronts([(1, 1, flat(DOWN)), (4, 4, flat(30))], [(1, 1, flat(20)), (4, 4, flat(31))]).duel("compute")
    assert found.differences[0].value == math.inf and found.verdict == "µTransfer dominates"


def test_points_of_a_line_are_the_searches_cut_short():
    """A larger search keeps what a smaller one looked at, so its winner's loss never rises, nor its compute falls."""
    one = report()
    found = Fronts.of(one, {"mutransfer": [4, 1, 2, 3], "direct": [1, 2]})
    assert [p.looked for p in found.points["mutransfer"]] == [1, 2, 3, 4]
    chosen = np.array([p.chosen for p in found.points["mutransfer"]])
    assert (np.diff(chosen, axis=0) <= 0).all()  # sample i has loss 5 + i
    assert found.x("mutransfer", "compute") == pytest.approx([1.1, 1.2, 1.3, 1.4])
    assert found.x("direct", "compute") == pytest.approx([1, 2])
    assert found.points["mutransfer"][2].chosen == one.methods["mutransfer"].chosen
    assert Fronts.of(one, {"mutransfer": [], "direct": []}) is None


@pytest.mark.parametrize(
    "sizes", [None, {"direct": []}, {"mutransfer": [1], "direct": []}, {"mutransfer": [1.5], "direct": [1]}]
)
def test_malformed_sizes_are_named(sizes):
    with pytest.raises(UserError, match=f"sizes of {LINES[0]} and {LINES[1]}|numbers of samples for both lines"):
        Fronts.of(report(), sizes)


def test_sizes_beyond_the_pool_and_missing_winners_are_named():
    with pytest.raises(UserError, match="looks at 5 samples of a pool of 4"):
        Fronts.of(report(), {"mutransfer": [1], "direct": [5]})
    worst = max(look[0] for look in searches(6, 1, N, 0))
    table = runs()[lambda t: ~((t["role"] == "mutransfer") & (t["sample"] == worst))]
    with pytest.raises(UserError, match=rf"sample {worst} \(role 'mutransfer'\), which search \d selects of 1"):
        Fronts.of(report(table), {"mutransfer": [1], "direct": [1]})
