"""Texts from the Hugging Face hub through the library `datasets`, or within seconds the reason why not."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Generator, Iterator
from itertools import islice
from typing import Any

from data_scripts import places

STALL_SECONDS = 90.0  # without a row: a small data set is downloaded whole before its first one
RETRIES = 2  # of a file that breaks off while it is streamed, this many seconds apart
TEST_EVERY = 50  # documents, of which one is in the test part
_ROWS = 1000  # on their way from one thread to the other
_END = object()


class HubError(Exception):
    """Why the hub gave no text, in one line."""


def texts(
    name: str, config: str | None = None, *, split: str, streaming: bool = False, column: str = "text"
) -> Generator[Any, None, None]:
    """The ``column`` of the data set ``name``, row by row; ``streaming``: only what is asked for is downloaded.

    Raises `HubError` if the hub cannot be reached, lacks the data set, breaks off, or gives nothing for
    `STALL_SECONDS`.
    """
    rows: queue.Queue[Any] = queue.Queue(_ROWS)
    is_over = threading.Event()

    def send(row: object) -> None:
        while not is_over.is_set():
            with contextlib.suppress(queue.Full):
                return rows.put(row, timeout=0.1)
        raise EOFError

    def fetch() -> None:
        # The libraries' own errors and those of the HTTP library, which changed between versions, have no common base.
        try:
            _knock(name)
            import datasets  # type: ignore[import-untyped]  # takes seconds: not before somebody answered

            with _few_retries(datasets.config):
                for row in datasets.load_dataset(name, config, split=split, streaming=streaming):
                    send(row[column])
            send(_END)
        except Exception as error:
            with contextlib.suppress(EOFError):
                send(error)

    # In a thread that can be left behind: the libraries try again for minutes where file after file never comes.
    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    try:
        while (row := rows.get(timeout=STALL_SECONDS)) is not _END:
            if isinstance(row, Exception):
                raise row
            yield row
    except Exception as error:
        reason = f"nothing came for {STALL_SECONDS:g} seconds" if isinstance(error, queue.Empty) else str(error)
        message = " ".join(reason.split())[:300] or repr(error)
        raise HubError(f"the download of {name} from the Hugging Face hub failed ({message})") from error
    finally:
        is_over.set()
        thread.join(timeout=1)


def first_texts(name: str, config: str | None, count: int, download: bool = True) -> list[str]:
    """The first ``count`` rows of a data set; closed at once, so that the retries are set back and the connection goes.

    Raises `HubError` as `texts` does, if the hub has fewer, or without ``download``.
    """
    if not download:
        raise HubError("downloading was turned off")
    with contextlib.closing(texts(name, config, split="train", streaming=True)) as stream:
        found = [*islice(stream, count)]
    if len(found) < count:
        raise HubError(f"the hub gave {len(found)} of {count} documents")
    return found


def split(documents: list[str]) -> tuple[list[str], list[str]]:
    """The training part, and every `TEST_EVERY`-th document for the test part."""
    test = documents[TEST_EVERY - 1 :: TEST_EVERY]
    return [document for i, document in enumerate(documents, 1) if i % TEST_EVERY], test


def _knock(name: str) -> None:
    """One question to the hub with a time limit: without it `datasets` tries for minutes where nobody answers."""
    import huggingface_hub

    huggingface_hub.HfApi().dataset_info(name, timeout=places.CONNECT_SECONDS)


@contextlib.contextmanager
def _few_retries(config: Any) -> Iterator[None]:
    """`datasets` waits a hundred seconds for a stream that broke off; these names stand in its configuration."""
    names = [f"STREAMING_{step}_{what}" for step in ("READ", "OPEN") for what in ("MAX_RETRIES", "RETRY_INTERVAL")]
    before = {name: getattr(config, name) for name in names if hasattr(config, name)}
    try:
        for name in before:
            setattr(config, name, RETRIES)
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)
