"""What a profile in the card of a bundle may hold.

A card may come from anywhere, so all that monitoring reads of it is validated first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from components.core.cards import CARD, REMEDY
from components.core.errors import BundleError
from components.core.escaping import brief, log_line
from components.monitoring.profile import Profiler

# What a fact of a row is. A fact of another kind could not be compared with what requests show.
KINDS = {
    "brightness": "numbers",
    "contrast": "numbers",
    "embedding": "cloud",
    "length": "numbers",
    "rarity": "numbers",
    "script": "names",
    "unknown": "numbers",
    "value": "names",
    "words": "words",
}

# Far above what `profile_of` writes: hundreds of values, tens of directions.
_MOST_VALUES = 2000
_MOST_AXES = 64
_MOST_ROWS = 10**12
# Characters of a message, and of a name in it.
_LONGEST_REASON = 300
_LONGEST_NAME = 60
# Whole numbers up to it fit 64 bits; larger ones would make arrays of objects.
_LARGEST = 1e18

Rows = Annotated[int, Field(ge=1, le=_MOST_ROWS)]
Count = Annotated[int, Field(ge=0, le=_MOST_ROWS)]
Number = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]
Numbers = Annotated[list[Number], Field(min_length=1, max_length=_MOST_VALUES)]
Counts = Annotated[dict[str, Count], Field(max_length=_MOST_VALUES)]
Point = Annotated[list[Number], Field(min_length=1, max_length=_MOST_AXES)]


class _Part(BaseModel):
    # Keys of later versions are passed over.
    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore")


class _Numbers(_Part):
    """A distribution of numbers."""

    kind: Literal["numbers"]
    rows: Rows
    edges: Numbers
    below: Annotated[list[Count], Field(min_length=1, max_length=_MOST_VALUES)]

    @model_validator(mode="after")
    def _is_distribution(self) -> _Numbers:
        if len(self.edges) != len(self.below):
            raise ValueError("edges and below have different lengths")
        if self.edges != sorted(self.edges) or self.below != sorted(self.below):
            raise ValueError("edges and below must ascend")
        if self.below[-1] > self.rows:
            raise ValueError("below counts more than there are rows")
        return self


class _Names(_Part):
    """A distribution of names: of each row one."""

    kind: Literal["names"]
    rows: Rows
    counts: Counts

    @model_validator(mode="after")
    def _is_distribution(self) -> _Names:
        if sum(self.counts.values()) > self.rows:
            raise ValueError("counts add up to more than there are rows")
        return self


class _Words(_Part):
    """In how many rows words stand."""

    kind: Literal["words"]
    rows: Rows
    counts: Counts

    @model_validator(mode="after")
    def _is_distribution(self) -> _Words:
        if max(self.counts.values(), default=0) > self.rows:
            raise ValueError("a word is counted in more rows than there are")
        return self


class _Cloud(_Part):
    """Mean and covariance of points."""

    kind: Literal["cloud"]
    rows: Annotated[int, Field(ge=2, le=_MOST_ROWS)]
    mean: Point
    covariance: Annotated[list[Point], Field(min_length=1, max_length=_MOST_AXES)]

    @model_validator(mode="after")
    def _is_square(self) -> _Cloud:
        sizes = {len(self.mean), len(self.covariance), *map(len, self.covariance)}
        if len(sizes) > 1:
            raise ValueError("mean and covariance have different sizes")
        return self


_Field = Annotated[_Numbers | _Names | _Words | _Cloud, Field(discriminator="kind")]


class _Rarity(_Part):
    """How rare words are, by their hashes."""

    step: Annotated[float, Field(ge=0, le=1e6)]
    steps: str


class _Space(_Part):
    """Directions in which rows differ."""

    size: Annotated[int, Field(ge=1, le=_MOST_AXES)]
    axes: str


class _Predictions(_Part):
    """Answers to the validation split."""

    rows: Rows
    right: Count
    fields: dict[Literal["prediction.label", "prediction.probability"], _Field]

    @model_validator(mode="after")
    def _has_kinds(self) -> _Predictions:
        if self.right > self.rows:
            raise ValueError("more answers are right than there are")
        kinds = {"prediction.label": "names", "prediction.probability": "numbers"}
        for name, field in self.fields.items():
            if field.kind != kinds[name]:
                raise ValueError(f"{name} is of kind {field.kind}, not {kinds[name]}")
        return self


class _Inputs(_Part):
    """Training rows. The task validates `clean`, which is not named here."""

    fields: Annotated[dict[str, _Field], Field(max_length=_MOST_VALUES)] = {}
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
            cloud = self.fields.get(f"{column}.embedding")
            if isinstance(cloud, _Cloud) and len(cloud.mean) != space.size:
                raise ValueError(f"spaces: {column} and its embedding differ in size")
        return self


def profiler_of(task: str, profile: Mapping[str, Any]) -> Profiler:
    """Return the profiler of a bundle's card.

    Raises:
        BundleError: the profile is not one that `profile_of` makes.
    """
    reason = _reason_against(profile)
    if not reason:
        try:
            profiler = Profiler(task, profile)
            profiler.check()
            return profiler
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            reason = brief(error)
    what = f"holds a profile of the training rows that cannot be read: {reason}"
    raise BundleError(what, where=CARD, remedy=REMEDY)


def _reason_against(profile: Mapping[str, Any]) -> str:
    """Return what is wrong with a profile, and where in it; "" if nothing is."""
    try:
        _Inputs.model_validate(profile)
        if "predictions" in profile:
            _Predictions.model_validate(profile["predictions"])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(part)[:_LONGEST_NAME] for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        return log_line(f"{path}: {message}".removeprefix(": ")[:_LONGEST_REASON])
    return ""
