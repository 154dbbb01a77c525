"""A study at equal compute, on losses made by hand: who wins, what it cost, and what its folder shows."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from drawn import words
from search_table import LOST, study_table

from mutransfer.errors import UserError
from mutransfer.results.selection import searches
from mutransfer.results.study import STUDY, TABLE, cost_fraction, study_gap, study_report

INF, NAN = math.inf, math.nan
FACTS = {"samples": 20, "search": 10, "searches": 7, "direct": 2, "direct_samples": 6, "seed": 3, "default_lr": 0.001}
FACTS |= {"proxy_width": 32, "target_width": 128}
FACTS["space"] = {"lr": "10^U(-4, -1)", "init_mult": "10^U(-1, 1)", "attn_mult": "4^U(-1, 1)"}
NAMES = ["equal_compute", "parallel_coordinates", "loss_vs_tokens"]


def runs(*, short=0, default=2.6, default_long=2.4, **changes):
    """Losses that grow with the sample; a search costs 10 x 10 FLOPs, one training of the target 100."""
    size = {"proxy": 20, "mutransfer": 20, "naive": 20, "direct": 6}
    loss = {
        "proxy": lambda i: 3 + i / 10,
        "mutransfer": lambda i: 2 + i / 10,
        "naive": lambda i: 2.5 + i / 10,
        "direct": lambda i: 2.3 + i / 10,
        **changes,
    }
    losses = {role: {i: loss[role](i) for i in range(n)} for role, n in size.items()}
    return study_table({**losses, "default": {-1: default}, "default_long": {-1: default_long}}, short=short)


def report(facts=(), **losses):
    return study_report(runs(**losses), {**FACTS, **dict(facts)})


def against(known, other, metric="train_loss"):
    return next(against for against in known.comparisons(metric) if against.other == other)


def test_what_each_method_reached_and_spent():
    """Losses, winners and FLOPs are those of the searches, by hand."""
    known = report()
    best = [min(look) for look in searches(20, 10, 7, 3)]  # sample i has a proxy loss that grows with i
    mup, direct = known.methods["mutransfer"], known.methods["direct"]
    assert list(known.methods) == ["mutransfer", "naive", "direct", "default", "default_long"]
    assert list(mup.chosen) == best == list(known.methods["naive"].chosen)
    assert mup.values("train_loss") == pytest.approx([2 + i / 10 for i in best])
    assert mup.values("test_loss") == pytest.approx([3 + i / 10 for i in best])
    chosen = [min(look) for look in searches(6, 2, 7, 3)]
    assert list(direct.chosen) == chosen and direct.values("train_loss") == pytest.approx(
        [2.3 + i / 10 for i in chosen]
    )
    assert {name: set(m.spent) for name, m in known.methods.items()} == {
        "mutransfer": {200.0}, "naive": {200.0}, "direct": {200.0}, "default": {100.0}, "default_long": {200.0},
    }  # fmt: skip
    assert [known.looked_text(name) for name in known.methods] == ["10", "10", "2", "1", "1"]
    assert mup.percentile(0, "train_loss").value == min(mup.values("train_loss"))
    assert mup.percentile(100, "test_loss").value == max(mup.values("test_loss"))
    assert study_gap(known, "compute")[0] == study_gap(known, "planned")[0] == 0 and mup.planned / known.training == 2


def test_diverged_runs_cost_what_they_lived():
    """Every other proxy diverges after a fifth: it costs 2 of 10 FLOPs, and wins nothing."""
    known = report(proxy=lambda i: LOST if i % 2 else 3 + i / 10)
    cost = [sum(2 if i % 2 else 10 for i in look) + 100 for look in searches(20, 10, 7, 3)]
    mup = known.methods["mutransfer"]
    assert mup.spent == pytest.approx(cost) and mup.planned == 200
    assert not any(i % 2 for i in known.methods["naive"].chosen)
    assert cost_fraction(known) == pytest.approx(1.0)
    assert cost_fraction(known, lived=True) == pytest.approx(np.mean(cost) / 100 - 1)
    assert cost_fraction(known, ["proxy"]) == pytest.approx(2.0)
    assert cost_fraction(known, ["proxy"], lived=True) == pytest.approx(1.2)


def test_unequal_compute_is_seen():
    """Direct tuning with one sample of what two would cost, or stopped early: equal is a finding."""
    gap, least, most = study_gap(report({"direct": 1}), "compute")
    assert (gap, least) == (1.0, "direct tuning") and most != least
    early = report(direct=lambda i: LOST)
    assert study_gap(early, "planned")[0] == 0 and study_gap(early, "compute")[0] == pytest.approx(4.0)


def test_diverged_targets_and_searches_without_a_winner_count_as_infinite():
    """Only sample 0 trains on the proxy; its copy in SP diverges."""
    known = report(proxy=lambda i: 1.0 if i == 0 else LOST, naive=lambda i: LOST, direct=lambda i: LOST)
    looked = sum(0 in look for look in searches(20, 10, 7, 3))
    assert 0 < looked < 7
    mup, naive, direct = (known.methods[name] for name in ("mutransfer", "naive", "direct"))
    assert (mup.without_winner, mup.diverged) == (7 - looked, 0)
    assert (naive.without_winner, naive.diverged) == (7 - looked, looked)
    assert (direct.without_winner, direct.diverged) == (7, 0)
    assert np.isinf(mup.values("test_loss")).sum() == 7 - looked
    assert min(mup.spent) == pytest.approx(10 * 2)  # nothing to copy: no training of the target


def test_better_worse_and_undecided():
    """µTransfer's median against others that are clearly above, clearly below, and in the midst of its spread."""
    known = report(default=1.0)
    naive, default = against(known, "naive"), against(known, "default")
    assert naive.verdict == "better" and naive.better == 7 and naive.difference.value == pytest.approx(-0.5)
    assert default.verdict == "worse" and default.better == 0
    same = report(naive=lambda i: 2 + i / 10)
    tied = against(same, "naive")
    assert (tied.verdict, tied.tied, tied.better, tied.difference.value) == ("undecided", 7, 0, 0.0)
    assert "(7 ties)" in same.sentence(tied)
    whole = report({"search": 20})
    assert "undecided (all searches selected the same sample)" in whole.sentence(against(whole, "naive"))


