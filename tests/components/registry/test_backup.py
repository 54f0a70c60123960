"""Backup and restore of the embedded store: while it is written to, with damage, and with a kill in the middle."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from components.core.errors import EnvironmentFault, InputError
from components.registry.release.promotion import history, release
from components.registry.store import tracking_store
from components.registry.store.backup import backup, restore
from components.registry.versions.model_versions import fetch, register


@pytest.fixture
def filled(root: Path, bundle: Path) -> Path:
    """A store with a run, its curve, a released version and a report."""
    opened = tracking_store.client(root)
    run = opened.create_run(tracking_store.experiment(opened, root, "default"), run_name="train")
    for step in range(5):
        opened.log_metric(run.info.run_id, "loss", 1.0 / (step + 1), step=step)
    opened.log_text(run.info.run_id, "好", "reports/报告.html")
    version = register(root, "default", bundle, run.info.run_id, {"title": "linear"})
    release(root, "default", version.number, [], mode="auto", who="test", why="first")
    return root


def facts(root: Path) -> dict[str, object]:
    """What a person would miss."""
    opened = tracking_store.client(root)
    run = next(
        one
        for one in opened.search_runs([tracking_store.experiment(opened, root, "default")])
        if one.info.run_name == "train"
    )
    folder = fetch(root, "default", "champion", root / "into")
    return {
        "run": run.info.run_id,
        "loss": [
            (point.step, point.value, point.timestamp)
            for point in opened.get_metric_history(run.info.run_id, "loss")
        ],
        "bundle": sorted(
            (path.relative_to(folder).as_posix(), path.read_bytes())
            for path in folder.rglob("*")
            if path.is_file()
        ),
        "within": folder.is_relative_to(root.resolve()),
        "history": history(root, "default"),
        "reports": [item.path for item in opened.list_artifacts(run.info.run_id, "reports")],
    }


def test_what_was_backed_up_comes_back_elsewhere(
    filled: Path, template: Path, tmp_path: Path
) -> None:
    held = backup(filled, tmp_path / "b.zip")
    assert (held.rows["metrics"], held.rows["model_versions"], held.missing) == (
        5,
        1,
        0,
    ) and held.rows["runs"] == len(tracking_store.client(filled).search_runs(["1"]))
    before = facts(filled)
    for other in (
        shutil.copytree(template, tmp_path / "其他"),
        tmp_path / "empty",
    ):  # a store without runs, and none at all
        restored = restore(other, tmp_path / "b.zip")
        assert restored.rows == held.rows and restored.files == held.files
        assert facts(other) == before and before["within"]
        run = tracking_store.client(other).create_run(
            tracking_store.experiment(tracking_store.client(other), other, "default")
        )
        assert run.info.artifact_uri.startswith(str(other.resolve()))
        assert not [path.name for path in (other / "mlflow").iterdir() if path.name.startswith(".")]


def test_a_store_that_holds_something_is_replaced_only_when_told(
    filled: Path, tmp_path: Path
) -> None:
    backup(filled, tmp_path / "b.zip")
    opened, before = tracking_store.client(filled), facts(filled)
    extra = opened.create_run(
        tracking_store.experiment(opened, filled, "default"), run_name="later"
    )
    opened.log_text(extra.info.run_id, "x", "later.txt")
    with pytest.raises(InputError, match="would be lost"):
        restore(filled, tmp_path / "b.zip")
    assert extra.info.run_id in names(filled)
    restore(filled, tmp_path / "b.zip", replace=True)
    assert facts(filled) == before and extra.info.run_id not in names(filled)
    assert not list((filled / "mlflow").rglob("later.txt"))
    # and once more from a backup of what was restored
    backup(filled, tmp_path / "c.zip")
    restore(filled, tmp_path / "c.zip", replace=True)
    assert facts(filled) == before


def names(root: Path) -> set[str]:
    return {run.info.run_id for run in tracking_store.client(root).search_runs(["1"])}


def test_a_backup_writes_over_nothing_but_a_backup(filled: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.zip"
    mine.write_text("my own file")
    with pytest.raises(InputError, match="is there already, and is no backup"):
        backup(filled, mine)
    assert mine.read_text() == "my own file"
    backup(filled, tmp_path / "b.zip")
    backup(filled, tmp_path / "b.zip")


def test_a_snapshot_is_of_one_moment_while_runs_are_written(filled: Path, tmp_path: Path) -> None:
    # given a writer that logs two curves in step, in one transaction each time
    opened, stop = tracking_store.client(filled), threading.Event()
    run = opened.create_run(tracking_store.experiment(opened, filled, "default")).info.run_id

    def write() -> None:
        from mlflow.entities import Metric

        for step in range(100_000):
            if stop.is_set():
                return
            opened.log_batch(run, metrics=[Metric("a", step, 0, step), Metric("b", step, 0, step)])

    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(0.3)
    backup(filled, tmp_path / "b.zip")
    stop.set()
    writer.join()
    # then the copy has both or none of each
    restore(tmp_path / "other", tmp_path / "b.zip")
    restored = tracking_store.client(tmp_path / "other")
    a, b = ({point.step for point in restored.get_metric_history(run, key)} for key in "ab")
    assert (
        a == b and a and a < {point.step for point in opened.get_metric_history(run, "a")} | {10**9}
    )


@pytest.mark.parametrize("damage", ["cut", "byte", "name", "extra", "database", "other"])
def test_a_backup_that_is_not_whole_is_refused_and_changes_nothing(
    filled: Path, tmp_path: Path, damage: str
) -> None:
    backup(filled, tmp_path / "b.zip")
    before, listing = (
        facts(filled),
        sorted(path.name for path in (filled / "mlflow" / "artifacts").iterdir()),
    )
    damaged = tmp_path / "d.zip"
    if damage == "cut":
        damaged.write_bytes((tmp_path / "b.zip").read_bytes()[:-2000])
    elif damage == "other":
        damaged.write_bytes(b"no archive")
    else:
        rewrite(tmp_path / "b.zip", damaged, damage)
    with pytest.raises(InputError):
        restore(filled, damaged, replace=True)
    assert (
        facts(filled) == before
        and sorted(path.name for path in (filled / "mlflow" / "artifacts").iterdir()) == listing
    )
    assert not (tmp_path / "repo" / "evil").exists() and not [
        path for path in (filled / "mlflow").iterdir() if path.name.startswith(".")
    ]


def rewrite(source: Path, target: Path, damage: str) -> None:
    """The same archive with one thing wrong that its own checksums do not show."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if damage == "byte" and name.endswith("words.json"):
                content = b"[]"
            if damage == "database" and name == "mlflow.db":
                content = content[:5000] + b"\0" * 9000 + content[14000:]
            if damage == "name":
                name, content = (
                    name.replace("reports/", "../../../evil/"),
                    content.replace(b"reports/", b"../../../evil/")
                    if name == "manifest.json"
                    else content,
                )
            new.writestr(name, content)
        if damage == "extra":
            new.writestr("artifacts/extra", b"")


