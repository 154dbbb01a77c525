"""Tables 4 and 5 and Figure 6 are redrawn from committed numbers: the same bytes, the paper beside ours, named gaps."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.legend import Legend
from search_table import LOST, search_table

from mutransfer.errors import UserError
from mutransfer.reporting.bleu_figure import limits
from mutransfer.reporting.repeated_searches import SEARCHES, cell
from mutransfer.results import published
from mutransfer.results.estimate import Estimate

SPACE = {"lr": "5e-4 * 2^{-1.5..1.25}", "output_mult": "2^{-8..7}", "attn_mult": "2^{-3..8}"}
FACTS = {
    "samples": 12, "search": 6, "searches": 7, "direct_samples": 5, "direct": 2, "inits": 2, "seed": 0,
    "proxy_width": 32, "target_width": 128, "table": "Table 4", "percentiles": [25, 50, 75, 100],
    "sizes": {"mutransfer": [1, 2, 6], "direct": [1, 2]}, "default_lr": 5e-4, "space": SPACE,
}  # fmt: skip
NO_FRONT = {"sizes": {"mutransfer": [], "direct": []}}
PAPER = {"table_or_figure": "Table 4", "statement": "µTransfer wins.", "differs": "width 128; 2 inits; made-up data."}


def runs(**targets):
    """The lower the number, the better: µTransfer 35, direct 33, the default 32; naive 20, odd samples diverged."""

    def inits(best, samples):
        return {i: (best - i / 10 - 0.02, best - i / 10 + 0.02) for i in range(samples)}

    naive = {i: (LOST, 20.0) if i % 2 else bleu for i, bleu in inits(20, 12).items()}
    every = {"mutransfer": inits(35, 12), "naive": naive, "direct": inits(33, 5), "default": {-1: (31.9, 32.1)}}
    proxy = [LOST if i == 3 else 5 + i / 10 for i in range(12)]
    return search_table(proxy, [4 + i / 10 for i in range(5)], {**every, **targets})


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Fewer pixels and draws: the same in less time."""
    monkeypatch.setattr("mutransfer.results.draw.style.DPI", 50)
    monkeypatch.setattr("mutransfer.results.repeated_searches.DRAWS", 1000)


@pytest.fixture
def text_only(monkeypatch):
    for name in ("bleu_figure", "front_figure"):
        monkeypatch.setattr(f"mutransfer.reporting.repeated_searches.{name}", lambda *args, **kwargs: [])


@pytest.fixture
def searches(folder):
    """Write a folder of repeated searches; ``facts`` changes provenance["searches"]."""

    def write(table=None, facts=(), **more):
        known = {"paper": PAPER, "searches": {**FACTS, **dict(facts)}, "stands_in_for": "IWSLT14", **more}
        return folder(runs() if table is None else table, **known)

    return write


def row(table, heading, start):
    """The cells of the row that begins with ``start``, of the first table under ``heading``."""
    part = table.split(f"## {heading}")[1]
    line = next(line for line in part.split("\n") if line.startswith(f"| {start} |"))
    return [one.strip() for one in line.strip("|").split("|")]


def test_redrawing_gives_the_same_bytes_in_any_order_of_rows(searches):
    text, paths = SEARCHES.redraw(searches())
    assert [p.name for p in paths] == ["bleu.png", "bleu.svg", "pareto.png", "pareto.svg", "table.md"]
    first = [path.read_bytes() for path in paths]
    again, paths = SEARCHES.redraw(searches(runs().sample(frac=1, random_state=1)))
    assert again == text and [path.read_bytes() for path in paths] == first


def test_the_table_sets_ours_beside_the_paper(searches, text_only):
    """Every selected sample is 0 or another low number; the paper's numbers are those of values.csv."""
    text, paths = SEARCHES.redraw(searches(facts={"search": 12}))
    table = paths[-1].read_text()
    name = "Validation BLEU beside Table 4 of the paper"
    mup = row(table, name, "µTransfer from 0.25x")
    # all samples are looked at: 11 proxies and a quarter of one at 10 FLOPs, a target at 100; sample 0 has 35
    assert mup[1:5] == ["2.12", "1x", "12", "64"] and mup[-2:] == ["0 of 7", "0 of 7"]
    assert mup[5:13] == [*(x for p in ("35.27", "35.33", "35.45", "35.53") for x in ("35.00 [34.98, 35.02]", p))]
    direct = row(table, name, "tuning on 1x (SP)")
    assert direct[3:5] == ["2", "5"] and direct[6::2][:4] == ["33.62", "35.0", "35.35", "35.45"]
    assert row(table, name, "naive transfer from 0.25x (SP)")[6::2][:4] == ["diverged"] * 4
    default = row(table, name, "fairseq default (SP)")
    assert default[5:11] == ["-"] * 6 and default[11].startswith("mean 32.00 [30.73, 33.27]") and default[12] == "35.4"
    assert row(table, "Test BLEU", "µTransfer from 0.25x")[3:5] == ["34.00 [33.98, 34.02]"] * 2
    for line in text.split("\n"):
        assert f"- {line}\n" in table
    assert "1. width 128.\n2. 2 inits.\n3. made-up data." in table and "µTransfer wins." in table
    assert "| Section 7.1: independent search trials | 25 | 7 |" in table
    assert "resampled from one pool, so an interval says nothing about another pool" in table
    assert "one training of the target is 100 FLOPs" in table and "undecided (all searches selected the same" in text


