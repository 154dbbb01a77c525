"""What the scripts for translation share: the files of a parallel corpus, and what one says of it on the command line.

A corpus is a folder of text files ``NAME.LANG`` (UTF-8, one sentence per line; line i of one language is the
translation of line i of the other). Which NAME is which part: the one that is given, else the first that is there of

- train;
- valid, val, validation, dev, newstest2013, newstest2012, dev2010;
- test, test_2016_flickr, newstest2014, tst2014, tst2015.

Of each line runs of white space become one space, and the escapes of Moses' tokenizer (``&apos;``, ``&quot;``,
``&amp;``, ``&lt;``, ``&gt;``, ``&#91;``, ``&#93;``, ``&#124;``) the characters they stand for. Pairs of the training
part that lack a side are left out. Unless asked for, nothing else is done to a corpus that somebody prepared: no pair
is left out for its length, no letter made lower case, no token put together again. The tokens are kept in a folder
``prepared`` beside the files, if that can be written, and found there by the next run.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from data_scripts import parallel
from data_scripts.parallel import Cleaning, Lines
from data_scripts.places import NO_DOWNLOAD, OTHER_TEXT, Missing, data_folder, has_any, read_text
from data_scripts.places import command as run_alone
from mutransfer.errors import UserError, unknown

if TYPE_CHECKING:
    from mutransfer.data.pairs import PairDataset

NAMES = {
    "train": ("train",),
    "valid": ("valid", "val", "validation", "dev", "newstest2013", "newstest2012", "dev2010"),
    "test": ("test", "test_2016_flickr", "newstest2014", "tst2014", "tst2015"),
}
PARTS = tuple(NAMES)
LEAST_PIECES, MOST_PIECES = 100, 1_000_000
BPE = "@@ "  # the mark that subword-nmt leaves inside of words


class Found(NamedTuple):
    """The text of a recipe's data set, and what is done to it unless one says otherwise."""

    parts: dict[str, Lines]
    is_known: bool  # whether it is the documented text, as far as its sizes tell
    lowers: bool = False  # all letters are made lower case
    cleans: bool = False  # unlikely training pairs are left out
    is_cleaned: bool = False  # they were, whatever one says


@dataclass(frozen=True)
class Recipe:
    """A parallel corpus that has a folder of its own, and how it is prepared."""

    folder: str  # in the data folder
    name: str  # for captions
    languages: tuple[str, str]  # source and target
    pieces: int
    cleaning: Cleaning
    find: Callable[[Path, tuple[str, str], bool, bool | None], Found | str]
    """The text, from folder, languages, whether to download, and whether to clean (None: as it does); or why it is
    not here, in a sentence that says what was tried and what to do."""


