"""Stage compress: three recipes make the better of the fitted networks small and fast.

A recipe writes a bundle (pruning only where the net can be cut), and evaluate measures all of them.
A recipe that is null in params is skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.core.bundles import CARD, bundle_bytes, read_bundle, shown_size
from components.core.files import to_json, write_atomic
from components.core.job import Job
from components.core.skipped_steps import report_skipped

# Bundle -> the key below `compress` that switches its recipe.
_KEYS = {"pruned": "prune", "int8": "quantize", "distilled": "distill"}
_EXAMPLES = {
    "pruned": "compress.prune: {share: 0.5}",
    "int8": "compress.quantize: {calibration_rows: 256}",
    "distilled": "compress.distill: {architecture: …, nets: {…}}, as in the root's params.yaml",
}


def run(job: Job) -> None:
    """Write `models/compressed/{pruned,int8,distilled}`, without those that params switch off."""
    wanted = [name for name, key in _KEYS.items() if getattr(job.params, key) is not None]
    skipped = {}
    for name, key in _KEYS.items():
        if name not in wanted:
            skipped[name] = f"compress.{key} is null"
    if skipped:
        report_skipped(job, skipped, job.outputs["compressed"], _EXAMPLES)
    report: dict[str, Any] = {"skipped": len(skipped)}
    if wanted:
        report = _compress(job, wanted)
    write_atomic(job.outputs["report"], to_json(report))


def _compress(job: Job, names: list[str]) -> dict[str, Any]:
    """Run some recipes.

    Returns:
        The sizes of the parent and of the bundles in bytes.
    """
    # It imports torch, which a stage that skips all recipes does not need.
    from components.stages.compress import recipes

    parent = _parent(job)
    report: dict[str, Any] = {"parent_bytes": bundle_bytes(parent)}
    for done, name in enumerate(names):
        job.journal.progress(done, len(names), f"recipes ({name})")
        out = job.outputs["compressed"] / name
        recipes.make_compressed(name, job, parent, out)
        if not out.exists():
            continue
        size = bundle_bytes(out)
        share = size / report["parent_bytes"]
        report[f"{name}_bytes"] = size
        job.journal.log(f"{name}: {shown_size(size)}, {share:.0%} of its parent")
    return report


def _parent(job: Job) -> Path:
    """Return the network that is made smaller.

    It is the better on validation of those of train and tune.
    """
    from components.training.evaluation import validation_score

    fitted = [job.inputs[name] / "network" for name in ("trained", "tuned")]
    networks = [network for network in fitted if (network / CARD).is_file()]
    parent = networks[0]
    reason = ""
    if len(networks) > 1:
        parent = max(networks, key=lambda network: validation_score(network, job.inputs["tokens"]))
        reason = ", the better of the two on validation"
    card, _ = read_bundle(parent)
    job.journal.log(f"compressing {card.title}{reason}")
    return parent
