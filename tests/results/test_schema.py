"""A declared table: what fits passes with its numbers as numbers, and every kind of fault is named in one line."""

import pandas as pd
import pytest

from mutransfer.errors import UserError
from mutransfer.results.schema import Facts, Rows, Schema

SCHEMA = Schema(
    name="the table of pools",
    columns={"role": "text", "sample": "whole number", "seed": "whole number", "status": "text", "loss": "number"},
    choices={"role": ("pool", "target")},
    key=("role", "sample", "seed"),
    rows=(
        Rows(name="all pools", constant=("data", "steps")),
        Rows(name="the pool", where={"role": ["pool"]}, complete={"sample": range(3)}, results=("loss",)),
        Rows(name="the target", where={"role": ["target"]}, by=("sample",), complete={"seed": range(2)},
             constant=("lr",)),
        Rows(name="every sample", by=("role",), complete={"sample": None, "seed": None}),
        Rows(name="the ablation", where={"width": [1]}, may_be_none=True),
    ),
)  # fmt: skip


def table(**changes):
    """Three samples in the pool, of which one diverged, and two on the target from two inits; one cell changed."""
    rows = [("pool", i, 0, "finished", 1.0 + i, 8, 0.1) for i in range(3)]
    rows += [("target", i, seed, "finished", 0.5, 64, 0.1) for i in range(2) for seed in range(2)]
    frame = pd.DataFrame(rows, columns=["role", "sample", "seed", "status", "loss", "width", "lr"]).assign(steps=10)
    frame.loc[2, ["status", "loss"]] = ["diverged", float("nan")]
    for column, (at, value) in changes.items():
        frame[column] = frame[column].astype(object)
        frame.loc[at, column] = value
    return frame


def test_a_table_that_fits_has_numbers_for_numbers():
    """Whatever order its rows are in, and also where all of it was read as text."""
    read = SCHEMA.check(table().sample(frac=1, random_state=0))
    assert read["sample"].dtype == int and read["loss"].dtype == float and len(read) == 7
    words = table().astype({"sample": str, "loss": str})
    assert SCHEMA.check(words)["loss"].tolist()[:2] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (table().drop(columns=["sample", "loss"]), "the table of pools lacks sample, loss; run the experiment again."),
        (table()[:0], "has no rows"),
        (table(sample=(1, 0.5)), "has '0.5' as sample, expected a whole number"),
        (table(loss=(1, "low")), "has 'low' as loss, expected a number"),
        (table(role=(1, "pol")), r"unknown role in the table of pools 'pol'. Did you mean 'pool'\?"),
        (table(status=(1, "done")), "unknown status in the table of pools 'done'"),
        (table(status=(1, "failed")), "1 runs failed, first role pool, sample 1, seed 0; the same command tries them"),
        (table(loss=(1, float("inf"))), "1 runs of the pool finished without a loss, first role pool, sample 1"),
        (pd.concat([table(), table()[:2]]), "2 runs stand there twice, first role pool, sample 0, seed 0; keep one"),
        (table()[1:], "the pool lacks 1 of 3 runs, first sample 0"),
        (table(sample=(2, 9)), "the pool lacks 1 of 3 runs, first sample 2"),
        (pd.concat([table(), table()[:1].assign(sample=9)]), "the pool has sample 9, which was not planned"),
        (pd.concat([table(), table()[:1].assign(seed=9)]), "1 runs of the pool stand there twice, first role pool"),
        (table()[:-1], "the target with sample 1 lacks 1 of 2 runs, first seed 1"),
        (table().query("role == 'pool'"), "the table of pools has no runs of the target"),
        (table(lr=(4, 0.2)), r"the runs of the target with sample 0 differ in lr \(0.1, 0.2\)"),
        (table(steps=(0, 5)), r"the runs of all pools differ in steps \(10, 5\)"),
    ],
)  # fmt: skip
def test_faults_are_named(broken, message):
    with pytest.raises(UserError, match=message) as told:
        SCHEMA.check(broken)
    assert "\n" not in str(told.value)


def test_missing_facts_are_named():
    """At any depth; null is missing; what is asked for with ``get`` may be missing."""
    facts = Facts({"kind": "study", "seed": None, "proxy": {"width": 64}}, "provenance.json")
    assert facts["proxy"]["width"] == 64 and facts.get("seed", 3) == 3
    for path, name in (((), "seed"), (("proxy",), "proxy.depth")):
        inner = facts[path[0]] if path else facts
        with pytest.raises(UserError, match=f"provenance.json lacks {name}; run"):
            inner[name.split(".")[-1]]
