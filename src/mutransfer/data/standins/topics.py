"""A stand-in for text data, for machines without any: the English documentation that ships with Python itself."""

from __future__ import annotations

import platform

from mutransfer.data.tokens import TokenDataset, tokenize


def topics_dataset(tokenizer: str = "bytes") -> TokenDataset:
    """All topics of `pydoc_data` in sorted order as tokens, the last tenth of them for testing.

    About half a megabyte; it changes, and with it the fingerprint, from one version of Python to the next.
    """
    from pydoc_data.topics import topics

    texts = [topics[name].rstrip() + "\n\n" for name in sorted(topics)]
    cut = len(texts) - len(texts) // 10
    source = f"STAND-IN: the documentation text that ships with Python {platform.python_version()} (pydoc_data.topics)"
    return tokenize("topics", source, tokenizer, is_real=False, train="".join(texts[:cut]), test="".join(texts[cut:]))
