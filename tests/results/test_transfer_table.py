"""One search copied to larger targets, on numbers made by hand: what came of it, and what may be said of it."""

import math

import numpy as np
import pytest
from transfer_runs import LOST, facts, transfer_runs

from mutransfer.errors import UserError
from mutransfer.results.estimate import number
from mutransfer.results.transfer_table import Against, Pretraining, TransferTable

BASE = {
    "default": (5.0, 5.1, 5.2),
    "default_long": (4.4, 4.6, 4.8),
    "naive": (LOST, LOST, LOST),
    "mutransfer": (4.5, 4.6, 4.7),
}
POOL = (6.1, 6.0, 6.2, LOST, 6.4, 6.5)


def report(table=None, pool=POOL, winner=1, scores=(), values=None, targets=("base",), **roles):
    every = {label: {**BASE, **roles} for label in targets}
    if table is None:
        table = transfer_runs(pool, every, values, winner)
    return TransferTable(table, facts(len(pool), 3, targets, scores))


def against(ours, its):
    return Against.of(np.array(ours, float), np.array(its, float), "naive")


def test_the_winner_has_the_least_validation_loss_of_a_tie_the_lower_number():
    """Training loss, which the table has the other way round, would choose sample 5."""
    assert report().winner == 1
    assert report(pool=(6.0, 6.0, LOST, 6.0, 7.0, 6.0), winner=0).winner == 0
    assert report().table.ranked == [1, 0, 2, 4, 5]


def test_speedups_and_compute_by_hand():
    """A sample: 50 steps, 10 FLOPs; base: 200 steps, 400 FLOPs. A diverged sample lived 12 steps."""
    one = report(targets=("base", "large"))
    assert (one.total_speedup("base"), one.total_speedup("large")) == (40, 200)
    assert (one.model_speedup("base"), one.model_speedup("large")) == (10, 50)
    assert one.search_cost("base") == 60 / 400 and one.search_cost("base", lived=True) == 52.4 / 400
    found = {role: o.compute for role, o in one.outcomes["base"].items()}
    assert found == pytest.approx({"default": 400, "default_long": 460, "naive": 460, "mutransfer": 460})
    assert set(one.outcomes["base"]["naive"].spent) == {100.0}


def test_losses_are_means_over_inits():
    outcomes = report().outcomes["base"]
    assert outcomes["mutransfer"].loss.text(3) == "4.600 [4.352, 4.848]"
    assert outcomes["naive"].diverged == 3 and number(outcomes["naive"].loss.value) == "diverged"
    one = report(naive=(5.0, LOST, 5.2)).outcomes["base"]["naive"]
    assert one.diverged == 1 and one.loss.value == math.inf


def test_better_worse_and_undecided():
    """Paired: all inits are lower by 0.5, though the inits themselves differ by more."""
    better = against([3.0, 4.0, 5.01], [3.5, 4.5, 5.5])
    assert better.verdict == better.text == "better" and better.lower == 3
    assert better.difference_text == "-0.4967 [-0.5110, -0.4823] nats"
    worse = against([3.5, 4.5, 5.5], [3.0, 4.0, 5.01])
    assert (worse.verdict, worse.lower) == ("worse", 0) and worse.difference_text.startswith("+0.4967")
    found = report().comparisons("base")
    assert [one.other for one in found] == ["naive", "default_long", "default"]
    assert [one.verdict for one in found] == ["better", "undecided", "better"]
    same = against([3.0, 4.0, 5.0], [3.0, 4.0, 5.0])
    assert same.text == "undecided" and same.lower == 0


def test_two_inits_decide_nothing():
    for ours, its in (([3.0, 3.1], [5.0, 5.1]), ([3.0, 3.1], [LOST, LOST]), ([3.0], [4.0])):
        one = against(ours, its)
        assert one.verdict == "undecided" and "fewer than 3" in one.text


@pytest.mark.parametrize(
    ("ours", "its", "verdict", "text"),
    [
        ((3, 3, 3), (LOST, LOST, LOST), "better", "-inf"),
        ((LOST, LOST, LOST), (3, 3, 3), "worse", "+inf"),
        ((3, 3, 3), (4, LOST, LOST), "undecided", "-"),
        ((LOST, 3, 3), (4, 4, 4), "undecided", "-"),
        ((LOST, 3, 3), (LOST, LOST, LOST), "undecided", "-"),
        ((3, 3, LOST), (3, LOST, 3), "undecided", "-"),
        ((LOST, LOST, LOST), (LOST, LOST, LOST), "undecided", "0.0000"),
    ],
)
def test_divergence(ours, its, verdict, text):
    """It decides only where all inits of one diverged and none of the other; how many is said."""
    one = against(ours, its)
    assert one.verdict == verdict and one.difference_text.startswith(text)
    for name, losses in (("µTransfer", ours), ("naive transfer", its)):
        lost = losses.count(LOST)
        assert (f"{name} diverged in {lost} of 3 inits" in one.text) == (lost > 0)


