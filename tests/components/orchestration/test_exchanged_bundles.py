"""Exchanged files of a version agree with themselves, and not with the registered hash."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from components.core.bundles import CARD
from components.core.errors import BundleError, GateError, InputError
from components.orchestration.batch import batch_predict
from components.orchestration.drift import drift_check
from components.orchestration.pipeline_params import load
from components.orchestration.service import service
from components.registry.release.promotion import release
from components.registry.store.tracking_store import client
from components.registry.versions.model_versions import (
    BUNDLE,
    champion,
    fetch,
    register,
    verify,
)
from tests.components.training.small_bundles import (
    CLASSES,
    edit_card,
    encoder_files,
    exchange,
    graph,
    onnx_bundle,
)
from tests.structure.import_graph import ROOT

ENCODER = "encoder/encoder.json"


@pytest.fixture(scope="module")
def template(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose version 1 is champion."""
    root = shutil.copytree(empty_store, tmp_path_factory.mktemp("exchanged") / "p")
    for name in ("pipelines", "components", "dvc.yaml", "constraints.txt"):
        (root / name).symlink_to(ROOT / name)
    shutil.copyfile(ROOT / "params.yaml", root / "params.yaml")
    register(root, "default", onnx_bundle(root / "bundle"), None, {})
    release(root, "default", 1, [], mode="auto", who="test", why="first")
    (root / "rows.csv").write_text("text\n酒店很好\n房间太差\n", encoding="utf-8")
    return root


@pytest.fixture
def root(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "RAY_ADDRESS"))]:
        monkeypatch.delenv(name)
    return shutil.copytree(template, tmp_path / "p", symlinks=True)


def kept(root: Path) -> Path:
    """The registry's own copy of the champion."""
    return fetch(root, "default", "champion", root / "copy")


def swapped(folder: Path) -> None:
    """The other class is answered."""
    facts = json.loads((folder / ENCODER).read_text(encoding="utf-8"))
    exchange(folder, ENCODER, json.dumps(facts | {"classes": CLASSES[::-1]}).encode())
    edit_card(folder, classes=CLASSES[::-1])


def other_weights(folder: Path) -> None:
    exchange(folder, "model.onnx", graph(producer_name="other"))


def other_profile(folder: Path) -> None:
    edit_card(folder, profile={"rows": 3})


def other_encoder(folder: Path) -> None:
    facts = json.loads(encoder_files()[ENCODER]) | {"max_length": 9}
    exchange(folder, ENCODER, json.dumps(facts).encode())


def card_is_a_fifo(folder: Path) -> None:
    (folder / CARD).unlink()
    os.mkfifo(folder / CARD)


def weights_are_a_link(folder: Path) -> None:
    (folder / "model.onnx").rename(folder.parent / "outside.onnx")
    (folder / "model.onnx").symlink_to(folder.parent / "outside.onnx")


CHANGES = [
    swapped,
    other_weights,
    other_profile,
    other_encoder,
    card_is_a_fifo,
    weights_are_a_link,
]


def ask(root: Path) -> None:
    service.answer(root, "default", "酒店很好")


def ask_all(root: Path) -> None:
    batch_predict.predict_file(root, "default", root / "rows.csv", root / "out.csv")


def watch(root: Path) -> None:
    drift_check._profile.cache_clear()
    drift_check._champion(root, load(root / "params.yaml"))


@pytest.mark.parametrize("command", [ask, ask_all, watch])
def test_whole_ones_are_taken(root: Path, command: Callable[[Path], None]) -> None:
    command(root)
    assert (root / "out.csv").is_file() == (command is ask_all)


@pytest.mark.parametrize("command", [ask, ask_all, watch])
@pytest.mark.parametrize("change", CHANGES)
def test_exchanged_ones_are_refused(
    root: Path, command: Callable[[Path], None], change: Callable[[Path], None]
) -> None:
    change(kept(root))
    with pytest.raises(BundleError) as caught:
        command(root)
    assert caught.value.exit_code == 2 and str(kept(root)) in caught.value.where
    assert not (root / "out.csv").exists()


@pytest.mark.parametrize("change", CHANGES)
def test_exchanged_ones_are_not_released(root: Path, change: Callable[[Path], None]) -> None:
    leading = champion(root, "default")
    assert leading
    verify(root, leading)
    change(kept(root))
    with pytest.raises(GateError, match="refused by bundle"):
        verify(root, leading)


def test_a_version_without_its_hash_is_refused(root: Path) -> None:
    client(root).delete_model_version_tag("default", "1", BUNDLE)
    with pytest.raises(InputError, match="not a SHA-256"):
        ask(root)


def test_the_command_line_says_it_in_a_sentence(root: Path) -> None:
    other_weights(kept(root))
    for words in (["predict", "酒店很好"], ["predict", "--in", "rows.csv", "--out", "out.csv"]):
        ended = subprocess.run(
            [sys.executable, "-m", "components.cli", *words],
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 2, ended.stderr
        assert "is not the card that was registered" in " ".join(ended.stderr.split())
        assert "Traceback" not in ended.stderr
