"""The target of classification is a name; without one the reason and the param say so."""

from __future__ import annotations

import pytest

from components.fields.base import NoValue
from components.tasks import base
from components.tasks.shared.schema.classification.class_name import ClassName


@pytest.mark.parametrize("value", [None, "", " \t", 3, float("nan")])
def test_no_name_no_label(value: object) -> None:
    with pytest.raises(NoValue) as caught:
        ClassName().clean(value)
    assert caught.value.reason == "no_label"
    assert ClassName().knobs == {"no_label": "clean.unlabelled"}


@pytest.mark.parametrize("task", ["text_classification", "image_classification"])
def test_the_target_of_classification_is_a_class_name(task: str) -> None:
    fields = [role.field for role in base.schema(task).roles if role.role == "target"]
    assert [type(field) for field in fields] == [ClassName]
