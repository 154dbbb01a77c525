"""What the labs' checks say: the solutions are right, and each typical wrong answer is told what is wrong with it."""

import contextlib
import functools
import io
import itertools
import math
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from labs.checks import base, lab1, lab2, lab3, lab4, lab5
from labs.run import notebook_of, texts
from mutransfer import MUP, SP, transfer_report
from mutransfer.results import Estimate

UNDONE, RIGHT = "not done yet: replace the ...", "right"


@pytest.fixture
def told(capsys):
    """Holds a check to its hints: of each answer it prints "right", or one line that has the hint's words in it."""

    def hold(check, answers, *given):
        for hint, answer in answers.items():
            capsys.readouterr()
            is_right = check(answer, *given)
            (line,) = capsys.readouterr().out.splitlines()
            verdict = re.fullmatch(r"\d[a-z]: (.+)", line)
            assert verdict and is_right == (verdict[1] == RIGHT) == (hint == RIGHT), f"{hint}: {line}"
            assert hint in verdict[1], f"{hint}: {line}"

    return hold


@functools.cache
def executed(number, *, solved):
    """A lab's names and the lines of its checks, run at smoke scale; without a kernel, which is slow to start."""
    names, out = {}, io.StringIO()
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(), contextlib.redirect_stdout(out):
        patch.setenv(base.SCALE, "smoke")
        for cell in notebook_of(texts()[number], solved=solved).cells:
            if cell.cell_type == "code":
                exec(compile(cell.source, f"<lab {number}>", "exec"), names)
    plt.close("all")
    return names, [line.group() for line in base.LINE.finditer(out.getvalue())]


@functools.cache
def edited(exercise, old, new):
    """The solution's function with a part of its text replaced, in a copy of its lab."""
    names = {**executed(exercise[0], solved=True)[0]}
    cells = [cell.source for cell in notebook_of(texts()[exercise[0]], solved=True).cells]
    (text,) = (source for source in cells if source.startswith(f"# EXERCISE {exercise}:"))
    assert old in text
    exec(text.replace(old, new), names)
    return names[re.search(r"^def (\w+)", text, re.M)[1]]


def solution(exercise, old="", new=""):
    """What a student hands in: the solution's function, with a slip if ``new`` stands there for ``old``."""
    return lambda *given: edited(exercise, old, new)(*given)


@pytest.mark.parametrize(("solved", "verdict"), [(False, UNDONE), (True, RIGHT)])
@pytest.mark.parametrize("number", texts())
def test_a_lab_runs_to_its_end_with_nothing_done_and_with_all_right(number, solved, verdict):
    exercises = re.findall(r"^# EXERCISE (\d[a-z]):", texts()[number].read_text(), re.M)
    assert executed(number, solved=solved)[1] == [f"{exercise}: {verdict}" for exercise in exercises]


def test_a_check_prints_one_line_and_never_raises(capsys):
    """Right, wrong, not done, of a wrong kind: each line is found again by `LINE`."""

    @base.exercise("9z")
    def check(x, given=None):
        """doc"""
        return None if base.number(x, "x") == 1 else f"you gave\n{x}."

    @base.exercise("9y")
    def calls(function):
        return None if base.call(function, 2) == 4 else "no square."

    @base.exercise("9x")
    def words(answer):
        return ", ".join(base.choices(answer, "answer", ["a", "b"], ["up", "down"]).values())

    assert check.__doc__ == "doc"
    results = [check(1), check(2), check(...), check("1"), check({"a": [..., 1]}), check(1, given=...), check(True)]
    results += [calls(lambda x: x**2), calls(lambda x: ...), calls(lambda x: x.y), calls(4), check(math.inf)]
    results += [words(answer) for answer in ({"a": "up"}, {"a": "up", "c": "up"}, {"a": "up", "b": "dwn"}, ["up"])]
    assert results == [True] + 6 * [False] + [True] + 8 * [False]
    out = capsys.readouterr().out
    assert len(out.splitlines()) == len(list(base.LINE.finditer(out))) == len(results)
    assert "9z: not yet. you gave 2.\n" in out and out.count(UNDONE) == 4
    hints = ["AttributeError on (2): 'int' object has no attribute 'y'", "expected a function", "must be a number"]
    hints += ["must be a finite number", "lacks the key 'b'", "the key 'c'", "Did you mean 'down'?", "must be a dict"]
    assert all(hint in out for hint in hints)
    assert not base.LINE.search("1a: rights\n1a: perhaps\nsee 1a: right")


