"""The ``runs`` command: what it lists, it exports and deletes, and a mistake changes nothing."""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from mutransfer.errors import UserError
from mutransfer.runs.store import Store
from mutransfer.runs.table import runs, to_frame, write_csv
from mutransfer.training.spec import RunRecord
from tests.runs import tiny
from tests.runs.tiny import ids, record, stored, version_1

HPS = (("alpha", 2.0), ("loss", "xent"))
EVERY = {"delete": True, "every": True, "yes": True}
RUNS = [
    record(width=1024, log2_lr=-6, hps=HPS),
    record(width=1024, log2_lr=-4.5, parametrization="mup", train_loss=0.123456789),
    record(width=64, log2_lr=-2, wall_seconds=2.5, hps=(("alpha", 0.5), ("loss", "mse"))),
    record(width=64, log2_lr=5, status="diverged", train_loss=math.inf, test_loss=math.nan),
    RunRecord.failed(record(width=128, variant="tanh", hps=HPS).spec, "ValueError:\n\x1b[31mred\x1b[0m and loud"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return stored(tmp_path / "store.sqlite", RUNS)


def listed(text: str) -> list[str]:
    """The run_ids in a listing."""
    return re.findall(r"^[0-9a-f]{16}\b", text, re.M)


def kept(path: Path) -> set[str]:
    return set(ids(*Store.read(path)))


def test_the_list_is_for_people_and_for_pipes(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every column in its place, in the order of runs.csv, a failure with its reason, no control characters."""
    assert runs(path) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert listed(text) == list(to_frame(RUNS)["run_id"])
    assert lines[-1] == "5 of 5 runs: 3 finished, 1 diverged, 1 failed"
    assert all(c == "\n" or c.isprintable() for c in text)
    header = "run_id variant parametrization width log2_lr seed steps status train_loss wall_seconds precision"
    assert lines[0].split() == [*header.split(), "finished_at", "reason"]
    failed = next(line for line in lines if " failed " in line)
    assert failed.endswith("ValueError: [31mred [0m and loud")
    cells = next(line for line in lines if "0.12346" in line).split()
    assert cells[1:11] == ["relu", "mup", "1024", "-4.5", "0", "60", "finished", "0.12346", "1.2", "float32"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", cells[11])
    assert lines[0].index("train_loss") + 10 == lines[1].index("0.33333") + 7  # numbers are aligned on the right


def test_a_terminal_says_once_what_all_runs_share(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that fit a screen; nothing is lost, and the counts stay last."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    runs(path, where=["variant=relu"])
    first, header, *lines, last = capsys.readouterr().out.splitlines()
    assert first.startswith("every run: variant relu, seed 0, steps 60, precision float32, finished_at 20")
    assert " ".join(header.split()) == "run_id parametrization width log2_lr status train_loss wall_seconds"
    assert (len(lines), last[:11]) == (4, "4 of 5 runs")


@pytest.mark.parametrize("is_old", [False, True], ids=["this version", "version 1"])
def test_filters(is_old: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All conditions hold for what is listed, and for nothing else; an old store answers the same."""
    path = (version_1 if is_old else stored)(tmp_path / "store.sqlite", RUNS)
    for where, chosen in [
        (["width=1024"], [0, 1]),
        (["width==1024", "log2_lr<=-4.5"], [0, 1]),
        (["width = 1024", "log2_lr<-4.5"], [0]),
        (["width>64", "width<1024"], [4]),
        (["status!=finished"], [3, 4]),
        (["train_loss>1"], [3]),  # a diverged run's loss is inf
        (["train_loss<=0.2"], [1]),
        (["train_loss=nan"], [4]),
        (["wall_seconds!=1.25"], [2, 4]),  # what is missing is different
        (["parametrization>=sp"], [0, 2, 3, 4]),
        (["hps.alpha>=2"], [0, 4]),
        (["hps.loss=xent", "variant!=tanh"], [0]),
        (["hps.loss!=xent"], [1, 2, 3]),
        (["reason=' OR 1 --"], []),  # a value is a value, whatever is in it
        (["finished_at>2000"], [] if is_old else [0, 1, 2, 3, 4]),  # version 1 did not say
    ]:
        runs(path, where=where)
        assert sorted(listed(capsys.readouterr().out)) == sorted(ids(*(RUNS[i] for i in chosen))), where


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"where": ["widht=64"]}, "unknown column 'widht'. Did you mean 'width'"),
        ({"where": ["record=1"]}, "unknown column 'record'"),
        ({"where": ["width=wide"]}, "'width=wide': width is a number"),
        ({"where": ["width~3"]}, r"'width~3': expected a column, ="),
        ({"where": ["status=finish"]}, "Did you mean 'finished'"),
        ({"where": ["hps.alhpa=1"]}, "Did you mean 'alpha'"),
        ({"where": ["1=1; DROP TABLE runs"]}, "unknown column '1'"),
        ({"export": Path("runs.json")}, r"cannot export to runs\.json: .* \.csv or \.parquet"),
        ({"export": Path("/proc/no/runs.csv")}, "cannot write"),
        ({"export": Path("runs.csv"), "delete": True}, "give one"),
        ({"delete": True}, "which runs"),
        ({"delete": True, "every": True, "where": ["width=64"]}, "which runs"),
        ({"delete": True, "every": True}, "5 of 5 runs .* would be deleted.* --yes"),
        ({"delete": True, "where": ["widht=64"], "yes": True}, "widht"),
        ({"every": True}, "belong to --delete"),
        ({"salvage": True}, "is whole"),
    ],
)
def test_a_mistake_changes_nothing(
    options: dict, message: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line that says what is wrong; every run is still there, and no file is new."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))  # no terminal: a pipe's yes is no yes
    with pytest.raises(UserError, match=message) as caught:
        runs(path, **options)
    assert "\n" not in str(caught.value)
    assert kept(path) == set(ids(*RUNS))
    assert {p.name for p in tmp_path.iterdir()} <= {"store.sqlite", "store.sqlite.lock", "store.sqlite.jsonl"}


def test_no_store(tmp_path: Path) -> None:
    """A typo in --out does not make an empty store."""
    for options in ({}, EVERY, {"salvage": True}):
        with pytest.raises(UserError, match="there is no store at"):
            runs(tmp_path / "absent" / "x.sqlite", **options)
    assert not list(tmp_path.iterdir())


def test_export_is_the_runs_table(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both forms read back as the table that the figures are drawn from, to the last bit."""
    for name, read in (("runs.csv", pd.read_csv), ("runs.parquet", pd.read_parquet)):
        target = tmp_path / "new" / name
        assert runs(path, where=["width<=128"], export=target) == 0
        assert capsys.readouterr().out == f"wrote 3 of 5 runs to {target}\n"
        pd.testing.assert_frame_equal(read(target), to_frame(RUNS[2:]), check_exact=True)
        before = target.read_bytes()
        with pytest.raises(UserError):
            runs(path, where=["nonsense"], export=target)
        assert target.read_bytes() == before


def test_delete(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What the filter names is gone, for the next sweep too; the rest stays. On a terminal only a yes is a yes."""
    assert runs(path, where=["status=failed"], delete=True, yes=True) == 0
    assert capsys.readouterr().out == f"deleted 1 of 5 runs of {path}\n"
    assert runs(path, where=["width=7"], delete=True) == 0
    assert "deleted 0 of 4" in capsys.readouterr().out
    for answer in ("", "n\n", "\n", "yess\n", "y\n"):
        assert kept(path) == set(ids(*RUNS[:4]))
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
        assert runs(path, where=["width=64"], delete=True) == (0 if answer == "y\n" else 1)
        assert f"delete 2 of 4 runs of {path}, for good? [y/N]" in capsys.readouterr().out
    assert kept(path) == set(ids(*RUNS[:2]))
    runs(path, **EVERY)
    assert kept(path) == set() and runs(path) == 0


def test_a_running_sweep_is_read_but_not_deleted(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its driver thinks that what it has put is there."""
    with Store(path) as store:
        store.put_many([record(seed=3)])
        assert runs(path) == 0
        assert "6 of 6 runs" in capsys.readouterr().out
        for options in (EVERY, {"salvage": True}):
            with pytest.raises(UserError, match="in use by another run"):
                runs(path, **options)
        assert len(list(store.records())) == 6


LIST = """
import sys
from pathlib import Path
from mutransfer.runs.table import runs
runs(Path(sys.argv[1]))
print(*{"torch", "pandas"}.intersection(sys.modules), file=sys.stderr)
"""


def test_head_may_stop_reading(path: Path) -> None:
    """``runs ... | head -1`` is no error; and a list waits for neither torch nor pandas."""
    reading, writing = os.pipe()
    os.close(reading)
    command, environment = [sys.executable, "-c", LIST, str(path)], tiny.environment()
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=environment, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_runs_csv_reads_back_exactly(tmp_path: Path) -> None:
    """Figures are drawn from the committed file: its numbers are the store's, to the last bit, sorted."""
    records = [
        record(parametrization="mup", width=8),
        record(width=16, train_loss=0.1 + 0.2),
        record(width=8, log2_lr=-3.5, status="diverged", train_loss=math.inf, test_loss=math.nan),
        record(width=8, seed=1, log2_lr=-10),
        record(width=8, seed=0, log2_lr=-10),
    ]
    path = tmp_path / "new" / "runs.csv"
    assert write_csv(to_frame(records), path) == hashlib.sha256(path.read_bytes()).hexdigest()
    again, lines = pd.read_csv(path), path.read_text().splitlines()
    pd.testing.assert_frame_equal(again, to_frame(reversed(records)), check_exact=True)
    assert list(again["run_id"]) == ids(*(records[i] for i in (4, 3, 2, 1, 0)))
    assert ",diverged,inf,nan," in lines[3] and ",," not in "".join(lines)
    assert lines[0].split(",") == list(to_frame([]))  # code that filters an empty table misses no column


def test_runs_csv_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in mid-write leaves the committed file as it was and no litter beside it."""
    path = tmp_path / "runs.csv"
    before = write_csv(to_frame([record()]), path)

    def full_disk(file: Path, content: bytes) -> None:
        file.open("wb").write(content[:100])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="No space left"):
        patch.setattr(Path, "write_bytes", full_disk)
        write_csv(to_frame([record(train_loss=0.5)]), path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before and list(tmp_path.iterdir()) == [path]
