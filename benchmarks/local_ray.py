"""A Ray cluster of one node on this machine, for as long as a block lasts."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from mutransfer.errors import UserError

PORT = 26379


@contextlib.contextmanager
def cluster(cpus: int) -> Iterator[str]:
    """Yields its address; raises `UserError` where Ray is not installed or does not start."""
    ray = Path(sys.executable).with_name("ray")
    if not ray.exists():
        raise UserError("ray is not installed: pip install 'mutransfer[cluster]'.")
    command = [ray, "start", "--head", f"--port={PORT}", f"--num-cpus={cpus}", "--include-dashboard=false"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"ray does not start: {' '.join(done.stderr.split())[-300:]}")
    try:
        yield f"127.0.0.1:{PORT}"
    finally:
        subprocess.run([ray, "stop", "--force"], capture_output=True)
