"""What is done to the lines of a parallel corpus before they are cut into pieces, each step on its own.

The steps and their numbers are those of fairseq's recipes (examples/translation/prepare-iwslt14.sh and
prepare-wmt14en2de.sh). One thing differs: those count the words that Moses' tokenizer makes; here a word is a run of
letters and digits, or one other sign.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

Lines = tuple[list[str], list[str]]
"""A part in both languages: line i of one is the translation of line i of the other."""

_WORD = re.compile(r"\w+|[^\w\s]")
_ESCAPES = {"apos": "'", "quot": '"', "amp": "&", "lt": "<", "gt": ">", "#91": "[", "#93": "]", "#124": "|"}
_ESCAPE = re.compile(f"&({'|'.join(map(re.escape, _ESCAPES))});")


@dataclass(frozen=True)
class Cleaning:
    """Which training pairs are kept: Moses' clean-corpus-n with its ratio, least and greatest length."""

    ratio: float = 1.5  # of the longer sentence to the shorter, in words
    least: int = 1  # words per sentence
    most: int = 175

    def keeps(self, source: str, target: str) -> bool:
        """Whether the pair is a likely translation, of a length that can be trained on."""
        short, long = sorted(len(_WORD.findall(side)) for side in (source, target))
        return self.least <= short and long <= self.most and long <= self.ratio * short


def clean(lines: Lines, rule: Cleaning) -> Lines:
    """The pairs that the rule keeps, in their order."""
    return _chosen(lines, [rule.keeps(*pair) for pair in zip(*lines, strict=True)])


def without_empty(lines: Lines) -> Lines:
    """The pairs of which both sides have text."""
    return _chosen(lines, [bool(a and b) for a, b in zip(*lines, strict=True)])


def split_every(lines: Lines, n: int) -> tuple[Lines, Lines]:
    """The pairs but every ``n``-th, and every ``n``-th (the ``n``-th, the 2``n``-th, ...)."""
    is_kept = [i % n != 0 for i in range(1, len(lines[0]) + 1)]
    return _chosen(lines, is_kept), _chosen(lines, [not kept for kept in is_kept])


def lower(lines: Lines) -> Lines:
    """In lower case."""
    return [line.lower() for line in lines[0]], [line.lower() for line in lines[1]]


def tidy(line: str) -> str:
    """Each run of white space as one space, none around it, and the escapes of Moses' tokenizer undone."""
    return _ESCAPE.sub(lambda match: _ESCAPES[match[1]], " ".join(line.split()))


def _chosen(lines: Lines, is_kept: list[bool]) -> Lines:
    source, target = ([x for x, kept in zip(side, is_kept, strict=True) if kept] for side in lines)
    return source, target
