"""Labels that no column holds as a word: numbers with names, a column or a file for each class."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.core.errors import InputError
from components.stages.ingest import stage
from components.stages.ingest.columns import Layout
from components.stages.ingest.dialects import doubled_quotes
from components.stages.ingest.source_rows import Unit
from tests.components.stages.ingest.conftest import Ingest

FEATURES = {
    "text": {"dtype": "string", "_type": "Value"},
    "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
}
NUMBERED = "text,label\nfine,1\nbad,0\nodd,7\nunknown,-1\n"
CARD = """---
license: mit
dataset_info:
  features:
  - name: label
    dtype:
      class_label:
        names:
          '0': neg
          '1': pos
---
# About
"""


def files(path: str, **more: Any) -> dict[str, Any]:
    """Return a `files` source."""
    return {"kind": "files", "path": path, **more}


def write(folder: Path, **texts: str) -> None:
    """Write files; _ in a name stands for its point."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / ".".join(name.rsplit("__", 1))).write_text(text, encoding="utf-8")


def test_class_numbers_are_named_by_a_dataset_info(tmp_path: Path, ingest: Ingest) -> None:
    info = json.dumps({"features": FEATURES})
    write(tmp_path / "a", train__csv=NUMBERED, dataset_info__json=info)
    result = ingest(source=files("a"))
    assert [row["label"] for row in result.rows] == ["pos", "neg", "7", None]
    assert "named by dataset_info.json: 0 is 'neg', 1 is 'pos'" in result.notes


def test_class_numbers_are_named_by_the_card(tmp_path: Path, ingest: Ingest) -> None:
    write(tmp_path / "a", train__csv=NUMBERED, README__md=CARD)
    assert ingest(source=files("a")).classes == {"pos": 1, "neg": 1, "7": 1}


def test_configurations_that_differ_name_nothing(tmp_path: Path, ingest: Ingest) -> None:
    other = {"label": {"names": ["x", "y"], "_type": "ClassLabel"}}
    info = json.dumps({"one": {"features": FEATURES}, "two": {"features": other}})
    write(tmp_path / "a", train__csv=NUMBERED, dataset_infos__json=info)
    assert ingest(source=files("a")).classes == {"1": 1, "0": 1, "7": 1, "-1": 1}


@pytest.mark.parametrize(
    "card", ["---\n: : [\n---\n", "no front matter", "---\nlicense: mit\n---\n"]
)
def test_a_card_that_says_nothing(tmp_path: Path, ingest: Ingest, card: str) -> None:
    write(tmp_path / "a", train__csv=NUMBERED, README__md=card)
    assert ingest(source=files("a")).classes == {"1": 1, "0": 1, "7": 1, "-1": 1}


def test_class_numbers_are_named_by_the_parquet_schema(tmp_path: Path, ingest: Ingest) -> None:
    table = pa.table({"text": ["fine", "bad", "none"], "label": pa.array([1, 0, -1], pa.int64())})
    metadata = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "a.parquet")
    result = ingest(source=files("a.parquet"))
    assert [row["label"] for row in result.rows] == ["pos", "neg", None]


def test_a_memory_of_other_names_is_not_used() -> None:
    wanted = Layout([], 1)
    unit = Unit("a.csv", (Path("a.csv"),), "csv")
    others = [
        replace(unit, value_names=(("label", ("neg", "pos")),)),
        replace(unit, one_hot=("neg", "pos")),
        replace(unit, has_file_target=True),
        replace(unit, sheet="a"),
    ]
    keys = {
        stage._key(stage.ParseInput(each, wanted, "key", Path()), "digest")
        for each in [unit, *others]
    }
    assert len(keys) == len(others) + 1


FLAGS = "text,calm,angry,sad\na,1,0,0\nb,0,1,0\nc,0.0,0.0,1.0\n"


def test_a_column_for_each_class(tmp_path: Path, ingest: Ingest) -> None:
    odd = "d,0,0,0\ne,1,1,0\nf,1,2,0\n"
    write(tmp_path, a__csv=FLAGS + odd)
    source = files("a.csv", one_hot=["calm", "angry", "sad"])
    result = ingest(source=source, columns={"label": "one_hot"})
    assert [row["label"] for row in result.rows] == ["calm", "angry", "sad", None]
    assert result.quarantine == [("a.csv:6", "several_labels"), ("a.csv:7", "neither_0_nor_1")]


