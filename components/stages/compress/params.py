"""Params of `compress`: three recipes, each of which may be null."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from components.core.params import Strict, explain, nearest
from components.tasks.base import Architecture


class Prune(Strict):
    """Structured pruning, then a short fit."""

    share: float = Field(
        0.5, gt=0, lt=1, description="Share of channels, heads and hidden units that is cut."
    )
    epochs: int = Field(2, ge=1, description="Passes over the train rows after the cut.")
    learning_rate: float = Field(
        5e-4, gt=0, description="Peak learning rate of the fit after the cut."
    )


class Quantize(Strict):
    """Static int8."""

    calibration_rows: int = Field(
        256, ge=8, description="Train rows that calibrate the int8 ranges."
    )


class Distill(Strict):
    """A smaller network that imitates the better of the two fitted ones."""

    architecture: str = Field(description="Architecture of the student, one of the task's.")
    nets: dict[str, dict[str, Any]] = Field(
        description="Params of the student by architecture, as in train.nets."
    )
    epochs: int = Field(6, ge=1, description="Passes of the student over the train rows.")
    learning_rate: float = Field(2e-3, gt=0, description="Peak learning rate of the student.")
    temperature: float = Field(
        2.0, gt=0, description="Divisor of the logits; larger values soften the teacher's answers."
    )
    weight: float = Field(
        0.7, ge=0, le=1, description="Weight of the teacher's answers; the targets have the rest."
    )


class CompressParams(Strict):
    """Each recipe gives one candidate; null skips it."""

    prune: Prune | None = Field(
        Prune(), description="Structured pruning, then a short fit (null: skipped)."
    )
    quantize: Quantize | None = Field(
        Quantize(), description="Static int8 quantization for ONNX Runtime (null: skipped)."
    )
    distill: Distill | None = Field(
        description="Smaller network that imitates the better fitted one (null: skipped)."
    )


def check_student(distill: Distill | None, architectures: Mapping[str, Architecture]) -> list[str]:
    """Return the mistakes in the student: unknown architectures, params that one does not take."""
    if distill is None:
        return []
    section = "compress.distill"
    names = ", ".join(architectures)
    mistakes = []
    if distill.architecture not in architectures:
        hint = nearest(distill.architecture, architectures)
        mistakes.append(
            f"{section}.architecture: {distill.architecture!r} is not one of {names}{hint}"
        )
    for name, config in distill.nets.items():
        path = f"{section}.nets.{name}"
        if name not in architectures:
            hint = nearest(name, architectures)
            mistakes.append(f"{path}: is not a known key{hint}; known here: {names}")
            continue
        try:
            architectures[name].Config.model_validate(config)
        except ValidationError as error:
            mistakes += explain(architectures[name].Config, error, path)
    return mistakes
