"""Inside a worker, whatever engine started it: specs come in one by one, records go out, nothing is kept between."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pkgutil
import random
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

from mutransfer.errors import UserError
from mutransfer.training.checkpoint import EVERY, FOLDER
from mutransfer.training.provenance import COMMIT, git_commit
from mutransfer.training.spec import RunRecord, RunSpec

# What a worker says: it is ready; a run's record; it cannot work at all (one line).
READY, RECORD, BROKEN = "ready", "record", "broken"


def environment() -> dict[str, str]:
    """To be in a worker's environment before torch is imported: the maths libraries read it once."""
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    checkpoints = {name: os.environ[name] for name in (FOLDER, EVERY) if name in os.environ}
    return {**dict.fromkeys(threads, "1"), COMMIT: git_commit(), **checkpoints}


@contextlib.contextmanager
def in_environment(values: dict[str, str]) -> Iterator[None]:
    """Variables that a process started in the block inherits."""
    before = {name: os.environ[name] for name in values if name in os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]
        os.environ.update(before)


class Runner:
    """Makes the runs of one worker, on one thread. Raises `UserError` if there is no such ``runner``."""

    def __init__(self, runner: str, dataset: Any, device: str) -> None:
        self._name, self._function, self._dataset = runner, resolve(runner), dataset
        import torch

        torch.set_num_threads(1)
        keep_freed_memory()
        self._options = {} if device == "cpu" else {"device": device}

    def __call__(self, spec: RunSpec) -> RunRecord:
        """The record of the run: a failed one, with the reason, if it raises."""
        import numpy as np
        import torch

        try:  # all global generators: a run does not depend on those before it in the same process
            random.seed(spec.seed)
            np.random.seed(spec.seed % 2**32)
            torch.manual_seed(spec.seed)
            record = self._function(spec, self._dataset, **self._options)
            if not isinstance(record, RunRecord) or record.spec != spec:
                raise TypeError(f"the runner {self._name} did not return the RunRecord of its spec")
        except Exception as error:
            return RunRecord.failed(spec, one_line(error))
        return record


def resolve(reference: str) -> Callable[..., Any]:
    """What ``"module:function"`` names; `UserError` if there is no such thing."""
    try:
        return cast(Callable[..., Any], pkgutil.resolve_name(reference))
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"cannot find '{reference}' ({one_line(error)}), expected 'module:function'.") from error


def one_line(error: BaseException) -> str:
    """An exception as one line; unless a `UserError`, with its type and the innermost place in our code."""
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "site-packages" not in f.filename and not f.filename.startswith("<")]
    place = f" ({Path(ours[-1].filename).name}:{ours[-1].lineno})" if ours else ""
    return f"{type(error).__name__}: {text}{place}"


def main(pipe: Connection, runner: str, load: Callable[[], Any], device: str) -> None:
    """Body of a local worker on the data set that ``load`` gives: until the driver is gone or kills it."""
    _die_with_driver()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            run = Runner(runner, load(), device)
        except Exception as error:
            pipe.send((BROKEN, one_line(error)))
            return
        pipe.send((READY, None))
        while True:
            pipe.send((RECORD, run(pipe.recv())))


def keep_freed_memory() -> None:
    """Have glibc reuse what it frees: given back to the kernel and asked for anew, it costs a step up to half its time.

    Each page is zeroed again then, and steps allocate tensors of the weights' size.
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library
        for parameter, value in ((-1, -1), (-4, 0)):  # of malloc.h: M_TRIM_THRESHOLD: never; M_MMAP_MAX
            ctypes.CDLL(None).mallopt(parameter, value)


def _die_with_driver() -> None:
    """Exit at once when the driver is gone, even killed: nobody would store what this worker finds."""
    driver = multiprocessing.parent_process()
    assert driver is not None

    def watch() -> None:
        driver.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
