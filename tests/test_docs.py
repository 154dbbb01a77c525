"""docs/: links and lines that exist, exponents that the suite and numbers confirm, a worked example that runs."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from nets import MLP, vectors

from mutransfer import MUP, SP, Role, attention_scale, scaling_plan
from mutransfer.parametrization import MUP_TABLE8, MUP_TABLE9, ONE
from mutransfer.parametrization.tables import FAN_IN, FAN_OUT, Power
from mutransfer.results.coordinates import ADAM

ROOT = Path(__file__).resolve().parents[1]
DOCS = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
TABLES = {"MUP": MUP, "MUP_TABLE8": MUP_TABLE8, "MUP_TABLE9": MUP_TABLE9}
COLUMNS = (Role.INPUT, Role.OUTPUT, Role.HIDDEN)
LINES = [(name, *found) for name in DOCS for found in re.findall(r"\[`([^`]+)`\]\(([^)#]+)#L(\d+)\)", DOCS[name])]


def anchors(markdown: str) -> set[str]:
    """Of a file's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", markdown, flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def table(markdown: str, mark: str) -> list[list[str]]:
    """The cells of the rows under the comment ``<!-- mark -->``, without the header."""
    block = re.search(rf"<!-- {re.escape(mark)} -->\n((?:\|.*\n)+)", markdown)[1]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()[2:]]


def power(text: str) -> Power:
    """``1/fan_in^2`` or ``sqrt(fan_out)/fan_in`` as a `Power`; the inverse of its ``str``."""
    names = {"fan_in": FAN_IN, "fan_out": FAN_OUT, "ONE": ONE, "sqrt": lambda root: root ** Fraction(1, 2)}
    return eval(re.sub(r"(?<!\^)\b1\b", "ONE", text).replace("^", "**"), names)


def test_every_link_leads_somewhere():
    """Files, headings of Markdown files, and lines that hold what is said; web pages are not fetched."""
    named = {"mathematics", "adding_an_experiment", "adding_a_kind_of_figure", "clusters", "limitations"}
    assert {f"{name}.md" for name in named} <= {*DOCS} and len(LINES) >= 20
    for name, text in DOCS.items():
        prose = re.sub(r"```.*?```", "", text, flags=re.S)
        links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"\[`[^`]+`\]", "[code]", prose))
        assert links, name
        for link in links:
            path, _, anchor = link.partition("#")
            if not path.startswith(("http://", "https://")):
                target = (ROOT / "docs" / (path or name)).resolve()
                assert target.exists() and ROOT in target.parents, link
                if anchor and target.suffix == ".md":
                    assert anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize(("name", "code", "path", "line"), LINES, ids=[f"{n}: {c}" for n, c, *_ in LINES])
def test_every_line_holds_what_is_said(name, code, path, line):
    """As in the README: [`code`](file#Lnn)."""
    lines = (ROOT / "docs" / path).read_text(encoding="utf-8").splitlines()
    where = [number for number, text in enumerate(lines, 1) if code in text]
    assert int(line) in where, f"docs/{name}: `{code}` is in line {where} of {path}, not {line}"


ROWS = {
    "init variance": lambda rules: [rules["sgd"].init_std ** 2, rules["adam"].init_std ** 2],
    "multiplier": lambda rules: [rules["sgd"].multiplier, rules["adam"].multiplier],
    "SGD learning rate": lambda rules: [rules["sgd"].lr],
    "Adam learning rate": lambda rules: [rules["adam"].lr],
    "Adam eps": lambda rules: [rules["adam"].eps],
}


