"""The README: its commands work at smoke scale, its options are there, its snippet and its links are true."""

import re
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from mutransfer import cli
from mutransfer.training.spec import RunRecord
from tests.here import Here, command
from tests.small import by_formula

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [*dict.fromkeys(words.strip() for words in re.findall(r"\./reproduce\.sh ([^`#\n]+)", README))]
EXPERIMENTS = cli.experiments()
ELSEWHERE = {  # why a command is not run here
    "test": "it is what runs this: tests/test_house.py compares it with .ci/run",
    "bench": "reproduce.sh hands it to benchmarks/, for minutes: tests/test_bench_translation.py",
    "bench kill": "reproduce.sh hands it to benchmarks/, for minutes: tests/runs/test_driver.py plays a round of it",
    "lab 1": "reproduce.sh hands it to labs/: tests/labs/test_runner.py goes a student's way",
    "cifar_mlp --engine ray": "it needs a Ray cluster: tests/runs/test_ray.py starts one",
}
FILLED = {  # a placeholder of the README, and what a reader puts there
    "<experiment>": EXPERIMENTS,
    "figures [<experiment>]": ["figures", "figures cifar_mlp"],
    "tune <experiment>": [f"tune {name}" for name in EXPERIMENTS if cli.load_experiment(name).variant(None)[1].search],
    "<experiment> --figure N": ["cifar_resnet --figure 16"],
    "A.csv B.csv": ["house/figures/cifar_mlp/runs.csv house/figures/cifar_mlp/runs.csv"],
    "width=1024": ["width=32"],  # smoke's
}
SAYS = {
    "list": "scales: smoke",
    "all": "12 of 12 runs are in the store already, 0 to do",
    "plan": "FLOPs",
    "tune": "winner: sample",
    "runs": " runs",
    "figures": "wrote house/figures/cifar_mlp/lr_vs_loss.svg",
    "report": "wrote house/report/index.html",
    "compare": "same",
}


def typed(words: str) -> list[str]:
    """A command of the README in every way to fill its placeholders in."""
    for placeholder in sorted(FILLED, key=len, reverse=True):
        if placeholder in words:
            return [again for value in FILLED[placeholder] for again in typed(words.replace(placeholder, value))]
    assert not re.search(r"<\w+>|\[|\b[A-Z]+\b", words), f"unknown placeholder in ./reproduce.sh {words}"
    return [words]


def never(spec, dataset) -> RunRecord:
    """A run that the store should have."""
    raise AssertionError(f"{spec} is made again")


@pytest.fixture
def house(smoke, tmp_path, monkeypatch) -> Path:
    """Where a reader is who has run every experiment at smoke scale: ``house`` has its results and figures."""
    monkeypatch.chdir(tmp_path)
    for name in EXPERIMENTS:
        shutil.copytree(smoke(name), "house", dirs_exist_ok=True)
    return Path("house")


def test_what_is_read_from_the_readme_is_there():
    """Commands from code blocks, tables and prose, reasons that name tests, experiments with a page, links, images."""
    assert {"cifar_mlp", "list", "<experiment>", "all", "report", "iwslt14 --backend fairseq"} <= set(COMMANDS)
    assert set(ELSEWHERE) <= set(COMMANDS)
    images, reasons = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README), " ".join(ELSEWHERE.values())
    for path in [*images, *re.findall(r"tests/\S+\.py", reasons)]:
        assert (ROOT / path).is_file(), path
    assert sorted(re.findall(r"^\| \[(\w+)\]\(experiments/\1/README\.md\) \| ", README, re.M)) == EXPERIMENTS
    assert len(LINKS) >= 10


RUN = dict.fromkeys(again for words in COMMANDS if words not in ELSEWHERE for again in typed(words))


@pytest.mark.parametrize("words", RUN)
def test_a_command_works(words, smoke, request, capsys):
    """It ends with 0, says what it should, writes what it says, and leaves what was drawn as it was, byte for byte."""
    first, *rest = shlex.split(words)
    if words in EXPERIMENTS:
        out = smoke(words)
        assert f"wrote {out / 'figures' / words}" in (out / "printed.txt").read_text()
        return
    request.getfixturevalue("house")
    engine = None
    if first == "figures" and not rest:  # for every experiment what is drawn soonest
        shutil.copytree("house/figures/cifar_mlp", "quick")
        for name in EXPERIMENTS:
            shutil.rmtree(f"house/figures/{name}")
            shutil.copytree("quick", f"house/figures/{name}")
    if "--backend" in rest and find_spec("fairseq") is None:
        pytest.skip("fairseq is not installed")
    if first == "tune" or "--backend" in rest:  # tests/test_translation_experiments.py makes a run by fairseq
        engine = Here(by_formula)
    if first == "all" or "--figure" in rest:  # typed again, as every experiment has been run
        engine = Here(never)
    trains = first in (*EXPERIMENTS, "plan", "tune", "all")
    out = ["--out", "house"] if first not in ("list", "compare") else []
    drawn = {p: p.read_bytes() for p in Path("house/figures").rglob("*.*")}
    assert command(first, *rest, *(["--scale", "smoke"] if trains else []), *out, engine=engine) == 0
    printed = capsys.readouterr().out
    assert SAYS.get(first, "wrote house/figures") in printed
    assert {path: path.read_bytes() for path in drawn} == drawn
    for path in re.findall(r"^wrote (\S+)$", printed, re.M) + re.findall(r"--export (\S+)", words):
        assert Path(path).stat().st_size > 0


def test_the_options_are_there(capsys):
    """Those that the README tells of a command, by the commands' own help."""
    told = README.split("## Two commands")[1].split("## How to read")[0] + README.split("## Sweeps")[1].split("###")[0]
    options = {word for code in re.findall(r"`([^`\n]+)`", told) for word in re.findall(r"(?<!\S)--[a-z-]+", code)}
    assert len(options) >= 20
    helps = []
    for words in ([], *([name] for name in (*cli.COMMANDS, "iwslt14"))):
        with pytest.raises(SystemExit) as end:
            cli.main([*words, "--help"])
        assert end.value.code == 0
        helps.append(capsys.readouterr().out)
    assert options <= set(re.findall(r"--[a-z-]+", "".join(helps))) | {"--head"}  # of ray start


def test_the_snippet_runs():
    """The ten lines that put µP on one's own model are run as they stand, and their claim is checked."""
    snippet = re.search(r"<!-- snippet -->\n```python\n(.*?)```", README, re.S)[1]
    assert len([line for line in snippet.splitlines() if line.strip() and not line.startswith("#")]) <= 16
    names = {}
    exec(snippet, names)
    assert names["verdict"].ok
    assert names["plan"]["readout.weight"].lr == 1 / 16


LINKS = re.findall(r"\[`([^`]+)`\]\(([^)#]+)#L(\d+)\)", README)


@pytest.mark.parametrize(("code", "path", "line"), LINKS, ids=[code for code, *_ in LINKS])
def test_a_line_holds_what_is_said(code, path, line):
    """The table from the paper's symbols to lines of code holds."""
    assert code in (ROOT / path).read_text().splitlines()[int(line) - 1]


def test_the_house_is_the_one_that_stands():
    """Every folder of the section is there, and every package of src/mutransfer is in it."""
    house = README.split("## The house")[1]
    packages = {p.parent.name for p in (ROOT / "src/mutransfer").glob("*/__init__.py")}
    assert packages <= set(re.findall(r"(\w+)/", house))
    for folder in re.findall(r"^(\w+)/", house, re.M):
        assert (ROOT / folder).is_dir(), folder
