"""Tables 4, 5 and 7 and Figure 6, on numbers made by hand: what is selected, what came of it, what a folder shows."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from drawn import words
from search_table import LOST, of_row, outcomes, redrawn, search_table

from mutransfer.errors import UserError
from mutransfer.results.outcomes import Searches
from mutransfer.results.searches import SEARCHES, STUDIED, STUDY, TRANSLATION, Front, along, costs, tuning_cost
from mutransfer.results.selection import searches

DOWN = -math.inf
N = 7
SPACE = {"lr": "10^U(-4, -1)", "output_mult": "{1, 2, 4, 8, 16}", "attn_mult": "4^U(-1, 1)"}
FACTS = {
    "samples": 6, "search": 3, "searches": N, "direct_samples": 4, "direct": 2, "inits": 2, "seed": 0,
    "proxy_width": 32, "target_width": 128, "space": SPACE, "default_lr": 5e-4, "table": "Table 4",
    "percentiles": [25, 50, 75, 100], "sizes": {"mutransfer": [], "direct": []},
}  # fmt: skip


def inits(first, step, samples, apart=0.1):
    """Sample i has the BLEUs first + i step -+ 0.1: its mean is first + i step."""
    return {i: (first + i * step - apart, first + i * step + apart) for i in range(samples)}


def runs(proxy=None, direct_pool=None, **targets):
    """Sample i of a pool has loss 5 + i, so that the lowest number looked at wins."""
    every = {"mutransfer": inits(35, -1, 6), "naive": inits(20, -1, 6), "direct": inits(33, -1, 4)}
    every |= {"default": {-1: (31.0, 33.0)}, **targets}
    pools = {"proxy": proxy or [5.0 + i for i in range(6)], "direct_pool": direct_pool or [5.0 + i for i in range(4)]}
    return search_table({role: {i: [loss] for i, loss in enumerate(pool)} for role, pool in pools.items()}, every)


def report(table=None, **facts):
    return Searches.of(TRANSLATION, runs() if table is None else table, {**FACTS, **facts})


STUDY_FACTS = {"samples": 20, "search": 10, "searches": N, "direct": 2, "direct_samples": 6, "seed": 3}
STUDY_FACTS |= {"proxy_width": 32, "target_width": 128, "space": SPACE, "default_lr": 0.001}


def studied(*, short=0, default=2.6, default_long=2.4, **changes):
    """Losses that grow with the sample; a search costs 10 x 10 FLOPs, one training of the target 100."""
    pools = {"proxy": (20, 3), "mutransfer": (20, 2), "naive": (20, 2.5), "direct": (6, 2.3)}
    pools["proxy_short"] = (short, 4.5)
    losses = {
        role: {i: [changes[role](i) if role in changes else first + i / 10] for i in range(n)}
        for role, (n, first) in pools.items()
    }
    return search_table({**losses, "default": {-1: [default]}, "default_long": {-1: [default_long]}})


def study(facts=(), **losses):
    return Searches.of(STUDIED, studied(**losses), {**STUDY_FACTS, **dict(facts)})


def against(known, other):
    return next(comparison for comparison in known.comparisons if comparison.other == other)


# ---- who is selected, what that reached and spent -------------------------------------------------------------------


def test_outcomes_are_means_over_the_inits_of_the_sample_with_the_least_validation_loss():
    """By hand from the looks; BLEU decides nothing, though sample 5 has by far the best in both pools' targets."""
    known = report(runs(mutransfer={**inits(35, -1, 6), 5: (99.0, 99.0)}, direct={**inits(33, -1, 4), 3: (99.0, 99.0)}))
    best = [min(look) for look in searches(6, 3, N, 0)]
    of_direct = [min(look) for look in searches(4, 2, N, 0)]
    methods = known.methods
    expected = {("mutransfer", "bleu_valid"): (best, 35), ("naive", "bleu_test"): (best, 19)}
    expected["direct", "bleu_valid"] = of_direct, 33
    for (name, metric), (chosen, first) in expected.items():
        assert list(methods[name].chosen) == chosen
        assert methods[name].values(metric) == pytest.approx([first - i for i in chosen])
    assert set(methods["default"].values("bleu_valid")) == {32.0}
    shuffled = report(runs().sample(frac=1, random_state=1))
    assert shuffled.comparisons == report().comparisons
    assert [a.other for a in shuffled.comparisons if a.decides] == ["naive", "direct", "default"]


