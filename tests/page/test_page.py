"""The page says what the committed numbers say: it changes with them, and never says more than the reports do."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from page_tree import EXPERIMENTS, FIGURES, ONE_OF_EVERY_KIND, change, copied, page_of_every_kind

from mutransfer.errors import UserError
from mutransfer.page import markdown, read_folders, write_page
from mutransfer.results import published
from mutransfer.results.kinds import KINDS, kind_of


@pytest.fixture
def mlp(tmp_path) -> Path:
    """A tree with the sweep of cifar_mlp alone."""
    return copied(("cifar_mlp",), tmp_path)


def written(figures: Path) -> str:
    return write_page(figures, figures.parent / "report", experiments=EXPERIMENTS)[1].read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Levels of the headings, ids, and what refers to something outside of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(text)
        self.levels = [int(tag[1]) for tag, _ in self.tags if re.fullmatch("h[1-6]", tag)]
        self.ids, self.sources, self.links, self.alts = (
            [given[name] for _, given in self.tags if name in given] for name in ("id", "src", "href", "alt")
        )

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {name: value or "" for name, value in attrs}))


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory) -> str:
    return page_of_every_kind(tmp_path_factory.mktemp("page")).read_text(encoding="utf-8")


def test_one_changed_loss_changes_the_page(mlp):
    """Else the page would not come from the numbers."""
    before = written(mlp)
    assert written(mlp) == before and [path.name for path in (mlp.parent / "report").iterdir()] == ["index.html"]
    runs = pd.read_csv(mlp / "cifar_mlp/runs.csv")
    cell = (runs.parametrization == "mup") & (runs.width == 1024) & (runs.log2_lr == -5)
    assert "1.5551 ± 0.0017 (n = 2)" in before
    runs.loc[cell, "train_loss"] += 0.1
    runs.to_csv(mlp / "cifar_mlp/runs.csv", index=False)
    after = written(mlp)
    assert "1.6551 ± 0.0017 (n = 2)" in after and "1.5551" not in after


def test_every_published_number_of_the_figure_stands_on_the_page(mlp):
    """The paper's numbers come from values.csv, each beside ours."""
    cells = re.findall(r"<td>(SP and µP: [^<]*)</td>\s*<td>([^<]*)</td>", written(mlp))
    rows = published.rows(table_or_figure="Figure 3")
    assert len(cells) == len(rows) > 5
    for (name, value), row in zip(cells, rows, strict=True):
        assert name.endswith(row.metric.replace("_", " ")) and value.replace("−", "-").split(" ")[0] == row.value


def test_every_kind_shows_the_pictures_of_its_folder(every_kind):
    """And every kind has a committed folder; its tables are made from the CSV files, for no table.md is there."""
    for name in ONE_OF_EVERY_KIND:
        article = every_kind.split(f'<article id="figure-{name.replace("/", "-")}"')[1].split("</article>")[0]
        assert article.count("<img ") == len(list((FIGURES / name).glob("*.png"))) and "<table" in article
    assert {kind_of(FIGURES / name).name for name in ONE_OF_EVERY_KIND} == set(KINDS)


def test_a_stand_in_is_said_at_every_place(every_kind):
    """In the overview, in its row, over its figure, in its caption and in its facts; and of no other folder."""
    assert every_kind.count("STAND-IN DATA, not CIFAR-10") >= 5
    article = every_kind.split('<article id="figure-cifar_resnet-figure_16"')[1].split("</article>")[0]
    assert '<p class="banner">STAND-IN DATA, not CIFAR-10</p>' in article and "real data" not in article
    other = every_kind.split('<article id="figure-cifar_mlp"')[1].split("</article>")[0]
    assert "STAND-IN" not in other and "real data" in other
    assert "classic books (40 English novels and essays), bytes (the paper: WikiText-2)" in every_kind  # nor is it that


def test_nothing_outside_of_the_file_is_asked_for(every_kind):
    outline = Outline(every_kind)
    targets = [*outline.sources, *outline.links]
    assert targets and all(target.startswith(("#", "data:")) for target in targets)
    anchors = [target[1:] for target in targets if target.startswith("#")]
    assert set(anchors) <= set(outline.ids) and len(set(outline.ids)) == len(outline.ids)


def test_headings_have_an_order_and_pictures_say_what_they_show(every_kind):
    """A screen reader jumps by headings: one h1, and no level is skipped on the way down."""
    outline = Outline(every_kind)
    assert outline.levels.count(1) == 1 and outline.levels[0] == 1
    assert all(after <= before + 1 for before, after in zip(outline.levels, outline.levels[1:], strict=False))
    assert len(outline.sources) == len(set(outline.alts)) > 5
    assert all(len(alt) > 80 and "Verdict: " in alt for alt in outline.alts)


