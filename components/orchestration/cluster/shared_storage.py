"""Do all nodes of a cluster see the same files? Asked and proved before anything is computed."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from components.core.errors import EnvironmentFault
from components.core.files import remove_tree

_WAIT_S = 60
Write = Callable[[str, Path], None]


def check_storage(storage: str | None, root: Path) -> None:
    """Refuse several nodes that do not share the project's folder. Ray must be connected.

    Args:
        storage: params `cluster.storage`: a folder that all nodes mount, in which the project lies.
        root: of the project.

    Raises:
        EnvironmentFault: names the nodes and the setting.
    """
    import ray

    nodes = {
        node["NodeID"]: f"{node['NodeName']} ({node['NodeManagerAddress']})"
        for node in ray.nodes()
        if node["Alive"]
    }
    if len(nodes) < 2:
        return
    remedy = "set it to a folder that all of them mount and put the project there; or unset RAY_ADDRESS to use this machine alone"
    if not storage:
        shown = ", ".join(sorted(nodes.values()))
        raise EnvironmentFault(
            f"is not set, but the cluster has {len(nodes)} nodes, which cannot see each other's files: {shown}",
            where="cluster.storage",
            remedy=remedy,
        )
    if not root.is_relative_to(Path(storage).resolve()):
        raise EnvironmentFault(
            f"is {storage}, but the project lies outside of it, in {root}",
            where="cluster.storage",
            remedy=remedy,
        )
    if missing := unseen(nodes, root / "data" / ".state" / f"tokens-{uuid.uuid4().hex}", _write):
        raise EnvironmentFault(
            f"is {storage}, but what these nodes write there does not arrive here: {', '.join(missing)}",
            where="cluster.storage",
            remedy="mount it there too, at the same path",
        )


def unseen(nodes: Mapping[str, str], folder: Path, write: Write) -> list[str]:
    """The nodes whose token cannot be read here.

    Args:
        nodes: id -> name.
        folder: to write in; removed afterwards.
        write: puts a file at a path, on the node of an id.
    """
    missing = []
    try:
        for node, name in sorted(nodes.items(), key=lambda each: each[1]):
            write(node, folder / node)
            if not (folder / node).is_file() or (folder / node).read_text(encoding="utf-8") != node:
                missing.append(name)
    finally:
        remove_tree(folder, within=folder.parent)
    return missing


def _write(node: str, path: Path) -> None:
    """Write on a node; one that does not answer counts as one that does not see."""
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    @ray.remote(num_cpus=0, max_retries=0)
    def put(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    try:
        ray.get(
            put.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote(path, node),
            timeout=_WAIT_S,
        )
    except (RayError, OSError):
        return