def test_of_a_tie_the_lower_number_is_selected_and_a_diverged_sample_never():
    ties = report(runs(proxy=[LOST, 5.0, 5.0, LOST, 5.0, 5.0]))
    expected = [min((i for i in look if i not in (0, 3)), default=None) for look in searches(6, 3, N, 0)]
    assert list(ties.methods["naive"].chosen) == expected


def test_one_diverged_init_makes_the_outcome_diverged():
    """Sample 0 loses one init of two; it ranks below every BLEU, in every draw."""
    mup = report(runs(mutransfer={**inits(35, -1, 6), 0: (LOST, 40.0)}), search=6).methods["mutransfer"]
    assert set(mup.chosen) == {0} and mup.lost == (N, 0)
    assert (mup.percentiles(100, "bleu_valid") == DOWN).all()


def test_a_search_whose_samples_all_diverged_is_diverged_too():
    """Only sample 0 trains on the proxy; in the study its copy in SP diverges, too. Of losses diverged is +inf."""
    mup = report(runs(proxy=[5.0] + [LOST] * 5)).methods["mutransfer"]
    without = sum(0 not in look for look in searches(6, 3, N, 0))
    assert 0 < without < N and mup.lost == (0, without)
    assert sorted(mup.values("bleu_valid")) == [DOWN] * without + [35.0] * (N - without)
    known = study(proxy=lambda i: 1.0 if i == 0 else LOST, naive=lambda i: LOST, direct=lambda i: LOST)
    looked = sum(0 in look for look in searches(20, 10, N, 3))
    lost = {name: known.methods[name].lost for name in ("mutransfer", "naive", "direct")}
    assert lost == {"mutransfer": (0, N - looked), "naive": (looked, N - looked), "direct": (0, N)}
    assert np.isposinf(known.methods["mutransfer"].values("test_loss")).sum() == N - looked


def test_inits_are_drawn_within_their_sample():
    """All searches select sample 0: what is left is its inits, all but one of them drawn: 34.9 or 35.1."""
    mup = report(search=6).methods["mutransfer"]
    middle = mup.percentile(50, "bleu_valid")
    assert (middle.value, middle.low, middle.high) == pytest.approx((35, 34.9, 35.1))
    assert {len(np.unique(mup.percentiles(p, "bleu_valid")[1:])) for p in (0, 50, 100)} == {2}
    alone = report(runs().query("seed == 0"), inits=1, search=6).methods["mutransfer"].percentile(50, "bleu_valid")
    assert alone.low == alone.high == pytest.approx(34.9)


def test_what_a_search_spent():
    """3 proxies at 10 FLOPs and a target at 100; two targets, the winner among them; the default once."""
    known = report()
    spent = {name: of.spent.tolist() for name, of in known.methods.items()}
    expected = {"default": 1.0, "direct": 2.0, "naive": 1.3, "mutransfer": 1.3}
    assert spent == {name: pytest.approx([cost] * N) for name, cost in expected.items()} and known.training == 100
    for kind in ("cost", "planned"):
        gap, text = costs(known, kind)
        assert gap == pytest.approx(200 / 130 - 1)
        assert text == "direct tuning 2.00 (+53.8%), µTransfer 1.30 (+0.0%)"
    assert costs(study(), "cost")[0] == pytest.approx(0)


def test_diverged_runs_cost_the_steps_that_they_lived():
    """A quarter: 2.5 for a proxy, 25 for a target, (25 + 100) / 2 for a target of which one init is lost."""
    table = runs(proxy=[5.0, LOST, LOST, 8.0, 9.0, 10.0], naive={**inits(20, -1, 6), 0: (LOST, 20.0)})
    known = report(table, search=6)
    assert known.methods["mutransfer"].spent == pytest.approx([(2 * 2.5 + 4 * 10 + 100) / 100] * N)
    assert known.methods["naive"].spent == pytest.approx([(45 + 62.5) / 100] * N)
    assert known.methods["naive"].planned == pytest.approx(1.6)
    assert (tuning_cost(known, "flops"), tuning_cost(known, "spent")) == pytest.approx((0.6, 0.45))
    early = study(direct=lambda i: LOST)
    assert costs(early, "planned")[0] == pytest.approx(0) and costs(early, "cost")[0] == pytest.approx(3.0)


