"""GLUE's tasks of one or two sentences (Wang et al. 2018), and what stands in for those that are not here.

For each task by its name, in this order:

1. the files of ``<data>/glue_like``, verified (another file under the name is taken, with a note):
   - sst2: SST-2's train.tsv and, to test on, dev.tsv; GLUE's own;
   - cola: CoLA's in_domain_train.tsv; in_domain_dev.tsv and out_of_domain_dev.tsv together, GLUE's dev set;
   - mrpc: msr_paraphrase_train.txt, which is GLUE's train and dev set; to test on, msr_paraphrase_test.txt;
   - rte: the dev and test sets of RTE1 and RTE2 and the dev set of RTE3; to test on, RTE3's test set. GLUE has RTE5
     too and another split: near, not the same;
   - pan: the paraphrases of PAN 2010, balanced, half of them by plagiarists; taken instead of qqp where qqp is not had;
2. ``<data>/glue/NAME_train.tsv`` and ``NAME_test.tsv``: the label's number, a text, of pairs a second one, with tabs
   between. What is downloaded is kept so; mnli_mm has mnli's training file;
3. a download of ``nyu-mll/glue`` through the library `datasets`, tested on GLUE's dev set: mnli (matched), mnli_mm
   (mismatched, with the same training part; only if it is named), qqp, mrpc, rte, sst2, cola.

"stories" is a synthetic task, whether two sentences are of one story of `mutransfer.data.standins.grammar`.

The metric is GLUE's, where GLUE has two (mrpc, qqp) the accuracy: their F1 is high for a model that always says yes.
Labels are GLUE's numbers: 0 entailment, 1 neutral (rte: not entailment), 2 contradiction; 1 paraphrase, positive,
acceptable.

``<data>`` is ``--data``, else ``$MUTRANSFER_DATA``, else ``data/`` at the root of the repository. Alone:

    python data_scripts/glue.py [--data DIR] [--tasks NAME ...] [--no-download]
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run alone: then the path has this folder, not its parent
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from data_scripts import hub
from data_scripts.places import NO_DOWNLOAD, OTHER_TEXT, Documented, Missing, command, data_folder, has_any, read_text
from mutransfer.errors import UserError, unknown
from mutransfer.files import keep

if TYPE_CHECKING:
    from mutransfer.data.sentences import Examples, TaskTexts

LOCAL, KEPT = "glue_like", "glue"
HUB = "nyu-mll/glue"
STAND_IN = "stories"
DEFAULT = ("mnli", "qqp", "mrpc", "rte", "sst2", "cola")
STANDS_IN = {"qqp": "pan"}


@dataclass(frozen=True)
class _Files:
    """A task in `LOCAL`; columns: label, first, perhaps second, by their headings, or by numbers without headings."""

    source: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    columns: tuple[str, ...] | tuple[int, ...]
    labels: tuple[str, ...] = ("0", "1")


@dataclass(frozen=True)
class _Hub:
    """A task of `HUB`."""

    source: str
    config: str
    columns: tuple[str, ...]  # of the texts
    test: str = "validation"
    classes: int = 2


FILES = {
    "sst2": _Files("SST-2", ("SST-2/train.tsv",), ("SST-2/dev.tsv",), ("label", "sentence")),
    "cola": _Files(
        "CoLA", ("CoLA/in_domain_train.tsv",), ("CoLA/in_domain_dev.tsv", "CoLA/out_of_domain_dev.tsv"), (1, 3)
    ),
    "mrpc": _Files(
        "MRPC (tested on its test set)",
        ("MRPC/msr_paraphrase_train.txt",),
        ("MRPC/msr_paraphrase_test.txt",),
        ("Quality", "#1 String", "#2 String"),
    ),
    "rte": _Files(
        "RTE1 to RTE3 (near GLUE's RTE, not the same)",
        tuple(f"RTE/{name}.tsv" for name in ("rte1_dev", "rte1_test", "rte2_dev", "rte2_test", "rte3_dev")),
        ("RTE/rte3_test.tsv",),
        ("label", "premise", "hypothesis"),
        ("entailment", "not_entailment"),
    ),
    "pan": _Files(
        "PAN paraphrase (stands in for QQP)",
        ("PAN-paraphrase/train.tsv",),
        ("PAN-paraphrase/test.tsv",),
        ("label", "sentence1", "sentence2"),
    ),
}
ON_HUB = {
    "mnli": _Hub("MNLI (matched)", "mnli", ("premise", "hypothesis"), "validation_matched", 3),
    "mnli_mm": _Hub("MNLI (mismatched)", "mnli", ("premise", "hypothesis"), "validation_mismatched", 3),
    "qqp": _Hub("QQP", "qqp", ("question1", "question2")),
    "mrpc": _Hub("MRPC", "mrpc", ("sentence1", "sentence2")),
    "rte": _Hub("RTE", "rte", ("sentence1", "sentence2")),
    "sst2": _Hub("SST-2", "sst2", ("sentence",)),
    "cola": _Hub("CoLA", "cola", ("sentence",)),
}
NAMES = tuple(dict.fromkeys([*ON_HUB, *FILES, STAND_IN]))
METRICS = {"cola": "matthews"}  # of the others the accuracy
_TABLE = """
CoLA/in_domain_dev.tsv d2397a4edcbbe599 25957 77176f6a03faa5a1c4f23c69971fc1bff565931112fb65af47b2d6e24b7f42f7
CoLA/in_domain_train.tsv 46d30ce9b689dfb7 428578 f320a10f92d3bce6b29152fde322a362eac39238e50d8de0c8815457fdf4fc12
CoLA/out_of_domain_dev.tsv fd22af99ee062903 27754 201b9c57b2a20f1282242eec0ed8995729e3be19c29a46c047b3727338836c05
MRPC/msr_paraphrase_test.txt bf91abc198519542 431153 0d1a876ed5b29dc9779ec212f0d7a1601caafbc5837cd1200e638f0b0a654562
MRPC/msr_paraphrase_train.txt 7b3c727556965528 1022666 178c3d39a096a887a4afa2fdecc9089ad7d7f74c019a95ce8cdac2b4855ebf4a
PAN-paraphrase/test.tsv 2eaf40eaf4af0125 1197690 54a69822b86cae77a91202de28f0d9beec500b14c84a7ffbc473238df8a63a3c
PAN-paraphrase/train.tsv a2c550f321e5f84f 3990269 88814f2d1c3b8ad34a6550825b59e97fef56133f7cd27d0603950db19a1c4c74
RTE/rte1_dev.tsv 3bf1f21254c42de4 133787 122dc90192a7b2b3ed089333cd8d89b18d1c85d8e44be01454943026d938b2cb
RTE/rte1_test.tsv ad453d1175c9534e 199132 6a4f5e88075c9f5a84d2045fcbde4ce3f5bbdee90a30c94469bf5efaff7e7263
RTE/rte2_dev.tsv ff1299ded720589d 97679 d2236d027fcff41d3bd7b584dfc53df835e01b14802a176368e63ea766633418
RTE/rte2_test.tsv 677678a4329ad68a 200420 f321201262a7e2e5708e5a230aecf5bbb112b1cc707d2daaca8e2f0134bbd4a9
RTE/rte3_dev.tsv 52946c887fb0e178 231277 98554f03870c17c79f0fa87f632f1b6ca5aab3c86388f20680ddbe19c9bc2e55
RTE/rte3_test.tsv be008b1ad96e2d4b 205456 a7c86d08d90f2d3651c6b862bf1be8631e25eea5a1559fa7631f6d2c6b2a89da
SST-2/dev.tsv b29f70550990ed68 94931 54a9c12c77e402fc14d6a66a506f24d999f596b0176eb777c972cccc2f9cc4b0
SST-2/train.tsv 9e1d9418afd6b710 3806081 48eac26399f8456935f81dd9e3a745c1430adb6c62e233ccfe22db4a0d15d1d1
"""
"""Path, first 16 digits of the sha256 of the first 256 bytes, size, sha256."""
DOCUMENTED = {
    path: Documented(head, int(size), sha256) for path, head, size, sha256 in map(str.split, _TABLE.strip().split("\n"))
}


def load(
    data_dir: Path | None = None, *, tasks: Sequence[str] | None = None, download: bool = True
) -> dict[str, TaskTexts]:
    """The tasks that are named, or those of `DEFAULT` (pan for qqp), as far as they can be had; maybe none.

    What cannot be had is told in one line on stderr. Raises `UserError` for a name that is none, or if a file that
    should hold a task is missing beside the others, cut short, unreadable, or has another form.
    """
    for name in tasks or ():
        if name not in NAMES:
            raise unknown("task", name, NAMES)
    data = data_folder(data_dir, LOCAL)
    found: dict[str, TaskTexts] = {}
    missing, reason = list[str](), "" if download else "downloading was turned off"
    wanted = dict.fromkeys(DEFAULT if tasks is None else tasks)
    for name in wanted:
        try:
            found[name] = _task(data, name, reason)
        except Missing as error:
            missing.append(name)
            if name in ON_HUB:
                reason = str(error)  # who did not answer is not asked again
            if tasks is None and name in STANDS_IN:
                other = STANDS_IN[name]
                with contextlib.suppress(Missing):
                    found[other] = _task(data, other, reason)
                    missing[-1] += f" ({other} stands in for it)"
    if missing:
        places = f"not in {data / LOCAL} or {data / KEPT}; {reason or 'there is no download'}"
        print(f"note: no data for {', '.join(missing)}: {places}.", file=sys.stderr)
    return found


def _task(data: Path, name: str, reason: str) -> TaskTexts:
    """One task. ``reason``: why nothing can be downloaded, if so. Raises `Missing` with the reason why not."""
    if name == STAND_IN:
        from mutransfer.data.standins.grammar import stories_task

        return stories_task()
    if name in FILES and has_any(data / LOCAL, (*FILES[name].train, *FILES[name].test)):
        return _from_files(data / LOCAL, name, FILES[name])
    if name not in ON_HUB:
        raise Missing("there is no download")
    return _kept_or_downloaded(data / KEPT, name, ON_HUB[name], reason)


def _from_files(folder: Path, name: str, task: _Files) -> TaskTexts:
    parts: list[Examples] = []
    is_known = True
    for paths in (task.train, task.test):
        rows = list[list[str]]()
        for path in paths:
            text, is_as_documented = read_text(folder / path, DOCUMENTED.get(path))
            is_known &= is_as_documented
            rows += _rows(folder / path, text, task.columns)
        parts.append(_examples(folder / paths[0], rows, task.labels))
    return _texts(name, len(task.labels), task.source if is_known else OTHER_TEXT + task.source, parts)


def _texts(name: str, classes: int, source: str, parts: Sequence[Examples]) -> TaskTexts:
    from mutransfer.data.sentences import TaskTexts

    return TaskTexts(METRICS.get(name, "accuracy"), classes, source, True, *parts)


def _rows(path: Path, text: str, columns: Sequence[str] | Sequence[int]) -> list[list[str]]:
    """These columns of a table with tabs between them and no quotes."""
    lines = [line.removesuffix("\r").split("\t") for line in text.removesuffix("\n").split("\n")]
    places, first = [int(c) for c in columns if not isinstance(c, str)], 0
    if not places:
        heading, first = lines[0], 1
        for column in columns:
            if column not in heading:
                raise UserError(f"{path} has no column '{column}' in its first line; found: {', '.join(heading)}.")
            places.append(heading.index(str(column)))
        if len(lines) == 1:
            raise UserError(f"{path} has no row below its first line; put a whole copy in its place.")
    for i, line in enumerate(lines[first:], first + 1):
        if len(line) != len(lines[0]):
            raise UserError(
                f"{path}, line {i}: {len(line)} columns, expected {len(lines[0])} as in the first line; put a whole "
                "copy in its place."
            )
    return [[" ".join(line[place].split()) for place in places] for line in lines[first:]]


def _examples(path: Path, rows: list[list[str]], labels: Sequence[str]) -> Examples:
    """From rows of label, text and perhaps second text."""
    from mutransfer.data.sentences import Examples

    number = {label: i for i, label in enumerate(labels)}
    for row in rows:
        if row[0] not in number:
            raise unknown(f"label in {path.parent}", row[0], labels)
    second = [row[2] for row in rows] if len(rows[0]) > 2 else None
    return Examples([row[1] for row in rows], second, [number[row[0]] for row in rows])


def _kept_or_downloaded(folder: Path, name: str, task: _Hub, reason: str) -> TaskTexts:
    parts: dict[str, Examples] = {}
    labels = [str(i) for i in range(task.classes)]
    # The training file, the larger one, last.
    for part, split, file in (("test", task.test, f"{name}_test.tsv"), ("train", "train", f"{task.config}_train.tsv")):
        path = folder / file
        if os.path.lexists(path):
            rows = _rows(path, read_text(path)[0], range(1 + len(task.columns)))
        elif reason:
            raise Missing(reason)
        else:
            rows = _downloaded(task, split)
            keep(path, "".join("\t".join(row) + "\n" for row in rows).encode())
        parts[part] = _examples(path, rows, labels)
    return _texts(name, task.classes, task.source, (parts["train"], parts["test"]))


def _downloaded(task: _Hub, split: str) -> list[list[str]]:
    """Label and texts of each row."""
    columns = list[list[str]]()
    try:
        for column in ("label", *task.columns):  # one at a time; the file is downloaded once
            with contextlib.closing(hub.texts(HUB, task.config, split=split, column=column)) as stream:
                columns.append([" ".join(str(value).split()) for value in stream])
    except hub.HubError as error:
        raise Missing(str(error)) from error
    if not columns[0]:
        raise Missing(f"the hub gave no rows of {task.config}'s {split}")
    return [list(row) for row in zip(*columns, strict=True)]


def main(argv: list[str] | None = None) -> int:
    """Fetch, verify and summarise; exit code 2 and one line on stderr for an error of the user's."""
    names = {"nargs": "+", "metavar": "NAME", "help": f"of {', '.join(NAMES)} (default: what can be had)"}
    return command(
        "Fetch and verify GLUE's tasks, or what stands in for them.",
        load,
        _summary,
        argv,
        tasks=names,
        no_download=NO_DOWNLOAD,
    )


def _summary(tasks: dict[str, TaskTexts]) -> Iterator[tuple[str, str]]:
    from mutransfer.data.arrays import mark_of
    from mutransfer.data.sentences import lines_of_tasks

    for name, task in tasks.items():
        form = "single texts" if task.train.second is None else "pairs"
        yield name, task.source
        yield "", f"{len(task.train.labels):,} {form} to train, {len(task.test.labels):,} to test; {task.metric}"
    yield "fingerprint", mark_of(chain(["()", ""], lines_of_tasks(tasks)))


if __name__ == "__main__":
    sys.exit(main())
