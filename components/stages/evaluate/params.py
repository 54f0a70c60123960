"""Params of `evaluate`."""

from __future__ import annotations

from typing import Annotated

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


Statement = Annotated[str, Field(min_length=1, max_length=2000)] | None


class CardParams(Strict):
    """What the model card and the data card say and no program can know (null: unknown)."""

    intended_use: Statement = Field(None, description="What the model is for, and for whom.")
    acceptable_use: Statement = Field(
        None, description="Uses that are allowed, and uses that are not."
    )
    provider: Statement = Field(None, description="Who answers for the model, with an address.")
    model_license: Statement = Field(None, description="License of the model.")
    data_source: Statement = Field(
        None, description="Where the data come from, and how they were collected."
    )
    data_license: Statement = Field(None, description="License of the data.")
    energy: Statement = Field(None, description="Energy that training took, with its unit.")


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
    card: CardParams = Field(
        default_factory=CardParams,
        description="Statements of people in the model card and the data card.",
    )
