"""A damaged store: a clear error, every run that is whole is still readable, and the sweep can go on from there."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from mutransfer.errors import UserError
from mutransfer.runs import store as database
from mutransfer.runs.store import Damaged, Store
from mutransfer.runs.table import runs
from mutransfer.training.spec import RunRecord
from tests.runs.stores import ids, many, put_and_die, record, texts, version_1

PAGE = 4096  # bytes; SQLite's default


def test_damaged_in_the_middle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line says how many runs are left and the command that keeps them; it does, and the sweep goes on."""
    path, records = tmp_path / "results" / "tiny.sqlite", many(300)
    with Store(path) as store:
        store.put_many(records)
        finished_at = set(store.rows(["finished_at"]))
    data = bytearray(path.read_bytes())
    middle = len(data) // PAGE // 2 * PAGE
    data[middle : middle + 3 * PAGE] = random.Random(0).randbytes(3 * PAGE)
    path.write_bytes(data)

    with (
        pytest.raises(Damaged, match=r"(\d+) of 300 runs can still be read; to keep them: (.*)\.$") as caught,
        Store(path),
    ):
        pass
    left = caught.value.readable
    assert 285 <= left < 300  # three pages, two or three runs on each
    assert "\n" not in str(caught.value)
    assert f"./reproduce.sh runs tiny --salvage --out {tmp_path}." in str(caught.value)
    assert path.read_bytes() == data
    with pytest.raises(Damaged):
        runs(path, delete=True, every=True, yes=True)

    assert runs(path, export=tmp_path / "left.csv") == 1
    output = capsys.readouterr()
    assert output.out == f"wrote {left} of {left} runs to {tmp_path / 'left.csv'}\n"
    assert f"{left} of 300 runs can still be read" in output.err

    assert runs(path, salvage=True) == 0
    assert (tmp_path / "results" / "tiny.sqlite.damaged").read_bytes() == data
    with Store(path) as store:
        found = list(store.records())
        assert len(found) == left
        assert texts(found) < texts(records)
        assert set(store.rows(["finished_at"])) == finished_at
        store.put_many(records)
    assert texts(Store.read(path)) == texts(records)
    assert runs(path) == 0


@pytest.mark.parametrize("is_old", [False, True], ids=["this version", "version 1"])
def test_a_lost_page_costs_only_its_own_runs(is_old: bool, tmp_path: Path) -> None:
    """Whichever page it is, the file's header and the roots of its trees too: every run is lost with its page alone."""
    big = record(seed=99, loss_curve=tuple(i / 7 for i in range(1000)))  # on several pages
    path, records = tmp_path / "store.sqlite", [*many(12), big, *many(25)[12:]]
    if is_old:
        version_1(path, records)
    else:
        with Store(path) as store:
            store.put_many(records)
    whole = path.read_bytes()
    assert found(path) == texts(records)
    lost: Counter[str] = Counter()
    for start in range(0, len(whole), PAGE):
        path.write_bytes(whole[:start] + bytes(PAGE) + whole[start + PAGE :])
        lost.update(texts(records) - found(path))
    assert lost.pop(repr(big)) == len(big.to_json()) // PAGE + 1
    assert lost == dict.fromkeys(texts(many(25)), 1)


def found(path: Path) -> set[str]:
    return {repr(RunRecord.from_json(str(row[-1]))) for row in database.readable(path)}


def test_what_was_deleted_or_replaced_does_not_come_back(tmp_path: Path) -> None:
    """A page that is free still has bytes: what is read from the pages is what SQLite reads, after any history."""
    rng = random.Random(0)
    with Store(tmp_path / "store.sqlite") as store:
        for _ in range(30):
            store.put_many(
                RunRecord.failed(r.spec, "killed" * rng.randrange(9)) if rng.random() < 0.3 else r
                for r in rng.sample(many(60), 10)
            )
            if rng.random() < 0.3:
                store.delete(("seed % 3 = ?", (rng.randrange(3),)))
            assert found(store.path) == texts(list(store.records()))
    assert 0 < len(found(store.path)) < 60


def test_damage_beside_a_log(tmp_path: Path) -> None:
    """A killed driver's last runs are in the log; they are saved too, and the log is not applied to the new file."""
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        store.put_many(many(200)[100:])
    put_and_die(path, 20)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // PAGE // 2 * PAGE)
        file.write(random.Random(0).randbytes(PAGE))
    with pytest.raises(Damaged):
        Store.read(path)
    count, aside = Store.salvage(path)
    assert 117 <= count < 120
    assert texts(many(20)) < texts(Store.read(path)) < texts([*many(20), *many(200)[100:]])
    assert not path.with_name(path.name + "-wal").exists()
    assert aside.name == "store.sqlite.damaged"
    with pytest.raises(UserError, match="is whole"):
        Store.salvage(path)


def test_nothing_to_salvage(tmp_path: Path) -> None:
    """Somebody's file that is no store is not promised any run, and is left where it is."""
    path = tmp_path / "store.sqlite"
    path.write_bytes(random.Random(0).randbytes(20 * PAGE))
    before = path.read_bytes()
    for act in (Store.read, runs, lambda p: runs(p, salvage=True)):
        with pytest.raises(UserError, match="move it away and run again"):
            act(path)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.damaged*"))


def test_damage_of_any_kind_is_one_line(tmp_path: Path) -> None:
    """Bytes changed anywhere, the end cut off: never another error than the user's, never a run that was not put."""
    path, records = tmp_path / "store.sqlite", many(15)
    with Store(path) as store:
        store.put_many(records)
    whole, specs = path.read_bytes(), set(ids(*records))
    rng = random.Random(0)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 3, 20])):
            junk = rng.randbytes(rng.choice([1, 4, 64, 700]))
            at = rng.randrange(len(data) - len(junk))
            data[at : at + len(junk)] = junk
        path.write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
        assert {row[0] for row in database.readable(path)} <= specs
        try:
            assert set(ids(*Store.read(path))) <= specs
        except UserError as error:
            assert "\n" not in str(error)