def test_better_worse_and_undecided():
    """Against medians that are clearly above, clearly below, and the same; a study selects by training loss."""
    known = study(default=1.0)
    assert list(known.methods["mutransfer"].chosen) == [min(look) for look in searches(20, 10, N, 3)]
    assert [*known.methods] == ["default", "default_long", "direct", "naive", "mutransfer"]
    naive, default = against(known, "naive"), against(known, "default")
    assert (naive.verdict, naive.share, default.verdict) == ("better", "7 of 7 searches", "worse")
    assert naive.difference.value == pytest.approx(-0.5)
    tied = against(study(naive=lambda i: 2 + i / 10), "naive")
    assert (tied.verdict, tied.difference.value) == ("undecided", 0.0) and "(7 ties)" in tied.sentence
    assert "undecided (all searches selected the same sample)" in against(study({"search": 20}), "naive").sentence
    few, many = (against(study({"searches": n}), "default").difference for n in (5, 400))
    assert many.high - many.low < few.high - few.low  # the interval covers which samples were looked at


# ---- gaps -----------------------------------------------------------------------------------------------------------


def row(table, role, sample, seed=0):
    return (table["role"] == role) & (table["sample"] == sample) & (table["seed"] == seed)


def changed(column, value, role, sample=0):
    return runs().assign(**{column: lambda t: t[column].astype(object).mask(row(t, role, sample), value)})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (runs().drop(columns="attn_mult"), "lacks attn_mult; run"),
        (runs().query("role != 'default'"), "has no runs of role 'default'"),
        (runs().replace({"role": {"naive": "naiv"}}), "unknown role in the table of the searches 'naiv'. Did you mean"),
        (changed("bleu_test", math.nan, "default", -1), "role 'default' finished without a bleu_test"),
        (runs()[lambda t: ~row(t, "proxy", 4)], "role 'proxy' lacks 1 of 6 runs, first sample 4"),
        (runs(direct_pool=[5.0] * 5), "role 'direct_pool' has sample 4, which was not planned"),
        (runs()[lambda t: ~row(t, "mutransfer", 0, 1)], "'mutransfer' with sample 0 lacks 1 of 2 runs, first seed 1"),
        (changed("width", 64, "naive"), r"the runs of the target differ in width \(128, 64\)"),
        (changed("log2_lr", -1.0, "naive"), "role naive, sample 0 differs from that of role 'proxy'"),
        (runs(mutransfer=inits(35, -1, 7)), "role mutransfer, sample 6 differs from that of role 'proxy'"),
    ],
)
def test_gaps_are_named(table, message):
    with pytest.raises(UserError, match=message):
        report(table)


def test_a_selected_sample_without_its_target_is_named():
    best = min(min(look) for look in searches(6, 3, N, 0))
    partly = report(runs()[lambda t: ~((t["role"] == "naive") & (t["sample"] == best))])
    with pytest.raises(UserError, match=rf"runs of sample {best} \(role 'naive'\), which search \d selects of 3"):
        partly.methods  # noqa: B018
    with pytest.raises(UserError, match="a search looks at 9 samples of a pool of 6"):
        report(search=9).methods  # noqa: B018


# ---- Figure 6 -------------------------------------------------------------------------------------------------------


def front(direct, mutransfer):
    """Each a list of (samples, compute, outcomes)."""
    points = {"direct": direct, "mutransfer": mutransfer}
    facts = {"searches": len(direct[0][2])}
    return Front(facts, {k: tuple(outcomes(b, k, s, c) for s, c, b in v) for k, v in points.items()})


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
    both = front([(2, 2, flat(30)), (8, 8, flat(34))], [(4, 1, flat(30)), (8, 4, flat(32)), (16, 16, flat(40))])
    duel = both.duel("compute")
    assert list(duel.x) == [2, 4, 8] and [d.value for d in duel.differences] == pytest.approx([1, 0, 2])
    assert duel.verdict == "µTransfer dominates" and duel.words == ["better", "undecided", "better"]
    duel = both.duel("samples")
    assert list(duel.x) == [4, 8] and [d.value for d in duel.differences] == pytest.approx([-2, -2])
    assert duel.verdict == "direct tuning dominates"