@pytest.mark.parametrize(("number", "name"), [("3", "MUP"), ("8", "MUP_TABLE8"), ("9", "MUP_TABLE9")])
def test_printed_tables_are_the_suites(number, name):
    """Every exponent of Tables 3, 8 and 9 in the document, SP's in brackets too."""
    rows = table(DOCS["mathematics.md"], f"table {number}: {name}")
    assert [row[0] for row in rows] == list(ROWS)
    for row in rows:
        for role, cell in zip(COLUMNS, row[1:], strict=True):
            mine, sp = re.fullmatch(r"(\S+)(?: \[SP (\S+)\])?", cell).groups()
            for value in ROWS[row[0]]({family: TABLES[name].rules[family][role] for family in ("sgd", "adam")}):
                assert power(mine) == value, (row[0], role)
            for value in ROWS[row[0]]({family: SP.rules[family][role] for family in ("sgd", "adam")}):
                # where no bracket stands, SP has the same; Table 3 is the one that prints SP
                assert number != "3" or power(sp or mine) == value, (row[0], role)


def test_the_table_solves_its_equations():
    """C gradient sum = 1 for SGD, C sum = 1 for Adam, eps of the gradient's size, the largest init: Table 3."""
    roles = dict(zip(("input weights, biases", "output weights", "hidden weights"), COLUMNS, strict=True))
    for what, *cells in table(DOCS["mathematics.md"], "sizes"):
        gradient, total, init = map(power, cells)
        sgd, adam = (MUP.rules[family][roles[what]] for family in ("sgd", "adam"))
        assert sgd.lr * gradient * total == ONE
        assert adam.lr * total == ONE
        assert sgd.eps == adam.eps == gradient
        assert sgd.init_std == adam.init_std == init


@pytest.mark.parametrize("row", table(DOCS["mathematics.md"], "sums"), ids=lambda row: row[0])
def test_the_two_laws_by_numbers(row):
    """Each sum of section 2, at six sizes n of terms of size 1: its exponent within 0.05 of the printed one."""
    (name, size, law), rng, growth = row, np.random.default_rng(0), []
    sizes = [2**k for k in range(5, 13)]
    for n in [size for size in sizes for _ in range(4)]:
        x, u, q = rng.normal(size=n), rng.normal(size=256), rng.normal(size=(256, n))
        other = 0.8 * x + 0.6 * rng.normal(size=n)
        sums = {
            "W x": q @ x,
            "(u x": np.outer(u, x) @ other,
            "sign": np.sign(np.outer(u, x)) @ other,
            "q·k, i": (q * rng.normal(size=(256, n))).sum(axis=1),
            "q·k, c": (q * (0.8 * q + 0.6 * rng.normal(size=(256, n)))).sum(axis=1),
        }
        (value,) = (value for start, value in sums.items() if name.startswith(start))
        growth.append(float(np.sqrt((value**2).mean())))
    means = np.log2(np.array(growth).reshape(-1, 4).mean(axis=1))
    exponent = float(Fraction(re.fullmatch(r"n\^([\d/]+)", size)[1]))
    assert np.polyfit(np.log2(sizes), means, 1)[0] == pytest.approx(exponent, abs=0.05)
    assert law == {0.5: "central limit", 1.0: "large numbers"}[exponent]


def test_growth_in_sp_is_that_of_the_coordinate_check():
    """Section 9's exponents are those that the coordinate check is held against."""
    rows = {row[0]: row[1:3] for row in table(DOCS["mathematics.md"], "sp under adam")}
    assert set(rows) == set(ADAM)
    for quantity, cells in rows.items():
        for cell, name in zip(cells, ("sp", "mup"), strict=True):
            least, exponent = re.fullmatch(r"(at least )?n\^([\d.]+)", cell).groups()
            expected = ADAM[quantity][name]
            assert (bool(least), float(exponent)) == (expected.at_least, expected.exponent)


def test_equations_3_and_4_of_the_base_width_form():
    """W3 ~ N(0, 1/(n m)) and SGD's rates eta m, eta, eta/m, as section 4 says; 1/d attention of section 7."""
    base, m = 64, 16
    rules = [MUP.rule("sgd", role) for role in (Role.INPUT, Role.HIDDEN, Role.OUTPUT)]
    assert rules[2].init_std(m, 1) ** 2 / base == pytest.approx(1 / (base * m * m))
    assert [rules[0].lr(1, m), rules[1].lr(m, m), rules[2].lr(m, 1)] == [m, 1, 1 / m]
    assert attention_scale(64, 16, alpha_attn=3.0) == pytest.approx(3.0 * math.sqrt(16) / 64)


