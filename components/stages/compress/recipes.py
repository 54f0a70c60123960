"""Recipes that make a network small: prune, quantize, distill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save

from components.core.bundles import Card, read_bundle
from components.core.files import write_atomic
from components.core.job import Job
from components.inference.predictor import load_module
from components.stages.compress.params import Distill, Prune, Quantize
from components.stages.compress.prune import prune_network
from components.stages.compress.quantize import export, int8
from components.tasks import base
from components.training.batches import EncodedRows, load_encoder
from components.training.bundle_writer import save_onnx, save_torch
from components.training.fit_config import FitConfig
from components.training.params import FitParams
from components.training.ray_fit import fit_distributed


def make_compressed(name: str, job: Job, parent: Path, out: Path) -> None:
    """Write the bundle of one recipe.

    Where the parent cannot be pruned, nothing is written.

    Args:
        name: pruned, int8 or distilled.
        job: compress.
        parent: bundle of the network.
        out: the bundle that is written.
    """
    card, _ = read_bundle(parent)
    recipes = {"pruned": _prune, "int8": _quantize, "distilled": _distill}
    recipes[name](job, parent, card, out)


def _spec(job: Job, card: Card, state: str, **changes: Any) -> FitConfig:
    """Return a fit of the parent's architecture with the params of train, some changed.

    Args:
        card: of the parent.
        state: name of the folder of checkpoints.
        changes: params of train that differ.
    """
    train: Any = job.sections["train"]
    augment: Any = job.sections["augment"]
    params = {}
    for name in FitParams.model_fields:
        params[name] = getattr(train, name)
    params.update(changes)
    return FitConfig(
        card.task,
        job.inputs["tokens"],
        card.architecture,
        card.config,
        FitParams(**params),
        augment.online.model_dump(),
        job.seed,
        job.state / state,
        loss_params=base.loss_params_of(card.task, train),
    )


def _prune(job: Job, parent: Path, card: Card, out: Path) -> None:
    """Cut the units with the lowest scores, then fit for some epochs.

    Args:
        parent: bundle of the network.
        card: of the parent.
        out: the bundle that is written.
    """
    params: Prune = job.params.prune
    architecture = base.models(card.task).architectures[card.architecture]
    module = load_module(parent)
    if not architecture.pruning_spec().dims(module):
        job.journal.log(f"pruning skipped: {card.architecture} has no prunable dimensions")
        return
    parent_config = architecture.Config.model_validate(dict(card.config))
    pruning_spec = architecture.pruning_spec()
    config, weights = prune_network(module, parent_config, pruning_spec, params.share)
    initial = job.state / "pruned.safetensors"
    write_atomic(initial, save(weights))
    spec = _spec(job, card, "prune", epochs=params.epochs, learning_rate=params.learning_rate)
    spec = replace(spec, config=config.model_dump(), initial=initial)
    _fit_and_save(job, spec, out, [*card.origin, "prune"])


def _quantize(job: Job, parent: Path, card: Card, out: Path) -> None:
    """Export to ONNX and quantize.

    Args:
        parent: bundle of the network.
        card: of the parent.
        out: the bundle that is written.
    """
    params: Quantize = job.params.quantize
    tokens = job.inputs["tokens"]
    encoder = load_encoder(tokens, card.task)
    rows = EncodedRows(tokens, "train", encoder)
    architecture = base.models(card.task).architectures[card.architecture]
    graphs = architecture.graphs(load_module(parent))
    graph = graphs["forward"]
    # The longest and the shortest row: an example with padding in it, so that no axis looks
    # constant.
    longest = int(rows.lengths.argmax())
    shortest = int(rows.lengths.argmin())
    example = rows.batch([longest, shortest])
    fp32 = export(graph, dict(example))
    content = int8(fp32, rows, params.calibration_rows, job.seed)
    spec = _spec(job, card, "quantize")
    save_onnx(out, spec, content, job.tags["params_hash"], [*card.origin, "int8"])


def _distill(job: Job, parent: Path, card: Card, out: Path) -> None:
    """Fit a smaller network to the outputs of the parent.

    Args:
        parent: bundle of the teacher.
        card: of the parent.
        out: the bundle that is written.
    """
    params: Distill = job.params.distill
    architecture = base.models(card.task).architectures[params.architecture]
    config_params = params.nets.get(params.architecture, {})
    config = architecture.Config.model_validate(config_params)
    spec = _spec(job, card, "distil", epochs=params.epochs, learning_rate=params.learning_rate)
    spec = replace(
        spec,
        architecture=params.architecture,
        config=config.model_dump(),
        teacher=parent,
        temperature=params.temperature,
        teacher_weight=params.weight,
    )
    _fit_and_save(job, spec, out, [*card.origin, "distill"])


def _fit_and_save(job: Job, spec: FitConfig, out: Path, origin: list[str]) -> None:
    """Fit a network and write its bundle."""
    result = fit_distributed(spec, job.journal)
    weights = result.weights.read_bytes()
    save_torch(out, spec, weights, job.tags["params_hash"], origin)
