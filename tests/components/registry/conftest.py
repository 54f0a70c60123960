"""A store that is made once (3 s) and copied for each test: being copied is something it must bear anyway."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sample_versions import make_bundle

from components.registry.store import tracking_store


@pytest.fixture(scope="session")
def template(empty_store: Path) -> Path:
    return empty_store


@pytest.fixture(autouse=True)
def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "repo")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle", seed=1)


@pytest.fixture
def other_bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "other", seed=2)


SERVER = """
import sys
from mlflow.server import app
from werkzeug.serving import make_server
server = make_server("127.0.0.1", 0, app, threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def mlflow_server(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of MLflow's own REST application over a SQLite store, which is up in a third of the time of `mlflow server`."""
    home = shutil.copytree(template, tmp_path_factory.mktemp("server") / "home")
    told = {
        "FILE_STORE": f"sqlite:///{home}/mlflow/mlflow.db",
        "ARTIFACT_ROOT": "mlflow-artifacts:/",
        "SERVE_ARTIFACTS": "true",
        "ARTIFACT_DESTINATION": f"file://{home}/files",
    }
    environment = {
        **os.environ,
        **tracking_store.ENVIRONMENT,
        **{f"_MLFLOW_SERVER_{key}": value for key, value in told.items()},
    }
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    process.terminate()
    process.wait(20)
