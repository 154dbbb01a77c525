"""Rows straight from the pages of a SQLite file: what can still be read when the file as a whole cannot.

SQLite finds a row through the pages above it in its tree, so that one bad page hides hundreds of good ones. But every
page says what it is, and a row is whole on its own page (and on the overflow pages that it names): here all pages are
looked at, whatever leads to them. The layout is https://www.sqlite.org/fileformat2.html, sections 1.3, 1.6 and 2.1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_LEAF = 0x0D  # a page of a table that holds rows
_HEADER = 100  # bytes of the file's own header, at the start of the first page
_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)  # bytes of a value by its type; 12 and more: blobs (even) and texts (odd)


def rows(image: bytes) -> Iterator[list[str | None]]:
    """The rows of all tables in the file ``image``, in the order of the pages; a value that is no text is None.

    A row that is damaged where it shows (its length, its overflow pages, its UTF-8) is left out; one that is damaged
    elsewhere cannot be told from a good one. A row that was deleted may appear, unless ``secure_delete`` was on.
    """
    size = int.from_bytes(image[16:18], "big")
    size = 65536 if size == 1 else size
    if size < 512 or size & (size - 1):
        size = 4096  # SQLite's default, should the header be lost
    usable = size - image[20] if len(image) > _HEADER and image[20] <= 32 else size
    for start in range(0, len(image), size):
        page = image[start : start + size]
        head = 0 if start else _HEADER
        if len(page) < size or page[head] != _LEAF:
            continue
        count = min(int.from_bytes(page[head + 3 : head + 5], "big"), (size - head - 8) // 2)
        for cell in struct.unpack_from(f">{count}H", page, head + 8):
            try:
                yield _texts(_payload(image, size, usable, start + cell))
            except (IndexError, ValueError):
                continue


def _payload(image: bytes, size: int, usable: int, at: int) -> bytes:
    """The bytes of the row whose cell begins at ``at``; `ValueError` if some are missing."""
    length, at = _varint(image, at)
    _, at = _varint(image, at)  # the row's number
    if length > len(image):
        raise ValueError("the length is damaged")
    local = length
    if length > usable - 35:  # then only so much is on the page itself
        least = (usable - 12) * 32 // 255 - 23
        local = least + (length - least) % (usable - 4)
        local = local if local <= usable - 35 else least
    parts, at = [image[at : at + local]], at + local
    missing = length - local
    while missing > 0:
        page = int.from_bytes(image[at : at + 4], "big")
        at = (page - 1) * size
        part = image[at + 4 : at + min(usable, missing + 4)]
        if page < 2 or not part:
            raise ValueError("an overflow page is missing")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _texts(payload: bytes) -> list[str | None]:
    """The values of a row; `ValueError` if it is not all there."""
    end, at = _varint(payload, 0)
    value, texts = end, []
    while at < end:
        kind, at = _varint(payload, at)
        length = (kind - 12) // 2 if kind >= 12 else _SIZES[kind]
        is_text = kind >= 13 and kind % 2
        texts.append(payload[value : value + length].decode() if is_text else None)
        value += length
    if value != len(payload):
        raise ValueError("the row is longer or shorter than its columns")
    return texts


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of one to nine bytes, the high ones first, and the place after it."""
    number = 0
    for i in range(at, at + 8):
        number = number << 7 | data[i] & 0x7F
        if data[i] < 0x80:
            return number, i + 1
    return number << 8 | data[at + 8], at + 9
