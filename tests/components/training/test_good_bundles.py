"""Good bundles open in a child process: of all runtimes and recipes, wherever they lie, however old.

Fifteen bundles, and ten places of each.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from small_bundles import CLASSES, QUERY, numpy_bundle, onnx_bundle, torch_bundle, weights_of
from stage_runner import IMAGE, TINY, StageRunner, png

from components.core.bundles import CARD, Card, write_bundle
from components.core.files import sha256, to_json
from components.core.sandbox import SandboxedCall
from components.inference.predictor import ARRAYS, WEIGHTS, first_answers
from components.registry.store.backup import backup, restore
from components.registry.versions.model_versions import fetch, register
from components.stages.compress import steps
from components.stages.compress.params import CompressParams, resolved_recipes
from components.tasks import base
from components.training.bundle_writer import save_torch
from components.training.loop import fit

TEXT_NETS = ("ngrams", "textcnn", "counted", "recurrent", "transformer")
PIXELS = np.random.default_rng(7).integers(0, 255, (8, 8)).astype(np.uint8)
PICTURE = json.dumps({"image": base64.b64encode(png(PIXELS)).decode()})
RECIPES = ("pruned", "int8", "distilled")
PICTURES = ("convnet", "pictures", "pictures trivial")
NAMES = [*TEXT_NETS, "onnx", "classical", "trivial", *PICTURES, *RECIPES, "pretrained"]
COMPRESS = {
    "prune": {"epochs": 1},
    "quantize": {"calibration_rows": 16},
    "distill": {
        "architecture": "textcnn",
        "nets": {"textcnn": TINY["textcnn"]},
        "epochs": 1,
        "compare": False,
    },
}
TRAIN = {"architecture": "textcnn", "workers": 1, "batch_size": 32, "nets": {}}


@pytest.fixture(scope="module")
def child() -> Iterator[SandboxedCall]:
    with SandboxedCall(first_answers) as child:
        yield child


@pytest.fixture(scope="module")
def bundles(
    reviews: StageRunner,
    network: Path,
    borrowed: StageRunner,
    tmp_path_factory: pytest.TempPathFactory,
) -> Mapping[str, Path]:
    root = tmp_path_factory.mktemp("good")
    made = {name: torch_bundle(root / name, name, TINY[name]) for name in TEXT_NETS}
    made["onnx"] = onnx_bundle(root / "onnx")
    made |= {name: numpy_bundle(root / name, name) for name in ("classical", "trivial")}
    made["convnet"] = convnet(root / "convnet")
    made["pictures"] = picture_baseline(root / "pictures", "classical")
    made["pictures trivial"] = picture_baseline(root / "pictures trivial", "trivial")
    made |= compressed(reviews, network, root)
    spec = borrowed.spec(root / "fit", "pretrained")
    weights = fit(spec).weights.read_bytes()
    save_torch(root / "pretrained", spec, weights, "0" * 64, ["train"])
    made["pretrained"] = root / "pretrained"
    return made


def compressed(reviews: StageRunner, network: Path, root: Path) -> Mapping[str, Path]:
    """A network as each recipe leaves it, after as little work as there can be."""
    train = type(reviews.sections["train"]).model_validate(TRAIN)
    runner = replace(reviews, sections={**reviews.sections, "train": train})
    job = runner.job("compress", ["tokens"], [], CompressParams.model_validate(COMPRESS))
    job = replace(job, state=root / "compress")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "fit_distributed", fit)
        recipes, _ = resolved_recipes(job.params)
        for name, (step,) in recipes.items():
            given = steps.StepInput(job, network, network, name, root / name)
            assert steps.run_step(step.name, given, step.params) == ""
    return {name: root / name for name in RECIPES}


@dataclass(frozen=True)
class Registered:
    """A store with two versions of each bundle, and the one that its backup became."""

    root: Path
    restored: Path


@pytest.fixture(scope="module")
def registered(
    bundles: Mapping[str, Path], empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registered]:
    root = tmp_path_factory.mktemp("registered")
    shutil.copytree(empty_store, root / "a")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for name, folder in bundles.items():
            other = shutil.copytree(folder, root / "other" / name)
            facts = json.loads((other / CARD).read_text(encoding="utf-8"))
            (other / CARD).write_text(to_json(facts | {"params_hash": "ef" * 32}), encoding="utf-8")
            versions = [
                register(root / "a", pipeline(name), each, None, {}) for each in (folder, other)
            ]
            assert [version.number for version in versions] == [1, 2]
        backup(root / "a", root / "backup.zip")
        restore(root / "b", root / "backup.zip")
        yield Registered(root / "a", root / "b")


def pipeline(name: str) -> str:
    """The name of the registered model."""
    return name.replace(" ", "-")


def pictures() -> pa.Table:
    rng = np.random.default_rng(7)
    content = [png(rng.integers(0, 255, (8, 8)).astype(np.uint8)) for _ in range(24)]
    return pa.table({"image": content, "label": CLASSES * 12})


def card(runtime: Any, architecture: str, config: Mapping[str, Any]) -> Card:
    return Card(
        IMAGE, runtime, architecture, config, {"classes": CLASSES}, 7, "ab" * 32, "", ["train"]
    )


def picture_baseline(folder: Path, name: str) -> Path:
    from safetensors.numpy import save

    facet = base.baselines(IMAGE)
    clean = base.schema(IMAGE).options["clean"].model_validate({})
    options = facet.options["train"].model_validate({})
    arrays, files = facet.baselines[name].fit(pictures(), {"classes": CLASSES}, options, clean, 7)
    named = {f"encoder/{key}": content for key, content in files.items()}
    write_bundle(folder, card("numpy", name, {}), {ARRAYS: save(dict(arrays)), **named})
    return folder


def convnet(folder: Path) -> Path:
    clean = base.schema(IMAGE).options["clean"].model_validate({})
    facet, net = base.encoding(IMAGE), base.models(IMAGE).architectures["convnet"]
    options = facet.options["tokenize"].model_validate({})
    encoder = facet.fit(iter(pictures().to_batches()), {"classes": CLASSES}, options, clean)
    module = net.build(net.Config.model_validate(TINY["convnet"]), encoder)
    files = {f"encoder/{name}": content for name, content in encoder.files().items()}
    write_bundle(
        folder,
        card("torch", "convnet", TINY["convnet"]),
        {WEIGHTS: weights_of(module), **files},
    )
    return folder


def answer(child: SandboxedCall, folder: Path, name: str) -> Any:
    query = PICTURE if name in PICTURES else QUERY
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
    bundles: Mapping[str, Path], child: SandboxedCall, tmp_path: Path, name: str
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


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_after_a_way_through_the_registry(
    bundles: Mapping[str, Path],
    registered: Registered,
    child: SandboxedCall,
    tmp_path: Path,
    name: str,
) -> None:
    told = answer(child, bundles[name], name)
    # registered and fetched
    fetched = fetch(registered.root, pipeline(name), 1, tmp_path / "first")
    assert answer(child, fetched, name) == told
    # registered as another version, with a card that says something else of its params
    again = fetch(registered.root, pipeline(name), 2, tmp_path / "second")
    assert sha256(again / CARD) != sha256(fetched / CARD)
    assert answer(child, again, name) == told
    # restored from an archive in another project
    back = fetch(registered.restored, pipeline(name), 1, tmp_path / "third")
    assert answer(child, back, name) == told
