"""The store keeps what it was given and refuses, in one line, what it cannot keep."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from mutransfer.errors import UserError
from mutransfer.runs.store import SCHEMA_VERSION, Damaged, Store
from mutransfer.runs.table import to_frame, write_csv
from mutransfer.training.spec import RunRecord
from tests.runs.stores import ids, many, record


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    """Every field, inf and nan included, after closing; a folder that is missing is made."""
    path = tmp_path / "a" / "b" / "store.sqlite"
    good, bad = record(), record(log2_lr=5, status="diverged", train_loss=math.inf)
    with Store(path) as store:
        store.put(good)
        store.put(bad)
    with Store(path) as store:
        found = store.get([*ids(good, bad), "absent"])
    assert [repr(found[i]) for i in ids(good, bad)] == [repr(good), repr(bad)]
    assert len(found) == 2


def test_a_record_is_on_the_disk_when_put_returns(tmp_path: Path) -> None:
    """A copy of the files taken at that moment, as a kill would leave them, has the record."""
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        store.put(record())
        (tmp_path / "copy").mkdir()
        for file in tmp_path.glob("store.sqlite*"):
            (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
        assert store._connection().execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert ids(*Store.read(tmp_path / "copy" / "store.sqlite")) == ids(record())


def test_one_commit_for_many(tmp_path: Path) -> None:
    """A commit waits for the disk: records that come together cost one; when one is bad, none is half in."""
    records = many(5)
    statements: list[str] = []
    with Store(tmp_path / "store.sqlite") as store:
        store._connection().set_trace_callback(statements.append)
        store.put_many(records)
        assert sum(s.startswith("COMMIT") for s in statements) == 1
        bad = record(seed=9, steps_done=None)
        with pytest.raises(UserError):
            store.put_many([record(seed=8), bad])
        assert store.done(ids(record(seed=8), *records)) == set(ids(*records))


def test_done_parses_nothing(tmp_path: Path) -> None:
    """A finished plan of 10,000 runs is recognised without its curves; what is not asked for is not parsed."""
    good, failed = record(), RunRecord.failed(record(seed=1).spec, "killed")
    broken = record(seed=2)
    with Store(tmp_path / "store.sqlite") as store:
        store.put_many([good, failed, broken])
        store._connection().execute("UPDATE runs SET record = '{' WHERE run_id = ?", ids(broken))
        assert store.done([*ids(good, failed, broken), "absent"]) == set(ids(good, broken))
        assert list(store.get(ids(good, failed))) == ids(good)
        assert [r.status for r in store.records(ids(failed, good))] == [
            r.status for r in sorted([failed, good], key=lambda r: r.spec.run_id)
        ]
        with pytest.raises(Damaged, match="a row is damaged"):
            list(store.records())


def test_failed_runs_are_not_done_and_give_way(tmp_path: Path) -> None:
    """A failed run is retried by the next sweep, and its result takes the place of the failure."""
    path = tmp_path / "store.sqlite"
    good = record()
    with Store(path) as store:
        store.put(RunRecord.failed(good.spec, "killed"))
        assert store.get(ids(good)) == {}
        assert [r.status for r in Store.read(path)] == ["failed"]
        store.put(good)
        assert list(store.get(ids(good))) == ids(good)
    assert [r.status for r in Store.read(path)] == ["finished"]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    """Two drivers on one store would run everything twice; the second is told of the first. Readers may."""
    path = tmp_path / "store.sqlite"
    (tmp_path / "link").symlink_to(path)
    with Store(path) as store:
        store.put(record())
        for name in (path, tmp_path / "link"):
            with pytest.raises(UserError, match=r"in use .*\(process \d+\); wait .* --out"), Store(name):
                pass
        assert len(Store.read(path)) == 1
    with Store(path):
        pass


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """The run that does not fit is an error that says so; those before it are kept and the store goes on."""
    path = tmp_path / "store.sqlite"
    records = [record(log2_lr=-i) for i in range(40)]
    with Store(path) as store:
        db = store._connection()
        db.execute(f"PRAGMA max_page_count={db.execute('PRAGMA page_count').fetchone()[0] + 2}")
        put = 0
        with pytest.raises(UserError, match=r"full; free space .* are kept"):
            for r in records:
                store.put(r)
                put += 1
    assert 0 < put < len(records)
    with Store(path) as store:
        assert set(store.get(ids(*records))) == set(ids(*records[:put]))
        store.put(records[put])


def _garbage(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 100)


def _foreign(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE recipes (name TEXT)")
    db.close()


def _future(path: Path) -> None:
    with Store(path) as store:
        store._connection().execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")


def _truncated(path: Path) -> None:
    with Store(path) as store:
        for i in range(20):
            store.put(record(log2_lr=-i))
    path.write_bytes(path.read_bytes()[:6000])


def _bad_row(path: Path) -> None:
    with Store(path) as store:
        store.put(record())
        with store._connection() as db:
            db.execute("UPDATE runs SET record = '{}'")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_garbage, "not a database"),
        (_foreign, "not the store of a sweep"),
        (_future, "newer mutransfer"),
        (_truncated, "damaged"),
        (_bad_row, "damaged"),
        (Path.mkdir, "not a file"),
    ],
)
def test_what_is_no_store_is_refused_and_left_alone(spoil, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The error names the file and says what to do; the file, maybe somebody's data, keeps its bytes."""
    path = tmp_path / "store.sqlite"
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(UserError, match=message) as caught, Store(path) as store:
        store.get(ids(record()))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert before is None or path.read_bytes() == before
    with pytest.raises(UserError):
        Store.read(path)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """A file where the folder should be; a file system that takes no files (as root, chmod stops nobody)."""
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file" / "store.sqlite", Path("/proc/mutransfer/store.sqlite")):
        with (
            pytest.raises(UserError, match=r"cannot write in .*; make it writable or use another --out"),
            Store(path),
        ):
            pass
    assert (tmp_path / "file").read_text() == "mine"


