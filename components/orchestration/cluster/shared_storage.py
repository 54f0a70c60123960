"""Check that all nodes of a cluster see the same files, before anything is computed."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from components.core.errors import EnvironmentFault
from components.core.files import remove_tree

_WAIT_S = 60
_REMEDY = (
    "set it to a folder that all of them mount and put the project there; "
    "or unset RAY_ADDRESS to use this machine alone"
)
# id of a node, path on that node
Write = Callable[[str, Path], None]


def check_storage(storage: str | None, root: Path) -> None:
    """Refuse several nodes that do not share the project's folder. Ray must be connected.

    Args:
        storage: params `cluster.storage`: a folder that all nodes mount, in which the project lies.
        root: of the project.

    Raises:
        EnvironmentFault: names the nodes and the setting.
    """
    nodes = _alive_nodes()
    if len(nodes) < 2:
        return
    if not storage:
        names = ", ".join(sorted(nodes.values()))
        raise EnvironmentFault(
            f"is not set, but the cluster has {len(nodes)} nodes, "
            f"which cannot see each other's files: {names}",
            where="cluster.storage",
            remedy=_REMEDY,
        )
    if not root.is_relative_to(Path(storage).resolve()):
        raise EnvironmentFault(
            f"is {storage}, but the project lies outside of it, in {root}",
            where="cluster.storage",
            remedy=_REMEDY,
        )
    folder = root / "data" / ".state" / f"tokens-{uuid.uuid4().hex}"
    missing = unseen(nodes, folder, _write)
    if missing:
        raise EnvironmentFault(
            f"is {storage}, but what these nodes write there does not arrive here: "
            f"{', '.join(missing)}",
            where="cluster.storage",
            remedy="mount it there too, at the same path",
        )


def _alive_nodes() -> dict[str, str]:
    """Return the nodes that are alive: id -> name and address."""
    import ray

    nodes = {}
    for node in ray.nodes():
        if node["Alive"]:
            nodes[node["NodeID"]] = f"{node['NodeName']} ({node['NodeManagerAddress']})"
    return nodes


def unseen(nodes: Mapping[str, str], folder: Path, write: Write) -> list[str]:
    """Return the names of the nodes whose token cannot be read here.

    Args:
        nodes: id -> name.
        folder: to write in; removed afterwards.
        write: puts a file at a path, on the node of an id.
    """
    missing = []
    try:
        for node, name in sorted(nodes.items(), key=lambda item: item[1]):
            token = folder / node
            write(node, token)
            if not token.is_file() or token.read_text(encoding="utf-8") != node:
                missing.append(name)
    finally:
        remove_tree(folder, within=folder.parent)
    return missing


def _write(node: str, path: Path) -> None:
    """Write a file on a node.

    A node that does not answer writes nothing, so it counts as one that does not share the folder.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    @ray.remote(num_cpus=0, max_retries=0)
    def put(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    try:
        on_node = NodeAffinitySchedulingStrategy(node, soft=False)
        task = put.options(scheduling_strategy=on_node).remote(path, node)
        ray.get(task, timeout=_WAIT_S)
    except (RayError, OSError):
        return
