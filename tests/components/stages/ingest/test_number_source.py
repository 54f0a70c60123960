"""A target that is a number goes through ingest, and nothing asks for classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import BaseModel

from components.core.errors import InputError, ParamsError
from components.core.params import validate
from components.core.tables import read_manifest
from components.fields.number import Number
from components.fields.text import Text
from components.stages.ingest.columns import layout
from components.stages.ingest.params import IngestParams
from components.stages.ingest.sample import read_sample, scan_columns
from components.tasks import base
from components.tasks.base import FixedInputs, Role, TargetWords
from tests.components.stages.ingest.conftest import Ingest, Section


class NumberTargets:
    """Rules for numbers: their count and range, and a remark about missing ones."""

    words = TargetWords()
    remedies: Mapping[str, str] = {}

    def value_map(self, options: BaseModel) -> None:
        """Return None: numbers stay as they are."""

    def describe_source(
        self, values: pa.ChunkedArray, column: str, path: str
    ) -> Mapping[str, Mapping[str, float]]:
        """Return the number of values and their range."""
        if values.null_count == len(values):
            raise InputError("has no number", where=path, remedy=f"set ingest.columns.{column}")
        limits = pc.min_max(values).as_py()
        return {"values": {"count": len(values) - values.null_count, **limits}}

    def count_source(self, description: Mapping[str, Any]) -> Mapping[str, int]:
        """Return the number of values."""
        return {"values": description["values"]["count"]}

    def source_notes(self, values: pa.ChunkedArray) -> Sequence[str]:
        """Return a remark about missing numbers."""
        return [f"{values.null_count} rows have no number"] if values.null_count else []


class Schema(FixedInputs):
    """Texts and their prices."""

    roles = (
        Role("text", Text(), "input"),
        Role("price", Number(), "target"),
    )
    targets = NumberTargets()


@pytest.fixture(autouse=True)
def prices(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the tasks of `ingest`, which therefore comes first."""
    monkeypatch.setattr(base, "schema", lambda name: Schema())


def files(path: str) -> dict[str, Any]:
    """Return a `files` source."""
    return {"kind": "files", "path": path}


TABLE = "text,price\none,3.5\ntwo,-2\nthree,\nfour,nan\nfive,cheap\n"


def test_numbers_are_typed_and_described(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.csv").write_text(TABLE)
    result = ingest(source=files("a.csv"))
    assert [row["price"] for row in result.rows] == [3.5, -2.0, None, None]
    assert result.quarantine == [("a.csv:6", "price_not_a_number")]
    description = {"count": 2, "min": -2.0, "max": 3.5}
    assert read_manifest(result.root / "raw")["values"] == description
    report = json.loads((result.root / "report.json").read_text())
    assert report == {"files": 1, "quarantined": 1, "rows": 4, "values": 2}
    assert "2 rows have no number" in result.notes


def test_one_number_is_enough(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.csv").write_text("text,price\none,3\ntwo,3\n")
    assert [row["price"] for row in ingest(source=files("a.csv")).rows] == [3.0, 3.0]


def test_rules_of_the_task_refuse_a_source(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.csv").write_text("text,price\none,\ntwo,\n")
    with pytest.raises(InputError, match="has no number"):
        ingest(source=files("a.csv"))


def test_a_folder_may_hold_the_rows_of_one_number(tmp_path: Path, ingest: Ingest) -> None:
    for number in ("1.5", "20"):
        (tmp_path / "d" / number).mkdir(parents=True)
        (tmp_path / "d" / number / "a.txt").write_text(f"text of {number}")
    rows = ingest(source=files("d")).rows
    assert [(row["text"], row["price"]) for row in rows] == [
        ("text of 1.5", 1.5),
        ("text of 20", 20.0),
    ]


def test_a_sample_holds_numbers_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TABLE)
    params = Section.model_validate({"source": files("a.csv")})
    columns = scan_columns(params.source, tmp_path, Schema())  # type: ignore[arg-type]
    assert not columns.columns["price"].is_numeric and columns.columns["price"].filled == 3
    sample = read_sample(params, Schema(), tmp_path)  # type: ignore[arg-type]
    assert sample.targets == {3.5: 1, -2.0: 1} and sample.without_target == 2
    assert "2 rows have no number" in sample.notes


def test_messages_name_no_classes(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "d").mkdir()
    for number in range(20):
        (tmp_path / "d" / f"{number}.txt").write_text("some text")
    with pytest.raises(InputError) as refusal:
        ingest(source=files("d"))
    assert refusal.value.what == (
        "has 20 texts whose names are numbers, and nothing says their values"
    )
    assert "a folder for each value, or name them after it" in str(refusal.value)


def test_files_in_no_folder_have_no_value(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "d").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "d" / name).write_text("some text")
    with pytest.raises(InputError, match=r"in_no_value_folder \(2\)") as refusal:
        ingest(source={**files("d"), "format": "folders"})
    assert "put a table beside them that lists file and value" in str(refusal.value)


def test_a_table_in_a_package_is_read(
    tmp_path: Path, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('the package is not imported')")
    (package / "prices.csv").write_text('text,price\none,"1,234.5"\ntwo,12%\n')
    (tmp_path / "c.txt").write_text("x")
    monkeypatch.syspath_prepend(str(tmp_path))
    source = {"kind": "package", "path": "c.txt", "package": "shop"}
    result = ingest(source={**source, "table": "prices.csv"})
    assert [row["price"] for row in result.rows] == [1234.5, 0.12]
    with pytest.raises(InputError, match=r"did you mean 'prices\.csv'"):
        ingest(source={**source, "table": "price.csv"})
    with pytest.raises(InputError, match=r"'__init__\.py' is no table"):
        ingest(source={**source, "table": "__init__.py"})


def test_a_package_has_files_or_a_table() -> None:
    section = {"source": {"kind": "package", "path": "c", "package": "p"}}
    with pytest.raises(ParamsError, match="takes one of files and table"):
        validate(IngestParams, section, "params.yaml")


def test_the_time_of_a_row_is_read_where_params_name_its_column(
    tmp_path: Path, ingest: Ingest
) -> None:
    (tmp_path / "a.csv").write_text(
        "text,price,day\none,1,02/01/2020\ntwo,2,\nthree,3,soon\nfour,4,03/01/2020\n"
    )
    result = ingest(source=files("a.csv"), columns={"time": "day"}, time_order="dmy")
    assert [row["time"] for row in result.rows] == [1577923200.0, None, 1578009600.0]
    assert [reason for _, reason in result.quarantine] == ["time_not_a_date"]
    plain = ingest(source=files("a.csv"), out="plain")
    assert "time" not in plain.rows[0]


def test_a_number_of_too_many_digits_is_refused(tmp_path: Path, ingest: Ingest) -> None:
    huge = "1" + "0" * 400
    (tmp_path / "a.jsonl").write_text(
        f'{{"text": "a", "price": {huge}}}\n{{"text": "b", "price": 2}}\n'
    )
    result = ingest(source=files("a.jsonl"))
    assert [row["price"] for row in result.rows] == [2.0]
    assert [reason for _, reason in result.quarantine] == ["price_not_finite"]


def test_a_column_of_an_input_is_no_group_unless_it_is_named_so() -> None:
    roles = (Role("team", Text(), "input"), Role("price", Number(), "target"))
    record = {"group": "a", "price": 1.0}
    row = layout(roles, {"team": "group"}, None).row(record)
    assert (row["team"], row["group"]) == ("a", None)
    row = layout(roles, {"team": "group", "group": "group"}, None).row(record)
    assert (row["team"], row["group"]) == ("a", "a")