def load(
    recipe: Recipe,
    data_dir: Path | None = None,
    *,
    corpus: Path | None = None,
    languages: tuple[str, str] | None = None,
    pieces: int | None = None,
    download: bool = True,
    lowercase: bool | None = None,
    clean: bool | None = None,
    names: Mapping[str, str] | None = None,
) -> PairDataset:
    """The data set of a recipe, or the parallel corpus that is named, else the stand-in.

    Args:
        corpus: a folder with another parallel corpus, which gives it its name.
        languages: source and target; by default the recipe's.
        pieces: of the vocabulary of both languages together, by default the recipe's; fewer if the text is short.
        lowercase, clean: None stands for what the recipe does to its own text, and for nothing elsewhere.
        names: of a ``corpus``: part ("train", "valid", "test") to the NAME of its files.

    Raises `UserError` if a folder that was named does not exist, or a file that should hold real text is missing
    beside the others, cut short or unreadable: the stand-in never hides a broken file. `Missing` if the text is not
    here, and the stand-in does not have these languages.
    """
    languages, pieces = languages or recipe.languages, recipe.pieces if pieces is None else pieces
    # They go into names of files, between "." and "-".
    if len(set(languages)) != 2 or not all(re.fullmatch(r"[A-Za-z_]+", language) for language in languages):
        raise UserError(
            f"languages '{'-'.join(languages)}' are no pair; expected two different ones as the files end, e.g. de-en."
        )
    if not LEAST_PIECES <= pieces <= MOST_PIECES:
        raise UserError(f"{pieces} pieces are no vocabulary; expected {LEAST_PIECES} to {MOST_PIECES:,}.")
    for part in names or {}:
        if part not in PARTS:
            raise unknown("part of the corpus", part, PARTS)
    if corpus is not None:
        folder = corpus.expanduser().resolve()
        found = Found(read(folder, languages, names), is_known=True)
        folder_name, name = folder.name, f"parallel corpus {folder.name} {'-'.join(languages)}"
    elif names:
        raise UserError(
            f"names of files ({', '.join(names)}) are for a corpus of your own; name it too (--corpus DIR)."
        )
    else:
        folder = data_folder(data_dir, recipe.folder) / recipe.folder
        folder_name, name = recipe.folder, f"{recipe.name} {'-'.join(languages)}"
        answer = recipe.find(folder, languages, download, clean)
        if isinstance(answer, str):
            return _stand_in(name, languages, pieces, answer)
        found = answer
    lowers = found.lowers if lowercase is None else lowercase
    cleans = (found.cleans if clean is None else clean) and not found.is_cleaned
    train, valid, test = (parallel.lower(found.parts[part]) if lowers else found.parts[part] for part in PARTS)
    whole = len(train[0])
    if cleans:
        train = parallel.clean(train, recipe.cleaning)
    source = name if found.is_known else OTHER_TEXT + name
    if not train[0]:
        raise UserError(f"{source} has no training pair left of {whole:,}; try without cleaning (--no-clean).")
    count = f"{len(train[0]):,}" + (f" of {whole:,}" if len(train[0]) < whole else "")
    from mutransfer.data.pairs import PairDataset

    return PairDataset.from_texts(
        folder_name,
        f"{source}, {count} training pairs{', lower-cased' if lowers else ''}",
        is_real=True,
        languages=languages,
        train=train,
        valid=valid,
        test=test,
        pieces=pieces,
        cache=folder / "prepared",
    )


def has_files(folder: Path, languages: tuple[str, str]) -> bool:
    """Whether a training file lies in ``folder``, in either language."""
    return has_any(folder, [f"{NAMES['train'][0]}.{language}" for language in languages])


def read(folder: Path, languages: tuple[str, str], names: Mapping[str, str] | None = None) -> dict[str, Lines]:
    """The three parts of a corpus, tidied.

    Args:
        names: part ("train", "valid", "test") to NAME, where the rule would find none or another.

    Raises `UserError` if a part is missing, a file is not UTF-8 or empty, or two files differ in their lines.
    """
    names = names or {}
    if not folder.is_dir():
        raise UserError(f"corpus folder {folder} does not exist or is no folder; name one with train.{languages[0]}.")
    parts = {}
    for part in PARTS:
        wanted = (names[part],) if part in names else NAMES[part]
        name = next((x for x in wanted if has_any(folder, [f"{x}.{language}" for language in languages])), None)
        if name is None:
            raise _no_part(folder, part, wanted, languages, part in names)
        for language, other in (languages, languages[::-1]):
            if not os.path.lexists(folder / f"{name}.{language}"):
                endings = sorted(path.name.removeprefix(f"{name}.") for path in folder.glob(f"{name}.*"))
                raise UserError(
                    f"{folder} has {name}.{other}, but no {name}.{language}; put it there, or name the languages "
                    f"that are (--languages L1-L2; found: {', '.join(endings)})."
                )
        source, target = (_lines(folder / f"{name}.{language}") for language in languages)
        if len(source) != len(target):
            raise UserError(
                f"{folder / name}.{languages[0]} has {len(source):,} lines, but {name}.{languages[1]} "
                f"{len(target):,}; expected one sentence per line, and its translation in the same line of the other."
            )
        parts[part] = tidied(part, (source, target))
    return parts


def tidied(part: str, lines: Lines) -> Lines:
    """The lines as they are used; of the training part without pairs that lack a side."""
    source, target = ([parallel.tidy(line) for line in side] for side in lines)
    return parallel.without_empty((source, target)) if part == "train" else (source, target)


def _lines(path: Path) -> list[str]:
    text = read_text(path)[0]
    lines = text.removesuffix("\n").split("\n")
    if text.count(BPE) > len(lines) / 10:
        raise UserError(
            f"{path} is cut into subwords already ('{BPE.strip()}' inside of words); expected plain text, as in the "
            "folder tmp of fairseq's recipe, or undo it (sed 's/@@ //g')."
        )
    return lines