def weights_after(parametrization, *, decay="independent", eps=1e-2, steps=6):
    """The output of an MLP of width 96 from base width 32 after some steps of AdamW, in float64."""
    torch.manual_seed(0)
    x, y = vectors()
    x = x.double()
    base, model = MLP(32).double(), MLP(96).double()
    plan = scaling_plan(base, model, parametrization=parametrization, optimizer="adamw", weight_decay=decay)
    plan.initialize(model, base)
    optimizer = torch.optim.AdamW(plan.param_groups(model, lr=1e-2, weight_decay=1.0, eps=eps))
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model(x).detach()


def test_lemma_j1_with_weight_decay_and_eps():
    """Section 5: with C λ constant and eps scaled the three tables are one function; otherwise they part."""
    table_3 = weights_after(MUP)
    for other in (MUP_TABLE8, MUP_TABLE9):
        torch.testing.assert_close(weights_after(other), table_3, rtol=1e-9, atol=1e-12)
        assert not torch.allclose(weights_after(other, decay="coupled"), weights_after(MUP, decay="coupled"), rtol=1e-3)
    flat = MUP_TABLE8.with_entry("adam", Role.OUTPUT, eps=ONE)
    assert not torch.allclose(weights_after(flat), table_3, rtol=1e-3)


MEASURED = ("## What our runs do not show, though the paper does", "## Undecided")


def test_every_number_of_ours_stands_where_it_is_said_to_be():
    """Limitations: a decimal in an item is in one of the files that the item links to. Nothing is typed from memory."""
    text, checked = DOCS["limitations.md"], 0
    for head in MEASURED:
        section = text.split(head + "\n")[1].split("\n## ")[0]
        for item in re.split(r"\n- ", section)[1:]:
            files = [ROOT / "docs" / path for path in re.findall(r"\]\(([^)#]+\.md)", item)]
            linked = "\n".join(path.read_text(encoding="utf-8") for path in files)
            assert files, item
            for number in re.findall(r"-?\d+\.\d+", re.sub(r"\]\([^)]*\)", "", item)):
                assert re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", linked), f"{number} of: {item}"
                checked += 1
    assert checked >= 30


# Types the document's commands and runs its check. One core, hence one worker.
DRIVER = """
import os
import sys
from mutransfer import cli

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
for command in sys.argv[1:]:
    print(">>>", command, flush=True)
    if code := cli.main(command.split()):
        sys.exit(code)
print(">>> check", flush=True)
exec(sys.stdin.read())
"""


