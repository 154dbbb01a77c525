"""A sweep that is killed in the middle of a long run goes on in the middle of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mutransfer.runs.engine import LocalEngine
from mutransfer.runs.store import Store
from mutransfer.runs.sweep import checkpoints, sweep
from mutransfer.runs.worker import Runner
from mutransfer.training.checkpoint import EVERY, FOLDER
from mutransfer.training.provenance import COMMIT, git_commit
from tests.runs import tiny

ROOT = Path(__file__).parents[2]
DATA = tiny.dataset()
LONG = tiny.spec(DATA, steps=6000, log2_lr=-8)
SECONDS = 60.0
SWEEP = """
import sys
from mutransfer.runs.engine import LocalEngine
from mutransfer.runs.store import Store
from mutransfer.runs.sweep import sweep
from tests.runs import test_resume, tiny
with Store(sys.argv[1]) as store:
    sweep([test_resume.LONG], store, tiny.RUNNER, engine=LocalEngine(1), dataset=test_resume.DATA, progress=False)
"""


def driver(path: Path, every: str) -> subprocess.Popen[str]:
    path_list = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    # the commit stays, even if somebody commits meanwhile
    environment = {**os.environ, "PYTHONPATH": path_list, COMMIT: git_commit(), EVERY: every}
    command = [sys.executable, "-c", SWEEP, str(path)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def test_a_killed_sweep_goes_on_in_mid_run(tmp_path: Path) -> None:
    """kill -9 on the driver once there is a checkpoint; the same command then gives an uninterrupted run's record."""
    path = tmp_path / "store.sqlite"
    file = checkpoints(path) / f"{LONG.run_id}.pt"
    killed = driver(path, every="0")
    try:
        end = time.monotonic() + SECONDS
        while not file.exists():
            assert killed.poll() is None and time.monotonic() < end
            time.sleep(0.01)
    finally:
        killed.kill()
        killed.communicate()  # ends once its worker, which has the pipe too, is gone
    assert file.exists() and not Store.read(path)
    resumed = driver(path, every="300")
    told = resumed.communicate(timeout=SECONDS)[1]
    assert resumed.returncode == 0, told
    found = re.search(rf"run {LONG.run_id} goes on from its checkpoint: (\d+) of 6000 steps are done", told)
    assert found and int(found[1]) > 0, told
    (record,) = Store.read(path)
    assert record.status == "finished"
    assert tiny.outcome(record) == tiny.outcome(Runner(tiny.RUNNER, DATA, "cpu")(LONG))
    assert not file.parent.exists()  # its record is durable


def test_only_what_is_done_loses_its_checkpoint(tmp_path: Path) -> None:
    """A sweep that was killed between record and removal left one behind; a failed run is tried again from its own."""
    done, raises, other = tiny.spec(DATA), tiny.spec(DATA, hps=(("fault", "raise"),)), tiny.spec(DATA, seed=1)
    path = tmp_path / "store.sqlite"
    folder = checkpoints(path)
    folder.mkdir()
    files = [folder / f"{spec.run_id}.pt" for spec in (done, raises, other)]
    for file in files:
        file.touch()
    with Store(path) as store:
        store.put_many([Runner(tiny.RUNNER, DATA, "cpu")(done)])
        sweep([done, raises], store, tiny.RUNNER, engine=LocalEngine(1), dataset=DATA, progress=False)
    assert set(folder.iterdir()) == {files[1], files[2]}
    assert FOLDER not in os.environ


def test_no_folder_for_checkpoints_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file in its place: the sweep says so and goes on."""
    path = tmp_path / "store.sqlite"
    checkpoints(path).touch()
    with Store(path) as store:
        store.put_many([Runner(tiny.RUNNER, DATA, "cpu")(LONG := tiny.spec(DATA))])
        assert sweep([LONG], store, tiny.RUNNER, engine=LocalEngine(1), dataset=DATA).skipped == 1
    assert "no checkpoints are kept: " in " ".join(capsys.readouterr().out.split())