NOISY = [20.0, 25.0, 30.0, 35.0, 40.0]


@pytest.mark.parametrize(
    ("direct", "mutransfer", "text"),
    [
        ([(1, 1, flat(30)), (4, 4, flat(36))], [(1, 1, flat(32)), (4, 4, flat(34))], "the lines cross"),
        ([(1, 1, NOISY)], [(1, 1, NOISY[::-1])], "undecided"),
        ([(1, 1, flat(30, 4))], [(1, 1, flat(32, 4))], "undecided (4 searches, fewer than 5)"),
        ([(1, 1, flat(30))], [(2, 2, flat(32))], "undecided (no place that both have)"),
        # clearly better at 1, a little behind at 4, though not clearly
        ([(1, 1, flat(30)), (4, 4, flat(30))], [(1, 1, flat(32)), (4, 4, [20.0, 25.0, 29.0, 35.0, 40.0])], "undecided"),
        # a diverged median loses
        ([(1, 1, flat(DOWN)), (4, 4, flat(30))], [(1, 1, flat(20)), (4, 4, flat(31))], "µTransfer dominates"),
    ],
)
def test_who_dominates(direct, mutransfer, text):
    assert front(direct, mutransfer).duel("compute").text == text


def test_points_of_a_line_are_the_searches_cut_short():
    """A larger search keeps what a smaller one looked at, so its winner's loss never rises, nor its compute falls."""
    known = report()
    lines = Front.of(known, {"mutransfer": [4, 1, 2, 3], "direct": [1, 2]})
    assert [p.looked for p in lines.points["mutransfer"]] == [1, 2, 3, 4]
    chosen = np.array([p.chosen for p in lines.points["mutransfer"]])
    assert (np.diff(chosen, axis=0) <= 0).all()  # sample i has loss 5 + i
    assert lines.x("mutransfer", "compute") == pytest.approx([1.1, 1.2, 1.3, 1.4])
    assert lines.x("direct", "compute") == pytest.approx([1, 2])
    assert lines.points["mutransfer"][2].chosen == known.methods["mutransfer"].chosen
    with pytest.raises(UserError, match="needs sizes of direct and mutransfer"):
        Front.of(known, {"mutransfer": [1], "direct": []})
    with pytest.raises(UserError, match="looks at 5 samples of a pool of 4"):
        Front.of(known, {"mutransfer": [1], "direct": [5]})


# ---- the folder: 12 samples on the proxy, the lower the number, the better; of naive transfer odd ones diverged -----

SHOWN = {**FACTS, "samples": 12, "search": 6, "direct_samples": 5, "sizes": {"mutransfer": [1, 2, 6], "direct": [1, 2]}}
NO_FRONT = {"sizes": {"mutransfer": [], "direct": []}}
PAPER = {"table_or_figure": "Table 4", "statement": "µTransfer wins.", "differs": "width 128; 2 inits; made-up data."}


def shown(**targets):
    """µTransfer 35, direct 33, the default 32, naive 20."""
    naive = {i: (LOST, 20.0) if i % 2 else bleu for i, bleu in inits(20, -0.1, 12).items()}
    every = {"mutransfer": inits(35, -0.1, 12, 0.02), "naive": naive, "direct": inits(33, -0.1, 5, 0.02)}
    pools = {"proxy": {i: [LOST if i == 3 else 5 + i / 10] for i in range(12)}}
    pools["direct_pool"] = {i: [4 + i / 10] for i in range(5)}
    return search_table(pools, {**every, "default": {-1: (31.9, 32.1)}, **targets})


@pytest.fixture
def written(folder):
    """Write a folder of repeated searches; ``facts`` changes provenance["searches"]."""

    def write(table=None, facts=(), **more):
        known = {"paper": PAPER, "searches": {**SHOWN, **dict(facts)}, "stands_in_for": "IWSLT14", **more}
        return folder(shown() if table is None else table, kind="searches", **known)

    return write


