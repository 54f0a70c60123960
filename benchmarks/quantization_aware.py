"""Section "quantization-aware training": int8 after a fit with its rounding, on validation.

    python benchmarks/quantization_aware.py digits       # after gristmill run digits
    python benchmarks/quantization_aware.py headlines    # its student, after gristmill run

Each seed fits a network of its own, or teaches a student of its own where the pipeline distills in
a recipe. The network is quantized at once, after a fit in fp32, and after a fit with the rounding
of int8. Both fits have the same params. Fits run in this process. Intervals are those of Student's
t. Test rows are not read.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.processor import processor_name
from benchmarks.pruning import SEEDS, interval, job_of, parent_of
from components.core.job import Job
from components.stages.compress import steps
from components.stages.compress.params import Finetune, Quantize
from components.training.evaluation import validation_score
from components.training.loop import fit

# Of the further fits.
EPOCHS = 4
LEARNING_RATES = (1e-3, 2e-4)


def main() -> None:
    """Print a table of one pipeline."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pipeline", help="its name")
    pipeline = parser.parse_args().pipeline
    # The fits are small, and Ray would take longer than they do.
    steps.fit_distributed = fit  # type: ignore[attr-defined]
    values: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            job = job_of(pipeline, Path(folder) / str(seed), seed)
            for arm, value in scores(job).items():
                values.setdefault(arm, []).append(value)
    print(f"{pipeline}, {processor_name()}, seeds {SEEDS}, {EPOCHS} epochs")
    print("| network | on validation | against int8 at once |")
    print("| --- | ---: | ---: |")
    for arm, row in values.items():
        gain = interval(np.subtract(row, values["int8"]))
        print(f"| {arm} | {np.mean(row):.4f} | {gain} |")


def scores(job: Job) -> dict[str, float]:
    """Return the metric on validation of a network of one seed, in each form.

    Args:
        job: of the seed.
    """
    teacher, network = _networks(job)
    params = job.params.quantize or Quantize()
    bundles = {"fp32": network, "int8": _step(job, teacher, network, "int8", "quantize", params)}
    for rate in LEARNING_RATES:
        again = Finetune(epochs=EPOCHS, learning_rate=rate)
        arm = f"fit {rate:g}, int8"
        fitted = _step(job, teacher, network, f"fit-{rate}", "finetune", again)
        bundles[arm] = _step(job, teacher, fitted, f"fit-int8-{rate}", "quantize", params)
        rounded = params.model_copy(update={"qat": again})
        arm = f"fit with rounding {rate:g}, int8"
        bundles[arm] = _step(job, teacher, network, f"qat-{rate}", "quantize", rounded)
    tokens = job.inputs["tokens"]
    return {arm: validation_score(bundle, tokens) for arm, bundle in bundles.items()}


def _networks(job: Job) -> tuple[Path, Path]:
    """Return the bundles of the network that teaches, and of the one that is quantized."""
    is_distilled = any("distill" in recipe for recipe in job.params.recipes.values())
    if not is_distilled:
        parent = parent_of(job)
        return parent, parent
    teacher = next(iter(steps.fitted_networks(job).values()))
    params = job.params.distill.model_copy(update={"compare": False})
    return teacher, _step(job, teacher, teacher, "student", "distill", params)


def _step(job: Job, teacher: Path, source: Path, name: str, step: str, params: object) -> Path:
    """Return the bundle that a step makes.

    Args:
        job: of the seed.
        teacher: bundle of the network that teaches.
        source: bundle of the network that is changed.
        name: of the bundle.
        step: its name.
        params: its settings.
    """
    out = job.state / name
    given = steps.StepInput(job, teacher, source, f"{name}-fit", out)
    reason = steps.run_step(step, given, params)
    assert not reason, reason
    return out


if __name__ == "__main__":
    main()
