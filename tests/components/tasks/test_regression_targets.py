"""Numbers as targets: read from any source, described, refused where nothing can be learned."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from components.core.errors import InputError
from components.fields.base import NoValue, Reject
from components.tasks.shared.schema.regression.number_targets import NumberTargets
from components.tasks.shared.schema.regression.target_number import TargetNumber
from components.tasks.shared.schema.regression.target_params import NumberClean, NumberParams

RULES = NumberTargets()
CLEAN = NumberClean()


def column(*values: Any) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values)])


def test_the_target_of_a_row_is_there_and_finite() -> None:
    field = TargetNumber()
    assert field.clean("1,234.5") == 1234.5
    with pytest.raises(NoValue, match="no_number"):
        field.clean("n/a")
    with pytest.raises(Reject, match="not_finite"):
        field.clean(float("inf"))


@pytest.mark.parametrize(
    ("decimal", "text", "number"),
    [
        (".", "1,234.5", 1234.5),
        (",", "1.234,5", 1234.5),
        (",", "1.234", 1234.0),
        (".", "$3.20", 3.2),
        (".", "n/a", None),
    ],
)
def test_texts_become_numbers_whatever_the_type_of_the_column(
    decimal: Any, text: str, number: float | None
) -> None:
    texts = RULES.value_map(NumberParams(decimal=decimal))
    assert texts is not None
    assert texts.unwrap(text) == texts.unwrap([text]) == number
    if number is not None:
        # A column of texts holds what `unwrap` has read.
        assert float(texts.apply(str(number)) or "") == number
    json.dumps(texts.cache_key())


def test_values_that_are_no_number_are_refused_with_a_remedy() -> None:
    texts = RULES.value_map(NumberParams())
    assert texts is not None
    assert texts.unwrap(3) == 3 and texts.unwrap([]) is None
    for value in ("cheap", ["1", "2"]):
        with pytest.raises(Reject) as refusal:
            texts.unwrap(value)
        assert refusal.value.reason in RULES.remedies


@pytest.mark.parametrize("kind", [float, str])
def test_a_source_is_described(kind: Any) -> None:
    values = column(None, *(kind(number) for number in (3.5, -2.0, 7.0)))
    description = RULES.describe_source(values, "price", "a.csv")
    numbers = {"rows": 3, "missing": 1, "least": -2.0, "largest": 7.0}
    assert description == {"numbers": numbers}
    assert RULES.count_source(description) == {"numbers": 3}
    assert RULES.source_notes(values) == [
        "1 of 4 rows have no number: clean.unlabelled says what becomes of them"
    ]


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ([None, None], "has no row with a number among 2"),
        ([5.0, 5.0, None], "has in its 3 rows only the number 5.000: nothing can be learned"),
        ([float("nan"), float("inf")], "has no row with a number among 2"),
    ],
)
def test_a_source_without_different_numbers_is_refused(values: list[Any], what: str) -> None:
    with pytest.raises(InputError) as refusal:
        RULES.describe_source(column(pa.scalar(1.0).as_py(), *values)[1:], "price", "a.csv")
    assert refusal.value.what == what
    assert "ingest.columns.price" in refusal.value.remedy


def test_a_few_whole_numbers_may_be_names() -> None:
    (note,) = RULES.source_notes(column(*[0.0, 1.0, 2.0] * 50))
    assert note.startswith("the target has only 3 different numbers (0, 1, 2)")
    assert not RULES.source_notes(column(*[0.5, 1.0, 2.0] * 50))
    assert not RULES.source_notes(column(*[1.0, 2.0, 3.0]))


def test_a_number_that_most_rows_have_is_doubted() -> None:
    (doubt,) = RULES.doubts({-999.0: 60, 1.0: 20, 2.0: 20})
    assert doubt.startswith("60 of 100 rows have the number -999.0")
    assert not RULES.doubts({-999.0: 40, 1.0: 30, 2.0: 30})


def test_equal_inputs_may_have_different_numbers() -> None:
    assert RULES.conflicts(CLEAN) == "keep"
    assert RULES.conflicts(NumberClean(conflicts="drop")) == "drop"
    line = RULES.describe_conflicts([{1.0, 2.0}, {3.0, 900.0}], "a red one")
    assert line == (
        "with different numbers (such as 3.000 and 900.0; for example a red one): clean.conflicts"
    )


@pytest.mark.parametrize(
    ("targets", "what"),
    [
        ([1.0, 2.0] * 10, "20 rows are left after cleaning, fewer than 50\n     a cause"),
        ([4.0] * 60, "all rows have the number 4.000 after cleaning\n     a cause"),
        ([1e200, -1e200] * 30, "the numbers are too large"),
        ([1e-200, 2e-200] * 30, "the numbers are too large or too near"),
    ],
)
def test_rows_that_teach_nothing_are_refused(targets: list[float], what: str) -> None:
    with pytest.raises(InputError) as refusal:
        RULES.check(targets, CLEAN, ["a cause"])
    assert refusal.value.what.startswith(what)


def test_train_rows_with_one_number_are_refused() -> None:
    RULES.check([1.0, 2.0] * 30, CLEAN, [])
    RULES.check_train([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(InputError, match=r"the train rows have only the number 1\.000, of 3"):
        RULES.check_train([1.0, 1.0], [1.0, 2.0, 3.0])


def test_all_rows_are_one_stratum() -> None:
    assert set(RULES.strata([3.0, 1.0, 2.0])) == {"numbers"}
    assert "only 2 independent group(s)" in RULES.too_few_groups("numbers", 2).what


def test_the_manifest_tells_how_a_model_standardizes() -> None:
    train = [float(number) for number in range(100)]
    splits = {"train": train, "validation": [3.0, 1e6], "test": [5.0]}
    manifest = json.loads(json.dumps(RULES.describe(splits, {})))
    info = RULES.info(manifest)
    assert info == {
        "center": [49.5],
        "scale": [pytest.approx(np.std(train))],
        "range": [0.0, 99.0],
    }
    RULES.Info.model_validate(info)
    assert RULES.count(info) == {}
    for name, numbers in splits.items():
        described = manifest["splits"][name]
        assert described["rows"] == sum(described["counts"]) == len(numbers)
        assert described["mean"] == pytest.approx(np.mean(numbers))
    assert len(manifest["edges"]) == len(described["counts"]) + 1
    rows = pa.table({"target": train})
    assert RULES.select(rows, manifest, info) == rows


@pytest.mark.parametrize(
    "change",
    [
        {"scale": [0.0]},
        {"scale": [-1.0]},
        {"scale": [float("nan")]},
        {"center": [float("inf")]},
        {"center": []},
        {"center": ["1"]},
        {"range": [2.0, 1.0]},
        {"range": [1.0]},
        {"unit": ["m"]},
    ],
)
def test_a_hostile_card_is_refused(change: dict[str, Any]) -> None:
    good: dict[str, Any] = {"center": [1.0], "scale": [2], "range": [0.0, 3.0]}
    RULES.Info.model_validate(good)
    with pytest.raises(ValidationError):
        RULES.Info.model_validate(good | change)
