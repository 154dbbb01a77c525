"""Table 6 is redrawn from committed numbers: the same bytes, the paper beside ours, named gaps."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from transfer_runs import LOST, facts, transfer_runs

from mutransfer.errors import UserError
from mutransfer.reporting.transfer_table import TRANSFER
from mutransfer.results import published

PAPER = {"table_or_figure": "Table 6", "statement": "µTransfer wins.", "differs": "width 64; SST-2 for MNLI."}
POOL = (6.1, 6.0, 6.2, LOST, 6.4, 6.5)
NAMES = ("base", "large", "wide", "deep")
VALUES = {"sst2": (80, 81, 82), "sst2_scratch": (70, 71, 72.5), "qqp": (60, 60.5, 61), "qqp_scratch": (60, 61, 60.5)}


def targets():
    """µTransfer is below the default, naive transfer diverges; large, one init of three."""
    base = {
        "default": (5.0, 5.1, 5.2),
        "default_long": (4.4, 4.6, 4.8),
        "naive": (LOST, LOST, LOST),
        "mutransfer": (4.5, 4.62, 4.7),
    }
    large = {**{role: tuple(x - 0.5 for x in losses) for role, losses in base.items()}, "naive": (LOST, 9.0, 4.9)}
    wide = {role: base[role] for role in ("default", "naive", "mutransfer")}
    return {
        "base": base,
        "large": large,
        "wide": wide,
        "deep": {role: base[role] for role in ("default", "mutransfer")},
    }


def runs(**changes):
    return transfer_runs(POOL, {**targets(), **changes}, VALUES, winner=1)


def two():
    """Of two targets only, which are drawn in half the time, and what is known of them."""
    table = runs().query("target in ('proxy', 'base', 'deep')")
    return table.reset_index(drop=True), facts(6, 3, ("base", "deep"), ("sst2", "qqp"))


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Fewer pixels: the same in less time."""
    monkeypatch.setattr("mutransfer.results.draw.style.DPI", 50)


@pytest.fixture
def text_only(monkeypatch):
    monkeypatch.setattr("mutransfer.reporting.transfer_table.transfer_figure", lambda *args, **kwargs: [])


@pytest.fixture
def written(folder):
    """Write a folder of a transfer; ``of`` changes provenance["transfer"]."""

    def write(table=None, of=(), **more):
        known = {**facts(6, 3, NAMES, ("sst2", "qqp")), **dict(of)}
        provenance = {"paper": PAPER, "transfer": known, "stands_in_for": "Wikipedia", "title": "BERT", **more}
        return folder(runs() if table is None else table, **provenance)

    return write


def rows(table, heading, *start):
    """The cells of the first row with this beginning, of the table under ``heading``."""
    part = table.split(f"## {heading}")[1]
    line = next(line for line in part.split("\n") if line.startswith(f"| {' | '.join(start)} |"))
    return [one.strip() for one in line.strip("|").split("|")][len(start) :]


def test_redrawing_gives_the_same_bytes_in_any_order_of_rows(written):
    table, known = two()
    text, paths = TRANSFER.redraw(written(table, of=known))
    assert [p.name for p in paths] == ["losses.png", "losses.svg", "table.md"]
    first = [path.read_bytes() for path in paths]
    again, paths = TRANSFER.redraw(written(table.sample(frac=1, random_state=1), of=known))
    assert again == text and [path.read_bytes() for path in paths] == first


def test_ours_stands_beside_the_paper(written, text_only):
    """Speedups by hand, losses over inits; the paper's from values.csv, a dash where it has none."""
    text, (path,) = TRANSFER.redraw(written())
    table, base = path.read_text(), "base (width 64, depth 4)"
    name = "Pretraining beside Table 6 of the paper"
    found = rows(table, name, base, "µTransfer")
    assert found[:6] == ["10x", "4x", "40x", "40x", "200", "1.15"]
    assert found[6].startswith("4.6067 [4.35") and found[7:] == ["1.97", "0 of 3"]
    assert rows(table, name, base, "SP default")[:4] == ["1x"] * 4
    assert rows(table, name, base, "longer SP default")[:6] == ["-", "-", "-", "-", "230", "1.15"]
    assert rows(table, name, base, "naive transfer")[-3:] == ["diverged", "diverged", "3 of 3"]
    large = rows(table, name, "large (width 128, depth 8)", "µTransfer")
    assert large[:4] == ["50x", "22x", "200x", "220x"] and large[-2] == "1.683"
    fine = rows(table, "Fine-tuned, beside Table 6", base, "µTransfer")
    # SST-2, QQP and the paper's QQP, then what only the paper has
    assert fine == ["81.00 [78.52, 83.48]", "60.50 [59.26, 61.74]", "90.8", "84.3", "84.8"]
    assert rows(table, "Fine-tuned, beside Table 6", base, "naive transfer")[:2] == ["-", "-"]
    assert "the paper's MNLI-m acc" in table and "The last columns: what the paper fine-tuned on" in table
    for line in text.split("\n"):
        assert f"- {line}\n" in table
    assert "1. width 64.\n2. SST-2 for MNLI." in table and "µTransfer wins." in table
    assert "| the proxy's hp samples | 256 | 6 |" in table and "the proxy's d model | 256 | 32 |" in table
    assert "Sample 1, the first of the best 5:" in table and "LR 9.54e-07" in table


