"""Checks of lab 4: costs are counted on a model that runs here, decisions are made again from the student's results."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from labs.checks.base import Wrong, call, choices, exercise, number, numbers, shown, slip
from mutransfer import scaling_plan
from mutransfer.models.mlp import MLP
from mutransfer.results.estimate import Estimate

METHODS = ("direct", "naive", "transfer")
OTHERS = ("direct", "naive")
WORDS = ("better", "worse", "undecided")
SHAPES = ((64, 128, 768, 10), (128, 128, 768, 10), (96, 32, 48, 7))
"""(width, batch, inputs, classes) at which FLOPs are counted."""
HPS = {"lr": 0.01, "alpha_output": 4.0}
RATIO = 4
NOT_YET = "there are no results yet: get 4a, 4b and 4e right and run the searches first."


def counted_flops(width: int, batch: int, inputs: int, classes: int) -> int:
    """FLOPs of forward and backward pass, as torch's own counter sees them."""
    model, x = MLP(width, inputs=inputs, classes=classes), torch.zeros(batch, inputs)
    with FlopCounterMode(display=False) as counter:
        model(x).sum().backward()
    return int(counter.get_total_flops())


@exercise("4a")
def ex4a(function: object) -> str | None:
    """Against the counter, at three shapes."""
    for shape in SHAPES:
        width, batch, inputs, classes = shape
        given, expected = number(call(function, *shape), "the FLOPs of a step"), counted_flops(*shape)
        if abs(given / expected - 1) < 0.01:
            continue
        matrices = inputs * width + width * width + width * classes
        said = f"at (width, batch, inputs, classes) = {shape} you gave {given:.4g}, torch counts {expected:.4g}. "
        slips = [
            (expected / 2, "A multiplication and an addition are two operations."),
            (expected / batch, "That is the cost of one example; a step has a batch of them."),
            (2 * batch * matrices, "That is the forward pass; the gradients cost as much for each of their products."),
            (6 * batch * matrices, "Three passes for each matrix is too many: which gradient does nobody ask for?"),
            (4 * batch * matrices, "Two passes for each matrix is too few: two of the layers need a third one."),
            (6 * batch * (matrices - inputs * width), "You left out the first layer."),
            (2 * batch * (2 * inputs * width + 3 * width * width), "You left out the readout."),
        ]
        otherwise = "Add up 2 x batch x rows x columns over the matrices, each as often as a step multiplies with it."
        return said + slip(given, slips, otherwise, rel_tol=0.005)
    return None


@exercise("4b")
def ex4b(function: object) -> str | None:
    """Counted with runs, one after another, until the budget is spent."""
    for budget, proxy_run, target_run in ((40.0, 0.7, 10.0), (95.0, 2.0, 30.0), (33.0, 1.0, 10.0)):
        given = numbers(call(function, budget, proxy_run, target_run), "samples", ("direct", "transfer"))
        said = f"with a budget of {budget:g}, {proxy_run:g} a proxy and {target_run:g} a target: "
        for name, value in given.items():
            if value != int(value):
                return said + f"you gave {value:g} for '{name}'. Part of a run is no sample: give a whole number."
        direct, transfer = given["direct"], given["transfer"]
        if direct * target_run > budget:
            return said + f"{direct:g} direct samples cost {direct * target_run:g}, more than the budget."
        if (direct + 1) * target_run <= budget:
            extra = " Direct tuning delivers the best of its runs; it trains none again." * (
                (direct + 2) * target_run > budget
            )
            return said + f"direct tuning can afford more than {direct:g} samples.{extra}"
        if transfer * proxy_run + target_run > budget:
            fits = transfer * proxy_run <= budget
            why = "that leaves less than the target's own run, which the method must deliver." if fits else "too much."
            return said + f"{transfer:g} proxies cost {transfer * proxy_run:g}: {why}"
        if (transfer + 1) * proxy_run + target_run <= budget:
            return said + f"µTransfer can afford more than {transfer:g} proxies and still train the target once."
    return None


@exercise("4c")
def ex4c(answer: object) -> str | None:
    """s (t1 N1 + t2 N2) / (S T) of App. F.4."""
    given = number(answer, "the fraction")
    s, target, tokens = 40e6, 6.7e9, 300e9
    short, long = 350 * 4e9, 117 * 16e9
    expected = s * (short + long) / (target * tokens)
    if abs(given / expected - 1) < 0.03:
        return None
    slips = [
        (expected * 100, "that is a percentage; a fraction is asked for."),
        ((short + long) / tokens, "that compares tokens only: a proxy has fewer parameters than the target."),
        (s / target, "that compares the sizes only: how long, and how often, was each trained?"),
        (s * short / (target * tokens), "the 117 longer runs are missing."),
        (s * long / (target * tokens), "the 350 shorter runs are missing."),
        (s * (4e9 + 16e9) / (target * tokens), "each length was run many times."),
        (1 / expected, "that is the target over the tuning: the other way round."),
    ]
    otherwise = "sum parameters x tokens over all proxy runs, over parameters x tokens of the target."
    return f"you gave {given:.4g}: {slip(given, slips, otherwise, rel_tol=0.03)}"