def test_the_table_sets_ours_beside_the_paper(written):
    """Every selected sample is 0 or another low number; the paper's numbers are those of values.csv."""
    described = SEARCHES.describe(written(facts={"search": 12}))
    table, name = described.text, "Validation BLEU, beside Table 4 of the paper"
    mup, *others = (of_row(table, name, m) for m in ("µTransfer", "direct tuning", "naive transfer", "SP default"))
    # all samples are looked at: 11 proxies and a quarter of one at 10 FLOPs, a target at 100; sample 0 has 35
    wanted = {"compute (target trainings)": "2.12", "the paper's total compute": "1x", "samples a search": "12"}
    wanted |= {"the paper's HP samples": "64", "p50 (median)": "35.00 [34.98, 35.02]", "no winner": "0 of 7"}
    assert wanted.items() <= mup.items()
    theirs = [[row[f"the paper's val BLEU p{p}"] for p in (25, 50, 75, 100)] for row in (mup, *others)]
    assert theirs[:2] == [["35.27", "35.33", "35.45", "35.53"], ["33.62", "35.0", "35.35", "35.45"]]
    assert theirs[2:] == [["diverged"] * 4, ["-", "-", "-", "35.4"]]
    assert others[-1]["p100 (best)"] == "mean 32.00 [30.73, 33.27]"
    assert of_row(table, "Test BLEU", "µTransfer")["p25"] == "34.00 [33.98, 34.02]"
    assert all(f"- {line}\n" in table for line in described.summary.split("\n"))
    texts = ["1. width 128.\n2. 2 inits.\n3. made-up data.", "| Section 7.1: independent search trials | 25 | 7 |"]
    texts += ["µTransfer wins.", "training of the target is 100 FLOPs", "undecided (all searches selected the same"]
    assert all(text in table for text in texts)


def test_table_5_has_its_own_percentiles_and_numbers(written):
    facts = {"table": "Table 5", "percentiles": [0, 50, 100], "searches": 3, **NO_FRONT}
    described = SEARCHES.describe(written(facts=facts, signature="BLEU|tok:13a"))
    table, name = described.text, "Validation BLEU, beside Table 5 of the paper"
    theirs = [f"the paper's val BLEU p{p}" for p in (0, 50, 100)]
    assert [of_row(table, name, "µTransfer")[k] for k in theirs] == ["25.94", "26.34", "26.42"]
    assert [of_row(table, name, "direct tuning")[k] for k in theirs] == ["diverged", "diverged", "25.69"]
    assert of_row(table, name, "SP default")[theirs[-1]] == "26.4" and "p0 (worst)" in table
    assert "| Table 5: independent search trials | 3 | 3 |" in table and "Section 7.1" not in table
    assert described.summary.count("undecided (3 searches, fewer than 5)") == 3 and "Figure 6" not in table
    assert "BLEU: `BLEU|tok:13a`." in table
    (claim,) = SEARCHES.claims(described)
    assert claim.source == "Table 4" and [part.verdict for part in claim.parts] == ["undecided"] * 2 + ["not judged"]


def test_verdicts_compute_and_what_was_selected(written):
    described = SEARCHES.describe(written())
    text, table = described.summary, described.text
    assert "µTransfer against naive transfer: better; validation BLEU higher in 7 of 7 searches" in text
    assert "NOT equal within 10%" in text and "with no diverged run stopped direct tuning 2.00 (+25.0%), µTr" in text
    assert "| 1 of 2 inits diverged |" in table and "learning rate 0.0005" in table
    (claim,) = SEARCHES.claims(described)
    assert (claim.source, claim.verdict) == ("Figure 6", "reproduced")
    worse = SEARCHES.describe(written(shown(mutransfer=dict.fromkeys(range(12), (1.0, 1.1))))).summary
    assert "µTransfer against direct tuning: worse" in worse
    assert "Figure 6, at equal number of samples: direct tuning dominates" in worse


