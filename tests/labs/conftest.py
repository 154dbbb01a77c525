"""A lab's stub and its solution are executed in one kernel, at smoke scale: kernels are slow to start."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pytest

from labs.run import LABS, check_lines, environment, execute, notebooks, read_text

RESET = "%reset -f"


class Executed(NamedTuple):
    """The lines that the checks of a stub and of its solution printed, and the failure of either ("" if none)."""

    stub: list[str]
    solution: list[str]
    failure: str


@pytest.fixture
def executed(tmp_path: Path) -> Callable[[str], Executed]:
    def run(lab: str) -> Executed:
        stub, solution = read_text(notebooks()[lab]), read_text(LABS / "solutions" / notebooks()[lab].name)
        both = nbformat.v4.new_notebook(metadata=stub.metadata)
        both.cells = [*stub.cells, nbformat.v4.new_code_cell(RESET), *solution.cells]
        failure = execute(both, tmp_path, environment(smoke=True), lambda line: None)
        parts: tuple[Any, Any] = both.cells[: len(stub.cells)], both.cells[len(stub.cells) :]
        lines = [[line.group() for cell in part for line in check_lines(cell)] for part in parts]
        return Executed(*lines, failure)

    return run


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a check prints of an answer: one line, without the exercise's name."""

    def judge(check: Callable[..., bool], *answers: object) -> str:
        capsys.readouterr()
        right = check(*answers)
        (line,) = capsys.readouterr().out.splitlines()
        found = re.fullmatch(r"\d[a-z]: (.+)", line)
        assert found and right == (found[1] == "right"), line
        return found[1]

    return judge
