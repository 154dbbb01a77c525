"""How far a sweep is, as a reader sees it: on a terminal, in a log, in a notebook."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import pty
import re
import sys
import time
import types
from pathlib import Path

import pytest
from rich.console import Console

from mutransfer.runs.progress import SweepProgress
from mutransfer.training.spec import RunRecord, RunSpec

# not from tests.runs.tiny: the notebook below would wait for torch
SPEC = RunSpec(
    **dict(experiment="tiny", variant="relu", parametrization="sp", optimizer="sgd", precision="float32", data="none"),
    **dict(data_fingerprint="0", width=8, base_width=8, log2_lr=0, seed=0, steps=1, batch=1, momentum=0),
)


def record(status: str = "finished", seconds: float = math.nan) -> RunRecord:
    return RunRecord(spec=SPEC, status=status, train_loss=1.0, wall_seconds=seconds)


def drive(runs: int, seconds: float = 0.0, console: Console | None = None) -> None:
    """A sweep of so many runs that take so long; every fourth diverges, one fails and says something nasty."""
    with SweepProgress(True, console, workers=2) as shown:
        shown.add(runs, runs)
        for i in range(runs):
            time.sleep(seconds)
            if i == 3:
                shown.say("run 3 failed: \x1b[31m[bold] :smile: " + "x" * 100)
            shown.record(record("failed" if i == 3 else "diverged" if i % 4 == 1 else "finished"), 1.0)


class Clock:
    now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)


def test_progress_is_weighted_by_cost(clock: Clock) -> None:
    """The ETA counts work, not runs: after a run that is 3/4 of the work a third of the time is left."""
    text = io.StringIO()
    with SweepProgress(True, Console(file=text, width=200)) as shown:
        shown.add(2, 4.0)
        clock.now += 30
        shown.record(record("diverged"), 3.0)
        assert shown.eta_seconds == pytest.approx(10)
        clock.now += 4
        assert shown.eta_seconds == pytest.approx(6)  # it counts down between two records
        shown.record(record(), 1.0)
    assert text.getvalue().splitlines() == [
        "0/2 runs, 0 diverged, 2 left, 0:00 so far, ETA unknown",
        "1/2 runs, 1 diverged, 1 left, 0:30 so far, ETA 0:10",
        "2/2 runs, 1 diverged, 0 left, 0:34 so far",
    ]


def test_the_start_of_the_workers_says_nothing_of_the_rest(clock: Clock) -> None:
    """Ten thousand runs of a millisecond after three seconds of imports take ten seconds, not eight hours."""
    with SweepProgress(False) as shown:
        shown.add(10_000, 10_000.0)
        clock.now += 3.001
        shown.record(record(seconds=0.001), 1.0)
        assert shown.eta_seconds == pytest.approx(10, rel=0.01)


def test_runs_under_way_count_half(clock: Clock) -> None:
    """Ten equal runs of a minute on two workers: when the first ends, the second is as good as done."""
    with SweepProgress(False, workers=2) as shown:
        shown.add(10, 10.0)
        clock.now += 60
        shown.record(record(seconds=60.0), 1.0)
        assert 200 < shown.eta_seconds < 400  # the truth is 240; counting ended runs alone says 540


def test_a_measured_plan_has_an_eta_from_the_start(clock: Clock) -> None:
    """Costs in seconds: known before the first run ends, unknown again once that is overdue."""
    with SweepProgress(False, workers=2, is_timed=True) as shown:
        shown.add(4, 40.0)
        clock.now += 5
        assert shown.eta_seconds == pytest.approx(15)
        clock.now += 16
        assert math.isnan(shown.eta_seconds)


def test_a_log_has_plain_lines_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 fast runs give about ten lines, whole ones, even where FORCE_COLOR calls every file a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    path = tmp_path / "log"
    with path.open("w") as file, contextlib.redirect_stdout(file):
        drive(10_000)
    text = path.read_text()
    assert not re.search(r"[^\n -~]", text)  # no escape, no carriage return, no bar
    lines = text.splitlines()
    assert 10 <= len(lines) <= 14
    assert lines[0] == "0/10000 runs, 0 diverged, 10000 left, 0:00 so far, ETA unknown"
    assert "run 3 failed:  [31m[bold] :smile: " + "x" * 100 in lines
    assert lines[-1].startswith("10000/10000 runs, 2500 diverged, 1 failed, 0 left")


@pytest.mark.parametrize(("columns", "term"), [(120, "xterm"), (60, "xterm"), (40, "xterm"), (80, "dumb")])
def test_a_terminal_has_one_line_that_changes(columns: int, term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never wrapped, one line at the end, the failure above it. TERM=dumb cannot go back in a line: it is a log."""
    monkeypatch.setenv("TERM", term)
    ours, theirs = pty.openpty()
    with open(theirs, "w") as file:
        drive(12, 0.1, Console(file=file, width=columns, highlight=False))
    received = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while part := os.read(ours, 1 << 16):
            received += part
    os.close(ours)
    text = received.decode()
    if term == "dumb":
        assert "\x1b" not in text and text.replace("\r\n", "").count("\r") == 0
        assert "12/12 runs" in text.splitlines()[-1]
        return
    frames = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", part) for part in re.split(r"\r\n|\r", text)]
    frames = [frame for frame in frames if " runs, " in frame]
    assert len(frames) >= 3 and all(len(frame) <= columns for frame in frames)
    assert any("ETA" in frame for frame in frames)
    assert (("█" in frames[-1]) == (columns == 120)) and "12/12 runs" in frames[-1]
    lines = text.split("\r\n")
    assert len(lines) == 3 and ":smile:" in lines[0] and "[31m" in lines[0] and "12/12 runs" in lines[1]
    assert lines[-1] == "\x1b[?25h"  # the cursor is back


def test_a_notebook_is_no_flood(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Displayed once, then updated at most twice a second."""
    shown_in_turn: list[str] = []

    class Handle:
        def __init__(self, content: dict[str, str], **options: bool) -> None:
            shown_in_turn.append(content["text/plain"])

        update = __init__

    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=Handle))  # type: ignore[arg-type]
    with SweepProgress(True, Console(force_jupyter=True, file=io.StringIO())) as shown:
        shown.add(10_000, 10_000.0)
        for _ in range(10_000):
            clock.now += 0.001
            shown.record(record(), 1.0)
    assert shown_in_turn[0] == "starting workers" and 20 <= len(shown_in_turn) <= 24
    assert shown_in_turn[1].startswith("░" * 30) and shown_in_turn[-1].startswith("█" * 30 + " 10000/10000 runs")


def test_in_a_real_notebook() -> None:
    """One output for the whole sweep, the last state in it."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    code = f"import sys; sys.path[:0] = {sys.path!r}\nfrom tests.runs.test_progress import drive\ndrive(40, 0.02)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=60).execute()
    bar, said = notebook.cells[0].outputs
    assert bar["data"]["text/plain"].startswith("█" * 30 + " 40/40 runs, 10 diverged, 1 failed, 0 left")
    assert said["text"].startswith("run 3 failed")


def test_a_full_disk_under_the_log_does_not_end_the_sweep() -> None:
    """Results may lie elsewhere; only lines are lost."""

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with SweepProgress(True, Console(file=Full())) as shown:
        shown.add(1, 1.0)
        shown.say("a worker died")
        shown.record(record(), 1.0)
    assert shown.done == 1
