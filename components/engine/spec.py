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
    initial: Path | None = None  # safetensors to start from; the head may be lacking
    masked: float = 0.0  # share of the tokens that is hidden and guessed, in rows with labels and without; 0: the task itself is learnt
    teacher: Path | None = None  # bundle to imitate
    temperature: float = 1.0
    imitation: float = 0.0  # weight of the teacher against the labels


@dataclass(frozen=True)
class Fitted:
    """What a fit found. `weights` is a safetensors file of the best epoch."""

    weights: Path
    curve: list[dict[str, float]]  # a row per epoch
    best: dict[str, float]  # the row of the best epoch
    world: int
    parameters: int
