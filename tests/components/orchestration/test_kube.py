"""The application that KubeRay starts by name: the champion, or nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.core.bundles import Card, write_bundle
from components.core.errors import EnvironmentFault, InputError
from components.orchestration.service import kuberay_app
from components.registry.release.promotion import release
from components.registry.versions.model_versions import register

SOURCE = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two versions, of which the first was released."""
    folder = tmp_path_factory.mktemp("kube")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copyfile(SOURCE / name, folder / name)
    for seed in (1, 2):
        card = Card(
            "text_classification",
            "numpy",
            "classical",
            {},
            {"classes": ["a", "b"]},
            seed,
            "d",
            "p",
            ["train"],
            versions={"numpy": "2"},
        )
        write_bundle(folder / f"bundle{seed}", card, {"arrays.safetensors": b"\0"})
        register(folder, "default", folder / f"bundle{seed}", None, {})
    release(folder, "default", 1, [], mode="auto", who="test", why="first")
    return folder


def test_it_serves_the_champion_and_only_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kuberay_app, "root", lambda: root)
    monkeypatch.setenv("GRISTMILL_API_KEY", "k" * 40)
    for version in (None, 1, "1"):
        first, board, params, keys, monitoring = kuberay_app.application(
            {"pipeline": "default", "version": version}
        )._bound_deployment.init_args
        assert (
            first.version == "1"
            and first.bundle.is_relative_to(root / "data")
            and board is monitoring is None
            and keys.required
        )
        assert "0.0.0.0" in params.allowed_hosts  # probes name a pod by its address
    with pytest.raises(InputError, match="version 2 is not the champion, which is 1"):
        kuberay_app.application({"pipeline": "default", "version": 2})
    monkeypatch.delenv("GRISTMILL_API_KEY")
    with pytest.raises(EnvironmentFault, match="no API key is set"):
        kuberay_app.application({"pipeline": "default", "version": None})
