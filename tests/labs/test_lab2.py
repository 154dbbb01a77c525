"""Lab 2: its notebook runs, its solution is right, and each typical wrong exponent is told what it does."""

import pytest

from labs.checks import lab2 as check

SHORT = (64, 128, 256)
ADAM = {"input": 0, "hidden": -1, "output": -1}
SGD = {"input": 1, "hidden": 0, "output": -1}
CHANGED = {
    "adam": ["hidden lr", "output init_std", "output lr"],
    "sgd": ["input lr", "output init_std", "output lr"],
}
TABLE8 = {"init_std": 0, "sgd lr": 1, "adam lr": 0}


@pytest.mark.parametrize(
    ("independent", "aligned", "hint"),
    [
        (0.5, 1, "right"),
        (1, 1, "the independent sum divided by n^1 still goes as n^-0.5"),
        (0.5, 0.5, "what does their mean tend to"),
        (0, 1, "the terms or their variances"),
        (0.5, "1", "must be a number"),
    ],
)
def test_2a(said, independent, aligned, hint):
    assert hint in said(check.ex2a, {"independent": independent, "aligned": aligned})


@pytest.mark.parametrize(("k", "hint"), [(-0.5, "right"), (-1, "prints the variance"), (0, "go as n^+0.5")])
def test_2b(said, k, hint):
    assert hint in said(check.ex2b, k)


@pytest.mark.parametrize(
    ("k", "hint"), [(-1, "right"), (-0.5, "features learn along w"), (-1.5, "could not be used"), (0, "Which theorem")]
)
def test_2c(said, k, hint):
    assert hint in said(check.ex2c, k)


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({}, "right"),
        ({"hidden": 0}, "the hidden layer's update, dW x, goes as n^+"),
        ({"hidden": -0.5}, "How many entries of x"),
        ({"input": -1}, "a wide network is frozen"),
        ({"input": 1}, "a wide network blows up"),
        ({"output": 0}, "the output layer's update"),
        ({"hidden": 1024}, "small multiples of 1/2"),
        ({"hiden": 0}, "has the key 'hiden'"),
    ],
)
def test_2d(said, monkeypatch, change, hint):
    monkeypatch.setattr(check, "WIDTHS", SHORT)
    assert hint in said(check.ex2d, {**ADAM, **change})


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({}, "right"),
        ({"input": 0}, "is frozen. The gradient at its outputs comes through the readout"),
        ({"hidden": -1}, "over how many features"),
        ({"output": 0}, "n squares"),
    ],
)
def test_2e(said, change, hint):
    assert hint in said(check.ex2e, {**SGD, **change})


def test_the_two_optimizers_differ(said):
    """SGD's answer is wrong for Adam, and the other way round."""
    assert said(check.ex2d, SGD).startswith("not yet") and said(check.ex2e, ADAM).startswith("not yet")


@pytest.mark.parametrize(
    ("init", "trained", "hint"),
    [
        (-0.5, -1, "right"),
        (-1, -1, "at init: logits q.k times d^-1 go as d^-0.5"),
        (-0.5, -0.5, "trained: logits q.k times d^-0.5 go as d^+0.5"),
        (-0.5, 0, "Is q.k a sum of random signs then?"),
    ],
)
def test_2f(said, init, trained, hint):
    assert hint in said(check.ex2f, {"at init": init, "trained": trained})


def test_2g(said):
    assert said(check.ex2g, CHANGED) == "right"
    assert "adam: you list 'input lr'" in said(check.ex2g, {**CHANGED, "adam": [*CHANGED["adam"], "input lr"]})
    assert "sgd: you list 'hidden lr'" in said(check.ex2g, {**CHANGED, "sgd": ["hidden lr"]})
    assert "you list 2 of 3" in said(check.ex2g, {**CHANGED, "adam": ["hidden lr", "output lr"]})
    assert "Did you mean 'hidden lr'?" in said(check.ex2g, {**CHANGED, "adam": ["hiden lr"]})
    assert "must be a list" in said(check.ex2g, {**CHANGED, "adam": "hidden lr"})


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({}, "right"),
        ({"init_std": -1}, "Table 3's own"),
        ({"init_std": -2}, "the wrong way"),
        ({"sgd lr": 0}, "Adam's"),
        ({"sgd lr": -1}, "Table 3's own"),
        ({"adam lr": 1}, "by which power"),
    ],
)
def test_2h(said, change, hint):
    assert hint in said(check.ex2h, {**TABLE8, **change})


def test_compare_prints_what_there_is(capsys):
    check.compare({"input": 0, "hidden": ..., "output": -1}, "adam")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "adam input  lr: yours n^0, SP 1, MUP 1"
    assert lines[1] == "adam hidden lr: yours -, SP 1, MUP 1/fan_in"
    check.compare(..., "sgd")
    assert capsys.readouterr().out.count("yours -") == 3
