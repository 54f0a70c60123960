"""Write fitted models as bundles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.core.bundles import Card, write_bundle
from components.core.tables import read_manifest
from components.inference.predictor import ARRAYS, GRAPH, WEIGHTS
from components.tasks import base
from components.tasks.base import Arrays
from components.training.batches import load_encoder
from components.training.fit_config import FitConfig


def card_of(
    spec: FitConfig,
    runtime: Any,
    params_hash: str,
    origin: Sequence[str],
) -> Card:
    """Return the card of a network fitted by `spec`."""
    manifest = read_manifest(spec.tokens)
    return Card(
        task=spec.task,
        runtime=runtime,
        architecture=spec.architecture,
        config=dict(spec.config),
        targets=base.schema(spec.task).targets.info(manifest),
        seed=spec.seed,
        data_hash=manifest["data_hash"],
        params_hash=params_hash,
        origin=list(origin),
        profile=manifest["profile"],
    )


def save_torch(
    folder: Path, spec: FitConfig, weights: bytes, params_hash: str, origin: Sequence[str]
) -> None:
    """Write a torch bundle.

    Args:
        folder: of the bundle.
        spec: the fit.
        weights: bytes of a safetensors file.
        params_hash: hash of the params of the fit.
        origin: names of the steps that made it, in order, such as "train", "prune", "int8".
    """
    card = card_of(spec, "torch", params_hash, origin)
    write_bundle(folder, card, {WEIGHTS: weights, **encoder_files(spec)})


def save_onnx(
    folder: Path, spec: FitConfig, graph: bytes, params_hash: str, origin: Sequence[str]
) -> None:
    """Write an ONNX bundle.

    Args:
        folder: of the bundle.
        spec: the fit.
        graph: bytes of an ONNX file.
        params_hash: hash of the params of the fit.
        origin: names of the steps that made it, in order, such as "train", "prune", "int8".
    """
    card = card_of(spec, "onnx", params_hash, origin)
    write_bundle(folder, card, {GRAPH: graph, **encoder_files(spec)})


def save_numpy(
    folder: Path,
    card: Card,
    arrays: Arrays,
    files: Mapping[str, bytes],
) -> None:
    """Write a numpy bundle, which holds a baseline.

    Args:
        folder: of the bundle.
        card: its card.
        arrays: the fitted arrays.
        files: the baseline's encoder files by name.
    """
    from safetensors.numpy import save

    # safetensors writes the memory of an array, whatever its order is.
    in_order = {name: np.array(array, order="C") for name, array in arrays.items()}
    contents = {ARRAYS: save(in_order)}
    for name, content in files.items():
        contents[f"encoder/{name}"] = content
    write_bundle(folder, card, contents)


def encoder_files(spec: FitConfig) -> dict[str, bytes]:
    """Return the encoder's files by their paths in a bundle."""
    files = load_encoder(spec.tokens, spec.task).files()
    return {f"encoder/{name}": content for name, content in files.items()}
