"""The command line, as a newcomer meets it: a whole experiment in seconds, and one line for every mistake."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from experiments.cifar_mlp.experiment import EXPERIMENT
from mutransfer import cli
from mutransfer.runs.store import Store
from mutransfer.training.spec import RunRecord
from tests.here import Here, command
from tests.small import small


def run(*args, of=None):
    """With workers of its own, as it is typed."""
    return cli.main([str(arg) for arg in args], load=lambda name: of or small(name))


@pytest.fixture
def finished(smoke):
    """The smoke run of the experiment, for all tests that only look at it."""
    return smoke("cifar_mlp")


def test_smoke_run_writes_figure_table_and_provenance(finished):
    """The output of the one command: all five files, the stand-in named as one in each that a reader sees."""
    folder = finished / "figures/cifar_mlp"
    drawn = {"lr_vs_loss.png", "lr_vs_loss.svg", "table.md", "runs.csv", "provenance.json"}
    assert {p.name for p in folder.iterdir()} == drawn
    table = (folder / "table.md").read_text()
    assert "STAND-IN DATA, not CIFAR-10" in table
    assert re.search(r"µP.*(stable|drifts|undecided)", table)
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["data_is_real"] is False and provenance["runs"]["is_real"] == ["false"]
    runs = pd.read_csv(folder / "runs.csv")
    assert len(runs) >= 24 and set(runs["status"]) <= {"finished", "diverged"}
    assert not (finished / "results/cifar_mlp.sqlite.data").exists()


def test_mup_equals_sp_at_the_base_width(finished):
    """At base width µP trains bit for bit as SP: the two sets of losses are the same numbers."""
    runs = pd.read_csv(finished / "figures/cifar_mlp/runs.csv").query("-6 <= log2_lr <= -2")
    runs = runs.set_index(["width", "log2_lr", "seed"]).sort_index()
    sp, mup = (
        runs.loc[runs["parametrization"] == p, ["train_loss", "test_loss", "test_accuracy", "status"]]
        for p in ("sp", "mup")
    )
    assert sp.loc[16].equals(mup.loc[16]) and not sp.loc[32].equals(mup.loc[32])


def test_figures_redraws_and_raises_on_a_gap(finished, tmp_path, capsys):
    """`figures` reads the committed CSV alone: same bytes; a row taken out is named, a changed loss shows."""
    folder = tmp_path / "figures/cifar_mlp"
    folder.mkdir(parents=True)
    for name in ("runs.csv", "provenance.json"):
        (folder / name).write_bytes((finished / "figures/cifar_mlp" / name).read_bytes())
    assert run("figures", "cifar_mlp", "--out", tmp_path) == 0
    for name in ("lr_vs_loss.png", "lr_vs_loss.svg", "table.md"):
        assert (folder / name).read_bytes() == (finished / "figures/cifar_mlp" / name).read_bytes()
    lines = (folder / "runs.csv").read_text().splitlines()
    (folder / "runs.csv").write_text("\n".join(lines[:3] + lines[4:]) + "\n")
    provenance = json.loads((folder / "provenance.json").read_text())
    for says in ("runs.csv was changed after the run", "lacks 1 runs, first parametrization sp, width 16"):
        capsys.readouterr()
        assert run("figures", "cifar_mlp", "--out", tmp_path) == 2
        assert says in capsys.readouterr().err
        provenance.pop("sha256", None)  # as of a folder from before there was one
        (folder / "provenance.json").write_text(json.dumps(provenance))


def test_plan_shows_cost_without_training(capsys, tmp_path):
    """plan prints runs, FLOPs, memory, minutes and GPU hours; it keeps what it measured, and nothing else."""
    plan = ["plan", "cifar_mlp", "--scale", "paper", "--widths", "256,8192", "--out", tmp_path, "--workers", 1]
    assert run(*plan) == 0
    text = capsys.readouterr().out
    assert "measuring this machine" in text and "tuning: 64 samples" in text
    assert re.search(r"H100: float32 [\d,.]+ h", text)
    row = next(line.split() for line in text.splitlines() if line.split()[:2] == ["sp", "8192"])
    memory, minutes = (float(cell.replace(",", "")) for cell in row[7:9])
    assert memory > 92_274_688 * 4 / 2**20 and minutes > 0  # the weights alone
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*")] == ["results/calibration.json"]
    assert run(*plan) == 0
    assert "measuring this machine" not in capsys.readouterr().out


def test_tune_copies_the_winner_and_figures_redraws_it(capsys, tmp_path):
    """Algorithm 1 by one command: sampled on width 16, its best hyperparameters on width 32, in the table."""
    tune = ["tune", "cifar_mlp", "--scale", "smoke", "--samples", 6, "--out", tmp_path]
    assert command(*tune) == 0
    text = capsys.readouterr().out
    assert "winner: sample" in text and "copied to width 32 in µP" in text and "tuning cost" in text
    folder = tmp_path / "figures/cifar_mlp/tune"
    runs = pd.read_csv(folder / "runs.csv")
    best = runs[runs["role"] == "proxy"].sort_values("train_loss").iloc[0]
    target = runs[runs["role"] == "target"].iloc[0]
    for name in ("log2_lr", "input_mult", "output_mult"):
        assert target[name] == best[name]
    assert (best["width"], target["width"]) == (16, 32)
    table = (folder / "table.md").read_bytes()
    assert run("figures", "cifar_mlp", "--out", tmp_path) == 0
    assert (folder / "table.md").read_bytes() == table and b"STAND-IN" in table
    capsys.readouterr()
    assert command(*tune) == 0  # nothing is run twice
    assert "6 of 6 runs are in the store already" in capsys.readouterr().out


def test_precision_is_part_of_the_run(finished, capsys, tmp_path):
    """bfloat16 gives other numbers: it must be another run in the store, and named in the table of runs."""
    out = shutil.copytree(finished, tmp_path / "out")
    assert command("cifar_mlp", "--scale", "smoke", "--precision", "bfloat16", "--out", out) == 0
    assert "in the store already" not in capsys.readouterr().out
    tables = {name: pd.read_csv(out / "figures/cifar_mlp" / name / "runs.csv") for name in ("", "bfloat16")}
    assert [set(runs["precision"]) for runs in tables.values()] == [{"float32"}, {"bfloat16"}]
    assert not {*tables[""]["run_id"]} & {*tables["bfloat16"]["run_id"]}
    assert len({runs.query("width == 32")["train_loss"].mean() for runs in tables.values()}) == 2


@pytest.mark.parametrize(
    ("name", "number", "folders"),
    [
        ("cifar_mlp", "3", {("", "relu_xent")}),
        ("cifar_mlp", "9", {("", "tanh_xent"), ("", "relu_mse"), ("", "tanh_mse")}),
        ("transformer_lm", "1", {("", "post_ln")}),
        ("transformer_lm", "4", {("figure_4", "pre_ln")}),
        ("transformer_lm", "5", {("", "")}),
        ("iwslt14", "20", {("", "post_ln")}),
        ("iwslt14", "table_4", {("table_4", "")}),
        ("gpt3_proxy", "14", {("", "")}),
        ("cifar_resnet", "table_12", {("", "")}),
    ],
)
def test_every_number_of_the_paper_is_a_figure(name, number, folders):
    """Those of the README's table, too, that the default draws: which folder, which variant."""
    assert {(output.part, output.variant) for output in cli.load_experiment(name).shown(number)} == folders


