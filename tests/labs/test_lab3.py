"""Lab 3: its notebook runs, its solution is right, and each typical wrong answer is told what is wrong with it."""

import functools

import pytest
import torch
from torch import nn

from labs.checks import lab3 as check
from mutransfer import MUP, SP, Role, coord_check


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.input, self.hidden = nn.Linear(32, width, bias=False), nn.Linear(width, width, bias=False)
        self.readout = nn.Linear(width, 10, bias=False)

    def forward(self, x):
        return self.readout(torch.relu(self.hidden(torch.relu(self.input(x)))))


@functools.cache
def frames(optimizer, *rules):
    """As the notebook measures them, of fewer widths."""
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(64, 32, generator=generator), torch.randint(0, 10, (64,), generator=generator)
    tables = {rule: rule if rule in ("sp", "mup") else check.without(optimizer, rule) for rule in rules}
    settings = {"optimizer": optimizer, "lr": {"adam": 0.01, "sgd": 0.1}[optimizer], "steps": 1, "seeds": 2}
    return {
        rule: coord_check(Net, [64, 128, 256], [batch], parametrization=table, **settings)
        for rule, table in tables.items()
    }


def words(hidden, readout, input="ok"):
    return {"input": input, "hidden": hidden, "readout": readout}


def test_3a(said):
    measured = frames("adam", "sp", "mup")
    right = {"sp": words("grows", "grows"), "mup": words("ok", "ok")}
    assert said(check.ex3a, right, measured) == "right"
    wrong = said(check.ex3a, {**right, "sp": words("ok", "grows")}, measured)
    assert "sp, hidden: you say 'ok', and the check measured otherwise" in wrong and "dW x" in wrong
    wrong = said(check.ex3a, {**right, "sp": words("grows", "grows", input="grows")}, measured)
    assert "the inputs, which do not grow" in wrong
    assert "mup, readout" in said(check.ex3a, {**right, "mup": words("ok", "shrinks")}, measured)
    assert "Did you mean 'grows'?" in said(check.ex3a, {**right, "sp": words("grow", "grows")}, measured)


def put_back(family, role, entry):
    return MUP.with_entry(family, role, **{entry: getattr(SP.rule(family, role), entry)})


def forgets_the_return(family, role, entry):
    put_back(family, role, entry)
    return MUP


def whole_rule(family, role, entry):
    rule = SP.rule(family, role)
    return MUP.with_entry(family, role, init_std=rule.init_std, lr=rule.lr)


@pytest.mark.parametrize(
    ("function", "hint"),
    [
        (put_back, "right"),
        (forgets_the_return, "nothing differs from MUP"),
        (lambda family, role, entry: SP, "that is SP whole"),
        (
            lambda *cell: put_back(*cell).with_entry("sgd", Role.OUTPUT, lr=SP.rule("sgd", Role.OUTPUT).lr),
            "one entry only",
        ),
        (lambda family, role, entry: put_back("adam", role, entry), "without('sgd'"),
        (whole_rule, "differs from MUP's too; one entry only"),
        (lambda family, role, entry: MUP.with_entry(family, role, **{entry: SP.rule(family, role).eps}), "which power"),
        (lambda family, role, entry: None, "must return a Parametrization, you gave None"),
        (lambda family, role, entry: ..., "not done yet"),
        (lambda family: MUP, "your function raised TypeError"),
    ],
)
def test_3b(said, function, hint):
    assert hint in said(check.ex3b, function)


ADAM = {
    "hidden lr": words("grows", "grows"),
    "output init_std": words("ok", "grows"),
    "output lr": words("ok", "grows"),
}


def test_3c(said):
    measured = frames("adam", *ADAM)
    assert said(check.ex3c, ADAM, measured) == "right"
    for rule in ADAM:  # each rule's absence is seen, so that "all ok" is wrong for each
        assert f"without {rule}" in said(check.ex3c, {**ADAM, rule: words("ok", "ok")}, measured)
    assert "lacks the key 'output lr'" in said(check.ex3c, {k: ADAM[k] for k in list(ADAM)[:2]}, measured)


def found_by_reading() -> dict[str, str]:
    """Every case solved as a student would: from the exponents that the check measures."""
    found = {}
    for name in "ABCDEF":
        optimizer, table = check.mystery(name)
        settings = {"optimizer": optimizer, "lr": {"adam": 0.01, "sgd": 0.1}[optimizer], "steps": 1, "seeds": 2}
        batch = torch.randn(64, 32, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 10
        frame = coord_check(Net, [64, 128, 256], [batch], parametrization=table, **settings)
        rows = frame.exponents().set_index(["activation", "kind"])["exponent"]
        if rows["readout", "init"] > -0.25:
            found[name] = "output init_std"
        elif rows["input", "change"] < -0.25:
            found[name] = "input lr"
        else:
            found[name] = "hidden lr" if rows["hidden", "change"] > 0.25 else "output lr"
    return found


def test_3d(said):
    """The cases can be solved by reading the check alone; a wrong culprit is told what its absence would look like."""
    culprit = found_by_reading()
    assert said(check.ex3d, culprit) == "right"
    assert set(culprit.values()) == set(check.RULES)
    lacks_lr = next(name for name in "ABC" if culprit[name] == "hidden lr")
    wrong = said(check.ex3d, {**culprit, lacks_lr: "output init_std"})
    assert f"1 of 6 are not it. Case {lacks_lr} does not lack 'output init_std'" in wrong
    assert "'hidden lr' is no suspect: with sgd" in said(check.ex3d, {**culprit, "D": "hidden lr"})
    assert "not done yet" in said(check.ex3d, {**culprit, "A": ...})
    with pytest.raises(ValueError, match="no case 'G'"):
        check.mystery("G")


def test_3e(said):
    measured = frames("sgd", *check.RULES)
    assert said(check.ex3e, "hidden lr", measured) == "right"
    assert "without 'input lr' the check still finds something: input shrinks" in said(check.ex3e, "input lr", measured)
    assert said(check.ex3e, "output lr", measured).startswith("not yet")


def test_3f(said):
    """The verdicts are those of the frames given: were 1/d measured to grow, 'grows' would be right for it."""

    def measured(grows):
        """Frames whose readout stands for logits."""
        frame = frames("adam", "sp" if grows else "mup")["sp" if grows else "mup"]
        data = frame.data.assign(activation=frame.data["activation"].replace("readout", "logits"))
        return type(frame)(data, frame.parametrization, frame.optimizer, frozenset({"logits", "output"}))

    attention = {"1/sqrt(d)": measured(True), "1/d": measured(False)}
    right = {"1/sqrt(d)": "grows", "1/d": "ok"}
    assert said(check.ex3f, right, attention) == "right"
    assert "1/d: you say 'shrinks'" in said(check.ex3f, {**right, "1/d": "shrinks"}, attention)
    assert "what power of d" in said(check.ex3f, {**right, "1/sqrt(d)": "ok"}, attention)
    assert said(check.ex3f, right, {"1/sqrt(d)": measured(True), "1/d": measured(True)}).startswith("not yet")
