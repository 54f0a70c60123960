"""A quick look at a source: what is new, what is wrong; and feedback behind it."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.core.errors import InputError
from components.stages.ingest import survey as module
from components.stages.ingest.params import IngestParams
from components.stages.ingest.survey import Known, Survey, changes, read_known, survey
from tests.components.stages.ingest.conftest import Ingest


def seen(root: Path, known: Known | None = None, path: str = "rows", **more: Any) -> Survey:
    params = IngestParams.model_validate({"source": {"kind": "files", "path": path}, **more})
    return survey(params, root, {} if known is None else known)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.csv").write_text("text,label\ngood,1\nbad,0\n", encoding="utf-8")
    return tmp_path


def test_appended_rows_and_new_files_are_another_digest_and_more_rows(root: Path) -> None:
    first = seen(root)
    assert (first.rows, first.columns) == (2, {"text": "text", "label": "text"})
    with (root / "rows" / "a.csv").open("a") as stream:
        stream.write("fine,1")  # without a newline yet
    second = seen(root)
    pq.write_table(pa.table({"text": ["x", "y"], "label": [1, 0]}), root / "rows" / "b.parquet")
    (root / "rows" / "c.jsonl").write_text('{"text": "z", "label": 1, "stars": 5}\nbroken\n')
    third = seen(root)
    assert (
        second.rows == 3
        and third.rows == 7
        and len({first.digest, second.digest, third.digest}) == 3
    )
    assert set(third.columns) == {"text", "label", "stars"}


def test_a_file_that_was_not_touched_is_not_read_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, known = root / "rows" / "a.csv", dict[str, list[int | str]]()
    seen(root, known)
    assert not known  # written a moment ago: it may be written again within one tick of the clock
    os.utime(file, (1e9, 1e9))
    first = seen(root, known)
    (root / "known.json").write_text(json.dumps(known))
    monkeypatch.setattr(module, "_read", lambda path: pytest.fail("was read"))
    assert seen(root, read_known(root / "known.json")) == first
    assert read_known(root / "not there.json") == {}


def test_what_changed_is_named() -> None:
    before = {"text": "string", "label": "int64", "note": "string"}
    assert changes(100, before, 90, before, 0.9) == []
    assert changes(100, before, 89, {"text": "string", "label": "string", "more": "x"}, 0.9) == [
        "89 rows where there were 100, less than 90%",
        "the column 'note' is gone",
        "the column 'label' is string and was int64",
    ]


def test_a_column_that_is_empty_in_one_file_is_what_it_is_in_the_others(root: Path) -> None:
    files = [
        {"note": ["x"], "stars": [1]},
        {"note": pa.nulls(1), "stars": [1.5]},
        {"note": pa.nulls(1), "stars": [2]},
    ]
    for order in (files, files[::-1]):
        for number, rows in enumerate(order):
            pq.write_table(pa.table(rows), root / "rows" / f"p{number}.parquet")
        assert {name: seen(root).columns[name] for name in ("note", "stars")} == {
            "note": "string",
            "stars": "double",
        }
    assert (
        changes(
            1, {"note": "null", "stars": "int64"}, 1, {"note": "string", "stars": "double"}, 0.9
        )
        == []
    )
    assert changes(
        1, {"note": "string", "stars": "double"}, 1, {"note": "null", "stars": "int64"}, 0.9
    ) == ["the column 'note' is null and was string"]


def test_a_source_that_is_away_or_broken_is_refused(root: Path) -> None:
    with pytest.raises(InputError, match="there is no file or folder 'rowz'"):
        seen(root, path="rowz")
    (root / "rows" / "b.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="is not readable Parquet"):
        seen(root)


def test_feedback_is_read_by_a_retrain_alone_behind_the_source_under_the_same_names(
    root: Path, ingest: Ingest
) -> None:
    (root / "rows" / "a.csv").write_text(
        "review,stars,number\ngood,1,7\nbad,0,8\n", encoding="utf-8"
    )
    section = {
        "source": {"kind": "files", "path": "rows"},
        "columns": {"text": "review", "label": "stars", "id": "number"},
        "feedback": "told",
    }
    before = seen(root, feedback="told")
    assert [row["text"] for row in ingest(**section).rows] == ["good", "bad"] and before.pin == ""
    (root / "told").mkdir()
    (root / "told" / "accepted-1.jsonl").write_text(
        '{"id": "feedback-a-0", "review": "not good at all", "stars": "0"}\n', encoding="utf-8"
    )
    (root / "told" / "waiting.jsonl").write_text(
        '{"text": "nobody has looked at this", "label": "1"}\n', encoding="utf-8"
    )
    after = seen(root, feedback="told")
    assert (
        after.digest != before.digest == after.only(()).digest
        and after.pin
        and after.rows == before.rows
    )
    assert [row["id"] for row in ingest(out="run", **section).rows] == ["7", "8"], (
        "of what DVC does not see a run knows nothing"
    )
    rows = ingest(out="again", **section, seen=after.pin).rows
    assert [row["id"] for row in rows] == ["7", "8", "feedback-a-0"]
    assert (rows[2]["text"], rows[2]["label"], rows[2]["origin"]) == (
        "not good at all",
        "0",
        "feedback/accepted-1.jsonl:1",
    )


def test_rows_of_what_has_no_lines_are_counted_as_records(root: Path) -> None:
    (root / "more").mkdir()
    rows = [{"text": f"text {number}", "label": number % 2} for number in range(7)]
    (root / "more" / "a.json").write_text(json.dumps(rows))
    assert (seen(root, path="more/a.json").rows, list(seen(root, path="more/a.json").columns)) == (
        7,
        ["text", "label"],
    )
    (root / "more" / "b.csv.gz").write_bytes(gzip.compress(b"text,label\n" + b"good,1\n" * 5000))
    assert (seen(root, path="more/b.csv.gz").rows, seen(root, path="more/b.csv.gz").columns) == (
        5000,
        {"text": "text", "label": "text"},
    )
    book = openpyxl.Workbook()
    for row in (["text", "label"], ["good", 1], ["bad", 0]):
        book.worksheets[0].append(row)
    book.save(root / "more" / "c.xlsx")
    assert (seen(root, path="more/c.xlsx").rows, list(seen(root, path="more/c.xlsx").columns)) == (
        2,
        ["text", "label"],
    )
    digests = {seen(root, path=f"more/{name}").digest for name in ("a.json", "b.csv.gz", "c.xlsx")}
    assert len(digests) == 3
