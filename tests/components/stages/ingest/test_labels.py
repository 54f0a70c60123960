"""What becomes of labels, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.core.errors import ParamsError
from components.core.params import validate
from components.tasks.shared.schema.classification.label_maps import LabelRules
from tests.components.stages.ingest.conftest import Ingest, Section

SOURCE = {"kind": "files", "path": "a.csv"}
SPELLINGS = [
    "Positive",
    "positive",
    "positive ",
    "POSITIVE",
    "positive\u200b",
    "\uff30ositive",
    "\ufeffpositive",
    "\u202bpositive\u202c",
    "pos\u00aditive",
    "negative",
    "n/a",
]


def write(root: Path, labels: list[str]) -> None:
    """Write a row for each label."""
    rows = [f'text {number},"{label}"' for number, label in enumerate(labels)]
    (root / "a.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")


def test_case_is_kept_and_shown_with_a_remedy(tmp_path: Path, ingest: Ingest) -> None:
    write(tmp_path, SPELLINGS)
    result = ingest(source=SOURCE)
    assert result.classes == {"Positive": 2, "positive": 6, "POSITIVE": 1, "negative": 1, "n/a": 1}
    assert (
        "labels that differ only in case: 'positive' (6 rows), 'Positive' (2 rows), 'POSITIVE' "
        "(1 rows); ingest.label_case: fold" in result.notes
    )
    assert (
        "the label 'n/a' (1 rows) may say that there is none: ingest.labels: {'n/a': null}"
        in result.notes
    )


def test_labels_are_folded_and_mapped(tmp_path: Path, ingest: Ingest) -> None:
    write(tmp_path, SPELLINGS)
    folded = ingest(source=SOURCE, label_case="fold", labels={"N/A": None}, out="fold")
    assert (
        folded.classes == {"positive": 9, "negative": 1} and "1 rows have no label" in folded.notes
    )
    mapped = ingest(
        source=SOURCE,
        labels={
            "Positive": "好评",
            "POSITIVE": "好评",
            "positive": "好评",
            "negative": "差评",
            "n/a": None,
        },
        out="map",
    )
    assert mapped.classes == {"好评": 9, "差评": 1} and "differ only in case" not in mapped.notes


def test_numbers_and_booleans_in_a_map(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.csv").write_text("text,label\nb,0\nc,true\nd,-1\n")
    section = validate(
        Section,
        {"source": SOURCE, "labels": {0.0: "no", True: "yes", -1: None}},
        "params.yaml",
    )
    assert section.model_dump()["labels"] == {"0.0": "no", "true": "yes", "-1": None}
    assert ingest(source=SOURCE, labels={0.0: "no", True: "yes", -1: None}).classes == {
        "yes": 1,
        "no": 1,
    }


def test_class_folders_and_fasttext_are_mapped_too(tmp_path: Path, ingest: Ingest) -> None:
    for name in ("Pos", "pos", "neg"):
        (tmp_path / "d" / name).mkdir(parents=True)
        (tmp_path / "d" / name / "1.txt").write_text(f"text of {name}")
    assert ingest(source={"kind": "files", "path": "d"}, labels={"Pos": "pos"}).classes == {
        "neg": 1,
        "pos": 2,
    }
    (tmp_path / "f.txt").write_text("__label__A one\n__label__b two\n")
    assert ingest(
        source={"kind": "files", "path": "f.txt"}, label_case="fold", out="f"
    ).classes == {"a": 1, "b": 1}


def test_a_list_of_labels_as_text(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.csv").write_text(
        'text,label\na,"[\'x\']"\nb,[""y""]\nc,"[\'x\', \'y\']"\nd,[z]\n'
    )
    result = ingest(source=SOURCE)
    assert [(row["text"], row["label"]) for row in result.rows] == [
        ("a", "x"),
        ("b", '[""y""]'),
        ("d", "[z]"),
    ]
    assert result.quarantine == [("a.csv:4", "several_labels")]


def test_params_refuse_another_case() -> None:
    with pytest.raises(ParamsError, match="label_case"):
        validate(Section, {"source": SOURCE, "label_case": "lower"}, "params.yaml")
    with pytest.raises(ParamsError, match="two columns cannot have one name"):
        validate(Section, {"source": {**SOURCE, "column_names": ["a", "a"]}}, "params.yaml")


def test_a_scale_is_said(tmp_path: Path, ingest: Ingest) -> None:
    write(tmp_path, [str(number * 0.37) for number in range(50)])
    assert "the 50 labels are numbers on a scale" in ingest(source=SOURCE).notes


def test_other_rules_are_another_reading(tmp_path: Path, ingest: Ingest) -> None:
    from components.stages.ingest.columns import layout
    from components.stages.ingest.source_rows import Unit
    from components.stages.ingest.stage import ParseInput, _key
    from tests.components.stages.ingest.conftest import TASKS

    roles = TASKS["words"].roles
    unit = Unit("a.csv", (), "csv")
    rules: list[Any] = [
        None,
        LabelRules({}, fold=True),
        LabelRules({"a": None}, fold=False),
        LabelRules({"a": "b"}, fold=False),
    ]
    keys = {
        _key(ParseInput(unit, layout(roles, {}, 10, each), "k", Path()), "digest") for each in rules
    }
    units = [
        Unit("a.csv", (), "csv", header=False),
        Unit("a.csv", (), "csv", column_names=("x",)),
        Unit("a.csv", (), "csv", unlabelled=True),
        Unit("a.csv", (), "csv", pictures=True),
    ]
    keys |= {_key(ParseInput(each, layout(roles, {}, 10), "k", Path()), "digest") for each in units}
    assert len(keys) == len(rules) + len(units)


def test_labels_that_join_others_are_said(tmp_path: Path, ingest: Ingest) -> None:
    labels = ["rude", "toxic", "rude|toxic", "AC/DC"]
    rows = "".join(f"text {number},{labels[number % 4]}\n" for number in range(12))
    (tmp_path / "a.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    notes = ingest(source={"kind": "files", "path": "a.csv"}).notes
    assert "the label 'rude|toxic' (3 rows) may be several labels" in notes
    assert "AC/DC" not in notes