def type_commands(house: Path, text: str, check: str = "") -> str:
    """What the commands of the document ``text`` print in ``house``, one after the other, and then Python code."""
    lines = re.search(r"<!-- commands -->\n```sh\n(.*?)```", text, re.S)[1].splitlines()
    commands = [line.split("#")[0].removeprefix("./reproduce.sh").strip() for line in lines]
    env = {**os.environ, "PYTHONPATH": f"{house / 'src'}{os.pathsep}{house}", "MPLBACKEND": "agg"}
    driver = [sys.executable, "-c", DRIVER, *commands]
    run = subprocess.run(driver, cwd=house, env=env, input=check, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def assert_ruff_is_content(*paths: Path) -> None:
    for words in (["check"], ["format", "--check"]):
        ruff = [Path(sys.executable).with_name("ruff"), words[0], "--config", ROOT / "pyproject.toml", *words[1:]]
        run = subprocess.run([*ruff, *paths], capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """The document followed in an empty copy of the house: (the folder, what the commands printed)."""
    text, house = DOCS["adding_an_experiment.md"], tmp_path_factory.mktemp("house")
    shutil.copytree(ROOT / "src", house / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    files = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```\n", text, re.S)
    written = ("experiment.py", "runs.py", "README.md")
    assert [name for name, _ in files] == [f"experiments/gratings/{name}" for name in written]
    for name, content in files:
        path = house / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    shutil.copy(ROOT / "experiments/shared.py", house / "experiments")
    check = re.search(r"<!-- check -->\n```python\n(.*?)```", text, re.S)[1]
    check += 'assert verdicts["mup"].ok and not verdicts["sp"].ok'
    return house, type_commands(house, text, check)


def test_the_example_leaves_figure_table_and_verdict(followed):
    """What the house asks of an experiment's folder, at smoke scale; and nothing in the repository."""
    house, printed = followed
    folder = house / "figures/gratings"
    drawn = {"lr_vs_loss.png", "lr_vs_loss.svg", "table.md", "runs.csv", "provenance.json"}
    assert {p.name for p in folder.iterdir()} == drawn
    table_md = (folder / "table.md").read_text(encoding="utf-8")
    for name in ("SP", "µP"):
        assert re.search(rf"\| {name} \| \*\*(stable|drifts|undecided)\*\* \|", table_md)
    assert "gratings drawn by code. Scale: smoke." in table_md and "STAND-IN" not in table_md
    assert len((folder / "runs.csv").read_text().splitlines()) >= 1 + 2 * 2 * 4 * 2
    assert (house / "results/gratings.sqlite").is_file()
    assert not (ROOT / "experiments/gratings").exists() and not (ROOT / "figures/gratings").exists()
    steps = re.split(r"^>>> ", printed, flags=re.M)[1:]
    assert [step.split("\n")[0].split()[0] for step in steps] == ["list", "plan", "gratings", "figures", "check"]
    assert "gratings        after Figure 3" in steps[0]
    assert "wrote" not in steps[1] and f"wrote {folder / 'table.md'}" in steps[2] and "µP: " in steps[3]


def test_the_example_keeps_the_houses_rules(followed):
    """Its files are as ruff would have them."""
    assert_ruff_is_content(followed[0] / "experiments/gratings")


@pytest.fixture(scope="module")
def with_kind(followed, tmp_path_factory):
    """The document on kinds followed where the one on experiments ended: (the folder, the files that it changed)."""
    text, house = DOCS["adding_a_kind_of_figure.md"], tmp_path_factory.mktemp("kind") / "house"
    shutil.copytree(followed[0], house)
    changed = set()
    for mark, name, old, content in re.findall(
        r"<!-- (file|in|append): (\S+?)(?:, in place of: (.*?))? -->\n```\w+\n(.*?)```\n", text, re.S
    ):
        path, before = house / name, (house / name).read_text(encoding="utf-8") if mark != "file" else ""
        assert mark != "file" or not path.exists()
        assert old in before
        after = before.replace(f"{old}\n", content) if mark == "in" else before + content
        path.write_text(after, encoding="utf-8")
        changed.add(name)
    type_commands(house, text)
    return house, changed


def test_a_kind_of_figure_is_three_files(with_kind):
    """Its module, the experiment, its README: then it is drawn, drawn again and shown on the page with its claim."""
    house, changed = with_kind
    assert changed == {
        "src/mutransfer/results/basin.py",
        "experiments/gratings/experiment.py",
        "experiments/gratings/README.md",
    }
    folder = house / "figures/gratings/figure_basin"
    assert {p.name for p in folder.iterdir()} == {"basin.png", "basin.svg", "table.md", "runs.csv", "provenance.json"}
    table_md = (folder / "table.md").read_text(encoding="utf-8")
    assert re.search(r"\| 64 \| \d\.\d\d \[\d\.\d\d, \d\.\d\d\] \|", table_md) and "within 0.1 nats" in table_md
    page = (house / "report/index.html").read_text(encoding="utf-8")
    assert 'id="figure-gratings-figure_basin"' in page and "Octaves within 0.1 nats of the best: width 16: " in page
    assert_ruff_is_content(house / "src/mutransfer/results/basin.py", house / "experiments/gratings")
