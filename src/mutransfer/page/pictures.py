"""The committed pictures inside of the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mutransfer.errors import UserError

COLOURS = 128
"""Of a picture on the page, the grey of its strips among them. They have thousands, most of them of smoothed edges."""


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI; pixels."""

    uri: str
    width: int
    height: int


def embed(path: Path) -> Picture:
    """The PNG at ``path`` with `COLOURS` colours, which is a third of its size. Raises `UserError` if it is none."""
    try:
        with Image.open(path) as image:
            small = image.convert("RGB").quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    except OSError as error:
        raise UserError(f"{path} is no picture ({error}); draw it again with ./reproduce.sh figures.") from error
    buffer = io.BytesIO()
    small.save(buffer, "png")
    return Picture(f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}", *small.size)
