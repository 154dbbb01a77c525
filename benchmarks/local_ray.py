"""A Ray cluster of one node on this machine, for as long as a block lasts; other clusters are left alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from mutransfer.errors import UserError


@contextlib.contextmanager
def cluster(cpus: int) -> Iterator[str]:
    """Yields its address; raises `UserError` where Ray is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray.cluster_utils import Cluster
    except ImportError:
        raise UserError("Ray is not installed: pip install -e '.[cluster]'.") from None
    node = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": cpus, "include_dashboard": False, "object_store_memory": 2**29},
    )
    try:
        yield node.address
    finally:
        ray.shutdown()
        node.shutdown()
