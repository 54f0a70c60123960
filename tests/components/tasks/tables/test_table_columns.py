"""Columns of a table become numbers and indices of categories, whatever is in them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from table_samples import CUTS, KINDS, START, diamonds

from components.fields.base import Reject
from components.fields.moment import moment_text, parse_moment
from components.tasks.shared.encode.tables.table_columns import (
    ColumnsMetadata,
    InputInfo,
    TableColumns,
)
from components.tasks.shared.schema.tables.kinds import Input, parse_inputs

ROW: dict[str, list[Any]] = {
    "carat": [0.5],
    "depth": [61.5],
    "cut": ["Ideal"],
    "sold": ["03/02/2024 06:00"],
}


@pytest.fixture(scope="module")
def columns() -> TableColumns:
    return TableColumns.fit(diamonds(500), KINDS)


def one(kind: str, values: list[Any], kind_of_array: pa.DataType) -> tuple[TableColumns, pa.Table]:
    """Return a table of one column "x" and its columns."""
    inputs: dict[str, Input] = parse_inputs({"x": kind})
    table = pa.table({"x": pa.array(values, kind_of_array)})
    return TableColumns.fit(table, inputs), table


def read_back(columns: TableColumns) -> TableColumns:
    """Return columns from their metadata and files."""
    return TableColumns.of(ColumnsMetadata.model_validate(columns.metadata()), columns.files())


def test_numbers_stay_and_categories_have_indices_from_the_most_frequent(
    columns: TableColumns,
) -> None:
    rows = diamonds(500)
    numbers, categories = columns.matrix(rows)
    assert list(columns.numbers[:3]) == ["carat", "depth", "sold.age"]
    assert columns.categories == ["cut"]
    assert columns.sizes == [1 + len(CUTS)]
    np.testing.assert_array_equal(numbers[:, 0], rows["carat"].to_numpy())
    np.testing.assert_array_equal(np.isnan(numbers[:, 1]), rows["depth"].is_null().to_numpy())
    assert categories[:, 0].tolist() == [1 + CUTS.index(cut) for cut in rows["cut"].to_pylist()]


def test_values_of_a_client_give_the_same_as_the_clean_table(columns: TableColumns) -> None:
    rows = diamonds(500)
    lists = columns.normalize({name: rows[name].to_pylist() for name in reversed(KINDS)})
    for one_matrix, other in zip(columns.matrix(lists), columns.matrix(rows), strict=True):
        np.testing.assert_array_equal(one_matrix, other)


def test_a_moment_becomes_its_age_its_year_and_cycles(columns: TableColumns) -> None:
    numbers, _ = columns.matrix(columns.normalize(ROW))
    moment = dict(zip(columns.numbers, numbers[0].tolist(), strict=True))
    # A Saturday in February, at six o'clock.
    assert moment["sold.year"] == 2024
    assert moment["sold.month_sin"] == pytest.approx(np.sin(2 * np.pi / 12))
    assert moment["sold.weekday_cos"] == pytest.approx(np.cos(2 * np.pi * 5 / 7))
    assert moment["sold.hour_sin"] == pytest.approx(1.0)
    first = parse_moment(min(diamonds(500)["sold"].to_pylist()))
    assert moment["sold.age"] == pytest.approx((1_706_940_000 - first) / 86_400)


def test_moments_are_texts_of_a_table_or_of_queries(columns: TableColumns) -> None:
    rows = diamonds(500)
    texts = ["1969-12-31 23:59:58.500000", None, *rows["sold"].to_pylist()[2:]]
    numbers, _ = columns.matrix({**rows.to_pydict(), "sold": texts})
    sold = rows.column_names.index("sold")
    table = rows.set_column(sold, "sold", pa.array(texts, pa.string()))
    np.testing.assert_array_equal(columns.matrix(table)[0], numbers)
    age = numbers[:, columns.numbers.index("sold.age")]
    first = parse_moment(min(diamonds(500)["sold"].to_pylist()))
    assert age[0] == pytest.approx((-1.5 - first) / 86_400)
    assert np.isnan(age[1])


def test_constant_parts_of_moments_are_left_out() -> None:
    days = [START + 86_400 * day for day in range(20)]
    columns, table = one("time", [moment_text(day) for day in days], pa.string())
    assert columns.numbers == ["x.age", "x.weekday_sin", "x.weekday_cos"]
    columns, table = one("time", [moment_text(START)] * 5, pa.string())
    assert columns.numbers == ["x.age"]
    assert columns.matrix(table)[0].tolist() == [[0.0]] * 5


def test_the_future_and_absurd_moments_are_read(columns: TableColumns) -> None:
    future = columns.normalize({**ROW, "sold": ["31/12/9999 23:59:59"]})
    assert np.isfinite(columns.matrix(future)[0]).all()
    past = columns.normalize({**ROW, "sold": ["01/01/0001"]})
    assert np.isfinite(columns.matrix(past)[0]).all()


def test_rare_and_unknown_values_share_an_index() -> None:
    values = ["a"] * 50 + ["b"] * 20 + ["c", "d", None]
    columns, table = one("category", values, pa.string())
    assert columns.sizes == [4]
    assert columns.matrix(table)[1][:, 0].tolist() == [1] * 50 + [2] * 20 + [3, 3, 0]
    assert columns.matrix({"x": ["e", "b", None]})[1][:, 0].tolist() == [3, 2, 0]


def test_without_rare_values_an_unknown_one_counts_as_missing() -> None:
    columns, _ = one("category", ["a", "b"] * 5, pa.string())
    assert columns.sizes == [3]
    assert columns.matrix({"x": ["c", "b"]})[1][:, 0].tolist() == [0, 2]


def test_a_column_of_many_values_keeps_the_most_frequent_ones() -> None:
    values = [str(number) for number in range(5000) for _ in range(10)] + ["often"] * 20
    columns, _ = one("category", values, pa.string())
    assert columns.sizes == [1002]
    assert columns.matrix({"x": ["often"]})[1].tolist() == [[1]]


@pytest.mark.parametrize("kind", ["number", "category", "time"])
def test_a_column_without_any_value_is_read(kind: str) -> None:
    columns, table = one(kind, [None] * 10, pa.null())
    numbers, categories = columns.matrix(table)
    assert np.isnan(numbers).all()
    assert (categories == 0).all()
    assert numbers.shape[1] + categories.shape[1] == 1
    assert columns.fields() == [InputInfo("x", kind)]  # type: ignore[arg-type]
    again = read_back(columns)
    assert again.metadata() == columns.metadata()


def test_ten_rows_are_enough() -> None:
    rows = diamonds(10)
    columns = TableColumns.fit(rows, KINDS)
    numbers, categories = columns.matrix(rows)
    assert numbers.shape == (10, len(columns.numbers))
    assert (categories < columns.sizes).all()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("carat", "two", "carat_not_a_number"),
        ("carat", "0,5", "carat_not_a_number"),
        ("carat", float("inf"), "carat_not_finite"),
        ("carat", "1e999", "carat_not_finite"),
        ("carat", 10**400, "carat_not_finite"),
        ("carat", ["0.5"], "carat_not_a_number"),
        ("cut", {"name": "Ideal"}, "cut_not_a_name"),
        ("cut", ["Ideal"], "cut_not_a_name"),
        ("cut", "x" * 1001, "cut_too_long"),
        ("sold", "soon", "sold_not_a_date"),
        ("sold", True, "sold_not_a_date"),
        ("sold", 10**400, "sold_not_finite"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_the_name_of_its_column(
    columns: TableColumns, name: str, value: Any, reason: str
) -> None:
    with pytest.raises(Reject) as caught:
        columns.normalize({**ROW, name: [value]})
    assert caught.value.reason == reason
    assert caught.value.detail.startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("carat", "1,234.5", 1234.5),
        ("carat", "$ 2,000", 2000.0),
        ("carat", "12%", 0.12),
        ("carat", 3, 3.0),
        ("carat", True, 1.0),
        ("carat", "n/a", None),
        ("carat", float("nan"), None),
        ("depth", "61,5", 61.5),
        ("depth", "1.234,5 €", 1234.5),
        ("cut", "  Ideal ", "Ideal"),
        ("cut", 7, "7"),
        ("cut", 7.0, "7"),
        ("cut", False, "false"),
        ("cut", "", None),
        ("sold", "2024-02-03T06:00", "2024-02-03 06:00:00"),
        ("sold", 45_325.25, "2024-02-03 06:00:00"),
        ("sold", None, None),
    ],
)
def test_values_are_read_as_clean_reads_them(
    columns: TableColumns, name: str, value: Any, expected: Any
) -> None:
    (normal,) = columns.normalize({**ROW, name: [value]})[name]
    assert normal == expected
    assert type(normal) is type(expected)


def test_missing_renamed_and_unknown_columns_are_refused(columns: TableColumns) -> None:
    absent = {name: values for name, values in ROW.items() if name != "carat"}
    with pytest.raises(Reject) as caught:
        columns.normalize(absent)
    assert caught.value.reason == "carat_is_missing"
    assert caught.value.detail == "no column 'carat'; null works for a value that is not known"
    assert len(columns.normalize({**absent, "carat": [None]})["carat"]) == 1
    with pytest.raises(Reject) as caught:
        columns.normalize({**absent, "Carats": [0.5]})
    assert caught.value.reason == "carat_is_missing"
    assert "did you mean 'Carats'" in caught.value.detail
    with pytest.raises(Reject) as caught:
        columns.normalize({**ROW, "cuts": ["x"]})
    assert caught.value.reason == "unknown_column"
    assert "did you mean 'cut'" in caught.value.detail


def test_thousands_of_unknown_columns_are_refused_at_once(columns: TableColumns) -> None:
    many = {f"{number:0200d}": [None] for number in range(10_000)}
    start = time.perf_counter()
    for sent in (many, {**ROW, **many}):
        with pytest.raises(Reject) as caught:
            columns.normalize(sent)
        assert len(caught.value.detail) < 300
    assert time.perf_counter() - start < 2


def test_a_form_gets_choices_an_example_and_ranges(columns: TableColumns) -> None:
    carat, _, cut, sold = columns.fields()
    values = np.sort(diamonds(500)["carat"].to_numpy())
    assert (carat.kind, carat.low, carat.high) == ("number", values[0], values[-1])
    assert carat.example == values[249]
    assert (cut.kind, cut.choices, cut.example) == ("category", tuple(CUTS), "Ideal")
    assert sold.kind == "time"
    normal = columns.normalize({**ROW, "sold": [sold.low]})
    assert normal["sold"] == [min(diamonds(500)["sold"].to_pylist())]


def test_5000_columns_are_read_in_seconds() -> None:
    rng = np.random.default_rng(0)
    inputs = parse_inputs({f"n{number}": "number" for number in range(5000)})
    table = pa.table({name: rng.normal(size=30) for name in inputs})
    start = time.perf_counter()
    columns = TableColumns.fit(table, inputs)
    numbers, categories = columns.matrix(table)
    assert numbers.shape == (30, 5000)
    assert categories.shape == (30, 0)
    assert read_back(columns).numbers == columns.numbers
    assert time.perf_counter() - start < 20


def spoil(metadata: dict[str, Any], what: str) -> None:
    """Change metadata so that they are invalid."""
    carat, _, cut, sold = metadata["columns"]
    changes: dict[str, Any] = {
        "no columns": lambda: metadata.update(columns=[]),
        "twice": lambda: metadata["columns"].append(carat),
        "infinite": lambda: carat["fitted"].update(low=float("inf")),
        "text": lambda: carat["fitted"].update(median="1"),
        "other kind": lambda: carat.update(fitted=cut["fitted"]),
        "value twice": lambda: cut["fitted"].update(values=["a", "a"]),
        "many values": lambda: cut["fitted"].update(values=[str(n) for n in range(1001)]),
        "value of another type": lambda: cut["fitted"].update(values=[1]),
        "part twice": lambda: sold["fitted"].update(parts=["year", "year"]),
        "part unknown": lambda: sold["fitted"].update(parts=["century"]),
        "reserved name": lambda: carat.update(name="label"),
        "more keys": lambda: carat.update(more=1),
    }
    changes[what]()


@pytest.mark.parametrize(
    "what",
    [
        "no columns",
        "twice",
        "infinite",
        "text",
        "other kind",
        "value twice",
        "many values",
        "value of another type",
        "part twice",
        "part unknown",
        "reserved name",
        "more keys",
    ],
)
def test_invalid_metadata_are_refused(columns: TableColumns, what: str) -> None:
    metadata = columns.metadata()
    spoil(metadata, what)
    with pytest.raises(ValidationError):
        ColumnsMetadata.model_validate(metadata)
