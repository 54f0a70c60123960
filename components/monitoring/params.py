"""Params of monitoring: section `monitor` of params.yaml.

No stage reads them, because they change no result.
"""

from __future__ import annotations

from pydantic import Field

from components.core.params import Strict


class MonitorParams(Strict):
    """Request log, drift tests and alarms of a running service."""

    sample: float = Field(1.0, ge=0, le=1, description="Share of the answers that is logged.")
    rows_per_s: float = Field(
        20.0, gt=0, le=10_000, description="Most rows that a replica logs per second."
    )
    keep_text: bool = Field(
        False,
        description="Log masked texts too: feedback needs them to become training data.",
    )
    max_mb: float = Field(
        64.0,
        gt=0,
        le=1_000_000,
        description="Megabytes of the whole log; the oldest part is deleted first.",
    )
    max_days: float = Field(
        30.0,
        gt=0,
        le=3650,
        description="Days that log rows are kept; feedback with its texts stays.",
    )
    window: int = Field(
        500,
        ge=50,
        le=1_000_000,
        description="Logged answers per drift test; fewer are not tested.",
    )
    labels: int = Field(
        100,
        ge=20,
        le=1_000_000,
        description="Answers with feedback per test of them; fewer are not tested.",
    )
    level: float = Field(
        0.01,
        gt=0,
        lt=0.5,
        description="Chance of an alarm on a window without drift, over all fields.",
    )
    every_s: float = Field(
        60.0, ge=1, le=86_400, description="Seconds between two checks whether a window is full."
    )
    feedback_rows: int = Field(
        10_000, ge=1, le=1_000_000, description="Most feedback rows that may wait for review."
    )
    webhook: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description="URL that receives each alarm as JSON (null: none).",
    )

    @property
    def outcome_window(self) -> int:
        """Return how many answers whose truth is known are tested at once."""
        return self.labels