@pytest.mark.parametrize("role", ["mutransfer", "direct", "default"])
def test_odd_searches_are_drawn_and_pictures_say_what_they_are_made_of(written, role):
    """All targets of a method diverged; that is a result. A figure is passed around without its table."""
    table = shown()
    lost = table["role"] == role
    table.loc[lost, ["status", "test_loss", "bleu_valid", "bleu_test"]] = ["diverged", math.nan, math.nan, math.nan]
    if role == "direct":
        table.loc[table["role"] == "direct_pool", ["status", "test_loss"]] = ["diverged", math.nan]
    text, paths = SEARCHES.redraw(written(table, data_is_real=False))
    told = {"mutransfer": "SP default: worse", "direct": "direct tuning: better", "default": "SP default: better"}
    assert told[role] in text
    assert "[+inf, +inf]" in text or role == "mutransfer"
    assert ("Nothing: all samples diverged." in paths[-1].read_text()) == (role == "direct")
    said = {path.stem: words(path) for path in paths if path.suffix == ".svg"}
    for lines in said.values():
        caption = " ".join(lines)
        assert "STAND-IN DATA, not IWSLT14" in lines and "one pool" in caption and "Data: CIFAR-10" in caption
    assert any("worse" if role == "mutransfer" else "better" in line for line in said["bleu"])
    assert "diverged, or no winner" in said["bleu"] and "median validation BLEU" in said["pareto"]
    assert "trainings of the target (log scale)" in said["pareto"] and "samples (log scale)" in said["pareto"]
    dominates = "direct tuning" if role == "mutransfer" else "µTransfer"
    assert f"equal compute: {dominates} dominates" in said["pareto"]


def test_the_same_numbers_give_the_same_bytes_and_others_do_not(written):
    """In any order of rows; what is never selected changes nothing, what is changes its table and its pictures."""
    default, never, loser = shown(), shown(), shown()
    never.loc[(never["role"] == "naive") & (never["sample"] == 10), "bleu_valid"] += 0.2
    default.loc[(default["role"] == "default") & (default["seed"] == 1), "bleu_test"] += 0.2
    loser.loc[(loser["role"] == "direct") & (loser["sample"] == 0) & (loser["seed"] == 1), "bleu_valid"] += 0.5
    changes, names = redrawn(SEARCHES, written, [(table,) for table in (shown(), never, default, loser)])
    assert names == ["bleu.png", "bleu.svg", "pareto.png", "pareto.svg", "table.md"]
    assert changes == [set(), {"bleu", "table"}, {"bleu", "pareto", "table"}]


def test_gaps_of_a_folder_are_named(written, studying):
    unknown = {"table": "Table 44", **NO_FRONT}
    for kind, write, changes, message in (
        (SEARCHES, written, {"facts": {"percentiles": None, "default_lr": None}}, "lacks searches.default_lr"),
        (SEARCHES, written, {"facts": {"direct": None}}, "provenance.json lacks searches.direct; run"),
        (SEARCHES, written, {"facts": unknown}, "table or figure 'Table 44'. Did you mean 'Table 4'"),
        (STUDY, studying, {"curve": curves().drop(index=7)}, "panel 'width' of the learning curves lacks 1 rows"),
        (STUDY, studying, {"curve": curves().assign(panel="widths")}, "curves.csv lacks the panel width"),
    ):
        with pytest.raises(UserError, match=message):
            kind.redraw(write(**changes))


# ---- a study's folder: sample 3 of the proxy, and the longer default, diverged --------------------------------------


def shown_study(**losses):
    changes = {"proxy": lambda i: LOST if i == 3 else 3 + i / 50, "mutransfer": lambda i: 2 + i / 50}
    return studied(**{"short": 16, "default": 2.3, "default_long": LOST, **changes, **losses})


def curves(behind=False):
    """Wider is better at every step, or, at one, not."""
    rows = [
        ("width", "mup", width, -6.0, 0, step, 64 * step, 2.5 - 0.1 * k + 3 * math.exp(-step / 20))
        for k, width in enumerate((32, 64, 128))
        for step in range(10, 210, 10)
    ]
    names = ["panel", "parametrization", "width", "log2_lr", "seed", "step", "tokens", "loss"]
    table = pd.DataFrame(rows, columns=names)
    table.loc[behind * ((table["width"] == 128) & (table["step"] == 100)), "loss"] += 1
    return table


@pytest.fixture
def studying(folder):
    """Write a study's folder."""

    def write(table=None, curve=None, **more):
        paper = {"table_or_figure": "Table 7", "statement": "7% is enough.", "differs": "narrower."}
        more |= {"kind": "study", "study": STUDY_FACTS, "stands_in_for": "GPT-3's data"}
        where = folder(shown_study() if table is None else table, paper=paper, **more)
        (curves() if curve is None else curve).to_csv(where / "curves.csv", index=False)
        return where

    return write


