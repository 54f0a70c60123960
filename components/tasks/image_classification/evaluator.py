"""Evaluate image classification: the query is an image, the answer a class."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from components.fields.base import Reject
from components.fields.image import Image, declared_size
from components.tasks.base import Case, PartImportance
from components.tasks.image_classification.heat_maps import (
    cell_numbers,
    cells,
    heat_map,
    mean_heat_map,
    without_cells,
)
from components.tasks.image_classification.picture_noise import PICTURE_NOISE
from components.tasks.shared.evaluator.classification.evaluator import ClassificationEvaluator

# The characters of 100 MB in base64. Clients of a service are held to serve.limits.
_LONGEST = 134_000_000
_NUMBER = re.compile(r"\d+")


class Query(BaseModel):
    """A picture to classify: the bytes of a PNG, JPEG, WebP, BMP, TIFF or GIF in base64."""

    model_config = ConfigDict(extra="forbid", strict=True)
    image: Annotated[
        str,
        Field(
            min_length=1,
            max_length=_LONGEST,
            json_schema_extra={"contentEncoding": "base64", "contentMediaType": "image/png"},
        ),
    ]

    @field_validator("image")
    @classmethod
    def _within_limits(cls, value: str, info: ValidationInfo) -> str:
        """Refuse a client's image of more pixels than the service takes, before it is decoded."""
        limit = (info.context or {}).get("pixels")
        if limit is None:
            return value
        try:
            width, height = declared_size(base64.b64decode(value, validate=True))
        except (Reject, ValueError):
            # Content that is no image is refused with its own reason when it is read.
            return value
        if width * height > limit:
            raise ValueError(f"a picture of {width} x {height} has more than {limit:,} pixels")
        return value


class ImageEvaluator(ClassificationEvaluator):
    """Facet evaluator.py."""

    Query = Query
    query_changes = PICTURE_NOISE

    def query(self, row: Mapping[str, Any]) -> BaseModel:
        """Return the query of a row: its image."""
        return Query(image=base64.b64encode(row["image"]).decode())

    def read(self, argument: str) -> BaseModel:
        """Return the query of an argument, which is the path of an image."""
        return Query(image=base64.b64encode(Path(argument).read_bytes()).decode())

    def columns(self, queries: Sequence[Any]) -> Mapping[str, Sequence[Any]]:
        """Return the bytes of the queries' images.

        Raises:
            Reject: an image is not base64.
        """
        try:
            return {"image": [base64.b64decode(query.image, validate=True) for query in queries]}
        except ValueError:
            # This is binascii.Error, or the error for text outside ASCII.
            raise Reject("not_base64") from None

    def show(self, case: Case[Any]) -> str:
        """Return the image as an HTML <img>."""
        return Image().show(base64.b64decode(case.query.image))

    def report_parts(self, query: Any, limit: int) -> Sequence[str]:
        """Return the names of the cells of the picture, row by row."""
        width, height = declared_size(base64.b64decode(query.image))
        count = cells((height, width), limit)
        places = product(range(1, count + 1), repeat=2)
        return [f"row {row}, column {column}" for row, column in places]

    def without_parts(
        self, query: Any, parts: Sequence[str], indices: Collection[int]
    ) -> BaseModel:
        """Return the picture with its mean color in the cells at some indices."""
        image = without_cells(base64.b64decode(query.image), math.isqrt(len(parts)), indices)
        return Query(image=base64.b64encode(image).decode())

    def part_weights(
        self,
        query: Any,  # noqa: ARG002
        parts: Sequence[str],
        elements: NDArray[np.float64],
    ) -> Sequence[float]:
        """Return the sum of the contributions of each cell's pixels.

        Args:
            query: not used.
            parts: the cells.
            elements: (height, width) of the pixels.
        """
        height, width = elements.shape
        numbers = cell_numbers((height, width), math.isqrt(len(parts)))
        sums: list[float] = np.bincount(numbers.ravel(), elements.ravel(), len(parts)).tolist()
        return sums

    def part_names(self, query: Any, parts: Sequence[str]) -> Sequence[str]:  # noqa: ARG002
        """Return the names of the cells."""
        return parts

    def show_parts(
        self,
        case: Case[Any],
        parts: Sequence[str],  # noqa: ARG002
        weights: Sequence[float],
    ) -> str:
        """Return the picture and its heat map, as HTML."""
        return heat_map(base64.b64decode(case.query.image), weights)

    def show_importance(self, importances: Sequence[PartImportance]) -> str:
        """Return the mean heat map of the cells."""
        sizes = {}
        for item in importances:
            row, column = map(int, _NUMBER.findall(item.name))
            sizes[row - 1, column - 1] = item.size
        count = 1 + max(max(place) for place in sizes)
        weights = np.zeros((count, count))
        for place, size in sizes.items():
            weights[place] = size
        return mean_heat_map(weights)


EVALUATOR = ImageEvaluator()
