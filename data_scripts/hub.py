"""Texts from the Hugging Face hub through the library `datasets`, or within seconds the reason why not."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from typing import Any

from data_scripts.places import CONNECT_SECONDS

RETRIES = 2  # of a file that breaks off while it is streamed, this many seconds apart


class HubError(Exception):
    """Why the hub gave no text, in one line."""


def texts(name: str, config: str | None = None, *, split: str, streaming: bool = False) -> Generator[str, None, None]:
    """The column "text" of the data set ``name``, row by row; ``streaming``: only what is asked for is downloaded.

    Raises `HubError` if the hub cannot be reached, lacks the data set, or breaks off.
    """
    try:
        _knock(name)
        import datasets  # type: ignore[import-untyped]  # takes seconds: not before somebody answered

        with _few_retries(datasets.config):
            for row in datasets.load_dataset(name, config, split=split, streaming=streaming):
                yield row["text"]
    # The libraries' own errors and those of the HTTP library, which changed between versions, have no common base.
    except Exception as error:
        message = " ".join(str(error).split())[:300]
        raise HubError(f"the download of {name} from the Hugging Face hub failed ({message or repr(error)})") from error


def _knock(name: str) -> None:
    """One question to the hub with a time limit: without it `datasets` tries for minutes where nobody answers."""
    import huggingface_hub

    huggingface_hub.HfApi().dataset_info(name, timeout=CONNECT_SECONDS)


@contextlib.contextmanager
def _few_retries(config: Any) -> Iterator[None]:
    """`datasets` waits a hundred seconds for a stream that broke off; these names stand in its configuration."""
    wanted = {
        f"STREAMING_{step}_{what}": RETRIES for step in ("READ", "OPEN") for what in ("MAX_RETRIES", "RETRY_INTERVAL")
    }
    before = {key: getattr(config, key) for key in wanted if hasattr(config, key)}
    try:
        for name in before:
            setattr(config, name, RETRIES)
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)