def test_the_scale_is_the_environments(monkeypatch):
    for value, expected in (("smoke", "smoke"), ("", "full")):
        monkeypatch.setenv(base.SCALE, value)
        assert base.scale() == expected


def keyed(*keys):
    """What makes a dict with these keys of so many values."""
    return lambda *values: dict(zip(keys, values, strict=True))


# Lab 1

WIDTHS = (64, 128, 256)
BEST = {"sp": {64: -5.0, 128: -6.0, 256: -7.0}, "mup": {64: -5.0, 128: -5.0, 256: -5.0}}
WORDS = {"sp": "lower", "mup": "same"}
INTERVALS = dict(zip(lab1.INTERVALS, ("drifts", "stable", "undecided", "drifts"), strict=True))


def sweep(sp=-1.0, mup=0.0, *, lucky=False):
    """Parabolas around an optimum that moves by so many octaves a doubling; seed 1 of the highest LR diverges in SP."""
    runs = pd.DataFrame(
        itertools.product(("sp", "mup"), WIDTHS, range(-9, -2), range(3)),
        columns=["parametrization", "width", "log2_lr", "seed"],
    )
    doublings, is_sp = np.log2(runs["width"] / 64), runs["parametrization"] == "sp"
    off = runs["log2_lr"] + 5.1 - doublings * np.where(is_sp, sp, mup)
    loss = 1.6 - 0.1 * doublings + 0.03 * off**2 + 0.0001 * runs["seed"]
    if lucky:  # one seed at a poor learning rate: the mean must be taken first
        loss -= 0.4 * runs.eval("width == 64 and seed == 2 and log2_lr == -8")
    return runs.assign(train_loss=loss.mask(is_sp & runs.eval("log2_lr == -3 and seed == 1"), math.inf))


RUNS, LUCKY = sweep(), sweep(lucky=True)
COPY = RUNS.eval("parametrization == 'sp' and width == 256 and log2_lr == -5")
DIVERGED = RUNS.assign(train_loss=RUNS["train_loss"].mask(COPY, math.inf))


def always(log2_lr):
    return lambda runs, name: dict.fromkeys(WIDTHS, log2_lr)


LOSS = RUNS[RUNS["parametrization"] == "sp"].groupby(["width", "log2_lr"])["train_loss"].mean()


def of_sp(answers):
    return {hint: {"sp": answer, "mup": 0.0} for hint, answer in answers.items()}


def test_1b_follows_the_measure_and_the_paper_where_it_decides_nothing(told):
    report = transfer_report(RUNS)
    assert [report.verdict(name) for name in ("sp", "mup")] == ["drifts", "stable"]
    told(lab1.ex1b, {"right": WORDS, "you predicted 'higher' for sp": {**WORDS, "sp": "higher"}}, report)
    told(lab1.ex1b, {"-1.00 octaves per doubling, drifts": {**WORDS, "sp": "same"}}, report)
    other = transfer_report(sweep(sp=0.0, mup=0.5))  # were these the runs, the paper's answer would be wrong
    told(lab1.ex1b, {"right": {"sp": "same", "mup": "higher"}, "not yet. you predicted 'lower' for sp": WORDS}, other)
    undecided = transfer_report(RUNS[RUNS["seed"] == 0])
    told(lab1.ex1b, {"right": WORDS, "Your runs decide nothing": {"sp": "same", "mup": "same"}}, undecided)


