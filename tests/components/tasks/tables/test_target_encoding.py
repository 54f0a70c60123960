"""Mean targets of categories help where there are many, and never show a row its own target."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load, save

from components.tasks.shared.baselines.tables.blended_scores import (
    EnsembleConfig,
    TableRows,
    classification_scorer,
    fit_classification,
    fit_regression,
    importance,
    regression_scorer,
)
from components.tasks.shared.baselines.tables.row_folds import make_folds
from components.tasks.shared.baselines.tables.target_encoding import (
    fit_target_means,
    target_means_of,
)

CONFIG = EnsembleConfig(folds=3, trees=15)
ENCODED = replace(CONFIG, target_encoding=20)
CITIES = 60
PREFIX = "target_means."


def rows_of(count: int = 400) -> tuple[TableRows, NDArray[np.float64]]:
    """Return rows of a number, a city of 60 and a color of 3, and a target by the city."""
    rng = np.random.default_rng(0)
    city = rng.integers(0, CITIES, count)
    color = rng.integers(0, 3, count)
    worth = rng.normal(size=CITIES)
    target = 5 * worth[city] + rng.normal(size=count)
    categories = np.stack([color, city], axis=1)
    return TableRows(rng.normal(size=(count, 1)), categories, [3, CITIES]), target


def test_a_row_has_the_shrunk_means_of_other_folds() -> None:
    rows, target = rows_of()
    folds = make_folds(len(rows), 4, seed=1)
    whole, crossed = fit_target_means(rows.categories, rows.sizes, target[:, None], folds, 20)
    assert whole.columns.tolist() == [1]
    assert crossed.shape == (len(rows), 1)
    rest = np.setdiff1d(np.arange(len(rows)), folds[0])
    index = rows.categories[rest, 1]
    counts = np.bincount(index, minlength=CITIES)
    means = np.bincount(index, target[rest], CITIES) / counts
    within = np.square(target[rest] - means[index]).sum() / (len(rest) - CITIES)
    between = target[rest].var() - within
    overall = target[rest].mean()
    expected = overall + (means - overall) * counts / (counts + within / between)
    np.testing.assert_allclose(crossed[folds[0], 0], expected[rows.categories[folds[0], 1]])


def test_the_target_of_a_row_is_in_none_of_its_numbers() -> None:
    rows, target = rows_of()
    folds = make_folds(len(rows), 4, seed=1)
    changed = target.copy()
    changed[folds[2]] = 1e6
    before = fit_target_means(rows.categories, rows.sizes, target[:, None], folds, 20)
    after = fit_target_means(rows.categories, rows.sizes, changed[:, None], folds, 20)
    np.testing.assert_array_equal(before[1][folds[2]], after[1][folds[2]])
    assert not np.isclose(before[1][folds[0]], after[1][folds[0]]).all()
    assert not np.isclose(before[0].values, after[0].values).all()


def test_a_category_without_a_train_row_has_the_mean_of_all() -> None:
    categories = np.repeat(np.arange(30), 4)[:, None]
    target = np.random.default_rng(0).normal(categories[:, 0], 0.1)
    folds = make_folds(len(target), 4, seed=0)
    means, _ = fit_target_means(categories, [31], target[:, None], folds, 20)
    assert means.values[30, 0] == pytest.approx(target.mean())
    assert means.values[29, 0] == pytest.approx(29, abs=0.3)
    unknown = means.extended(np.zeros((2, 0)), np.array([[99], [-1]]))
    np.testing.assert_array_equal(unknown[:, 0], means.values[[0, 0], 0])


def regression(config: EnsembleConfig) -> dict[str, NDArray[Any]]:
    """Return the arrays of a regression."""
    rows, target = rows_of()
    return load(save(fit_regression(rows, target, config, target.mean(), target.std())))


def test_numbers_are_answered_with_mean_targets() -> None:
    rows, target = rows_of()
    arrays = regression(ENCODED)
    answers = regression_scorer(arrays)(rows.numbers, rows.categories)[:, 0]
    assert np.corrcoef(answers, target)[0, 1] > 0.9
    shares = importance(arrays)
    assert shares.shape == (3,)
    assert shares.argmax() == 2
    assert shares.sum() == pytest.approx(1)


def test_nothing_changes_where_it_is_off_or_no_column_has_so_many() -> None:
    plain = regression(CONFIG)
    assert not any(name.startswith(PREFIX) for name in plain)
    beyond = regression(replace(CONFIG, target_encoding=CITIES + 1))
    assert save(plain) == save(beyond)


@pytest.mark.parametrize(("classes", "width"), [(2, 1), (3, 3), (11, None)])
def test_each_class_has_a_mean_up_to_a_limit(classes: int, width: int | None) -> None:
    rows, target = rows_of()
    edges = np.quantile(target, np.linspace(0, 1, classes + 1)[1:-1])
    truth = np.searchsorted(edges, target)
    config = replace(ENCODED, trees=5)
    arrays = load(save(fit_classification(rows, truth, classes, config)))
    means = target_means_of(arrays, 2)
    assert (means.width if means else None) == width
    logits = classification_scorer(arrays)(rows.numbers, rows.categories)
    assert logits.shape == (len(rows), classes)
    assert np.mean(logits.argmax(1) == truth) > 1 / classes


@pytest.mark.parametrize("what", ["columns", "sizes", "values", "order", "range", "infinite"])
def test_broken_means_are_refused(what: str) -> None:
    arrays = regression(replace(ENCODED, trees=2))
    if what == "order":
        arrays[PREFIX + "columns"] = np.array([1, 0])
    elif what == "range":
        arrays[PREFIX + "columns"] = np.array([2])
    elif what == "infinite":
        arrays[PREFIX + "values"] = np.full((CITIES, 1), np.inf)
    else:
        arrays[PREFIX + what] = arrays[PREFIX + what][:0]
    with pytest.raises(ValueError, match="target_means"):
        regression_scorer(arrays)
