"""The knobs of monitoring: section `monitor` of params.yaml. No stage reads it, for it changes no result."""

from __future__ import annotations

from pydantic import Field

from components.core.params import Strict


class MonitorParams(Strict):
    """Section `monitor`."""

    sample: float = Field(1.0, ge=0, le=1)  # share of the answers that is logged
    rows_per_s: float = Field(
        20.0, gt=0, le=10_000
    )  # and no more of them, at each replica: this bounds what the log costs
    keep_text: bool = False  # write the scrubbed text too, without which an answer's label cannot become training data
    max_mb: float = Field(64.0, gt=0, le=1_000_000)  # of the whole log; the oldest part goes first
    max_days: float = Field(30.0, gt=0, le=3650)
    window: int = Field(
        500, ge=50, le=1_000_000
    )  # logged answers that are compared with training at a time; nothing is said of fewer
    labels: int = Field(100, ge=20, le=1_000_000)  # labeled answers, likewise, for accuracy
    level: float = Field(
        0.01, gt=0, lt=0.5
    )  # chance that a window without drift raises an alarm, whatever the number of fields
    every_s: float = Field(
        60.0, ge=1, le=86_400
    )  # how often a running service looks whether a window is full
    feedback_rows: int = Field(10_000, ge=1, le=1_000_000)  # labels that may wait for review
    webhook: str | None = Field(None, pattern=r"^https?://\S+$")  # is told of each alarm, in JSON
