"""The tasks on made-up files: which rows become what, what is refused, what is said, and how fast it gives up."""

import pytest
from corpus_files import documented, put

from data_scripts import glue, places
from mutransfer.data.sentences import Examples
from mutransfer.errors import UserError

RTE = "id\tlabel\tpremise\thypothesis\n1\tentailment\tA {0}.\tB {0}.\n2\tnot_entailment\tC {0}.\tD {0}.\n"
TASKS = {
    "SST-2/train.tsv": 'sentence\tlabel\nit "s  good \t1\nbad\t0\n',
    "SST-2/dev.tsv": "sentence\tlabel\nfine \t1\n",
    "CoLA/in_domain_train.tsv": "gj04\t1\t\tThe cat sat.\ngj04\t0\t*\tCat the sat.\n",
    "CoLA/in_domain_dev.tsv": "gj04\t1\t\tIn it is.\n",
    "CoLA/out_of_domain_dev.tsv": "x\t0\t*\tOut is it.",
    "MRPC/msr_paraphrase_train.txt": 'Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t7\t8\tOne "a.\tTwo b.\r\n',
    "MRPC/msr_paraphrase_test.txt": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t7\t8\tThree.\tFour.\n",
    **{f"RTE/{name}.tsv": RTE.format(name) for name in ("rte1_dev", "rte1_test", "rte2_dev", "rte2_test", "rte3_dev")},
    "RTE/rte3_test.tsv": RTE.format("test"),
    "PAN-paraphrase/train.tsv": "label\tsentence1\tsentence2\n1\tA a.\tB b.\n",
    "PAN-paraphrase/test.tsv": "label\tsentence1\tsentence2\n0\tC c.\tD d.\n",
}
ROWS = {
    "mnli": {"premise": ["P\tone", "P two", "P three"], "hypothesis": ["H 1", "H 2", "H\n3"], "label": [2, 0, 1]},
    "qqp": {"question1": ["Who?", ""], "question2": ["Whom?", "What?"], "label": [1, 0]},
    "sst2": {"sentence": ["good", "bad"], "label": [1, 0]},
}


@pytest.fixture
def place(folder, monkeypatch):
    """A data folder with the made-up tasks, which are the documented ones."""
    monkeypatch.setattr(places, "HEAD_BYTES", 8)
    monkeypatch.setattr(glue, "DOCUMENTED", {path: documented(content, head=8) for path, content in TASKS.items()})
    put(folder / "glue_like", TASKS)
    return folder


@pytest.fixture
def asked(hub):
    """The hub has three tasks; the list of what it was asked for."""
    import datasets

    hub.rows[glue.HUB] = lambda config, _: datasets.Dataset.from_dict(ROWS[config])
    return hub.asked


def test_files_become_examples(place, capsys):
    """Each task's own columns and labels, quotes as signs; a stand-in or another text is never shown as GLUE's own."""
    found = glue.load(place, download=False)
    assert [*found] == ["pan", "mrpc", "rte", "sst2", "cola"]
    assert found["sst2"].train == Examples(['it "s good', "bad"], None, [1, 0])
    assert found["sst2"].test == Examples(["fine"], None, [1])
    assert found["cola"].train == Examples(["The cat sat.", "Cat the sat."], None, [1, 0])
    assert found["cola"].test == Examples(["In it is.", "Out is it."], None, [1, 0])
    assert found["mrpc"].train == Examples(['One "a.'], ["Two b."], [1])
    assert (found["mrpc"].test, found["pan"].train.second) == (Examples(["Three."], ["Four."], [0]), ["B b."])
    names = ["rte1_dev", "rte1_test", "rte2_dev", "rte2_test", "rte3_dev"]
    assert found["rte"].train.first == [f"{x} {name}." for name in names for x in "AC"]
    assert found["rte"].train.labels == [0, 1] * 5 and found["rte"].test.second == ["B test.", "D test."]
    assert {name: task.metric for name, task in found.items() if task.metric != "accuracy"} == {"cola": "matthews"}
    assert all(task.is_real and task.classes == 2 for task in found.values())
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no data for mnli, qqp (pan stands in for it)" in said and "turned off" in said
    assert found["pan"].source == "PAN paraphrase (stands in for QQP)"
    assert "not the same" in found["rte"].source and "its test set" in found["mrpc"].source
    assert (found["sst2"].source, found["cola"].source) == ("SST-2", "CoLA")
    (place / "glue_like" / "SST-2" / "dev.tsv").write_text("label\tsentence\n0\tanother one, and longer\n")
    other = glue.load(place, tasks=["sst2"])["sst2"]
    assert other.source == "other text in the place of SST-2" and other.test.first == ["another one, and longer"]
    assert "not the documented" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "content", "says"),
    [
        ("SST-2/train.tsv", TASKS["SST-2/train.tsv"][:-3], "cut short"),
        ("SST-2/dev.tsv", "label\tsentence\n", "has no row below its first line"),
        ("RTE/rte2_dev.tsv", None, r"rte2_dev\.tsv"),
        ("CoLA/in_domain_dev.tsv", "gj04\t1\tno mark, and so too few\n" + "x" * 20, "line 2: 1 columns, expected 3"),
        ("CoLA/in_domain_dev.tsv", "gj04\t2\t\tA label that is none.\n", "unknown label in .*CoLA '2'"),
        ("RTE/rte3_test.tsv", "id\tlabel\tpremise\n1\tentailment\tx\n" * 9, "no column 'hypothesis'.*found: id, label"),
        ("MRPC/msr_paraphrase_test.txt", TASKS["MRPC/msr_paraphrase_test.txt"] + "1\t7\n", "line 3: 2 columns"),
    ],
)
def test_broken_files_are_refused(place, path, content, says):
    """By name: a task with half of its examples, or shifted ones, gives a score that looks like one."""
    file = place / "glue_like" / path
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(UserError, match=says) as error:
        glue.load(place, download=False)
    assert "\n" not in str(error.value)


