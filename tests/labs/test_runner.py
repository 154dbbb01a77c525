"""``./reproduce.sh lab``: what is written, what is kept, what is said; and the two notebooks of each lab."""

import ast
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import nbformat
import pytest

from labs import run
from labs.checks import base

LABS = run.texts()
CELLS = """# %%
import os
import sys

from labs.checks.base import exercise


@exercise("1a")
def check(x):
    return None if x == 4 else f"you gave {x}."


print(sys.executable, os.environ.get("MUTRANSFER_LAB_SCALE"), os.getpid())

# %%
# EXERCISE 1a: two and two
# STUDENT: x = ...
x = 2 + 2

# %%
check(x)
"""


@pytest.fixture
def course(tmp_path):
    """A course of one small lab."""
    header = LABS["1"].read_text().split("# %% [markdown]")[0]
    (tmp_path / "lab1_small.py").write_text(header + CELLS)
    return tmp_path


def first_line(path):
    """What the first cell said: the kernel's Python and scale. The kernel, whose number it said too, must be gone."""
    *said, pid = nbformat.read(path, as_version=4).cells[0].outputs[0].text.split()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    return said


def edit(path, answer):
    """What a student does in the editor."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].source = f"# EXERCISE 1a: two and two\nx = {answer}"
    nbformat.write(notebook, path)


def test_a_student_s_way(course, capsys):
    """First a fresh notebook; then the student's answers are judged and never written over, a mistake is named."""
    path = course / "work" / "lab1_small.ipynb"
    assert run.main(["1", "--smoke"], course) == 0
    said = capsys.readouterr()
    assert "1a: not done yet: replace the ..." in said.out and "0 of 1 right in" in said.out
    assert "--open" in said.out and said.err == ""
    assert first_line(path) == [sys.executable, "smoke"]

    edit(path, "5")
    assert run.main(["1"], course) == 0
    assert "1a: not yet. you gave 5." in capsys.readouterr().out
    done = nbformat.read(path, as_version=4)
    assert done.cells[1].source.endswith("x = 5") and "you gave 5." in done.cells[2].outputs[0].text
    assert first_line(path) == [sys.executable, "None"]  # full scale again

    edit(path, "1 / 0")
    assert run.main(["1"], course) == 1
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert "code cell 2 ('# EXERCISE 1a: two and two') raised ZeroDivisionError: division by zero" in line
    raised = nbformat.read(path, as_version=4)
    assert [output.output_type for output in raised.cells[1].outputs] == ["error"]
    assert raised.cells[1].source.endswith("x = 1 / 0") and first_line(path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_solution_is_run_apart_and_must_be_right(course, capsys):
    assert run.main(["1", "--solution"], course) == 0
    assert "1a: right\n1 of 1 right in" in capsys.readouterr().out
    assert [p.name for p in (course / "work").iterdir()] == ["solutions"]
    text = course / "lab1_small.py"
    text.write_text(text.read_text().replace("2 + 2", "2 + 3"))
    assert run.main(["1", "--solution"], course) == 1  # the text, not the notebook of the last time


def test_mistakes_are_named_in_one_line(course, capsys, monkeypatch):
    def error(*argv):
        assert run.main(argv, course) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert error("6") == "error: unknown lab '6'. Valid: 1."
    assert "required: LAB" in error()
    assert "--solutoin" in error("1", "--solutoin")
    path = course / "work" / "lab1_small.ipynb"
    path.parent.mkdir()
    for broken in ('{"cells": [', "[]", ""):
        path.write_text(broken)
        assert "is not a whole notebook" in error("1") and "move it away" in error("1")
        assert path.read_text() == broken
    monkeypatch.setitem(sys.modules, "jupytext", None)
    assert "the labs need jupytext" in error("1") and "[labs]" in error("1")


def test_open(course, capsys, monkeypatch):
    """It opens what there is, or a fresh notebook, and runs nothing; without JupyterLab it says how to get it."""
    calls = []
    monkeypatch.setattr(subprocess, "call", lambda command, env: calls.append((command, env)) or 0)
    monkeypatch.setitem(sys.modules, "jupyterlab", None)
    assert run.main(["1", "--open"], course) == 1
    said = capsys.readouterr().out
    assert "lab1_small.ipynb is ready" in said and run.INSTALL in said and not calls
    monkeypatch.setitem(sys.modules, "jupyterlab", SimpleNamespace(__spec__="installed"))
    assert run.main(["1", "--open", "--smoke"], course) == 0
    ((command, env),) = calls
    path = course / "work" / "lab1_small.ipynb"
    assert command == [sys.executable, "-m", "jupyterlab", str(path)]
    assert env[base.SCALE] == "smoke" and str(run.ROOT) in env["PYTHONPATH"]
    assert all(not cell.get("outputs") for cell in nbformat.read(path, as_version=4).cells)


def values_given(node):
    """What a student's last statement gives: a dict's values, a tuple's parts, what a function returns, one by one."""
    if isinstance(node, ast.FunctionDef):
        (node,) = node.body
    if isinstance(node, ast.Assign | ast.Return):
        return values_given(node.value)
    parts = node.values if isinstance(node, ast.Dict) else node.elts if isinstance(node, ast.Tuple) else None
    return [node] if parts is None else [leaf for part in parts for leaf in values_given(part)]


@pytest.mark.parametrize("number", LABS)
def test_the_student_s_copy_has_dots_for_answers_and_is_else_the_solution(number):
    """Every exercise has dots in place of each value, its answer in the solution, and then its check."""
    student, solution = (run.notebook_of(LABS[number], solved=solved).cells for solved in (False, True))
    code, exercises = "\n".join(cell.source for cell in solution if cell.cell_type == "code"), []
    assert "STUDENT" not in code and "= ..." not in code
    for ours, theirs in zip(student, solution, strict=True):
        assert ours.cell_type == theirs.cell_type and "STUDENT" not in ours.source
        exercise = re.match(rf"# EXERCISE ({number}[a-z]): .+", ours.source)
        if exercise is None:
            assert ours.source == theirs.source
            continue
        exercises.append(exercise[1])
        values = values_given(ast.parse(ours.source).body[-1])
        assert values and all(isinstance(value, ast.Constant) and value.value is ... for value in values)
        assert all("..." in line or line in theirs.source.splitlines() for line in ours.source.splitlines())
        assert f"check.ex{exercise[1]}(" in code[code.index(theirs.source) :]
    assert exercises == sorted(set(exercises)) and len(exercises) >= 4
