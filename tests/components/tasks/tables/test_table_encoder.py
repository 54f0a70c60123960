"""The encoder of a table makes one vector of a row, finite whatever the row holds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from table_samples import ENCODING, diamonds, fitted

from components.core.tables import write_table
from components.fields.base import Reject
from components.tasks.shared.encode.tables.number_scaling import (
    NumberScaler,
    fit_scaling,
    most_knots,
)
from components.training.batches import EncodedRows

ROW: dict[str, list[Any]] = {
    "carat": [0.5],
    "depth": [61.5],
    "cut": ["Ideal"],
    "sold": ["3.2.2024 06:00"],
}


def matrix(rows: pa.Table) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(rows["features"].to_pylist(), dtype=np.float32)


def test_numbers_are_standardized_and_missing_ones_are_the_median_and_flagged() -> None:
    rows = diamonds(1000)
    encoder = fitted(rows)
    encoded = encoder.encode(rows)
    features = matrix(encoded)
    assert encoded.column_names == ["id", "features", "target"]
    assert encoded["features"].type == pa.list_(pa.float32())
    assert encoder.width == features.shape[1]
    assert encoder.number_width == encoder.width - len(encoder.columns.sizes)
    numbers = features[:, : len(encoder.columns.numbers)]
    np.testing.assert_allclose(numbers[:, 0].mean(), 0, atol=1e-3)
    np.testing.assert_allclose(numbers[:, 0].std(), 1, atol=1e-2)
    missing = rows["depth"].is_null().to_numpy()
    flags = features[:, len(encoder.columns.numbers)]
    np.testing.assert_array_equal(flags, missing)
    known = numbers[~missing, 1]
    assert (numbers[missing, 1] == numbers[missing, 1][0]).all()
    assert abs(np.median(known) - numbers[missing, 1][0]) < 0.05


def test_larger_numbers_have_features_that_are_not_smaller() -> None:
    rows = diamonds(1000)
    order = np.argsort(rows["carat"].to_numpy())
    carat = matrix(fitted(rows).encode(rows))[order, 0]
    assert (np.diff(carat) >= 0).all()
    assert len(np.unique(carat)) > 100


def test_batches_and_lengths() -> None:
    rows = diamonds(5)
    encoder = fitted(rows)
    ragged = encoder.rows({name: values * 3 for name, values in ROW.items()})
    arrays = encoder.collate(ragged)["features"]
    assert arrays.shape == (3, encoder.width)
    assert arrays.dtype == np.float32
    np.testing.assert_array_equal(encoder.pack(ragged)["features"], arrays)
    assert encoder.lengths(encoder.encode(rows)).tolist() == [encoder.width] * 5


@pytest.mark.parametrize("value", [1e300, -1e300, 1.7e308, 5e-324, 0, -1, "1,000,000,000"])
def test_absurd_values_give_finite_features(value: Any) -> None:
    encoder = fitted(diamonds(300))
    features = encoder.collate(encoder.rows({**ROW, "carat": [value]}))["features"]
    assert np.isfinite(features).all()
    assert np.abs(features[:, : len(encoder.columns.numbers)]).max() < 20


def test_absurd_values_in_train_do_not_hide_the_others() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(size=2000), [1e300, -1.7e308]])
    scaler = NumberScaler([fit_scaling(values, most_knots(1))])
    features = scaler.features(np.array([[-1.0], [0.0], [1.0], [np.inf]]))[:, 0]
    assert np.isfinite(features).all()
    assert np.diff(features).min() > 0.3


@pytest.mark.parametrize(
    "values",
    [[1.0], [2.0, 2.0, 2.0], [0.0] * 99 + [1.0], [1e300, 1e300], [-1e308, 1e308], [0.1, np.nan]],
)
def test_scalings_of_few_and_equal_numbers_are_finite(values: list[float]) -> None:
    scaling = fit_scaling(np.array(values), 256)
    features = NumberScaler([scaling]).features(np.array([[-1e9], [0.0], [np.nan], [1e9]]))
    assert np.isfinite(features).all()


@pytest.mark.parametrize("missing", ["carat", "depth", "cut", "sold"])
def test_a_column_without_any_value_in_train_is_no_obstacle(missing: str) -> None:
    rows = diamonds(50)
    place = rows.column_names.index(missing)
    kind = rows.schema.field(missing).type
    rows = rows.set_column(place, missing, pa.nulls(50, kind))
    encoder = fitted(rows)
    assert np.isfinite(matrix(encoder.encode(rows))).all()
    assert np.isfinite(encoder.collate(encoder.rows(ROW))["features"]).all()


def test_ten_rows_are_encoded() -> None:
    encoder = fitted(diamonds(10))
    indices = matrix(encoder.encode(diamonds(10, 1)))[:, -1]
    assert (indices < encoder.columns.sizes[0]).all()


def test_a_split_without_rows_is_encoded() -> None:
    encoder = fitted(diamonds(10))
    empty = encoder.encode(diamonds(10).slice(0, 0))
    assert empty.schema == encoder.encode(diamonds(10)).schema
    assert empty.num_rows == 0


def test_training_reads_batches_of_encoded_rows(tmp_path: Path) -> None:
    rows = diamonds(300)
    encoder = fitted(rows)
    encoded = encoder.encode(rows)
    write_table(tmp_path, {"train": encoded}, rows_per_shard=100)
    batch = EncodedRows(tmp_path, "train", encoder).batch([0, 250])
    np.testing.assert_array_equal(batch["features"], matrix(encoded)[[0, 250]])
    np.testing.assert_allclose(batch["target"], rows["price"].to_numpy()[[0, 250]], rtol=1e-6)


def test_a_category_and_a_moment_that_were_never_seen_are_encoded() -> None:
    encoder = fitted(diamonds(500))
    rows = encoder.rows({**ROW, "cut": ["Cushion"], "sold": ["1.1.2099"]})
    features = encoder.collate(rows)["features"]
    assert np.isfinite(features).all()
    # A network has learned nothing for index 0, so the most frequent category is taken.
    assert features[0, -1] == 1


def test_a_missing_category_has_the_index_of_those_in_train() -> None:
    rows = diamonds(500)
    cuts = pa.array(rows["cut"].to_pylist(), mask=np.arange(500) % 10 == 0)
    rows = rows.set_column(rows.column_names.index("cut"), "cut", cuts)
    encoder = fitted(rows)
    for cut in (None, "Cushion"):
        assert encoder.rows({**ROW, "cut": [cut]})["features"][0][-1] == 0


def test_other_columns_are_refused() -> None:
    encoder = fitted(diamonds(50))
    with pytest.raises(Reject, match="depth_is_missing"):
        encoder.rows({name: values for name, values in ROW.items() if name != "depth"})
    with pytest.raises(Reject, match="unknown_column"):
        encoder.rows({**ROW, "more": [1]})


def test_the_file_gives_the_same_encoder() -> None:
    rows = diamonds(300)
    encoder = fitted(rows)
    again = ENCODING.load(encoder.files())
    assert again.files() == encoder.files() == fitted(rows).files()
    assert again.targets == encoder.targets
    assert again.encode(rows).equals(encoder.encode(rows))


def test_5000_columns_make_a_small_file() -> None:
    rng = np.random.default_rng(0)
    inputs = {f"n{number}": "number" for number in range(5000)}
    rows = pa.table({name: rng.normal(size=100) for name in inputs})
    rows = rows.append_column("price", pa.array(rng.normal(size=100)))
    rows = rows.append_column("id", pa.array(map(str, range(100))))
    encoder = fitted(rows, inputs)
    files = encoder.files()
    assert len(files["encoder.json"]) < 20 << 20
    assert ENCODING.load(files).encode(rows).num_rows == 100


def test_it_is_imported_without_torch() -> None:
    code = (
        "import sys, components.tasks.shared.encode.tables.table_encoder, components.tasks.shared.models.tables.models, "
        "components.tasks.shared.evaluator.tables.query; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def curve(tree: dict[str, Any]) -> dict[str, Any]:
    first: dict[str, Any] = tree["features"]["numbers"][0]
    return first


HARM: dict[str, Callable[[dict[str, Any]], object]] = {
    "no targets": lambda tree: tree.pop("targets"),
    "targets of another task": lambda tree: tree.update(targets={"classes": ["a"]}),
    "a scaling too few": lambda tree: tree["features"]["numbers"].pop(),
    "infinite knot": lambda tree: curve(tree)["knots"].append(float("inf")),
    "huge knot": lambda tree: curve(tree).update(knots=[1e300], scores=[0.0]),
    "knots that descend": lambda tree: curve(tree)["knots"].reverse(),
    "scores that descend": lambda tree: curve(tree)["scores"].reverse(),
    "a score too many": lambda tree: curve(tree)["scores"].append(9.0),
    "no knots": lambda tree: curve(tree).update(knots=[], scores=[]),
    "many knots": lambda tree: curve(tree).update(knots=[*range(999)], scores=[0.0] * 999),
    "huge score": lambda tree: curve(tree)["scores"].__setitem__(-1, 1e30),
    "text": lambda tree: curve(tree).update(median="0"),
    "more keys": lambda tree: tree.update(more=1),
}


@pytest.mark.parametrize("harm", HARM)
def test_an_altered_file_is_refused(harm: str) -> None:
    tree = json.loads(fitted(diamonds(100)).files()["encoder.json"])
    HARM[harm](tree)
    with pytest.raises(ValueError):
        ENCODING.load({"encoder.json": json.dumps(tree).encode()})
