"""One thread a test process: small tensors, the same bits whatever the machine, and a short look at its speed."""

import contextlib
import functools
import io
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# a command of seconds must not measure the machine for ten; what it measures, no test reads
os.environ.setdefault("MUTRANSFER_CALIBRATION_SECONDS", "1")

import pytest
import torch
from filelock import FileLock

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """By the name of an experiment: the folder in which its smoke run has been made, once for all test processes.

    The lines that it printed are in ``printed.txt``. Tests that write there copy it first.
    """
    from tests.here import command

    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    @functools.cache
    def run(name):
        out = root / "smoke" / name
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out.with_suffix(".lock")):
            if not (out / "printed.txt").exists():
                more = ["--figure", "all"] if name == "cifar_resnet" else []
                with contextlib.redirect_stdout(io.StringIO()) as printed:
                    assert command(name, *more, "--scale", "smoke", "--out", out) == 0
                (out / "printed.txt").write_text(printed.getvalue())
        return out

    return run
