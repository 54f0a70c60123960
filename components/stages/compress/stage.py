"""Stage compress: recipes make the better of the fitted networks small and fast.

A recipe writes a bundle, and evaluate measures all of them. A recipe with a step that is null in
params is skipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.bundles import CARD, bundle_bytes, read_bundle
from components.core.energy import EnergyMeter
from components.core.files import to_json, write_atomic
from components.core.job import Job
from components.core.skipped_steps import report_skipped
from components.stages.compress.params import Step, Target, resolved_recipes

if TYPE_CHECKING:
    from components.stages.compress.recipes import StepResult

# What each recipe did, for the report of evaluate.
RECIPES = "recipes.json"
_EXAMPLES = {
    "ensemble": "compress.ensemble: {fits: 3}",
    "prune": "compress.prune: {share: 0.5}",
    "finetune": "compress.finetune: {epochs: 2}",
    "quantize": "compress.quantize: {calibration_rows: 256}",
    "distill": "compress.distill: {architecture: NAME, nets: {NAME: {…}}}",
}


def run(job: Job) -> None:
    """Write `models/compressed/NAME` for each recipe, without those that params switch off."""
    recipes, skipped = resolved_recipes(job.params)
    if skipped or not recipes:
        settings = {name: f"compress.{step} is null" for name, step in skipped.items()}
        examples = {name: _EXAMPLES[step] for name, step in skipped.items()}
        report_skipped(job, settings, job.outputs["compressed"], examples)
    report: dict[str, Any] = {"skipped": len(skipped), "energy_j": 0.0}
    if recipes:
        with EnergyMeter(job.state / "energy.json") as energy:
            report |= _compress(job, recipes)
            report["energy_j"] = energy.joules()
    write_atomic(job.outputs["report"], to_json(report))


def _compress(job: Job, recipes: Mapping[str, Sequence[Step] | Target]) -> dict[str, Any]:
    """Run the recipes.

    Returns:
        The sizes of the parent and of the bundles in bytes.
    """
    # It imports torch, which a stage that skips all recipes does not need.
    from components.stages.compress.recipes import run_recipes

    parent = _parent(job)
    results = run_recipes(job, parent, recipes)
    report: dict[str, Any] = {"parent_bytes": bundle_bytes(parent)}
    for name, steps in results.items():
        if (job.outputs["compressed"] / name / CARD).is_file():
            report[f"{name}_bytes"] = steps[-1].size_bytes
    rows = {name: [_row(step) for step in steps] for name, steps in results.items()}
    write_atomic(job.outputs["compressed"] / RECIPES, to_json(rows))
    return report


def _row(result: StepResult) -> dict[str, Any]:
    """Return the result of a step for the report, without paths of this machine."""
    row = asdict(result)
    del row["bundle"]
    return row


def _parent(job: Job) -> Path:
    """Return the network that is made smaller.

    It is the better on validation of those of train and tune.
    """
    from components.stages.compress.steps import fitted_networks
    from components.training.evaluation import validation_score

    networks = list(fitted_networks(job).values())
    parent = networks[0]
    reason = ""
    if len(networks) > 1:
        parent = max(networks, key=lambda network: validation_score(network, job.inputs["tokens"]))
        reason = ", the better of the two on validation"
    card, _ = read_bundle(parent)
    job.journal.log(f"compressing {card.title}{reason}")
    return parent
