"""How far a sweep is: a live bar on a terminal, one line that changes in a notebook, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import importlib
import math
import time
from collections import Counter
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from mutransfer.training.spec import STATUSES, RunRecord

LINE_SECONDS = 30.0  # in a log: at least so long between two lines, ...
LINE_SHARE = 0.1  # ... or this share of the cost
CELL_SECONDS = 0.5  # between two updates in a notebook
BAR = 30  # columns of the bar, where there are so many


class SweepProgress:
    """Counts the records of a sweep and says how long the rest will take, in units of the runs' cost.

    A record costs microseconds: the bar is redrawn by its own clock, not by the records.

    Args:
        is_shown: False counts only.
        workers: runs at once, for the ETA.
        is_timed: the cost is in seconds of one worker, so that there is an ETA before the first run has ended.
    """

    def __init__(
        self, is_shown: bool, console: Console | None = None, *, workers: int = 1, is_timed: bool = False
    ) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(STATUSES, 0))  # of this sweep; complete: threads read it
        self.done = self.runs = 0  # ended, and to be done in all
        self._cost = self._cost_done = 0.0
        self._workers, self._is_timed, self._is_shown = workers, is_timed, is_shown
        self._console = console or Console(highlight=False)
        self._start = self._last_time = time.monotonic()
        self._working = math.nan  # since when runs are made: the start of workers says nothing of the rest
        self._end = math.nan  # expected
        self._last_share = 0.0
        self._live: Live | None = None
        self._cell: Any = None  # of a notebook
        if is_shown and _can_redraw(self._console):
            self._live = Live(get_renderable=lambda: Text(self._line(self._console.width)), console=self._console)
        elif is_shown and self._console.is_jupyter:
            with contextlib.suppress(ImportError):
                display = importlib.import_module("IPython.display").display
                self._cell = display({"text/plain": self._line()}, raw=True, display_id=True)

    def __enter__(self) -> SweepProgress:
        if self._live:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()
        elif self._cell:
            self._show(is_due=True)

    def add(self, runs: int, cost: float) -> None:
        """So many runs are to be done; called once, before the first record."""
        self.runs, self._cost = runs, cost
        if self._is_timed:
            self._end = self._start + cost / max(1, min(self._workers, runs))
        if runs:
            self._show(is_due=True)

    def record(self, record: RunRecord, cost: float) -> None:
        """A run has ended."""
        now = time.monotonic()
        if not self.done:
            self._working = max(self._start, now - record.wall_seconds)  # nan if it failed: the start
        self.counts[record.status] += 1
        self.done += 1
        self._cost_done += cost
        # each run under way beside the one that follows this one is half done, on average
        beside = max(0, min(self._workers, self.runs - self.done) - 1)
        if done := self._cost_done + min(beside * cost, self._cost - self._cost_done) / 2:
            self._end = now + (now - self._working) * (self._cost - done) / done
        self._show(is_due=self.done == self.runs)

    def say(self, line: str) -> None:
        """A line of text, above the bar if there is one."""
        if not self._is_shown:
            return
        line = "".join(c if c.isprintable() else " " for c in line)
        if self._live:
            self._console.out(line, highlight=False)
            return
        with contextlib.suppress(OSError, ValueError):  # a full disk under the log must not end the sweep
            print(line, file=self._console.file, flush=True)

    @property
    def eta_seconds(self) -> float:
        """Seconds that the rest takes at the speed so far; nan while nothing is known of it."""
        left = self._end - time.monotonic()
        return math.nan if left < 0 and not self.done else max(left, 0.0)

    def _words(self) -> list[str]:
        """Runs done, diverged, failed and left, and the time."""
        if not self.runs:
            return ["starting workers"]
        failed = [f"{self.counts['failed']} failed"] if self.counts["failed"] else []
        words = [f"{self.done}/{self.runs} runs", f"{self.counts['diverged']} diverged", *failed]
        words += [f"{self.runs - self.done} left", f"{_clock(time.monotonic() - self._start)} so far"]
        if self.done == self.runs:
            return words
        eta = self.eta_seconds
        return [*words, "ETA unknown" if math.isnan(eta) else f"ETA {_clock(eta)}"]

    def _line(self, width: int = 1000) -> str:
        """The bar and the words, within ``width`` columns: what matters least goes first where it is narrow."""
        words = self._words()
        while len(text := ", ".join(words)) >= width and len(words) > 2:
            del words[-2]  # the clock, the runs left, ...: never the runs done and the ETA
        if not self.runs or len(text) + BAR + 2 > width:
            return text[:width]
        full = round(BAR * self._cost_done / self._cost) if self._cost else 0
        done, left = "█░" if self._console.encoding.startswith("utf") else "#-"
        return f"{done * full}{left * (BAR - full)} {text}"

    def _show(self, is_due: bool) -> None:
        now = time.monotonic()
        if self._cell:
            if is_due or now >= self._last_time + CELL_SECONDS:
                self._last_time = now
                self._cell.update({"text/plain": self._line()}, raw=True)
        elif self._is_shown and not self._live:
            share = self._cost_done / self._cost if self._cost else 0.0
            if is_due or share >= self._last_share + LINE_SHARE or now >= self._last_time + LINE_SECONDS:
                self._last_time, self._last_share = now, share
                self.say(", ".join(self._words()))


def _can_redraw(console: Console) -> bool:
    """Whether it is a terminal that can go back in a line; FORCE_COLOR makes rich take any file for one."""
    is_tty = getattr(console.file, "isatty", lambda: False)()
    return is_tty and console.is_terminal and not console.is_dumb_terminal


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
