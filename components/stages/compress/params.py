"""Knobs of `compress`: three recipes, each of which may be null."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from components.core.params import Strict, explain, nearest
from components.tasks.base import Architecture


class Prune(Strict):
    """Structured pruning, then a short fit."""

    share: float = Field(0.5, gt=0, lt=1)
    epochs: int = Field(2, ge=1)
    learning_rate: float = Field(5e-4, gt=0)


class Quantize(Strict):
    """Static int8."""

    calibration_rows: int = Field(256, ge=8)


class Distill(Strict):
    """A smaller network that imitates the better of the two fitted ones."""

    architecture: str
    nets: dict[str, dict[str, Any]]
    epochs: int = Field(6, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    temperature: float = Field(2.0, gt=0)
    weight: float = Field(0.7, ge=0, le=1)


class CompressParams(Strict):
    """Each recipe gives one candidate; null skips it."""

    prune: Prune | None = Prune()
    quantize: Quantize | None = Quantize()
    distill: Distill | None


def check_student(distill: Distill | None, architectures: Mapping[str, Architecture]) -> list[str]:
    """Return what is wrong with the student: unknown architectures, a config that one does not take."""
    if distill is None:
        return []
    place, known = "compress.distill", ", ".join(architectures)
    mistakes = []
    if distill.architecture not in architectures:
        mistakes.append(
            f"{place}.architecture: {distill.architecture!r} is not one of {known}{nearest(distill.architecture, architectures)}"
        )
    for name, config in distill.nets.items():
        if name not in architectures:
            mistakes.append(
                f"{place}.nets.{name}: is not a known key{nearest(name, architectures)}; known here: {known}"
            )
            continue
        try:
            architectures[name].Config.model_validate(config)
        except ValidationError as error:
            mistakes += explain(architectures[name].Config, error, f"{place}.nets.{name}")
    return mistakes
