"""The runs table: what `mutransfer.results` reads, what is committed as runs.csv, and ``./reproduce.sh runs``."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mutransfer.errors import UserError, unknown
from mutransfer.files import write
from mutransfer.runs.store import SCHEMA, Row, Store, Where, existing
from mutransfer.training.spec import STATUSES, RunRecord

if TYPE_CHECKING:
    import pandas as pd

_SPEC_COLUMNS = ["run_id", "experiment", "variant", "parametrization", "width", "base_width", "log2_lr"]
_SPEC_COLUMNS += ["seed", "steps", "batch", "momentum", "precision", "data", "data_fingerprint"]
_RECORD_COLUMNS = ["status", "train_loss", "test_loss", "test_accuracy", "steps_done", "wall_seconds"]
COLUMNS = [*_SPEC_COLUMNS, *_RECORD_COLUMNS]


def to_frame(records: Iterable[RunRecord], hps: Sequence[str] = ()) -> pd.DataFrame:
    """One row per run, `COLUMNS` and the experiment's own hyperparameters ``hps`` in this order.

    Sorted by parametrization (SP first), width, log2 LR and seed.

    ``train_loss`` is ``inf`` for a diverged run and ``nan`` for a failed one; ``test_loss`` and
    ``test_accuracy`` are ``nan`` for both. Only ``wall_seconds`` may differ when a run is repeated.
    """
    import pandas as pd  # not above: listing runs needs none

    def place(record: RunRecord) -> tuple[object, ...]:
        s = record.spec
        name = s.parametrization
        return (s.experiment, s.variant, name != "sp", name, s.width, s.log2_lr, s.seed, s.run_id)

    def row(record: RunRecord) -> list[object]:
        values = [getattr(record.spec, n) for n in _SPEC_COLUMNS] + [getattr(record, n) for n in _RECORD_COLUMNS]
        return values + [record.spec.hp(n) for n in hps]

    # the records themselves, with their curves, go one by one
    return pd.DataFrame([values for _, values in sorted((place(r), row(r)) for r in records)], columns=[*COLUMNS, *hps])


def curve_rows(runs: Iterable[tuple[str, RunRecord]]) -> pd.DataFrame:
    """curves.csv: the loss curve of every (panel, run), one row per point."""
    import pandas as pd

    rows = []
    for panel, record in runs:
        s = record.spec
        tokens = s.batch * int(dict(s.hps).get("length", 1))
        for step, loss in record.logged():
            rows.append((panel, s.parametrization, s.width, s.log2_lr, s.seed, step, step * tokens, loss))
    names = ["panel", "parametrization", "width", "log2_lr", "seed", "step", "tokens", "loss"]
    return pd.DataFrame(rows, columns=names).sort_values(names[:-1], ignore_index=True)


def write_csv(frame: pd.DataFrame, path: Path | str) -> str:
    """Write ``frame`` so that it reads back exactly: floats in full, ``inf`` and ``nan`` spelled out.

    The file is replaced whole or not at all; returns its sha256. Raises `UserError` if it cannot be written.
    """
    content = frame.to_csv(index=False, na_rep="nan", lineterminator="\n").encode()
    write(Path(path), content)
    return hashlib.sha256(content).hexdigest()


_SHOWN = "run_id variant parametrization width log2_lr seed steps status train_loss wall_seconds precision"
_SHOWN += " finished_at reason"
_FORMATS = {"log2_lr": "g", "train_loss": "#.5g", "wall_seconds": ".1f"}
_ORDER = "experiment, variant, parametrization != 'sp', parametrization, width, log2_lr, seed, run_id"  # as `to_frame`
_COLUMNS = [name for name in SCHEMA if name != "record"]
_NUMBERS = {name for name, kind in SCHEMA.items() if not kind.startswith("TEXT")}
_CONDITION = re.compile(r"\s*([\w.]+)\s*(<=|>=|!=|==?|<|>)\s*(.*?)\s*")
_HPS = "(SELECT json_group_array(json_extract(value, '$[0]')) FROM json_each(record, '$.spec.hps'))"
_HP = "(SELECT json_extract(value, '$[1]') FROM json_each(record, '$.spec.hps') WHERE json_extract(value, '$[0]') = ?)"


def runs(
    path: Path,
    *,
    where: Sequence[str] = (),
    export: Path | None = None,
    delete: bool = False,
    every: bool = False,
    yes: bool = False,
    salvage: bool = False,
) -> int:
    """Print the runs of the store at ``path`` as a table; or export, delete or salvage them, as the command line says.

    Returns 0, or 1 if the deletion was declined. Raises `UserError`, with nothing changed, if there is no store, it is
    damaged or in use (to delete or salvage), a condition makes no sense, the export cannot be written, or the options
    contradict each other.
    """
    suffix = export.suffix if export is not None else ".csv"
    for is_wrong, problem in [
        (
            (export is not None) + delete + salvage > 1,
            "export, delete and salvage are three commands: give one.",
        ),
        ((every or yes) and not delete, "--all and --yes belong to --delete."),
        (delete and bool(where) == every, "delete which runs? Give --where, such as --where status=failed, or --all."),
        (salvage and where, "--salvage keeps every run that can be read: it takes no --where."),
        (suffix not in (".csv", ".parquet"), f"cannot export to {export}: expected a name with .csv or .parquet."),
    ]:
        if is_wrong:
            raise UserError(problem)
    if salvage:
        count, aside = Store.salvage(path)
        print(f"{path} has the {count} runs that could be read; the damaged file is {aside}")
        return 0
    with Store(existing(path), read_only=not delete) as store:
        chosen = _where(where, store)
        total = len(list(store.rows(["run_id"])))
        if delete:
            return _delete(store, chosen, total, yes)
        if export is None:
            _print(list(store.rows(_SHOWN.split(), chosen, order=_ORDER)), total)
            return 0
        frame = to_frame(store.records(where=chosen))
    if suffix == ".csv":
        write_csv(frame, export)
    else:
        content = io.BytesIO()
        frame.to_parquet(content, index=False)
        write(export, content.getvalue())
    print(f"wrote {len(frame)} of {total} runs to {export}")
    return 0


def _delete(store: Store, chosen: Where, total: int, yes: bool) -> int:
    count = len(list(store.rows(["run_id"], chosen)))
    what = f"{count} of {total} runs of {store.path}"
    if count and not yes:
        if not sys.stdin.isatty():
            raise UserError(f"{what} would be deleted, for good; to do it without being asked, add --yes.")
        print(f"delete {what}, for good? [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            print("nothing is deleted")
            return 1
    store.delete(chosen)
    print(f"deleted {what}")
    return 0


def _where(texts: Sequence[str], store: Store) -> Where:
    """The conditions in SQL. Only names that are checked here are part of it; the values are not."""
    parts, values = ["1"], list[str | float]()
    for text in texts:
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise UserError(f"--where '{text}': expected a column, = != < <= > or >=, and a value, as in width=1024.")
        name, operator, value = match.groups()
        number = None
        with contextlib.suppress(ValueError):
            number = float(value)
        expression, hp = name, name.removeprefix("hps.")
        if hp != name:
            if hp not in (known := {name for (names,) in store.rows([_HPS]) for name in json.loads(str(names))}):
                raise unknown("hyperparameter", hp, sorted(known))
            expression = _HP
            values.append(hp)
        elif name not in _COLUMNS:
            raise unknown("column", name, [*_COLUMNS, "hps.NAME"])
        elif name not in _NUMBERS:
            number = None
            if name == "status" and value not in STATUSES:
                raise unknown("status", value, STATUSES)
        elif number is None:
            raise UserError(f"--where '{text}': {name} is a number, expected one instead of '{value}'.")
        # IS, unlike =, takes what is missing (NULL) for a value of its own, different from every other
        sign = {"=": "IS", "==": "IS", "!=": "IS NOT"}.get(operator, operator)
        parts.append(f"{expression} {sign} ?")
        values.append(value if number is None else number)
    return " AND ".join(parts), values


def _print(rows: Sequence[Row], total: int) -> None:
    """Aligned columns. On a terminal, what is the same in every run is said once above, so that the lines are short."""
    lines, columns = [], []
    table = {name: [_cell(name, row[i]) for row in rows] for i, name in enumerate(_SHOWN.split()) if rows}
    counts = Counter(table.get("status", ()))
    if sys.stdout.isatty() and len(rows) > 1:
        same = {name: cells[0] for name, cells in table.items() if len(set(cells)) == 1}
        table = {name: cells for name, cells in table.items() if name not in same}
        said = ", ".join(f"{name} {cell}" for name, cell in same.items() if cell not in ("", "-"))
        lines += [f"every run: {said}"] if said else []
    for name, cells in table.items():
        width, side = max(map(len, [name, *cells])), ">" if name in _NUMBERS else "<"
        columns.append([f"{cell:{side}{width}}" for cell in [name, *cells]])
    lines += ["  ".join(cells).rstrip() for cells in zip(*columns, strict=True)]
    words = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    lines.append(f"{len(rows)} of {total} runs" + (f": {words}" if words else ""))
    try:
        print("\n".join(lines), flush=True)
    except BrokenPipeError:  # ... | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _cell(column: str, value: str | float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):  # no control characters, whatever the message of an error had in it
        return " ".join("".join(c if c.isprintable() else " " for c in value).split())
    return format(value, _FORMATS.get(column, ""))
