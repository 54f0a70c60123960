"""Rules for the labels of clean rows: conflicts, small classes, doubts, strata and the manifest."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from components.core.errors import InputError
from components.tasks.shared.schema.classification.class_balance import ClassClean
from components.tasks.shared.schema.classification.rules import ClassTargets

RULES = ClassTargets()
MERGE = ClassClean(small_classes="merge")


@pytest.mark.parametrize("conflicts", ["drop", "majority"])
def test_equal_inputs_with_different_labels_are_treated_as_params_say(conflicts: Any) -> None:
    assert RULES.conflicts(ClassClean(conflicts=conflicts)) == conflicts


def test_the_labels_that_disagree_most_often_are_named() -> None:
    targets = [{"b", "a"}, {"a", "\x1b"}, {"a", "b"}, {"a", "b", "c", "d"}]
    assert RULES.describe_conflicts(targets, "'x'") == (
        "with different labels (a and b: 2; \\x1b and a: 1; a and b and c: 1; for example 'x'): "
        "clean.conflicts"
    )


def test_small_classes_are_merged_only_where_params_say_so() -> None:
    counts = {"large": 10, "small": 9, "rare": 1}
    assert RULES.merged(counts, ClassClean()) == {}
    merged = RULES.merged(counts, MERGE)
    assert merged == {"rare": "other", "small": "other"}
    assert RULES.describe_merged(merged, MERGE) == (
        "2 small classes are merged into 'other' (rare, small), for having fewer than 10 rows: "
        "clean.small_classes"
    )
    many = {f"c{number:02d}": "other" for number in range(11)}
    assert "c08, c09, …)" in RULES.describe_merged(many, MERGE)


def test_labels_that_look_alike_or_missing_are_doubted() -> None:
    assert RULES.doubts({"good": 5, "bad": 5}) == []
    alike, missing = RULES.doubts({"good": 1200, "Good": 3, "N/A": 7})
    assert alike == (
        "labels alike but for case, width or spaces count as different classes "
        "('Good' 3, 'good' 1,200): ingest.label_case: fold, or ingest.labels"
    )
    assert missing == (
        "the label 'N/A' of 7 rows counts as a class; if it means none: "
        'ingest.labels: {"N/A": null}'
    )


@pytest.mark.parametrize(
    ("labels", "options", "message", "remedy"),
    [
        (
            [],
            ClassClean(),
            "no row is left after cleaning\n     why",
            "bring rows of another class",
        ),
        (["a"] * 30, ClassClean(), "only one class is left after cleaning: a;", "label"),
        (["a"] * 30 + ["b"] * 9, ClassClean(), r"\{'b': 9\}", "or set clean.small_classes: merge"),
        (["a"] * 30 + ["b"] * 9, MERGE, r"\{'b': 9\}", "or lower clean.min_rows_per_class"),
    ],
)
def test_rows_that_no_classifier_can_learn_from_are_refused(
    labels: list[str], options: ClassClean, message: str, remedy: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        RULES.check(labels, options, ["why"])
    assert remedy in caught.value.remedy
    RULES.check(["a"] * 10 + ["b"] * 10, options, [])


def test_train_has_rows_of_all_classes() -> None:
    RULES.check_train(["a", "b"], ["b", "a", "a"])
    with pytest.raises(InputError, match="no train row is left of: b, c"):
        RULES.check_train(["a"], ["a", "c", "b"])


def test_each_class_is_a_stratum() -> None:
    assert RULES.strata(["b", "a", "b"]) == ["b", "a", "b"]
    error = RULES.too_few_groups("b", 2)
    assert error.what.startswith("class 'b' has only 2 independent group(s) of rows")
    assert "ingest.labels" in error.remedy


def test_the_manifest_has_the_classes_and_their_rows() -> None:
    splits = {"train": ["b", "a", "b"], "validation": ["b"], "test": ["a"]}
    manifest = RULES.describe(splits, {"c": "a"})
    assert manifest == {
        "classes": ["a", "b"],
        "splits": {
            "train": {"a": 1, "b": 2},
            "validation": {"a": 0, "b": 1},
            "test": {"a": 1, "b": 0},
        },
        "merged_classes": {"c": "a"},
    }
    assert RULES.count(RULES.info(manifest)) == {"classes": 2}


def test_rows_of_the_model_s_classes_are_selected_with_merged_labels() -> None:
    rows = pa.table({"id": ["1", "2", "3", "4"], "label": ["a", "rare", "gone", "b"]})
    manifest = {"merged_classes": {"rare": "other"}}
    chosen = RULES.select(rows, manifest, {"classes": ["a", "b", "other"]})
    assert chosen.to_pydict() == {"id": ["1", "2", "4"], "label": ["a", "other", "b"]}
