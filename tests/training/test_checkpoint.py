"""A run that was killed goes on from its checkpoint as if nothing had been: the same record, the same weights."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch

from mutransfer.errors import UserError
from mutransfer.training import checkpoint, loop, step
from mutransfer.training.checkpoint import EVERY, FOLDER, Checkpoint, Progress
from tests.training.resuming import LOOK, RUNS, Killed, Made, finished, killed, next_token, same, scripted, undisturbed


@pytest.fixture(autouse=True)
def looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECK_EVERY", LOOK)
    monkeypatch.setattr(checkpoint.os, "fsync", lambda handle: None)  # no machine crashes here; disks are slow


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of checkpoints, of which each look writes one."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.setenv(EVERY, "0")
    return tmp_path


HALF = ("sgd", "augmented", "next token")  # of which bfloat16 is tried, too: it is the same code for all


@pytest.mark.parametrize(("name", "precision"), [*((n, "float32") for n in RUNS), *((n, "bfloat16") for n in HALF)])
def test_a_resumed_run_is_the_same_bit_for_bit(
    name: str, precision: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed three times, the first time early: not all shapes of batches are replayed then."""
    if name == "translation, sgd":
        monkeypatch.setattr(step, "SHAPES", 8)  # the others stay under autograd
    make = lambda: RUNS[name](precision=precision)  # noqa: E731
    want = undisturbed(make)
    assert want[0]["status"] == "finished" and want[0]["steps_done"] == make()[0].steps
    for looks in (1, 4, 2):
        killed(make(), looks)
    assert same(finished(make()), want)
    told = capsys.readouterr().err.splitlines()
    places = [line.partition("its checkpoint: ")[2].split()[0] for line in told]
    assert places == [str(LOOK * looks) for looks in (1, 5, 7)]


