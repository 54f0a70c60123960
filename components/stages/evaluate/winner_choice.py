"""The rule that chooses the winner: budgets, the metric on validation, then the cost of an answer.

The test split is not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.core.errors import InputError
from components.metrics import bootstrap
from components.stages.evaluate.metric_scale import MetricScale
from components.stages.evaluate.params import ChooseParams, EvaluateParams
from components.tasks import base

_MB = 1e6
# Sizes up to this ratio are as good as equal.
_SAME_SIZE = 1.05
_BUDGETS = ("latency_p95_ms", "throughput_per_s", "size_mb", "memory_mb")


def choose_winner(
    rows: Sequence[dict[str, Any]],
    stats: Mapping[str, bootstrap.PerExampleStats],
    metric: base.Metric,
    params: EvaluateParams,
    seed: int,
) -> dict[str, Any]:
    """Return the row of the winner, and write into each row how it stands to the rule.

    A candidate over a budget is out. Of the others, the best on validation is looked for, and
    those that are as good: within `max_drop` of it, and not different from it by a paired bootstrap
    (Efron 1979) with a Bonferroni correction for their number. The cheapest of these wins. Where
    the intervals of costs overlap, the better one on validation counts as no dearer.

    Each row gets "choice": {"status": "winner", "as good", "worse" or "over budget", "reason",
    "difference": [low, high] of the metric to the best or None where the metric is not defined,
    "dominated_by": name or None}.

    Args:
        rows: of the leaderboard.
        stats: name -> statistics of each validation case for the metric.
        metric: the deciding one.
        params: of the stage.
        seed: of the bootstrap.

    Raises:
        InputError: no candidate keeps the budgets.
    """
    scale = MetricScale(metric)
    samples = bootstrap.resampled_values(metric, stats, params.resamples, seed)
    over = {row["name"]: _over_budget(row, params.choose) for row in rows}
    allowed = [row for row in rows if not over[row["name"]]]
    if not allowed:
        raise _no_candidate(rows, params.choose)
    best = min(allowed, key=lambda row: _rank(row, scale))
    confidence = 1 - (1 - params.confidence) / max(1, len(rows) - 1)
    as_good = []
    for row in rows:
        difference = _interval(samples[row["name"]] - samples[best["name"]], confidence)
        row["choice"] = {"difference": difference, "dominated_by": None}
        is_close = scale.loss(row, best, "validation") <= params.choose.max_drop
        is_alike = row in allowed and is_close and _holds_zero(difference)
        # The difference of the best to itself may be undefined.
        if row is best or is_alike:
            as_good.append(row)
    winner = _cheapest(as_good, scale)
    for row in rows:
        status, reason = _standing(row, winner, best, over[row["name"]], row in as_good)
        row["choice"] |= {"status": status, "reason": reason}
    _mark_dominated(rows, samples, scale, params.choose.max_drop, confidence)
    return winner


def _over_budget(row: Mapping[str, Any], budgets: ChooseParams) -> str:
    """Return which budget a candidate exceeds and by what; an empty text if it keeps all."""
    latency = row["latency_ms"]["p95"]
    throughput = row["throughput_per_s"]
    size = row["size_bytes"] / _MB
    if budgets.latency_p95_ms is not None and latency > budgets.latency_p95_ms:
        return f"latency of {latency:.2f} ms, over latency_p95_ms: {budgets.latency_p95_ms:g}"
    if budgets.throughput_per_s is not None and throughput < budgets.throughput_per_s:
        return f"{throughput:,.0f} per second, below throughput_per_s: {budgets.throughput_per_s:g}"
    if budgets.size_mb is not None and size > budgets.size_mb:
        return f"size of {size:.2f} MB, over size_mb: {budgets.size_mb:g}"
    if budgets.memory_mb is not None and _memory_mb(row) > budgets.memory_mb:
        return f"memory {_memory_text(row)}, over memory_mb: {budgets.memory_mb:g}"
    return ""


def _memory_mb(row: Mapping[str, Any]) -> float:
    """Return the most megabytes of a process that answers; infinity where they are unknown."""
    peak = row["peak_memory_bytes"]
    return float("inf") if peak is None else peak / _MB


def _memory_text(row: Mapping[str, Any]) -> str:
    """Return the memory of a process that answers, for a person."""
    return "unknown" if row["peak_memory_bytes"] is None else f"{_memory_mb(row):.0f} MB"


def _no_candidate(rows: Sequence[Mapping[str, Any]], budgets: ChooseParams) -> InputError:
    """Return the error that says how near the candidates come to the budgets."""
    latency = min(row["latency_ms"]["p95"] for row in rows)
    throughput = max(row["throughput_per_s"] for row in rows)
    size = min(row["size_bytes"] for row in rows) / _MB
    asked = [name for name in _BUDGETS if getattr(budgets, name) is not None]
    return InputError(
        f"no candidate keeps all budgets. The lowest latency is {latency:.2f} ms, the highest "
        f"throughput {throughput:,.0f} per second, the smallest size {size:.2f} MB, the least "
        f"memory {_memory_text(min(rows, key=_memory_mb))}",
        where="evaluate.choose",
        remedy=f"loosen {' or '.join(asked)}",
    )


def _cheapest(rows: Sequence[dict[str, Any]], scale: MetricScale) -> dict[str, Any]:
    """Return the row with the least cost; the best on validation where intervals overlap."""
    cheapest = min(rows, key=lambda row: _cost(row)[0])
    no_dearer = [row for row in rows if _cost(row)[1] <= _cost(cheapest)[2]]
    return min(no_dearer, key=lambda row: _rank(row, scale))


def _rank(row: Mapping[str, Any], scale: MetricScale) -> tuple[float, float]:
    """Return the sort key of a row: its metric on validation, then its cost."""
    return scale.rank(scale.of(row, "validation")), _cost(row)[0]


def _standing(
    row: Mapping[str, Any],
    winner: Mapping[str, Any],
    best: Mapping[str, Any],
    over: str,
    is_as_good: bool,
) -> tuple[str, str]:
    """Return the status of a row, and the reason as a sentence."""
    times = _cost(row)[0] / (_cost(winner)[0] or 1)
    if over:
        return "over budget", over
    if row is winner and row is best:
        return "winner", "the best on validation, and none as good is cheaper"
    if row is winner:
        saved = _cost(best)[0] / (_cost(row)[0] or 1)
        return "winner", f"as good as {best['name']} on validation, at 1/{saved:.2g} of its cost"
    if is_as_good:
        return "as good", f"{times:.2g} times the cost of {winner['name']}"
    difference = row["choice"]["difference"]
    if difference is None:
        return "worse", "the metric is not defined on validation"
    if _holds_zero(difference):
        return "worse", f"by more than max_drop worse than {best['name']}, though within noise"
    return "worse", f"beyond noise worse than {best['name']}"


def _mark_dominated(
    rows: Sequence[dict[str, Any]],
    samples: Mapping[str, NDArray[np.float64]],
    scale: MetricScale,
    max_drop: float,
    confidence: float,
) -> None:
    """Name a candidate that is better or cheaper beyond noise where the row is neither.

    The other one loses at most `max_drop` of the metric, and is not larger by more than 5%.

    Args:
        rows: of the leaderboard, with their "choice".
        samples: name -> (resamples,) values of the metric.
        scale: of the metric.
        max_drop: of the rule.
        confidence: of the intervals.
    """
    for row, other in permutations(rows, 2):
        gain = scale.sign * (samples[other["name"]] - samples[row["name"]])
        interval = _interval(gain, confidence)
        _, cost_low, cost_high = _cost(row)
        _, other_low, other_high = _cost(other)
        is_better = interval is not None and interval[0] > 0
        is_cheaper = other_high < cost_low
        is_as_good = scale.loss(other, row, "validation") <= max_drop
        is_small = other["size_bytes"] <= _SAME_SIZE * row["size_bytes"]
        if (is_better or is_cheaper) and is_as_good and is_small and other_low <= cost_high:
            row["choice"]["dominated_by"] = other["name"]


def _interval(values: NDArray[np.float64], confidence: float) -> list[float] | None:
    """Return the percentile interval of resampled values; None where none is finite."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    tail = (1 - confidence) / 2 * 100
    low, high = np.percentile(finite, [tail, 100 - tail])
    return [float(low), float(high)]


def _holds_zero(interval: Sequence[float] | None) -> bool:
    """Return whether an interval holds 0, so that two candidates cannot be told apart."""
    return interval is not None and interval[0] <= 0 <= interval[1]


def _cost(row: Mapping[str, Any]) -> list[float]:
    """Return the CPU-seconds of 1,000 answers: the median and its interval."""
    cost: list[float] = row["cpu_s_per_1000"]["weighted"]
    return cost
