"""Metrics of numbers are scikit-learn's, and the bounds of a comparison hold."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from components.metrics.regression import mae, pinball, r2, relative_gain, rmse


@pytest.mark.parametrize("seed", range(3))
def test_metrics_are_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truths = rng.normal(3, 5, 300)
    answers = truths + rng.normal(0.5, 2, 300)
    errors = answers - truths
    assert rmse(errors) == pytest.approx(metrics.root_mean_squared_error(truths, answers))
    assert mae(errors) == pytest.approx(metrics.mean_absolute_error(truths, answers))
    assert r2(errors, truths) == pytest.approx(metrics.r2_score(truths, answers))
    for level in (0.05, 0.5, 0.9):
        expected = metrics.mean_pinball_loss(truths, answers, alpha=level)
        assert pinball(errors, level) == pytest.approx(expected)


def test_equal_truths_have_no_variance_to_explain() -> None:
    assert np.isnan(r2(np.ones(3), np.full(3, 2.0)))


def test_a_gain_is_a_share_of_the_other_models_error() -> None:
    rng = np.random.default_rng(0)
    theirs = rng.normal(0, 2, 4000)
    gain, low, high = relative_gain(theirs * 0.9, theirs, 0.05)
    assert gain == pytest.approx(0.1)
    assert low == pytest.approx(0.1)
    assert high == pytest.approx(0.1)
    gain, low, high = relative_gain(rng.normal(0, 1.8, 4000), theirs, 0.05)
    assert low < gain < high
    assert low < 0.1 < high


def test_equal_models_are_a_tie_and_no_error_is_beaten_by_nobody() -> None:
    errors = np.arange(5.0)
    assert relative_gain(errors, errors, 0.05) == (0.0, 0.0, 0.0)
    nothing = np.zeros(5)
    assert relative_gain(nothing, nothing, 0.05) == (0.0, 0.0, 0.0)
    assert relative_gain(np.ones(5), nothing, 0.05)[0] == -np.inf
    assert relative_gain(nothing, np.ones(5), 0.05)[0] == 1.0


def test_bounds_hold_as_often_as_they_say() -> None:
    """Two equally good models: the lower bound is above 0 in about 5% of 200 comparisons."""
    above = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        shared = rng.normal(0, 1, 150)
        mine = shared + rng.normal(0, 0.5, 150)
        theirs = shared + rng.normal(0, 0.5, 150)
        above += relative_gain(mine, theirs, 0.05, resamples=300, seed=seed)[1] > 0
    assert 2 <= above <= 22