def test_does_pretraining_matter():
    """By the paired difference: yes, no, undecided; a diverged run has no score; two runs decide nothing."""
    scratch = np.array([70.0, 75.0, 80.0])
    yes = Pretraining.of("sst2", scratch + np.array([2.0, 2.1, 2.2]), scratch)
    assert (yes.verdict, yes.runs) == ("yes", 3) and yes.difference.value == pytest.approx(2.1)
    assert yes.pretrained.value == pytest.approx(77.1) and yes.scratch.value == 75
    assert Pretraining.of("sst2", scratch - np.array([2.0, 2.1, 2.2]), scratch).verdict == "no"
    assert Pretraining.of("sst2", scratch, scratch).verdict == "no"
    assert Pretraining.of("sst2", scratch + np.array([-1.0, 0.0, 2.0]), scratch).text == "undecided"
    lost = np.array([math.nan, 1.0, 1.0])
    assert Pretraining.of("sst2", scratch + 2 * lost, scratch * lost).text == "undecided (2 runs, fewer than 3)"
    none = Pretraining.of("sst2", scratch * math.nan, scratch * math.nan)
    assert none.text == "undecided (0 runs, fewer than 3)" and none.difference.reason == "all inits diverged"


def test_scores_decide_nothing_and_come_in_pairs():
    """A task without a score from the init is no part of the question."""
    values = {"sst2": (80, 81, 82), "sst2_scratch": (70, 71, 72.5), "qqp": (1, 2, 3)}
    one = report(scores=("sst2", "qqp"), values=values)
    assert one.tasks == ["sst2"]
    (found,) = one.pretraining("base")
    assert found.verdict == "yes" and one.outcomes["base"]["mutransfer"].score("qqp").value == 2
    assert np.isnan(one.outcomes["base"]["naive"].scores["sst2"]).all()
    assert [o.verdict for o in one.comparisons("base")] == [o.verdict for o in report().comparisons("base")]


def test_gaps_are_named():
    table = transfer_runs(POOL, {"base": BASE}, {"sst2": (80, 81, 82)}, 1)

    def refused(words, change):
        with pytest.raises(UserError, match=words):
            report(change(table), scores=("sst2",))

    def put(role, column, value, seed=0):
        def change(t):
            changed = t.copy()
            changed.loc[(t["role"] == role) & (t["seed"] == seed), column] = value
            return changed

        return change

    for words, change in (
        ("lacks depth", lambda t: t.drop(columns="depth")),
        ("lacks sst2", lambda t: t.drop(columns="sst2")),
        ("lacks output_mult", lambda t: t.drop(columns="output_mult")),
        ("'naive' of target 'base' has the inits 0, 1, not 0 to 2", lambda t: t.query("role != 'naive' or seed < 2")),
        ("lacks 1 of 6 samples of the search, first 2", lambda t: t.drop(index=2)),
        ("1 runs of the transfer failed, first sample -1 of 'default'", put("default", "status", "failed")),
        ("finished without a validation loss", put("default", "test_loss", math.nan)),
        ("lack one of the scores sst2, first sample 1 of 'mutransfer'", put("mutransfer", "sst2", math.nan, 1)),
        ("is in 'sp', expected 'mup'", put("mutransfer", "parametrization", "sp")),
        ("target 'base' differ in width", put("naive", "width", 128)),
        (r"target 'base' \(as long as the others\) differ in steps", put("naive", "steps", 100)),
        ("base width of all runs", put("mutransfer", "base_width", 16)),
        ("has another sample than 1, by the losses", put("mutransfer", "sample", 0)),
        ("differs in output_mult from its sample", put("naive", "output_mult", 9.0)),
        ("unknown role", put("naive", "role", "naiv")),
        ("unknown target", put("naive", "target", "bse")),
    ):
        refused(words, change)
    with pytest.raises(UserError, match="none of the 6 samples has trained"):
        report(pool=[LOST] * 6)
    for broken, words in (
        ({"samples": None}, "lacks samples"),
        ({"proxy": {"width": 32}}, "lacks proxy.depth"),
        ({"scores": {"sst2": {}}}, "lacks scores.sst2.label"),
        ({"targets": {"base": {"width": 64}}}, "lacks targets.base.depth"),
    ):
        with pytest.raises(UserError, match=words):
            TransferTable(table, {**facts(), **broken})
