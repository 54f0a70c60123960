"""Params of serving."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from components.core.params import Strict
from components.serving.http.host_names import HostPattern
from components.serving.rollout.canary_check import CanaryParams


class Scale(Strict):
    """A number of replicas that follows the load."""

    min: int = Field(1, ge=1, le=1000, description="Fewest replicas.")
    max: int = Field(4, ge=1, le=1000, description="Most replicas.")
    target_ongoing: float = Field(
        16, gt=0, le=10_000, description="Requests in progress per replica to scale for."
    )

    @model_validator(mode="after")
    def _check_order(self) -> Scale:
        if self.max < self.min:
            raise ValueError(f"max is {self.max}, less than min, {self.min}")
        return self


class LimitParams(Strict):
    """What a client may ask for."""

    characters: int = Field(
        20_000,
        ge=1,
        le=10_000_000,
        description="Most characters of a text, an image's base64, or all values of a row.",
    )
    pixels: int = Field(4_000_000, ge=64, le=100_000_000, description="Most pixels of an image.")
    body_bytes: int = Field(
        1 << 20, ge=1024, le=1 << 30, description="Most bytes of a request's body."
    )
    body_timeout_s: float = Field(
        10.0, gt=0, le=3600, description="Most seconds for a body to arrive."
    )
    queued_items: int = Field(
        512, ge=1, le=1_000_000, description="Most items that wait; beyond it the answer is 503."
    )
    items_per_s: float | None = Field(
        None,
        gt=0,
        description="Most items of a key per second and replica (null: no limit).",
    )
    burst_items: int = Field(
        256, ge=1, description="Most items that a key may send at once after a pause."
    )
    explained_parts: int = Field(
        64, ge=0, le=1024, description="Most items that one /v1/explain may cost (0: disabled)."
    )


class ServeParams(Strict):
    """The service. The defaults suit two cores."""

    questions: int = Field(
        20, ge=1, le=10_000, description="Test cases asked over HTTP before the release."
    )
    max_items: int = Field(64, ge=1, le=10_000, description="Most items of one request.")
    max_batch_size: int = Field(
        32, ge=1, le=4096, description="Most items that are scored together, of any requests."
    )
    max_batch_tokens: int | None = Field(
        None, ge=1, description="Most tokens of a padded batch (null: only items are counted)."
    )
    batch_wait_ms: float = Field(
        2.0,
        ge=0,
        le=1000,
        description="Most milliseconds that a busy service waits to fill a batch.",
    )
    request_timeout_s: float = Field(
        30.0, gt=0, le=3600, description="Most seconds for the answer to a request."
    )
    allowed_hosts: list[HostPattern] = Field(
        default_factory=list,
        max_length=1000,
        description="Further host names, such as models.example.com, *.example.com, *.",
    )
    limits: LimitParams = Field(LimitParams(), description="Limits of what a client may ask for.")
    replicas: Annotated[int, Field(ge=1, le=1000)] | Scale = Field(
        1, description="Number of replicas, or {min: 1, max: 4, target_ongoing: 16}."
    )
    num_cpus: float = Field(
        0.0,
        ge=0,
        le=256,
        description="CPUs a replica reserves, twice in a swap (0: shares the machine).",
    )
    abstain: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Largest share of wrong answers; unsure ones are marked (null: never).",
    )
    poll_s: float = Field(
        5.0, gt=0, le=3600, description="Seconds between two checks of the registry's champion."
    )
    canary: CanaryParams = Field(
        CanaryParams(), description="How traffic moves to a new champion, and what sends it back."
    )
