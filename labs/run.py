"""Run a lab's notebook: write it for the student if there is none, execute it, say what its checks say.

A lab is one text beside this file (jupytext's percent format): the solution, with the student's lines marked in it.
The student's copy, with outputs, is ``labs/work/<stem>.ipynb``; it is never written over. The solution is executed in
``labs/work/solutions``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from labs.checks.base import LINE, SCALE
from mutransfer.errors import UserError, unknown

LABS = Path(__file__).resolve().parent
ROOT = LABS.parent
INSTALL = "python -m pip install jupyterlab"
MARK = "# STUDENT: "
"""Begins a line that the student's copy has in place of the answer, which goes on to the end of the exercise's cell."""


def texts(folder: Path = LABS) -> dict[str, Path]:
    """The labs' texts by their number."""
    return {path.stem.removeprefix("lab").split("_")[0]: path for path in sorted(folder.glob("lab[0-9]_*.py"))}


def main(argv: Sequence[str] | None = None, folder: Path = LABS) -> int:
    """Run one lab of ``folder`` in its ``work``. Returns 0; 1 if a cell raised, or a solution's check is not right; 2
    for a user's error."""
    try:
        return _run(_parse(sys.argv[1:] if argv is None else list(argv), texts(folder)), folder / "work")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise UserError(f"{message}. Try: {self.prog} --help")


def _parse(argv: list[str], labs: dict[str, Path]) -> argparse.Namespace:
    parser = _Parser(
        prog="./reproduce.sh lab",
        description="Write the notebook of a lab to labs/work, if there is none, run it and show what its checks say.",
    )
    parser.add_argument("lab", metavar="LAB", help=", ".join(f"{n} ({path.stem})" for n, path in labs.items()))
    parser.add_argument("--solution", action="store_true", help="run the shipped solution, in labs/work/solutions")
    parser.add_argument("--smoke", action="store_true", help="seconds instead of minutes; numbers mean little")
    parser.add_argument("--open", action="store_true", help="open it in JupyterLab instead of running it here")
    options = parser.parse_args(argv)
    if options.lab not in labs:
        raise unknown("lab", options.lab, labs)
    options.text = labs[options.lab]
    return options


def _run(options: argparse.Namespace, work: Path) -> int:
    for module in ("jupytext", "nbclient", "ipykernel"):
        if find_spec(module) is None:
            raise UserError(f"the labs need {module}: python -m pip install -e '{ROOT}[labs]'")
    path = work / ("solutions" if options.solution else "") / f"{options.text.stem}.ipynb"
    if options.solution or not path.exists():
        write(path, notebook_of(options.text, solved=options.solution))
    where = os.path.relpath(path)
    if options.open:
        return _open(path, where, environment(options.smoke))
    notebook, failure = _read(path), ""
    print(f"running {where} ...", flush=True)
    try:
        failure = execute(notebook, path.parent, environment(options.smoke), lambda line: print(line, flush=True))
    finally:
        write(path, notebook)  # whatever happened: the outputs so far are worth keeping
    lines = [line["verdict"] for line in check_lines(notebook)]
    right = lines.count("right")
    print(f"{right} of {len(lines)} right in {where}")
    if failure:
        print(f"error: {failure}; mend it and run the same command again.", file=sys.stderr)
    if not options.solution:
        print(f"Open it: ./reproduce.sh lab {options.lab} --open (or in any editor for notebooks), answer, run again.")
    return int(bool(failure) or (options.solution and right < len(lines)))


def notebook_of(text: Path, *, solved: bool) -> Any:
    """A lab's text as a notebook without outputs: the solution, or the student's copy (see `MARK`)."""
    import jupytext

    notebook = jupytext.read(text)
    for cell in notebook.cells:
        lines = cell.source.splitlines()
        is_marked = [line.lstrip().startswith(MARK) for line in lines]
        if any(is_marked):
            given = 0 if solved else is_marked.index(True)  # the question and what stands before the answer
            kept = [line for k, line in enumerate(lines) if k < given or is_marked[k] != solved]
            cell.source = "\n".join(line.replace(MARK, "", 1) for line in kept)
    return notebook


def _read(path: Path) -> Any:
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError, AttributeError) as error:  # cut short, or no JSON
        raise UserError(
            f"{path} is not a whole notebook ({' '.join(str(error).split())[:80]}); move it away and run the same "
            "command again for a fresh one."
        ) from error


def write(path: Path, notebook: Any) -> None:
    """Write the notebook, whole or not at all."""
    import nbformat

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    nbformat.write(notebook, part)
    part.replace(path)


def environment(smoke: bool) -> dict[str, str]:
    """What a kernel finds in its environment: the repository's modules, and the scale."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, **({SCALE: "smoke"} if smoke else {})}


def execute(notebook: Any, folder: Path, env: dict[str, str], report: Callable[[str], None]) -> str:
    """Execute the notebook in place, in ``folder``, with this very Python; ``report`` each check's line as it comes.

    Returns "" or, in one line, which cell raised and why.
    """
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    class ThisPython(AsyncKernelManager):  # not a kernel of the same name that the user has installed elsewhere
        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(**get_kernel_dict())

    for cell in notebook.cells:
        if cell.cell_type == "code":  # what stands there afterwards is of this run
            cell.outputs, cell.execution_count = [], None
    now = -1

    def begun(cell: Any, cell_index: int) -> None:
        nonlocal now
        now = cell_index

    def executed(cell: Any, cell_index: int, execute_reply: Any) -> None:
        for match in check_lines(cell):
            report(match.group())

    client = NotebookClient(
        notebook,
        km=ThisPython(),
        timeout=None,
        resources={"metadata": {"path": str(folder)}},
        on_cell_execute=begun,
        on_cell_executed=executed,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
    )
    try:
        client.execute(env=env, cleanup_kc=True)  # a kernel manager given is left running otherwise
    except CellExecutionError as error:
        return f"{_name(notebook, now)} raised {error.ename}: {' '.join(str(error.evalue).split())}"
    except DeadKernelError:
        return f"{_name(notebook, now)} ended with its kernel (stopped from outside, or out of memory)"
    return ""


def _name(notebook: Any, index: int) -> str:
    """A cell by its number among the code cells and its first line of code."""
    number = sum(cell.cell_type == "code" for cell in notebook.cells[: index + 1])
    first = next((line.strip() for line in notebook.cells[index].source.splitlines() if line.strip()), "")
    return f"code cell {number} ('{first if len(first) <= 50 else first[:47] + '...'}')"


def check_lines(part: Any) -> list[Any]:
    """The matches of `LINE` in the outputs of a cell or of a whole notebook."""
    cells = part.cells if "cells" in part else [part]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [match for output in outputs if output.get("name") == "stdout" for match in LINE.finditer(output.text)]


def _open(path: Path, where: str, env: dict[str, str]) -> int:
    if find_spec("jupyterlab") is None:
        print(f"{where} is ready, but JupyterLab is not installed. Install it ({INSTALL}) or open it in your editor.")
        return 1
    return subprocess.call([sys.executable, "-m", "jupyterlab", str(path)], env=env)
