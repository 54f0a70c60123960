"""File formats: what is read, and what is set aside."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from components.core.errors import InputError
from components.stages.ingest.columns import layout
from components.tasks.base import schema

Ingest = Callable[..., Any]  # the fixture of conftest.py


def files(path: str, **more: Any) -> dict[str, Any]:
    """A `files` source."""
    return {"kind": "files", "path": path, **more}


def test_csv_with_quotes_newlines_numbers_and_nothing(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.csv").write_text(
        'text,label\n"one, ""two""\nthree",1.0\n好,2\nbad,1,2\n,1\nno label,NaN\n\nlast,2',
        encoding="utf-8",
    )
    result = ingest(source=files("a.csv"))
    assert [(row["text"], row["label"], row["origin"]) for row in result.rows] == [
        ('one, "two"\nthree', "1", "a.csv:2"),
        ("好", "2", "a.csv:4"),
        ("no label", None, "a.csv:7"),
        ("last", "2", "a.csv:9"),
    ]
    assert result.quarantine == [("a.csv:5", "wrong_number_of_fields"), ("a.csv:6", "no_text")]


def test_semicolons_and_a_mark_of_byte_order(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.csv").write_text("text; label\na, b;x\nc;y\n", encoding="utf-16")
    assert [(row["text"], row["label"]) for row in ingest(source=files("a.csv")).rows] == [
        ("a, b", "x"),
        ("c", "y"),
    ]


def test_a_megabyte_in_one_row_is_set_aside(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.csv").write_text(f"text,label\n{'好' * 400_000},1\na,1\nb,2\n", encoding="utf-8")
    result = ingest(source=files("a.csv"))
    assert result.quarantine == [("a.csv:2", "too_large")]
    assert len(result.rows) == 2
    assert len(ingest(source=files("a.csv"), max_bytes_per_value=2_000_000, out="wide").rows) == 3


def test_a_quote_that_nothing_closes_is_named(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.csv").write_text('text,label\na,1\n"b,2\nc,1\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.csv:3: opens a quote"):
        ingest(source=files("a.csv"))


def test_tsv_takes_quotes_as_they_are_meant(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "plain.tsv").write_text(
        'text\tlabel\n"Great" film\t1\nsaid "no\t2\n', encoding="utf-8"
    )
    (tmp_path / "quoted.tsv").write_text('text\tlabel\n"Great\tfilm"\t1\nno\t2\n', encoding="utf-8")
    assert [row["text"] for row in ingest(source=files("plain.tsv")).rows] == [
        '"Great" film',
        'said "no',
    ]
    assert [row["text"] for row in ingest(source=files("quoted.tsv"), out="b").rows] == [
        "Great\tfilm",
        "no",
    ]


def test_jsonl_sets_aside_what_is_no_record(tmp_path: Path, ingest: Ingest) -> None:
    lines = [
        '{"text": "a", "label": 1}',
        '{"text": ',
        "[1]",
        '{"text": "\\ud800", "label": 1}',
        '{"text": ["x"], "label": 1}',
        '{"text": "b\u2028c", "label": true}',
        '{"text": "d", "label": NaN}',
        "",
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    result = ingest(source=files("a.jsonl"))
    assert [(row["text"], row["label"]) for row in result.rows] == [
        ("a", "1"),
        ("b\u2028c", "true"),
        ("d", None),
    ]
    assert result.quarantine == [
        ("a.jsonl:2", "malformed_json"),
        ("a.jsonl:3", "not_an_object"),
        ("a.jsonl:4", "broken_unicode"),
        ("a.jsonl:5", "not_text"),
    ]


def test_parquet_with_floats_for_labels_and_columns_of_other_names(
    tmp_path: Path, ingest: Ingest
) -> None:
    pq.write_table(
        pa.table({"review": ["a", "b", "c"], "stars": [1.0, None, 2.0], "who": [7, 7, 8]}),
        tmp_path / "a.parquet",
    )
    result = ingest(
        source=files("a.parquet"), columns={"text": "review", "label": "stars", "group": "who"}
    )
    assert [(row["text"], row["label"], row["group"], row["origin"]) for row in result.rows] == [
        ("a", "1", "7", "a.parquet:1"),
        ("b", None, "7", "a.parquet:2"),
        ("c", "2", "8", "a.parquet:3"),
    ]


def test_parquet_that_is_none(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.parquet").write_text("text,label\n")
    with pytest.raises(InputError, match="not readable Parquet"):
        ingest(source=files("a.parquet"))


def test_a_text_file_per_class_with_names_for_them(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "pos.txt").write_text("一\n\n二\r\n", encoding="gb18030")
    (tmp_path / "d" / "neg.txt").write_text("three", encoding="utf-8")
    result = ingest(source=files("d", classes={"pos": "好评"}))
    assert [(row["text"], row["label"], row["origin"]) for row in result.rows] == [
        ("three", "neg", "neg.txt:1"),
        ("一", "好评", "pos.txt:1"),
        ("二", "好评", "pos.txt:3"),
    ]
    with pytest.raises(InputError, match="did you mean 'pos'"):
        ingest(source=files("d", classes={"poss": "x"}), out="b")


def picture(path: Path) -> None:
    """A small PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), 9).save(path)


