"""FitResult things as bundles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.core.bundles import Card, write_bundle
from components.core.tables import read_manifest
from components.inference.predictor import ARRAYS, GRAPH, WEIGHTS
from components.tasks.base import Arrays
from components.training.batches import load_encoder
from components.training.fit_config import FitConfig


def card_of(spec: FitConfig, runtime: Any, params_hash: str, origin: Sequence[str]) -> Card:
    """The card of a network fitted by `spec`."""
    manifest = read_manifest(spec.tokens)
    return Card(
        task=spec.task,
        runtime=runtime,
        architecture=spec.architecture,
        config=dict(spec.config),
        classes=manifest["classes"],
        seed=spec.seed,
        data_hash=manifest["data_hash"],
        params_hash=params_hash,
        origin=list(origin),
        profile=manifest["profile"],
    )


def save_torch(
    folder: Path, spec: FitConfig, weights: bytes, params_hash: str, origin: Sequence[str]
) -> None:
    """A torch bundle from safetensors bytes."""
    write_bundle(
        folder,
        card_of(spec, "torch", params_hash, origin),
        {WEIGHTS: weights, **encoder_files(spec)},
    )


def save_onnx(
    folder: Path, spec: FitConfig, graph: bytes, params_hash: str, origin: Sequence[str]
) -> None:
    """An ONNX bundle."""
    write_bundle(
        folder, card_of(spec, "onnx", params_hash, origin), {GRAPH: graph, **encoder_files(spec)}
    )


def save_numpy(folder: Path, card: Card, arrays: Arrays, files: Mapping[str, bytes]) -> None:
    """A numpy bundle: a baseline."""
    from safetensors.numpy import save

    write_bundle(
        folder,
        card,
        {
            ARRAYS: save(dict(arrays)),
            **{f"encoder/{name}": content for name, content in files.items()},
        },
    )


def encoder_files(spec: FitConfig) -> dict[str, bytes]:
    """The encoder's files as they stand in a bundle."""
    return {
        f"encoder/{name}": content
        for name, content in load_encoder(spec.tokens, spec.task).files().items()
    }
