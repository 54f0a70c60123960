"""Run recipes: steps in order, each as a task. Steps that recipes begin with in common run once."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.core.bundles import CARD, bundle_bytes, read_bundle, shown_size
from components.core.errors import EnvironmentFault, GristmillError
from components.core.files import sha256, to_json, write_atomic
from components.core.job import Job
from components.core.parallel_map import parallel_map
from components.stages.compress.ensemble_selection import build_ensemble
from components.stages.compress.model_speed import sure_speedup
from components.stages.compress.params import LAST, Distill, Ensemble, Prune, Quantize, Step, Target
from components.stages.compress.steps import StepInput, run_step
from components.stages.compress.target import reach
from components.training.evaluation import validation_score
from components.training.ray_fit import fits_at_once

# A smaller share of bytes or of time than these is noise.
_LEAST_SIZE_GAIN = 0.02
_LEAST_SPEEDUP = 1.05
# Rows at a time, single and as in service, with which a step that made a model worse is timed.
_BATCHES = (1, 32)


@dataclass(frozen=True)
class StepResult:
    """What a step did.

    Args:
        step: its name, or "target".
        settings: of the step.
        bundle: the result: a new bundle, or the source where the step was dropped.
        kept: whether the bundle is new.
        reason: why it was dropped, what a target reached, or the members of an ensemble.
        value: the monitored metric on validation, larger is better. None: it failed.
        size_bytes: of the bundle.
    """

    step: str
    settings: Mapping[str, Any]
    bundle: str
    kept: bool
    reason: str
    value: float | None
    size_bytes: int


@dataclass(frozen=True)
class _Node:
    """A step of one or more recipes.

    Args:
        key: what decides its result, as a hash.
        source: bundle that it changes.
        step: the step, or a whole recipe that is a target.
    """

    key: str
    source: str
    step: Step | Target

    @property
    def name(self) -> str:
        """Return the name of the step."""
        return self.step.name if isinstance(self.step, Step) else "target"


def run_recipes(
    job: Job, parent: Path, recipes: Mapping[str, Sequence[Step] | Target]
) -> dict[str, list[StepResult]]:
    """Run all recipes, and copy the bundle of each to the stage's output.

    A recipe whose steps were all dropped, or one of whose steps failed, gives no bundle.

    Args:
        job: compress.
        parent: bundle of the network.
        recipes: name -> steps, or a target.

    Returns:
        name -> the results of its steps.
    """
    results: dict[str, list[StepResult]] = {name: [] for name in recipes}
    steps: dict[str, Sequence[Step | Target]] = {}
    for name, recipe in recipes.items():
        steps[name] = [recipe] if isinstance(recipe, Target) else recipe
    keys = dict.fromkeys(recipes, sha256(parent / CARD))
    total = sum(map(len, steps.values()))
    for depth in range(max(map(len, steps.values()))):
        nodes: dict[str, _Node] = {}
        keys_here: dict[str, str] = {}
        for name, recipe_steps in steps.items():
            before = results[name]
            if depth >= len(recipe_steps) or (before and before[-1].value is None):
                continue
            source = before[-1].bundle if before else str(parent)
            step = recipe_steps[depth]
            key = _key(keys[name], step)
            keys_here[name] = key
            nodes.setdefault(key, _Node(key, source, step))
        job.journal.progress(sum(map(len, results.values())), total, "steps")
        done = dict(zip(nodes, _run_nodes(job, parent, list(nodes.values())), strict=True))
        for name, key in keys_here.items():
            results[name].append(done[key])
            # After a dropped step, what follows is what it would be without it.
            if done[key].kept:
                keys[name] = key
    for name, made in results.items():
        _publish(job, name, made)
    return results


def _run_nodes(job: Job, parent: Path, nodes: Sequence[_Node]) -> list[StepResult]:
    """Run steps that do not depend on each other, side by side where there is room."""
    pieces = [(job, parent, node) for node in nodes]
    at_once = fits_at_once(max((_workers(job, node) for node in nodes), default=1))
    if at_once == 1:
        # A task would only add the start of a process.
        return list(map(_run_node, pieces))
    return list(parallel_map(_run_node, pieces, at_once, cpus=0))


def _key(before: str, step: Step | Target) -> str:
    """Return the hash of a step after the hash of what was done before it."""
    settings = step.key() if isinstance(step, Step) else ["target", step.model_dump()]
    return hashlib.sha256(json.dumps([before, settings], sort_keys=True).encode()).hexdigest()


def _workers(job: Job, node: _Node) -> int:
    """Return how many workers a step needs."""
    if isinstance(node.step, Step):
        is_fitted = isinstance(node.step.params, Quantize) and node.step.params.qat
        if node.step.name in LAST and not is_fitted:
            return 1
        if isinstance(node.step.params, Distill) and node.step.params.workers:
            return node.step.params.workers
    train: Any = job.sections["train"]
    return int(train.workers)


def _run_node(piece: tuple[Job, Path, _Node]) -> StepResult:
    """Run one step, unless it was complete before a kill, and decide whether to keep its result.

    Args:
        piece: the job, the bundle that the recipe began with, and the step.

    Raises:
        EnvironmentFault, OSError: the machine is at fault, so that the same command goes on later.
    """
    job, parent, node = piece
    folder = job.state / f"{node.name}-{node.key[:12]}"
    record = folder / "step.json"
    if record.is_file():
        return StepResult(**json.loads(record.read_text(encoding="utf-8")))
    try:
        result = _result(job, parent, node, folder)
    except (EnvironmentFault, OSError):
        raise
    except Exception as error:
        # One recipe that fails does not end the others.
        is_ours = isinstance(error, GristmillError)
        result = _failed(node, str(error) if is_ours else f"{type(error).__name__}: {error}")
    write_atomic(record, to_json(asdict(result)))
    return result


def _result(job: Job, parent: Path, node: _Node, folder: Path) -> StepResult:
    source = Path(node.source)
    out = folder / "bundle"
    given = StepInput(job, parent, source, folder.name, out)
    if isinstance(node.step, Target):
        kept, reason = reach(given, node.step)
        settings = node.step.model_dump()
    elif isinstance(node.step.params, Ensemble):
        kept, reason = build_ensemble(given, node.step.params)
        settings = node.step.params.model_dump()
    else:
        reason = run_step(node.step.name, given, node.step.params)
        settings = node.step.params.model_dump() if node.step.params else {}
        kept = not reason
    value = validation_score(source, given.tokens)
    if kept:
        before = value
        value = validation_score(out, given.tokens)
        if isinstance(node.step, Step) and value < before and not _is_cheaper(job, source, out):
            reason = f"worse on validation ({value:.4f} after {before:.4f}) and not cheaper"
            kept = False
            value = before
        elif isinstance(node.step, Step) and isinstance(node.step.params, Prune):
            reason = node.step.params.remark
    bundle = out if kept else source
    name = node.name
    return StepResult(name, settings, str(bundle), kept, reason, value, bundle_bytes(bundle))


def _is_cheaper(job: Job, source: Path, out: Path) -> bool:
    """Return whether a bundle is smaller than its source, or faster in single or larger batches."""
    if bundle_bytes(out) < (1 - _LEAST_SIZE_GAIN) * bundle_bytes(source):
        return True
    task = read_bundle(source)[0].task
    tokens = job.inputs["tokens"]
    return any(
        sure_speedup(out, source, tokens, task, batch) >= _LEAST_SPEEDUP for batch in _BATCHES
    )


def _failed(node: _Node, reason: str) -> StepResult:
    settings = node.step.params if isinstance(node.step, Step) else node.step
    shown = settings.model_dump() if settings else {}
    return StepResult(node.name, shown, node.source, False, f"failed: {reason}", None, 0)


def _publish(job: Job, name: str, results: Sequence[StepResult]) -> None:
    """Copy the bundle of a recipe to the output, and log what was made and what was dropped."""
    for result in results:
        if not result.kept:
            job.journal.log(f"{name}: {result.step} dropped: {result.reason}")
        elif result.reason:
            job.journal.log(f"{name}: {result.reason}")
    last = results[-1]
    if last.value is None or not any(result.kept for result in results):
        job.journal.log(f"{name}: no model")
        return
    shutil.copytree(last.bundle, job.outputs["compressed"] / name)
    job.journal.log(f"{name}: {shown_size(last.size_bytes)}")
