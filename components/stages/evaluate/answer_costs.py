"""Time, CPU time and energy of answers: all candidates in turn, round by round.

A machine that is busy for a while slows all candidates of a round down, and the median of the
rounds does not follow it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

import numpy as np

from components.core.energy import EnergyCounter
from components.inference.predictor import Predictor
from components.metrics.bootstrap import percentile_interval
from components.stages.evaluate.params import EvaluateParams

_ROUNDS = 9


@dataclass
class _Times:
    """Seconds of each query or batch of a candidate; CPU-seconds and joules of each round.

    All are those of an answer. Without energy counters the joules stay empty.
    """

    single: list[float] = field(default_factory=list)
    batch: list[float] = field(default_factory=list)
    single_cpu: list[float] = field(default_factory=list)
    batch_cpu: list[float] = field(default_factory=list)
    single_joules: list[float] = field(default_factory=list)
    batch_joules: list[float] = field(default_factory=list)


def measure_costs(
    predictors: Mapping[str, Predictor], queries: Sequence[Any], params: EvaluateParams
) -> dict[str, dict[str, Any]]:
    """Return what answers of each candidate cost.

    Each round asks all candidates the same queries, one by one and in batches.

    Args:
        predictors: name -> model.
        queries: of validation.
        params: of the stage.

    Returns:
        name -> {"latency_ms": {"p50", "p95", "p95_interval", "p99"} of single answers,
        "throughput_per_s": answers per second in batches, "cpu_s_per_1000": {"single", "batch",
        "weighted"}, each the median and its interval [median, low, high], "energy_j_per_1000":
        the same of joules; None where the machine shows no counters}.
    """
    for predictor in predictors.values():
        predictor.warm(queries[0])
        predictor.predict(queries[: params.throughput_batch])
    times = {name: _Times() for name in predictors}
    singles = cycle(queries[: params.latency_queries])
    batches = cycle(_batches(queries, params.throughput_batch))
    # Rounded up, so that each round has one at least.
    single_count = -(-params.latency_queries // _ROUNDS)
    batch_count = -(-len(queries) // params.throughput_batch // _ROUNDS)
    for _ in range(_ROUNDS):
        single = [[query] for query in islice(singles, single_count)]
        batch = list(islice(batches, batch_count))
        for name, predictor in predictors.items():
            asked = times[name]
            _ask(predictor, single, asked.single, asked.single_cpu, asked.single_joules)
            _ask(predictor, batch, asked.batch, asked.batch_cpu, asked.batch_joules)
    return {name: _costs(times[name], params) for name in predictors}


def _batches(queries: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Return the queries in batches of equal size; the rest is left out if there is a whole one."""
    whole = len(queries) // size * size or len(queries)
    return [queries[first : first + size] for first in range(0, whole, size)]


def _ask(
    predictor: Predictor,
    batches: Sequence[Sequence[Any]],
    seconds: list[float],
    cpu: list[float],
    joules: list[float],
) -> None:
    """Ask batches, and add what an answer of them costs.

    Args:
        predictor: the model.
        batches: at least one.
        seconds: of each batch, per answer.
        cpu: CPU-seconds of each round, per answer.
        joules: of each round, per answer; nothing is added where they are unknown.
    """
    energy = EnergyCounter()
    start = time.process_time()
    for batch in batches:
        before = time.perf_counter()
        predictor.predict(batch)
        seconds.append((time.perf_counter() - before) / len(batch))
    answers = sum(map(len, batches))
    cpu.append((time.process_time() - start) / answers)
    used = energy.joules()
    if used is not None:
        joules.append(used / answers)


def _costs(times: _Times, params: EvaluateParams) -> dict[str, Any]:
    """Return the costs of a candidate, see `measure_costs`."""
    milliseconds = [seconds * 1000 for seconds in times.single]
    return {
        "latency_ms": {
            "p50": float(np.percentile(milliseconds, 50)),
            "p95": float(np.percentile(milliseconds, 95)),
            "p95_interval": list(percentile_interval(milliseconds, 95, params.confidence)),
            "p99": float(np.percentile(milliseconds, 99)),
        },
        "throughput_per_s": 1 / float(np.median(times.batch)),
        "cpu_s_per_1000": _per_1000(times.single_cpu, times.batch_cpu, params),
        "energy_j_per_1000": _per_1000(times.single_joules, times.batch_joules, params),
    }


def _per_1000(
    singles: Sequence[float], batches: Sequence[float], params: EvaluateParams
) -> dict[str, list[float]] | None:
    """Return the cost of 1,000 answers; None unless each round has one.

    Args:
        singles: cost of an answer in each round, asked one by one.
        batches: the same, asked in batches.
        params: of the stage.
    """
    if len(singles) < _ROUNDS or len(batches) < _ROUNDS:
        return None
    single = np.array(singles)
    batch = np.array(batches)
    share = params.choose.batch_share
    return {
        "single": _median(single, params.confidence),
        "batch": _median(batch, params.confidence),
        "weighted": _median(share * batch + (1 - share) * single, params.confidence),
    }


def _median(per_answer: Any, confidence: float) -> list[float]:
    """Return the median of the rounds for 1,000 answers, and its interval."""
    values = [float(value) * 1000 for value in per_answer]
    return [float(np.median(values)), *percentile_interval(values, 50, confidence)]
