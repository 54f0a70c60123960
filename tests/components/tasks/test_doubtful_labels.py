"""Wrong labels are found out of fold, and a group is never in two folds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from components.tasks import base
from components.tasks.shared.baselines.classification.doubtful_labels import (
    claims,
    doubts,
    group_folds,
)

TEXT = "text_classification"


def test_a_class_claims_rows_above_its_mean_probability() -> None:
    labels = np.array([0, 0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9], [0.55, 0.45]])
    # The thresholds are 0.6 and 0.675.
    assert claims(labels, probabilities).tolist() == [0, 0, 1, 1, -1]
    (doubt,) = doubts(labels, probabilities, ["no", "yes"])
    assert (doubt.row, doubt.given, doubt.suggested) == (2, "no", "yes")
    assert doubt.score == pytest.approx(-0.6)


def test_a_class_without_a_row_claims_none() -> None:
    assert claims(np.array([0, 0]), np.array([[0.1, 0.9], [0.2, 0.8]])).tolist() == [-1, 0]


def test_rows_of_a_group_are_in_one_fold_and_folds_are_alike() -> None:
    groups = [str(number // 3) for number in range(60)]
    folds = group_folds(groups, 4, 1)
    assert all(len(set(folds[start : start + 3])) == 1 for start in range(0, 60, 3))
    assert np.bincount(folds).tolist() == [15, 15, 15, 15]
    assert folds.tolist() != group_folds(groups, 4, 2).tolist()


def test_planted_labels_come_first() -> None:
    good = [f"lovely clean room number {number}" for number in range(40)]
    bad = [f"noisy dirty hall number {number}" for number in range(40)]
    labels = ["good"] * 40 + ["bad"] * 40
    planted = {3, 17, 50, 71}
    for row in planted:
        labels[row] = "bad" if labels[row] == "good" else "good"
    rows = pa.table(
        {
            "id": [str(number) for number in range(80)],
            "text": good + bad,
            "title": [""] * 80,
            "label": labels,
            "group": [str(number) for number in range(80)],
        }
    )
    facet: Any = base.baselines(TEXT)
    assert isinstance(facet, base.DoubtsTargets)
    found = facet.doubtful_targets(
        rows,
        {"classes": ["bad", "good"]},
        facet.options["train"].model_validate({}),
        base.schema(TEXT).options["clean"].model_validate({}),
        folds=4,
        seed=0,
    )
    assert {doubt.row for doubt in found[:4]} == planted
    assert all(doubt.suggested != doubt.given for doubt in found)
