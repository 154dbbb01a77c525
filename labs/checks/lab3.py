"""Checks of lab 3: what the student says of a broken table is held against what the coordinate check measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from labs.checks.base import call, choice, choices, exercise, listed, shown, table
from mutransfer import MUP, SP, Role
from mutransfer.parametrization import Parametrization
from mutransfer.parametrization.tables import FIELDS
from mutransfer.results.coordinates import CoordFrame

LAYERS = ("input", "hidden", "readout")
VERDICTS = ("ok", "grows", "shrinks")
RULES = {
    "input lr": (Role.INPUT, "lr"),
    "hidden lr": (Role.HIDDEN, "lr"),
    "output init_std": (Role.OUTPUT, "init_std"),
    "output lr": (Role.OUTPUT, "lr"),
}
"""The entries of Table 3 that the lab takes out, by the words of the notebook."""


def without(family: str, rule: str) -> Parametrization:
    """µP with one entry of one optimizer's rows put back to SP's."""
    role, entry = RULES[rule]
    return MUP.with_entry(family, role, **{entry: getattr(SP.rule(family, role), entry)})


def verdicts(frame: CoordFrame) -> dict[str, str]:
    """The verdict on the three layers of the lab's network."""
    judged = frame.verdict()
    return {layer: str(judged[layer]["verdict"]) for layer in LAYERS}


def _against(given: object, frame: CoordFrame, name: str) -> str | None:
    """What is wrong with the verdicts said of one table; where it was measured, not what was found."""
    measured = verdicts(frame)
    for layer, word in choices(given, f"what you say of {name}", LAYERS, VERDICTS).items():
        if word == measured[layer]:
            continue
        about = {
            "input": "Its sum runs over the inputs, which do not grow: only the size of its own update can move it.",
            "hidden": "Ask of dW x, and of the gradient that comes back through the readout.",
            "readout": "Two things move it: its own update, and its init times what the features learn.",
        }[layer]
        return f"{name}, {layer}: you say '{word}', and the check measured otherwise. {about}"
    return None


@exercise("3a")
def ex3a(answer: object, frames: Mapping[str, CoordFrame]) -> str | None:
    """The verdicts on SP and µP under Adam."""
    for name, said in table(answer, "prediction", ("sp", "mup")).items():
        if hint := _against(said, frames[name], name):
            return hint
    return None


@exercise("3b")
def ex3b(function: object) -> str | None:
    """One entry is SP's, all others are µP's."""
    for family in ("adam", "sgd"):
        for role, entry in RULES.values():
            made, where = call(function, family, role, entry), f"without({family!r}, {role}, {entry!r})"
            if not isinstance(made, Parametrization):
                return f"{where} must return a Parametrization, you gave {shown(made)}."
            if hint := _why_not_broken(made, family, role, entry):
                return f"{where}: {hint}"
    return None


def _why_not_broken(made: Parametrization, family: str, role: Role, entry: str) -> str | None:
    cells = [(f, r, e) for f in ("adam", "sgd") for r in (Role.INPUT, Role.HIDDEN, Role.OUTPUT) for e in FIELDS]
    differs = [c for c in cells if _cell(made, *c) != _cell(MUP, *c)]
    wanted = (family, role, entry)
    if all(_cell(made, *c) == _cell(SP, *c) for c in cells):
        return "that is SP whole; take MUP and change one entry."
    if not differs and _cell(SP, *wanted) != _cell(MUP, *wanted):
        return "nothing differs from MUP. Do you return the changed copy? with_entry changes nothing in place."
    for cell in differs:
        if cell != wanted:
            return f"the {cell[0]} {cell[1].value} {cell[2]} differs from MUP's too; one entry only."
    if _cell(made, *wanted) != _cell(SP, *wanted):
        return f"the entry is {_cell(made, *wanted)} now; which power does SP have there?"
    return None


def _cell(made: Parametrization, family: str, role: Role, entry: str) -> object:
    return getattr(made.rule(family, role), entry)


@exercise("3c")
def ex3c(answer: object, frames: Mapping[str, CoordFrame]) -> str | None:
    """The verdicts on each table that lacks one rule, under Adam."""
    for rule, said in table(answer, "prediction", frames).items():
        if hint := _against(said, frames[rule], f"without {rule}"):
            return hint
    return None


SUSPECTS = {"adam": ("hidden lr", "output init_std", "output lr"), "sgd": ("input lr", "output init_std", "output lr")}
_CASES = {
    name: (family, SUSPECTS[family][int(k)])
    for family, names in (("adam", "ABC"), ("sgd", "DEF"))
    for name, k in zip(names, np.random.default_rng([2, len(family)]).permutation(3), strict=True)
}


def mystery(name: str) -> tuple[str, Parametrization]:
    """Case ``"A"`` to ``"F"``: the optimizer, and µP less one rule. (Printing the table would be cheating.)"""
    if name not in _CASES:
        raise ValueError(f"there is no case {name!r}; the cases are {listed(_CASES)}")
    family, rule = _CASES[name]
    return family, replace(without(family, rule), name=f"case {name}")


CLUES = {
    "hidden lr": "Were it missing, the hidden layer would grow by itself, and its init would be untouched.",
    "input lr": "Were it missing, the input layer's change would be too small, and nothing would grow.",
    "output init_std": "Were it missing, the readout's value at init would not fall with width any more.",
    "output lr": "Were it missing, only the readout would grow, and its value at init would still fall with width.",
}


@exercise("3d")
def ex3d(answer: object) -> str | None:
    """Which rule each case lacks."""
    culprits = choices(answer, "culprit", _CASES, RULES)
    for name, rule in culprits.items():
        family, _ = _CASES[name]
        if rule not in SUSPECTS[family]:
            return f"case {name}: '{rule}' is no suspect: with {family}, taking it out changes nothing here."
    wrong = [(name, rule) for name, rule in culprits.items() if rule != _CASES[name][1]]
    if not wrong:
        return None
    name, rule = wrong[0]
    return f"{len(wrong)} of {len(_CASES)} are not it. Case {name} does not lack '{rule}'. {CLUES[rule]}"


@exercise("3e")
def ex3e(answer: object, frames: Mapping[str, CoordFrame]) -> str | None:
    """The rule whose absence leaves every verdict as it is."""
    rule = choice(answer, "rule", frames)
    changed = {layer: word for layer, word in verdicts(frames[rule]).items() if word != "ok"}
    if not changed:
        return None
    layer, word = next(iter(changed.items()))
    return (
        f"without '{rule}' the check still finds something: {layer} {word}. Put n for both fans into each entry of "
        "the sgd rows of print(MUP)."
    )


@exercise("3f")
def ex3f(answer: object, frames: Mapping[str, CoordFrame]) -> str | None:
    """The verdict on attention logits at two scales."""
    for scale, word in choices(answer, "prediction", frames, VERDICTS).items():
        if word != str(frames[scale].verdict()["logits"]["verdict"]):
            return (
                f"{scale}: you say '{word}', and the check measured otherwise. After a step of Adam q and k have moved "
                "by 1 in each entry, aligned: what power of d has their product, and what does the scale leave of it?"
            )
    return None