# Lab 2

exponents = keyed("input", "hidden", "output")
ADAM, SGD = exponents(0, -1, -1), exponents(1, 0, -1)
BY_ADAM, BY_SGD = [["hidden lr", "output init_std", "output lr"], ["input lr", "output init_std", "output lr"]]
sums, attention = keyed("independent", "aligned"), keyed("at init", "trained")
entries, table8 = keyed("adam", "sgd"), keyed("init_std", "sgd lr", "adam lr")


def test_compare_prints_what_there_is(capsys):
    lab2.compare({"input": 0, "hidden": ..., "output": -1}, "adam")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "adam input  lr: yours n^0, SP 1, MUP 1"
    assert lines[1] == "adam hidden lr: yours -, SP 1, MUP 1/fan_in"
    lab2.compare(..., "sgd")
    assert capsys.readouterr().out.count("yours -") == 3


# Lab 3


def layers(hidden, readout, input="ok"):
    return {"input": input, "hidden": hidden, "readout": readout}


SEEN = {"sp": layers("grows", "grows"), "mup": layers("ok", "ok")}
scales = keyed("1/sqrt(d)", "1/d")


def measured(name):
    """What the solved lab 3 measured, when it is needed: the verdicts are those of its frames."""
    return lambda: executed("3", solved=True)[0][name]


def all_grow():
    return dict.fromkeys(("1/sqrt(d)", "1/d"), measured("attention")()["1/sqrt(d)"])


def test_3c(told):
    """Each rule's absence is seen, so that "all ok" is wrong for each."""
    frames = measured("adam")()
    right = dict(zip(frames, (layers("grows", "grows"), *2 * [layers("ok", "grows")]), strict=True))
    unseen = {f"without {rule}": {**right, rule: layers("ok", "ok")} for rule in right}
    less = {rule: right[rule] for rule in list(right)[:2]}
    told(lab3.ex3c, {"right": right, **unseen, "lacks the key 'output lr'": less}, frames)


def culprit(frame):
    """The rule that a case lacks, as a student would read it from the exponents."""
    rows = frame.exponents().query("step <= 1").set_index(["activation", "kind"])["exponent"]
    if rows["readout", "init"] > -0.25:
        return "output init_std"
    if rows["input", "change"] < -0.25:
        return "input lr"
    return "hidden lr" if rows["hidden", "change"] > 0.25 else "output lr"


def test_3d(told):
    """The cases can be solved by reading the check alone; a wrong culprit is told what its absence would look like."""
    right = {case: culprit(frame) for case, frame in measured("cases")().items()}
    assert set(right.values()) == set(lab3.RULES)
    case = next(case for case in "ABC" if right[case] == "hidden lr")
    wrong = f"1 of 6 are not it. Case {case} does not lack 'output init_std'"
    told(lab3.ex3d, {"right": right, wrong: {**right, case: "output init_std"}})
    told(lab3.ex3d, {"'hidden lr' is no suspect: with sgd": {**right, "D": "hidden lr"}})
    with pytest.raises(ValueError, match="no case 'G'"):
        lab3.mystery("G")


# Lab 4

GPT3 = 40e6 * (350 * 4e9 + 117 * 16e9) / (6.7e9 * 300e9)


def base_width():
    return executed("4", solved=True)[0]["base_width"]


def results(transfer, direct, naive):
    """A table of results: judged losses by method; searched ones are lower by 0.01, 0.02, 0.03."""
    judged = {("transfer", 0.01): transfer, ("direct", 0.02): direct, ("naive", 0.03): naive}
    rows = [(k, name, loss, loss - less) for (name, less), losses in judged.items() for k, loss in enumerate(losses)]
    return pd.DataFrame(rows, columns=["search", "method", "judged_loss", "search_loss"])