def _no_part(folder: Path, part: str, wanted: tuple[str, ...], languages: tuple[str, str], is_named: bool) -> UserError:
    """That a part is missing, with the files that may have been meant."""
    there = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    ours = [name.rpartition(".")[0] for name in there if name.rpartition(".")[2] in languages]
    if ours and is_named:
        return unknown(f"{part} part of {folder}", wanted[0], dict.fromkeys(ours))
    names = f"{wanted[0]}.{languages[0]} and .{languages[1]}"
    if len(wanted) > 1:
        names += f" (or instead of {wanted[0]}: {', '.join(wanted[1:])})"
    shown = ", ".join(there[:8]) + (" and others" if len(there) > 8 else "") or "no file"
    return UserError(
        f"{folder} has no {part} part: expected {names}, found {shown}; name its files (--{part} NAME) or the "
        "languages (--languages L1-L2)."
    )


def is_known(parts: Mapping[str, Lines], counts: Mapping[str, int]) -> bool:
    """Whether the parts have the sizes of the documented ones; of the training part a fiftieth may have been left out.

    How it was cleaned differs from one preparation to the next; the other parts are never cleaned.
    """
    size, train = {part: len(lines[0]) for part, lines in parts.items()}, counts["train"]
    return all(size[part] == counts[part] for part in PARTS[1:]) and 0.98 * train <= size["train"] <= train


def _stand_in(wanted: str, languages: tuple[str, str], pieces: int, reason: str) -> PairDataset:
    """The synthetic grammar, with one loud line on stderr. Raises `Missing` for languages that it has not."""
    from mutransfer.data.standins.grammar import LANGUAGES, grammar_dataset

    if set(languages) != set(LANGUAGES):
        raise Missing(f"{wanted} is not here ({reason}) and the stand-in is de-en or en-de; name a corpus (--corpus).")
    print(
        f"WARNING: NOT {wanted}: training on the stand-in, synthetic sentences of a small grammar. {reason} Or name a "
        "parallel corpus of your own (--corpus DIR). Then run again.",
        file=sys.stderr,
    )
    return grammar_dataset(languages, pieces=pieces)


def command(description: str, load: Callable[..., PairDataset], argv: list[str] | None) -> int:
    """Run a script for translation alone: fetch, verify and summarise; exit code 2 and one line for a `UserError`."""
    binary: Path | None = None

    def loaded(**given: Any) -> PairDataset:
        nonlocal binary
        from mutransfer.data import fairseq_format

        binary = given.pop("binary")
        names = {part: name for part in PARTS if (name := given.pop(part))}
        dataset = load(**given, names=names)
        if binary:
            fairseq_format.write(dataset, binary.expanduser())
        return dataset

    def summary(dataset: PairDataset) -> list[tuple[str, str]]:
        counts = f"{len(dataset.train_source):,} source, {len(dataset.train_target):,} target, of the training part"
        lines = [
            ("source", dataset.source),
            ("pairs", ", ".join(f"{dataset.count(part):,} {part}" for part in PARTS)),
            ("vocabulary", f"{dataset.vocab:,} pieces, {dataset.source_lang}-{dataset.target_lang}"),
            ("tokens", counts),
            ("fingerprint", dataset.fingerprint),
        ]
        return lines + [("fairseq", str(binary))] * (binary is not None)

    either = argparse.BooleanOptionalAction
    own = "a folder with train.LANG, valid.LANG and test.LANG, used instead"
    options: dict[str, dict[str, Any]] = {
        "corpus": {"type": Path, "metavar": "DIR", "help": own},
        "languages": {"type": _pair, "metavar": "L1-L2", "help": "source and target, as the files end"},
        "pieces": {"type": int, "metavar": "N", "help": "of the vocabulary"},
        **{
            part: {"metavar": "NAME", "help": f"of the corpus' {part} part (default: {', '.join(NAMES[part])})"}
            for part in PARTS
        },
        "lowercase": {"action": either, "help": "(default: as the recipe for this data set)"},
        "clean": {"action": either, "help": "leave out unlikely training pairs (default: likewise)"},
        "no_download": NO_DOWNLOAD,
        "binary": {"type": Path, "metavar": "DIR", "help": "write fairseq's preprocessed format there"},
    }
    return run_alone(description, loaded, summary, argv, **options)


def _pair(languages: str) -> tuple[str, str]:
    first, _, second = languages.partition("-")
    return first, second
