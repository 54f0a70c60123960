"""The knobs of serving."""

from __future__ import annotations

from pydantic import Field

from components.core.params import Strict


class ServeParams(Strict):
    """Section `serve` of params.yaml; the defaults suit two cores."""

    questions: int = Field(20, ge=1, le=10_000)  # test cases that the stage asks over HTTP
    max_items: int = Field(64, ge=1, le=10_000)  # in one request
    max_batch_size: int = Field(32, ge=1, le=4096)  # items scored together, from whatever requests
    batch_wait_ms: float = Field(2.0, ge=0, le=1000)  # how long a batch that is not full waits for company
    request_timeout_s: float = Field(30.0, gt=0, le=3600)
    replicas: int = Field(1, ge=1, le=1000)
    num_cpus: float = Field(0.0, ge=0, le=256)  # reserved by a replica (a swap needs them twice for a moment); 0 shares the machine with whatever else runs
