"""Knobs of `compress`: three recipes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from components.core.params import Strict
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
    """Each recipe gives one candidate."""

    prune: Prune = Prune()
    quantize: Quantize = Quantize()
    distill: Distill


def check_student(distill: Distill, architectures: Mapping[str, Architecture]) -> list[str]:
    """What is wrong with the student: unknown architecture, a config that it does not take."""
    if distill.architecture not in architectures:
        return [f"compress.distill.architecture: {distill.architecture!r} is not one of {', '.join(architectures)}"]
    try:
        architectures[distill.architecture].Config.model_validate(distill.nets.get(distill.architecture, {}))
    except ValidationError as error:
        first = error.errors()[0]
        return [f"compress.distill.nets.{distill.architecture}.{'.'.join(map(str, first['loc']))}: {first['msg']}"]
    return []
