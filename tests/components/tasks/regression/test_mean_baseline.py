"""The trivial baseline of numbers answers the mean of the train targets."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from components.core.params import Strict
from components.tasks.shared.baselines.regression.baselines import MeanBaseline


def test_answers_the_standardized_mean_of_train() -> None:
    rows = pa.table({"target": [1.0, 2.0, 6.0]})
    targets = {"center": [2.0], "scale": [0.5], "range": [1.0, 6.0]}
    baseline = MeanBaseline()
    arrays, files = baseline.fit(rows, targets, Strict(), Strict(), 7)
    batch = baseline.featurizer(files)({"carat": [0.1, None, 3.0, 4.0]})
    logits = baseline.scorer(arrays)("forward", batch)["logits"]
    assert logits.shape == (4, 1)
    np.testing.assert_allclose(logits, 2.0)


def test_refuses_arrays_of_another_size() -> None:
    with pytest.raises(ValueError, match="reshape"):
        MeanBaseline().scorer({"logits": np.zeros(3, np.float32)})
