"""The inputs of a pipeline: parsed from params and from JSON, in the order of the columns."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.core.files import to_json
from components.tasks.shared.schema.tables.category_value import CategoryValue
from components.tasks.shared.schema.tables.kinds import (
    CategoryInput,
    NumberInput,
    TimeInput,
    inputs_json,
    parse_inputs,
)


def test_kinds_are_names_or_mappings() -> None:
    inputs = parse_inputs({"b": "number", "a": {"kind": "time", "order": "dmy"}, "c": "category"})
    assert list(inputs) == ["b", "a", "c"]
    assert inputs["b"] == NumberInput()
    assert inputs["a"] == TimeInput(order="dmy")
    assert inputs["c"] == CategoryInput()


def test_json_keeps_the_order_of_the_columns() -> None:
    inputs = parse_inputs({"b": "number", "columns": "category", "a": "time"})
    read = parse_inputs(json.loads(to_json(inputs_json(inputs))))
    assert read == inputs
    assert list(read) == ["b", "columns", "a"]
    assert inputs_json({}) == {}


def test_only_an_input_with_a_unit_names_it() -> None:
    inputs = parse_inputs({"a": "number", "b": {"kind": "number", "unit": "kg"}})
    assert inputs_json(inputs)["columns"] == [
        {"name": "a", "kind": "number", "decimal": "."},
        {"name": "b", "kind": "number", "decimal": ".", "unit": "kg"},
    ]
    assert parse_inputs(inputs_json(inputs)) == inputs


@pytest.mark.parametrize(
    "tree",
    [
        {"a": "numbr"},
        {"a": {"kind": "number", "decimals": "."}},
        {"id": "number"},
        {"target": "number"},
        {" ": "number"},
        {"a\nb": "number"},
        {"x" * 201: "number"},
        {str(number): "number" for number in range(10_001)},
        {"columns": [{"name": "a", "kind": "number"}, {"name": "a", "kind": "category"}]},
        {"columns": [{"kind": "number"}]},
        {"columns": ["a"]},
        {"columns": [{"name": 1, "kind": "number"}]},
        {"columns": [{"name": "a"}]},
    ],
)
def test_what_is_no_input_is_refused(tree: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_inputs(tree)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (True, "true"),
        ("True", "true"),
        ("FALSE", "false"),
        (7, "7"),
        (7.0, "7"),
        ("7.0", "7"),
        (" 7 ", "7"),
        ("7.5", "7.5"),
        ("Truely", "Truely"),
        ("n/a", None),
        (float("nan"), None),
    ],
)
def test_a_category_has_one_name_in_each_format(value: Any, name: str | None) -> None:
    assert CategoryValue().normalize(value) == name