@exercise("4d")
def ex4d(function: object) -> str | None:
    """Whether the two plans differ at the base width is looked up, not assumed."""
    base = MLP(32, inputs=48)
    plans = [scaling_plan(base, MLP(32, inputs=48), parametrization=name) for name in ("sp", "mup")]
    is_same = dict(plans[0]) == dict(plans[1])
    for n in (10, 37):
        given, expected = number(call(function, n), "the number of runs"), 0 if is_same else n
        if given == expected:
            continue
        said = f"for n = {n} you gave {given:g}. "
        if given == n:
            return said + (
                "That trains every sample again in SP: compare the two plans at the base width, factor by factor."
            )
        return said + "How does an SP run of the base width differ from the µP run of the same sample and seed?"
    return None


@exercise("4e")
def ex4e(function: object, base_width: int) -> str | None:
    """Learning rates, parameter by parameter, at the base width and at four times it."""
    for width in (base_width, RATIO * base_width):
        for name in ("mup", "sp"):
            model, lrs = _transferred(function, width, name)
            if hint := _why_not_lrs(lrs, name, width, base_width, model):
                return hint
            for part in ("input", "hidden"):
                weight = getattr(model, part).weight
                std, expected = float(weight.detach().std()), weight.shape[1] ** -0.5
                if abs(std / expected - 1) > 6 / math.sqrt(2 * weight.numel()):  # six standard errors
                    return (
                        f"{name} at width {width}: the init std of {part}.weight is {std:.4g}, expected about "
                        f"{expected:.4g}. Build both models anew, and initialize the model once."
                    )
    return None


def _transferred(function: object, width: int, name: str) -> tuple[MLP, dict[str, float]]:
    """What the student's function built, and its learning rate by parameter."""
    result = call(function, dict(HPS), width, name)
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise Wrong(f"expected the model and its optimizer, `return model, optimizer`; you gave {shown(result)}.")
    model, optimizer = result
    if not isinstance(model, MLP) or not isinstance(optimizer, torch.optim.Optimizer):
        kinds = ", ".join(type(part).__name__ for part in result)
        raise Wrong(f"expected (MLP, torch.optim.Adam) in this order, you gave ({kinds}).")
    if not isinstance(optimizer, torch.optim.Adam):
        raise Wrong(f"the plan is Adam's, but the optimizer is {type(optimizer).__name__}.")
    at = f"{name} at width {width}"
    if len(model.hidden.weight) != width:
        raise Wrong(f"{at}: the model has width {len(model.hidden.weight)}. Which of the two models do you return?")
    if model.output_mult != HPS["alpha_output"]:
        raise Wrong(
            f"{at}: alpha_output is {model.output_mult:g}, expected {HPS['alpha_output']:g}: a mult is copied as it is."
        )
    by_id = {id(p): float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}
    names = dict(model.named_parameters())
    if missing := [n for n, p in names.items() if id(p) not in by_id]:
        raise Wrong(f"{at}: the optimizer does not have {missing[0]}; are its groups those of the model you return?")
    return model, {n: by_id[id(p)] for n, p in names.items()}


def _why_not_lrs(lrs: Mapping[str, float], name: str, width: int, base_width: int, model: MLP) -> str | None:
    base = MLP(base_width, inputs=model.input.weight.shape[1])

    def factors(parametrization: str, optimizer: str = "adam", *, is_swapped: bool = False) -> dict[str, float]:
        pair = (model, base) if is_swapped else (base, model)
        plan = scaling_plan(*pair, parametrization=parametrization, optimizer=optimizer)
        return {n: plan[n].lr for n in lrs}

    def first_unlike(expected: Mapping[str, float]) -> str | None:
        """The first parameter whose learning rate is not lr times the factor expected."""
        return next((n for n, k in expected.items() if not math.isclose(lrs[n], HPS["lr"] * k, rel_tol=1e-6)), None)

    first = first_unlike(factors(name))
    if first is None:
        return None
    of_other = {
        "mup": "These are µP's: does your function use its third argument?",
        "sp": "All tensors have the one learning rate, as in SP: use the plan's groups, in the parametrization given.",
    }
    (other,) = of_other.keys() - {name}
    swapped = "The plan goes from the wide model to the base: its first argument is the base."
    slips = [
        (factors(other), of_other[other]),
        (factors(name, is_swapped=True), swapped),
        (factors(name, "sgd"), "These are the rules of SGD; the optimizer is Adam."),
    ]
    otherwise = "Expected lr times the plan's factor of every parameter: plan.param_groups(model, lr=hps['lr'])."
    hint = next((why for expected, why in slips if first_unlike(expected) is None), otherwise)
    where = f"{name} at width {width}, base {base_width}, lr {HPS['lr']:g}"
    return f"{where}: the learning rate of {first} is {lrs[first]:.4g}. {hint}"


