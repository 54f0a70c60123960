"""The list of doubtful rows: it is written, edited by a person, and read again."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from components.core.errors import InputError
from components.orchestration import doubtful_targets
from components.orchestration.pipeline_params import load
from components.tasks import base
from tests.structure.import_graph import ROOT

PARAMS = load(ROOT / "params.yaml")
ROWS = pa.table(
    {
        "id": ["f-1", "f-2", "f-3"],
        "text": ['fine, "very" fine', "=poor()", "good"],
        "title": ["", "", ""],
        "label": ["poor", "fine", "fine"],
        "group": ["a", "b", "c"],
    }
)


@pytest.fixture(autouse=True)
def cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows that are clean, of which two are doubtful."""
    found = [
        base.DoubtfulTarget(1, "fine", "poor", -0.9),
        base.DoubtfulTarget(0, "poor", "fine", -0.4),
    ]

    def doubtful(self: Any, *args: Any, **named: Any) -> Sequence[base.DoubtfulTarget]:
        return found

    facet = base.baselines(PARAMS.task)
    monkeypatch.setattr(doubtful_targets, "clean_rows", lambda root, params: ROWS)
    monkeypatch.setattr(
        doubtful_targets,
        "read_manifest",
        lambda folder: {"classes": {"fine": 2, "poor": 1}, "splits": {}},
    )
    monkeypatch.setattr(type(facet), "doubtful_targets", doubtful)


def write(path: Path) -> list[dict[str, str]]:
    assert doubtful_targets.write_doubts(ROOT, PARAMS, path, 5) == 2
    text = path.read_text(encoding="utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_the_list_that_was_written_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "doubts.csv"
    entries = write(path)
    assert [(entry["id"], entry["given"], entry["suggested"]) for entry in entries] == [
        ("f-2", "fine", "poor"),
        ("f-1", "poor", "fine"),
    ]
    corrections = doubtful_targets.read_corrections(ROOT, PARAMS, path)
    assert [correction.target for correction in corrections] == ["poor", "fine"]
    # The inputs come from the data: nobody can change them in the list.
    assert corrections[1].columns == {"text": 'fine, "very" fine', "title": ""}
    assert corrections[0].id.startswith("f-2-")


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ("id,suggested\nf-9,fine\n", "'f-9' is no row of the cleaned data"),
        ("id,suggested\nf-1,great\n", "'great' is no target of the cleaned data"),
        ("id,given\nf-1,fine\n", "has no column 'suggested'"),
    ],
)
def test_an_edited_list_with_a_mistake_is_refused(lines: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "doubts.csv"
    path.write_text(lines, encoding="utf-8")
    with pytest.raises(InputError, match=r"doubts\.csv") as caught:
        doubtful_targets.read_corrections(ROOT, PARAMS, path)
    assert what in caught.value.what


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_list_that_a_program_for_tables_saved_is_read(
    encoding: str, separator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ROWS.set_column(3, "label", pa.array(["差评", "好评", "好评"]))
    monkeypatch.setattr(doubtful_targets, "clean_rows", lambda root, params: rows)
    lines = [("id", "suggested", "remark"), ("f-2", "差评", "这家酒店的早餐不好吃，房间也很小")]
    text = "".join(separator.join(line) + "\r\n" for line in lines)
    path = tmp_path / "doubts.csv"
    path.write_bytes(text.encode(encoding))
    (correction,) = doubtful_targets.read_corrections(ROOT, PARAMS, path)
    assert correction.target == "差评" and correction.columns["text"] == "=poor()"


def test_no_cell_of_the_list_is_a_formula(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = ["=1+1", "-1", "'=x"]
    rows = ROWS.set_column(3, "label", pa.array(labels))
    monkeypatch.setattr(doubtful_targets, "clean_rows", lambda root, params: rows)
    found = [base.DoubtfulTarget(row, labels[row - 1], labels[row], -0.5) for row in range(3)]
    facet = base.baselines(PARAMS.task)
    monkeypatch.setattr(type(facet), "doubtful_targets", lambda self, *args, **named: found)
    path = tmp_path / "doubts.csv"
    assert doubtful_targets.write_doubts(ROOT, PARAMS, path, 5) == 3
    text = path.read_text(encoding="utf-8-sig")
    for entry in csv.DictReader(io.StringIO(text, newline="")):
        assert all(cell[0] not in "=+@" for cell in entry.values())
        assert entry["suggested"][0] == entry["given"][0] == "'"
    corrections = doubtful_targets.read_corrections(ROOT, PARAMS, path)
    assert [correction.target for correction in corrections] == labels


def test_a_file_that_is_no_text_is_refused_with_what_to_save(tmp_path: Path) -> None:
    path = tmp_path / "doubts.csv"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(InputError) as caught:
        doubtful_targets.read_corrections(ROOT, PARAMS, path)
    assert caught.value.remedy.endswith("saved as CSV in UTF-8")


def test_a_task_without_a_test_says_so(tmp_path: Path) -> None:
    params = load(ROOT / "pipelines" / "diamonds" / "params.yaml")
    with pytest.raises(InputError, match="no test of its targets"):
        doubtful_targets.write_doubts(ROOT, params, tmp_path / "doubts.csv", 5)
