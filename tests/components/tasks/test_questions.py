"""Queries to columns: what is no picture is rejected, not a crash."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from stage_runner import IMAGE, TEXT, pictures, png

from components.fields.base import Reject
from components.tasks import base


@pytest.mark.parametrize("image", ["no base64!", "很好", "é", "abc"])
def test_what_is_no_base64_is_rejected(image: str) -> None:
    evaluator = base.evaluator(IMAGE)
    with pytest.raises(Reject) as caught:
        evaluator.columns([evaluator.Query(image=image)])
    assert caught.value.reason == "not_base64"


def test_pictures_and_files_are_asked_as_bytes(tmp_path: Path) -> None:
    evaluator, image = base.evaluator(IMAGE), pictures(1)[0]["image"]
    (tmp_path / "图 1.png").write_bytes(image)
    asked = [
        evaluator.Query(image=base64.b64encode(image).decode()),
        evaluator.read(str(tmp_path / "图 1.png")),
    ]
    assert evaluator.columns(asked) == {"image": [image, image]}


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"text": ""},
        {"text": 3},
        {"text": "a", "more": 1},
        {"text": "\ud800"},
        {"text": "a" * 100_001},
    ],
)
def test_queries_are_strict(query: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        base.evaluator(TEXT).Query.model_validate(query)


def test_the_limit_of_pixels_holds_for_clients_alone() -> None:
    """A photo is read where no service is: in training, by predict, by batch scoring."""
    query = base.evaluator(IMAGE).Query
    photo = {"image": base64.b64encode(png(np.zeros((60, 50), np.uint8))).decode()}
    assert query.model_validate(photo)
    assert query.model_validate(photo, context={"pixels": 3_000})
    with pytest.raises(ValidationError, match=r"50 x 60 has more than 2,999 pixels"):
        query.model_validate(photo, context={"pixels": 2_999})
    for other in ("no base64!", base64.b64encode(b"no picture").decode()):
        assert query.model_validate({"image": other}, context={"pixels": 10})


def test_a_photo_of_a_camera_is_asked_from_its_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1400, 3), dtype=np.uint8)
    content = png(noise, "JPEG")
    assert len(content) > 1_000_000
    (tmp_path / "photo.JPG").write_bytes(content)
    evaluator = base.evaluator(IMAGE)
    assert evaluator.columns([evaluator.read(str(tmp_path / "photo.JPG"))]) == {"image": [content]}
