"""Measure candidates: answers, metrics on any subset of cases, latency, throughput."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.inference.predictor import Predictor
from components.metrics.bootstrap import PerExampleStats, percentile_interval
from components.tasks import base
from components.tasks.base import Case, Metric


def answer(predictor: Predictor, cases: Sequence[Case[Any]], batch: int = 64) -> list[Any]:
    """Return the answers to all cases, in order.

    Cases of similar size are predicted together, so that little padding is computed.

    Args:
        predictor: the model.
        cases: the cases.
        batch: cases of a batch.
    """
    order = sorted(range(len(cases)), key=lambda i: len(cases[i].query.model_dump_json()))
    answers: list[Any] = [None] * len(cases)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        predictions = predictor.predict([cases[row].query for row in rows])
        for row, prediction in zip(rows, predictions, strict=True):
            answers[row] = prediction
    return answers


def per_example_stats(
    metric: Metric, answers: Sequence[Any], cases: Sequence[Case[Any]]
) -> PerExampleStats:
    """Return a metric's statistics of all cases: name -> (cases, ...)."""
    pairs = zip(answers, cases, strict=True)
    per_case = [metric.example_stats(prediction, case.truth) for prediction, case in pairs]
    result = {}
    for name in per_case[0]:
        result[name] = np.array([stats[name] for stats in per_case])
    return result


def compute_metrics(
    metrics: Sequence[Metric], stats: Mapping[str, PerExampleStats]
) -> dict[str, float | None]:
    """Return each metric over all cases. None: the metric is not defined on them.

    Args:
        metrics: the metrics.
        stats: name of a metric -> its statistics.
    """
    return {metric.name: _finite(metric.value(stats[metric.name])) for metric in metrics}


def latency(
    predictor: Predictor, queries: Sequence[Any], confidence: float = 0.95
) -> dict[str, Any]:
    """Return the latency of single queries after a warm-up, in milliseconds.

    Returns:
        p50, p95, and p95_interval, the interval of the latter.
    """
    predictor.warm(queries[0])
    times = []
    for query in queries:
        start = time.perf_counter()
        predictor.predict([query])
        times.append((time.perf_counter() - start) * 1000)
    return {
        "p50": float(np.percentile(times, 50)),
        "p95": float(np.percentile(times, 95)),
        "p95_interval": list(percentile_interval(times, 95, confidence)),
    }


def throughput(predictor: Predictor, queries: Sequence[Any], batch: int) -> float:
    """Return queries per second in batches of a given size, in the given order."""
    start = time.perf_counter()
    for first in range(0, len(queries), batch):
        predictor.predict(queries[first : first + batch])
    return len(queries) / (time.perf_counter() - start)


def validation_score(bundle: Path, tokens: Path) -> float:
    """Return the monitored metric of a torch bundle on validation.

    Larger is better: the value is negated where the task minimizes it.
    """
    import torch

    from components.core.bundles import read_bundle
    from components.inference.predictor import load_module
    from components.training.batches import EncodedRows, in_order, load_encoder

    task = read_bundle(bundle)[0].task
    learning = base.learning(task)
    module = load_module(bundle)
    rows = EncodedRows(tokens, "validation", load_encoder(tokens, task))
    totals: dict[str, Any] = {}
    with torch.inference_mode():
        for numbers in in_order(rows.lengths, 256):
            arrays = rows.batch(numbers)
            batch = {name: torch.from_numpy(value) for name, value in arrays.items()}
            for name, value in learning.accumulate(module, batch).items():
                totals[name] = totals[name] + value if name in totals else value
    metrics = learning.compute({name: value.numpy() for name, value in totals.items()})
    metric = metrics[learning.monitored_metric]
    return metric if learning.monitored_goal == "max" else -metric


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
