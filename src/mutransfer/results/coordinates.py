"""The coordinate check's claim: how fast does each activation, and its change, grow with width (App. D.1)?

The rule, fixed before any result. For one activation at one step, the growth exponent is the slope of log2(rms)
against log2(width), with a t interval over seeds. Theory wants 0, and the smallest deviation it allows a wrong
parametrization is 1/2; so an exponent above +0.25 `grows`, below -0.25 `shrinks`, else it is `ok`. An activation's
verdict is that of its worst row: its value at init (step 0) and its change since init after each step. Readouts and
the model's output, and what the caller lists (attention logits), may shrink at init, by the law of large numbers.

Against theory (`against_theory`), also fixed before any result: where theory expects a change to stay, every step must
be `ok`. Where it expects growth, its exponent is derived for the first step at which the quantity moves, and must be
met there within the same 0.25; later, moves of changing sign partly cancel and add up, so every later step must still
be `grows`, at whatever rate.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mutransfer.errors import UserError, unknown
from mutransfer.results.estimate import listing, t_half

TOLERANCE = 0.25
COLUMNS = ["width", "seed", "step", "activation", "kind", "rms"]
OWNER = ["parametrization", "optimizer"]
"""Whose rows they are; with `COLUMNS`, the columns of a coordinates.csv."""


@dataclass(frozen=True)
class Expected:
    """The growth exponent of a change that theory derives, and from what.

    at_least: the exponent is a lower bound.
    """

    exponent: float
    reason: str
    at_least: bool = False

    def __str__(self) -> str:
        return f"{'at least ' if self.at_least else ''}{self.exponent:g}"

    def met_by(self, exponent: float) -> bool:
        """Whether ``exponent`` is within `TOLERANCE` of it (or above, for a lower bound)."""
        over = exponent - self.exponent
        return over >= -TOLERANCE and (self.at_least or over <= TOLERANCE)


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
    "word embedding": {
        # a look-up: one weight a coordinate, no sum over the width; Adam's input LR is SP's own in µP (Table 3)
        "sp": Expected(0.0, "a look-up sums over nothing: each coordinate moves by the LR"),
        "mup": Expected(0.0, "a look-up sums over nothing: each coordinate moves by the LR"),
    },
}
"""Quantity of Figure 5 -> parametrization -> growth exponent of its change under Adam (App. D.1; J.2.1)."""
THEORIES: Mapping[str, Mapping[str, Mapping[str, Expected]]] = {"adam": ADAM, "adamw": ADAM}
"""By optimizer."""


@dataclass(frozen=True)
class CoordFrame:
    """What `coord_check` measured.

    data: one row a (width, seed, step, activation, kind) with ``rms``, the root mean square of the coordinates;
        kind ``value``: of x_t; kind ``change``: of x_t - x_0 on the same input.
    may_shrink_at_init: activations whose value at init is allowed to vanish with width.
    """

    data: pd.DataFrame
    parametrization: str
    optimizer: str
    may_shrink_at_init: frozenset[str] = frozenset()

    def exponents(self) -> pd.DataFrame:
        """One row an (activation, kind, step) with exponent, low, high (95%) and verdict."""
        rows = []
        for (activation, kind, step), cell in self.data.groupby(["activation", "kind", "step"], sort=False):
            if (kind == "value") == (step == 0):
                allowed = kind == "value" and activation in self.may_shrink_at_init
                fit = _growth(cell)
                rows.append((activation, "init" if step == 0 else "change", step, *fit, _verdict(fit[0], allowed)))
        names = ["activation", "kind", "step", "exponent", "low", "high", "verdict"]
        return pd.DataFrame(rows, columns=names).dropna(subset="verdict").reset_index(drop=True)

    def changes(self, activation: str) -> pd.DataFrame:
        """``exponents`` of the change of one activation, a row a step (index); a step at which it has not moved yet
        has exponent NaN.
        """
        if activation not in set(self.data["activation"]):
            raise unknown("activation", activation, dict.fromkeys(self.data["activation"]))
        changes = self.data[self.data["kind"] == "change"]
        rows = replace(self, data=changes[changes["activation"] == activation]).exponents().set_index("step")
        return rows.drop(columns=["activation", "kind"]).reindex(sorted(changes["step"].unique()))

    def expected(self, quantity: str) -> Expected | None:
        """What theory says of the change of ``quantity`` (a key of `ADAM`); None where this suite derives nothing."""
        theory = THEORIES.get(self.optimizer, {})
        if theory and quantity not in theory:
            raise unknown("quantity of the coordinate check", quantity, theory)
        return theory.get(quantity, {}).get(self.parametrization)

    def verdict(self) -> CoordVerdict:
        """The verdict on every activation: that of its worst row."""
        rows = self.exponents()
        rows["badness"] = rows["exponent"].abs() + np.where(rows["verdict"] == "ok", 0, 1e6)
        # an activation that never moves has no exponent at all: it is the extreme of shrinking
        moved = set(rows.loc[rows["kind"] == "change", "activation"])
        order = list(dict.fromkeys(self.data["activation"]))
        still = [(a, "change", 0, -np.inf, np.nan, np.nan, "shrinks", np.inf) for a in order if a not in moved]
        rows = pd.concat([rows, pd.DataFrame(still, columns=rows.columns)]) if still else rows
        worst = rows.sort_values("badness", kind="stable").groupby("activation", sort=False).tail(1)
        worst = worst.set_index("activation").loc[order].drop(columns="badness")
        return CoordVerdict(worst, self.parametrization, self.optimizer)


def against_theory(frame: CoordFrame, activation: str, quantity: str) -> str:
    """The change of an activation in words, by the rule above: ``grows as theory says``, ``stays as theory says``,
    or what it does instead.
    """
    rows, expected = frame.changes(activation).dropna(subset="exponent"), frame.expected(quantity)
    if rows.empty:
        return "never moves"
    ways = {way: list(rows.index[rows["verdict"] == way]) for way in ("ok", "grows", "shrinks")}
    told = [way for way, steps in ways.items() if steps]
    if len(told) > 1:
        words = [f"{'stays' if way == 'ok' else way} at step {listing([str(t) for t in ways[way]])}" for way in told]
        found = ", ".join(words)
    else:
        found = "stays" if told == ["ok"] else told[0]
    if expected is None:
        return found
    if expected.exponent == 0 or told != ["grows"]:
        wanted = "grows" if expected.exponent else "stays"
        return f"{found} as theory says" if found == wanted else f"{found}; theory says it {wanted}"
    first = rows["exponent"].iloc[0]
    if expected.met_by(first):
        return "grows as theory says"
    return f"grows, {'faster' if first > expected.exponent else 'slower'} than theory says"


def to_csv(frames: Sequence[CoordFrame]) -> str:
    """The text of a coordinates.csv: the rows of every frame, with whose they are. Floats are written exactly."""
    parts = [frame.data.assign(parametrization=frame.parametrization, optimizer=frame.optimizer) for frame in frames]
    table = pd.concat([part[[*OWNER, *COLUMNS]] for part in parts])
    return table.to_csv(index=False, na_rep="nan", lineterminator="\n")


def from_csv(text: str, may_shrink_at_init: Iterable[str] = ()) -> list[CoordFrame]:
    """The frames that `to_csv` wrote, in its order, each with those of ``may_shrink_at_init`` that it has.

    Raises `UserError` for missing columns, no rows, a value that is no number (``inf`` and ``nan`` are), and a
    (width, seed, step, activation, kind) that is missing or stands twice.
    """
    try:
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"coordinates.csv is no table ({error}); run the experiment again.") from error
    missing = [name for name in [*OWNER, *COLUMNS] if name not in table.columns]
    if missing or table.empty:
        what = f"lacks {', '.join(missing)}" if missing else "has no rows"
        raise UserError(f"coordinates.csv {what}; run the experiment again.")
    try:
        table = table.astype(dict.fromkeys(["width", "seed", "step"], int) | {"rms": float})
    except ValueError as error:
        raise UserError(f"coordinates.csv holds no number ({error}); run the experiment again.") from error
    frames, allowed = [], set(may_shrink_at_init)
    for (name, optimizer), group in table.groupby(OWNER, sort=False):
        data = group[COLUMNS].reset_index(drop=True)
        _require_complete(name, data)
        frames.append(CoordFrame(data, name, optimizer, frozenset(allowed & set(data["activation"]))))
    return frames


def _require_complete(name: str, data: pd.DataFrame) -> None:
    """Every (activation, kind, step) must have every (width, seed), once."""
    runs = len(data[["width", "seed"]].drop_duplicates())
    whole = data["width"].nunique() * data["seed"].nunique()
    for (activation, kind, step), cell in data.groupby(["activation", "kind", "step"], sort=False):
        if len(cell) != whole or runs != whole or cell.duplicated(["width", "seed"]).any():
            raise UserError(
                f"coordinates.csv has {len(cell)} rows where {whole} (width, seed) belong: '{name}', the {kind} of "
                f"'{activation}' at step {step}; run the experiment again."
            )


@dataclass(frozen=True)
class CoordVerdict(Mapping[str, pd.Series]):
    """A row an activation (kind, step, exponent, low, high, verdict). ``.ok`` is True when every verdict is `ok`."""

    table: pd.DataFrame
    parametrization: str
    optimizer: str

    @property
    def ok(self) -> bool:
        return bool((self.table["verdict"] == "ok").all())

    def __getitem__(self, activation: str) -> pd.Series:
        if activation not in self.table.index:
            raise KeyError(str(unknown("activation", activation, self.table.index)))
        return self.table.loc[activation]

    def __iter__(self) -> Iterator[str]:
        return iter(self.table.index)

    def __len__(self) -> int:
        return len(self.table)

    def __str__(self) -> str:
        bad = int((self.table["verdict"] != "ok").sum())
        head = "all ok" if self.ok else f"{bad} of {len(self)} activations do not stay"
        return f"coordinate check, {self.parametrization}, {self.optimizer}: {head}\n" + self.table.to_string(
            float_format=lambda x: f"{x:+.2f}"
        )


def _growth(cell: pd.DataFrame) -> tuple[float, float, float]:
    """Slope of log2 rms on log2 width, mean over seeds, with its 95% t interval (NaN for one seed)."""
    grid = cell.pivot(index="seed", columns="width", values="rms")
    if not np.isfinite(grid.to_numpy()).all():
        return np.inf, np.nan, np.nan  # overflowed: no faster growth can be measured
    grid = grid.loc[:, (grid > 0).all()]
    if grid.shape[1] < 2:
        return np.nan, np.nan, np.nan
    x = np.log2(grid.columns.to_numpy(dtype=float))
    slopes = np.log2(grid.to_numpy()) @ (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    half = t_half(slopes)
    return float(slopes.mean()), float(slopes.mean() - half), float(slopes.mean() + half)


def _verdict(exponent: float, may_shrink: bool) -> str | None:
    if np.isnan(exponent):
        return None  # all zero, as behind a readout that starts at zero: says nothing at this step
    if exponent > TOLERANCE:
        return "grows"
    return "shrinks" if exponent < -TOLERANCE and not may_shrink else "ok"