def test_a_column_for_each_class_in_parquet_and_json(tmp_path: Path, ingest: Ingest) -> None:
    rows = [{"text": "a", "calm": True, "sad": False}, {"text": "b", "calm": False, "sad": True}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    write(tmp_path, b__jsonl="\n".join(map(json.dumps, rows)))
    for name in ("a.parquet", "b.jsonl"):
        source = files(name, one_hot=["calm", "sad"])
        result = ingest(source=source, columns={"label": "one_hot"}, out=f"out-{name}")
        assert result.classes == {"calm": 1, "sad": 1}


def test_a_column_for_a_class_that_is_away(tmp_path: Path, ingest: Ingest) -> None:
    write(tmp_path, a__csv=FLAGS)
    with pytest.raises(InputError, match="has no column 'happy'"):
        ingest(
            source=files("a.csv", one_hot=["calm", "happy"]),
            columns={"label": "one_hot"},
        )


def test_a_table_for_each_class(tmp_path: Path, ingest: Ingest) -> None:
    write(tmp_path / "a", positive__csv="text\nfine\nnice\n", negative__csv="text\nbad\n")
    write(tmp_path / "a", mixed__jsonl='{"text": "so so"}\n')
    source = files("a", classes={"positive": "good", "negative": "bad", "mixed.jsonl": "mixed"})
    result = ingest(source=source, columns={"label": "file_label"})
    assert result.classes == {"good": 2, "bad": 1, "mixed": 1}


def test_a_table_without_a_header_beside_others(tmp_path: Path, ingest: Ingest) -> None:
    body = "".join(f"gj04\t{row % 2}\tsentence {row} of the corpus\n" for row in range(20))
    write(tmp_path / "a", in_domain_train__tsv=body)
    write(tmp_path / "a", in_domain_dev__tsv=f"source\tlabel\ttext\n{body}")
    result = ingest(source=files("a"))
    assert result.classes == {"0": 20, "1": 20}
    assert result.splits == {"train": 20, "test": 20}
    assert "in_domain_train.tsv; its columns: source, label, text" in result.notes


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (r'"he said \"no\"",1', '"he said ""no""",1'),
        (r'"C:\\",1', '"C:\\",1'),
        (r'"a\\\"b",1', r'"a\""b",1'),
        (r'"C:\new",1', r'"C:\new",1'),
    ],
)
def test_backslashes_before_quotes(line: str, expected: str) -> None:
    assert doubled_quotes(line) == expected


def test_quotes_that_spark_escapes(tmp_path: Path, ingest: Ingest) -> None:
    rows = [rf'"he said \"no, {row}\" in C:\new",{"ab"[row % 2]}' for row in range(20)]
    write(tmp_path, a__csv="\n".join(["text,label", *rows]))
    first = ingest(source=files("a.csv")).rows[0]
    assert first["text"] == r'he said "no, 0" in C:\new'
    assert first["label"] == "a"


def test_backslashes_of_others_stay(tmp_path: Path, ingest: Ingest) -> None:
    rows = [rf'"C:\dir{row}\",{"ab"[row % 2]}' for row in range(20)]
    write(tmp_path, a__csv="\n".join(["text,label", *rows]))
    assert ingest(source=files("a.csv")).rows[3]["text"] == "C:\\dir3\\"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.tsv"])
def test_utf_16_with_and_without_a_mark(
    tmp_path: Path,
    ingest: Ingest,
    encoding: str,
    name: str,
) -> None:
    pairs = [(f"这家酒店的房间很干净 {row}", ("好评", "差评")[row % 2]) for row in range(30)]
    mark = "\t" if name == "a.tsv" else ","
    lines = [mark.join(pair) for pair in [("text", "label"), *pairs]]
    if name == "a.jsonl":
        records = [dict(zip(("text", "label"), pair, strict=True)) for pair in pairs]
        lines = [json.dumps(record, ensure_ascii=False) for record in records]
    (tmp_path / name).write_bytes("".join(f"{line}\r\n" for line in lines).encode(encoding))
    rows = ingest(source=files(name)).rows
    assert [(row["text"], row["label"]) for row in rows] == pairs
