"""What a fit is told: plain values and paths, so that it travels to any worker and names the state that can be resumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.engine.params import FitParams


@dataclass(frozen=True)
class FitSpec:
    """One fit. Paths are absolute, and seen by all workers."""

    task: str
    tokens: Path
    architecture: str
    config: Mapping[str, Any]
    knobs: FitParams
    online: Mapping[str, Any]  # params of the task's transforms on the fly
    seed: int
    state: Path  # checkpoints and results; a fit that finds some goes on there
    initial: Path | None = None  # safetensors to start from
    teacher: Path | None = None  # bundle to imitate
    temperature: float = 1.0
    imitation: float = 0.0  # weight of the teacher against the labels

    @property
    def done(self) -> Path:
        """The file that says that the fit came to its end."""
        return self.state / "fitted.json"


@dataclass(frozen=True)
class Fitted:
    """What a fit found. `weights` is a safetensors file of the best epoch."""

    weights: Path
    curve: list[dict[str, float]]  # a row per epoch
    best: dict[str, float]  # the row of the best epoch
    world: int
    parameters: int

    @property
    def workers(self) -> str:
        """How many there were, e.g. "2, from epoch 3 on 1"."""
        told, before = "", 0.0
        for row in self.curve:
            if row["workers"] != before:
                told += f", from epoch {row['epoch']:.0f} on {row['workers']:.0f}" if told else f"{row['workers']:.0f}"
                before = row["workers"]
        return told