def test_a_study_says_who_won_what_it_cost_and_what_the_paper_has(studying):
    described = STUDY.describe(studying(curve=curves(behind=True)))
    table, name = described.text, "Test loss, beside Table 7 of the paper"
    longer = of_row(table, "Training loss", "longer SP default")
    wanted = {"steps": "200", "p100 (worst)": "mean diverged", "compute (FLOPs)": "50"}
    assert wanted.items() <= longer.items()
    mup, default = of_row(table, name, "µTransfer"), of_row(table, name, "SP default")
    assert [row["the paper's validation loss p50"] for row in (mup, default)] == ["1.98", "2.03"]
    assert default["p100 (worst)"] == "mean 3.3000"
    # a search costs 10 x 10 FLOPs, the target 100: two trainings in all, and k = 2
    for text in (
        "µTransfer against naive transfer: better; training loss lower in 7 of 7 searches",
        "tuning cost / target training: 100.0% for a search of 10 samples",
        "280.0% for all samples on the proxy (20 x 100 steps and 16 x 50 steps); the paper's GPT-3 6.7B: 6.5%",
        "NOT equal within 10%",  # the longer default diverged after a quarter
        "behind at 1 of 40 cells",
    ):
        assert text in described.summary and text in table
    assert "| App. F.4: tuning cost / pretraining | 6.5%, printed as 7% | 100.0% |" in table
    claims = STUDY.claims(described)
    assert [claim.source for claim in claims] == ["Table 7", "Figure 8"] and claims[0].verdict == "reproduced"


def test_each_changed_number_of_a_study_changes_its_own_picture(studying):
    sample, default = shown_study(), shown_study(default=2.35)
    never = sample["sample"] == max(set(range(20)) - {min(look) for look in searches(20, 10, N, 3)})
    sample.loc[never & sample["role"].isin(["proxy", "mutransfer", "naive"]), "attn_mult"] = 1.0
    tables = [(shown_study(),), (sample, curves(behind=True)), (default,)]
    changes, names = redrawn(STUDY, studying, tables)
    assert names[::2] == ["equal_compute.png", "parallel_coordinates.png", "loss_vs_tokens.png", "table.md"]
    assert changes == [{"parallel_coordinates", "loss_vs_tokens", "table"}, {"equal_compute", "table"}]


def test_pictures_of_a_study_say_what_was_lost_and_whose_data_they_are(studying):
    """A figure is passed around without its table; all of the short pool diverged, and some losses are far above."""
    proxy = [LOST if i == 3 else 50.0 if i > 16 else 3 + i / 50 for i in range(20)]
    table = shown_study(direct=lambda i: 50.0 if i > 2 else 2.3 + i / 10, proxy=lambda i: proxy[i])
    short = table["role"] == "proxy_short"
    table.loc[short, ["status", "train_loss", "test_loss"]] = ["diverged", math.inf, math.nan]
    _, paths = STUDY.redraw(studying(table, data_is_real=False))
    said = {path.stem: words(path) for path in paths if path.suffix == ".svg"}
    for lines in said.values():
        assert "STAND-IN DATA, not GPT-3's data" in lines
    dots, parallel = said["equal_compute"], said["parallel_coordinates"]
    assert {"diverged, or no winner", "1 of 1", "above the axis"} <= {*dots}
    assert {"1 diverged", "16 diverged", "the best 5", "above the axis"} <= {*parallel}
    assert "width 32, 100 steps: 20 samples, 19 finished; best loss 3.0000" in parallel
    assert any("wider is better: holds" in line for line in said["loss_vs_tokens"])


def test_a_study_of_one_pool_in_which_all_targets_diverged_is_drawn(studying):
    lost = dict.fromkeys(("mutransfer", "naive", "direct"), lambda i: LOST)
    text, paths = STUDY.redraw(studying(shown_study(short=0, default=LOST, **lost)))
    assert all(path.stat().st_size for path in paths)
    assert text.count("undecided; training loss lower in 0 of 7 searches (7 ties)") == 4
