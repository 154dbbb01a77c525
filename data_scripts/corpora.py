"""What the scripts for translation share: the files of a parallel corpus, and what one says of it on the command line.

A corpus is a folder of text files ``NAME.LANG`` (UTF-8, a sentence a line; line i of one language is the translation
of line i of the other). Which NAME is which part: the one that is given, else the first that is there of

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
from pathlib import Path
from typing import Any

from data_scripts import parallel
from data_scripts.parallel import Cleaning, Lines
from data_scripts.places import Missing, read_text
from mutransfer.data import fairseq_format
from mutransfer.data.pairs import PARTS, PairDataset
from mutransfer.data.standins.grammar import LANGUAGES, grammar_dataset
from mutransfer.errors import UserError, unknown

NAMES = {
    "train": ("train",),
    "valid": ("valid", "val", "validation", "dev", "newstest2013", "newstest2012", "dev2010"),
    "test": ("test", "test_2016_flickr", "newstest2014", "tst2014", "tst2015"),
}
LEAST_PIECES, MOST_PIECES = 100, 1_000_000
BPE = "@@ "  # the mark that subword-nmt leaves inside of words


def check(languages: tuple[str, str], pieces: int, corpus: Path | None, names: Mapping[str, str] | None) -> None:
    """Raise `UserError` for what is no pair of languages, no number of pieces, or names without a corpus."""
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
    if names and corpus is None:
        raise UserError(
            f"names of files ({', '.join(names)}) are for a corpus of your own; name it too (--corpus DIR)."
        )


def has_files(folder: Path, languages: tuple[str, str]) -> bool:
    """Whether a training file lies in ``folder``, in either language."""
    return any(os.path.lexists(folder / f"{NAMES['train'][0]}.{language}") for language in languages)


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
        found = [name for name in wanted if any(os.path.lexists(folder / f"{name}.{x}") for x in languages)]
        if not found:
            raise _no_part(folder, part, wanted, languages, part in names)
        for one, other in (languages, languages[::-1]):
            if not os.path.lexists(folder / f"{found[0]}.{one}"):
                raise UserError(
                    f"{folder} has {found[0]}.{other}, but no {found[0]}.{one}; put it there, or name the languages "
                    f"that are (--languages L1-L2; found: {', '.join(_endings(folder, found[0]))})."
                )
        source, target = (_lines(folder / f"{found[0]}.{language}") for language in languages)
        if len(source) != len(target):
            raise UserError(
                f"{folder / found[0]}.{languages[0]} has {len(source):,} lines, but {found[0]}.{languages[1]} "
                f"{len(target):,}; expected one sentence a line, and its translation in the same line of the other."
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


def _endings(folder: Path, name: str) -> list[str]:
    return sorted(path.name.removeprefix(f"{name}.") for path in folder.glob(f"{name}.*"))


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
    found = {part: len(lines[0]) for part, lines in parts.items()}
    train = counts["train"]
    return all(found[part] == counts[part] for part in PARTS[1:]) and 0.98 * train <= found["train"] <= train


def dataset(
    name: str,
    source: str,
    parts: Mapping[str, Lines],
    languages: tuple[str, str],
    pieces: int,
    *,
    lowercase: bool,
    cleaning: Cleaning | None = None,
    cache: Path,
) -> PairDataset:
    """The parts as tokens; ``source`` gets what was done to them, and ``cache`` keeps the result."""
    train, valid, test = (parallel.lower(parts[part]) if lowercase else parts[part] for part in PARTS)
    whole = len(train[0])
    if cleaning:
        train = parallel.clean(train, cleaning)
    if not train[0]:
        raise UserError(f"{source} has no training pair left of {whole:,}; try without cleaning (--no-clean).")
    count = f"{len(train[0]):,}" + (f" of {whole:,}" if len(train[0]) < whole else "")
    source = f"{source}, {count} training pairs{', lower-cased' if lowercase else ''}"
    return PairDataset.from_texts(
        name, source, is_real=True, languages=languages, train=train, valid=valid, test=test, pieces=pieces, cache=cache
    )


def from_folder(
    folder: Path,
    languages: tuple[str, str],
    pieces: int,
    *,
    names: Mapping[str, str] | None,
    lowercase: bool,
    cleaning: Cleaning | None,
) -> PairDataset:
    """The corpus in ``folder``, which gives it its name."""
    folder = folder.expanduser().resolve()
    parts = read(folder, languages, names)
    source, cache = f"parallel corpus {folder.name} {'-'.join(languages)}", folder / "prepared"
    return dataset(folder.name, source, parts, languages, pieces, lowercase=lowercase, cleaning=cleaning, cache=cache)


def stand_in(wanted: str, languages: tuple[str, str], pieces: int, reason: str) -> PairDataset:
    """The synthetic grammar, with one loud line on stderr. Raises `Missing` for languages that it has not."""
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
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", help="data folder (default: $MUTRANSFER_DATA, else data/)")
    add("--corpus", type=Path, metavar="DIR", help="a folder with train.LANG, valid.LANG and test.LANG, used instead")
    add("--languages", metavar="L1-L2", help="source and target, as the files end")
    add("--pieces", type=int, metavar="N", help="of the vocabulary")
    for part in PARTS:
        add(f"--{part}", metavar="NAME", help=f"of the corpus' {part} part (default: {', '.join(NAMES[part])})")
    add("--lowercase", action=argparse.BooleanOptionalAction, help="(default: as the recipe for this data set)")
    add("--clean", action=argparse.BooleanOptionalAction, help="leave out unlikely training pairs (default: likewise)")
    add("--no-download", action="store_true", help="ask nobody")
    add("--binary", type=Path, metavar="DIR", help="write fairseq's preprocessed format there")
    given = parser.parse_args(argv)
    options: dict[str, Any] = {"data_dir": given.data, "corpus": given.corpus, "download": not given.no_download}
    options |= {"lowercase": given.lowercase, "clean": given.clean}
    options["names"] = {part: getattr(given, part) for part in PARTS if getattr(given, part)}
    if given.pieces is not None:
        options["pieces"] = given.pieces
    try:
        if given.languages:
            first, _, second = given.languages.partition("-")
            options["languages"] = (first, second)
        found = load(**options)
        if given.binary:
            fairseq_format.write(found, given.binary.expanduser())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    counts = ", ".join(f"{found.count(part):,} {part}" for part in PARTS)
    print(f"source       {found.source}")
    print(f"pairs        {counts}")
    print(f"vocabulary   {found.vocab:,} pieces, {found.source_lang}-{found.target_lang}")
    print(f"tokens       {len(found.train_source):,} source, {len(found.train_target):,} target, of the training part")
    print(f"fingerprint  {found.fingerprint}")
    if given.binary:
        print(f"fairseq      {given.binary}")
    return 0
