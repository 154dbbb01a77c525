"""Checks of lab 2: an exponent is judged by what it does to numbers that are drawn and summed here."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from labs.checks.base import choice, exercise, growth, listed, number, numbers, slip, table, unanswered
from mutransfer import MUP, SP, Role
from mutransfer.parametrization.tables import Power, Rule

WIDTHS = (64, 128, 256, 512, 1024)
TOLERANCE = 0.25
"""The coordinate check's: theory's exponents are multiples of 1/2."""
LAYERS = ("input", "hidden", "output")
INPUTS, CLASSES, BATCH = 32, 10, 16
ENTRIES = tuple(f"{layer} {entry}" for layer in LAYERS for entry in ("init_std", "lr"))
Array = NDArray[np.float64]


def rms(x: Array) -> float:
    """The coordinate size: the root of the mean square."""
    return float(np.sqrt(np.mean(np.square(x))))


def sums(n: int, kind: str) -> Array:
    """512 sums of n products w_i x_i of Gaussians: ``"independent"``, or ``"aligned"`` (x_i has the sign of w_i)."""
    rng = np.random.default_rng(n)
    w, x = rng.standard_normal((2, 512, n))
    return np.asarray((w * (np.abs(x) * np.sign(w) if kind == "aligned" else x)).sum(axis=1))


@exercise("2a")
def ex2a(answer: object) -> str | None:
    """sqrt(n) by the central limit theorem, n by the law of large numbers."""
    for kind, k in numbers(answer, "exponents", ("independent", "aligned")).items():
        rest = growth(lambda n, k=k, kind=kind: rms(sums(n, kind)) / n**k, WIDTHS)  # type: ignore[misc]
        if abs(rest) > 0.1:
            theorem = {
                "independent": "The terms have random signs: what adds up, the terms or their variances?",
                "aligned": "All terms have one sign: what does their mean tend to?",
            }[kind]
            return f"the {kind} sum divided by n^{k:g} still goes as n^{rest:+.2f}. {theorem}"
    return None


def preactivations(n: int, init_std: float) -> Array:
    """W x of a hidden layer of width n: W drawn with std n^init_std, coordinates of x of size 1."""
    rng = np.random.default_rng(n)
    return np.asarray(rng.standard_normal((256, n)) * float(n) ** init_std @ rng.standard_normal(n))


@exercise("2b")
def ex2b(answer: object) -> str | None:
    """Hidden pre-activations of size 1 at init."""
    k = number(answer, "the exponent of the init std")
    rest = growth(lambda n: rms(preactivations(n, k)), WIDTHS)
    if abs(rest) < 0.1:
        return None
    hint = " Table 3 prints the variance; the std is its root." if abs(k + 1) < 0.1 else ""
    return f"with an init std of n^{k:g} the pre-activations go as n^{rest:+.2f}; they should stay.{hint}"


def output_moves(n: int, init_std: float) -> Array:
    """w . dx of readouts with init std n^init_std, whose features have learnt: dx_i = 0.1 with the sign of w_i."""
    rng = np.random.default_rng(n)
    w = rng.standard_normal((64, n)) * float(n) ** init_std
    return np.asarray((w * 0.1 * np.sign(w)).sum(axis=1))


@exercise("2c")
def ex2c(answer: object) -> str | None:
    """The largest readout init with which learning features leaves the output of size 1."""
    k = number(answer, "the exponent of the readout's init std")
    rest = growth(lambda n: rms(output_moves(n, k)), WIDTHS)
    if abs(rest) < 0.1:
        return None
    said = f"with a readout of std n^{k:g} what the features learn moves the output by n^{rest:+.2f}. "
    if abs(k + 0.5) < 0.1:
        return said + "At init it is of size 1, as in SP; but features learn along w, so the sum is no longer random."
    if rest < 0:
        return said + "So little that a wide network's features could not be used: take a larger one."
    return said + "Which theorem holds for a sum of n terms of one sign?"


def update_growth(
    optimizer: str, lr_exponents: Mapping[str, float], widths: tuple[int, ...] = WIDTHS
) -> dict[str, float]:
    """How fast the first step's update of each layer, dW x, grows with the width n: its exponent, by layer.

    A ReLU MLP with µP's init takes one step of ``optimizer`` (``"sgd"`` or ``"adam"``), where a layer's learning rate
    is n^exponent. x is what the layer reads before the step.
    """
    sizes = {n: _updates(optimizer, lr_exponents, n) for n in widths}
    return {layer: growth(lambda n, layer=layer: sizes[n][layer], widths) for layer in LAYERS}  # type: ignore[misc]


def _updates(optimizer: str, lr_exponents: Mapping[str, float], n: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, y = draw(BATCH, INPUTS), torch.randint(CLASSES, (BATCH,), generator=generator)
    weights = {
        "input": draw(n, INPUTS) * INPUTS**-0.5,
        "hidden": draw(n, n) * n**-0.5,
        "output": draw(CLASSES, n) / n,
    }
    parameters = {layer: torch.nn.Parameter(w.clone()) for layer, w in weights.items()}
    reads = {"input": x}
    reads["hidden"] = F.relu(x @ parameters["input"].T)
    reads["output"] = F.relu(reads["hidden"] @ parameters["hidden"].T)
    F.cross_entropy(reads["output"] @ parameters["output"].T, y).backward()
    groups = [{"params": [p], "lr": float(n) ** lr_exponents[layer]} for layer, p in parameters.items()]
    # eps would blur the sign of gradients that shrink with width (App. B.3)
    (torch.optim.SGD(groups) if optimizer == "sgd" else torch.optim.Adam(groups, eps=1e-30)).step()
    return {
        layer: float((reads[layer] @ (p - weights[layer]).T).square().mean().sqrt().detach())
        for layer, p in parameters.items()
    }


def _learning_rates(answer: object, optimizer: str, why: Mapping[str, str]) -> str | None:
    exponents = numbers(answer, "exponents", LAYERS)
    if any(abs(k) > 3 for k in exponents.values()):
        return f"you gave {exponents}: exponents of n are asked for, small multiples of 1/2."
    for layer, rest in update_growth(optimizer, exponents).items():
        if abs(rest) > TOLERANCE:
            way = "blows up" if rest > 0 else "is frozen"
            return (
                f"with a learning rate of n^{exponents[layer]:g} the {layer} layer's update, dW x, goes as "
                f"n^{rest:+.2f}: a wide network {way}. {why[layer]}"
            )
    return None


@exercise("2d")
def ex2d(answer: object) -> str | None:
    """Adam: every entry of dW is the LR with a sign."""
    counts = "How many entries of x does a unit of it sum over, and are they aligned with the update's signs?"
    return _learning_rates(answer, "adam", dict.fromkeys(LAYERS, counts))


@exercise("2e")
def ex2e(answer: object) -> str | None:
    """SGD: the gradient brings its own power of n."""
    behind = "The gradient at its outputs comes through the readout: what size have those weights?"
    return _learning_rates(
        answer,
        "sgd",
        {
            "input": f"{behind} And over how many inputs does it sum?",
            "hidden": f"{behind} And over how many features does it sum?",
            "output": "The gradient is the features themselves, and the update is then multiplied by them: n squares.",
        },
    )


@exercise("2f")
def ex2f(answer: object) -> str | None:
    """q . k over d entries, at init and when queries have learnt to match keys."""
    for when, k in numbers(answer, "exponents", ("at init", "trained")).items():
        kind = "independent" if when == "at init" else "aligned"
        rest = growth(lambda d, k=k, kind=kind: rms(sums(d, kind)) * float(d) ** k, WIDTHS)  # type: ignore[misc]
        if abs(rest) > 0.1:
            swapped = " 1/sqrt(d) is right for one of the two times only." if k in (-0.5, -1.0) else ""
            return f"{when}: logits q.k times d^{k:g} go as d^{rest:+.2f}. Is q.k a sum of random signs then?{swapped}"
    return None


def _changed(family: str) -> set[str]:
    """The entries in which µP's table differs from SP's where all fans are n (or fixed)."""

    def power(rule: Rule, entry: str, role: Role) -> float:
        p: Power = getattr(rule, entry)
        return float(p.fan_in * (role is not Role.INPUT) + p.fan_out * (role is not Role.OUTPUT))

    return {
        f"{role.value} {entry}"
        for role in (Role.INPUT, Role.HIDDEN, Role.OUTPUT)
        for entry in ("init_std", "lr")
        if power(MUP.rule(family, role), entry, role) != power(SP.rule(family, role), entry, role)
    }


@exercise("2g")
def ex2g(answer: object) -> str | None:
    """The difference of the suite's two tables."""
    for family, value in table(answer, "changed", ("adam", "sgd")).items():
        if isinstance(value, str) or not isinstance(value, list | tuple | set):
            return f"changed[{family!r}] must be a list of some of {listed(ENTRIES)}."
        given, expected = {choice(entry, "entry", ENTRIES) for entry in value}, _changed(family)
        if extra := sorted(given - expected):
            return (
                f"{family}: you list '{extra[0]}', but there SP and µP agree when all widths are n. "
                "Did your own derivation change it?"
            )
        if given != expected:
            return (
                f"{family}: you list {len(given)} of {len(expected)}; go through the columns of print(MUP) one by one."
            )
    return None


