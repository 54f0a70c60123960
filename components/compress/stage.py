"""compress: three recipes make the better of the fitted networks small and fast. Each gives a bundle (pruning only where the net can be cut); evaluate measures them all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save

from components.compress.params import CompressParams
from components.compress.prune import cut
from components.compress.quantize import export, int8
from components.core.bundles import Card, bundle_bytes, read_bundle
from components.core.files import to_json, write_atomic
from components.core.job import Job
from components.engine.data import Rows, load_encoder
from components.engine.distributed import fit_distributed
from components.engine.measure import watched
from components.engine.params import FitParams
from components.engine.predict import load_module
from components.engine.save import save_onnx, save_torch
from components.engine.spec import FitSpec
from components.tasks import base


def run(job: Job) -> None:
    """Write `models/compressed/{pruned,int8,distilled}`."""
    parent = max((job.inputs["trained"] / "network", job.inputs["tuned"] / "network"), key=lambda bundle: watched(bundle, job.inputs["tokens"]))
    card, _ = read_bundle(parent)
    job.journal.say(f"compressing {card.title}, the better of the two on validation")
    recipes = {"pruned": _prune, "int8": _quantize, "distilled": _distil}
    report: dict[str, Any] = {"parent_bytes": bundle_bytes(parent)}
    for done, (name, recipe) in enumerate(recipes.items()):
        job.journal.progress(done, len(recipes), f"recipes ({name})")
        recipe(job, parent, card, job.outputs["compressed"] / name)
        if not (job.outputs["compressed"] / name).exists():
            continue
        report[f"{name}_bytes"] = bundle_bytes(job.outputs["compressed"] / name)
        job.journal.say(f"{name}: {report[f'{name}_bytes'] / 1e6:.2f} MB, {report[f'{name}_bytes'] / report['parent_bytes']:.0%} of its parent")
    write_atomic(job.outputs["report"], to_json(report))


def _spec(job: Job, card: Card, state: str, **changes: Any) -> FitSpec:
    """A fit of the parent's kind with train's knobs, some changed."""
    train: Any = job.sections["train"]
    online: Any = job.sections["augment"]
    knobs = {name: getattr(train, name) for name in FitParams.model_fields} | changes
    return FitSpec(card.task, job.inputs["tokens"], card.architecture, card.config, FitParams(**knobs), online.online.model_dump(), job.seed, job.state / state)


def _prune(job: Job, parent: Path, card: Card, out: Path) -> None:
    """Cut the weakest units, then fit on for a little."""
    params: CompressParams = job.params
    architecture = base.models(card.task).architectures[card.architecture]
    module = load_module(parent)
    if not architecture.surgery().dims(module):
        job.journal.say(f"pruned: left out, for nothing is known that can be cut out of this {card.architecture}")
        return
    config, weights = cut(module, architecture.Config.model_validate(dict(card.config)), architecture.surgery(), params.prune.share)
    initial = job.state / "pruned.safetensors"
    write_atomic(initial, save(weights))
    spec = _spec(job, card, "prune", epochs=params.prune.epochs, learning_rate=params.prune.learning_rate)
    spec = replace(spec, config=config.model_dump(), initial=initial)
    save_torch(out, spec, fit_distributed(spec, job.journal).weights.read_bytes(), job.tags["params_hash"], [*card.origin, "prune"])


def _quantize(job: Job, parent: Path, card: Card, out: Path) -> None:
    """Export to ONNX and quantize."""
    params: CompressParams = job.params
    rows = Rows(job.inputs["tokens"], "train", load_encoder(job.inputs["tokens"], card.task))
    graph = base.models(card.task).architectures[card.architecture].graphs(load_module(parent))["forward"]
    # The longest and the shortest row: an example with padding in it, so that no axis looks constant.
    fp32 = export(graph, dict(rows.batch([int(rows.lengths.argmax()), int(rows.lengths.argmin())])))
    content = int8(fp32, rows, params.quantize.calibration_rows, job.seed)
    save_onnx(out, _spec(job, card, "quantize"), content, job.tags["params_hash"], [*card.origin, "int8"])


def _distil(job: Job, parent: Path, card: Card, out: Path) -> None:
    """Fit a smaller network that imitates the parent."""
    knobs = job.params.distill
    config = base.models(card.task).architectures[knobs.architecture].Config.model_validate(knobs.nets.get(knobs.architecture, {}))
    spec = _spec(job, card, "distil", epochs=knobs.epochs, learning_rate=knobs.learning_rate)
    spec = replace(spec, architecture=knobs.architecture, config=config.model_dump(), teacher=parent, temperature=knobs.temperature, imitation=knobs.weight)
    save_torch(out, spec, fit_distributed(spec, job.journal).weights.read_bytes(), job.tags["params_hash"], [*card.origin, "distill"])
