"""The house: one-way imports, one list of dependencies, a README whose snippet and links are true."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest
import yaml

import mutransfer

ROOT = Path(__file__).resolve().parents[1]
MOST_MODULES = 27
README = (ROOT / "README.md").read_text()


def test_imports_flow_one_way():
    """experiments -> designs -> runs -> training -> models, data, parametrization; results -> page, without torch."""
    lint = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "5 kept, 0 broken" in run.stdout


def test_a_claim_needs_no_torch():
    """Redrawing a figure must not wait for torch, nor need it."""
    code = "import sys, mutransfer.results, mutransfer.page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_one_name_is_one_thing():
    """No two classes and no two modules of one name: whoever searches for it finds it."""
    modules = [path for path in (ROOT / "src").rglob("*.py") if path.stem != "__init__"]
    classes = [name for path in modules for name in re.findall(r"^class (\w+)", path.read_text(), re.M)]
    for names in (classes, [path.stem for path in modules]):
        assert not {name for name in names if names.count(name) > 1}


def test_a_package_is_a_handful_of_rooms():
    """Fragments of modules are joined, whatever their length; no cycle of imports, but for type checkers."""
    packages = {path.parent for path in (ROOT / "src").rglob("*.py")}
    assert not {path: count for path in packages if (count := len([*path.glob("*.py")])) > MOST_MODULES}
    graph = grimp.build_graph("mutransfer", include_external_packages=False, exclude_type_checking_imports=True)
    after = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert sum(map(len, after.values())) > 200
    while leaves := [module for module, others in after.items() if not others]:
        after = {module: others - {*leaves} for module, others in after.items() if module not in leaves}
    assert not after


@pytest.mark.parametrize("command", [["list"], ["--help"], ["runs", "cifar_mlp"], ["figures", "--help"]])
def test_what_trains_nothing_waits_for_nothing(command, tmp_path):
    """The list of experiments, help and stored runs are there at once: no torch, pandas or matplotlib."""
    code = "import atexit, sys; from mutransfer import cli\n"
    code += "atexit.register(lambda: print({'torch', 'pandas', 'matplotlib'} & {*sys.modules}))\n"
    code += "cli.main(sys.argv[1:])"
    out = ["--out", str(tmp_path)] if command[0] == "runs" else []
    run = subprocess.run([sys.executable, "-c", code, *command, *out], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout.endswith("set()\n") and "Traceback" not in run.stderr


def test_public_names():
    """What the README and the world import is there, and a name that is not says so."""
    assert {"scaling_plan", "SP", "MUP", "coord_check", "transfer_report", "attention_scale"} <= set(mutransfer.__all__)
    for name in mutransfer.__all__:
        assert getattr(mutransfer, name).__doc__
    with pytest.raises(AttributeError, match="coord_chek"):
        mutransfer.coord_chek  # noqa: B018


def test_conda_has_the_same_dependencies():
    """pyproject.toml is the one list."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(d["pip"] for d in conda if isinstance(d, dict))
    assert pip == [*project["dependencies"], "-e ."]
    assert conda[0] == f"python{project['requires-python']}"
    assert set(project["optional-dependencies"]) == {"dev", "fairseq", "cluster", "hf", "labs"}


def test_every_experiment_has_its_folder():
    """One stem for the command, the folder, its README and its figures."""
    for path in (ROOT / "experiments").glob("*/experiment.py"):
        assert (path.parent / "README.md").is_file()
        drawn = [p.parent for p in (ROOT / "figures" / path.parent.name).rglob("provenance.json")]
        assert drawn, path.parent.name
        for folder in drawn:
            assert {"runs.csv", "table.md"} <= {p.name for p in folder.iterdir()}, folder
            if folder.name != "tune":
                assert list(folder.glob("*.png")) and list(folder.glob("*.svg")), folder


def test_readme_snippet_runs():
    """The ten lines that put µP on one's own model are run as they stand, and their claim is checked."""
    snippet = re.search(r"<!-- snippet -->\n```python\n(.*?)```", README, re.S)[1]
    assert len([line for line in snippet.splitlines() if line.strip() and not line.startswith("#")]) <= 16
    names = {}
    exec(snippet, names)
    assert names["verdict"].ok
    assert names["plan"]["readout.weight"].lr == 1 / 16


LINKS = re.findall(r"\[`([^`]+)`\]\(([^)#]+)#L(\d+)\)", README)


@pytest.mark.parametrize(("code", "path", "line"), LINKS, ids=[code for code, *_ in LINKS])
def test_readme_points_at_the_lines_it_names(code, path, line):
    """The table from the paper's symbols to lines of code holds."""
    assert code in (ROOT / path).read_text().splitlines()[int(line) - 1]


def test_readme_has_the_table():
    """An empty list of links would pass the test above."""
    assert len(LINKS) >= 10
    for image in re.findall(r"!\[[^]]+\]\(([^)]+)\)", README):
        assert (ROOT / image).is_file()


def test_the_door_opens_and_refuses():
    """reproduce.sh in the active environment: a list, and one line with exit code 2 for a name that is none."""
    env = {**os.environ, "VIRTUAL_ENV": sys.prefix, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    good = subprocess.run(["./reproduce.sh", "list"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert good.returncode == 0 and "\ncifar_mlp " in good.stdout
    bad = subprocess.run(["./reproduce.sh", "cifar_mpl"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert bad.returncode == 2 and bad.stdout == ""
    assert bad.stderr.count("\n") == 1 and "Did you mean 'cifar_mlp'?" in bad.stderr


def test_ci_runs_the_readme_command():
    """.ci/run is the test command that the README gives, and Chromium as the README says; nothing more."""
    assert "./reproduce.sh test" in README and "apt-get install chromium" in README
    lines = (ROOT / ".ci/run").read_text().splitlines()
    chromium, test = (x for x in lines if x and not x.startswith(("#", "set", "cd")))
    assert test == "./reproduce.sh test" and chromium.startswith("command -v chromium >/dev/null || { apt-get ")
