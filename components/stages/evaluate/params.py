"""Params of `evaluate`."""

from __future__ import annotations

from pydantic import Field

from components.core.params import Strict


class EvaluateParams(Strict):
    """How candidates are measured."""

    resamples: int = Field(
        1000, ge=100, description="Bootstrap resamples for the confidence intervals."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence level of the intervals.")
    latency_queries: int = Field(
        200, ge=20, description="Queries asked one at a time to measure the latency."
    )
    throughput_batch: int = Field(
        32, ge=1, description="Queries per batch when the throughput is measured."
    )
