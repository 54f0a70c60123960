"""Baselines that every classification task has: the prior, and a linear model scored in numpy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from components.tasks.base import Arrays, Scorer

_NEVER = -1e4  # a logit that softmax makes zero


class Prior:
    """Answers the frequencies of the training classes, whatever is asked."""

    def fit(
        self,
        rows: pa.Table,
        classes: Sequence[str],
        options: BaseModel,  # noqa: ARG002
        clean: BaseModel,  # noqa: ARG002
        seed: int,  # noqa: ARG002
        validation: pa.Table | None = None,  # noqa: ARG002
    ) -> tuple[Arrays, Mapping[str, bytes]]:
        """Log-frequencies, add-one smoothed."""
        counts = Counter(rows["label"].to_pylist())
        return {"logits": np.log(np.array([counts[name] + 1 for name in classes], dtype=np.float32))}, {}

    def featuriser(self, files: Mapping[str, bytes]) -> Callable[[Mapping[str, Sequence[Any]]], Arrays]:  # noqa: ARG002
        """Only the number of queries matters."""
        return lambda inputs: {"rows": np.zeros(len(next(iter(inputs.values()))))}

    def scorer(self, arrays: Arrays) -> Scorer:
        """The same logits for all."""
        return lambda graph, batch: {"logits": np.tile(arrays["logits"], (len(batch["rows"]), 1))}  # noqa: ARG005


def linear_arrays(model: Any, classes: int) -> dict[str, Any]:
    """Weights of a LogisticRegression fitted on class indices as (c, features) and (c,): two classes made explicit, one without a train row never answered."""
    coefficients, intercept = model.coef_, model.intercept_
    if len(coefficients) == 1:  # binary: one row for the second class; softmax of (0, x) equals the sigmoid of x
        coefficients, intercept = np.vstack([np.zeros_like(coefficients), coefficients]), np.array([0.0, intercept[0]])
    arrays = {"coefficients": np.zeros((classes, coefficients.shape[1]), np.float32), "intercept": np.full(classes, _NEVER, np.float32)}
    arrays["coefficients"][model.classes_], arrays["intercept"][model.classes_] = coefficients, intercept
    return arrays
