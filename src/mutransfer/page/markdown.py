"""The tables of the suite, which are Markdown, as HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

POWER = re.compile(r"\$(?P<math>\w+\^\{[^}]+\})\$|(?P<plain>\b\w+\^-?\d+(?:\.\d+)?)")
"""``$2^{-7}$`` of matplotlib and ``2^-7.00`` of the tables."""
NEGATIVE = re.compile(r"(?<![\w)\]])-(?=\d)")
DEEPER = 2
"""By how many levels the headings of a table are lowered: its ``##`` stands below the ``h3`` of its folder."""


def powers(text: str) -> Markup:
    """``text`` escaped, with exponents raised and minus signs."""

    def raised(match: re.Match[str]) -> str:
        base, exponent = (match["math"] or match["plain"]).split("^", 1)
        return f"{base}<sup>{exponent.strip('{}')}</sup>"

    # what is raised holds nothing that would be escaped, but the tags that are put around it
    return Markup(NEGATIVE.sub("\N{MINUS SIGN}", POWER.sub(raised, str(escape(text)))))


def sections(text: str) -> tuple[Markup, dict[str, Markup]]:
    """(what stands between the ``#`` heading and the first ``##`` of a table, what stands below each ``##``)."""
    head, *rest = re.split(r"^## ", text, flags=re.MULTILINE)
    parts = [part.partition("\n")[::2] for part in rest]
    return html(head.partition("\n")[2], "about"), {h.strip(): html(body, h.strip()) for h, body in parts}


def html(text: str, name: str) -> Markup:
    """``text`` in Markdown as HTML; ``name`` is what its tables are called aloud. Raw HTML in it is escaped."""
    tokens = _PARSER.parse(text)
    for k, token in enumerate(tokens):
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{int(token.tag[1]) + DEEPER}"
        if token.type == "th_open":
            if tokens[k + 1].content:
                token.attrs["scope"] = "col"
            else:  # an empty one heads nothing
                token.tag = tokens[k + 2].tag = "td"
    scroll = f'<div class="scroll" role="group" aria-label="Table: {escape(name)}" tabindex="0"><table>'
    page = _PARSER.renderer.render(tokens, _PARSER.options, {})  # the parser escapes all text
    return Markup(page.replace("<table>", scroll).replace("</table>", "</table></div>"))


def _text(renderer: Any, tokens: Sequence[Token], k: int, options: Any, env: Any) -> str:
    return str(powers(tokens[k].content))


_PARSER = MarkdownIt("commonmark", {"html": False}).enable("table")
_PARSER.add_render_rule("text", _text)
