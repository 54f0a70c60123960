"""Several nodes without a folder in common are refused before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from components.core.errors import EnvironmentFault
from pipelines import storage


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = [{"Alive": True, "NodeID": str(n), "NodeName": name, "NodeManagerAddress": f"10.0.0.{n}"} for n, name in enumerate(("head", "worker"))]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    return nodes


def here(node: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(node)


def test_no_storage_names_the_nodes_and_the_setting(two_nodes: list[dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"head \(10.0.0.0\), worker \(10.0.0.1\)") as fault:
        storage.check_storage(None, tmp_path)
    assert fault.value.where == "cluster.storage"
    two_nodes[1]["Alive"] = False
    storage.check_storage(None, tmp_path)  # one node sees its own files


def test_a_project_outside_the_storage_is_refused(two_nodes: list[dict[str, Any]], tmp_path: Path) -> None:
    for given in (str(tmp_path / "shared"), "s3://bucket/place"):
        with pytest.raises(EnvironmentFault, match="the project lies outside of it"):
            storage.check_storage(given, tmp_path / "project")


def test_a_node_whose_token_does_not_arrive_is_named(two_nodes: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_write", lambda node, path: here(node, path) if node == "0" else None)
    with pytest.raises(EnvironmentFault, match=r"does not arrive here: worker \(10.0.0.1\)"):
        storage.check_storage(str(tmp_path), tmp_path / "project")
    monkeypatch.setattr(storage, "_write", lambda node, path: here("another", path) if node == "0" else here(node, path))
    with pytest.raises(EnvironmentFault, match=r"does not arrive here: head \(10.0.0.0\)"):
        storage.check_storage(str(tmp_path), tmp_path / "project")
    monkeypatch.setattr(storage, "_write", here)
    storage.check_storage(str(tmp_path), tmp_path / "project")
    assert not list((tmp_path / "project" / "data" / ".state").iterdir())  # tokens are not left behind


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two real nodes on this machine."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    ray.init(address=made.address, log_to_driver=False)
    try:
        made.wait_for_nodes()
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.mark.timeout(300)
def test_real_nodes_prove_that_they_share_a_folder(cluster: Any, tmp_path: Path) -> None:
    project = tmp_path / "project"
    with pytest.raises(EnvironmentFault, match="the cluster has 2 nodes"):
        storage.check_storage(None, project)
    storage.check_storage(str(tmp_path), project)
    (project / "data" / ".state").rmdir()
    (project / "data" / ".state").write_text("in the way: no node can write here")
    with pytest.raises(EnvironmentFault, match="does not arrive here") as fault:
        storage.check_storage(str(tmp_path), project)
    assert fault.value.what.count("(") == 2  # both are named
