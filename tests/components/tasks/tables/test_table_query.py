"""A query of a table is one row: values of any kind by the name of the column."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from pydantic import TypeAdapter, ValidationError
from table_samples import diamonds, fitted

from components.fields.base import Reject
from components.serving.http.messages import limited, mistakes, request_type
from components.tasks.base import evaluator
from components.tasks.shared.evaluator.tables.query import Query, columns_of
from components.tasks.shared.evaluator.tables.row_queries import RowQueries
from components.tasks.shared.schema.tables.kinds import inputs_json, parse_inputs

ROW = {"carat": 0.5, "depth": None, "cut": "Ideal", "sold": "3.2.2024"}


def ask(**changes: Any) -> Query:
    return Query.model_validate({**ROW, **changes})


def test_a_query_is_a_plain_object_of_values() -> None:
    text = '{"a": 1, "b": 1.0, "c": true, "d": "1", "e": null}'
    query = Query.model_validate_json(text)
    assert [type(value) for value in query.root.values()] == [int, float, bool, str, type(None)]
    assert json.loads(query.model_dump_json()) == json.loads(text)


@pytest.mark.parametrize(
    "value",
    [
        [1],
        {"a": 1},
        float("nan"),
        float("inf"),
        10**400,
        "x" * 20_001,
        "a\ud800",
        b"a",
    ],
)
def test_nested_infinite_and_long_values_are_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        ask(carat=value)


@pytest.mark.parametrize("text", ["[]", "1", '"a"', "null", '{"a": NaN}', '{"a": 1e999}'])
def test_what_is_no_row_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Query.model_validate_json(text)


def test_names_are_short_and_not_too_many() -> None:
    with pytest.raises(ValidationError):
        Query.model_validate({"x" * 201: 1})
    with pytest.raises(ValidationError):
        Query.model_validate({"x\ud800": 1})
    with pytest.raises(ValidationError):
        Query.model_validate({str(number): 1 for number in range(10_001)})
    Query.model_validate({str(number): 1 for number in range(5_000)})


def test_queries_become_columns_in_any_order() -> None:
    other = Query.model_validate(dict(reversed(ROW.items())))
    assert columns_of([ask(), other]) == {name: [value] * 2 for name, value in ROW.items()}


def test_queries_of_one_call_have_the_same_columns() -> None:
    with pytest.raises(Reject) as caught:
        columns_of([ask(), ask(color="E")])
    assert caught.value.reason == "different_columns"
    assert caught.value.detail == "row 2 has a column 'color', and row 1 has none"
    fewer = Query.model_validate({name: ROW[name] for name in ("carat", "cut", "sold")})
    with pytest.raises(Reject) as caught:
        columns_of([ask(), ask(), fewer])
    assert caught.value.detail == "row 3 has no column 'depth', and row 1 has one"
    with pytest.raises(Reject) as caught:
        columns_of([Query({})])
    assert caught.value.reason == "no_columns"


def test_a_clean_row_as_a_query_gives_the_features_of_training() -> None:
    rows = diamonds(200)
    encoder = fitted(rows)
    asked = RowQueries()
    queries = [asked.query(row) for row in rows.drop(["price"]).to_pylist()]
    sent = [Query.model_validate_json(query.model_dump_json()) for query in queries]
    features = encoder.collate(encoder.rows(columns_of(sent)))["features"]
    assert features.tolist() == encoder.encode(rows)["features"].to_pylist()


def test_the_characters_of_a_row_are_limited_together() -> None:
    query = limited(Query, 10)
    body: TypeAdapter[Any] = TypeAdapter(request_type(query, 4))
    fits = {"a": "x" * 6, "b": "y" * 4, "c": 123456, "d": None}
    assert body.validate_python({"inputs": [fits]}).inputs[0].root == fits
    with pytest.raises(ValidationError) as caught:
        body.validate_python({"inputs": [fits, {**fits, "b": "y" * 5}]})
    assert mistakes(caught.value.errors()) == [
        {
            "loc": ["body", "inputs", 1],
            "msg": "Values should have at most 10 characters together",
        }
    ]
    assert limited(Query, 10, of_all=11).model_validate({**fits, "b": "y" * 5})


@pytest.mark.parametrize("name", ["class", "from", "class: a"])
def test_a_column_does_not_hide_a_slice_of_the_task(name: str) -> None:
    rows = pa.table(
        {
            "id": ["feedback-1", *(str(number) for number in range(59))],
            name: ["feedback", "source"] * 30,
            "other": ["a", "b"] * 30,
            "label": ["good", "bad"] * 30,
            "target": [1.0, 2.0] * 30,
        }
    )
    for task in ("tabular_classification", "tabular_regression"):
        cases = list(evaluator(task).cases(rows))
        assert [case.slices["from"] for case in cases] == ["feedback", *["source"] * 59]
        assert cases[1].slices.get("class", "bad") == "bad"
        assert cases[0].slices[f"column {name}"] == "feedback"
        assert cases[0].slices["other"] == "a"
        assert cases[0].query.root[name] == "feedback"


def test_the_service_takes_one_query_or_several() -> None:
    query = limited(Query, 4000)
    body: TypeAdapter[Any] = TypeAdapter(request_type(query, 4))
    assert body.validate_python(ROW).root == ROW
    many = body.validate_python({"inputs": [ROW, ROW]})
    assert [item.root for item in many.inputs] == [ROW, ROW]
    for wrong in ({"inputs": [ROW, {"carat": [1]}]}, {"carat": {}}, [ROW], {"inputs": []}):
        with pytest.raises(ValidationError):
            body.validate_python(wrong)
    assert query.model_json_schema()["type"] == "object"


def test_the_schema_tells_a_text_by_its_limit() -> None:
    inputs = {"note": "text", "cut": "category", "carat": "number"}
    schema = RowQueries().query_schema({"inputs": inputs_json(parse_inputs(inputs))})
    limits = {}
    for name, column in schema["properties"].items():
        limits[name] = [choice.get("maxLength") for choice in column["anyOf"]]
    assert limits == {"note": [20_000, None], "cut": [None, None], "carat": [None, None, None]}
    assert schema["properties"]["carat"]["anyOf"][0] == {"type": "number"}


@pytest.mark.parametrize("task", ["tabular_classification", "tabular_regression"])
def test_texts_have_no_slices_however_few_they_are(task: str) -> None:
    rows = pa.table(
        {
            "id": [str(number) for number in range(60)],
            "note": ["too small", "as described"] * 30,
            "cut": ["Ideal", "Fair"] * 30,
            "label": ["good", "bad"] * 30,
            "target": [1.0, 2.0] * 30,
        }
    )
    inputs = inputs_json(parse_inputs({"note": "text", "cut": "category"}))
    for case in evaluator(task).cases(rows, inputs):
        assert case.slices["cut"] in ("Ideal", "Fair")
        assert "note" not in case.slices


def test_the_schema_states_the_unit_of_a_number() -> None:
    inputs = inputs_json(parse_inputs({"weight": {"kind": "number", "unit": "kg"}}))
    schema = RowQueries().query_schema({"inputs": inputs})
    assert schema["properties"]["weight"]["title"] == "weight (kg)"
