from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from components.core.errors import EnvironmentFault
from components.registry.release.promotion import release
from components.registry.store import tracking_store
from components.registry.versions.model_versions import fetch, register


def test_the_store_is_embedded_unless_the_environment_names_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        tracking_store.tracking_uri(tmp_path) == f"sqlite:///{tmp_path.resolve()}/mlflow/mlflow.db"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.com")
    assert tracking_store.tracking_uri(tmp_path) == "https://mlflow.example.com"
    assert tracking_store.database(tmp_path) is None and tracking_store.artifacts(tmp_path) is None


def test_an_experiment_of_dvc_reports_to_the_workspace_that_it_was_copied_from(
    tmp_path: Path,
) -> None:
    for copy in (
        ".dvc/tmp/exps/tmpab12",
        ".dvc/tmp/exps/standalone/tmpab12",
        ".dvc/tmp/retrain/default",
    ):
        assert tracking_store.database(tmp_path / copy) == tracking_store.database(tmp_path)
    assert tracking_store.home(tmp_path / ".dvc" / "tmp") == tmp_path / ".dvc" / "tmp"


def test_a_path_with_signs_that_mean_something_in_a_uri_is_only_a_path(
    template: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(template, tmp_path / "数 据 %20 #1 ?x=y")
    opened = tracking_store.client(root)
    tracking_store.experiment(opened, root, "default")
    with sqlite3.connect(root / "mlflow" / "mlflow.db") as connection:
        rows = connection.execute(
            "SELECT artifact_location FROM experiments WHERE name = 'default'"
        ).fetchall()
    assert rows == [(str(root / "mlflow" / "artifacts"),)]


def test_an_experiment_is_made_once_and_comes_back_after_it_was_deleted(root: Path) -> None:
    opened = tracking_store.client(root)
    first = tracking_store.experiment(opened, root, "default")
    opened.delete_experiment(first)
    assert tracking_store.experiment(opened, root, "default") == first
    assert opened.get_experiment(first).lifecycle_stage == "active"


def test_what_a_killed_maker_of_the_database_left_goes(tmp_path: Path) -> None:
    folder = tmp_path / "mlflow"
    folder.mkdir()
    old, new = folder / "mlflow.db.1.part", folder / "mlflow.db.2.part"
    for part in (old, new):
        part.write_bytes(b"half")
    os.utime(old, (0, 0))
    tracking_store.client(tmp_path)
    assert not old.exists() and new.exists()


@pytest.mark.parametrize("moved", ["elsewhere/数据", "repo2", "repo/within"])
def test_a_moved_repository_still_resolves_its_champion(
    root: Path, bundle: Path, tmp_path: Path, moved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a released version
    version = register(root, "default", bundle, None, {})
    release(root, "default", version.number, [], mode="auto", who="test", why="first")
    # when the folder is moved, and one with the same beginning of its name stays
    shutil.move(root, tmp_path / "hold")
    target = tmp_path / moved
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(tmp_path / "hold", target)
    # then our own look-up, MLflow's and the runs find the files; looking twice changes nothing
    for _ in range(2):
        folder = fetch(target, "default", "champion", tmp_path / "into")
        assert (
            folder.is_relative_to(target.resolve())
            and (folder / "encoder" / "words.json").read_bytes() == b"{}"
        )
    from mlflow.artifacts import download_artifacts

    with monkeypatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", tracking_store.tracking_uri(target))
        assert (
            Path(download_artifacts(artifact_uri="models:/default@champion")) / "bundle.json"
        ).is_file()
    opened = tracking_store.client(target)
    assert [item.path for item in opened.list_artifacts(version.run_id, "bundles")] == [
        f"bundles/{folder.name}"
    ]
    # and new runs are written to the new place
    assert opened.create_run(
        tracking_store.experiment(opened, target, "default")
    ).info.artifact_uri.startswith(str(target.resolve()))


def test_a_locked_database_is_an_environment_fault_with_a_remedy(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking_store, "LOCK_SECONDS", 0.1)
    holder = sqlite3.connect(root / "mlflow" / "mlflow.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(EnvironmentFault, match="locked") as caught:
            tracking_store.client(root)
    finally:
        holder.close()
    assert "end the program that holds it" in caught.value.remedy


def test_a_damaged_database_is_an_environment_fault(tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "mlflow.db").write_bytes(b"not a database, " * 100)
    with pytest.raises(EnvironmentFault, match="not a database"):
        tracking_store.client(tmp_path)


def test_a_mistake_of_ours_is_not_called_an_environment_fault(root: Path) -> None:
    from mlflow.exceptions import MlflowException

    opened = tracking_store.client(root)
    with pytest.raises(MlflowException), tracking_store.reached(root):
        opened.get_run("0" * 32)


def test_the_page_is_bound_to_loopback_and_a_server_has_its_own(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = tracking_store.ui_command(root, 5050)
    assert (
        command[command.index("--host") + 1] == "127.0.0.1"
        and command[command.index("--port") + 1] == "5050"
    )
    hosts = command[command.index("--allowed-hosts") + 1].split(",")
    assert hosts == ["127.0.0.1:5050", "localhost:5050", "[::1]:5050"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.com")
    with pytest.raises(EnvironmentFault, match=r"open https://mlflow\.example\.com"):
        tracking_store.ui_command(root, 5050)