def test_text_of_a_folder_is_no_markup(mlp):
    """A title or a data source comes from a file, and may hold anything."""
    change(mlp / "cifar_mlp", title="<script>alert(1)</script>", data_source="a & b </script>")
    text = written(mlp)
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "a &amp; b &lt;/script&gt;" in text
    change(mlp / "cifar_mlp", y_label="</script><b>loss")
    assert "</script><b>" not in written(mlp)


def test_mistakes_are_named(mlp, tmp_path):
    with pytest.raises(UserError, match="nowhere holds no figure"):
        read_folders(tmp_path / "nowhere", EXPERIMENTS)
    with pytest.raises(UserError, match="unknown experiment of a figure folder 'cifar_mlp'"):
        read_folders(mlp, ["cifar_mlps"])
    (mlp / "cifar_mlp/lr_vs_loss.png").rename(tmp_path / "kept.png")
    with pytest.raises(UserError, match=r"lr_vs_loss.png does not exist; draw it with"):
        read_folders(mlp, EXPERIMENTS)
    (mlp / "cifar_mlp/lr_vs_loss.png").write_text("no picture")
    with pytest.raises(UserError, match=r"lr_vs_loss.png is no picture"):
        written(mlp)
    change(mlp / "cifar_mlp", kind="landscapes")
    with pytest.raises(UserError, match=r"unknown kind of figure in .*provenance.json 'landscapes'. Did you mean 'lan"):
        read_folders(mlp, EXPERIMENTS)
    change(mlp / "cifar_mlp", kind="sweep")
    (mlp / "cifar_mlp/runs.csv").unlink()
    with pytest.raises(UserError, match=r"runs.csv does not exist"):
        read_folders(mlp, EXPERIMENTS)


@pytest.mark.parametrize(
    ("change_runs", "verdict", "ours"),
    [
        (lambda runs: runs, "reproduced", ["reproduced", "reproduced"]),
        (
            lambda runs: runs.assign(parametrization=runs.parametrization.map({"sp": "mup", "mup": "sp"})),
            "not reproduced",
            ["not reproduced", "not reproduced"],
        ),
        (lambda runs: runs[runs.seed == 0], "undecided", ["undecided", "undecided"]),
    ],
)
def test_the_verdict_of_a_sweep_is_its_reports(mlp, change_runs, verdict, ours):
    """With SP and µP exchanged the claim is contradicted; one seed decides nothing."""
    path = mlp / "cifar_mlp/runs.csv"
    change_runs(pd.read_csv(path)).to_csv(path, index=False)
    (claim,) = read_folders(mlp, EXPERIMENTS)[0].claims
    assert (claim.verdict, [part.verdict for part in claim.parts]) == (verdict, ours)


def test_the_papers_own_exceptions_are_kept(tmp_path):
    """Figure 10: alpha_attn must not transfer where d_k is small; Figure 4 claims nothing of the init over depth."""
    figures = copied(("iwslt14/figure_10", "transformer_lm/figure_4"), tmp_path)
    ten, four = (folder.claims[0] for folder in read_folders(figures, EXPERIMENTS))
    wanted = {"transfers": "not reproduced", "does not transfer": "reproduced", "undecided": "undecided"}
    small = next(part for part in ten.parts if "d_k = width / 4" in part.what)
    assert small.verdict == wanted[small.ours.split(" (")[0]]
    assert [part.what for part in four.parts if part.verdict == "not judged"] == ["µP: init std across depth"]


def test_markdown_keeps_its_meaning():
    text = "# T\n\nin 2^-4.75 [-4.96, 3]\n\n## A\n\n|  | b |\n| --- | --- |\n| x | **$2^{-7}$** <i> |\n"
    text += "\n### C\n\nwordpiece-1000\n"
    intro, sections = markdown.sections(text)
    assert intro == "<p>in 2<sup>−4.75</sup> [−4.96, 3]</p>\n"
    ((heading, html),) = sections.items()
    assert heading == "A"
    assert '<th scope="col">b</th>' in html and "<th></th>" not in html
    assert "<strong>2<sup>−7</sup></strong> &lt;i&gt;" in html
    assert 'aria-label="Table: A" tabindex="0"' in html
    assert "<h5>C</h5>" in html and "wordpiece-1000" in html
