"""The knobs of serving."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from components.core.params import Strict
from components.serving.http.hosts import HostPattern
from components.serving.rollout.canary import CanaryParams


class Scale(Strict):
    """A number of replicas that follows the load."""

    min: int = Field(1, ge=1, le=1000)
    max: int = Field(4, ge=1, le=1000)
    target_ongoing: float = Field(
        16, gt=0, le=10_000
    )  # requests that a replica has in hand when there are enough of them

    @model_validator(mode="after")
    def _ordered(self) -> Scale:
        if self.max < self.min:
            raise ValueError(f"max is {self.max}, less than min, {self.min}")
        return self


class LimitParams(Strict):
    """What a client may ask for."""

    characters: int = Field(20_000, ge=1, le=10_000_000)  # of one text; of a picture, its base64
    pixels: int = Field(4_000_000, ge=64, le=100_000_000)  # of one picture
    body_bytes: int = Field(1 << 20, ge=1024, le=1 << 30)
    body_timeout_s: float = Field(10.0, gt=0, le=3600)  # for a body to arrive
    queued_items: int = Field(512, ge=1, le=1_000_000)  # more of them wait than this: 503 at once
    items_per_s: float | None = Field(
        None, gt=0
    )  # of one key, at each replica; null: no such limit
    burst_items: int = Field(256, ge=1)  # that a key may ask at once, after a pause
    explained_parts: int = Field(
        64, ge=0, le=1024
    )  # what one /v1/explain may cost, in items; 0: there is none


class ServeParams(Strict):
    """Section `serve` of params.yaml; the defaults suit two cores."""

    questions: int = Field(20, ge=1, le=10_000)  # test cases that the stage asks over HTTP
    max_items: int = Field(64, ge=1, le=10_000)  # in one request
    max_batch_size: int = Field(32, ge=1, le=4096)  # items scored together, from whatever requests
    max_batch_tokens: int | None = Field(
        None, ge=1
    )  # likewise, in elements of padded rows; null: only items are counted
    batch_wait_ms: float = Field(
        2.0, ge=0, le=1000
    )  # how long a batch waits at most for the company that it had before; never while the service is idle
    request_timeout_s: float = Field(30.0, gt=0, le=3600)
    # names for which the service answers, beside loopback names and the address of --host
    allowed_hosts: list[HostPattern] = Field(default_factory=list, max_length=1000)
    limits: LimitParams = LimitParams()
    replicas: Annotated[int, Field(ge=1, le=1000)] | Scale = 1
    num_cpus: float = Field(
        0.0, ge=0, le=256
    )  # reserved by a replica (a swap needs them twice for a moment); 0 shares the machine with whatever else runs
    abstain: float | None = Field(
        None, gt=0, lt=1
    )  # answers are "not sure" where else more than this share of the answered questions would be answered wrongly; null: never
    poll_s: float = Field(
        5.0, gt=0, le=3600
    )  # how often a running service asks the registry who is champion
    canary: CanaryParams = CanaryParams()  # how traffic moves to a new champion
