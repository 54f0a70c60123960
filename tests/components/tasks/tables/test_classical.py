"""The classical baseline of tables goes from rows to a bundle and to answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load, save

from components.core.params import Strict
from components.fields.base import Reject
from components.tasks.shared.baselines.tables.classical import (
    ClassEnsemble,
    EnsembleParams,
    NumberEnsemble,
    TableClassical,
    column_importance,
)
from components.tasks.shared.schema.tables.kinds import inputs_json, parse_inputs

INPUTS: dict[str, Any] = {"carat": {"kind": "number"}, "cut": {"kind": "category"}}
OPTIONS = TableClassical(classical=EnsembleParams(folds=3, trees=40))


def rows_of(count: int) -> pa.Table:
    """Return clean rows with a target and a label that follow from the inputs."""
    rng = np.random.default_rng(0)
    carat = rng.uniform(0.2, 3.0, count)
    cut = rng.choice(["Fair", "Good", "Ideal"], count)
    price = 1000 * carat * (1 + (cut == "Ideal"))
    label = np.where(price > 2500, "dear", "cheap")
    values = [None if number < 3 else value for number, value in enumerate(carat.tolist())]
    return pa.table({"carat": values, "cut": cut, "target": price, "label": label})


def test_numbers_from_rows_to_answers() -> None:
    rows = rows_of(300)
    price = rows["target"].to_numpy()
    targets = {"center": [float(price.mean())], "scale": [float(price.std())]}
    baseline = NumberEnsemble()
    arrays, files = baseline.fit(rows, targets, OPTIONS, Strict(), 7, inputs=INPUTS)
    features = baseline.featurizer(files)({"carat": [1.0, 2.0, None], "cut": ["Ideal", "new", ""]})
    logits = baseline.scorer(load(save(arrays)))("forward", features)["logits"]
    answers = logits[:, 0] * price.std() + price.mean()
    assert answers[0] == pytest.approx(2000, rel=0.15)
    assert answers.shape == (3,)
    shares = column_importance(arrays, files)
    assert list(shares) == ["carat", "cut"]
    assert shares["carat"] > shares["cut"] > 0


def test_classes_from_rows_to_answers() -> None:
    rows = rows_of(300)
    baseline = ClassEnsemble()
    targets = {"classes": ["cheap", "dear"]}
    arrays, files = baseline.fit(rows, targets, OPTIONS, Strict(), 7, inputs=INPUTS)
    features = baseline.featurizer(files)({"carat": [0.4, 2.8], "cut": ["Fair", "Ideal"]})
    logits = baseline.scorer(load(save(arrays)))("forward", features)["logits"]
    assert logits.argmax(1).tolist() == [0, 1]


@pytest.fixture(scope="module")
def fitted_classes() -> Any:
    """Arrays and files of a small classifier."""
    targets = {"classes": ["cheap", "dear"]}
    return ClassEnsemble().fit(rows_of(300), targets, OPTIONS, Strict(), 7, inputs=INPUTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda columns: columns.append(columns[0] | {"name": "depth"}), "are 2 numbers and 1 c"),
        (lambda columns: columns.append(columns[1] | {"name": "color"}), "are 1 numbers and 2 c"),
        (lambda columns: columns.pop(), "are 1 numbers and 0 categories, and the arrays"),
        (lambda columns: columns[1]["fitted"]["values"].pop(), "other numbers of categories"),
        (lambda columns: columns.reverse(), "other inputs than the card"),
        (lambda columns: columns[0].update(name="weight"), "other inputs than the card"),
    ],
)
def test_columns_that_disagree_with_the_arrays_are_refused(
    fitted_classes: Any, change: Callable[[Any], object], message: str
) -> None:
    arrays, files = fitted_classes
    chosen = inputs_json(parse_inputs(INPUTS))
    ClassEnsemble().check_files(arrays, files, chosen)
    metadata = json.loads(files["columns.json"])
    change(metadata["columns"])
    changed = {"columns.json": json.dumps(metadata).encode()}
    if "card" not in message:
        chosen = {}
    with pytest.raises(ValueError, match=message):
        ClassEnsemble().check_files(arrays, changed, chosen)


def test_a_split_of_another_kind_of_column_is_refused(fitted_classes: Any) -> None:
    arrays, files = fitted_classes
    name = "plain.trees.feature"
    broken = {**arrays, name: 1 - arrays[name]}
    with pytest.raises(ValueError, match="at a column of categories"):
        ClassEnsemble().check_files(broken, files, {})


def test_a_query_without_a_column_is_refused() -> None:
    rows = rows_of(60)
    baseline = ClassEnsemble()
    _, files = baseline.fit(
        rows, {"classes": ["cheap", "dear"]}, OPTIONS, Strict(), 7, inputs=INPUTS
    )
    with pytest.raises(Reject):
        baseline.featurizer(files)({"carat": [0.4]})
