"""Measurement of the candidates, all in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.core.bundles import CARD, bundle_bytes
from components.core.files import sha256
from components.inference.predictor import Predictor, load
from components.inference.stated_intervals import KEY, intervals_of
from components.metrics import bootstrap
from components.stages.evaluate.params import EvaluateParams
from components.tasks import base
from components.tasks.base import Case
from components.training import evaluation

BASELINE = "classical"


@dataclass(frozen=True)
class CandidateResult:
    """Results of one candidate.

    Args:
        row: its row of the leaderboard, still without costs.
        predictor: the model.
        test_answers: answers to the test cases.
        deciding_stats: statistics of each test case for the deciding metric.
        validation_answers: answers to the validation cases, without intervals.
        validation_stats: statistics of each validation case for the deciding metric.
        profile: entries for the profile of its card: its intervals, where answers state some.
    """

    row: dict[str, Any]
    predictor: Predictor
    test_answers: Sequence[Any]
    deciding_stats: bootstrap.PerExampleStats
    validation_answers: Sequence[Any]
    validation_stats: bootstrap.PerExampleStats
    profile: Mapping[str, Any] = field(default_factory=dict)


def find_bundles(folders: dict[str, Path]) -> dict[str, Path]:
    """Return the bundles of all candidates by name.

    The network of a stage is named after the stage ("trained", "tuned"). Any other bundle is
    named after its folder.

    Args:
        folders: name of a stage's output -> its folder.
    """
    bundles = {}
    for folder in folders.values():
        for card in sorted(folder.glob(f"*/{CARD}")):
            bundle = card.parent
            if bundle.name == "network":
                name = bundle.parent.name
            else:
                name = bundle.name
            bundles[name] = bundle
    return bundles


def measure_candidate(
    name: str,
    bundle: Path,
    shown: str,
    validation: Sequence[Case[Any]],
    test: Sequence[Case[Any]],
    params: EvaluateParams,
    seed: int,
) -> CandidateResult:
    """Measure one candidate: metrics, intervals and size.

    Validation metrics choose the winner. Test metrics are only reported.

    Args:
        name: of the candidate.
        bundle: its folder.
        shown: path of the bundle below the data folder.
        validation: cases of the validation split.
        test: cases of the test split.
        params: of the stage.
        seed: of the bootstrap.
    """
    predictor = load(bundle)
    evaluator = base.evaluator(predictor.card.task)
    metrics = evaluator.metrics
    validation_answers = evaluation.answer(predictor, validation)
    validation_stats = _statistics(metrics, validation_answers, validation)
    profile = _intervals(evaluator, validation_answers, validation)
    if profile:
        predictor.intervals = intervals_of(evaluator, profile)
    test_answers = evaluation.answer(predictor, test)
    test_stats = _statistics(metrics, test_answers, test)
    intervals = bootstrap.intervals(
        metrics,
        test_stats,
        params.resamples,
        params.confidence,
        seed,
    )
    row = {
        "name": name,
        "title": predictor.card.title,
        "origin": list(predictor.card.origin),
        "bundle": shown,
        "bundle_sha256": sha256(bundle / CARD),
        "runtime": predictor.card.runtime,
        "baseline": name == BASELINE,
        "validation": evaluation.compute_metrics(metrics, validation_stats),
        "test": evaluation.compute_metrics(metrics, test_stats),
        "test_interval": {
            key: list(interval) if interval else None for key, interval in intervals.items()
        },
        "size_bytes": bundle_bytes(bundle),
        "compressed_bytes": compressed_bytes(bundle),
    }
    return CandidateResult(
        row=row,
        predictor=predictor,
        test_answers=test_answers,
        deciding_stats=test_stats[metrics[0].name],
        validation_answers=validation_answers,
        validation_stats=validation_stats[metrics[0].name],
        profile=profile,
    )


def compressed_bytes(bundle: Path) -> int:
    """Return the size of a bundle's files after zstd, without the card."""
    size = 0
    for path in bundle.rglob("*"):
        if path.is_file() and path != bundle / CARD:
            size += len(pa.compress(path.read_bytes(), codec="zstd", asbytes=True))
    return size


def _intervals(
    evaluator: base.TaskEvaluator, answers: Sequence[Any], cases: Sequence[Case[Any]]
) -> dict[str, Any]:
    """Return the intervals of a candidate as an entry of a profile.

    They are fitted on validation. There, metrics of intervals would be too good, so its answers
    stay without.

    Args:
        evaluator: of the task.
        answers: to the validation cases.
        cases: of validation.
    """
    if not isinstance(evaluator, base.StatesIntervals):
        return {}
    return {KEY: evaluator.fit_intervals(answers, [case.truth for case in cases])}


def _statistics(
    metrics: Sequence[base.Metric],
    answers: Sequence[Any],
    cases: Sequence[Case[Any]],
) -> Mapping[str, bootstrap.PerExampleStats]:
    """Return the statistics of each case by metric."""
    return {metric.name: evaluation.per_example_stats(metric, answers, cases) for metric in metrics}
