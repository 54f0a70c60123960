"""Compute bootstrap and rank intervals of metrics from per-example statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

# Name of a statistic -> (cases, ...).
PerExampleStats = Mapping[str, NDArray[Any]]


class Resampled(Protocol):
    """A metric that has a value over any subset of cases."""

    @property
    def name(self) -> str:
        """Return the metric's name."""

    def value(self, stats: Mapping[str, NDArray[Any]]) -> float:
        """Return the metric over the cases of some statistics, each (cases, ...)."""


@runtime_checkable
class HasExactInterval(Protocol):
    """A metric whose interval is exact for some statistics, or for all."""

    def exact_interval(
        self, stats: Mapping[str, NDArray[Any]], confidence: float
    ) -> tuple[float, float] | None:
        """Return the interval; None where the bootstrap must give it.

        Args:
            stats: of the metric, each (cases, ...).
            confidence: of the interval, e.g. 0.95.
        """


def intervals(
    metrics: Sequence[Resampled],
    stats: Mapping[str, PerExampleStats],
    resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, tuple[float, float] | None]:
    """Return exact intervals where a metric has one, else percentile bootstrap (Efron 1979).

    All metrics use the same resamples. Where these agree, they say nothing about cases that the
    sample lacks, so there is no interval: None.

    Args:
        metrics: the metrics.
        stats: name of a metric -> its statistics.
        resamples: number of bootstrap resamples.
        confidence: of the intervals, e.g. 0.95.
        seed: of the resamples.
    """
    count = len(next(iter(stats[metrics[0].name].values())))
    rng = np.random.default_rng(seed)
    values: dict[str, list[float]] = {metric.name: [] for metric in metrics}
    for _ in range(resamples):
        rows = rng.integers(0, count, count)
        for metric in metrics:
            values[metric.name].append(_value_of(metric, stats[metric.name], rows))
    tail = (1 - confidence) / 2 * 100
    result: dict[str, tuple[float, float] | None] = {}
    for metric in metrics:
        exact = None
        if isinstance(metric, HasExactInterval):
            exact = metric.exact_interval(stats[metric.name], confidence)
        result[metric.name] = exact or _percentiles(values[metric.name], tail)
    return result


def _percentiles(sampled: Sequence[float], tail: float) -> tuple[float, float] | None:
    """Return the percentile interval of resampled values; None where they agree.

    Args:
        sampled: values, of which those that are not finite do not count.
        tail: percent of the values below the interval, and above.
    """
    finite = [value for value in sampled if np.isfinite(value)]
    if not finite or min(finite) == max(finite):
        return None
    low, high = np.percentile(finite, [tail, 100 - tail])
    return float(low), float(high)


def _value_of(metric: Resampled, stats: PerExampleStats, rows: NDArray[np.int64]) -> float:
    """Return a metric over some rows of its statistics."""
    return metric.value({name: column[rows] for name, column in stats.items()})


def paired_interval(
    metric: Resampled,
    first: PerExampleStats,
    second: PerExampleStats,
    resamples: int,
    confidence: float,
    seed: int,
) -> tuple[float, float]:
    """Return the bootstrap interval of a metric's difference between two models.

    Args:
        metric: the metric.
        first: statistics of the first model.
        second: statistics of the second model on the same cases. It is subtracted.
        resamples: number of bootstrap resamples.
        confidence: of the interval, e.g. 0.95.
        seed: of the resamples.
    """
    count = len(next(iter(first.values())))
    rng = np.random.default_rng(seed)
    differences = []
    for _ in range(resamples):
        rows = rng.integers(0, count, count)
        differences.append(_value_of(metric, first, rows) - _value_of(metric, second, rows))
    tail = (1 - confidence) / 2 * 100
    low, high = np.nanpercentile(differences, [tail, 100 - tail])
    return float(low), float(high)


def resampled_values(
    metric: Resampled, stats: Mapping[str, PerExampleStats], resamples: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Return a metric of several models over the same resamples: name -> (resamples,).

    The difference of two models, resample by resample, is that of a paired bootstrap.

    Args:
        metric: the metric.
        stats: name of a model -> its statistics. All have the same cases.
        resamples: number of bootstrap resamples.
        seed: of the resamples.
    """
    count = len(next(iter(next(iter(stats.values())).values())))
    rng = np.random.default_rng(seed)
    values: dict[str, list[float]] = {name: [] for name in stats}
    for _ in range(resamples):
        rows = rng.integers(0, count, count)
        for name, of_model in stats.items():
            values[name].append(_value_of(metric, of_model, rows))
    return {name: np.array(sampled) for name, sampled in values.items()}


def percentile_interval(
    values: Sequence[float], percentile: float, confidence: float
) -> tuple[float, float]:
    """Return the interval of a percentile, from the ranks that a binomial count allows.

    Where there are too few values for a bound, it is the smallest or the largest value.

    Args:
        values: the sample.
        percentile: from 0 to 100.
        confidence: of the interval, e.g. 0.95.
    """
    from scipy.special import bdtr

    ordered = sorted(values)
    count = len(ordered)
    tail = (1 - confidence) / 2
    below = np.array([float(bdtr(rank, count, percentile / 100)) for rank in range(count)])
    low = int((below < tail).sum()) - 1
    high = int((below < 1 - tail).sum())
    return ordered[max(low, 0)], ordered[min(high, count - 1)]