@exercise("2h")
def ex2h(answer: object) -> str | None:
    """Lemma J.1 with theta = 1/n, from Table 3's readout to Table 8's."""
    table8 = MUP.shifted(output=-1)
    for key, k in numbers(answer, "table8", ("init_std", "sgd lr", "adam lr")).items():
        entry, family = key.split()[-1], "sgd" if key == "sgd lr" else "adam"
        before, after = (float(getattr(t.rule(family, Role.OUTPUT), entry).fan_in) for t in (MUP, table8))
        adams = float(table8.rule("adam", Role.OUTPUT).lr.fan_in) if family == "sgd" else math.nan
        if abs(k - after) < 0.01:
            continue
        wrong_way = "You shifted it the wrong way: the weight behind a small multiplier must be larger, not smaller."
        slips = [
            (before, "That is Table 3's own; the multiplier 1/n must be made up for."),
            (2 * before - after, wrong_way),
            (adams, "Adam's. In SGD the multiplier acts twice: on the gradient, and on what the update does."),
        ]
        power = "With multiplier A theta and theta = 1/n: the std is divided by theta, and the LR by which power of it?"
        return f"{key}: you gave n^{k:g}. {slip(k, slips, power, abs_tol=0.01)}"
    return None


def compare(exponents: object, optimizer: str) -> None:
    """Print derived exponents of learning rates beside those of the suite's tables SP and MUP."""
    for layer in LAYERS:
        sp, mup = (str(t.rule(optimizer, Role(layer)).lr) for t in (SP, MUP))
        yours = exponents.get(layer, ...) if isinstance(exponents, Mapping) else ...
        print(f"{optimizer} {layer:6} lr: yours {'-' if unanswered(yours) else f'n^{yours}'}, SP {sp}, MUP {mup}")
