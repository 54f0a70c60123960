"""Bundles of tables whose parts disagree are refused, and rows of one request are answered alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save
from small_bundles import CLASSES, card, edit_card, exchange

from components.core.bundles import read_bundle, write_bundle
from components.core.errors import BundleError, InputError
from components.fields.base import Reject
from components.inference.predictor import ARRAYS, Predictor, load
from components.orchestration.batch.batch_input import read_chunks, requested_columns
from components.orchestration.batch.batch_worker import Model, Piece, score
from components.serving.http.batching import outcomes_of
from components.tasks import base

TASK = "tabular_classification"
INPUTS = {"size": "number", "city": "category"}
CHOSEN = base.schema(TASK).with_inputs(INPUTS).chosen
COLUMNS = "encoder/columns.json"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ensemble of a table."""
    folder = tmp_path_factory.mktemp("bundle") / "classical"
    drawn = np.random.default_rng(0)
    size = drawn.uniform(0, 1, 120)
    rows = pa.table(
        {
            "size": size,
            "city": drawn.choice(["Bonn", "Nice"], 120),
            "label": [CLASSES[int(value > 0.5)] for value in size],
        }
    )
    facet = base.baselines(TASK)
    options = facet.options["train"].model_validate({"classical": {"folds": 2, "trees": 5}})
    clean = base.schema(TASK).options["clean"].model_validate({})
    arrays, files = facet.baselines["classical"].fit(
        rows, {"classes": CLASSES}, options, clean, 7, inputs=CHOSEN
    )
    named = {f"encoder/{key}": content for key, content in files.items()}
    write_bundle(
        folder, card("numpy", "classical", {}, TASK), {ARRAYS: save(dict(arrays)), **named}
    )
    edit_card(folder, profile={"inputs": CHOSEN})
    return folder


def altered(bundle: Path, folder: Path) -> Path:
    """A copy of a bundle."""
    shutil.copytree(bundle, folder)
    return folder


def queries(*rows: dict[str, Any]) -> list[Any]:
    """Rows as queries."""
    return [base.evaluator(TASK).Query.model_validate(row) for row in rows]


def test_columns_that_disagree_with_the_arrays_are_refused(bundle: Path, tmp_path: Path) -> None:
    folder = altered(bundle, tmp_path / "more")
    columns = json.loads((folder / COLUMNS).read_text())
    columns["columns"].append(columns["columns"][0] | {"name": "age"})
    exchange(folder, COLUMNS, json.dumps(columns).encode())
    edit_card(folder, profile={})
    with pytest.raises(BundleError, match="2 numbers and 1 categories, and the arrays are of 1"):
        load(folder)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "has inputs that cannot be used: ValueError: inputs are no mapping but a list"),
        ("size", "has inputs that cannot be used"),
        ({"columns": [{"name": "size"}]}, "has inputs that cannot be used"),
        ({"columns": [{"name": "size", "kind": "number", "decimal": 3}]}, "cannot be used"),
        ({"size": "numbr"}, "has inputs that cannot be used"),
        ({"size": "number"}, "other inputs than the card"),
        ({"city": "category", "size": "number"}, "other inputs than the card"),
        ({"size": "number", "city": "time"}, "other inputs than the card"),
    ],
    ids=str,
)
def test_inputs_of_the_card_that_are_not_those_of_the_model_are_refused(
    bundle: Path, tmp_path: Path, inputs: Any, message: str
) -> None:
    folder = altered(bundle, tmp_path / "bundle")
    edit_card(folder, profile={"inputs": inputs})
    with pytest.raises(BundleError, match=message):
        load(folder)


@pytest.fixture(scope="module")
def predictor(bundle: Path) -> Predictor:
    """Of the small ensemble."""
    return load(bundle)


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"size": 0.9}, "city_is_missing"),
        ({"size": 0.9, "city": "Bonn", "color": "red"}, "unknown_column"),
        ({"size": "big", "city": "Bonn"}, "size_not_a_number"),
    ],
)
def test_each_row_of_a_request_is_judged_by_itself(
    predictor: Predictor, number: int, wrong: dict[str, Any], reason: str
) -> None:
    asked = queries({"size": 0.1, "city": "Bonn"}, {"city": "Nice", "size": 0.9})
    asked[number:number] = queries(wrong)
    prepared = outcomes_of(predictor.prepare, asked)
    rows = [row for row in prepared if not isinstance(row, Reject)]
    outcomes = outcomes_of(predictor.score, rows)
    outcomes += [row for row in prepared if isinstance(row, Reject)]
    rejected = [outcome for outcome in outcomes if isinstance(outcome, Reject)]
    assert [reject.reason for reject in rejected] == [reason]
    answers = [outcome.label for outcome in outcomes if not isinstance(outcome, Reject)]
    assert sorted(answers) == sorted(CLASSES)


def test_a_json_line_without_a_column_has_an_empty_value_there(
    bundle: Path, tmp_path: Path
) -> None:
    rows = [{"size": 0.9}, {"city": "Bonn"}, {"size": 0.1, "city": "Bonn"}, {"size": "big"}]
    source = tmp_path / "rows.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    wanted = requested_columns(base.schema(TASK).with_inputs(INPUTS).roles, None, {}, None)
    (chunk,) = read_chunks(source, wanted)
    model = Model("digest", "sample version 1", [read_bundle(bundle)])
    _, table = score(Piece(0, chunk, wanted.columns, wanted.limit, model))
    reasons = table["predicted_reason"].to_pylist()
    assert reasons == [None, None, None, "size_not_a_number"]
    answers = table["predicted_label"].to_pylist()
    assert (answers[0], answers[2], answers[3]) == (CLASSES[1], CLASSES[0], None)


def test_a_file_without_a_column_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_text("size\n1\n2\n", encoding="utf-8")
    wanted = requested_columns(base.schema(TASK).with_inputs(INPUTS).roles, None, {}, None)
    with pytest.raises(InputError, match="has no column 'city'"):
        list(read_chunks(source, wanted))
