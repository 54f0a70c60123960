"""Labels of a source: plain spellings, other names, and doubts."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from components.core.errors import InputError
from components.fields.base import Reject
from components.tasks.shared.schema.classification.label_maps import (
    LabelParams,
    LabelRules,
    alike_labels,
    is_scale,
    joined_labels,
    plain_label,
)
from components.tasks.shared.schema.classification.rules import ClassTargets

RULES = ClassTargets()


@pytest.mark.parametrize(
    ("label", "plain"),
    [
        ("\uff30\uff2f\uff33", "POS"),
        ("  a \u00a0 b ", "a b"),
        ("a\u200bb", "ab"),
        ("\u2060x\x00", "x"),
        ("ＡＢＣ　１", "ABC 1"),
        ("⭐\ufe0f", "⭐"),
        ("می\u200cخواهم\u200c", "می\u200cخواهم"),
        ("ﾃｽﾄ", "テスト"),
    ],
)
def test_width_invisible_signs_and_spaces_do_not_make_a_class(label: str, plain: str) -> None:
    assert plain_label(label) == plain


def test_an_empty_new_label_is_none() -> None:
    assert LabelRules({"n/a": "", "x": "y"}, fold=False).apply("n/a") is None


@pytest.mark.parametrize(
    ("labels", "scale"),
    [
        ({str(number): 10 for number in range(10)}, False),
        ({str(number): 12 for number in range(77)}, False),
        ({str(number * 0.37): 1 for number in range(50)}, True),
        ({str(number * 13): 1 for number in range(100)}, True),
        ({f"intent {number}": 1 for number in range(100)}, False),
        ({str(number / 2): 10 for number in range(10)}, False),
    ],
)
def test_numbers_on_a_scale_are_told_from_codes(labels: dict[str, int], scale: bool) -> None:
    assert is_scale(labels) == scale


def test_alike_labels_begin_with_the_most_frequent() -> None:
    assert alike_labels({"a": 1, "A": 3, "b": 9}) == [["A", "a"]]


def test_labels_that_are_made_of_others() -> None:
    assert joined_labels({"toxic", "rude", "toxic|rude", "AC/DC"}) == ["toxic|rude"]


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("x", "x"),
        (["x"], "x"),
        ([], None),
        ([None, "x"], "x"),
        ([["x"]], "x"),
        ("['x']", "x"),
        (["['x']"], "x"),
        ("[x]", "[x]"),
        (3.5, 3.5),
    ],
)
def test_the_label_of_a_list(value: Any, label: Any) -> None:
    assert LabelRules({}, fold=False).unwrap(value) == label


@pytest.mark.parametrize("value", [["x", "y"], "['x', 'y']", [["x", "y"]]])
def test_several_labels_are_refused(value: Any) -> None:
    with pytest.raises(Reject) as refusal:
        LabelRules({}, fold=False).unwrap(value)
    assert refusal.value.reason in RULES.remedies
    assert refusal.value.detail == "x, y"


def test_the_rules_of_params() -> None:
    rules = RULES.value_map(LabelParams(labels={"N/A": None, "1.0": "one"}, label_case="fold"))
    assert [rules.apply(text) for text in ("n/a", "1", "Good ", "nan")] == [
        None,
        "one",
        "good",
        None,
    ]
    assert rules.cache_key() == [[("1.0", "one"), ("N/A", None)], True]


def test_classes_of_a_source_are_counted() -> None:
    values = pa.chunked_array([["b", "a", None], ["b"]])
    description = RULES.describe_source(values, "label", "a.csv")
    assert description == {"classes": {"a": 1, "b": 2}}
    assert RULES.count_source(description) == {"classes": 2}
    assert RULES.source_notes(values) == [
        "1 rows have no label: clean.unlabelled says what becomes of them"
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([None, None], "has no row with a label among 2"),
        (["a", None], "has in its 2 rows only the class 'a'; at least two are needed"),
    ],
)
def test_fewer_than_two_classes_are_refused(values: list[str | None], message: str) -> None:
    column = pa.chunked_array([pa.array(values, pa.string())])
    with pytest.raises(InputError) as refusal:
        RULES.describe_source(column, "kind", "a.csv")
    assert refusal.value.what == message
    assert "set ingest.columns.kind to" in str(refusal.value)
