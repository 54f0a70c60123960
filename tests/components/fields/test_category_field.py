"""A category is a name, shown as the source wrote it."""

from __future__ import annotations

import pytest

from components.fields.base import NoValue
from components.fields.category import Category


def test_white_space_goes_and_composed_forms_are_one() -> None:
    assert Category().clean(" 差评\n") == "差评"
    assert Category().clean("cafe\u0301") == Category().clean("café")
    assert Category().clean("Ｇood") == "Ｇood"


@pytest.mark.parametrize("value", [None, "", " \t", 3, float("nan")])
def test_no_name_is_missing(value: object) -> None:
    with pytest.raises(NoValue) as caught:
        Category().clean(value)
    assert caught.value.reason == "missing"


def test_names_are_escaped_and_have_no_near_duplicates() -> None:
    assert Category().show("<b>") == "&lt;b&gt;"
    assert Category().lsh_bands(["a"]) is None
    assert Category().similarities(["a", "b"], [(0, 0), (0, 1)]).tolist() == [1, 0]
