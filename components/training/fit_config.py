"""What a fit is told: plain values and paths, so that it travels to any worker and names the state that can be resumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.tasks import base
from components.training.batches import load_encoder
from components.training.params import FitParams

ROOM = "micro_batch_tokens.json"  # in the state of a fit whose memory was short


@dataclass(frozen=True)
class FitConfig:
    """One fit. Paths are absolute, and seen by all workers."""

    task: str
    tokens: Path
    architecture: str
    config: Mapping[str, Any]
    params: FitParams
    online: Mapping[str, Any]  # params of the task's transforms on the fly
    seed: int
    state: Path  # checkpoints and results; a fit that finds some goes on there
    initial: Path | None = None  # safetensors to start from; the head may be lacking
    masked: float = 0.0  # share of the tokens that is hidden and guessed, in rows with labels and without; 0: the task itself is learned
    teacher: Path | None = None  # bundle to imitate
    temperature: float = 1.0
    imitation: float = 0.0  # weight of the teacher against the labels
    until: int | None = (
        None  # epochs after which it ends already, though its schedule is that of all
    )

    @property
    def done(self) -> Path:
        """The file that says that the fit came to its end."""
        return self.state / "fitted.json"

    @property
    def room(self) -> str:
        """What was learned about the memory; "" until it was short."""
        note = self.state / ROOM
        return note.read_text(encoding="utf-8") if note.exists() else ""


@dataclass(frozen=True)
class FitResult:
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
                told += (
                    f", from epoch {row['epoch']:.0f} on {row['workers']:.0f}"
                    if told
                    else f"{row['workers']:.0f}"
                )
                before = row["workers"]
        return told


def check(spec: FitConfig) -> None:
    """Refuse a fit that cannot begin, while nothing long has.

    Raises:
        GristmillError: the network does not go with the tokens, or a library is missing.
    """
    architecture = base.models(spec.task).architectures[spec.architecture]
    if isinstance(architecture, base.UsesPretrainedWeights):
        architecture.check(
            architecture.Config.model_validate(dict(spec.config)),
            load_encoder(spec.tokens, spec.task),
        )
