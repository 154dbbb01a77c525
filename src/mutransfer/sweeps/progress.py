"""How far a sweep is: a live bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from mutransfer.training.spec import RunRecord

LINE_SECONDS = 30.0
LINE_SHARE = 0.1


class SweepProgress:
    """Counts the records of a sweep and says how long the rest will take, in units of the runs' cost.

    On a terminal it is a bar; elsewhere it prints a line every `LINE_SHARE` of the cost or `LINE_SECONDS`.
    """

    def __init__(self, is_shown: bool, console: Console | None = None) -> None:
        self.counts: Counter[str] = Counter()  # by status, in this sweep
        self.runs = 0  # to be done in all
        self.cost = self.cost_done = 0.0
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._is_shown = is_shown
        self._start = self._last_time = time.monotonic()
        self._last_share = 0.0
        self._bar: Progress | None = None
        if is_shown and self._console.is_terminal:
            columns: list[str | ProgressColumn] = [BarColumn(bar_width=30), TextColumn("{task.fields[line]}")]
            self._bar = Progress(*columns, TimeElapsedColumn(), _Eta(self), console=self._console)
            self._task = self._bar.add_task("", total=None, line="starting workers")

    def __enter__(self) -> SweepProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def add(self, runs: int, cost: float) -> None:
        """So many runs more are to be done."""
        self.runs += runs
        self.cost += cost
        self._show()

    def record(self, record: RunRecord, cost: float) -> None:
        """A run has ended."""
        self.counts[record.status] += 1
        self.cost_done += cost
        self._show()

    def say(self, line: str) -> None:
        """A line of text, above the bar if there is one."""
        if self._is_shown:
            self._console.print(line, markup=False)

    @property
    def line(self) -> str:
        """Runs done, diverged, failed and left."""
        done = sum(self.counts.values())
        words = [f"{done}/{self.runs} runs", f"{self.counts['diverged']} diverged"]
        if failed := self.counts["failed"]:
            words.append(f"{failed} failed")
        return ", ".join([*words, f"{self.runs - done} left"])

    @property
    def eta_seconds(self) -> float | None:
        """Seconds that the rest takes at the speed so far; None before the first run has ended."""
        if not self.cost_done:
            return None
        return (time.monotonic() - self._start) * (self.cost - self.cost_done) / self.cost_done

    def _show(self) -> None:
        if self._bar:
            self._bar.update(self._task, total=self.cost, completed=self.cost_done, line=self.line)
            return
        share = self.cost_done / self.cost if self.cost else 0.0
        now = time.monotonic()
        is_due = share >= self._last_share + LINE_SHARE or now >= self._last_time + LINE_SECONDS
        if sum(self.counts.values()) and (is_due or sum(self.counts.values()) == self.runs):
            self._last_time, self._last_share = now, share
            self.say(f"{self.line}, {_clock(now - self._start)} so far, {_eta(self)}")


class _Eta(ProgressColumn):
    def __init__(self, progress: SweepProgress) -> None:
        super().__init__()
        self._progress = progress

    def render(self, task: Task) -> Text:
        return Text(_eta(self._progress), style="progress.remaining")


def _eta(progress: SweepProgress) -> str:
    seconds = progress.eta_seconds
    return "ETA unknown" if seconds is None else f"ETA {_clock(seconds)}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
