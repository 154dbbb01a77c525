"""A stand-in for text data, for machines without any: the English documentation that ships with Python itself."""

from __future__ import annotations

import platform

from mutransfer.data.tokens import TokenDataset, tokenize

NAME = "topics"
TEST_SHARE = 10  # one topic in ten


def topic_texts() -> tuple[str, str]:
    """The training and the test text: all topics of `pydoc_data` in sorted order, the last tenth of them for testing.

    About half a megabyte; it changes from one version of Python to the next.
    """
    from pydoc_data.topics import topics

    names = sorted(topics)
    cut = len(names) - max(len(names) // TEST_SHARE, 1)
    train, test = ("".join(topics[name].rstrip() + "\n\n" for name in part) for part in (names[:cut], names[cut:]))
    return train, test


def topics_dataset(tokenizer: str = "bytes") -> TokenDataset:
    """The stand-in as tokens. Its fingerprint is another one for each version of Python."""
    train, test = topic_texts()
    source = f"STAND-IN: the documentation text that ships with Python {platform.python_version()} (pydoc_data.topics)"
    return tokenize(NAME, source, tokenizer, is_real=False, train=train, test=test)
