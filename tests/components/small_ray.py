"""A Ray for the tests of one file, in the test's own process and without the parts that only people look at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from components.orchestration.cluster.ray_start import start_no_dashboard

# `ray.init` would start these too. Each of them takes a second.
_QUIET = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}


@contextmanager
def small_ray(
    cpus: int = 2, runtime_env: dict[str, Any] | None = None, **head: Any
) -> Iterator[None]:
    """Connect this process to a new Ray while the block runs; `head` holds options of its head."""
    import ray
    from ray._private.node import Node
    from ray.cluster_utils import Cluster

    options = {**_QUIET, "num_cpus": cpus, **head}
    with patch.object(Node, "start_api_server", start_no_dashboard):
        cluster = Cluster(initialize_head=True, head_node_args=options)
    try:
        ray.init(
            address=cluster.address,
            logging_level="WARNING",
            log_to_driver=False,
            runtime_env=runtime_env,
        )
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()
