"""Knobs of `evaluate`."""

from __future__ import annotations

from pydantic import Field

from components.core.params import Strict


class EvaluateParams(Strict):
    """How candidates are measured."""

    resamples: int = Field(1000, ge=100)
    confidence: float = Field(0.95, gt=0.5, lt=1)
    latency_queries: int = Field(200, ge=20)
    throughput_batch: int = Field(32, ge=1)
