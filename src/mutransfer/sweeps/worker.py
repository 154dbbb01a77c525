"""The process that trains: specs come through a pipe one by one, records go back; nothing is kept between."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import random
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mutransfer.errors import UserError
from mutransfer.training.spec import RunRecord, RunSpec

# What a worker sends: it is ready; a run's record; a run raised (one line); it cannot work at all (one line).
READY, RECORD, RAISED, BROKEN = "ready", "record", "raised", "broken"

# To be in the environment before torch is imported: the maths libraries read them once.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Work:
    """What a worker needs besides the specs; small and picklable."""

    runner: str  # "module:function", called as function(spec, dataset[, device=device]) -> RunRecord
    opener: str  # "module:Class.open", called with dataset_folder
    dataset_folder: Path | None  # None: the data set is None
    device: str | None  # passed on to the runner if given


def resolve(reference: str) -> Callable[..., Any]:
    """What ``"module:name"`` or ``"module:Class.name"`` names; `UserError` if there is no such thing."""
    module, _, names = reference.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in names.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"cannot find '{reference}' ({one_line(error)}), expected 'module:function'.") from error
    return found


def one_line(error: BaseException) -> str:
    """An exception as one line; unless a `UserError`, with its type and the innermost place in our code."""
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "site-packages" not in f.filename and not f.filename.startswith("<")]
    place = f" ({Path(ours[-1].filename).name}:{ours[-1].lineno})" if ours else ""
    return f"{type(error).__name__}: {text}{place}"


def main(pipe: Connection, work: Work) -> None:
    """Body of a worker process: until the driver sends None or is gone."""
    _die_with_driver()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _serve(pipe, work)


def _serve(pipe: Connection, work: Work) -> None:
    try:
        import torch

        torch.set_num_threads(1)
        run = resolve(work.runner)
        dataset = None if work.dataset_folder is None else resolve(work.opener)(work.dataset_folder)
    except Exception as error:
        pipe.send((BROKEN, one_line(error)))
        return
    pipe.send((READY, None))
    options = {} if work.device is None else {"device": work.device}
    while (spec := pipe.recv()) is not None:
        try:
            _seed(spec)
            record = run(spec, dataset, **options)
            if not isinstance(record, RunRecord) or record.spec != spec:
                raise TypeError(f"the runner {work.runner} did not return the RunRecord of its spec")
        except Exception as error:
            pipe.send((RAISED, one_line(error)))
        else:
            pipe.send((RECORD, record))


def _seed(spec: RunSpec) -> None:
    """All global generators, so that a run does not depend on those before it in the same process."""
    import numpy as np
    import torch

    random.seed(spec.seed)
    np.random.seed(spec.seed % 2**32)
    torch.manual_seed(spec.seed)


def _die_with_driver() -> None:
    """Exit at once when the driver is gone, even killed: nobody would store what this worker finds."""
    driver = multiprocessing.parent_process()
    assert driver is not None

    def watch() -> None:
        driver.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
