"""The contract of the raw table: rows that break it are set aside with a reason, or stop the run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from components.core.errors import InputError, ParamsError
from components.core.params import validate
from components.fields.moment import Moment
from components.fields.number import Number
from components.stages.ingest import stage
from components.stages.ingest.columns import Layout, layout
from components.stages.ingest.contract import apply_rules, apply_uniqueness, check_columns
from components.stages.ingest.params import Contract, IngestParams
from components.stages.ingest.source_rows import Unit
from components.tasks.base import Role
from tests.components.stages.ingest.conftest import Result

Ingest = Callable[..., Result]

ROWS = """id,text,label,group
1,a good one,pos,7
2,bad,neg,8
2,the same id,neg,9
4,a good two,other,10
5,a good three,pos,many
6,a good four,neg,
7,a good five,pos,-1
"""
SOURCE = {"kind": "files", "path": "rows.csv"}
RULES: dict[str, Any] = {
    "id": {"unique": True},
    "text": {"min_length": 5, "max_length": 100, "pattern": r"\w.*"},
    "label": {"allowed": ["pos", "neg"]},
    "group": {"required": True, "type": "integer", "min": 0, "max": 9},
}


@pytest.fixture(autouse=True)
def table(tmp_path: Path) -> None:
    """A table of which each row but the first and the third breaks a rule."""
    (tmp_path / "rows.csv").write_text(ROWS)


def test_broken_rows_go_to_the_quarantine_with_their_reason(ingest: Ingest) -> None:
    result = ingest(source=SOURCE, contract={"columns": RULES})
    assert [row["text"] for row in result.rows] == ["a good one", "the same id"]
    assert dict(result.quarantine) == {
        "rows.csv:3": "contract_text_min_length",
        "rows.csv:5": "contract_label_allowed",
        "rows.csv:6": "contract_group_type",
        "rows.csv:7": "contract_group_required",
        "rows.csv:8": "contract_group_min",
    }
    assert "the first contract_label_allowed: rows.csv:5: label: other" in result.notes


def test_the_first_of_equal_values_stays(ingest: Ingest) -> None:
    result = ingest(source=SOURCE, contract={"columns": {"id": {"unique": True}}})
    assert result.quarantine == [("rows.csv:4", "contract_id_unique")]
    result = ingest(source=SOURCE, contract={"columns": {"label": {"unique": True}}}, out="two")
    assert [row["label"] for row in result.rows] == ["pos", "neg", "other"]
    without = pa.table({"text": [None, None, "a", "a"], "origin": ["1", "2", "3", "4"]})
    contract = Contract.model_validate({"columns": {"text": {"unique": True}}})
    rows, broken = apply_uniqueness(without, contract)
    assert (rows["origin"].to_pylist(), broken["origin"].to_pylist()) == (["1", "2", "3"], ["4"])


@pytest.mark.parametrize("on_break", ["quarantine", "stop"])
def test_feedback_may_correct_a_row_that_must_be_unique(
    tmp_path: Path, ingest: Ingest, on_break: str
) -> None:
    (tmp_path / "own.csv").write_text("text,label\ngood movie,neg\nbad movie,neg\n")
    folder = tmp_path / "accepted"
    folder.mkdir()
    correction = json.dumps({"text": "good movie", "label": "pos"})
    (folder / "accepted-1.jsonl").write_text(correction + "\n", encoding="utf-8")
    contract = {"columns": {"text": {"unique": True}}, "on_break": on_break}
    source = {"kind": "files", "path": "own.csv"}
    result = ingest(source=source, contract=contract, feedback="accepted", seen="ab")
    assert [row["label"] for row in result.rows] == ["neg", "neg", "pos"]
    assert result.quarantine == []


def test_missing_values_whole_numbers_and_lines(tmp_path: Path, ingest: Ingest) -> None:
    rows = ["text,label", "good movie,1", '"good\nfilm",2', "no label,", "third,3"]
    (tmp_path / "numbers.csv").write_text("\n".join(rows) + "\n")
    source = {"kind": "files", "path": "numbers.csv"}
    columns = {"label": {"allowed": [1, 2.0]}, "text": {"pattern": ".*[a-z].*"}}
    result = ingest(source=source, contract={"columns": columns})
    assert [row["label"] for row in result.rows] == ["1", "2", None]
    assert [reason for _, reason in result.quarantine] == ["contract_label_allowed"]
    with pytest.raises(ParamsError, match="no regular expression"):
        columns = {"text": {"pattern": r"\Qaa"}}
        params = {"source": source, "contract": {"columns": columns}}
        validate(IngestParams, params, "params.yaml")


def test_a_broken_contract_stops_the_run(ingest: Ingest) -> None:
    with pytest.raises(InputError) as error:
        ingest(source=SOURCE, contract={"columns": RULES, "on_break": "stop"})
    assert error.value.what.startswith("5 rows break the contract: contract_group_min 1, ")
    assert error.value.where == "rows.csv:3"
    assert "set ingest.contract.on_break to quarantine" in error.value.remedy
    kept = {"columns": {"text": {"required": True}}, "on_break": "stop"}
    assert len(ingest(source=SOURCE, contract=kept).rows) == 7


def test_all_rows_broken(ingest: Ingest) -> None:
    contract = {"columns": {"text": {"min_length": 50}}}
    with pytest.raises(InputError, match=r"contract_text_min_length \(7\); .*\n.*ingest.contract"):
        ingest(source=SOURCE, contract=contract)


def test_renamed_targets_are_compared(ingest: Ingest) -> None:
    contract = {"columns": {"label": {"allowed": ["good", "neg", "other"]}}}
    result = ingest(source=SOURCE, labels={"pos": "good"}, contract=contract)
    assert not result.quarantine


def _numbers() -> Layout:
    """A table with a number and a time."""
    roles = (Role("size", Number(), "input"), Role("sold", Moment(), "meta"))
    return layout(roles, {}, None)


def _broken(values: dict[str, list[Any]], rules: dict[str, Any]) -> Counter[str]:
    """Reasons of the rows that break rules."""
    wanted = _numbers()
    count = len(next(iter(values.values())))
    columns = {"size": [1.0] * count, "sold": [0.0] * count, "origin": ["x"] * count, **values}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    contract = Contract.model_validate({"columns": rules})
    _, broken = apply_rules(pa.Table.from_pylist(rows, schema=wanted.schema), contract, wanted)
    return Counter(broken["reason"].to_pylist())


def test_numbers_and_times() -> None:
    sizes = {"size": [1.0, 2.5, -3.0, None, 1e9]}
    assert _broken(sizes, {"size": {"type": "integer", "min": 0, "max": 100}}) == {
        "contract_size_type": 1,
        "contract_size_min": 1,
        "contract_size_max": 1,
    }
    assert _broken(sizes, {"size": {"type": "number"}}) == {}
    assert _broken(sizes, {"size": {"allowed": [1, 2.5], "required": True}}) == {
        "contract_size_required": 1,
        "contract_size_allowed": 2,
    }
    days = Moment().normalize("2020-01-01"), Moment().normalize("2030-01-01")
    assert _broken({"sold": list(days)}, {"sold": {"max": "2025-12-31"}}) == {
        "contract_sold_max": 1
    }


@pytest.mark.parametrize(
    "text", ["5", "-5", "5.", ".5", "1e5", "1E+5", "1e400", " 7 ", "007", "+5"]
)
def test_numbers_in_texts(ingest: Ingest, tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.csv").write_text(f"text,label,group\nx,a,{text}\ny,b,3\n")
    rules = {"group": {"type": "number", "min": -10}}
    assert not ingest(source=SOURCE, contract={"columns": rules}).quarantine


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"size": {"pattern": "a"}}, r"size.pattern: the column 'size' holds no texts"),
        ({"size": {"min": "many"}}, r"size.min: the column 'size' cannot hold 'many'"),
        ({"group": {"min": 1}}, r"group.min: the column 'group' holds texts; set type"),
        ({"sise": {"min": 1}}, r"'sise' is no column of the raw table \(did you mean 'size'\?\)"),
    ],
)
def test_rules_that_do_not_fit_their_column(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        check_columns(Contract.model_validate({"columns": rules}), _numbers())


def test_pictures_have_few_rules(ingest: Ingest) -> None:
    contract = {"columns": {"image": {"min": 1}}}
    source = {"kind": "sklearn", "path": "rows.csv", "dataset": "digits"}
    with pytest.raises(ParamsError, match=r"image.min: the column 'image' holds pictures"):
        ingest(task="pictures", source=source, contract=contract)


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        ({"columns": {"text": {"pattern": "("}}}, "no regular expression of RE2"),
        ({"columns": {"text": {"pattern": r"(a)\1"}}}, "no regular expression of RE2"),
        ({"columns": {"text": {"max_length": -1}}}, "max_length"),
        ({"columns": {"text": {"longest": 1}}}, "longest"),
        ({"columns": {}}, "columns"),
        ({"columns": {"text": {}}, "on_break": "ignore"}, "on_break"),
    ],
)
def test_params_that_are_refused(contract: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        validate(IngestParams, {"source": SOURCE, "contract": contract}, "params.yaml")


def test_the_key_of_the_cache_covers_the_contract(tmp_path: Path) -> None:
    unit = Unit("rows.csv", (tmp_path / "rows.csv",), "csv")
    piece = stage.ParseInput(unit, _numbers(), "key", Path())
    contracts = [{"columns": {"size": {"min": bound}}} for bound in (1, 2)]
    pieces = [replace(piece, contract=Contract.model_validate(each)) for each in contracts]
    assert len({stage._key(each, "digest") for each in (piece, *pieces)}) == 3