def test_folders_of_pictures_with_splits_by_name(tmp_path: Path, ingest: Ingest) -> None:
    for name in ("train/cat/a.png", "train/dog/b.png", "test/cat/c.png"):
        picture(tmp_path / "d" / name)
    (tmp_path / "d" / "train" / "cat" / "notes.txt").write_text("x")
    (tmp_path / "d" / "train" / ".DS_Store").write_text("x")
    result = ingest(task="pictures", source=files("d"))
    assert [(row["label"], row["split"], row["origin"]) for row in result.rows] == [
        ("cat", "test", "test/cat/c.png"),
        ("cat", "train", "train/cat/a.png"),
        ("dog", "train", "train/dog/b.png"),
    ]
    assert Image.open(io.BytesIO(result.rows[0]["image"])).size == (4, 4)
    assert result.quarantine == [("train/cat/notes.txt", "not_an_image")]


def test_folders_of_texts_with_one_that_cannot_be_read(tmp_path: Path, ingest: Ingest) -> None:
    for name, content in (
        ("a/1.txt", b"one"),
        ("a/2.txt", b"\xff\x00\xfe\x01\x81"),
        ("b/1.txt", "二\n三".encode()),
    ):
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_bytes(content)
    result = ingest(source=files("d"))
    assert [(row["text"], row["label"]) for row in result.rows] == [("one", "a"), ("二\n三", "b")]
    assert result.quarantine == [("a/2.txt", "undecodable")]


def test_a_folder_of_tables_ignores_what_lies_beside(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "train.csv").write_text("text,label\na,1\nb,2\n")
    (tmp_path / "d" / "test.jsonl").write_text(json.dumps({"text": "c", "label": 1}))
    (tmp_path / "d" / "README.txt").write_text("hello")
    result = ingest(source=files("d"))
    assert [(row["text"], row["split"]) for row in result.rows] == [
        ("c", "test"),
        ("a", "train"),
        ("b", "train"),
    ]
    assert [row["text"] for row in ingest(source=files("d", glob="*.csv"), out="b").rows] == [
        "a",
        "b",
    ]


def test_photos_are_no_outliers_and_long_texts_are() -> None:
    """Without a stated limit a value may have the bytes of a photo, where the input is a picture."""
    photos = layout(schema("image_classification").roles, {}, None)
    texts = layout(schema("text_classification").roles, {}, None)
    assert photos.limit == 100_000_000
    assert texts.limit == 200_000
    assert layout(schema("image_classification").roles, {}, 500).limit == 500
