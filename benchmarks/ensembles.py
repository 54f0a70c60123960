"""Rows "ensembles": what four fits know together, and what a student learns from them.

    dvc repro tokenize
    python benchmarks/ensembles.py default --architecture counted
    dvc repro pipelines/digits/dvc.yaml:tokenize
    python benchmarks/ensembles.py digits

Each round fits the network of train with four seeds, picks an ensemble as compress does, and fits
two students of the same architecture: one is taught by the best single network, one by the
ensemble. Validation alone chooses. Intervals are of 95% over the rounds (Student's t).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.processor import processor_name
from benchmarks.students import ROOT, SPLITS, accuracy, interval
from components.inference.graph_module import load_network
from components.orchestration.pipeline_params import load
from components.stages.compress.ensemble_selection import combined, mean_scorer, pick_members
from components.tasks import base
from components.tasks.shared.models.ensembles.models import ENSEMBLE
from components.training.bundle_writer import save_torch
from components.training.distillation import write_teacher_answers
from components.training.fit_config import FitConfig
from components.training.loop import fit
from components.training.params import FitParams

FITS = 4
PICKS = 10
TEMPERATURE = 2.0
TEACHER_WEIGHT = 0.7


def main() -> None:
    """Print a table of models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pipeline", help="its name, or default")
    parser.add_argument("--architecture", help="in place of train's")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    is_default = options.pipeline == "default"
    data = ROOT / "data" if is_default else ROOT / "data" / options.pipeline
    folder = ROOT if is_default else ROOT / "pipelines" / options.pipeline
    params = load(folder / "params.yaml")
    start = time.perf_counter()
    values: dict[str, dict[str, list[float]]] = {}
    members = []
    with tempfile.TemporaryDirectory() as scratch:
        spec = first_spec(params, data / "tokens", options.architecture)
        for number in range(1, options.rounds + 1):
            bundles, count = one_round(spec, number, Path(scratch) / str(number))
            members.append(count)
            for name, bundle in bundles.items():
                by_split = values.setdefault(name, {split: [] for split in SPLITS})
                for split in SPLITS:
                    network = load_network(bundle)
                    score = accuracy(network, spec.tokens, {"task": spec.task}, split)
                    by_split[split].append(score)
    seconds = time.perf_counter() - start
    print(f"{options.pipeline}, {spec.architecture}, {processor_name()}, {seconds:.0f} s")
    print(f"{options.rounds} rounds, members of the ensembles: {members}")
    print("| model | validation | test | test against the best single |")
    print("| --- | --- | --- | --- |")
    best = values["the best single of 4"]["test"]
    for name, by_split in values.items():
        shown = [interval(by_split[split]) for split in SPLITS]
        gains = [value - other for value, other in zip(by_split["test"], best, strict=True)]
        print(f"| {name} | {' | '.join(shown)} | {interval(gains)} |")


def first_spec(params: Any, tokens: Path, architecture: str | None) -> FitConfig:
    """Return the fit of train, on one worker.

    Args:
        params: of the pipeline.
        tokens: folder of encoded tables.
        architecture: in place of train's.
    """
    train: Any = params.sections["train"]
    augment: Any = params.sections["augment"]
    name = architecture or train.architecture
    fit_params = {field: getattr(train, field) for field in FitParams.model_fields}
    return FitConfig(
        params.task,
        tokens,
        name,
        getattr(train.nets, name).model_dump(),
        FitParams(**fit_params | {"workers": 1, "min_workers": None}),
        augment.online.model_dump(),
        params.seed,
        tokens,
        loss_params=base.loss_params_of(params.task, train),
    )


def one_round(spec: FitConfig, number: int, folder: Path) -> tuple[dict[str, Path], int]:
    """Fit the networks, the ensemble and the students of a round.

    Args:
        spec: the fit of train.
        number: of the round, from 1. All rounds have different seeds.
        folder: of checkpoints and bundles.

    Returns:
        bundles by the name of the model, and the number of members of the ensemble.
    """
    library = []
    for member in range(FITS):
        seed = spec.seed + number * 100 + member
        library.append(fitted(replace(spec, seed=seed, state=folder / f"fit-{member}")))
    score = mean_scorer(library, spec.tokens, spec.task)
    alone = [score([int(i == member) for i in range(FITS)]) for member in range(FITS)]
    best = library[alone.index(max(alone))]
    counts = pick_members(score, FITS, PICKS)
    picked = sorted(filter(counts.__getitem__, range(FITS)), key=lambda i: -counts[i])
    models = {"the best single of 4": best, "the ensemble": best}
    if len(picked) > 1:
        models["the ensemble"] = written(
            spec, {library[i]: float(counts[i]) for i in picked}, folder
        )
    equal = written(spec, dict.fromkeys(library, 1.0), folder / "equal")
    student = replace(
        spec,
        seed=spec.seed + number * 100 + FITS,
        temperature=TEMPERATURE,
        teacher_weight=TEACHER_WEIGHT,
    )
    taught = {}
    for teacher, bundle in models.items():
        name = teacher.removeprefix("the ")
        taught[f"student of the {name}"] = fitted(
            with_teacher(replace(student, state=folder / f"student-{name}"), bundle)
        )
    return {"one fit": library[0], **models, "mean of all 4": equal, **taught}, len(picked)


def written(spec: FitConfig, counts: dict[Path, float], folder: Path) -> Path:
    """Write the bundle of an ensemble, and return its folder.

    Args:
        spec: the fit of train.
        counts: picks of each member.
        folder: that gets the bundle.
    """
    config, weights = combined(
        {path: count / sum(counts.values()) for path, count in counts.items()}
    )
    bundle = folder / "ensemble"
    save_torch(
        bundle, replace(spec, architecture=ENSEMBLE, config=config), weights, "0" * 64, ["ensemble"]
    )
    return bundle


def with_teacher(spec: FitConfig, teacher: Path) -> FitConfig:
    """Return a fit with a teacher, who answers once where rows never change."""
    spec = replace(spec, teacher=teacher)
    if spec.online:
        return spec
    answers = spec.state.with_suffix(".npy")
    write_teacher_answers(spec, answers)
    return replace(spec, teacher_answers=answers)


def fitted(spec: FitConfig) -> Path:
    """Fit a network and return the folder of its bundle."""
    start = time.perf_counter()
    bundle = spec.state / "bundle"
    save_torch(bundle, spec, fit(spec).weights.read_bytes(), "0" * 64, ["train"])
    print(f"{spec.state.name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return bundle


if __name__ == "__main__":
    main()
