"""The tables of the suite, which are Markdown, as HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

POWER = re.compile(r"\$(?P<math>\w+\^\{[^}]+\})\$|(?P<plain>\b\w+\^-?\d+(?:\.\d+)?)")
"""``$2^{-7}$`` of matplotlib and ``2^-7.00`` of the tables."""
NEGATIVE = re.compile(r"(?<![\w)\]])-(?=\d)")
DEEPER = 2
"""By how many levels the headings of a table are lowered: its ``##`` stands below the ``h3`` of its folder."""


@dataclass(frozen=True)
class Section:
    """What stands below one ``##`` of a table."""

    heading: str
    """Plain text."""
    html: Markup
    """Its body, without the heading."""


def powers(text: str) -> Markup:
    """``text`` escaped, with exponents raised and minus signs."""
    parts, end = [], 0
    for match in POWER.finditer(text):
        base, exponent = (match["math"] or match["plain"]).split("^", 1)
        parts += [_plain(text[end : match.start()]), escape(base), Markup("<sup>"), escape(_sign(exponent.strip("{}")))]
        parts.append(Markup("</sup>"))
        end = match.end()
    return Markup("").join([*parts, _plain(text[end:])])


def sections(text: str) -> tuple[Markup, list[Section]]:
    """(what stands between the ``#`` heading and the first ``##``, the sections) of a table."""
    head, *rest = re.split(r"^## ", text, flags=re.MULTILINE)
    intro = head.partition("\n")[2]
    parts = []
    for part in rest:
        heading, _, body = part.partition("\n")
        parts.append(Section(heading.strip(), html(body, heading.strip())))
    return html(intro, "about"), parts


def html(text: str, name: str) -> Markup:
    """``text`` in Markdown as HTML; ``name`` is what its tables are called aloud. Raw HTML in it is escaped."""
    tokens = _PARSER.parse(text)
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{int(token.tag[1]) + DEEPER}"
        if token.type == "th_open" and following is not None:
            if following.content:
                token.attrs["scope"] = "col"
            else:
                token.tag = "td"
        if token.type == "table_open":
            token.attrs["aria-label"] = name
    _mend_empty_headers(tokens)
    return Markup(_PARSER.renderer.render(tokens, _PARSER.options, {}))  # the parser escapes all text


def _mend_empty_headers(tokens: Sequence[Token]) -> None:
    """An empty ``th`` is a ``td``: it heads nothing."""
    for k, token in enumerate(tokens):
        if token.type == "th_open" and token.tag == "td":
            tokens[k + 2].tag = "td"


def _plain(text: str) -> Markup:
    return escape(NEGATIVE.sub("\N{MINUS SIGN}", text))


def _sign(exponent: str) -> str:
    return exponent.replace("-", "\N{MINUS SIGN}")


def _text(renderer: Any, tokens: Sequence[Token], k: int, options: Any, env: Any) -> str:
    return str(powers(tokens[k].content))


def _table_open(renderer: Any, tokens: Sequence[Token], k: int, options: Any, env: Any) -> str:
    name = escape(tokens[k].attrs["aria-label"])
    return f'<div class="scroll" role="group" aria-label="Table: {name}" tabindex="0"><table>\n'


def _table_close(renderer: Any, tokens: Sequence[Token], k: int, options: Any, env: Any) -> str:
    return "</table></div>\n"


_PARSER = MarkdownIt("commonmark", {"html": False}).enable("table")
_PARSER.add_render_rule("text", _text)
_PARSER.add_render_rule("table_open", _table_open)
_PARSER.add_render_rule("table_close", _table_close)
