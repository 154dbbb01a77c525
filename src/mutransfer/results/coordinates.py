"""The coordinate check: how fast does each activation, and its change, grow with width (App. D.1, Figure 5)?

The rule, fixed before any result, is `RULE`. Theory wants an exponent of 0, and the smallest deviation that it allows a
wrong parametrization is 1/2: hence `TOLERANCE`. An activation's verdict is that of its worst row: its value at init and
its change after each step. Readouts, the model's output and what the caller lists may shrink at init, by the law of
large numbers. After the first move, moves of changing sign partly cancel: theory is then held to the direction alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mutransfer.errors import UserError, unknown
from mutransfer.results.draw.curves import line_looks, line_signs
from mutransfer.results.draw.page import Axes, log_scales, new_page
from mutransfer.results.draw.style import WARNING, paper_style, save
from mutransfer.results.estimate import Estimate, counted, label, listing
from mutransfer.results.folder import Claim, FigureFolder, Part, Shown, grid, read_texts
from mutransfer.results.schema import Rows, Schema

TOLERANCE = 0.25
COLUMNS = ["width", "seed", "step", "activation", "kind", "rms"]
OWNER = ["parametrization", "optimizer"]
"""Whose rows they are; with `COLUMNS`, the columns of a coordinates.csv."""
SCHEMA = Schema(
    name="coordinates.csv",
    columns={
        **dict.fromkeys([*OWNER, "activation", "kind"], "text"),
        **dict.fromkeys(["width", "seed", "step"], "whole number"),
        "rms": "number",
    },
    rows=(Rows(name="the check", by=(*OWNER, "kind"), complete=dict.fromkeys(COLUMNS[:4])),),
)
MOST_COLUMNS = 4
MOST_NAMED = 6
RULE = (
    "The growth exponent is the slope of log2(rms of x_t - x_0) against log2(width), mean over seeds with its 95% t "
    f"interval. An exponent above {TOLERANCE:g} `grows`, below -{TOLERANCE:g} `shrinks`, else it stays. Where theory "
    "expects a change to stay, it must at every step. Where theory expects growth, its exponent is derived for the "
    f"first step at which the quantity moves and must be met there within {TOLERANCE:g}; at every later step the "
    "change must still grow, at whatever rate."
)
FIGURE_5 = (
    "With Adam, in SP the logits and the attention logits blow up with width within a step, the word embeddings do "
    "not; in µP all stay."
)


class Expected(NamedTuple):
    """The growth exponent of a change that theory derives, perhaps as a lower bound, and from what."""

    exponent: float
    reason: str
    at_least: bool = False

    def __str__(self) -> str:
        return f"{'at least ' if self.at_least else ''}{self.exponent:g}"


# Adam divides the gradient by its own size: every entry of every weight moves by about its learning rate, whatever the
# width n. Behind a sum over n, moves aligned with what they are multiplied by add up to n times that (the law of large
# numbers), and they are aligned, since the gradient of a weight is an outer product with its own input.
ADAM: Mapping[str, Mapping[str, Expected]] = {
    "logits": {
        # sum over n of dW_i x_i, dW_i = lr sign(x_i): n lr. The initial weights on a changed x add sqrt(n) at most.
        "sp": Expected(1.0, "n readout weights move by the LR each, aligned with the features they read"),
        # the same sum with LR 1/n (or, equally, behind a multiplier of 1/n)
        "mup": Expected(0.0, "the same n moves, of LR/n each"),
    },
    "attention logits": {
        # q.k/sqrt(d), d = n/heads: first q moves, from zero or from Theta(1), by n lr (a sum over n, as above). Its
        # gradient is a mix of the keys, so it is aligned with k = Theta(1): q.k = n d, over sqrt(d) that is n^1.5.
        # When k has moved by n lr too (its gradient is zero while q is), q.k = n n d: up to n^2.5.
        "sp": Expected(1.5, "queries move by n times the LR, aligned with the keys: n d / sqrt(d)", at_least=True),
        # hidden LR 1/n: q and k move by Theta(1), aligned: q.k = d, over d that is Theta(1)
        "mup": Expected(0.0, "queries move by the LR, aligned with the keys: d / d"),
    },
    # a look-up: one weight per coordinate, no sum over the width; Adam's input LR is SP's own in µP (Table 3)
    "word embedding": dict.fromkeys(
        ("sp", "mup"), Expected(0.0, "a look-up sums over nothing: each coordinate moves by the LR")
    ),
}
"""Quantity of Figure 5 -> parametrization -> growth exponent of its change under Adam (App. D.1; J.2.1)."""


@dataclass(frozen=True)
class CoordFrame:
    """What `coord_check` measured.

    data: one row per width, seed, step, activation and kind with ``rms``, the root mean square of the coordinates;
        kind ``value``: of x_t; kind ``change``: of x_t - x_0 on the same input.
    may_shrink_at_init: activations whose value at init is allowed to vanish with width.
    """

    data: pd.DataFrame
    parametrization: str
    optimizer: str
    may_shrink_at_init: frozenset[str] = frozenset()

    @property
    def activations(self) -> list[str]:
        """Their names, in the order of the data."""
        return list(dict.fromkeys(self.data["activation"]))

    def exponents(self) -> pd.DataFrame:
        """One row per activation, kind and step with exponent, low, high (95%) and verdict."""
        return self._exponents.copy()

    @cached_property
    def _exponents(self) -> pd.DataFrame:
        rows = []
        for (activation, kind, step), cell in self.data.groupby(["activation", "kind", "step"], sort=False):
            if (kind == "value") == (step == 0):
                fit = _growth(cell)
                verdict = "grows" if fit.value > TOLERANCE else "shrinks" if fit.value < -TOLERANCE else "ok"
                if verdict == "shrinks" and kind == "value" and activation in self.may_shrink_at_init:
                    verdict = "ok"
                rows.append((activation, "change" if step else "init", step, fit.value, fit.low, fit.high, verdict))
        names = ["activation", "kind", "step", "exponent", "low", "high", "verdict"]
        # all zero, as behind a readout that starts at zero, says nothing at this step
        return pd.DataFrame(rows, columns=names).dropna(subset="exponent").reset_index(drop=True)

    def changes(self, activation: str) -> pd.DataFrame:
        """``exponents`` of the change of one activation by step (index); NaN where it has not moved yet."""
        if activation not in self.activations:
            raise unknown("activation", activation, self.activations)
        rows = self._exponents.query("kind == 'change' and activation == @activation").set_index("step")
        steps = self.data.loc[self.data["kind"] == "change", "step"].unique()
        return rows.drop(columns=["activation", "kind"]).reindex(sorted(steps))

    def expected(self, quantity: str) -> Expected | None:
        """What theory says of the change of ``quantity`` (a key of `ADAM`); None where this suite derives nothing."""
        if self.optimizer not in ("adam", "adamw"):
            return None
        if quantity not in ADAM:
            raise unknown("quantity of the coordinate check", quantity, ADAM)
        return ADAM[quantity].get(self.parametrization)

    def verdict(self) -> CoordVerdict:
        """The verdict on every activation: that of its worst row."""
        rows, names = self.exponents(), self.activations
        # an activation that never moves has no exponent at all: it is the extreme of shrinking
        moved = set(rows.loc[rows["kind"] == "change", "activation"])
        still = [(name, "change", 0, -np.inf, np.nan, np.nan, "shrinks") for name in names if name not in moved]
        rows = pd.concat([rows, pd.DataFrame(still, columns=rows.columns)]) if still else rows
        badness = rows["exponent"].abs() + 1e6 * (rows["verdict"] != "ok")
        worst = rows.iloc[badness.argsort(kind="stable")].drop_duplicates("activation", keep="last")
        return CoordVerdict(worst.set_index("activation").loc[names], label(self.parametrization))


def against_theory(frame: CoordFrame, activation: str, quantity: str) -> str:
    """How an activation changes, by `RULE`: ``grows as theory says``, ``stays as theory says``, or what it does."""
    rows, expected = frame.changes(activation).dropna(subset="exponent"), frame.expected(quantity)
    if rows.empty:
        return "never moves"
    told = rows["verdict"].replace("ok", "stays")
    ways = {way: [str(t) for t in told.index[told == way]] for way in ("stays", "grows", "shrinks") if way in set(told)}
    moves = ", ".join(way + f" at step {listing(steps)}" * (len(ways) > 1) for way, steps in ways.items())
    if expected is None:
        return moves
    wanted = "grows" if expected.exponent else "stays"
    over = rows["exponent"].iloc[0] - expected.exponent
    if moves != wanted:
        return f"{moves}; theory says it {wanted}"
    if wanted == "grows" and (over < -TOLERANCE or (over > TOLERANCE and not expected.at_least)):
        return f"grows, {'faster' if over > 0 else 'slower'} than theory says"
    return f"{moves} as theory says"


def coord_frames(table: pd.DataFrame, may_shrink_at_init: Iterable[str] = ()) -> list[CoordFrame]:
    """The frames of a coordinates.csv, in its order, each with those of ``may_shrink_at_init`` that it has.

    Raises `UserError` for missing columns, no rows, a value that is no number (``inf`` and ``nan`` are), and a
    (width, seed, step, activation, kind) that is missing or stands twice.
    """
    frames, allowed = [], set(may_shrink_at_init)
    for (name, optimizer), group in SCHEMA.check(table).groupby(OWNER, sort=False):
        data = group[COLUMNS].reset_index(drop=True)
        frames.append(CoordFrame(data, name, optimizer, frozenset(allowed & set(data["activation"]))))
    return frames


class CoordVerdict(dict[str, pd.Series]):
    """Activation -> its row: kind, step, exponent, low, high, verdict. ``.ok``: whether every verdict is `ok`."""

    def __init__(self, rows: pd.DataFrame, check: str) -> None:
        super().__init__((str(activation), row) for activation, row in rows.iterrows())
        self.rows, self.check = rows, check

    def __missing__(self, activation: str) -> pd.Series:
        raise KeyError(str(unknown("activation", activation, self)))

    @property
    def ok(self) -> bool:
        return bool((self.rows["verdict"] == "ok").all())

    @property
    def sentence(self) -> str:
        """Which activations do not stay, up to `MOST_NAMED` by name."""
        bad = [f"{name} ({row['verdict']})" for name, row in self.items() if row["verdict"] != "ok"]
        more = f" and {len(bad) - MOST_NAMED} more" if len(bad) > MOST_NAMED else ""
        told = f"{len(bad)} of them do not stay: {', '.join(bad[:MOST_NAMED])}{more}" if bad else "every one stays"
        return f"{self.check}, {len(self)} activations measured, values at init and changes: {told}."

    def __str__(self) -> str:
        return f"coordinate check, {self.sentence}\n{self.rows.to_string(float_format=lambda x: f'{x:+.2f}')}"


def _growth(cell: pd.DataFrame) -> Estimate:
    """Slope of log2 rms on log2 width, mean over seeds with its 95% t interval; NaN where nothing has moved."""
    grid = cell.pivot(index="seed", columns="width", values="rms")
    if not np.isfinite(grid.to_numpy()).all():
        return Estimate(np.inf)  # overflowed: no faster growth can be measured
    grid = grid.loc[:, (grid > 0).all()]
    if grid.shape[1] < 2:
        return Estimate(np.nan)
    x = np.log2(grid.columns.to_numpy(dtype=float))
    return Estimate.mean(np.log2(grid.to_numpy()) @ (x - x.mean()) / ((x - x.mean()) ** 2).sum())


def coordinate_figure(
    frames: Sequence[CoordFrame], out: Path, *, activations: Mapping[str, str] | None = None, **page: str
) -> list[Path]:
    """Draw ``out/coordinate_check.png`` and ``.svg``: one row per frame (SP, µP), one column per activation.

    Each panel shows the root mean square of x_t - x_0 against width, one line per step t, with the growth exponent and
    the verdict of the last step. A dot is a mean over seeds (geometric), the bar its range. Returns the two paths.

    activations: up to four of the frames' names -> what stands above the panels; default: spread over the network, the
        output last. page: its ``caption``, and a ``banner`` across the top (stand-in data).
    Raises `UserError` for no frame, or an activation that a frame does not have.
    """
    if not frames:
        raise UserError("a coordinate figure needs at least one frame of coord_check.")
    names = frames[0].activations
    spread = np.linspace(0, len(names) - 1, min(MOST_COLUMNS, len(names))).round().astype(int)
    headings = activations or {names[k]: names[k] for k in spread}
    steps = frames[0].data.query("kind == 'change' and rms > 0")["step"]
    looks = line_looks(sorted(steps.unique()))
    share: dict[str, Any] = {"sharex": True, "sharey": "col", **page}
    with paper_style(small=True):
        figure, panels = new_page(len(frames), len(headings), 2.1, legends=[line_signs("t =", looks)], **share)
        for row, frame in zip(panels, frames, strict=True):
            row[0].set_ylabel(f"{label(frame.parametrization)}, {frame.optimizer}\nrms of $x_t - x_0$")
            for axes, (name, heading) in zip(row, headings.items(), strict=True):
                moved, told, color = frame.changes(name).dropna(subset="exponent"), "never moves", WARNING
                for step, look in looks.items():
                    _line(axes, frame, name, int(step), **look)
                log_scales(axes)
                for verdict, exponent in moved[["verdict", "exponent"]].tail(1).itertuples(index=False):
                    told, color = f"{verdict}: width$^{{{exponent:.2f}}}$", "black" if verdict == "ok" else WARNING
                axes.set_title(f"{heading}\n{told}", color=color)
        for axes in panels[-1]:
            axes.set_xlabel("width")
            axes.set_ylim(_decade(*axes.get_ylim()))  # of a column: they share it
        return save(figure, Path(out), "coordinate_check")


def read_coordinates(folder: FigureFolder) -> Shown:
    """What is drawn and said of coordinates.csv: one frame per parametrization.

    ``folder["coordinates"]`` has ``activations`` (activation -> heading of its panels: a quantity of `ADAM`, perhaps
    with a comma and more behind it), and may have ``lr`` (the base learning rate) and ``may_shrink_at_init``
    (activations). Raises `UserError` as `coord_frames` does, and for what is missing or unknown.
    """
    settings = folder["coordinates"]
    activations, lr = settings["activations"], settings.get("lr", "")
    frames = coord_frames(read_texts(folder.path / "coordinates.csv"), settings.get("may_shrink_at_init", ()))
    agrees = "as theory says"
    steps = sorted({step for frame in frames for step in frame.data["step"]} - {0})
    rows, reasons, parts, words = list[tuple[str, ...]](), list[str](), list[Part](), dict[str, list[str]]()
    for frame in frames:
        name = label(frame.parametrization)
        for activation, heading in activations.items():
            quantity = heading.partition(",")[0]
            told, expected = against_theory(frame, activation, quantity), frame.expected(quantity)
            changes = frame.changes(activation)
            cells = [_cell(row) for _, row in changes.reindex(steps).iterrows()]
            rows.append((name, heading, *cells, str(expected or "-"), f"**{told}**"))
            if expected:
                reasons.append(f"- {name}, {quantity}, {expected}: {expected.reason}.")
            moved = changes.dropna(subset="exponent")
            first = f" (width^{_cell(moved.iloc[0])} after step {moved.index[0]})" if len(moved) else ""
            words.setdefault(name, []).append(f"{heading}: {told}{first}")
            verdict = agrees if told.endswith(agrees) else told
            parts.append(Part.of(f"{name}: {heading}", told, verdict, agrees if expected else None))
    optimizers = listing(list(dict.fromkeys(frame.optimizer for frame in frames)))
    why = f"The exponent that theory expects, and why ({optimizers}; n: width, d: size of a head):"
    section = [
        "## Coordinate check: how fast do changes grow with width?",
        "Growth exponents of the change since init with their 95% intervals (a change is width to this power):",
        grid(("", "change of", *(f"t = {step}" for step in steps), "theory", "verdict"), rows),
        *([why, "\n".join(dict.fromkeys(reasons))] if reasons else []),
        "All that was measured:",
        "\n".join(f"- {frame.verdict().sentence}" for frame in frames),
        f"Rule: {RULE}",
    ]

    def draw(folder: FigureFolder) -> list[Path]:
        seeds = counted([max(frame.data["seed"].nunique() for frame in frames)], "seed")
        text = f"Rows: {listing([*words])}; lines: after t steps. Dots: geometric mean over {seeds}, bars: range. "
        text += f"Titles: growth with width at the last step.{f' Learning rate: {lr}.' if lr else ''}"
        caption = folder.caption(text, "Figure 5")
        return coordinate_figure(frames, folder.path, activations=activations, caption=caption, banner=folder.banner)

    lines = [f"Coordinate check, {name}: {'; '.join(told)}." for name, told in words.items()]
    claim = Claim("Figure 5", FIGURE_5, tuple(parts), picture="coordinate_check")
    pictures = {"coordinate_check": "Growth with width of the change of activations over a few steps"}
    return Shown(lines, "\n\n".join(section), claim, pictures, draw)


def _cell(row: pd.Series) -> str:
    """An exponent with its interval, or why there is none."""
    if np.isnan(row["exponent"]):
        return "has not moved"
    return "overflows" if np.isinf(row["exponent"]) else Estimate(row["exponent"], row["low"], row["high"]).brief()


def _line(ax: Axes, frame: CoordFrame, name: str, step: int, **look: Any) -> None:
    rows = frame.data.query("activation == @name and kind == 'change' and step == @step and rms > 0")
    logs = np.log(rows.replace(np.inf, np.nan).pivot(index="seed", columns="width", values="rms"))
    if logs.empty:
        return  # nothing moved at this step, as behind a readout of zeros
    mean, low, high = (np.exp(part.to_numpy()) for part in (logs.mean(), logs.min(), logs.max()))
    ax.errorbar(logs.columns, mean, [mean - low, high - mean], elinewidth=0.7, **look)


def _decade(low: float, high: float) -> tuple[float, float]:
    """At least a decade about the same middle: a change that stays must look as if it did."""
    middle, half = np.sqrt(low * high), max(np.sqrt(high / low), np.sqrt(10))
    return float(middle / half), float(middle * half)
