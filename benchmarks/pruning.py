"""Section "pruned in several ways": methods and scores of `compress.prune`, on validation.

    python benchmarks/pruning.py digits methods    # after gristmill run digits
    python benchmarks/pruning.py digits scores

Each seed fits a network of its own with the params of train, and all arms prune that network. Fits
run in this process. Speeds are those of ONNX Runtime in fp32 against the network before, on one
thread, in turn, in the first seed. Intervals are those of Student's t. Test rows are not read.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student_t

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.compression import BATCHES, ROOT, candidates, speedups
from benchmarks.processor import processor_name
from components.core.bundles import bundle_bytes, read_bundle, shown_size
from components.core.job import Job
from components.inference.graph_module import GraphModule
from components.orchestration.pipeline_params import load
from components.orchestration.project import pipeline_files
from components.orchestration.stage_files import STAGES
from components.stages.compress import steps
from components.stages.compress.params import Prune
from components.stages.evaluate.candidates import compressed_bytes
from components.training.evaluation import validation_score
from components.training.loop import fit

SEEDS = (7, 8, 9)
METHODS: Mapping[str, Mapping[str, Any]] = {
    "structured 50%": {"share": 0.5},
    "unstructured 50%": {"method": "unstructured", "share": 0.5},
    "unstructured 80%": {"method": "unstructured", "share": 0.8},
    "unstructured 90%": {"method": "unstructured", "share": 0.9},
    "unstructured 95%": {"method": "unstructured", "share": 0.95},
    "2:4": {"method": "2:4"},
}
SCORES = ("magnitude", "taylor", "movement", "fisher")
SHARES = (0.5, 0.75, 0.9)


def main() -> None:
    """Print a table of one pipeline."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pipeline", help="its name")
    parser.add_argument("what", choices=["methods", "scores"])
    asked = parser.parse_args()
    # The fits are small, and Ray would take longer than they do.
    steps.fit_distributed = fit  # type: ignore[attr-defined]
    arms = METHODS
    if asked.what == "scores":
        arms = {}
        for share, score in product(SHARES, SCORES):
            arms[f"{score} {share:.0%}"] = {"share": share, "score": score, "multiple": 1}
    with tempfile.TemporaryDirectory() as folder:
        jobs = [job_of(asked.pipeline, Path(folder) / str(seed), seed) for seed in SEEDS]
        parents = [parent_of(job) for job in jobs]
        bundles: dict[str, list[Path]] = {"before": parents}
        for arm, changes in arms.items():
            bundles[arm] = [
                pruned(job, parent, arm, changes) for job, parent in zip(jobs, parents, strict=True)
            ]
        show(asked.pipeline, jobs, bundles)


def job_of(pipeline: str, folder: Path, seed: int) -> Job:
    """Return a job of compress that writes to a folder.

    Args:
        pipeline: its name.
        folder: of all that is written.
        seed: of the fits.
    """
    params_file, _ = pipeline_files(ROOT, pipeline)
    params = load(params_file)
    data = ROOT / params.pipeline.data
    return Job(
        stage="compress",
        task=params.task,
        seed=seed,
        root=ROOT,
        params=params.sections["compress"],
        sections=params.sections,
        inputs={name: data / path for name, path in STAGES["compress"].inputs.items()},
        outputs={},
        state=folder,
        tags={"params_hash": "0" * 64},
    )


def parent_of(job: Job) -> Path:
    """Return the bundle of a network that was fitted with the seed of a job."""
    card, _ = read_bundle(candidates(job.inputs["tokens"].parent)["parent"])
    out = job.state / "parent"
    steps.fit_and_save(job, steps.fit_config(job, card, "first"), out, ["train"])
    return out


def pruned(job: Job, parent: Path, arm: str, changes: Mapping[str, Any]) -> Path:
    """Return the bundle that a way of pruning makes of a network.

    Args:
        job: of the seed.
        parent: bundle of the network.
        arm: name of the way.
        changes: settings that differ from those of the pipeline.
    """
    settings = job.params.prune or Prune()
    params = Prune.model_validate(settings.model_dump() | dict(changes))
    out = job.state / arm
    given = steps.StepInput(job, parent, parent, f"{arm}-fit", out)
    reason = steps.run_step("prune", given, params)
    assert not reason, reason
    return out


def show(pipeline: str, jobs: Sequence[Job], bundles: Mapping[str, Sequence[Path]]) -> None:
    """Print the table.

    Args:
        pipeline: its name.
        jobs: of the seeds.
        bundles: arm -> bundle of each seed.
    """
    job = jobs[0]
    tokens = job.inputs["tokens"]
    networks = {
        arm: GraphModule(steps.export_bundle(job, made[0])) for arm, made in bundles.items()
    }
    speeds = {batch: speedups(networks, "before", tokens, job.task, batch) for batch in BATCHES}
    values = {}
    for arm, made in bundles.items():
        values[arm] = [validation_score(bundle, tokens) for bundle in made]
    print(f"{pipeline}, {processor_name()}, seeds {SEEDS}")
    print("| pruned | size | as zstd | batch 1 | batch 32 | on validation | against before |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for arm, made in bundles.items():
        cells = [
            shown_size(bundle_bytes(made[0])),
            shown_size(compressed_bytes(made[0])),
            *(speeds[batch][arm] for batch in BATCHES),
            f"{np.mean(values[arm]):.4f}",
            interval(np.subtract(values[arm], values["before"])),
        ]
        print(f"| {arm} | {' | '.join(cells)} |")


def interval(differences: Any) -> str:
    """Return the mean of differences (seeds,) and its 95% interval."""
    half = student_t.ppf(0.975, len(differences) - 1) * np.std(differences, ddof=1)
    half /= np.sqrt(len(differences))
    mean = np.mean(differences)
    return f"{mean:+.4f} ({mean - half:+.4f} to {mean + half:+.4f})"


if __name__ == "__main__":
    main()
