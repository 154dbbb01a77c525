"""fairseq in µP: a ``--user-dir`` plug-in, weights both ways, and fairseq as a backend. fairseq is optional.

    fairseq-train --user-dir src/mutransfer/fairseq_mup --arch mup_transformer_iwslt_de_en --optimizer mup_adam ...

runs fairseq's own Transformer with the plan's init, learning rates, 1/d attention and readout (`plugin`); nothing of
fairseq is changed. fairseq imports this folder by its own name, ``fairseq_mup``: then, and only then, the
architectures and the optimizer are registered. Otherwise nothing here imports fairseq before it is used.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

if __name__ != "mutransfer.fairseq_mup":  # imported by fairseq for --user-dir
    if importlib.util.find_spec("mutransfer") is None:  # from a checkout that is not installed
        sys.path.append(str(Path(__file__).resolve().parents[2]))
    importlib.import_module("mutransfer.fairseq_mup.plugin")

USER_DIR = str(Path(__file__).resolve().parent)  # for --user-dir
INSTALL = (
    "fairseq is not installed: pip install -e '.[fairseq]', then pip install --no-deps ve-fairseq==0.12.3 "
    "(PyPI's own fairseq does not install on Python 3.11)."
)


def require() -> None:
    """Raises `UserError`, with the commands that install it, if fairseq cannot be imported."""
    from mutransfer.errors import UserError

    try:
        from fairseq import tasks  # noqa: F401  (a folder of that name is not enough)
    except ImportError as error:
        why = "" if (error.name or "").startswith("fairseq") else f" ({error})"
        raise UserError(INSTALL + why) from None
