"""Trees are kept as arrays, answer what LightGBM answers, and are refused when they are broken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from numpy.typing import NDArray

from components.tasks.shared.baselines.tables.trees import Trees, joined_trees, parse_trees

FEATURES = 4
CATEGORY = 3


def rows_of(count: int, seed: int = 0) -> NDArray[np.float64]:
    """Return rows with missing numbers and a category of 70 values."""
    rng = np.random.default_rng(seed)
    rows = np.column_stack([rng.normal(size=(count, 3)), rng.integers(0, 70, count)])
    rows[::5, 0] = np.nan
    return rows


def booster_of(classes: int, rounds: int = 12) -> lightgbm.Booster:
    """Return a model of LightGBM, of one number or of classes."""
    rows = rows_of(600)
    signal = rows[:, 1] + np.sin(rows[:, CATEGORY]) + np.isnan(rows[:, 0])
    settings: dict[str, Any] = {
        "objective": "regression",
        "num_leaves": 9,
        "min_data_per_group": 5,
        "cat_smooth": 1,
        "num_threads": 1,
        "verbose": -1,
    }
    if classes > 1:
        signal = np.digitize(signal, np.quantile(signal, np.arange(1, classes) / classes))
        settings |= {"objective": "multiclass", "num_class": classes}
    data = lightgbm.Dataset(rows, signal, categorical_feature=[CATEGORY])
    return lightgbm.train(settings, data, rounds)


def asked() -> NDArray[np.float64]:
    """Return queries, with categories that no train row had."""
    rows = rows_of(200, seed=1)
    rows[3, CATEGORY] = np.nan
    rows[4, CATEGORY] = 10_000
    rows[5] = np.nan
    rows[6, :3] = 1e306
    return rows


@pytest.mark.parametrize("classes", [1, 3])
def test_answers_what_lightgbm_answers(classes: int) -> None:
    booster = booster_of(classes)
    trees = parse_trees(booster.model_to_string())
    assert (trees.kind & 1).any()
    score = trees.scorer(FEATURES, classes)
    expected = booster.predict(asked(), raw_score=True).reshape(200, classes)
    np.testing.assert_array_equal(score(asked()), expected)
    np.testing.assert_array_equal(score(asked()[:1]), expected[:1])


def test_trees_that_are_joined_and_scaled_add_up() -> None:
    first = parse_trees(booster_of(1).model_to_string())
    second = parse_trees(booster_of(1, rounds=3).model_to_string())
    joined = joined_trees([first.scaled(0.5), second.scaled(2.0)]).scorer(FEATURES, 1)
    halves = first.scorer(FEATURES, 1)(asked()) / 2 + 2 * second.scorer(FEATURES, 1)(asked())
    np.testing.assert_allclose(joined(asked()), halves, rtol=1e-12, atol=1e-12)


def test_arrays_keep_everything() -> None:
    trees = parse_trees(booster_of(3).model_to_string())
    again = Trees.from_arrays(trees.arrays("t."), "t.")
    assert again.text(FEATURES, 3) == trees.text(FEATURES, 3)


def test_no_trees_add_nothing() -> None:
    score = joined_trees([]).scorer(FEATURES, 2)
    np.testing.assert_array_equal(score(asked()), np.zeros((200, 2)))


def test_a_tree_may_be_one_leaf() -> None:
    data = lightgbm.Dataset(np.zeros((30, FEATURES)), np.arange(30.0))
    booster = lightgbm.train({"objective": "regression", "verbose": -1}, data, 2)
    trees = parse_trees(booster.model_to_string())
    assert set(trees.leaves) == {1}
    np.testing.assert_allclose(trees.scorer(FEATURES, 1)(asked()), np.full((200, 1), 14.5))


def test_importance_is_the_gain_that_lightgbm_reports() -> None:
    booster = booster_of(1)
    trees = parse_trees(booster.model_to_string())
    expected = booster.feature_importance("gain")
    np.testing.assert_allclose(trees.importance(FEATURES), expected, rtol=1e-4)


# Name of an array, position, and a value that breaks the trees.
BROKEN = [
    ("leaves", 0, 0),
    ("leaves", 0, -5),
    ("leaves", 0, 2**31 - 1),
    ("sets", 0, -1),
    ("sets", 0, 2**31 - 1),
    ("feature", 0, FEATURES),
    ("feature", 0, -1),
    ("kind", 0, 255),
    ("kind", 0, 12),
    ("threshold", 0, np.nan),
    ("threshold", 0, np.inf),
    ("left", 0, 0),
    ("left", 0, 1_000_000),
    ("left", 0, -1_000_000),
    ("left", 0, -(2**31)),
    ("right", 3, 1),
    ("right", 0, 2**31 - 1),
    ("value", 0, np.nan),
    ("set_sizes", 0, -1),
    ("set_sizes", 0, 2**31 - 1),
]


@pytest.mark.parametrize(("name", "position", "value"), BROKEN)
def test_broken_trees_are_refused(name: str, position: int, value: Any) -> None:
    arrays = parse_trees(booster_of(1).model_to_string()).arrays("")
    arrays[name] = arrays[name].copy()
    arrays[name][position] = value
    with pytest.raises(ValueError, match=r"tree|split|leaf|finite"):
        Trees.from_arrays(arrays, "").scorer(FEATURES, 1)


@pytest.mark.parametrize("name", Trees.__dataclass_fields__)
def test_arrays_that_are_cut_or_of_another_type_are_refused(name: str) -> None:
    arrays = parse_trees(booster_of(1).model_to_string()).arrays("")
    for broken in (
        arrays[name][:-1],
        np.append(arrays[name], arrays[name][:1]),
        arrays[name].astype(np.int8),
        arrays[name].reshape(1, -1),
    ):
        with pytest.raises(ValueError, match=r"tree|split|array"):
            Trees.from_arrays({**arrays, name: broken}, "").scorer(FEATURES, 1)
    del arrays[name]
    with pytest.raises(ValueError, match="no array"):
        Trees.from_arrays(arrays, "")


def test_a_split_by_a_set_that_there_is_not_is_refused() -> None:
    trees = parse_trees(booster_of(1).model_to_string())
    position = int(np.flatnonzero(trees.kind & 1)[0])
    for value in (-1.0, 1e9, 0.5):
        arrays = trees.arrays("")
        arrays["threshold"] = arrays["threshold"].copy()
        arrays["threshold"][position] = value
        with pytest.raises(ValueError, match="set of categories"):
            Trees.from_arrays(arrays, "").scorer(FEATURES, 1)


MUTATE = """
import sys
import numpy as np
from components.tasks.shared.baselines.tables.trees import Trees

with np.load(sys.argv[1]) as file:
    arrays = dict(file)
rows = arrays.pop("rows")
rng = np.random.default_rng(0)
refused = 0
for _ in range(1500):
    name = rng.choice(sorted(arrays))
    data = bytearray(arrays[name].tobytes())
    for _ in range(rng.integers(1, 4)):
        data[rng.integers(len(data))] = rng.integers(256)
    mutated = np.frombuffer(bytes(data), arrays[name].dtype)
    if rng.random() < 0.1:
        mutated = mutated[: rng.integers(len(mutated))]
    try:
        Trees.from_arrays({**arrays, name: mutated}, "").scorer(rows.shape[1], 1)(rows)
    except ValueError:
        refused += 1
print(refused)
"""


def test_mutated_arrays_never_end_the_process(tmp_path: Path) -> None:
    arrays = parse_trees(booster_of(1, rounds=4).model_to_string()).arrays("")
    np.savez(tmp_path / "trees.npz", rows=asked(), **arrays)
    words = [sys.executable, "-c", MUTATE, str(tmp_path / "trees.npz")]
    root = Path(__file__).parents[4]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Most changes break something. Those of a threshold or of a value only change the answer.
    assert int(done.stdout) > 300
