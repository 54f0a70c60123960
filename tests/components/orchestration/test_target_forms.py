"""New recognizes labels that no column holds as a word."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from new_checkout import make_checkout, sentence

from components.core.errors import InputError
from components.core.params import read_yaml
from components.orchestration.creation.create_pipeline import create
from components.orchestration.creation.pipeline_draft import NewOptions

TEXT = "text_classification"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout of the files that new reads."""
    return make_checkout(tmp_path)


def table(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    """A CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def flags(*places: Sequence[int]) -> list[list[Any]]:
    """Rows of an id, a text and three columns of 0 and 1; places of ones, again and again."""
    rows = []
    for number in range(60):
        ones = places[number % len(places)]
        rows.append([number, sentence(number), *(int(place in ones) for place in range(3))])
    return rows


HEADER = ["id", "words", "calm", "angry", "sad"]


def test_a_column_for_each_class(root: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv", HEADER, flags([0], [1], [2]))
    lines = create(root, "a", TEXT, data)
    ingest = read_yaml(root / "pipelines" / "a" / "params.yaml")["ingest"]
    assert ingest["source"]["one_hot"] == ["calm", "angry", "sad"]
    assert ingest["columns"] == {"text": "words", "label": "one_hot"}
    assert any("calm (20), angry (20), sad (20)" in line for line in lines)


def test_several_ones_are_several_labels(root: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv", HEADER, flags([0], [1, 2], []))
    with pytest.raises(InputError, match="20 rows have a 1 in several of them") as error:
        create(root, "a", TEXT, data)
    assert "--label calm" in error.value.remedy
    create(root, "a", TEXT, data, target="calm")


def test_rows_without_a_one_are_a_decision(root: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv", HEADER, flags([0], [1], [2], []))
    with pytest.raises(InputError, match="15 of 60 rows have a 1 in none") as error:
        create(root, "a", TEXT, data)
    setting = "ingest.source.one_hot=[calm, angry, sad]"
    assert setting in error.value.remedy
    lines = create(root, "a", TEXT, data, options=NewOptions(settings=[setting]))
    assert any("rows without a label: 15" in line for line in lines)


def test_a_label_comes_before_columns_of_0_and_1(root: Path, tmp_path: Path) -> None:
    rows = [[*row, "xyz"[number % 3]] for number, row in enumerate(flags([0], [1], [2]))]
    create(root, "a", TEXT, table(tmp_path / "a.csv", [*HEADER, "sentiment"], rows))
    ingest = read_yaml(root / "pipelines" / "a" / "params.yaml")["ingest"]
    assert ingest["columns"]["label"] == "sentiment"
    assert ingest["source"]["one_hot"] == []


def test_a_table_for_each_class(root: Path, tmp_path: Path) -> None:
    for place, name in enumerate(("positive", "negative")):
        rows = [[sentence(number + 100 * place)] for number in range(30)]
        table(tmp_path / "data" / f"{name}.csv", ["words"], rows)
    lines = create(root, "a", TEXT, tmp_path / "data")
    ingest = read_yaml(root / "pipelines" / "a" / "params.yaml")["ingest"]
    assert ingest["source"]["classes"] == {"negative.csv": "negative", "positive.csv": "positive"}
    assert ingest["columns"] == {"text": "words", "label": "file_label"}
    assert any("negative (30), positive (30)" in line for line in lines)


@pytest.mark.parametrize("names", [("part1", "part2"), ("2023", "2024"), ("train", "test")])
def test_parts_years_and_splits_are_no_classes(
    root: Path,
    tmp_path: Path,
    names: Sequence[str],
) -> None:
    for place, name in enumerate(names):
        rows = [[sentence(number + 100 * place), "xy"[number % 2]] for number in range(30)]
        table(tmp_path / "data" / f"{name}.csv", ["words", "kind"], rows)
    create(root, "a", TEXT, tmp_path / "data")
    ingest = read_yaml(root / "pipelines" / "a" / "params.yaml")["ingest"]
    assert ingest["source"]["classes"] == {}
    assert ingest["columns"]["label"] == "kind"


def test_names_of_files_beside_a_likely_column_are_offered(root: Path, tmp_path: Path) -> None:
    for place, name in enumerate(("hotel", "flat")):
        rows = [[sentence(number + 100 * place), "xy"[number % 2]] for number in range(30)]
        table(tmp_path / "data" / f"{name}.csv", ["words", "kind"], rows)
    lines = create(root, "a", TEXT, tmp_path / "data")
    assert any("--label file_label takes them: flat, hotel" in line for line in lines)
    lines = create(root, "b", TEXT, tmp_path / "data", target="file_label")
    assert any("flat (30), hotel (30)" in line for line in lines)
