"""A file from the web: whole and as documented, or within seconds the reason why not."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.request

from data_scripts import places

TOTAL_SECONDS = 1800.0  # for a whole file: a server that sends a byte now and then is given up too
_BLOCK = 1 << 16


class DownloadError(Exception):
    """Why the file did not come, in one line."""


def differs(content: bytes | bytearray, checksum: str) -> str:
    """ "" if ``content`` has the ``checksum`` ("sha256:..." or "md5:..."), else a sentence that says so."""
    algorithm, _, expected = checksum.partition(":")
    found = hashlib.new(algorithm, content).hexdigest()
    return "" if found == expected else f"its {algorithm} is {found}, not the documented {expected}"


def fetch(url: str, checksum: str, most: int) -> bytes:
    """The file at ``url``, held in memory, after it was found to have the ``checksum`` (as `differs` takes it).

    Raises `DownloadError` if nobody answers or nothing comes for `places.CONNECT_SECONDS`, if it takes longer than
    `TOTAL_SECONDS`, breaks off, is longer than ``most`` bytes, or is another file.
    """
    content, end = bytearray(), time.monotonic() + TOTAL_SECONDS
    try:
        with urllib.request.urlopen(url, timeout=places.CONNECT_SECONDS) as answer:
            announced = answer.headers.get("Content-Length")
            while block := answer.read1(_BLOCK):
                content += block
                if len(content) > most:
                    raise ValueError(f"it is longer than {most:,} bytes")
                if time.monotonic() > end:
                    raise TimeoutError(f"{len(content):,} bytes in {TOTAL_SECONDS:g} seconds")
        if announced and len(content) < int(announced):
            raise ValueError(f"it broke off after {len(content):,} of {int(announced):,} bytes")
        if difference := differs(content, checksum):
            raise ValueError(difference)
    # urllib's errors and timeouts are OSErrors; an address that is none is a ValueError.
    except (OSError, http.client.HTTPException, ValueError) as error:
        message = " ".join(str(error).split()) or repr(error)
        raise DownloadError(f"the download of {url} failed ({message})") from error
    return bytes(content)
