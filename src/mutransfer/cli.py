"""The command line behind ``./reproduce.sh``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mutransfer.command import PARTS
from mutransfer.errors import UserError, known
from mutransfer.training.spec import PRECISIONS

if TYPE_CHECKING:
    from mutransfer.command import Command
    from mutransfer.designs.experiment import Experiment

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {
    "list": "the experiments, their variants and scales",
    "all": "run every experiment",
    "plan": "what an experiment would cost here: runs, FLOPs, memory, minutes",
    "tune": "Algorithm 1: search hyperparameters on the smallest width, copy the best to the largest",
    "runs": "list, export or delete the runs that are stored",
    "figures": "redraw figures and tables from their runs.csv, without training",
    "report": "one page with every figure, claim and number: report/index.html",
    "compare": "two sets of runs, yours and ours or SP and µP, as shifts of the best learning rate",
    "lab": "a lab of the course: ./reproduce.sh lab 1",
    "bench": "how fast this machine's sweeps are, beside the usual way and the bare kernels",
    "test": "the tests",
}


def main(
    argv: Sequence[str] | None = None,
    *,
    load: Callable[[str], Experiment] | None = None,
    adapt: Callable[[Command], Command] = lambda command: command,
) -> int:
    """Run one command. Returns 0; 1 if runs failed; 2 for a user's error (one line on stderr); 130 on Ctrl-C.

    load: from a name to the experiment, if not `load_experiment`. ``adapt``: the command before it is run, such as with
        another engine.
    """
    try:
        return _run(_parse(sys.argv[1:] if argv is None else list(argv)), load or load_experiment, adapt)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise UserError(f"{message}. Try: {self.prog} --help")


def _parse(argv: list[str]) -> argparse.Namespace:
    names = experiments()
    parser = _Parser(
        prog="./reproduce.sh",
        description="Sweep learning rates over widths in SP and µP and regenerate the paper's figures and tables.",
        epilog="./reproduce.sh COMMAND --help says more of each.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    group = _options()
    options: dict[str, list[_Parser]] = {
        **{name: [group[part] for part in ("training", "seeds", "figure")] for name in names},
        "all": [group["training"], group["seeds"]],
        "plan": [group[part] for part in ("training", "seeds", "figure", "samples")],
        "tune": [group[part] for part in ("training", "samples", "search")],
        "runs": [group["runs"], group["out"]],
        "figures": [group["out"]],
        "report": [group["out"]],
    }
    for name, words in {**dict.fromkeys(names, "run this experiment"), **COMMANDS}.items():
        command = commands.add_parser(name, help=words, description=words, parents=options.get(name, []))
        if name in ("plan", "tune", "runs"):
            command.add_argument("experiment", metavar="EXPERIMENT", help=", ".join(names))
        if name == "figures":
            command.add_argument("experiment", metavar="EXPERIMENT", nargs="?", help="default: all")
        if name == "compare":
            for which in ("a", "b"):
                command.add_argument(which, type=Path, metavar=which.upper(), help="a runs.csv, or its folder")
    if argv and not argv[0].startswith("-"):
        known("command or experiment", argv[0], commands.choices)
    return parser.parse_args(argv)


def _options() -> dict[str, _Parser]:
    """Options that several commands have, by what they are about."""
    out = _Parser(add_help=False)
    words = "where results/, figures/ and report/ are; default: this repository"
    out.add_argument("--out", type=Path, default=ROOT, help=words)

    training = _Parser(add_help=False, parents=[out])
    training.set_defaults(figure=None, seeds=None, samples=None, search_seed=0, halving=False, compare=False)
    add = training.add_argument
    add("--scale", help="smoke (seconds), cpu (minutes), gpu (hours), paper (the published setting)")
    add("--dataset", help="where an experiment has several, such as books, wikitext2")
    add("--variant", "--model", help="another figure of the experiment, named by ./reproduce.sh list")
    add("--widths", type=_widths, help="such as 64,256,1024 instead of the scale's")
    precision = partial(known, "precision", valid=(*PRECISIONS, "auto"))
    words = "float32 (default), bfloat16, or auto: what is fastest here"
    add("--precision", type=precision, default="float32", help=words)
    add("--backend", help="fairseq: train the sweep of a translation experiment by fairseq itself")
    add("--workers", type=_positive, help="processes at once; default: one per core, 4 per GPU")
    words = "local (default), or ray: on a running Ray cluster"
    add("--engine", type=partial(known, "engine", valid=("local", "ray")), default="local", help=words)
    add("--address", help="of the Ray cluster, HOST[:PORT]; default: the one this machine has joined")
    add("--data", type=Path, help="data folder; default: $MUTRANSFER_DATA, else data/")
    text = training.add_argument_group("parallel text of your own, for translation")
    text.add_argument("--corpus", type=Path, metavar="DIR", help="with train.LANG, valid.LANG and test.LANG")
    text.add_argument("--languages", metavar="L1-L2", help="source and target, as the files end")
    text.add_argument("--pieces", type=_positive, metavar="N", help="of the vocabulary, instead of the scale's")
    for part in PARTS:
        text.add_argument(f"--{part}", metavar="NAME", help=f"of the files of the {part} part")

    seeds, figure, samples, search, runs = (_Parser(add_help=False) for _ in range(5))
    seeds.add_argument("--seeds", type=_positive, help="how many, instead of the scale's")
    words = "another figure of the paper by its number or all, named by ./reproduce.sh list"
    figure.add_argument("--figure", metavar="N", help=words)
    samples.add_argument("--samples", type=_positive, help="of the search, instead of the scale's")
    samples.add_argument("--search-seed", type=_whole, default=0, help="of the samples (default 0)")
    words = "successive halving: train most samples for a part of the steps"
    search.add_argument("--halving", action="store_true", help=words)
    search.add_argument("--compare", action="store_true", help="the same search in SP beside it: naive transfer")
    add = runs.add_argument
    words = 'such as "width=1024" "log2_lr<=-4" status!=finished hps.loss=xent; all must hold'
    add("--where", nargs="+", action="extend", default=[], metavar="CONDITION", help=words)
    add("--export", type=Path, metavar="FILE", help="write the runs to a .csv or .parquet file")
    add("--delete", action="store_true", help="delete the runs that --where names, or --all")
    add("--all", dest="every", action="store_true", help="of --delete: every run")
    add("--yes", action="store_true", help="of --delete: without asking")
    add("--salvage", action="store_true", help="keep what can be read of a damaged store")
    parsers = {"out": out, "training": training, "seeds": seeds, "figure": figure}
    return {**parsers, "samples": samples, "search": search, "runs": runs}


def _positive(text: str) -> int:
    return _whole(text, 1, "positive whole number")


def _whole(text: str, least: int = 0, words: str = "whole number") -> int:
    try:
        if (value := int(text)) >= least:
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"'{text}' is no {words}")


def _widths(text: str) -> list[int]:
    return [_positive(part.strip()) for part in text.split(",")]


def _run(args: argparse.Namespace, load: Callable[[str], Experiment], adapt: Callable[[Command], Command]) -> int:
    from mutransfer import command

    def reproduced(name: str, do: Callable[[Command], int] = command.reproduce) -> int:
        return do(adapt(command.Command.of(args, load(name))))

    match args.command:
        case "list":
            for name in experiments():
                e = load(name)
                figures = f"; figures: {', '.join(e.numbers)}" if e.numbers else ""
                choices = f"variants: {', '.join(e.variants)}{figures}; scales: {', '.join(e.scales)}"
                print(f"{name:<16}{e.summary}\n{'':<16}{choices}")
                for dataset, other in e.elsewhere.items():
                    scales = ", ".join(other.scales)
                    print(f"{'':<16}--dataset {dataset}: {other.summary}; scales: {scales}")
        case "bench" | "test" | "lab":  # reproduce.sh runs these itself
            raise UserError(f"this needs more packages: run it as ./reproduce.sh {args.command}")
        case "report":
            from mutransfer.page import write_page

            summaries = {name: load_experiment(name).summary for name in experiments()}
            said, path = write_page(args.out / "figures", args.out / "report", experiments=summaries)
            print(f"{said}\nwrote {path}")
        case "compare":
            from mutransfer.results.compare import compare

            print(compare(args.a, args.b))
        case "figures":
            for name in [_known(args.experiment)] if args.experiment else experiments():
                folders = sorted(p.parent for p in (args.out / "figures" / name).rglob("provenance.json"))
                if not folders:
                    raise UserError(f"{args.out / 'figures' / name} has no runs; run ./reproduce.sh {name} first.")
                for folder in folders:
                    command.draw(folder)
        case "runs":
            from mutransfer.runs.table import runs

            options = {name: getattr(args, name) for name in ("where", "export", "delete", "every", "yes", "salvage")}
            return runs(args.out / "results" / f"{_known(args.experiment)}.sqlite", **options)
        case "plan":
            return reproduced(args.experiment, command.plan)
        case "tune":
            return reproduced(args.experiment)
        case "all":
            return max(map(reproduced, experiments()))
        case name:
            return reproduced(name)
    return 0


def experiments() -> list[str]:
    """Names of the folders in experiments/ that hold an experiment."""
    return sorted(p.parent.name for p in (ROOT / "experiments").glob("*/experiment.py"))


def load_experiment(name: str) -> Experiment:
    """The `Experiment` that experiments/<name>/experiment.py declares; `UserError` with the nearest name if none."""
    return import_module(f"experiments.{_known(name)}.experiment").EXPERIMENT


def _known(name: str) -> str:
    return known("experiment", name, experiments())


if __name__ == "__main__":
    sys.exit(main())
