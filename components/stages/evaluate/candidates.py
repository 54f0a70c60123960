"""The candidates, measured alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.bundles import CARD, bundle_bytes
from components.core.files import sha256
from components.inference.predictor import load
from components.stages.evaluate.params import EvaluateParams
from components.tasks import base
from components.tasks.base import Case
from components.training import evaluation

BASELINE = "classical"


@dataclass(frozen=True)
class Measured:
    """A candidate's row of the leaderboard, and its answers."""

    row: dict[str, Any]
    answers: Sequence[Any]  # to the test cases
    decisive: evaluation.PerExampleStats  # statistics of each test case for the deciding metric
    before: Sequence[Any]  # its answers to the validation cases


def find(folders: dict[str, Path]) -> dict[str, Path]:
    """Bundles by name. The network of a stage is called after the folder of the stage (trained, tuned), everything else after its own."""
    bundles = [
        card.parent for folder in folders.values() for card in sorted(folder.glob(f"*/{CARD}"))
    ]
    return {
        bundle.parent.name if bundle.name == "network" else bundle.name: bundle
        for bundle in bundles
    }


def assess(
    name: str,
    bundle: Path,
    shown: str,
    validation: Sequence[Case[Any]],
    test: Sequence[Case[Any]],
    params: EvaluateParams,
    seed: int,
) -> Measured:
    """Measure one candidate: figures on validation (they choose) and test (they report), intervals, size, latency, throughput.

    Args:
        shown: the bundle's path below the data folder.
    """
    predictor = load(bundle)
    metrics = base.evaluator(predictor.card.task).metrics
    found, stats = {}, {}
    given: dict[str, Sequence[Any]] = {}
    for split, cases in (("validation", validation), ("test", test)):
        given[split] = evaluation.answer(predictor, cases)
        stats[split] = {
            metric.name: evaluation.per_example_stats(metric, given[split], cases)
            for metric in metrics
        }
        found[split] = evaluation.compute_metrics(metrics, stats[split])
    queries = [case.query for case in validation]
    row = {
        "name": name,
        "title": predictor.card.title,
        "bundle": shown,
        "bundle_sha256": sha256(bundle / CARD),
        "runtime": predictor.card.runtime,
        "baseline": name == BASELINE,
        **found,
        "test_interval": {
            key: list(value) if value else None
            for key, value in evaluation.intervals(
                metrics, stats["test"], params.resamples, params.confidence, seed
            ).items()
        },
        "size_bytes": bundle_bytes(bundle),
        "latency_ms": evaluation.latency(
            predictor, queries[: params.latency_queries], params.confidence
        ),
        "throughput_per_s": evaluation.throughput(predictor, queries, params.throughput_batch),
    }
    return Measured(row, given["test"], stats["test"][metrics[0].name], given["validation"])


def choose(rows: Sequence[dict[str, Any]], metric: base.Metric) -> dict[str, Any]:
    """The winner: best on validation by the deciding metric; of equal ones the faster. Test has no say."""
    sign = 1 if metric.goal == "max" else -1
    return max(
        rows, key=lambda row: (sign * row["validation"][metric.name], -row["latency_ms"]["p50"])
    )
