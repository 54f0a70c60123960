"""Tables: what was written is read, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from components.core import tables
from components.core.errors import InputError
from components.core.tables import (
    MANIFEST,
    TableWriter,
    batches_of,
    map_table,
    read_manifest,
    read_table,
    sample,
    write_table,
)

ROWS = pa.table(
    {
        "text": ["好", "the", "room", "b", "c"],
        "label": ["x", "y", "x", "y", "x"],
        "n": [1, 2, 3, 4, 5],
    }
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Five train rows in three shards, no validation row."""
    write_table(
        tmp_path / "t",
        {"train": ROWS, "validation": ROWS.slice(0, 0)},
        {"classes": ["x", "y"]},
        rows_per_shard=2,
    )
    return tmp_path / "t"


def test_shards_come_back_as_the_rows_that_went_in(table: Path) -> None:
    manifest = read_manifest(table)
    assert [shard["rows"] for shard in manifest["shards"]] == [2, 2, 1]
    assert manifest["rows"] == 5
    assert manifest["parts"] == {"train": 5, "validation": 0}
    assert manifest["classes"] == ["x", "y"]
    assert read_table(table).equals(ROWS)
    assert read_table(table, "train", ["label", "text"]).column_names == ["label", "text"]


def test_the_same_rows_give_the_same_bytes(table: Path, tmp_path: Path) -> None:
    write_table(
        tmp_path / "again",
        {"train": ROWS, "validation": ROWS.slice(0, 0)},
        {"classes": ["x", "y"]},
        rows_per_shard=2,
    )
    assert (table / MANIFEST).read_bytes() == (
        tmp_path / "again" / MANIFEST
    ).read_bytes()  # which holds the SHA-256 of each shard


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def edit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("harm", [truncate, edit, Path.unlink])
def test_a_harmed_shard_is_refused_and_named(table: Path, harm: Callable[[Path], None]) -> None:
    harm(table / "train-00001.parquet")
    with pytest.raises(
        InputError, match=r"train-00001.parquet: is missing or does not match"
    ) as caught:
        read_table(table, "train")
    assert "dvc" in caught.value.remedy


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b"\xff\xfe", b"[]", b"7", b"{}", b'{"shards": []}'], ids=repr
)
def test_what_is_no_manifest_is_an_input_error(table: Path, content: bytes | None) -> None:
    (table / MANIFEST).unlink()
    if content is not None:
        (table / MANIFEST).write_bytes(content)
    with pytest.raises(InputError, match="holds no readable manifest"):
        read_table(table)


def test_an_empty_part_can_be_joined_to_one_with_rows(table: Path) -> None:
    columns = ["text", "n", "label"]
    empty = read_table(table, "validation", columns)
    assert empty.num_rows == 0
    assert pa.concat_tables([read_table(table, "train", columns), empty]).num_rows == 5


def test_a_sample_is_drawn_by_its_seed_and_keeps_the_order() -> None:
    table = pa.table({"n": range(1000)})
    drawn = [sample(table, 100, seed)["n"].to_pylist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] == sorted(set(drawn[0])) != drawn[2]
    assert len(drawn[0]) == 100
    assert sample(table, 1000, 1) is table


def test_equal_large_values_come_in_small_batches(tmp_path: Path) -> None:
    value = "x" * 700_000
    write_table(tmp_path / "t", {"train": pa.table({"text": [value] * 400})})
    batches = list(batches_of(tmp_path / "t"))
    assert sum(batch.num_rows for batch in batches) == 400
    assert max(batch.nbytes for batch in batches) < 70_000_000


def test_large_rows_make_small_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_BYTES_PER_SHARD", 1000)
    writer = TableWriter(tmp_path / "t")
    for _ in range(4):
        writer.write("train", pa.table({"text": ["x" * 400, "y" * 400]}))
    writer.write("test", pa.table({"text": ["z"]}))
    manifest = writer.close()
    assert [shard["rows"] for shard in manifest["shards"]] == [4, 4, 1]
    assert read_table(tmp_path / "t").num_rows == 9


def test_a_mapped_table_is_the_one_that_was_written(tmp_path: Path, table: Path) -> None:
    copy = tmp_path / "copy.arrow"
    assert map_table(table, copy).equals(ROWS)
    assert map_table(table, copy, "train", ["n", "text"]).column_names == ["n", "text"]
    assert map_table(table, copy, "validation").num_rows == 0
    large = map_table(table, copy, types={"text": pa.large_string()})
    assert large.schema.field("text").type == pa.large_string()
