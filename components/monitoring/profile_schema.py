"""What a profile in the card of a bundle may hold.

A card may come from anywhere, so all that monitoring reads of it is validated first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, model_validator

from components.core.cards import CARD, REMEDY
from components.core.errors import BundleError
from components.core.escaping import brief, log_line
from components.metrics.distributions import (
    MOST_ROWS,
    MOST_VALUES,
    CardPart,
    Counts,
    NamesDistribution,
    Number,
    NumbersDistribution,
    Rows,
)
from components.monitoring.profile import Profiler
from components.tasks.base import evaluator

# What a feature of a row is. Features of another kind could not be compared with those of requests.
KINDS = {
    "brightness": "numbers",
    "contrast": "numbers",
    "embedding": "cloud",
    "length": "numbers",
    "missing": "names",
    "number": "numbers",
    "rarity": "numbers",
    "script": "names",
    "unknown": "numbers",
    "value": "names",
    "words": "words",
}

# Far above what `profile_of` writes: tens of directions.
_MOST_AXES = 64
# Characters of a message, and of a name in it.
_LONGEST_REASON = 300
_LONGEST_NAME = 60

Point = Annotated[list[Number], Field(min_length=1, max_length=_MOST_AXES)]


class _Words(CardPart):
    """In how many rows words stand."""

    kind: Literal["words"]
    rows: Rows
    counts: Counts

    @model_validator(mode="after")
    def _is_distribution(self) -> _Words:
        if max(self.counts.values(), default=0) > self.rows:
            raise ValueError("a word is counted in more rows than there are")
        return self


class _Cloud(CardPart):
    """Mean and covariance of points."""

    kind: Literal["cloud"]
    rows: Annotated[int, Field(ge=2, le=MOST_ROWS)]
    mean: Point
    covariance: Annotated[list[Point], Field(min_length=1, max_length=_MOST_AXES)]

    @model_validator(mode="after")
    def _is_square(self) -> _Cloud:
        sizes = {len(self.mean), len(self.covariance), *map(len, self.covariance)}
        if len(sizes) > 1:
            raise ValueError("mean and covariance have different sizes")
        return self


_Field = Annotated[
    NumbersDistribution | NamesDistribution | _Words | _Cloud, Field(discriminator="kind")
]


class _Rarity(CardPart):
    """How rare words are, by their hashes."""

    step: Annotated[float, Field(ge=0, le=1e6)]
    steps: str


class _Space(CardPart):
    """Directions in which rows differ."""

    size: Annotated[int, Field(ge=1, le=_MOST_AXES)]
    axes: str


class _Predictions(CardPart):
    """Features of the answers to the validation split."""

    fields: Annotated[dict[str, _Field], Field(max_length=MOST_VALUES)]

    @model_validator(mode="after")
    def _has_kinds(self, info: ValidationInfo) -> _Predictions:
        kinds: Mapping[str, str] = info.context or {}
        for name, field in self.fields.items():
            if name not in kinds:
                raise ValueError(f"{name[:_LONGEST_NAME]!r} is no feature of an answer")
            if field.kind != kinds[name]:
                raise ValueError(f"{name} is of kind {field.kind}, not {kinds[name]}")
        return self


class _Inputs(CardPart):
    """Training rows. The task validates `clean`, which is not named here."""

    fields: Annotated[dict[str, _Field], Field(max_length=MOST_VALUES)] = {}
    known: dict[str, str] = {}
    rarity: dict[str, _Rarity] = {}
    spaces: dict[str, _Space] = {}

    @model_validator(mode="after")
    def _has_kinds(self) -> _Inputs:
        for name, field in self.fields.items():
            kind = KINDS.get(name.rpartition(".")[2], field.kind)
            if field.kind != kind:
                raise ValueError(f"{name} is of kind {field.kind}, not {kind}")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> _Inputs:
        for column in self.known:
            if f"{column}.words" not in self.fields:
                raise ValueError(f"known: {column} has no words among the fields")
        for column, space in self.spaces.items():
            describe_points = self.fields.get(f"{column}.embedding")
            if isinstance(describe_points, _Cloud) and len(describe_points.mean) != space.size:
                raise ValueError(f"spaces: {column} and its embedding differ in size")
        return self


def profiler_of(task: str, profile: Mapping[str, Any]) -> Profiler:
    """Return the profiler of a bundle's card.

    Raises:
        BundleError: the profile is not one that `profile_of` makes.
    """
    reason = _reason_against(task, profile)
    if not reason:
        try:
            profiler = Profiler(task, profile)
            profiler.check()
            return profiler
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            reason = brief(error)
    what = f"holds a profile of the training rows that cannot be read: {reason}"
    raise BundleError(what, where=CARD, remedy=REMEDY)


def _reason_against(task: str, profile: Mapping[str, Any]) -> str:
    """Return what is wrong with a profile, and where in it; "" if nothing is."""
    try:
        _Inputs.model_validate(profile)
        if "predictions" in profile:
            feedback = evaluator(task).feedback
            feedback.Profile.model_validate(profile["predictions"])
            _Predictions.model_validate(profile["predictions"], context=feedback.features)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(part)[:_LONGEST_NAME] for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        return log_line(f"{path}: {message}".removeprefix(": ")[:_LONGEST_REASON])
    return ""
