"""A figure folder of any kind: the same bytes from committed numbers alone, or one line that names what is wrong."""

from __future__ import annotations

import hashlib
import json

import pandas as pd
import pytest
from page_tree import FIGURES, change, copied

from mutransfer.errors import UserError
from mutransfer.results import published
from mutransfer.results.folder import Claim, Part
from mutransfer.results.kinds import kind_of
from mutransfer.results.sweep import SWEEP

OF_CURVES = ["cifar_mlp/relu_mse", "iwslt14/figure_12", "cifar_resnet/figure_length/bfloat16"]
OF_CURVES += ["transformer_lm/figure_21", "bert/figure_pretraining"]


@pytest.mark.parametrize("name", OF_CURVES, ids=[kind_of(FIGURES / name).name for name in OF_CURVES])
def test_a_stand_in_is_said_everywhere_and_the_order_of_rows_does_not_matter(tmp_path, words, name):
    """A resumed sweep writes its runs in another order; nobody may mistake a stand-in for the real data set."""
    where = copied((name,), tmp_path) / name
    runs = pd.read_csv(where / "runs.csv", dtype=str, keep_default_na=False)
    runs.sample(frac=1, random_state=1).to_csv(where / "runs.csv", index=False)
    change(where, data_is_real=False, stands_in_for="what was meant")
    banner, (text, paths) = "STAND-IN DATA, not what was meant", kind_of(where).redraw(where)
    committed = [p.name for p in (FIGURES / name).iterdir() if p.suffix in (".png", ".svg", ".md")]
    assert text and sorted(path.name for path in paths) == sorted(committed)
    for path in paths:
        real = FIGURES / name / path.name
        if path.suffix == ".svg":
            assert sorted(words(path)) == sorted([*words(real), banner])
        elif path.suffix == ".md":
            assert path.read_text() == real.read_text().replace("\n\nData: ", f"\n\n**{banner}**\n\nData: ", 1)
        else:
            assert path.read_bytes() != real.read_bytes()


def test_a_table_that_was_changed_after_the_run_is_refused(runs, folder):
    """provenance.json knows the files that the run wrote by their sha256; an older one does not, and is read."""
    where = folder(runs)
    written = hashlib.sha256((where / "runs.csv").read_bytes()).hexdigest()
    change(where, sha256={"runs.csv": written, "curves.csv": "of a file that is not there"})
    SWEEP.describe(where)
    runs.assign(train_loss=runs.train_loss - 1).to_csv(where / "runs.csv", index=False)
    with pytest.raises(UserError, match=r"runs.csv was changed after the run: .* sha256 .*; restore it") as told:
        SWEEP.describe(where)
    assert "\n" not in str(told.value)


def test_missing_and_broken_files_are_one_line_errors(runs, folder, tmp_path):
    """The person who types `figures` on a fresh clone must learn what to run, not read a traceback."""
    with pytest.raises(UserError, match=r"provenance.json does not exist; run the experiment first"):
        SWEEP.redraw(tmp_path / "nowhere")
    where = folder(runs)
    good = {name: (where / name).read_bytes() for name in ("runs.csv", "provenance.json")}
    facts = json.loads(good["provenance.json"])
    for name, content, message in (
        ("runs.csv", None, "runs.csv does not exist"),
        ("runs.csv", b"", "runs.csv is not a table"),
        ("runs.csv", b"\xff\xfe\x00broken", "cannot read .*runs.csv"),
        ("runs.csv", runs.drop(columns=["seed"]).to_csv(index=False).encode(), "lacks seed"),
        ("provenance.json", json.dumps(facts | {"title": None}).encode(), "lacks title"),
        ("provenance.json", json.dumps(facts | {"paper": {"differs": ""}}).encode(), "lacks paper.table_or_figure"),
        ("provenance.json", b"{", "provenance.json is not JSON"),
        ("provenance.json", b"[]", "provenance.json is not JSON"),
    ):
        (where / name).unlink() if content is None else (where / name).write_bytes(content)
        with pytest.raises(UserError, match=message):
            SWEEP.redraw(where)
        (where / name).write_bytes(good[name])


CLAIMS = {
    "yes yes": "reproduced",
    "yes undecided": "in part",
    "yes no undecided": "mixed",
    "no undecided": "not reproduced",
    "undecided none": "undecided",
    "none": "not judged",
    "": "not judged",
}


@pytest.mark.parametrize("parts", CLAIMS)
def test_a_claim_is_no_better_than_its_parts(parts):
    """What is undecided, contradicted or not judged never counts as seen."""
    said = {"yes": ("a", "a"), "no": ("b", "a"), "undecided": ("undecided", "a"), "none": ("a", None)}
    made = tuple(Part.of(word, "", *said[word]) for word in parts.split())
    assert Claim("Figure 1", "", made).verdict == CLAIMS[parts]


def test_published_values_are_found_by_table_or_figure():
    """These rows stand beside ours; a typo must not put an empty column there, nor another experiment's numbers."""
    values = {row.metric: row.value for row in published.rows(table_or_figure="Figure 3")}
    assert values["widths"] == "256,512,1024,2048,4096,8192"
    rows = published.rows(table_or_figure="Figure 6", experiment="IWSLT14 De-En")
    assert rows and {row.experiment for row in rows} == {"IWSLT14 De-En"}
    with pytest.raises(UserError, match="Did you mean 'IWSLT14 De-En'"):
        published.rows(table_or_figure="Figure 6", experiment="IWSLT De-En")
    with pytest.raises(UserError, match=r"'Figur 3'.*Did you mean 'Figure 3'"):
        published.rows(table_or_figure="Figur 3")
