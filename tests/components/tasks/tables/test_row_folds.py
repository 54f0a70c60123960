"""Folds of train rows keep groups whole and go by blocks of time."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.core.params import Strict
from components.tasks.shared.baselines.tables import blended_scores
from components.tasks.shared.baselines.tables.blended_scores import (
    EnsembleConfig,
    TableRows,
    fit_classification,
    fit_regression,
)
from components.tasks.shared.baselines.tables.classical import (
    ClassEnsemble,
    EnsembleParams,
    NumberEnsemble,
    TableClassical,
)
from components.tasks.shared.baselines.tables.row_folds import (
    choose_folds,
    group_folds,
    make_folds,
    time_folds,
)

CONFIG = EnsembleConfig(folds=3, trees=20, seed=7)
DIGEST = "72e3bb98887c994d7dc84c737faef40d91ea73e45617141f3f9901a25fc1b6b8"


def is_partition(folds: Any, rows: int) -> bool:
    """Return whether each row is in one fold, and no fold is empty."""
    return all(len(fold) for fold in folds) and sorted(np.concatenate(folds)) == list(range(rows))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=80),
    st.integers(2, 6),
    st.booleans(),
)
def test_groups_are_in_one_fold(rows: list[tuple[int, int]], count: int, stratified: bool) -> None:
    groups = np.unique([group for group, _ in rows], return_inverse=True)[1]
    strata = np.unique([stratum for _, stratum in rows], return_inverse=True)[1]
    folds = group_folds(groups, count, 7, strata if stratified else None)
    assert is_partition(folds, len(rows))
    assert len(folds) == min(count, groups.max() + 1)
    members = [set(groups[fold]) for fold in folds]
    assert sum(map(len, members)) == len(set.union(*members))


def test_folds_of_groups_have_like_numbers_of_rows_and_of_classes() -> None:
    rng = np.random.default_rng(0)
    groups = np.unique(rng.integers(0, 60, 600), return_inverse=True)[1]
    strata = (groups % 4 == 0).astype(np.int64)
    for fold in group_folds(groups, 5, 7, strata):
        assert len(fold) == pytest.approx(120, abs=15)
        assert strata[fold].sum() == pytest.approx(strata.sum() / 5, abs=12)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6)), min_size=1, max_size=80),
    st.integers(2, 6),
)
def test_blocks_of_time_follow_each_other_from_the_latest(
    rows: list[tuple[int, int]], count: int
) -> None:
    groups = np.unique([group for group, _ in rows], return_inverse=True)[1]
    moments = np.array([float(moment) for _, moment in rows])
    for groups_of_rows in (None, groups):
        folds = time_folds(moments, count, groups_of_rows)
        times = moments
        if groups_of_rows is not None:
            times = np.array([moments[groups == group].max() for group in groups])
        assert is_partition(folds, len(rows))
        assert len(folds) <= count
        for later, earlier in itertools.pairwise(folds):
            assert times[later].min() > times[earlier].max()


def test_blocks_of_time_have_like_numbers_of_rows() -> None:
    moments = np.random.default_rng(0).permutation(100).astype(float)
    moments[moments == 7] = np.nan
    folds = time_folds(moments, 5)
    assert [len(fold) for fold in folds] == [20] * 5
    assert np.isnan(moments[folds[-1]]).sum() == 1


def test_one_group_or_one_moment_leaves_folds_at_random() -> None:
    one = np.zeros(30, np.int64)
    expected = make_folds(30, 3, 7)
    for folds in (
        choose_folds(30, 3, 7, groups=one),
        choose_folds(30, 3, 7, moments=np.ones(30)),
        choose_folds(30, 3, 7, groups=one, moments=np.ones(30)),
    ):
        assert [fold.tolist() for fold in folds] == [fold.tolist() for fold in expected]
    two = np.arange(30) // 15
    assert [fold.tolist() for fold in choose_folds(30, 3, 7, groups=two, moments=np.ones(30))] == [
        fold.tolist() for fold in group_folds(two, 3, 7)
    ]


def test_folds_at_random_are_those_of_earlier_versions() -> None:
    strata = np.arange(1000) % 3
    digest = hashlib.sha256()
    for fold in [*choose_folds(1000, 5, 7), *choose_folds(1000, 5, 7, strata=strata)]:
        digest.update(fold.tobytes())
    assert digest.hexdigest() == DIGEST


def table(count: int) -> TableRows:
    """Return rows of a number and a category."""
    rng = np.random.default_rng(0)
    return TableRows(rng.normal(size=(count, 1)), rng.integers(0, 3, (count, 1)), (3,))


def kept_folds(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that gets the folds of each fit."""
    used = []

    def choose(*args: Any, **named: Any) -> Any:
        folds = choose_folds(*args, **named)
        used.append(folds)
        return folds

    monkeypatch.setattr(blended_scores, "choose_folds", choose)
    return used


def clean_rows(count: int) -> pa.Table:
    """Return clean rows of a table."""
    rng = np.random.default_rng(0)
    size = rng.normal(size=count)
    label = np.where(size > 0, "large", "small")
    label[:2] = ["large", "small"]
    return pa.table({"size": size, "target": size * 3, "label": label})


@pytest.mark.parametrize("baseline", [NumberEnsemble(), ClassEnsemble()])
def test_the_baseline_uses_groups_and_times_of_clean(
    monkeypatch: pytest.MonkeyPatch, baseline: Any
) -> None:
    used = kept_folds(monkeypatch)
    rows = clean_rows(60)
    groups = [f"street {number % 7}" for number in range(60)]
    times = pa.array(np.arange(60.0))
    targets = {"center": [0.0], "scale": [1.0], "classes": ["large", "small"]}
    options = TableClassical(classical=EnsembleParams(folds=3, trees=5, time_folds=True))
    inputs = {"size": {"kind": "number"}}
    for table_rows in (
        rows.append_column("group", [groups]),
        rows.append_column("time", times),
    ):
        baseline.fit(table_rows, targets, options, Strict(), 7, inputs=inputs)
    by_group, by_time = used
    assert sum(len({groups[row] for row in fold}) for fold in by_group) == 7
    assert [fold.tolist() for fold in by_time] == [
        list(range(40, 60)),
        list(range(20, 40)),
        list(range(20)),
    ]


@pytest.mark.parametrize("classes", [2, 3])
def test_a_class_in_one_fold_alone_is_learned(classes: int) -> None:
    rows = table(90)
    of_time: NDArray[np.int64] = np.arange(90) * classes // 90
    in_time = TableRows(rows.numbers, rows.categories, rows.sizes, None, np.arange(90.0))
    in_groups = TableRows(rows.numbers, rows.categories, rows.sizes, of_time)
    for divided in (in_time, in_groups):
        arrays = fit_classification(divided, of_time, classes, CONFIG)
        assert all(np.isfinite(array).all() for array in arrays.values())
        target = of_time.astype(float)
        arrays = fit_regression(divided, target, CONFIG, center=0.0, scale=1.0)
        assert all(np.isfinite(array).all() for array in arrays.values())
