"""The data card as Croissant, checked and read by `mlcroissant`."""

from __future__ import annotations

import json
from pathlib import Path

import mlcroissant
import pyarrow as pa
import pytest

from components.core.files import sha256
from components.core.tables import write_table
from components.stages.evaluate.croissant import write_croissant
from components.stages.evaluate.params import CardParams

TABLE = pa.table(
    {
        "id": [f"r-{number}" for number in range(10)],
        "text": pa.array([f"第 {number} 行" for number in range(10)], pa.large_string()),
        "price": [number / 2 for number in range(10)],
    }
)
STATEMENTS = CardParams(data_source="Written for a test.", data_license="CC0-1.0")


def described(root: Path, rows_per_shard: int, statements: CardParams = STATEMENTS) -> Path:
    """A table of two splits and its description."""
    splits = {"train": TABLE, "test": TABLE.slice(0, 3)}
    write_table(root / "clean", splits, rows_per_shard=rows_per_shard)
    cards = root / "reports" / "cards"
    cards.mkdir(parents=True)
    write_croissant(cards, root / "clean", statements)
    return cards / "croissant.json"


@pytest.mark.parametrize("rows_per_shard", [50, 4])
def test_it_is_valid(tmp_path: Path, rows_per_shard: int) -> None:
    path = described(tmp_path, rows_per_shard)
    metadata = mlcroissant.Dataset(jsonld=str(path)).metadata
    assert not metadata.ctx.issues.errors
    assert metadata.license == ["CC0-1.0"]
    assert [one.id for one in metadata.record_sets] == ["train", "test"]
    types = {field.id: field.data_type for field in metadata.record_sets[0].fields}
    assert types == {"train/id": bytes, "train/text": bytes, "train/price": float}


@pytest.mark.parametrize("rows_per_shard", [50, 4])
def test_its_rows_can_be_read(tmp_path: Path, rows_per_shard: int) -> None:
    dataset = mlcroissant.Dataset(jsonld=str(described(tmp_path, rows_per_shard)))
    texts = [row["train/text"].decode() for row in dataset.records("train")]
    # mlcroissant reads the shards in the order of the folder.
    assert sorted(texts) == sorted(TABLE["text"].to_pylist())
    assert len(list(dataset.records("test"))) == 3


def test_each_file_has_its_hash(tmp_path: Path) -> None:
    path = described(tmp_path, 4)
    card = json.loads(path.read_text(encoding="utf-8"))
    files = [one for one in card["distribution"] if one["name"].endswith(".parquet")]
    assert len(files) == 4
    for one in files:
        assert sha256(path.parent / one["contentUrl"]) == one["sha256"]


def test_what_nobody_stated_is_left_out(tmp_path: Path) -> None:
    path = described(tmp_path, 50, CardParams())
    card = json.loads(path.read_text(encoding="utf-8"))
    assert not {"license", "description"} & card.keys()
    assert not mlcroissant.Dataset(jsonld=str(path)).metadata.ctx.issues.errors