def test_an_empty_file_is_a_new_store(tmp_path: Path) -> None:
    """A kill between the making of the file and its first page leaves an empty one: go on from there."""
    path = tmp_path / "store.sqlite"
    path.touch()
    with Store(path) as store:
        store.put(record())
    with pytest.raises(UserError, match="no store at"):
        Store.read(tmp_path / "absent")


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
    write_csv(to_frame(records), path)
    again = pd.read_csv(path)
    pd.testing.assert_frame_equal(again, to_frame(reversed(records)), check_exact=True)
    order = [tuple(row) for row in again[["parametrization", "width", "log2_lr", "seed"]].itertuples(index=False)]
    assert order == [
        ("sp", 8, -10, 0),
        ("sp", 8, -10, 1),
        ("sp", 8, -3.5, 0),
        ("sp", 16, -4, 0),
        ("mup", 8, -4, 0),
    ]
    diverged = path.read_text().splitlines()[3]
    assert ",diverged,inf,nan," in diverged
    assert ",," not in path.read_text()


def test_runs_csv_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in mid-write leaves the committed file as it was and no litter beside it."""
    path = tmp_path / "runs.csv"
    write_csv(to_frame([record()]), path)
    before = path.read_bytes()

    def full_disk(file: Path, content: bytes) -> int:
        with file.open("wb") as half:
            half.write(content[:100])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="No space left"):
        patch.setattr(Path, "write_bytes", full_disk)
        write_csv(to_frame([record(train_loss=0.5)]), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UserError, match="cannot write"):
        write_csv(to_frame([]), path / "runs.csv")


def test_to_frame_of_nothing_has_the_columns() -> None:
    """Code that filters an empty table must not stumble over a missing column."""
    assert list(to_frame([])) == list(to_frame([record()]))
