"""The ensemble of tables learns, is reproducible, and refuses broken bundles."""

from __future__ import annotations

from functools import cache
from typing import Any

import lightgbm
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

Arrays = dict[str, NDArray[Any]]
CONFIG = EnsembleConfig(folds=3, trees=60, seed=7)


def table(count: int, seed: int = 0) -> TableRows:
    """Return rows with three numbers, some missing, and two categories."""
    rng = np.random.default_rng(seed)
    numbers = rng.lognormal(size=(count, 3))
    numbers[rng.random(numbers.shape) < 0.1] = np.nan
    categories = np.column_stack([rng.integers(0, 4, count), rng.integers(0, 30, count)])
    return TableRows(numbers, categories, (4, 30))


def target_of(rows: TableRows) -> NDArray[np.float64]:
    """Return a positive number that depends on all kinds of columns."""
    numbers = np.nan_to_num(rows.numbers, nan=2.0)
    factor = 1.0 + rows.categories[:, 0]
    return np.asarray(factor * numbers[:, 0] + numbers[:, 1] + np.sin(rows.categories[:, 1]) + 2)


def fitted_regression(rows: TableRows, target: NDArray[np.float64]) -> Arrays:
    """Return the arrays of an ensemble for a number."""
    return fit_regression(
        rows, target, CONFIG, center=float(target.mean()), scale=float(target.std()) or 1.0
    )


@cache
def regression_of_400_rows() -> Arrays:
    """Return the arrays of an ensemble for a number. Tests only read them."""
    rows = table(400)
    return fitted_regression(rows, target_of(rows))


def classes_of(target: NDArray[np.float64], classes: int) -> NDArray[np.int64]:
    """Return the classes of targets: equal parts of those of `table(400)`."""
    bounds = np.quantile(target_of(table(400)), np.arange(1, classes) / classes)
    return np.digitize(target, bounds)


@cache
def classification_of_400_rows(classes: int) -> Arrays:
    """Return the arrays of an ensemble for classes. Tests only read them."""
    rows = table(400)
    return fit_classification(rows, classes_of(target_of(rows), classes), classes, CONFIG)


def test_regression_beats_the_mean_by_far() -> None:
    target = target_of(table(400))
    test = table(200, seed=1)
    answers = regression_scorer(regression_of_400_rows())(test.numbers, test.categories)
    truth = (target_of(test) - target.mean()) / target.std()
    assert answers.shape == (200, 1)
    assert np.mean((answers[:, 0] - truth) ** 2) < 0.35 * truth.var()


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_a_row_has_the_same_answer_alone_and_among_others(classes: int) -> None:
    if classes == 1:
        score = regression_scorer(regression_of_400_rows())
    else:
        score = classification_scorer(classification_of_400_rows(classes))
    test = table(300, seed=1)
    # Indices that the train rows did not have.
    test.categories[:20] = [[-1, 30]]
    alone = []
    for number in range(len(test)):
        place = slice(number, number + 1)
        alone.append(score(test.numbers[place], test.categories[place]))
    np.testing.assert_array_equal(np.vstack(alone), score(test.numbers, test.categories))


def test_negative_targets_are_learned_too() -> None:
    rows = table(300)
    target = target_of(rows) - 10
    arrays = fitted_regression(rows, target)
    assert "log.settings" not in arrays
    answers = regression_scorer(arrays)(rows.numbers, rows.categories)[:, 0]
    assert np.corrcoef(answers, target)[0, 1] > 0.9


@pytest.mark.parametrize("classes", [2, 3])
def test_classification_finds_the_classes(classes: int) -> None:
    test = table(300, seed=1)
    logits = classification_scorer(classification_of_400_rows(classes))(
        test.numbers, test.categories
    )
    assert logits.shape == (300, classes)
    assert np.mean(logits.argmax(1) == classes_of(target_of(test), classes)) > 0.75


def test_a_class_without_a_train_row_is_never_answered() -> None:
    rows = table(200)
    truth = np.where(target_of(rows) > 5, 1, 3)
    logits = classification_scorer(fit_classification(rows, truth, 5, CONFIG))(
        rows.numbers, rows.categories
    )
    assert logits.shape == (200, 5)
    assert set(logits.argmax(1)) == {1, 3}
    assert (logits[:, [0, 2, 4]].max(1) < logits[:, [1, 3]].min(1) - 10).all()


def test_one_class_alone_is_always_answered() -> None:
    rows = table(20)
    arrays = fit_classification(rows, np.full(20, 2), 4, CONFIG)
    logits = classification_scorer(arrays)(rows.numbers, rows.categories)
    assert set(logits.argmax(1)) == {2}


