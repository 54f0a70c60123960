"""Several nodes without a folder in common are refused before anything is computed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray

from components.core.errors import EnvironmentFault
from components.orchestration.cluster import shared_storage


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = [
        {"Alive": True, "NodeID": str(n), "NodeName": name, "NodeManagerAddress": f"10.0.0.{n}"}
        for n, name in enumerate(("head", "worker"))
    ]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    return nodes


def here(node: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(node)


def test_no_storage_names_the_nodes_and_the_setting(
    two_nodes: list[dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(EnvironmentFault, match=r"head \(10.0.0.0\), worker \(10.0.0.1\)") as fault:
        shared_storage.check_storage(None, tmp_path)
    assert fault.value.where == "cluster.storage"
    two_nodes[1]["Alive"] = False
    shared_storage.check_storage(None, tmp_path)  # one node sees its own files


def test_a_project_outside_the_storage_is_refused(
    two_nodes: list[dict[str, Any]], tmp_path: Path
) -> None:
    for given in (str(tmp_path / "shared"), "s3://bucket/place"):
        with pytest.raises(EnvironmentFault, match="the project lies outside of it"):
            shared_storage.check_storage(given, tmp_path / "project")


def test_a_node_whose_token_does_not_arrive_is_named(
    two_nodes: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        shared_storage, "_write", lambda node, path: here(node, path) if node == "0" else None
    )
    with pytest.raises(EnvironmentFault, match=r"does not arrive here: worker \(10.0.0.1\)"):
        shared_storage.check_storage(str(tmp_path), tmp_path / "project")
    monkeypatch.setattr(
        shared_storage,
        "_write",
        lambda node, path: here("another", path) if node == "0" else here(node, path),
    )
    with pytest.raises(EnvironmentFault, match=r"does not arrive here: head \(10.0.0.0\)"):
        shared_storage.check_storage(str(tmp_path), tmp_path / "project")
    monkeypatch.setattr(shared_storage, "_write", here)
    shared_storage.check_storage(str(tmp_path), tmp_path / "project")
    assert not list(
        (tmp_path / "project" / "data" / ".state").iterdir()
    )  # tokens are not left behind


REAL = """
import sys
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from components.core.errors import EnvironmentFault
from components.orchestration.cluster.shared_storage import check_storage

def refused(storage, project):
    try:
        check_storage(storage, project)
    except EnvironmentFault as fault:
        print(fault.what)
    else:
        print("taken")

root = Path(sys.argv[1])
quiet = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **quiet})
cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)
try:
    cluster.wait_for_nodes()
    refused(None, root / "project")
    refused(str(root), root / "project")
    (root / "project/data/.state").rmdir()
    (root / "project/data/.state").write_text("in the way: no node can write here")
    refused(str(root), root / "project")
finally:
    ray.shutdown()
    cluster.shutdown()
"""


@pytest.mark.timeout(300)
def test_real_nodes_prove_that_they_share_a_folder(tmp_path: Path) -> None:
    """Two nodes on this machine, in a process of their own: what other tests told Ray about tokens stays with them."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", REAL, str(tmp_path)],
        env=clean,
        capture_output=True,
        text=True,
        timeout=280,
    )
    none, shared, broken = done.stdout.splitlines()
    assert "the cluster has 2 nodes" in none, done.stderr
    assert shared == "taken"
    assert "does not arrive here" in broken
    assert broken.count("(") == 2  # both are named
