"""A picture is asked, a class is answered."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from components.fields.base import Reject
from components.fields.image import Image
from components.tasks.base import Case
from components.tasks.classification.judge import ClassificationJudge


class Query(BaseModel):
    """A picture to classify: the bytes of a PNG or JPEG in base64."""

    model_config = ConfigDict(extra="forbid", strict=True)
    image: Annotated[str, Field(min_length=1, max_length=1_000_000, json_schema_extra={"contentEncoding": "base64", "contentMediaType": "image/png"})]


class ImageJudge(ClassificationJudge):
    """Facet judge.py."""

    Query = Query

    def query(self, row: Mapping[str, Any]) -> BaseModel:
        """The picture of a row."""
        return Query(image=base64.b64encode(row["image"]).decode())

    def read(self, argument: str) -> BaseModel:
        """The argument is the path of a picture."""
        return Query(image=base64.b64encode(Path(argument).read_bytes()).decode())

    def columns(self, queries: Sequence[Any]) -> Mapping[str, Sequence[Any]]:
        """The pictures' bytes. Raises `Reject` for what is no base64."""
        try:
            return {"image": [base64.b64decode(query.image, validate=True) for query in queries]}
        except ValueError:  # binascii.Error, and what text outside ASCII raises
            raise Reject("not_base64") from None

    def show(self, case: Case[Any]) -> str:
        """An <img>."""
        return Image().show(base64.b64decode(case.query.image))


JUDGE = ImageJudge()