MIXED = results(transfer=[1.50, 1.52, 1.51], direct=[1.60, 1.63, 1.61], naive=[1.40, 1.60, 1.53])
WORSE = results(transfer=[1.6, 1.62, 1.61], direct=[1.5, 1.51, 1.5], naive=[2.3, 2.3, 2.3])
against = keyed("direct", "naive")

# Lab 5

FIGURE_4 = pd.read_csv(lab5.FIGURES / "figure_4" / "runs.csv")
DEPTH = FIGURE_4[FIGURE_4["panel"] == "mup/depth/log2_lr"]
SMALL = pd.DataFrame({"width": [256, 512], "depth": [2, 8], "batch": [4, 4], "length": [128, 256], "steps": 5000})
MET = {"width": True, "depth": False, "batch": False, "length": True, "steps": True}


def grown(*exponents):
    """Measured sizes that go so with depth, for each alpha at init and in their change."""
    cells = itertools.product(zip(lab5.ALPHAS, exponents, strict=True), (4, 8, 16), range(2))
    rows = [(alpha, depth, seed, *(3.0 * depth**k for k in both)) for (alpha, both), depth, seed in cells]
    return pd.DataFrame(rows, columns=["alpha", "depth", "seed", "init", "change"])


GROWN = grown((0.47, 1.1), (0.02, 0.45), (-0.03, -0.05))
DRIFTS = {"pre-LN": Estimate(0.4, 0.1, 1.3), "post-LN": Estimate(0.31, 0.23, 0.36)}
rules, octaves = keyed("pre-LN", "post-LN"), keyed("independent", "coupled")
growth, sizes = keyed(*lab5.ALPHAS), keyed("init", "change")
THEORY = growth(sizes(0.5, 1), sizes(0, 0.5), sizes(0, 0))


def test_5d(told):
    reports = {statement: lab5.reports(figure).get(key) for statement, (figure, key) in lab5.STATEMENTS.items()}
    right = {statement: report.verdict if report else "not tested" for statement, report in reports.items()}
    assert set(right.values()) == set(lab5.VERDICTS)  # an answer of each kind
    told(lab5.ex5d, {"right": right})
    for statement, (figure, key) in lab5.STATEMENTS.items():
        why = {"not tested": f"{figure} has no panel {key}", "undecided": "outside of the grid"}
        for word in set(lab5.VERDICTS) - {right[statement]}:
            hint = "it was tested" if word == "not tested" else why.get(right[statement], "interval")
            told(lab5.ex5d, {hint: {**right, statement: word}, f"'{statement}'": {**right, statement: word}})


def test_5i_follows_the_test_loss(told):
    best = octaves({64: 2, 512: 2}, {64: 2, 512: 4})
    rows = []
    for convention, width, x, seed in itertools.product(best, (64, 512), range(6), range(2)):
        lucky = (2.3 if width == 64 else 0.3) * (-1 if seed else 1) * (x == 5)  # seed 1, at the last choice
        test_loss = 1.8 + 0.1 * (x - best[convention][width]) ** 2 + lucky
        rows.append((convention, x, width, seed, 0.2 + 0.3 * x, test_loss))
    runs = pd.DataFrame(rows, columns=["panel", "x", "line", "seed", "train_loss", "test_loss"])
    told(lab5.ex5i, {"right": best, "lacks the key 512": {**best, "coupled": {64: 2}}}, runs)
    told(lab5.ex5i, {"right": {c: {w: np.int64(k) for w, k in ks.items()} for c, ks in best.items()}}, runs)
    answers = {"the training loss is": 0, "one seed has the least": 5, "another one has": 3, "The tested values": 4.5}
    told(lab5.ex5i, {hint: {**best, "independent": {64: k, 512: 2}} for hint, k in answers.items()}, runs)


