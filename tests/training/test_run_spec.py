"""Specs and records: one run has one name, and nothing is lost on the way to the store and back."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from dataclasses import fields, replace
from types import SimpleNamespace

import pytest

from mutransfer.errors import UserError
from mutransfer.training.spec import RunRecord, RunSpec
from tests.training.specs import spec_of

SHAPE = {"width": 64, "base_width": 64, "seed": 0, "steps": 10, "hps": (("b", 1), ("a", 2.5))}
SPEC = replace(spec_of(SimpleNamespace(fingerprint="ab")), data="d", **SHAPE)


def test_run_id_ignores_spelling() -> None:
    """-4 and -4.0, 0.0 and -0.0, the order of hps: the same run must not be run twice. And the id is as it ever was:
    stores on people's disks are keyed by it.
    """
    assert SPEC.run_id == "7f94b7b84f17c998"
    same = replace(SPEC, log2_lr=-4.0, momentum=-0.0, hps=(("a", 2.5), ("b", 1)))
    assert same == SPEC
    assert same.run_id == SPEC.run_id == pickle.loads(pickle.dumps(SPEC)).run_id


def test_run_id_depends_on_every_field() -> None:
    """A field left out of the hash would give one run's result out as another's."""
    other = {"optimizer": "adam", "momentum": 0.5, "log2_lr": -4.5, "hps": (("a", 2.5), ("b", 2))}
    ids = {SPEC.run_id}
    names = {field.name for field in fields(SPEC)} - {"precision"}  # which has one value so far
    for name in names:
        value = getattr(SPEC, name)
        changed = other[name] if name in other else value + ("2" if isinstance(value, str) else 1)
        ids.add(replace(SPEC, **{name: changed}).run_id)
    assert len(ids) == len(names) + 1


BAD: dict[str, list[object]] = {
    **{"width": [0, -3, "abc", 64.0], "steps": [True], "batch": [None], "seed": [-1], "momentum": [1.0]},
    **{"log2_lr": [math.nan, -math.inf, "-4"], "experiment": [""], "optimizer": ["sdg"], "precision": ["float8"]},
    "hps": [(("a", 1), ("a", 2)), (("a", math.nan),), (("a", [1]),)],
}


@pytest.mark.parametrize(("field", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_bad_field_is_named(field: str, value: object) -> None:
    """The user sees which field has which value, in one line."""
    with pytest.raises(UserError, match="a" if field == "hps" else field) as caught:
        replace(SPEC, **{field: value})
    assert (field == "hps" or str(value) in str(caught.value)) and "\n" not in str(caught.value)


def test_what_is_misspelt_gets_the_nearest_name() -> None:
    """A hyperparameter is not a default then, and a status, by which reports choose, drops no run in silence."""
    assert SPEC.hp("a") == 2.5
    with pytest.raises(UserError, match="Valid: a, b"):
        SPEC.hp("alpha")
    with pytest.raises(UserError, match="finished"):
        RunRecord(spec=SPEC, status="done", train_loss=1.0)


def test_json_keeps_everything() -> None:
    """What comes out of the store is what went in, to the last bit, inf and nan included."""
    assert RunSpec.from_json(SPEC.to_json()) == SPEC
    curve, values = (0.1, math.inf, -math.inf, math.nan, 1 / 3), {"steps_done": 7, "wall_seconds": 1e-300}
    more = {**values, "reason": "µ", "provenance": {"commit": "abc"}, "scores": {"x": 0.1}, "samples": (("a", "b"),)}
    record = RunRecord(spec=SPEC, status="diverged", train_loss=math.inf, loss_curve=curve, **more)
    again = RunRecord.from_json(record.to_json())
    assert repr(again) == repr(record)  # nan is not equal to itself
    assert "NaN" not in record.to_json() and "Infinity" not in record.to_json()  # strict JSON for other readers


@pytest.mark.parametrize("text", ["", "[]", "{}", SPEC.to_json()[:-1], SPEC.to_json().replace("width", "breadth")])
def test_json_of_something_else_is_refused(text: str) -> None:
    """A damaged row is an error that says so, not a spec with defaults."""
    with pytest.raises(UserError, match="not the JSON of a RunSpec"):
        RunSpec.from_json(text)


def test_a_loss_curve_knows_its_steps() -> None:
    """Chunk ends are those of the training loop; a diverged run is +inf from the chunk in which it stopped."""

    def logged(status: str, steps: int, *losses: float) -> list[tuple[int, float]]:
        spec = replace(SPEC, steps=steps)
        return RunRecord(spec=spec, status=status, train_loss=losses[-1] if losses else 9, loss_curve=losses).logged()

    assert logged("finished", 120, *range(50))[:4] == [(2, 0), (4, 1), (7, 2), (9, 3)]
    assert logged("diverged", 3, 3.0, 2.0) == [(1, 3.0), (2, math.inf), (3, math.inf)]
    assert logged("diverged", 3, 3.0, 2.0, 1.0)[-1] == (3, math.inf)  # by the test loss, say
    assert logged("diverged", 2) == [(1, math.inf), (2, math.inf)]
    with pytest.raises(UserError, match="2 points of 3"):
        logged("finished", 3, 3.0, 2.0)


WITHOUT_TORCH = [
    "mutransfer",
    "mutransfer.models.transformer_config",
    "mutransfer.parametrization.tables",
    *(f"mutransfer.training.{name}" for name in ("spec", "schedule", "provenance", "checkpoint")),
]


def test_what_names_runs_needs_no_torch() -> None:
    """A command that plans, lists or draws would wait seconds for it; names that need it bring it when used."""
    code = f"""
import importlib, sys
for name in {WITHOUT_TORCH}:
    importlib.import_module(name)
    assert "torch" not in sys.modules, name
from mutransfer.parametrization import MUP, attention_scale
from mutransfer.training.provenance import device_name, git_commit
assert device_name("cpu") and git_commit()
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
