"""The three recipes: prune, quantize, distill."""

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
from components.stages.compress.prune import cut
from components.stages.compress.quantize import export, int8
from components.tasks import base
from components.training.batches import EncodedRows, load_encoder
from components.training.bundle_writer import save_onnx, save_torch
from components.training.distributed import fit_distributed
from components.training.fit_config import FitConfig
from components.training.params import FitParams


def make(name: str, job: Job, parent: Path, out: Path) -> None:
    """Write the bundle of one recipe: pruned, int8 or distilled.

    Where the parent cannot be pruned, nothing is written.
    """
    card, _ = read_bundle(parent)
    {"pruned": _prune, "int8": _quantize, "distilled": _distil}[name](job, parent, card, out)


def _spec(job: Job, card: Card, state: str, **changes: Any) -> FitConfig:
    """A fit of the parent's kind with train's knobs, some changed."""
    train: Any = job.sections["train"]
    online: Any = job.sections["augment"]
    knobs = {name: getattr(train, name) for name in FitParams.model_fields} | changes
    return FitConfig(
        card.task,
        job.inputs["tokens"],
        card.architecture,
        card.config,
        FitParams(**knobs),
        online.online.model_dump(),
        job.seed,
        job.state / state,
    )


def _prune(job: Job, parent: Path, card: Card, out: Path) -> None:
    """Cut the weakest units, then fit on for a little."""
    knobs: Prune = job.params.prune
    architecture = base.models(card.task).architectures[card.architecture]
    module = load_module(parent)
    if not architecture.pruning_spec().dims(module):
        job.journal.log(
            "pruned: left out, for nothing is known that can be cut out of this "
            f"{card.architecture}"
        )
        return
    config, weights = cut(
        module,
        architecture.Config.model_validate(dict(card.config)),
        architecture.pruning_spec(),
        knobs.share,
    )
    initial = job.state / "pruned.safetensors"
    write_atomic(initial, save(weights))
    spec = _spec(job, card, "prune", epochs=knobs.epochs, learning_rate=knobs.learning_rate)
    spec = replace(spec, config=config.model_dump(), initial=initial)
    save_torch(
        out,
        spec,
        fit_distributed(spec, job.journal).weights.read_bytes(),
        job.tags["params_hash"],
        [*card.origin, "prune"],
    )


def _quantize(job: Job, parent: Path, card: Card, out: Path) -> None:
    """Export to ONNX and quantize."""
    knobs: Quantize = job.params.quantize
    rows = EncodedRows(job.inputs["tokens"], "train", load_encoder(job.inputs["tokens"], card.task))
    graph = (
        base.models(card.task)
        .architectures[card.architecture]
        .graphs(load_module(parent))["forward"]
    )
    # The longest and the shortest row: an example with padding in it, so that no axis looks
    # constant.
    fp32 = export(graph, dict(rows.batch([int(rows.lengths.argmax()), int(rows.lengths.argmin())])))
    content = int8(fp32, rows, knobs.calibration_rows, job.seed)
    save_onnx(
        out, _spec(job, card, "quantize"), content, job.tags["params_hash"], [*card.origin, "int8"]
    )


def _distil(job: Job, parent: Path, card: Card, out: Path) -> None:
    """Fit a smaller network that imitates the parent."""
    knobs: Distill = job.params.distill
    config = (
        base.models(card.task)
        .architectures[knobs.architecture]
        .Config.model_validate(knobs.nets.get(knobs.architecture, {}))
    )
    spec = _spec(job, card, "distil", epochs=knobs.epochs, learning_rate=knobs.learning_rate)
    spec = replace(
        spec,
        architecture=knobs.architecture,
        config=config.model_dump(),
        teacher=parent,
        temperature=knobs.temperature,
        imitation=knobs.weight,
    )
    save_torch(
        out,
        spec,
        fit_distributed(spec, job.journal).weights.read_bytes(),
        job.tags["params_hash"],
        [*card.origin, "distill"],
    )