MISTAKES = [
    (["cifar_mpl"], "Did you mean 'cifar_mlp'?"),
    (["cifar_mlp", "--scale", "cup"], "Did you mean 'cpu'?"),
    (["cifar_mlp", "--variant", "relu_xnet"], "Did you mean 'relu_xent'?"),
    (["cifar_mlp", "--widths", "0"], "'0' is no positive whole number"),
    (["cifar_mlp", "--widths", "64,abc"], "'abc' is no positive whole number"),
    (["cifar_mlp", "--widths", "64"], "at least two widths"),
    (["cifar_mlp", "--workers", "many"], "'many' is no positive whole number"),
    (["cifar_mlp", "--precision", "float23"], "Did you mean 'float32'?"),
    (["cifar_mlp", "--engine", "rya"], "Did you mean 'ray'?"),
    (["cifar_mlp", "--address", "head:6379"], "--address head:6379 needs --engine ray"),
    (["cifar_mlp", "--engine", "ray", "--workers", "3"], "--workers is for the engine local"),
    (["cifar_mlp", "--engine", "ray", "--address", "127.0.0.1:1"], "no Ray cluster at '127.0.0.1:1'"),
    (["tune", "cifar_mlp", "--seeds", "3"], "unrecognized arguments: --seeds"),
    (["tune", "cifar_mlp", "--samples", "0"], "'0' is no positive whole number"),
    (["tune", "cifar_mlp", "--search-seed", "-1"], "'-1' is no whole number"),
    (["runs", "cifar_mlp"], "there is no store at"),
    (["cifar_mlp", "--lr", "3"], "--help"),
    (["plan"], "required: EXPERIMENT"),
    (["cifar_mlp", "--dataset", "books"], "unknown data set of cifar_mlp 'books'"),
    (["transformer_lm", "--figure", "12"], "unknown figure '12'. Valid: 4, 7, 13"),
    (["transformer_lm", "--figure", "4", "--widths", "32,64"], "a figure has its own"),
    (["transformer_lm", "--dataset", "boks"], "Did you mean 'books'?"),
    (["figures", "cifar_mlq"], "Did you mean 'cifar_mlp'?"),
]