def test_what_is_said(written, text_only):
    text, (path,) = TRANSFER.redraw(written())
    table, base = path.read_text(), "base (width 64, depth 4)"
    assert f"{base}, wider and deeper: µTransfer against SP default: better; validation loss lower in 3 of 3" in text
    assert "against naive transfer: better (naive transfer diverged in 3 of 3 inits)" in text
    assert "against naive transfer: undecided (naive transfer diverged in 1 of 3 inits)" in text
    assert f"{base}: the search cost 0.15 trainings of it (0.131 with diverged runs stopped)" in text
    assert "matter, after µTransfer: SST-2, accuracy (%) yes, +9.83 [" in text and "(%) undecided, 0.00 [" in text
    cells = rows(table, "Does pretraining matter?", base, "SP default", "SST-2, accuracy (%)")
    assert cells[-1] == "**yes**" and cells[1].startswith("71.17 [")
    assert rows(table, "The paper beside ours", "conclusion")[1].startswith("µTransfer: base: better against naive")


def test_width_and_depth_stand_apart(written, text_only):
    """Not among the targets that decide; the paper's word on depth beside them. Without such, no section."""
    table = TRANSFER.redraw(written())[1][-1].read_text()
    apart = "Transfer over width and depth apart"
    assert rows(table, apart, "wide (width 64, depth 2)", "only wider", "SP default")[2] == "better"
    assert rows(table, apart, "deep (width 32, depth 4)", "only deeper", "µTransfer")[2] == ""
    assert "naive" not in table.split(f"## {apart}")[1].split("\n| deep")[1].split("\n\n")[0]
    assert "works for pre-LN Transformers" in table and "fragile for post-LN" in table
    main = table.split("## Pretraining beside")[1].split("## Fine-tuned")[0]
    assert "wide" not in main and "deep (" not in main
    only = {name: targets()[name] for name in ("base",)}
    alone = transfer_runs(POOL, only, winner=1)
    table = TRANSFER.redraw(written(alone, of=facts(6, 3, ("base",))))[1][-1].read_text()
    assert apart not in table and "Does pretraining matter?" not in table and "Fine-tuned" not in table


def test_the_published_numbers_come_from_values_csv(written, text_only, monkeypatch):
    """Another number there is another number here."""
    every = published._all()
    wanted = ("BERT-base", "muTransfer", "test loss")
    other = [
        replace(v, value="7.77", confidence="MEMORY") if (v.experiment, v.setup, v.metric) == wanted else v
        for v in every
    ]
    monkeypatch.setattr(published, "_all", lambda: tuple(other))
    table = TRANSFER.redraw(written())[1][-1].read_text()
    assert "| 7.77 (memory) |" in table and "1.97 " not in table.split("## Fine-tuned")[0]


def test_each_changed_number_changes_table_and_picture(written, monkeypatch):
    """If it did not, they would not come from the numbers."""
    seen = {}

    def keep(figure, out, stem):
        figure.canvas.draw()
        seen[stem] = bytes(figure.canvas.buffer_rgba())
        seen["words"] = [text.get_text() for text in figure.texts]
        return []

    monkeypatch.setattr("mutransfer.reporting.transfer_figure.save", keep)

    start, known = two()

    def drawn(table, **more):
        (path,) = TRANSFER.redraw(written(table, of=known, **more))[1]
        return {**seen, "table": path.read_bytes()}

    before = drawn(start)
    loss, score = start.copy(), start.copy()
    loss.loc[(loss["role"] == "default_long") & (loss["seed"] == 1), "test_loss"] += 0.1
    score.loc[score["role"] == "default", "qqp"] += 1
    for table, names in ((loss, {"losses", "table"}), (score, {"table"})):
        after = drawn(table)
        assert {name for name in ("losses", "table") if after[name] != before[name]} == names
    words = before["words"]
    assert "base (width 64, depth 4): wider and deeper" in words and "deep (width 32, depth 4): only deeper" in words
    assert words.count("better") == 3 and words.count("undecided") == 1
    caption = words[-1].replace("\n", " ")
    assert "One search of 6 samples" in caption and "After Table 6 of the paper. BERT, scale 'cpu'. Data:" in caption
    assert "STAND-IN DATA, not Wikipedia" in drawn(start, data_is_real=False)["words"]


def test_gaps_are_named(written, text_only):
    with pytest.raises(UserError, match="'mutransfer' of target 'large' has the inits none, not 0 to 2"):
        TRANSFER.redraw(written(runs().query("role != 'mutransfer' or target != 'large'")))
    with pytest.raises(UserError, match="lacks qqp"):
        TRANSFER.redraw(written(runs().drop(columns="qqp")))
    with pytest.raises(UserError, match=r"unknown experiment of Table 6 'BERT-bse'. Did you mean 'BERT-base'"):
        known = facts(6, 3, NAMES, ("sst2", "qqp"))
        known["targets"]["base"]["published"] = "BERT-bse"
        TRANSFER.redraw(written(of=known))
    where = written()
    known = json.loads((where / "provenance.json").read_text())
    del known["transfer"]["table"]
    (where / "provenance.json").write_text(json.dumps(known))
    with pytest.raises(UserError, match=r"lacks transfer.table"):
        TRANSFER.redraw(where)
    where = written()
    (where / "runs.csv").unlink()
    with pytest.raises(UserError, match=r"runs.csv does not exist"):
        TRANSFER.redraw(where)
