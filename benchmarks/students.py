"""Rows "students": what a small network learns from its teacher, over several seeds.

    python benchmarks/students.py headlines          # after gristmill run headlines

Each arm fits the student of compress.distill on one worker: alone, with the teacher's answers, with
unlabelled rows, with the teacher's token embeddings. The best epoch is that of validation. Test
rows choose nothing here. Intervals are of 95% over the seeds (Student's t).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from scipy.stats import t as student_t

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.processor import processor_name
from components.core.params import read_yaml
from components.inference.graph_module import load_network
from components.tasks import base
from components.training.batches import EncodedRows, load_encoder
from components.training.distillation import write_teacher_answers
from components.training.fit_config import FitConfig
from components.training.loop import fit
from components.training.params import FitParams

ROOT = Path(__file__).resolve().parent.parent
SPLITS = ("validation", "test")


@dataclass(frozen=True)
class Arm:
    """What a student gets from its teacher."""

    name: str
    answers: bool
    unlabeled: bool
    embeddings: bool


ARMS = (
    Arm("alone", answers=False, unlabeled=False, embeddings=False),
    Arm("with the teacher's answers", answers=True, unlabeled=False, embeddings=False),
    Arm("and unlabelled rows", answers=True, unlabeled=True, embeddings=False),
    Arm("and the teacher's embeddings", answers=True, unlabeled=True, embeddings=True),
    Arm("embeddings, no unlabelled rows", answers=True, unlabeled=False, embeddings=True),
)


def main() -> None:
    """Print a table of arms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pipeline", help="its name")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    data = ROOT / "data" / options.pipeline
    params = read_yaml(ROOT / "pipelines" / options.pipeline / "params.yaml")
    teacher = data / "models/trained/network"
    tokens = data / "tokens"
    whole = {split: accuracy(load_network(teacher), tokens, params, split) for split in SPLITS}
    print(f"{options.pipeline}, {processor_name()}; {options.seeds} seeds")
    print("| student | validation | test | seconds |")
    print("| --- | --- | --- | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for arm in ARMS:
            values: dict[str, list[float]] = {split: [] for split in SPLITS}
            seconds = []
            for seed in range(1, options.seeds + 1):
                start = time.perf_counter()
                network = fitted(arm, seed, params, tokens, teacher, Path(folder))
                seconds.append(time.perf_counter() - start)
                for split in SPLITS:
                    values[split].append(accuracy(network, tokens, params, split))
            shown = [interval(values[split]) for split in SPLITS]
            print(f"| {arm.name} | {' | '.join(shown)} | {statistics.median(seconds):.0f} |")
    print(f"| the teacher | {' | '.join(f'{100 * whole[split]:.1f}' for split in SPLITS)} | |")


def fitted(
    arm: Arm, seed: int, params: Any, tokens: Path, teacher: Path, folder: Path
) -> torch.nn.Module:
    """Return the student of an arm.

    Args:
        arm: what it gets.
        seed: of the fit.
        params: of the pipeline.
        tokens: folder of encoded tables.
        teacher: bundle of the teacher.
        folder: of checkpoints.
    """
    distill = params["compress"]["distill"]
    changes = {"workers": 1, "epochs": distill["epochs"], "batch_size": distill["batch_size"]}
    changes["learning_rate"] = distill["learning_rate"]
    known = {
        name: params["train"][name] for name in FitParams.model_fields if name in params["train"]
    }
    name = distill["architecture"]
    spec = FitConfig(
        params["task"],
        tokens,
        name,
        distill["nets"][name],
        FitParams.model_validate(known | changes),
        {},
        seed,
        folder / f"{arm.name}-{seed}",
    )
    if arm.answers:
        spec = replace(
            spec,
            teacher=teacher,
            temperature=distill["temperature"],
            teacher_weight=distill["weight"],
            unlabeled=arm.unlabeled,
            teacher_embeddings=arm.embeddings,
        )
        answers = folder / f"answers-{arm.unlabeled}.npy"
        write_teacher_answers(spec, answers)
        spec = replace(spec, teacher_answers=answers)
    weights = load_file(fit(spec).weights)
    architecture = base.models(spec.task).architectures[name]
    config = architecture.Config.model_validate(dict(spec.config))
    network = architecture.build(config, load_encoder(tokens, spec.task))
    network.load_state_dict(weights)
    return network.eval()


def accuracy(network: Any, tokens: Path, params: Any, split: str) -> float:
    """Return the share of right answers on a split, 0-1."""
    rows = EncodedRows(tokens, split, load_encoder(tokens, params["task"]))
    arrays = dict(rows.batch(range(len(rows))))
    target = arrays.pop("target")
    with torch.inference_mode():
        logits = network(**{name: torch.from_numpy(value) for name, value in arrays.items()})
    return float((logits.argmax(1).numpy() == target).mean())


def interval(values: list[float]) -> str:
    """Return the mean in percent, with its 95% interval over seeds."""
    mean = 100 * statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.1f}"
    error = 100 * statistics.stdev(values) / len(values) ** 0.5
    half = student_t.ppf(0.975, len(values) - 1) * error
    return f"{mean:.1f} ({mean - half:.1f} to {mean + half:.1f})"


if __name__ == "__main__":
    main()