@pytest.mark.parametrize(("args", "says"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(args, says, capsys, tmp_path):
    """What was wrong, what is valid, nothing else: no traceback, nothing written."""
    load = small if args[0] == "cifar_mlp" else None
    assert cli.main([*args, "--out", str(tmp_path)], load=load) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and says in error
    assert not list(tmp_path.iterdir())


def test_bad_places(capsys, tmp_path):
    """A truncated data file, a file where a folder should be, a folder that cannot be written, no data folder."""
    parquet = tmp_path / "cifar10/cifar10_jpeg.parquet"
    parquet.parent.mkdir()
    parquet.write_bytes(b"PAR1 cut short")
    assert run("cifar_mlp", "--data", tmp_path, "--out", tmp_path, of=EXPERIMENT) == 2
    assert str(parquet) in capsys.readouterr().err
    assert run("cifar_mlp", "--data", tmp_path / "nowhere", "--out", tmp_path, of=EXPERIMENT) == 2
    assert "nowhere" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", Path("/proc/mutransfer")):
        assert run("cifar_mlp", "--scale", "smoke", "--out", place) == 2
        error = capsys.readouterr().err
        assert str(place) in error and error.count("\n") == 1


def test_a_second_run_on_the_same_store_is_refused(tmp_path, capsys):
    """Two drivers on one store: the second says so, with the first one's process, and the first loses nothing."""
    with Store(tmp_path / "results/cifar_mlp.sqlite"):
        assert run("cifar_mlp", "--scale", "smoke", "--out", tmp_path) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--out" in error


def failing(fails):
    """An engine whose runs have no result where ``fails(spec)``."""
    return Here(
        lambda spec, data: RunRecord.failed(spec, "no room") if fails(spec) else EXPERIMENT.code.run(spec, data)
    )


def test_failed_runs_exit_1_and_keep_the_rest(capsys, tmp_path):
    """A run without a result is no result: exit code 1, no figure drawn from the gap, the others kept."""
    sweep = ["cifar_mlp", "--scale", "smoke", "--out", tmp_path]
    assert command(*sweep, engine=failing(lambda spec: spec.width == 32)) == 1
    assert "12 of 24 runs failed" in capsys.readouterr().err
    assert not (tmp_path / "figures").exists()
    engine = failing(lambda spec: False)
    assert command(*sweep, engine=engine) == 0 and len(engine.made) >= 12
    assert len(pd.read_csv(tmp_path / "figures/cifar_mlp/runs.csv")) == 12 + len(engine.made)


def test_a_search_leaves_out_what_failed(capsys, tmp_path):
    """The winner is one of the others; the exit code says that there is a gap."""
    tune = ["tune", "cifar_mlp", "--scale", "smoke", "--samples", 6, "--out", tmp_path]
    assert command(*tune, engine=failing(lambda spec: spec.log2_lr > -4)) == 1
    said = capsys.readouterr()
    assert "winner: sample" in said.out and re.search(r"\d of 7 runs failed; the same command tries them", said.err)
