"""`gristmill mlflow …` as typed: what it prints and how it ends."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.cli import tracking_store_commands
from components.core.errors import InputError
from components.registry.store import tracking_store


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose store holds one run."""
    root = tmp_path_factory.mktemp("tracking")
    opened = tracking_store.client(root)
    run = opened.create_run(tracking_store.experiment(opened, root, "default"))
    opened.log_metric(run.info.run_id, "loss", 0.5)
    opened.log_text(run.info.run_id, "x" * 100, "a.txt")
    return root


def call(root: Path, patch: pytest.MonkeyPatch, *words: str) -> str:
    patch.setattr(tracking_store_commands, "root", lambda: root)
    done = CliRunner().invoke(tracking_store_commands.app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_backup_restore_move_and_catch_up(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "2 experiments, 1 runs, 1 metrics, 0 registered models, 0 model versions, 1 files"
    assert told in call(project, monkeypatch, "backup", str(tmp_path / "b.zip"))
    assert f"restored {told}" in call(
        tmp_path / "other", monkeypatch, "restore", str(tmp_path / "b.zip")
    )
    with pytest.raises(InputError, match="would be lost"):
        call(project, monkeypatch, "restore", str(tmp_path / "b.zip"))
    assert "restored" in call(project, monkeypatch, "restore", "--replace", str(tmp_path / "b.zip"))
    assert call(project, monkeypatch, "catch-up") == "nothing waits: all is written\n"
    # a database of any kind that SQLAlchemy knows can be moved to
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", f"sqlite:///{tmp_path / 'moved.db'}")
    said = call(project, monkeypatch, "move", "--artifacts", str(tmp_path / "files"))
    assert (
        "copied, compared and equal: experiments 2" in said
        and "files read back and equal: 1 (0.0 MB)" in said
    )
    assert "were there already" in call(
        project, monkeypatch, "move", "--artifacts", str(tmp_path / "files")
    )
    shutil.rmtree(tmp_path / "files")
