"""A target in text becomes a number by the decimal sign of the params, in any format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import create_model

from components.core.errors import InputError
from components.core.tables import read_manifest
from components.fields.text import Text
from components.stages.ingest.params import IngestParams
from components.tasks import base
from components.tasks.base import FixedInputs, Role
from components.tasks.shared.schema.regression.number_targets import NumberTargets
from components.tasks.shared.schema.regression.target_number import TargetNumber
from components.tasks.shared.schema.regression.target_params import NumberParams
from tests.components.stages.ingest.conftest import Ingest, Result


class Schema(FixedInputs):
    """Texts and their prices."""

    roles = (
        Role("text", Text(), "input"),
        Role("target", TargetNumber(), "target"),
    )
    targets = NumberTargets()


@pytest.fixture(autouse=True)
def prices(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the tasks and the section of `ingest`, which therefore comes first."""
    monkeypatch.setattr(base, "schema", lambda name: Schema())
    section = create_model("Section", __base__=(NumberParams, IngestParams))
    monkeypatch.setitem(ingest.__globals__, "Section", section)  # type: ignore[attr-defined]


def source(path: str) -> dict[str, Any]:
    return {"kind": "files", "path": path}


def targets(result: Result) -> list[float | None]:
    return [row["target"] for row in result.rows]


def test_a_comma_may_be_the_decimal_sign(tmp_path: Path, ingest: Ingest) -> None:
    lines = ["text;target", "one;1.234,5", "two;-0,5", "three;", "four;n/a", "five;1234.5", "six;7"]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    result = ingest(source=source("a.csv"), decimal=",")
    assert targets(result) == [1234.5, -0.5, None, None, 7.0]
    assert result.quarantine == [("a.csv:6", "not_a_number")]
    numbers = read_manifest(result.root / "raw")["numbers"]
    assert numbers == {"rows": 3, "missing": 2, "least": -0.5, "largest": 1234.5}
    assert "2 of 5 rows have no number: clean.unlabelled" in result.notes


def test_numbers_of_json_need_no_decimal_sign(tmp_path: Path, ingest: Ingest) -> None:
    rows = [{"text": "one", "target": 1.5}, {"text": "two", "target": "1.500,25"}]
    rows += [{"text": "three", "target": [2]}, {"text": "four", "target": None}]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert targets(ingest(source=source("a.jsonl"), decimal=",")) == [1.5, 1500.25, 2.0, None]


def test_thousands_and_currencies_are_read(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.csv").write_text('text,target\none,"$1,234.50"\ntwo,3%\nthree,1e3\n')
    assert targets(ingest(source=source("a.csv"))) == [1234.5, 0.03, 1000.0]


def test_a_column_of_words_is_refused_with_a_remedy(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.csv").write_text("text;target\none;cheap\ntwo;dear\n")
    with pytest.raises(InputError) as refusal:
        ingest(source=source("a.csv"))
    assert "not_a_number" in refusal.value.what
    assert "ingest.decimal: ','" in refusal.value.remedy


def test_true_numbers_of_feedback_have_a_point_whatever_the_source_has(
    tmp_path: Path, ingest: Ingest
) -> None:
    (tmp_path / "a.csv").write_text("text;target\none;1,5\ntwo;2.000,25\n")
    (tmp_path / "accepted").mkdir()
    entry = {"id": "feedback-a-0", "text": "three", "target": "12.345"}
    (tmp_path / "accepted" / "accepted-1.jsonl").write_text(json.dumps(entry) + "\n")
    result = ingest(source=source("a.csv"), decimal=",", feedback="accepted", seen="ab")
    assert targets(result) == [1.5, 2000.25, 12.345]