@pytest.mark.parametrize("count", [3, 10, 25])
def test_few_rows_are_enough(count: int) -> None:
    rows = table(count)
    target = target_of(rows)
    answers = regression_scorer(fitted_regression(rows, target))(rows.numbers, rows.categories)
    assert np.isfinite(answers).all()
    classes = np.arange(count) % 3
    logits = classification_scorer(fit_classification(rows, classes, 3, CONFIG))(
        rows.numbers, rows.categories
    )
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("numbers", [0, 2])
@pytest.mark.parametrize("categories", [0, 2])
def test_columns_of_one_kind_or_without_any_content(numbers: int, categories: int) -> None:
    if not numbers + categories:
        pytest.skip("a table has a column")
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, numbers))
    # A column where all are missing, and one that is constant.
    values[:, :1] = np.nan
    indices = np.zeros((60, categories), np.int64)
    rows = TableRows(values, indices, (1,) * categories)
    target = rng.normal(size=60)
    answers = regression_scorer(fitted_regression(rows, target))(values, indices)
    assert np.isfinite(answers).all()


def test_a_constant_target_is_answered() -> None:
    rows = table(50)
    arrays = fit_regression(rows, np.full(50, 3.0), CONFIG, center=3.0, scale=1.0)
    answers = regression_scorer(arrays)(rows.numbers, rows.categories)
    np.testing.assert_allclose(answers, 0, atol=1e-6)


def test_answers_stay_near_what_train_had() -> None:
    rows = table(200)
    target = target_of(rows)
    score = regression_scorer(fitted_regression(rows, target))
    far = np.full((2, 3), 1e300) * [[1], [-1]]
    answers = score(far, np.full((2, 2), 10**9))
    span = (target.max() - target.min()) / target.std()
    assert np.abs(answers).max() < 2 * span


def test_the_same_bytes_on_each_run() -> None:
    rows = table(150)
    first = save(fitted_regression(rows, target_of(rows)))
    assert first == save(fitted_regression(rows, target_of(rows)))
    classes = np.digitize(target_of(rows), [4.0, 6.0])
    first = save(fit_classification(rows, classes, 3, CONFIG))
    assert first == save(fit_classification(rows, classes, 3, CONFIG))


def test_trees_take_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[Any] = []
    predict = lightgbm.Booster.predict

    def watched(booster: lightgbm.Booster, *arguments: Any, **named: Any) -> Any:
        threads.append(named.get("num_threads"))
        return predict(booster, *arguments, **named)

    monkeypatch.setattr(lightgbm.Booster, "predict", watched)
    rows = table(25)
    fitted_regression(rows, target_of(rows))
    assert set(threads) == {1}


def test_fewer_trees_are_a_smaller_ensemble() -> None:
    rows = table(200)
    target = target_of(rows) - 10
    small = fit_regression(rows, target, EnsembleConfig(folds=3, trees=5), center=0.0, scale=1.0)
    large = fit_regression(rows, target, EnsembleConfig(folds=3, trees=50), center=0.0, scale=1.0)
    assert len(small["plain.trees.value"]) < len(large["plain.trees.value"]) / 2


def test_importance_names_the_columns_that_matter() -> None:
    rows = table(400)
    shares = importance(fitted_regression(rows, 5 * target_of(rows)))
    assert shares.shape == (5,)
    assert shares.sum() == pytest.approx(1)
    assert shares.argmax() == 0


@pytest.fixture(scope="module")
def bundles() -> tuple[Arrays, Arrays]:
    """Return the arrays of regression and of classification."""
    rows = table(120)
    classes = np.digitize(target_of(rows), [4.0, 6.0])
    return (
        load(save(fitted_regression(rows, target_of(rows)))),
        load(save(fit_classification(rows, classes, 3, CONFIG))),
    )


@pytest.mark.parametrize("number", [0, 1])
def test_arrays_that_are_missing_or_cut_are_refused(
    bundles: tuple[Arrays, Arrays], number: int
) -> None:
    scorer = (regression_scorer, classification_scorer)[number]
    arrays = bundles[number]
    for name, values in arrays.items():
        rest = {other: array for other, array in arrays.items() if other != name}
        with pytest.raises(ValueError, match=r"array|fit"):
            scorer(rest)
        if values.size and values.ndim:
            with pytest.raises(ValueError, match=r"array|fit|tree|split|score"):
                scorer({**arrays, name: values[:-1]})
        if values.dtype == np.float64 and values.size:
            with pytest.raises(ValueError, match=r"finite|scale|fit"):
                scorer({**arrays, name: np.full_like(values, np.nan)})


@pytest.mark.parametrize("number", [0, 1])
def test_wrong_sizes_are_refused(bundles: tuple[Arrays, Arrays], number: int) -> None:
    scorer = (regression_scorer, classification_scorer)[number]
    for name in ("numbers", "categories", "outputs"):
        for value in (-1, 1, 10**9):
            if name == "outputs" and number == 0 and value == 1:
                # A number has one score.
                continue
            arrays = {**bundles[number], name: np.array(value)}
            with pytest.raises(ValueError, match=r"fit|range|classes|split"):
                scorer(arrays)


def test_linear_models_of_different_designs_are_refused() -> None:
    arrays = regression_of_400_rows()
    assert arrays["log_weight"][0] > 0
    regression_scorer(arrays)
    shifted = {**arrays, "log.linear.center": arrays["log.linear.center"] + 1}
    with pytest.raises(ValueError, match="differ in their array center"):
        regression_scorer(shifted)
