"""What every lab's tests ask of a check."""

import re
from collections.abc import Callable

import pytest


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a check prints of an answer: one line, without the exercise's name."""

    def judge(check: Callable[..., bool], *answers: object) -> str:
        capsys.readouterr()
        right = check(*answers)
        (line,) = capsys.readouterr().out.splitlines()
        verdict = re.fullmatch(r"\d[a-z]: (.+)", line)
        assert verdict and right == (verdict[1] == "right"), line
        return verdict[1]

    return judge
