"""Candidates measured alike: figures on any subset of cases, their intervals, latency, throughput."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.inference.predictor import Predictor
from components.tasks import base
from components.tasks.base import Case, Metric

Units = Mapping[str, NDArray[Any]]


def answer(predictor: Predictor, cases: Sequence[Case[Any]], batch: int = 64) -> list[Any]:
    """Answers to all cases, in order; cases of like size are asked together, which wastes no padding."""
    order = sorted(range(len(cases)), key=lambda i: len(cases[i].query.model_dump_json()))
    answers: list[Any] = [None] * len(cases)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        for row, given in zip(
            rows, predictor.predict([cases[row].query for row in rows]), strict=True
        ):
            answers[row] = given
    return answers


def units(metric: Metric, answers: Sequence[Any], cases: Sequence[Case[Any]]) -> Units:
    """Statistics of each case, stacked: name -> (cases, ...)."""
    each = [metric.unit(given, case.truth) for given, case in zip(answers, cases, strict=True)]
    return {name: np.array([unit[name] for unit in each]) for name in each[0]}


def figures(metrics: Sequence[Metric], stats: Mapping[str, Units]) -> dict[str, float | None]:
    """Each metric over all cases; None where it is not defined."""
    return {metric.name: _finite(metric.value(stats[metric.name])) for metric in metrics}


def intervals(
    metrics: Sequence[Metric],
    stats: Mapping[str, Units],
    resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, tuple[float, float] | None]:
    """Percentile bootstrap over cases (Efron 1979); the same resamples for all metrics."""
    count = len(next(iter(stats[metrics[0].name].values())))
    rng = np.random.default_rng(seed)
    values: dict[str, list[float]] = {metric.name: [] for metric in metrics}
    for _ in range(resamples):
        rows = rng.integers(0, count, count)
        for metric in metrics:
            values[metric.name].append(
                metric.value({name: column[rows] for name, column in stats[metric.name].items()})
            )
    tail = (1 - confidence) / 2 * 100
    result: dict[str, tuple[float, float] | None] = {}
    for name, found in values.items():
        known = [value for value in found if np.isfinite(value)]
        result[name] = (
            (float(np.percentile(known, tail)), float(np.percentile(known, 100 - tail)))
            if known
            else None
        )
    return result


def paired_interval(
    metric: Metric, first: Units, second: Units, resamples: int, confidence: float, seed: int
) -> tuple[float, float]:
    """The interval of how much the first has more of a metric than the second, by a bootstrap over the cases that both answered."""
    count = len(next(iter(first.values())))
    rng = np.random.default_rng(seed)
    gains = []
    for _ in range(resamples):
        rows = rng.integers(0, count, count)
        mine, theirs = (
            metric.value({name: column[rows] for name, column in stats.items()})
            for stats in (first, second)
        )
        gains.append(mine - theirs)
    tail = (1 - confidence) / 2 * 100
    low, high = np.nanpercentile(gains, [tail, 100 - tail])
    return float(low), float(high)


def latency(
    predictor: Predictor, queries: Sequence[Any], confidence: float = 0.95
) -> dict[str, Any]:
    """Milliseconds of single queries, one after another, after warming up: p50, p95, and the interval of the latter."""
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


def percentile_interval(
    values: Sequence[float], percentile: float, confidence: float
) -> tuple[float, float]:
    """A percentile's interval from the ranks that a binomial count allows; where there are too few values for a bound, the smallest or largest stands in."""
    from scipy.special import bdtr

    ordered, tail = sorted(values), (1 - confidence) / 2
    below = np.array(
        [float(bdtr(rank, len(ordered), percentile / 100)) for rank in range(len(ordered))]
    )
    low, high = int((below < tail).sum()) - 1, int((below < 1 - tail).sum())
    return ordered[max(low, 0)], ordered[min(high, len(ordered) - 1)]


def throughput(predictor: Predictor, queries: Sequence[Any], batch: int) -> float:
    """Queries per second in batches of a given size, as they come."""
    start = time.perf_counter()
    for first in range(0, len(queries), batch):
        predictor.predict(queries[first : first + batch])
    return len(queries) / (time.perf_counter() - start)


def watched(bundle: Path, tokens: Path) -> float:
    """The task's watched figure of a torch bundle on validation, larger is better (negated where the task minimizes)."""
    import torch

    from components.core.bundles import read_bundle
    from components.inference.predictor import load_module
    from components.training.batches import EncodedRows, in_order, load_encoder

    task = read_bundle(bundle)[0].task
    learning, module = base.learning(task), load_module(bundle)
    rows = EncodedRows(tokens, "validation", load_encoder(tokens, task))
    total: dict[str, Any] = {}
    with torch.inference_mode():
        for some in in_order(rows.lengths, 256):
            batch = {name: torch.from_numpy(value) for name, value in rows.batch(some).items()}
            for name, value in learning.accumulate(module, batch).items():
                total[name] = total[name] + value if name in total else value
    figure = learning.compute({name: value.numpy() for name, value in total.items()})[
        learning.monitored_metric
    ]
    return figure if learning.watch_goal == "max" else -figure


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