def test_the_interval_tightens_with_searches():
    """It covers which samples were looked at, and nothing else: more looks, less of that."""
    widths = []
    for n in (5, 400):
        apart = against(report({"searches": n}), "default").difference
        widths.append(apart.high - apart.low)
    assert all(later < earlier for earlier, later in pairwise(widths))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[t["role"] != "default_long"], "has no runs of role 'default_long'"),
        (
            lambda t: t[~((t["role"] == "proxy") & (t["sample"] == 4))],
            "'proxy' lacks 1 of 20 runs, first sample 4",
        ),
        (
            lambda t: t[~((t["role"] == "direct") & (t["sample"] == 5))],
            "'direct' lacks 1 of 6 runs, first sample 5",
        ),
        (lambda t: t.drop(columns="flops"), "lacks flops; run"),
        (lambda t: t.drop(columns="attn_mult"), "lacks attn_mult; run"),
        (lambda t: t.replace({"role": {"mutransfer": "mutransfr"}}), "unknown role .* Did you mean 'mutransfer'"),
        (lambda t: pd.concat([t, t.query("role == 'naive' and sample == 0")]), "twice, first role naive, sample 0"),
        (lambda t: t.assign(steps=t["steps"].mask(t["role"] == "direct", 40)), r"target differ in steps \(40, 50\)"),
        (
            lambda t: t.assign(status=t["status"].mask(t["role"] == "default", "failed")),
            "1 runs failed, first role",
        ),
        (
            lambda t: t.assign(test_loss=t["test_loss"].mask(t["role"] == "direct")),
            "6 runs of the study finished",
        ),
        (lambda t: t.assign(attn_mult=t["attn_mult"].mask(t["role"] == "naive", 9)), "differs in attn_mult from its"),
    ],
)
def test_gaps_are_named(change, message):
    with pytest.raises(UserError, match=message):
        study_report(change(runs()), FACTS)


def test_a_winner_without_its_target_and_missing_facts_are_named():
    table, first = runs(), min(searches(20, 10, 7, 3)[0])
    gone = table[~((table["role"] == "naive") & (table["sample"] == first))]
    with pytest.raises(UserError, match=rf"sample {first} \(role 'naive'\), which search \d selects of 10"):
        study_report(gone, FACTS).methods  # noqa: B018
    with pytest.raises(UserError, match="lacks direct, seed; run"):
        study_report(table, {k: v for k, v in FACTS.items() if k not in ("direct", "seed")})


# The folder: sample 3 of the proxy, and the longer default, diverged.


def shown(**losses):
    changes = {"proxy": lambda i: LOST if i == 3 else 3 + i / 50, "mutransfer": lambda i: 2 + i / 50}
    return runs(**{"short": 16, "default": 2.3, "default_long": LOST, **changes, **losses})


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
def written(folder):
    """Write a study's folder; ``facts`` changes provenance["study"]."""

    def write(table=None, curve=None, facts=(), **more):
        paper = {"table_or_figure": "Table 7", "statement": "7% is enough.", "differs": "narrower."}
        table = shown() if table is None else table
        where = folder(table, paper=paper, study={**FACTS, **dict(facts)}, stands_in_for="GPT-3's data", **more)
        (curves() if curve is None else curve).to_csv(where / "curves.csv", index=False)
        return where

    return write