@exercise("4f")
def ex4f(function: object) -> str | None:
    """Against the suite's t interval, on drawn numbers."""
    rng = np.random.default_rng(0)
    for n in (3, 6, 12):
        x = rng.normal(-0.1, 0.05, size=n)
        result = call(function, x)
        if not isinstance(result, tuple | list | np.ndarray) or len(result) != 2:
            raise Wrong(f"expected (low, high), you gave {shown(result)}.")
        low, high = (number(value, what) for value, what in zip(result, ("low", "high"), strict=True))
        expected = Estimate.mean(x)
        half, given = (expected.high - expected.low) / 2, (high - low) / 2
        said = f"of {n} numbers you gave [{low:.4f}, {high:.4f}]. "
        if given < 0:
            return said + "low comes first."
        if abs((low + high) / 2 - expected.value) > 1e-6:
            return said + "Its middle is not the mean."
        if abs(given / half - 1) >= 1e-3:
            return said + _why_not_half(given / half, n)
    return None


def _why_not_half(ratio: float, n: int) -> str:
    """Which usual slip makes the half-width this many times the right one."""
    from scipy import stats

    t = stats.t.ppf(0.975, n - 1)
    slips = [
        (math.sqrt(n), "That is for a single difference; the mean of n has a standard error smaller by sqrt(n)."),
        (1.96 / t, "That is the normal's 1.96; with n values it is Student's t with n - 1 degrees of freedom."),
        (stats.t.ppf(0.975, n) / t, "Student's t has n - 1 degrees of freedom."),
        (stats.t.ppf(0.95, n - 1) / t, "That is a 90% interval: 2.5% lie on either side of a 95% one."),
        (1 / t, "That is one standard error to either side; how many make 95%?"),
    ]
    biased, why = math.sqrt((n - 1) / n), "The standard deviation of a sample divides by n - 1 (ddof=1)."
    slips += [(factor * biased, f"{why} {hint}") for factor, hint in [(1.0, ""), *slips]]
    otherwise = f"Its half-width is {ratio:.2f} times the expected one: t x standard deviation / sqrt(n)."
    return slip(ratio, slips, otherwise, rel_tol=2e-3)


@exercise("4g")
def ex4g(answer: object, results: pd.DataFrame) -> str | None:
    """The declared rule on the differences of the judged losses."""
    judged = _wide(results, "judged_loss")
    for other, word in choices(answer, "conclusion", OTHERS, WORDS).items():
        estimate = Estimate.mean((judged["transfer"] - judged[other]).to_numpy())
        expected = "better" if estimate.high < 0 else "worse" if estimate.low > 0 else "undecided"
        if word == expected:
            continue
        where = f"the interval of µTransfer less {other} is [{estimate.low:+.4f}, {estimate.high:+.4f}]"
        if expected == "undecided":
            return f"'{word}' against {other} says too much: {where}, which holds 0. To leave it undecided is a result."
        if word == "undecided":
            return f"'undecided' against {other} says too little: {where}, wholly on one side of 0."
        return f"'{word}' against {other}: {where}. The lower loss is the better one."
    return None


@exercise("4h")
def ex4h(answer: object, results: pd.DataFrame) -> str | None:
    """Judged less searched, for direct tuning: the only one whose search was at the target's width, in µP."""
    given = number(answer, "the optimism")
    gap = (_wide(results, "judged_loss") - _wide(results, "search_loss")).mean()
    near = {"rel_tol": 1e-3, "abs_tol": 2e-5}
    if math.isclose(given, gap["direct"], **near):
        return None
    on_proxy = "whose search was on the proxy: its two losses are of networks of two widths."
    slips = [
        (-gap["direct"], "The size is right; the judged loss comes first."),
        *((gap[name], f"That is of '{name}', {on_proxy}") for name in ("naive", "transfer")),
        (gap.mean(), "That is the mean over all methods; in two of them the search was on the proxy."),
    ]
    otherwise = "Expected the mean of judged_loss - search_loss over the rows of one method of `results`."
    return f"you gave {given:+.4f}. {slip(given, slips, otherwise, **near)}"


def _wide(results: pd.DataFrame, column: str) -> pd.DataFrame:
    """One column of the results, one row per search and one column per method. Raises `Wrong` while they are NaN."""
    if results["judged_loss"].isna().any():
        raise Wrong(NOT_YET)
    return results.pivot(index="search", columns="method", values=column)[list(METHODS)]
