"""English prose in documents of sentences: where a paragraph, a sentence and a chapter end.

A sentence ends at ``.``, ``?``, ``!`` or ``…``, with the quotes and brackets that close behind it, if white space or a
dash follows and then a capital letter or a digit (quotes and brackets before it). Not at a full stop behind an
abbreviation (Mr., St., Prof., Jan. 5, No. 5) or a single capital letter (J. Smith, U.S. Navy), "I" excepted.
So ``"Who's that?" asked he.`` is one sentence; ``"Ah!" Emma smiled.`` is two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_OPEN, _CLOSE = "\"'“‘(\\[", "\"'”’)\\]"
_END = re.compile(rf"([.?!…]+)([{_CLOSE}]*)(?:\s+|(?:--+|—)\s*)(?=[{_OPEN}]*([A-Z0-9À-ÖØ-Þ]))")
_ENDED = re.compile(rf"[.?!…][{_CLOSE}\s]*$")
_BEFORE = re.compile(r"(?:^|[\s—(\[\"'“‘]|--)((?:[^\W\d_]|\.)*)$")
_TITLE = re.compile(  # a capital letter may follow
    "mr|mrs|ms|messrs|mme|mlle|dr|st|ste|prof|rev|revd|hon|gen|col|capt|lieut|lt|maj|sergt|sgt|adm|gov|pres|sen|rep|"
    r"viz|i\.e|e\.g|cf|vs|sr",
    re.IGNORECASE,
)
_NUMBERED = re.compile(  # a digit may follow
    "no|nos|vol|vols|p|pp|ch|chap|fig|figs|sec|art|v|jan|feb|mar|apr|jun|jul|aug|sept|sep|oct|nov|dec", re.IGNORECASE
)
_LOOK_BACK = 24  # characters: longer than any abbreviation
_NUMBER = r"(?:[IVXLC]+|\d+|(?i:one|two|three|four|five|six|seven|eight|nine|ten|first|second|third|fourth|fifth|last))"
_HEADING = re.compile(
    rf"(?i:volume|book|part|chapter|letter|stave|phase) +(?i:the +)?{_NUMBER}(?:[ .:—–-].*)?"
    r"|(?:[IVXLC]+|\d+)\.?(?: *[—–-]+ *\w.*)?|[IVXLC]+\. .*"
)
HEADING = 80  # characters at most


def paragraphs(text: str) -> list[str]:
    """What stands between blank lines, each run of white space (line ends too) as one space."""
    found = (" ".join(block.split()) for block in re.split(r"\n\s*\n", text))
    return [paragraph for paragraph in found if paragraph]


def blocks(text: str) -> list[list[str]]:
    """What stands between blank lines, as lines.

    A line that begins with a small letter goes on the one before, unless that ends as a sentence does.
    """
    found = []
    for block in re.split(r"\n\s*\n", text):
        lines = list[str]()
        for line in block.split("\n"):
            if tidy := " ".join(line.split()):
                if lines and tidy[0].islower() and not _ENDED.search(lines[-1]):
                    lines[-1] += f" {tidy}"
                else:
                    lines.append(tidy)
        if lines:
            found.append(lines)
    return found


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph without line ends; together they are the paragraph, but for the spaces between."""
    found, start = [], 0
    for end in _END.finditer(paragraph):
        if end[1] == "." and not end[2] and _goes_on(paragraph[start : end.start()], end[3]):
            continue
        found.append(paragraph[start : end.end()].rstrip())
        start = end.end()
    if start < len(paragraph):
        found.append(paragraph[start:])
    return found


def _goes_on(before: str, following: str) -> bool:
    """Whether the full stop behind ``before`` belongs to an abbreviation."""
    found = _BEFORE.search(before[-_LOOK_BACK:])
    word = found[1] if found else ""
    if _TITLE.fullmatch(word):
        return True
    if following.isdigit():
        return _NUMBERED.fullmatch(word) is not None
    last = word.rpartition(".")[2]
    return len(last) == 1 and last.isupper() and word != "I"


def is_heading(paragraph: str) -> bool:
    """Whether it is a short line that begins a chapter: "CHAPTER XIII", "Letter 4", "Part Two - Home", "XIV", "7."."""
    return len(paragraph) <= HEADING and _HEADING.fullmatch(paragraph) is not None


def chapters(found: Iterable[str], most: int) -> Iterator[list[str]]:
    """Documents as sentences: paragraphs up to the next heading, which is left out, of at most ``most`` sentences.

    A chapter that has more is cut into documents of ``most`` sentences.
    """
    document = list[str]()
    for paragraph in found:
        if is_heading(paragraph):
            if document:
                yield document
            document = []
            continue
        document += sentences(paragraph)
        while len(document) >= most:
            yield document[:most]
            document = document[most:]
    if document:
        yield document