def test_the_table_says_who_won_what_it_cost_and_what_the_paper_has(written):
    described = STUDY.describe(written())
    table, summary = described.text, described.summary.split("\n")
    assert summary[0].startswith("µTransfer against naive transfer: better; training loss lower in 7 of 7 searches")
    assert all(f"- {line}" in table for line in summary)
    # a search costs 10 x 10 FLOPs, the target 100: two trainings in all, and k = 2
    for text in (
        "| SP default, longer | 1 | diverged | diverged |",
        "| 7 of 7 | 0 of 7 | 0.40 | 40 |",
        "| SP default (spends less) | 1 | 2.3000 | 2.3000 |",
        "one search and its target cost 2.00 trainings of the target, direct tuning looks at the whole number k = 2",
        "tuning cost / target training: 100.0% for a search of 10 samples",
        "280.0% for the whole study's samples (16 x 25 steps and 20 x 50 steps); the paper's GPT-3 6.7B: 6.5%",
        "NOT equal within 10%",  # the longer default diverged after a fifth
        "| App. F.4: tuning cost / pretraining | 6.5%, printed as 7% | 100.0% |",
        "| Table 7, 6.7B µP: validation loss (nats) | 1.98 | µTransfer: 3.0",
        "| Table 7, 6.7B re-run: validation loss (nats) | 2.03 | SP default: 3.3000 |",
        "neither new pools nor new training seeds",
        "What differs in ours: narrower.",
        "0 of 40 cells",
        "| sample | searches | lr, of 10^U(-4, -1) |",
    ):
        assert text in table


def test_unlike_verdicts_are_told_apart(written):
    """Where the naive copy is the better one, the table says worse."""
    summary = STUDY.describe(written(shown(naive=lambda i: 1.5 + i / 10), curves(behind=True))).summary
    assert "µTransfer against naive transfer: worse" in summary and "µTransfer against SP default: better" in summary
    assert "behind at 1 of 40 cells" in summary


def test_the_same_numbers_give_the_same_bytes_and_others_do_not(written):
    """In any order of rows; each changed number changes its own picture and no other."""

    def drawn(table, curve=None):
        _, paths = STUDY.redraw(written(table.sample(frac=1, random_state=len(done)), curve))
        done.append({path.name: path.read_bytes() for path in paths})
        return done[-1]

    done = []
    before = drawn(shown())
    assert [*before] == [*(f"{name}.{suffix}" for name in NAMES for suffix in ("png", "svg")), "table.md"]
    sample, default = shown(), shown(default=2.35)
    never = sample["sample"] == max(set(range(20)) - {i for look in searches(20, 10, 7, 3) for i in [min(look)]})
    sample.loc[never & sample["role"].isin(["proxy", "mutransfer", "naive"]), "attn_mult"] = 1.0
    for (table, curve), stems in (
        ((sample, curves(behind=True)), {"parallel_coordinates", "loss_vs_tokens", "table"}),
        ((default, None), {"equal_compute", "table"}),
    ):
        after = drawn(table, curve)
        assert {name.split(".")[0] for name in before if after[name] != before[name]} == stems


def test_verdicts_and_stand_in_data_stand_in_every_picture(written):
    """A figure is passed around without its table; all of the short pool diverged, and some losses are far above."""
    proxy = [LOST if i == 3 else 50.0 if i > 16 else 3 + i / 50 for i in range(20)]
    table = shown(direct=lambda i: 50.0 if i > 2 else 2.3 + i / 10, proxy=lambda i: proxy[i])
    table.loc[table["role"] == "proxy_short", ["status", "train_loss", "test_loss"]] = ["diverged", INF, NAN]
    _, paths = STUDY.redraw(written(table, data_is_real=False))
    said = {path.stem: words(path) for path in paths if path.suffix == ".svg"}
    for lines in said.values():
        assert "STAND-IN DATA, not GPT-3's data" in lines
    dots, parallel = said["equal_compute"], said["parallel_coordinates"]
    assert dots.count("better") == 2 * (len(TABLE.methods) - 1)
    assert {"diverged, or no winner", "1 of 1", "above the axis"} <= {*dots}
    assert {"1 diverged", "16 diverged", "the best 5", "above the axis"} <= {*parallel}
    assert "width 32, 50 steps: 20 samples, 19 finished; best loss 3.0000" in parallel
    assert any("wider is better: holds" in line for line in said["loss_vs_tokens"])
    assert "**" in paths[-1].read_text().split("\n")[2]


def test_a_study_of_one_pool_in_which_all_targets_diverged_is_drawn(written):
    lost = dict.fromkeys(("mutransfer", "naive", "direct"), lambda i: LOST)
    text, paths = STUDY.redraw(written(shown(short=0, default=LOST, **lost)))
    assert all(path.stat().st_size for path in paths)
    assert text.count("undecided; training loss lower in 0 of 7 searches (7 ties)") == 4


def test_gaps_of_a_folder_are_named(written):
    for changes, message in (
        ({"curve": curves().drop(index=7)}, "panel 'width' of the learning curves lacks 1 rows"),
        ({"curve": curves().assign(panel="widths")}, r"unknown panel of .*curves.csv 'widths'"),
        ({"facts": {"space": None}}, "lacks study.space"),
    ):
        with pytest.raises(UserError, match=message):
            STUDY.redraw(written(**changes))
    where = written()
    (where / "curves.csv").unlink()
    with pytest.raises(UserError, match=r"curves.csv does not exist"):
        STUDY.redraw(where)
