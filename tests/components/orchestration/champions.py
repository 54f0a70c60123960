"""Projects whose champion is a small network with random weights, for what takes a champion away."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components.core.bundles import Card, write_bundle
from components.inference.predictor import WEIGHTS
from components.registry.release.promotion import release
from components.registry.versions.model_versions import register
from components.tasks import base
from components.tasks.shared.models.ensembles.models import bundle_architectures
from components.tasks.shared.schema.tables.kinds import inputs_json, parse_inputs
from tests.structure.import_graph import ROOT

COLUMNS = {"city": "category", "size": "number", "sold": "time"}
# Different lengths, titles, tags, a flag of a region, and a text whose characters are unknown.
TEXTS = [
    {"text": "早餐很好，房间太小"},
    {"text": "a lovely <b>quiet</b> room &amp; friendly people, but the ＷＩＦＩ was slow " * 6},
    {"text": "ok", "title": "很好"},
    {"text": "☕☕"},
]
ROWS = [
    {"city": "Bonn", "size": 70.5, "sold": "2024-03-01 13:30:00"},
    {"city": None, "size": "1,200.5", "sold": None},
    {"city": "elsewhere", "size": None, "sold": "2019-12-31"},
]


def project_of(root: Path, store: Path) -> Path:
    """Make as much of a project as commands read, without data.

    Args:
        root: of the project.
        store: folder with an empty store, which is copied.
    """
    shutil.copytree(store, root)
    (root / "components" / "cli").mkdir(parents=True)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copyfile(ROOT / name, root / name)
    (root / "pipelines").symlink_to(ROOT / "pipelines")
    return root


def network_bundle(
    folder: Path,
    task: str,
    rows: Sequence[Mapping[str, Any]],
    architecture: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, Any] | None = None,
    targets: Mapping[str, Any] | None = None,
) -> Path:
    """Write a bundle of a network with random weights, whose encoder is fitted on some rows."""
    import torch
    from safetensors.torch import save

    schema = base.schema(task)
    encoding = base.encoding(task)
    tree = inputs_json(parse_inputs(inputs or {}))
    known = targets or {"classes": ["差评", "好评"]}
    encoder = encoding.fit(
        iter(pa.Table.from_pylist(list(rows)).to_batches()),
        known,
        encoding.options["tokenize"].model_validate({}),
        schema.options["clean"].model_validate({}),
        tree,
    )
    kind = bundle_architectures(task)[architecture]
    torch.manual_seed(3)
    module = kind.build(kind.Config.model_validate(dict(config)), encoder)
    card = Card(
        task=task,
        runtime="torch",
        architecture=architecture,
        config=dict(config),
        targets=known,
        seed=3,
        data_hash="ab" * 32,
        params_hash="cd" * 32,
        origin=["train"],
        profile={"inputs": tree} if tree else {},
    )
    files = {f"encoder/{name}": content for name, content in encoder.files().items()}
    weights = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    write_bundle(folder, card, {WEIGHTS: save(weights), **files})
    return folder


def crown(root: Path, pipeline: str, bundle: Path, queries: Sequence[Any]) -> None:
    """Register a bundle as the champion of a pipeline."""
    tags = {"examples": json.dumps(list(queries), ensure_ascii=False)}
    version = register(root, pipeline, bundle, None, tags)
    release(root, pipeline, version.number, [], mode="auto", who="test", why="test")


def table_rows(target: Any) -> list[dict[str, Any]]:
    """Rows to fit an encoder of a table on."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(60):
        city = ("Bonn", "Köln", None)[number % 3]
        sold = f"20{10 + number % 9}-0{1 + number % 9}-1{number % 7} 0{number % 9}:15:00"
        rows.append({"city": city, "size": float(rng.normal(80, 20)), "sold": sold, **target})
    rows[5]["size"] = None
    return rows