def test_table_5_has_its_own_percentiles_and_numbers(searches, text_only):
    facts = {"table": "Table 5", "percentiles": [0, 50, 100], "searches": 3, **NO_FRONT}
    text, paths = SEARCHES.redraw(searches(facts=facts, signature="BLEU|tok:13a"))
    table = paths[-1].read_text()
    assert "| p0 (worst) | the paper | p50 (median) | the paper | p100 (best) | the paper |" in table
    name = "Validation BLEU beside Table 5 of the paper"
    assert row(table, name, "µTransfer from 0.25x")[6:11:2] == ["25.94", "26.34", "26.42"]
    assert row(table, name, "tuning on 1x (SP)")[6:11:2] == ["diverged", "diverged", "25.69"]
    assert row(table, name, "fairseq default (SP)")[10] == "26.4"
    assert "| Table 5: independent search trials | 3 | 3 |" in table and "Section 7.1" not in table
    assert text.count("undecided (3 searches, fewer than 5)") == 3 and "Figure 6" not in table
    assert "BLEU: `BLEU|tok:13a`." in table


def test_the_published_numbers_come_from_values_csv(searches, text_only, monkeypatch):
    """Another number there is another number here, also of a column that it does not have yet."""
    every = published._all()
    one = next(v for v in every if v.setup == "muTransfer from 0.25x" and v.metric == "val BLEU p50")
    compute = replace(one, metric="total compute", value="1", unit="x", confidence="MEMORY")
    other = [replace(v, value="77.7") if v == one else v for v in every]
    monkeypatch.setattr(published, "_all", lambda: (*other, compute))
    table = SEARCHES.redraw(searches())[1][-1].read_text()
    cells = row(table, "Validation BLEU beside Table 4 of the paper", "µTransfer from 0.25x")
    assert cells[8] == "77.7" and cells[2] == "1x (memory)"


def test_verdicts_compute_and_what_was_selected(searches, text_only):
    text, paths = SEARCHES.redraw(searches())
    table = paths[-1].read_text()
    assert "µTransfer against naive transfer from 0.25x (SP): better; validation BLEU higher in 7 of 7 searches" in text
    assert "µTransfer against fairseq default (SP): better" in text and "| **better** |" in table
    assert "NOT equal within 10%" in text and "with no diverged run stopped 1.60 and 2.00, 25.0%" in text
    assert "| 5 of 5 inits diverged" not in table and "| 1 of 2 inits diverged |" in table
    assert "lr, of 5e-4 * 2^{-1.5..1.25}" in table and "learning rate 0.0005" in table
    assert "Figure 6, at equal compute: µTransfer dominates" in text
    worse, _ = SEARCHES.redraw(searches(runs(mutransfer={i: (1.0, 1.1) for i in range(12)})))
    assert "µTransfer against tuning on 1x (SP): worse" in worse
    assert "Figure 6, at equal number of samples: tuning on 1x dominates" in worse


def test_each_changed_number_changes_table_and_picture(searches, monkeypatch):
    """If it did not, they would not come from the numbers. A sample that is never selected changes nothing."""
    seen = {}

    def keep(figure, out, stem):
        figure.canvas.draw()
        seen[stem] = bytes(figure.canvas.buffer_rgba())
        return []

    for module in ("bleu_figure", "front"):
        monkeypatch.setattr(f"mutransfer.reporting.{module}.save", keep)

    def drawn(table=None):
        (path,) = SEARCHES.redraw(searches(table))[1]
        return {**seen, "table": path.read_bytes()}

    before = drawn()
    default, never, loser, test = runs(), runs(), runs(), runs()
    default.loc[(default["role"] == "default") & (default["seed"] == 1), "bleu_valid"] += 0.2
    loser.loc[(loser["role"] == "direct") & (loser["sample"] == 0) & (loser["seed"] == 1), "bleu_valid"] += 0.5
    never.loc[(never["role"] == "naive") & (never["sample"] == 10), "bleu_valid"] += 0.2
    test.loc[(test["role"] == "default"), "bleu_test"] += 0.2
    for after, names in (
        (drawn(default), {"bleu", "table"}),
        (drawn(loser), {"bleu", "pareto", "table"}),
        (drawn(test), {"bleu", "table"}),
        (drawn(never), set()),
    ):
        assert {name for name in before if after[name] != before[name]} == names