@pytest.mark.parametrize("name", ["sgd", "translation, sgd"])
def test_the_replay_is_resumed_too(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: the first steps under autograd, where there were replays, are rounded otherwise."""
    want = undisturbed(RUNS[name])
    killed(RUNS[name](), 5)
    monkeypatch.setattr(loop.Step, "go_on", lambda *_: None)
    found = finished(RUNS[name]())
    assert not same(found, want)
    for x, y in zip(found[1], want[1], strict=True):
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)


# losses, how often the run looked when it was killed, and what comes of it
SCRIPTS: dict[str, tuple[list[float], int, str, int]] = {
    # else a run that is killed now and then would never be found to diverge
    "patience": ([1.0] * LOOK + [3.0] * 10 * LOOK, 3, "diverged", LOOK * (1 + loop.PATIENCE)),
    # all steps are done, none is left to resume; the last look comes after 2 steps
    "in its evaluation": ([float(i) for i in range(20, 0, -1)], 7, "finished", 20),
}


@pytest.mark.parametrize(("losses", "after", "status", "steps"), SCRIPTS.values(), ids=SCRIPTS)
def test_what_a_run_knows_of_its_losses_goes_on(
    losses: list[float], after: int, status: str, steps: int, folder: Path
) -> None:
    want = undisturbed(lambda: scripted(losses))
    assert (want[0]["status"], want[0]["steps_done"]) == (status, steps)
    killed(scripted(losses), after)
    assert same(finished(scripted(losses)), want)


def test_the_time_spent_is_added_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is resumed has cost all its seconds."""
    made = next_token()
    checkpoint_of = Checkpoint(made[0], *made[1:3], torch.device("cpu"))
    checkpoint_of.save(Progress(spent=1000.0, since=time.perf_counter() - 100))
    saved = checkpoint_of.load()
    assert saved is not None and 1100 <= saved.seconds < 1110


# ---- files ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(folder: Path) -> Path:
    """Of the checkpoint of a run that was killed."""
    killed(next_token(), 2)
    (path,) = folder.iterdir()
    assert path.stem == next_token()[0].run_id
    return path


def flip(path: Path) -> None:
    """One bit, in the middle of the largest tensor."""
    with zipfile.ZipFile(path) as file:
        largest = max(file.infolist(), key=lambda info: info.file_size)
    data = bytearray(path.read_bytes())
    data[largest.header_offset + 200 + largest.file_size // 2] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1000]),
    "empty": lambda path: path.write_bytes(b""),
    "flipped": flip,
    "other": lambda path: torch.save({"about": {}}, path),
    "text": lambda path: torch.save("about", path),
    "folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_checkpoint_is_told_and_ignored(
    name: str, path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, and the run starts anew."""
    DAMAGE[name](path)
    monkeypatch.setenv(EVERY, "300")
    assert same(finished(next_token()), undisturbed(next_token))
    assert capsys.readouterr().err == f"run {path.stem} starts anew: its checkpoint {path} is damaged\n"


@pytest.mark.parametrize("what", ["run", "commit", "torch", "number of threads", "device", "model", "optimizer"])
def test_a_checkpoint_of_another_run_or_program_is_told_and_ignored(
    what: str, path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rest would be rounded otherwise, and the record would tell one half of what made it."""

    def make() -> Made:
        made = next_token()
        if what == "run":
            return replace(made[0], seed=4), *made[1:]
        if what == "model":
            made[1].register_buffer("more", torch.zeros(3))
        if what == "optimizer":
            return *made[:2], torch.optim.SGD(made[1].parameters(), lr=0.01), *made[3:]
        return made

    path = path.rename(path.with_stem(make()[0].run_id))
    key = {"number of threads": "threads"}.get(what, what)
    if key in (made_by := checkpoint.provenance("", False, torch.device("cpu"))):
        monkeypatch.setattr(checkpoint, "provenance", lambda *_: {**made_by, key: "other"})
    monkeypatch.setenv(EVERY, "300")
    assert same(finished(make()), undisturbed(make))
    assert capsys.readouterr().err == f"run {path.stem} starts anew: its checkpoint {path} is of another {what}\n"


@pytest.mark.parametrize("fault", ["full", "missing", "read-only"])
def test_no_room_costs_a_line_and_not_the_run(
    fault: str, path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, however many checkpoints are due; the last one that could be written stays."""
    want, before = undisturbed(next_token), path.read_bytes()
    if fault == "missing":
        monkeypatch.setenv(FOLDER, str(path.parent / "missing"))
    elif fault == "full":
        path.with_suffix(".pt.new").symlink_to("/dev/full")
        monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # else there is room at the next look
    else:  # nobody is root's read-only folder
        path.with_suffix(".pt.new").mkdir()
    assert same(finished(next_token()), want)
    *_, line = lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (1 if fault == "missing" else 2)
    assert f"run {path.stem} goes on without a new checkpoint" in line and ".pt.new cannot be written (" in line
    assert path.read_bytes() == before


def test_a_write_that_is_killed_leaves_the_one_before(path: Path, folder: Path) -> None:
    """At any moment there is a whole one; what a dead process left half-written is written over."""
    before = path.read_bytes()
    with mock.patch.object(checkpoint.os, "fsync", side_effect=Killed), pytest.raises(Killed):
        finished(next_token())
    assert path.read_bytes() == before and path.with_suffix(".pt.new").exists()
    assert same(finished(next_token()), undisturbed(next_token))
    assert [*folder.iterdir()] == [path]
    path.with_suffix(".pt.new").touch()
    (folder / "other.pt").touch()
    checkpoint.remove(folder, {path.stem})
    assert [x.name for x in folder.iterdir()] == ["other.pt"]


def test_the_interval(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default is minutes: a thousand runs of seconds must not wait for the disk. What is no number is refused."""
    monkeypatch.delenv(EVERY)
    finished(next_token())
    assert not [*folder.iterdir()] and checkpoint.SECONDS >= 60
    monkeypatch.setenv(EVERY, "5 min")
    with pytest.raises(UserError, match="MUTRANSFER_CHECKPOINT_SECONDS is '5 min'"):
        finished(next_token())
