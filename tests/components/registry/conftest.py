"""A store that is made once (3 s) and copied for each test: being copied is something it must bear anyway."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.core.bundles import Card, write_bundle
from components.registry import store


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template")
    store.client(root)
    return root


@pytest.fixture(autouse=True)
def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "repo")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle", seed=1)


def make_bundle(folder: Path, seed: int) -> Path:
    card = Card(task="any", runtime="numpy", architecture="linear", config={}, classes=["负", "正"], seed=seed, data_hash="d", params_hash="p", origin=["train"], versions={"numpy": "2"})
    write_bundle(folder, card, {"weights.safetensors": b"\0" * 8, "encoder/words.json": b"{}"})
    return folder


@pytest.fixture
def other_bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "other", seed=2)
