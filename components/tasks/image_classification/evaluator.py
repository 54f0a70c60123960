"""Evaluate image classification: the query is an image, the answer a class."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from components.fields.base import Reject
from components.fields.image import Image, declared_size
from components.tasks.base import Case
from components.tasks.shared.evaluator.classification.evaluator import ClassificationEvaluator

# The characters of 100 MB in base64. Clients of a service are held to serve.limits.
_LONGEST = 134_000_000


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


EVALUATOR = ImageEvaluator()
