"""JSON in the forms in which tools write it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import InputError
from components.stages.ingest import json_records
from components.stages.ingest.paths import ABSENT, flattened, lookup
from tests.components.stages.ingest.conftest import Ingest, Result

TWO = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
BOTH = [("a", "x"), ("b", "y")]


def files(path: str, **more: Any) -> dict[str, Any]:
    """Return a `files` source."""
    return {"kind": "files", "path": path, **more}


def pairs(result: Result) -> list[tuple[str, str | None]]:
    """Return text and label of each row."""
    return [(row["text"], row["label"]) for row in result.rows]


def lines(*values: Any) -> str:
    """Return JSON lines."""
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)


FORMS: dict[str, tuple[str, str]] = {
    "array": (".json", json.dumps(TWO)),
    "array with a mark": (".json", "\ufeff" + json.dumps(TWO, indent=2)),
    "array with a comma too many": (
        ".json",
        '[\n{"text": "a", "label": "x"},\n{"text": "b", "label": "y"},\n]\n',
    ),
    "array called jsonl": (".jsonl", json.dumps(TWO, indent=1)),
    "array in one line called jsonl": (".jsonl", json.dumps(TWO) + "\n"),
    "lines called json": (".json", lines(*TWO)),
    "lines with commas": (".jsonl", ",\n".join(map(json.dumps, TWO)) + ",\n"),
    "objects over several lines": (".json", "\n".join(json.dumps(each, indent=2) for each in TWO)),
    "columns": (".json", json.dumps({"text": ["a", "b"], "label": ["x", "y"]})),
    "columns of pandas": (
        ".json",
        json.dumps({"text": {"0": "a", "1": "b"}, "label": {"0": "x", "1": "y"}}),
    ),
    "index of pandas": (".json", json.dumps({"0": TWO[0], "1": TWO[1]})),
    "split of pandas": (
        ".json",
        json.dumps(
            {"columns": ["text", "label"], "index": [0, 1], "data": [["a", "x"], ["b", "y"]]}
        ),
    ),
    "table of pandas": (
        ".json",
        json.dumps({"schema": {"fields": [{"name": "text"}]}, "data": TWO}),
    ),
    "one list inside": (".json", json.dumps({"version": 1, "rows": TWO}, indent=2)),
    "one list further inside": (".json", json.dumps({"rasa_nlu_data": {"common_examples": TWO}})),
    "by id": (".json", json.dumps({"r1": TWO[0], "r2": TWO[1]})),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_json(tmp_path: Path, ingest: Ingest, name: str) -> None:
    suffix, content = FORMS[name]
    (tmp_path / f"a{suffix}").write_text(content, encoding="utf-8")
    result = ingest(source=files(f"a{suffix}"))
    assert pairs(result) == BOTH and result.quarantine == []
    assert [row["origin"] for row in result.rows] == [f"a{suffix}:1", f"a{suffix}:2"]


def test_splits_as_keys(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.json").write_text(
        json.dumps(
            {
                "train": [["a", "x"], ["b", "y"]],
                "val": [["c", "x"]],
                "test": [["d", "y"]],
                "oos_train": [["e", "oos"]],
            }
        )
    )
    result = ingest(source=files("a.json"), columns={"text": "column_1", "label": "column_2"})
    assert [(row["text"], row["split"]) for row in result.rows] == [
        ("a", "train"),
        ("b", "train"),
        ("c", "validation"),
        ("d", "test"),
        ("e", "train"),
    ]


def test_values_larger_than_what_is_read_at_once(
    tmp_path: Path, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_records, "_CHUNK", 7)
    rows = [{"text": "好" * 50 + str(number), "label": number % 3} for number in range(40)]
    (tmp_path / "a.json").write_text(
        json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8"
    )
    (tmp_path / "b.jsonl").write_text("\n\n" + lines(*rows), encoding="utf-8")
    expected = [(row["text"], str(row["label"])) for row in rows]
    assert pairs(ingest(source=files("a.json"))) == expected
    result = ingest(source=files("b.jsonl"), out="b")
    assert pairs(result) == expected and result.rows[0]["origin"] == "b.jsonl:3"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('[{"text": "a", "label": "x"},\n{"text": "b", "lab', "a.json:2: is no whole JSON"),
        ('{"text": "a",\n "label": }', "a.json:2: is no whole JSON"),
        ("[" * 100_000, "a.json:1: is no whole JSON"),
        (json.dumps({"a": TWO, "b": TWO}), "several lists: 'a', 'b'"),
        ("[]", "holds no rows"),
        ('[{"txt": "a", "label": "x"}]', r"has no column 'text' \(did you mean 'txt'"),
    ],
)
def test_json_that_is_refused(tmp_path: Path, ingest: Ingest, content: str, says: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=says) as caught:
        ingest(source=files("a.json"))
    assert caught.value.remedy


def test_a_list_of_one_label(tmp_path: Path, ingest: Ingest) -> None:
    rows = [
        ("好", ["好评"]),
        ("差", ["差评"]),
        ("都", ["好评", "差评"]),
        ("无", []),
        ("空", [None]),
        ("层", [["好评"]]),
    ]
    (tmp_path / "a.jsonl").write_text(
        lines(
            *(
                {"id": number, "data": text, "label": label}
                for number, (text, label) in enumerate(rows)
            )
        ),
        encoding="utf-8",
    )
    result = ingest(source=files("a.jsonl"), columns={"text": "data"})
    assert pairs(result) == [
        ("好", "好评"),
        ("差", "差评"),
        ("无", None),
        ("空", None),
        ("层", "好评"),
    ]
    assert result.quarantine == [("a.jsonl:3", "several_labels")]
    assert "the first several_labels: a.jsonl:3: 好评, 差评" in result.notes


def label_studio(text: str, *choices: str) -> dict[str, Any]:
    """Return a task of Label Studio's full export."""
    annotations = (
        [{"id": 1, "result": [{"value": {"choices": list(choices)}, "from_name": "sentiment"}]}]
        if choices
        else []
    )
    return {"id": 1, "annotations": annotations, "data": {"text": text}}