def test_pictures_say_what_they_are_made_of(searches, monkeypatch):
    """A figure is passed around without its table."""
    said = {}

    def keep(figure, out, stem):
        legends = [one for one in figure.findobj(Legend)]
        words = [text.get_text() for text in figure.texts] + [t.get_text() for a in figure.axes for t in a.texts]
        said[stem] = words + [t.get_text() for legend in legends for t in legend.get_texts()]
        said[stem] += [label for axes in figure.axes for label in (axes.get_xlabel(), axes.get_ylabel())]
        return [out / stem]

    for module in ("bleu_figure", "front"):
        monkeypatch.setattr(f"mutransfer.reporting.{module}.save", keep)
    SEARCHES.redraw(searches(data_is_real=False))
    assert list(said) == ["bleu", "pareto"]
    for words in said.values():
        assert "STAND-IN DATA, not IWSLT14" in words
        assert any(
            "one pool" in text.replace("\n", " ") and "Data: CIFAR-10" in text.replace("\n", " ") for text in words
        )
    assert said["bleu"].count("better") == 6 and "diverged, or no winner" in said["bleu"]
    assert "equal compute: µTransfer dominates" in said["pareto"]
    assert "compute of a search (trainings of the target, log scale)" in said["pareto"]
    assert "samples a search looks at (log scale)" in said["pareto"] and "median validation BLEU" in said["pareto"]


@pytest.mark.parametrize("role", ["mutransfer", "direct", "default"])
def test_odd_searches_are_drawn(searches, role):
    """All targets of a method diverged; that is a result."""
    table = runs()
    lost = table["role"] == role
    table.loc[lost, ["status", "test_loss", "bleu_valid", "bleu_test"]] = ["diverged", math.nan, math.nan, math.nan]
    if role == "direct":
        table.loc[table["role"] == "direct_pool", ["status", "test_loss"]] = ["diverged", math.nan]
    text, paths = SEARCHES.redraw(searches(table))
    assert all(path.stat().st_size for path in paths)
    words = {"mutransfer": "against fairseq default (SP): worse", "direct": "tuning on 1x (SP): better"}
    assert (words.get(role, "fairseq default (SP): better") in text and "[+inf, +inf]" in text) or role == "mutransfer"
    if role == "direct":
        assert "Nothing: all samples diverged." in paths[-1].read_text()


def test_one_bad_search_does_not_flatten_the_axis():
    """The best 35, the worst median 34: the axis reaches down to 33."""
    low, high = limits(
        {"a": np.array([35.0, 2.0, -math.inf]), "b": np.array([34.0])}, {"a": Estimate(35.0), "b": Estimate(34.0)}
    )
    assert (low, high) == pytest.approx((33 - 0.12, 35 + 0.12))
    assert limits({"a": np.array([-math.inf])}, {}) == (0, 1)


def test_cells():
    assert cell(Estimate(-math.inf, -math.inf, -math.inf)) == "diverged"
    assert cell(Estimate(29.82, -math.inf, 30.05)) == "29.82 [diverged, 30.05]"


def test_gaps_are_named(searches):
    with pytest.raises(UserError, match="no run with role 'direct_pool'"):
        SEARCHES.redraw(searches(runs().query("role != 'direct_pool'")))
    with pytest.raises(UserError, match="lacks attn_mult"):
        SEARCHES.redraw(searches(runs().drop(columns="attn_mult")))
    with pytest.raises(UserError, match="of the target lack a BLEU"):
        SEARCHES.redraw(searches(runs().assign(bleu_test=math.nan)))
    with pytest.raises(UserError, match=r"expected numbers from 0 to 100"):
        SEARCHES.redraw(searches(facts={"percentiles": [25, 101]}))
    with pytest.raises(UserError, match=r"unknown published table or figure 'Table 44'. Did you mean 'Table 4'"):
        SEARCHES.redraw(searches(facts={"table": "Table 44", **NO_FRONT}))
    with pytest.raises(UserError, match="needs sizes of direct and mutransfer"):
        SEARCHES.redraw(searches(facts={"sizes": []}))
    where = searches()
    known = json.loads((where / "provenance.json").read_text())
    del known["searches"]["percentiles"]
    (where / "provenance.json").write_text(json.dumps(known))
    with pytest.raises(UserError, match=r"lacks searches.percentiles"):
        SEARCHES.redraw(where)
    (where / "runs.csv").unlink()
    with pytest.raises(UserError, match=r"does not exist|lacks searches"):
        SEARCHES.redraw(where)
