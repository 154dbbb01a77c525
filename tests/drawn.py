"""What a drawn picture says."""

from __future__ import annotations

import html
import re
from pathlib import Path


def words(svg: Path) -> list[str]:
    """The lines of text in an SVG picture, in the order in which they were drawn."""
    return [html.unescape(line) for line in re.findall("<!-- (.*?) -->", svg.read_text(encoding="utf-8"))]
