"""Good bundles open in a child process: of all runtimes, wherever they lie, however old."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from mill import IMAGE, TINY, png
from small_bundles import CLASSES, QUERY, numpy_bundle, onnx_bundle, torch_bundle, weights_of

from components.core.bundles import CARD, Card, write_bundle
from components.core.files import sha256, to_json
from components.core.sandbox import Confined
from components.inference.predictor import ARRAYS, WEIGHTS, first_answers
from components.tasks import base

TEXT_NETS = ("ngrams", "textcnn", "counted", "recurrent", "transformer")
PIXELS = np.random.default_rng(7).integers(0, 255, (8, 8)).astype(np.uint8)
PICTURE = json.dumps({"image": base64.b64encode(png(PIXELS)).decode()})
NAMES = [*TEXT_NETS, "onnx", "classical", "trivial", "convnet", "pictures", "pictures trivial"]


@pytest.fixture(scope="module")
def child() -> Iterator[Confined]:
    with Confined(first_answers) as child:
        yield child


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    root = tmp_path_factory.mktemp("good")
    made = {name: torch_bundle(root / name, name, TINY[name]) for name in TEXT_NETS}
    made["onnx"] = onnx_bundle(root / "onnx")
    made |= {name: numpy_bundle(root / name, name) for name in ("classical", "trivial")}
    made["convnet"] = convnet(root / "convnet")
    made["pictures"] = picture_baseline(root / "pictures", "classical")
    made["pictures trivial"] = picture_baseline(root / "pictures trivial", "trivial")
    return made


def pictures() -> pa.Table:
    rng = np.random.default_rng(7)
    content = [png(rng.integers(0, 255, (8, 8)).astype(np.uint8)) for _ in range(24)]
    return pa.table({"image": content, "label": CLASSES * 12})


def card(runtime: Any, architecture: str, config: Mapping[str, Any]) -> Card:
    return Card(IMAGE, runtime, architecture, config, CLASSES, 7, "ab" * 32, "", ["train"])


def picture_baseline(folder: Path, name: str) -> Path:
    from safetensors.numpy import save

    facet = base.baselines(IMAGE)
    clean = base.schema(IMAGE).options["clean"].model_validate({})
    options = facet.options["train"].model_validate({})
    arrays, files = facet.baselines[name].fit(pictures(), CLASSES, options, clean, 7)
    named = {f"encoder/{key}": content for key, content in files.items()}
    write_bundle(folder, card("numpy", name, {}), {ARRAYS: save(dict(arrays)), **named})
    return folder


def convnet(folder: Path) -> Path:
    clean = base.schema(IMAGE).options["clean"].model_validate({})
    facet, net = base.encoding(IMAGE), base.models(IMAGE).architectures["convnet"]
    options = facet.options["tokenize"].model_validate({})
    encoder = facet.fit(iter(pictures().to_batches()), CLASSES, options, clean)
    module = net.build(net.Config.model_validate(TINY["convnet"]), encoder)
    files = {f"encoder/{name}": content for name, content in encoder.files().items()}
    write_bundle(
        folder,
        card("torch", "convnet", TINY["convnet"]),
        {WEIGHTS: weights_of(module), **files},
    )
    return folder


def answer(child: Confined, folder: Path, name: str) -> Any:
    query = PICTURE if name in ("convnet", "pictures", "pictures trivial") else QUERY
    return child.call(folder, str(folder), sha256(folder / CARD), None, [query])


def checked_out(source: Path, project: Path, kind: Callable[[Path, Path], None]) -> Path:
    """A bundle in a project whose DVC links to its cache."""
    cache = shutil.copytree(source, project / ".dvc" / "cache" / "files")
    (project / ".dvc" / "config").touch()
    folder = shutil.copytree(source, project / "data" / "winner")
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.unlink()
        kind(cache / path.relative_to(folder), path)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_wherever_it_lies_and_whenever_it_was_written(
    bundles: Mapping[str, Path], child: Confined, tmp_path: Path, name: str
) -> None:
    told = answer(child, bundles[name], name)
    assert told["answers"][0]["label"] in CLASSES
    # copied, and moved to a place with another name
    copy = shutil.copytree(bundles[name], tmp_path / "copy")
    assert answer(child, copy, name) == told
    assert answer(child, copy.rename(tmp_path / "酒店 [1]"), name) == told
    # behind a link to its folder
    (tmp_path / "link").symlink_to(bundles[name])
    assert answer(child, tmp_path / "link", name) == told
    # checked out of DVC's cache as hard links, and as links
    for kind in (os.link, os.symlink):
        assert (
            answer(child, checked_out(bundles[name], tmp_path / f"dvc-{kind.__name__}", kind), name)
            == told
        )
    # as it was written before cards had sizes
    old = shutil.copytree(bundles[name], tmp_path / "old")
    facts = json.loads((old / CARD).read_text(encoding="utf-8"))
    del facts["sizes"]
    (old / CARD).write_text(to_json(facts), encoding="utf-8")
    assert answer(child, old, name) == told