def test_missing_tasks_are_downloaded_and_kept(place, asked):
    """Local files first; then the hub, once; tabs and line ends in a text must not shift the columns that are kept."""
    found = glue.load(place)
    assert [*found] == ["mnli", "qqp", "mrpc", "rte", "sst2", "cola"]
    assert found["mnli"].classes == 3 and found["mnli"].source == "MNLI (matched)"
    assert found["mnli"].train == Examples(["P one", "P two", "P three"], ["H 1", "H 2", "H 3"], [2, 0, 1])
    assert found["qqp"].test == Examples(["Who?", ""], ["Whom?", "What?"], [1, 0])
    splits = [("mnli", "validation_matched"), ("mnli", "train"), ("qqp", "validation"), ("qqp", "train")]
    assert [*dict.fromkeys(asked)] == [("nyu-mll/glue", *split, False) for split in splits]
    kept = sorted(path.name for path in (place / "glue").iterdir())
    assert kept == ["mnli_test.tsv", "mnli_train.tsv", "qqp_test.tsv", "qqp_train.tsv"]
    asked.clear()
    assert glue.load(place) == found and asked == []
    more = glue.load(place, tasks=["mnli_mm", "sst2"])
    assert [*more] == ["mnli_mm", "sst2"] and {split for _, _, split, _ in asked} == {"validation_mismatched"}
    assert more["mnli_mm"].train == found["mnli"].train


def test_a_task_from_the_hub_alone(folder, asked, capsys):
    """A machine with a network and no files has GLUE's own; that PAN has no download says nothing of it."""
    found = glue.load(folder, tasks=["pan", "sst2"])
    assert [*found] == ["sst2"] and found["sst2"].source == "SST-2"
    assert found["sst2"].train == Examples(["good", "bad"], None, [1, 0])
    assert "no data for pan:" in capsys.readouterr().err
    assert glue.load(folder, tasks=[]) == {} and capsys.readouterr().err == ""


def test_the_documented_files_are_those_that_are_read():
    """A digit lost in the table would make each real file another text."""
    lines = [line.split() for line in glue._TABLE.strip().split("\n")]
    assert {path for path, *_ in lines} == {path for task in glue.FILES.values() for path in task.train + task.test}
    assert all((len(head), len(sha256)) == (16, 64) for _, head, _, sha256 in lines)


def test_who_does_not_answer_is_asked_once(place, capsys):
    """Not for each task; the others are still found, in one line."""
    found = glue.load(place, tasks=["qqp", "mnli", "stories", "pan"])
    said = capsys.readouterr().err
    assert [*found] == ["stories", "pan"]
    assert said.count("\n") == 1 and "no data for qqp, mnli:" in said and "refused" in said
    assert not found["stories"].is_real and "STAND-IN" in found["stories"].source
