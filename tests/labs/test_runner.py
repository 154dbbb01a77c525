"""``./reproduce.sh lab``: what is written, what is kept, what is said; and that a solution answers its own lab."""

import importlib.util
import os
import re
import subprocess
import sys

import nbformat
import pytest

from labs import run
from labs.checks import base

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
x = ANSWER

# %%
check(x)
"""


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of one small lab, whose stub is not done and whose solution is right."""
    header = run.notebooks()["1"].read_text().split("# %% [markdown]")[0]
    for folder, answer in ((tmp_path, "..."), (tmp_path / "solutions", "2 + 2")):
        folder.mkdir(exist_ok=True)
        (folder / "lab1_small.py").write_text(header + CELLS.replace("ANSWER", answer))
    monkeypatch.setattr(run, "LABS", tmp_path)
    return tmp_path


def lab(course, *argv):
    return run.main(argv, course / "work")


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
    assert lab(course, "1", "--smoke") == 0
    said = capsys.readouterr()
    assert "1a: not done yet: replace the ..." in said.out and "0 of 1 right in" in said.out
    assert "--open" in said.out and said.err == ""
    assert first_line(path) == [sys.executable, "smoke"]

    edit(path, "5")
    assert lab(course, "1") == 0
    assert "1a: not yet. you gave 5." in capsys.readouterr().out
    done = nbformat.read(path, as_version=4)
    assert done.cells[1].source.endswith("x = 5") and "you gave 5." in done.cells[2].outputs[0].text
    assert first_line(path) == [sys.executable, "None"]  # full scale again

    edit(path, "1 / 0")
    assert lab(course, "1") == 1
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert "code cell 2 ('# EXERCISE 1a: two and two') raised ZeroDivisionError: division by zero" in line
    assert "0 of 0 right" in said.out
    raised = nbformat.read(path, as_version=4)
    assert [output.output_type for output in raised.cells[1].outputs] == ["error"]
    assert raised.cells[1].source.endswith("x = 1 / 0") and first_line(path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_solution_is_run_apart_and_must_be_right(course, capsys):
    assert lab(course, "1", "--solution") == 0
    assert "1a: right\n1 of 1 right in" in capsys.readouterr().out
    assert [p.name for p in (course / "work").iterdir()] == ["solutions"]
    text = course / "solutions" / "lab1_small.py"
    text.write_text(text.read_text().replace("2 + 2", "2 + 3"))
    assert lab(course, "1", "--solution") == 1  # the text, not the notebook of the last time
    assert "1a: not yet. you gave 5." in capsys.readouterr().out


def test_mistakes_are_named_in_one_line(course, capsys, monkeypatch):
    def error(*argv):
        assert lab(course, *argv) == 2
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
    monkeypatch.setattr(run, "find_spec", lambda name: None)
    assert "the labs need jupytext" in error("1") and "[labs]" in error("1")


def test_open(course, capsys, monkeypatch):
    """It opens what there is, or a fresh notebook, and runs nothing; without JupyterLab it says how to get it."""
    calls = []
    monkeypatch.setattr(subprocess, "call", lambda command, env: calls.append((command, env)) or 0)
    real = importlib.util.find_spec
    monkeypatch.setattr(run, "find_spec", lambda name: None if name == "jupyterlab" else real(name))
    assert lab(course, "1", "--open") == 1
    said = capsys.readouterr().out
    assert "lab1_small.ipynb is ready" in said and run.INSTALL in said and not calls
    monkeypatch.setattr(run, "find_spec", lambda name: True)
    assert lab(course, "1", "--open", "--smoke") == 0
    ((command, env),) = calls
    path = course / "work" / "lab1_small.ipynb"
    assert command == [sys.executable, "-m", "jupyterlab", str(path)]
    assert env[base.SCALE] == "smoke" and str(run.ROOT) in env["PYTHONPATH"]
    assert all(not cell.get("outputs") for cell in nbformat.read(path, as_version=4).cells)


LABS = run.notebooks()


def test_the_labs_are_numbered_from_one():
    assert list(LABS) == [str(k) for k in range(1, len(LABS) + 1)] and len(LABS) >= 3


@pytest.mark.parametrize("number", LABS)
def test_a_solution_differs_from_its_lab_in_the_exercises_only(number):
    """Every exercise has a stub, its answer in the solution, and then its check; all else is the same text."""
    stub, solution = (run.read_text(folder / LABS[number].name) for folder in (run.LABS, run.LABS / "solutions"))
    assert stub.metadata.kernelspec.name == "python3"
    assert len(stub.cells) == len(solution.cells)
    code = [cell.source for cell in stub.cells if cell.cell_type == "code"]
    exercises = []
    for ours, theirs in zip(stub.cells, solution.cells, strict=True):
        assert ours.cell_type == theirs.cell_type
        match = re.match(rf"# EXERCISE ({number}[a-z]): .+", ours.source)
        if match is None:
            assert ours.source == theirs.source
            continue
        exercises.append(match[1])
        question = [line for line in ours.source.splitlines() if line.startswith("#")]
        assert theirs.source.splitlines()[: len(question)] == question
        answers = ["\n".join(cell.source.splitlines()[len(question) :]) for cell in (ours, theirs)]
        assert "..." in answers[0] and "..." not in answers[1]
        assert any(f"check.ex{match[1]}(" in cell for cell in code[code.index(ours.source) :])
    assert exercises == sorted(set(exercises)) and len(exercises) >= 4


def test_scale(monkeypatch):
    for value, expected in ((None, "full"), ("smoke", "smoke"), ("", "full")):
        monkeypatch.delenv(base.SCALE, raising=False)
        if value is not None:
            monkeypatch.setenv(base.SCALE, value)
        assert base.scale() == expected


def test_a_check_prints_one_line_and_never_raises(capsys):
    """Right, wrong, not done, of a wrong kind: each line is found again by `LINE`."""

    @base.exercise("9z")
    def check(x, given=None):
        """doc"""
        return None if base.number(x, "x") == 1 else f"you gave\n{x}."

    @base.exercise("9y")
    def calls(function):
        return None if base.call(function, 2) == 4 else "no square."

    assert check.__doc__ == "doc"
    results = [check(1), check(2), check(...), check("1"), check({"a": [..., 1]}), check(1, given=...), check(True)]
    results += [calls(lambda x: x**2), calls(lambda x: ...), calls(lambda x: x.y), calls(4)]
    assert results == [True] + 6 * [False] + [True] + 3 * [False]
    out = capsys.readouterr().out
    assert len(out.splitlines()) == len(list(base.LINE.finditer(out))) == len(results)
    assert "9z: not yet. you gave 2.\n" in out and out.count("not done yet: replace the ...") == 4
    assert "your function raised AttributeError on (2): 'int' object has no attribute 'y'" in out
    assert not base.LINE.search("1a: rights\n1a: perhaps\nsee 1a: right")


def test_growth_is_the_exponent():
    assert base.growth(lambda n: 3.0 * n**-0.5, [64, 128, 512]) == pytest.approx(-0.5)
    assert base.shown("x" * 100).endswith("...") and len(base.shown("x" * 100)) == 60