def test_a_kill_within_sqlites_copy_is_rolled_back(filled: Path, tmp_path: Path) -> None:
    # given a copy of many pages onto the live database, killed after some of them
    large = tmp_path / "large.db"
    shutil.copyfile(filled / "mlflow" / "mlflow.db", large)
    with sqlite3.connect(large) as connection:
        connection.execute(
            "CREATE TABLE filler AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 20000) SELECT x, hex(randomblob(500)) AS y FROM n"
        )
    code = (
        "import os, signal, sqlite3, sys\n"
        "source, target = (sqlite3.connect(path) for path in sys.argv[1:])\n"
        "def step(status, remaining, total):\n    if remaining < total // 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "source.backup(target, pages=200, progress=step)\n"
    )
    before = facts(filled)
    done = subprocess.run(
        [sys.executable, "-c", code, str(large), str(filled / "mlflow" / "mlflow.db")]
    )
    assert done.returncode == -signal.SIGKILL
    assert facts(filled) == before


def test_nothing_to_back_up_and_a_server_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="nothing to back up"):
        backup(tmp_path, tmp_path / "b.zip")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="backups of their own"):
        backup(tmp_path, tmp_path / "b.zip")


def test_a_locked_store_is_not_restored_over(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup(filled, tmp_path / "b.zip")
    before = facts(filled)
    monkeypatch.setattr(tracking_store, "LOCK_SECONDS", 0.2)
    holder = sqlite3.connect(filled / "mlflow" / "mlflow.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(EnvironmentFault, match="locked"):
            restore(filled, tmp_path / "b.zip", replace=True)
    finally:
        holder.close()
    assert facts(filled) == before
