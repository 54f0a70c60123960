"""Make an ensemble of the fitted networks and of further fits with other seeds.

Members are picked one after another, with replacement, by the monitored metric on validation
(Caruana et al. 2004, "Ensemble selection from libraries of models").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from components.core.bundles import read_bundle, read_card
from components.inference.predictor import WEIGHTS, load_module
from components.stages.compress.params import Ensemble
from components.stages.compress.steps import StepInput, fit_and_save, fit_config, fitted_networks
from components.tasks import base
from components.tasks.shared.models.ensembles.models import ENSEMBLE
from components.training.batches import EncodedRows, load_encoder
from components.training.bundle_writer import save_torch
from components.training.evaluation import monitored_score, row_outputs
from components.training.fit_config import with_saved_params

Counts = Sequence[int]


def build_ensemble(given: StepInput, params: Ensemble) -> tuple[bool, str]:
    """Write the bundle of the best ensemble on validation.

    Args:
        given: what the recipe reads and writes. Its source is the better of the fitted networks.
        params: numbers of fits and of picks.

    Returns:
        Whether the bundle was written, and which members it has.
    """
    job = given.job
    library = {**fitted_networks(job), **_further_fits(given, params.fits)}
    bundles = list(library.values())
    score = mean_scorer(bundles, given.tokens, job.task)
    counts = pick_members(score, len(library), params.picks)
    # The heaviest member first, of equal ones the earlier one.
    members = sorted(filter(counts.__getitem__, range(len(counts))), key=lambda i: -counts[i])
    names = list(library)
    if len(members) == 1:
        return False, f"no ensemble is better on validation than {names[members[0]]} alone"
    weights = {bundles[i]: counts[i] / sum(counts) for i in members}
    config, content = combined(weights)
    card = read_card(given.source).card
    spec = replace(fit_config(job, card, given.state), architecture=ENSEMBLE, config=config)
    save_torch(given.out, spec, content, job.tags["params_hash"], [*card.origin, "ensemble"])
    shares = [f"{names[i]} {weights[bundles[i]]:.0%}" for i in members]
    return True, f"{', '.join(shares)} of the answers"


def pick_members(score: Callable[[Counts], float], members: int, most: int) -> list[int]:
    """Return how often each member is picked.

    Each pick adds the member that is best for the ensemble, even if it becomes worse for now.
    The best of the nested ensembles is returned, of equal ones the smallest. The first of them is
    the best member alone, so that none is worse than it.

    Args:
        score: of an ensemble, from the number of picks of each member. Larger is better.
        members: of the library. Of equally good ones the first is picked.
        most: number of picks.
    """
    counts = [0] * members
    best = counts
    best_score = float("-inf")
    for _ in range(most):
        options = []
        for picked in range(members):
            options.append([count + (i == picked) for i, count in enumerate(counts)])
        scores = list(map(score, options))
        reached = max(scores)
        counts = options[scores.index(reached)]
        if reached > best_score:
            best = counts
            best_score = reached
    return best


def mean_scorer(bundles: Sequence[Path], tokens: Path, task: str) -> Callable[[Counts], float]:
    """Return a function from the picks of each bundle to the metric of their mean on validation.

    Args:
        bundles: of the library. Each of them answers once.
        tokens: folder of encoded tables.
        task: name of the task.
    """
    learning = base.learning(task)
    rows = EncodedRows(tokens, "validation", load_encoder(tokens, task))
    answers = [torch.from_numpy(row_outputs(load_module(path), rows)) for path in bundles]
    outputs = torch.stack(answers)  # (m, n, d)
    target = torch.tensor(rows.target)

    def score(counts: Counts) -> float:
        picks = torch.tensor(counts)
        members = picks.nonzero()[:, 0]
        mean = learning.mean_output(outputs[members], picks[members] / picks.sum())
        sums = learning.accumulate(_Answers(mean), {"target": target})
        return monitored_score(task, sums)

    return score


class _Answers(torch.nn.Module):
    """A network whose outputs are known.

    Args:
        outputs: (n, d).
    """

    def __init__(self, outputs: torch.Tensor) -> None:
        super().__init__()
        self._outputs = outputs

    def forward(self) -> torch.Tensor:
        """Return the outputs (n, d) of all rows."""
        return self._outputs


def _further_fits(given: StepInput, count: int) -> dict[str, Path]:
    """Fit the better network again with other seeds, and return the bundles by name.

    Args:
        given: what the recipe reads. Its source is the better network.
        count: number of the fits.
    """
    job = given.job
    card = read_card(given.source).card
    train: Any = job.sections["train"]
    if train.pretrain.epochs:
        job.journal.log("further fits start from scratch: train.pretrain is for train alone")
    bundles = {}
    for number in range(1, count + 1):
        state = f"{given.state}-{number}"
        spec = with_saved_params(fit_config(job, card, state), given.source.parent)
        spec = replace(spec, seed=job.seed + number)
        bundle = job.state / state / "bundle"
        fit_and_save(job, spec, bundle, card.origin)
        bundles[f"seed {spec.seed}"] = bundle
    return bundles


def combined(weights: Mapping[Path, float]) -> tuple[dict[str, Any], bytes]:
    """Return the config of an ensemble, and its weights as a safetensors file.

    Args:
        weights: in the mean, by the bundle of a member.
    """
    members = []
    tensors = {}
    for number, (bundle, weight) in enumerate(weights.items()):
        card, files = read_bundle(bundle)
        config = {"architecture": card.architecture, "config": dict(card.config)}
        members.append({**config, "weight": weight})
        for name, value in load(files[WEIGHTS]).items():
            tensors[f"members.{number}.{name}"] = value
    return {"members": members}, save(tensors)
