"""Run `ray start` without the parts of Ray that an embedded Ray has no use for.

The supervisor runs this module as a program. Each start of Ray takes 3 s of CPU time less, and Ray
has one process less.
"""

from __future__ import annotations

import sys
from typing import Any

# Groups of Ray's commands. Their modules import Ray Serve, pandas and FastAPI.
_UNUSED = ("ray.dashboard.modules.job.cli", "ray.serve.scripts", "ray.util.state.state_cli")


def main() -> None:
    """Run Ray's command with the arguments of this process."""
    for name in _UNUSED:
        # Importing it fails, as if it were not installed. Ray provides for that.
        sys.modules[name] = None  # type: ignore[assignment]
    from ray._private.node import Node
    from ray.scripts.scripts import main as run_ray

    Node.start_api_server = start_no_dashboard
    run_ray()


def start_no_dashboard(node: Any, **_: Any) -> None:
    """Record an address at which nobody listens, in place of starting the dashboard.

    Ray starts a process for it even if there shall be no dashboard. Without an address, the agent
    of the node would write an error to its log each second.

    Args:
        node: that starts.
    """
    from ray._private import ray_constants

    key = ray_constants.DASHBOARD_ADDRESS.encode()
    namespace = ray_constants.KV_NAMESPACE_DASHBOARD
    node.get_gcs_client().internal_kv_put(key, b"127.0.0.1:0", True, namespace)


if __name__ == "__main__":
    main()