@pytest.mark.parametrize(
    "path", ["annotations[0].result[0].value.choices[0]", "annotations[0].result[0].value.choices"]
)
def test_label_studio(tmp_path: Path, ingest: Ingest, path: str) -> None:
    tasks = [
        label_studio("a", "x"),
        label_studio("b", "y"),
        label_studio("c", "x", "y"),
        label_studio("d"),
    ]
    (tmp_path / "full.json").write_text(json.dumps(tasks))
    result = ingest(source=files("full.json"), columns={"text": "data.text", "label": path})
    assert pairs(result) == [*BOTH, ("d", None)]
    assert result.quarantine == [("full.json:3", "several_labels")]
    (tmp_path / "min.json").write_text(
        json.dumps(
            [
                {"text": "a", "sentiment": "x", "annotator": 1},
                {"text": "b", "sentiment": "y", "annotator": 1},
            ],
            indent=2,
        )
    )
    assert (
        pairs(ingest(source=files("min.json"), columns={"label": "sentiment"}, out="min")) == BOTH
    )


def test_a_path_that_leads_nowhere_names_those_that_there_are(
    tmp_path: Path, ingest: Ingest
) -> None:
    (tmp_path / "a.json").write_text(json.dumps([label_studio("a", "x")]))
    with pytest.raises(
        InputError, match=r"has no column 'data.txt' \(did you mean 'data.text'\?\)"
    ):
        ingest(
            source=files("a.json"),
            columns={"text": "data.txt", "label": "annotations[0].result[0].value.choices"},
        )


def test_a_column_with_dots_in_its_name_comes_first(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "a.jsonl").write_text(
        lines(
            {"data.text": "a", "data": {"text": "no"}, "label": "x"},
            {"data.text": "b", "label": "y"},
        )
    )
    assert pairs(ingest(source=files("a.jsonl"), columns={"text": "data.text"})) == BOTH


def test_lookup_and_flattened_are_inverse() -> None:
    record = {"a": {"b.c": [{"d": 1}, {"d": 2}]}, "e": ["x"], "f": {}, "g": None}
    leaves = flattened(record)
    assert leaves == {"a.b.c[0].d": 1, "e": ["x"], "f": {}, "g": None}
    assert {path: lookup(record, path) for path in leaves} == leaves
    assert (
        lookup(record, "a.x") is ABSENT
        and lookup(record, "e[3]") is None
        and lookup(record, "g.h") is None
    )


def test_what_an_annotator_refused_is_no_row(tmp_path: Path, ingest: Ingest) -> None:
    rows = [
        {
            "text": f"text {number}",
            "label": ("A", "B")[number % 2],
            "answer": answer,
            "_task_hash": 1,
        }
        for number, answer in enumerate(["accept", "accept", "reject", "ignore"])
    ]
    # The same words in a column of another program say nothing.
    rows.append({"text": "text 4", "label": "A", "answer": "reject"})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    result = ingest(source={"kind": "files", "path": "a.jsonl"})
    assert [row["text"] for row in result.rows] == ["text 0", "text 1", "text 4"]
    assert result.quarantine == [
        ("a.jsonl:3", "annotator_reject"),
        ("a.jsonl:4", "annotator_ignore"),
    ]
