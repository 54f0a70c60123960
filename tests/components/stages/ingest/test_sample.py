"""The sample that a preview is made of: what ingest would write, before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from components.core.errors import InputError
from components.stages.ingest.params import Files
from components.stages.ingest.sample import Sample, SourceColumns, read_sample, scan_columns
from tests.components.stages.ingest.conftest import TASKS, Ingest, Section


def source(path: str, **more: Any) -> dict[str, Any]:
    """Return a `files` source."""
    return {"kind": "files", "path": path, **more}


def scan(
    root: Path, path: str, task: str = "words", rows: int = 1000, **more: Any
) -> SourceColumns:
    """Take the first step."""
    return scan_columns(Files.model_validate(source(path, **more)), root, TASKS[task], rows)


def sample(root: Path, task: str = "words", rows: int = 1000, **section: Any) -> Sample:
    """Take the second step."""
    return read_sample(Section.model_validate(section), TASKS[task], root, rows)


MESSY = (
    "\ufefftext,label,stars\none,Good,1\ntwo,good,5\n\ntext,label,stars\nthree,n/a,3\nfour,,2\n"
    "six,BAD,2\n,bad,1\nfive,bad,1,1\n"
)


def test_a_sample_is_what_ingest_writes(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.csv").write_text(MESSY, encoding="utf-8")
    section = {"source": source("a.csv"), "labels": {"n/a": None}, "label_case": "fold"}
    found, result = sample(tmp_path, **section), ingest(**section)
    assert found.table.to_pylist() == result.rows
    assert [
        (row["origin"], row["reason"]) for row in found.quarantine.to_pylist()
    ] == result.quarantine
    assert found.targets == {"good": 2, "bad": 1} and found.without_target == 2 and found.complete
    assert found.reasons == {"repeated_header": 1, "no_text": 1, "wrong_number_of_fields": 1}
    assert str(found.refusals[0]) == "a.csv:5: repeated_header: text,label,stars"
    for note in found.notes:
        assert note in result.notes


def test_counts_are_counts(tmp_path: Path) -> None:
    rows = [f"text {number},intent_{number % 500:03}" for number in range(6000)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    columns = scan(tmp_path, "a.csv", rows=100_000)
    assert columns.columns["label"].count_text == "500" and columns.columns["text"].distinct == 6000
    found = sample(tmp_path, source=source("a.csv"), rows=100_000)
    assert len(found.targets) == 500 and found.complete


def test_more_values_than_are_counted_are_said_to_be_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.stages.ingest import sample as module

    monkeypatch.setattr(module, "MOST_VALUES", 100)
    (tmp_path / "a.csv").write_text(
        "text,label\n" + "".join(f"a{row},{row % 2}\n" for row in range(300))
    )
    columns = scan(tmp_path, "a.csv").columns
    assert columns["text"].count_text == "more than 100" and columns["label"].count_text == "2"
    assert columns["label"].is_numeric and not columns["text"].is_numeric


def test_only_the_first_rows_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "text,label\n" + "".join(f"a{row},{row % 2}\n" for row in range(300))
    )
    found = sample(tmp_path, source=source("a.csv"), rows=50)
    assert found.table.num_rows == 50 and not found.complete
    assert (
        not scan(tmp_path, "a.csv", rows=50).complete and scan(tmp_path, "a.csv", rows=300).complete
    )


def test_a_header_that_is_none_is_shown(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "".join(f"{'xy'[row % 2]},some text {row}\n" for row in range(20))
    )
    columns = scan(tmp_path, "a.csv")
    assert columns.units[0].header is False and columns.units[0].columns == ("column_1", "column_2")
    assert columns.notes == [
        (
            "without a header: a.csv; its columns are called column_1, column_2 "
            "(ingest.source.column_names)"
        )
    ]
    assert columns.examples[0] == {"column_1": "x", "column_2": "some text 0"}
    assert scan(tmp_path, "a.csv", header=True).units[0].header is True
    assert list(scan(tmp_path, "a.csv", column_names=["label", "text"]).columns) == [
        "label",
        "text",
    ]


def test_nested_records_are_shown_by_path(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        '[{"data": {"text": "a"}, "annotations": [{"result": [{"value": {"choices": ["x"]}}]}]}]'
    )
    columns = scan(tmp_path, "a.json")
    assert list(columns.columns) == ["data.text", "annotations[0].result[0].value.choices"]
    assert columns.columns["annotations[0].result[0].value.choices"].lists == 1
    assert columns.is_table and columns.encodings == {"utf-8"}


def test_pictures_of_folders_and_of_tables(tmp_path: Path) -> None:
    for number, name in enumerate(("train/cat/0.png", "train/dog/1.png", "test/2.png")):
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(tmp_path / "d" / name)
    columns = scan(tmp_path, "d", task="pictures")
    assert (
        not columns.is_table
        and columns.columns["label"].values == {"cat": 1, "dog": 1}
        and columns.columns["image"].kind == pa.binary()
    )
    found = sample(tmp_path, task="pictures", source=source("d"))
    assert (
        found.targets == {"cat": 1, "dog": 1}
        and found.without_target == 1
        and found.splits == {"test": 1}
    )
    (tmp_path / "d" / "labels.csv").write_text("file,kind\n0.png,0\n1.png,1\n2.png,0\n")
    columns = scan(tmp_path, "d", task="pictures")
    assert columns.columns["file"].is_picture and not columns.columns["kind"].is_picture
    assert columns.columns["file"].kind == pa.binary()


def test_what_has_no_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "head.csv").write_text("text,label\n")
    (tmp_path / "bad.csv").write_text("text,label\na\nb\n")
    with pytest.raises(InputError, match=r"head.csv: holds no rows"):
        scan(tmp_path, "head.csv")
    with pytest.raises(
        InputError,
        match=r"no usable row among the first 2; the first: bad.csv:2: wrong_number_of_fields",
    ):
        scan(tmp_path, "bad.csv")
    with pytest.raises(InputError, match="has no column 'label'"):
        (tmp_path / "a.csv").write_text("text,kind\na,x\n")
        sample(tmp_path, source=source("a.csv"))