WHOLE_RULE = "{x: getattr(SP.rule(family, role), x) for x in ('init_std', 'lr')}"
PLAIN = 'model.parameters(), lr=hps["lr"]'
# of each exercise: what is right, where it is not the solution's own answer, and the typical slips
CASES = [
    (lab1.ex1a, {"right": -math.log2(10) / 5, "rise or fall": 0.66, "How many doublings": -3.32, "divide": -7}),
    (lab1.ex1c, {"right": lambda *given: pd.Series(solution("1c")(*given))}, LUCKY.sample(frac=1, random_state=0)),
    (lab1.ex1c, {"one seed has the least loss": always(-8), "no learning rate of the grid": always(-2.5)}, LUCKY),
    (lab1.ex1c, {"does your function use its second argument?": lambda runs, name: BEST["mup"]}, LUCKY),
    (lab1.ex1d, of_sp({"right": -1.0, "the sign is not": 1.0, "there are 2 doublings": -2.0, "slope": -0.1}), RUNS),
    (lab1.ex1d, of_sp({"right": transfer_report(RUNS).parametrizations["sp"].slope.value}), RUNS),
    (lab1.ex1e, of_sp({"right": LOSS[256, -5] - LOSS[256, -7], "at which two learning rates": 0.02}), RUNS),
    (lab1.ex1e, of_sp({"the other way round": LOSS[64, -7] - LOSS[64, -5], "loss itself": LOSS[256, -5]}), RUNS),
    (lab1.ex1e, of_sp({"right": math.inf, "width 256 diverged at the best learning rate": 0.1}), DIVERGED),
    (lab1.ex1f, {"right": INTERVALS, "one side of zero does not matter": {**INTERVALS, (-0.2, -0.05): "drifts"}}),
    (lab1.ex1f, {"it lies partly within ±0.25": {**INTERVALS, (-0.4, 0.1): "stable"}}),
    (lab2.ex2a, {"right": sums(0.5, 1), "what does their mean tend to": sums(0.5, 0.5), "variances": sums(0, 1)}),
    (lab2.ex2b, {"right": -0.5, "prints the variance": -1, "go as n^+0.5": 0}),
    (lab2.ex2c, {"right": -1, "features learn along w": -0.5, "could not be used": -1.5, "Which theorem": 0}),
    (lab2.ex2d, {"right": ADAM, "the hidden layer's update, dW x, goes as n^+": {**ADAM, "hidden": 0}, "not yet": SGD}),
    (lab2.ex2d, {"How many entries of x": {**ADAM, "hidden": -0.5}, "frozen": {**ADAM, "input": -1}}),
    (lab2.ex2e, {"right": SGD, "over how many features": {**SGD, "hidden": -1}, "n squares": {**SGD, "output": 0}}),
    (lab2.ex2f, {"right": attention(-0.5, -1), "Is q.k a sum of random signs then?": attention(-0.5, 0)}),
    (lab2.ex2g, {"right": entries(BY_ADAM, BY_SGD), "adam: you list 'input": entries([*BY_ADAM, "input lr"], BY_SGD)}),
    (lab2.ex2h, {"right": table8(0, 1, 0), "Table 3's own": table8(-1, 1, 0), "wrong way": table8(-2, 1, 0)}),
    (lab3.ex3b, {"nothing differs from MUP": lambda *cell: MUP, "SP whole": lambda *cell: SP}),
    (lab3.ex3b, {"without('sgd'": solution("3b", "with_entry(family", "with_entry('adam'")}),
    (lab3.ex3b, {"one entry only": solution("3b", "{entry: getattr(SP.rule(family, role), entry)}", WHOLE_RULE)}),
    (lab3.ex3a, {"right": SEEN, "mup, readout": {**SEEN, "mup": layers("ok", "shrinks")}}, measured("frames")),
    (lab3.ex3a, {"which do not grow": {**SEEN, "sp": layers("grows", "grows", input="grows")}}, measured("frames")),
    (lab3.ex3e, {"right": "hidden lr", "input shrinks": "input lr", "not yet": "output lr"}, measured("sgd")),
    (lab3.ex3f, {"right": scales("grows", "ok"), "what power of d": scales("ok", "ok")}, measured("attention")),
    (lab3.ex3f, {"right": scales("grows", "grows"), "not yet": scales("grows", "ok")}, all_grow),
    (lab4.ex4a, {"are two operations": solution("4a", "2 * batch", "batch"), "Add up": lambda w, b, d, c: b * w}),
    (lab4.ex4a, {"need a third one": solution("4a", "3 * three_passes", "2 * three_passes")}),
    (lab4.ex4b, {"own run": solution("4b", "(budget - target_run)", "budget")}),
    (lab4.ex4c, {"right": GPT3, "sum parameters x": 0.07, "that is a percentage": 6.5, "fewer parameters": 10.9}),
    (lab4.ex4d, {"right": lambda n: 0, "trains every sample again": lambda n: n, "10 you gave 5": lambda n: n / 2}),
    (lab4.ex4e, {"one learning rate": solution("4e", 'plan.param_groups(model, lr=hps["lr"])', PLAIN)}, base_width),
    (lab4.ex4e, {"its third argument": solution("4e", "=parametrization", "='mup'")}, base_width),
    (lab4.ex4e, {"rules of SGD": solution("4e", '"adam"', '"sgd"')}, base_width),
    (lab4.ex4e, {"Which of the two models": solution("4e", "build(width,", "build(base_width,")}, base_width),
    (lab4.ex4f, {"a single difference": solution("4f", "/ math.sqrt(n)"), "low comes first": lambda x: (1.0, 0.0)}),
    (lab4.ex4f, {"ddof=1": solution("4f", "ddof=1", "ddof=0"), "expected (low, high)": lambda x: 0.5}),
    (lab4.ex4g, {"right": against("better", "undecided"), "says too little": against("undecided", "undecided")}, MIXED),
    (lab4.ex4g, {"right": against("worse", "better")}, WORSE),  # the data decide, not the paper
    (lab4.ex4h, {"right": 0.02, "the judged loss comes first": -0.02, "That is of 'transfer'": 0.01}, MIXED),
    (lab5.ex5a, {"right": lab5.TABLE_1, "How much regularisation": {**lab5.TABLE_1, "dropout": True}}),
    (lab5.ex5b, {"right": MET, "2, 8, and the smallest is below 4": {**MET, "depth": True}}, SMALL),
    (lab5.ex5b, {"right": {**MET, "width": False, "steps": False}}, DEPTH),
    (lab5.ex5c, {"the smallest": solution("5c", "first, last =", "last, first =")}, FIGURE_4),
    (lab5.ex5c, {"The size is": lambda runs: -solution("5c")(runs), "at which two choices": lambda runs: 1}, FIGURE_4),
    (lab5.ex5e, {"right": THEORY, "or variances": growth(sizes(1, 1), sizes(0, 0.5), sizes(0, 0))}, GROWN),
    (lab5.ex5e, {"measured +1.50": THEORY}, grown((1.5, 1), (0, 0.5), (0, 0))),
    (lab5.ex5f, {"right": rules({0.5, 1}, set()), "1 (linear) is compatible, too": rules({0.5}, set())}, DRIFTS),
    (lab5.ex5f, {"right": rules([1, 0.5], []), "speaks against it": rules({0.5, 1}, {0.5})}, DRIFTS),
    (lab5.ex5g, {"That is the coupled": solution("5g", "own_decay)", "weight_decay)")}),
    (lab5.ex5g, {"the share that is lost": solution("5g", "return (1", "return 1 - (1"), "Each step": lambda *_: 0.5}),
    (lab5.ex5h, {"right": octaves(0, 3), "A factor of 8 is not 8 octaves": octaves(0, 8), "far off": octaves(0, 512)}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].__name__}: {'; '.join(case[1])}")
def test_each_answer_gets_its_hint(told, case):
    check, answers, *given = case
    told(check, answers, *(x() if callable(x) else x for x in given))
