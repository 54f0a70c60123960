"""Queries to columns: what is no picture is rejected, not a crash."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from mill import IMAGE, TEXT, pictures
from pydantic import ValidationError

from components.fields.base import Reject
from components.tasks import base


@pytest.mark.parametrize("image", ["no base64!", "很好", "é", "abc"])
def test_what_is_no_base64_is_rejected(image: str) -> None:
    judge = base.judge(IMAGE)
    with pytest.raises(Reject) as caught:
        judge.columns([judge.Query(image=image)])
    assert caught.value.reason == "not_base64"


def test_pictures_and_files_are_asked_as_bytes(tmp_path: Path) -> None:
    judge, image = base.judge(IMAGE), pictures(1)[0]["image"]
    (tmp_path / "图 1.png").write_bytes(image)
    asked = [judge.Query(image=base64.b64encode(image).decode()), judge.read(str(tmp_path / "图 1.png"))]
    assert judge.columns(asked) == {"image": [image, image]}


@pytest.mark.parametrize("query", [{}, {"text": ""}, {"text": 3}, {"text": "a", "more": 1}, {"text": "\ud800"}, {"text": "a" * 100_001}])
def test_queries_are_strict(query: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        base.judge(TEXT).Query.model_validate(query)
