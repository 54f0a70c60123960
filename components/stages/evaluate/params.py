"""Params of `evaluate`."""

from __future__ import annotations

from pydantic import Field

from components.core.params import Strict


class ChooseParams(Strict):
    """The rule by which the winner is chosen on validation."""

    latency_p95_ms: float | None = Field(
        None,
        gt=0,
        description="Budget: most milliseconds for 95% of single answers (null: no limit).",
    )
    throughput_per_s: float | None = Field(
        None, gt=0, description="Budget: fewest answers per second in batches (null: no limit)."
    )
    size_mb: float | None = Field(
        None, gt=0, description="Budget: most megabytes of a bundle (null: no limit)."
    )
    max_drop: float = Field(
        0.002,
        ge=0,
        lt=1,
        description="Largest share of the best value that a cheaper model may lose, within noise.",
    )
    batch_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Weight of batches in the cost of an answer; the rest is for single answers.",
    )


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
    choose: ChooseParams = Field(
        default_factory=ChooseParams, description="The rule by which the winner is chosen."
    )
