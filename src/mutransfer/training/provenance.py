"""Where a result comes from: data, commit, torch, threads, device. Imports torch only where it is asked."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

COMMIT = "MUTRANSFER_COMMIT"  # in the environment: the commit, where the code is but not its repository


def provenance(data_source: str, is_real: bool, device: torch.device) -> dict[str, str]:
    """What a reader of a result must know of how it came about, as strings."""
    import torch

    return {
        "data": data_source,
        "is_real": str(is_real).lower(),
        "commit": git_commit(),
        "torch": torch.__version__,
        "threads": str(torch.get_num_threads()),
        "device": device_name(str(device)),
    }


@functools.cache
def git_commit() -> str:
    """Short hash of this code's commit, with ``+dirty`` if Python files differ from it; or ``unknown``.

    The variable `COMMIT` of the environment, if it is set, says it: a sweep's workers say what its driver says.
    """
    if told := os.environ.get(COMMIT):
        return told
    here = Path(__file__).resolve()
    # An installed copy may lie inside somebody else's repository: ask for this very file.
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return "unknown"
    commit = _git(here.parent, "rev-parse", "--short", "HEAD")
    if not commit:
        return "unknown"
    is_clean = _git(here.parent, "diff", "--quiet", "HEAD", "--", ":/*.py") is not None
    return commit if is_clean else f"{commit}+dirty"


def _git(folder: Path, *arguments: str) -> str | None:
    """What git answers, or None if it is missing, fails or hangs."""
    try:
        run = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip() if run.returncode == 0 else None


def cores() -> int:
    """That this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def device_name(device: str) -> str:
    """The name of the GPU, or of the processor."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device) if torch.cuda.is_available() else device  # of another machine
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
