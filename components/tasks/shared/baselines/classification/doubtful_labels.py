"""Find wrong labels by confident learning (Northcutt et al. 2021, arXiv:1911.00068).

A class claims a row if its out-of-fold probability is at least the mean probability of the class
in rows with its label. A label is doubtful if another class claims the row with a higher
probability than any other claim: the row is off the diagonal of the confident joint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel

from components.tasks.base import NO_INPUTS, Arrays, Baseline, DoubtfulTarget, TargetInfo

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Rows that a fold's model answers at once.
_BATCH = 1024
# Columns of a clean table that are no inputs.
_NO_INPUTS = frozenset(("id", "label", "split", "group"))


class DoubtsLabels:
    """The part of a facet baselines.py that finds wrong labels by the classical baseline."""

    baselines: Mapping[str, Baseline]

    def doubtful_targets(
        self,
        rows: pa.Table,
        targets: TargetInfo,
        options: BaseModel,
        clean: BaseModel,
        *,
        folds: int,
        seed: int,
        inputs: Mapping[str, Any] = NO_INPUTS,
    ) -> Sequence[DoubtfulTarget]:
        """Return the rows that another class claims, those with the least margin first.

        Args:
            rows: of clean, with "label" and "group".
            targets: with the classes.
            options: the params of `train`.
            clean: the params of `clean`.
            folds: number of fits.
            seed: of the folds and the fits.
            inputs: of the pipeline.
        """
        classes = targets["classes"]
        index = {name: number for number, name in enumerate(classes)}
        labels = np.array([index[label] for label in rows["label"].to_pylist()])
        probabilities = np.zeros((rows.num_rows, len(classes)))
        fold_of = group_folds(rows["group"].to_pylist(), folds, seed)
        baseline = self.baselines["classical"]
        for fold in range(folds):
            held_out = np.flatnonzero(fold_of == fold)
            if not len(held_out):
                continue
            train = rows.take(np.flatnonzero(fold_of != fold))
            arrays, files = baseline.fit(train, targets, options, clean, seed, inputs=inputs)
            names = self.input_columns(rows, inputs)
            columns = {name: rows[name].to_pylist() for name in names}
            probabilities[held_out] = _answered(baseline, arrays, files, columns, held_out)
        return doubts(labels, probabilities, classes)

    def input_columns(
        self,
        rows: pa.Table,
        inputs: Mapping[str, Any],  # noqa: ARG002
    ) -> Sequence[str]:
        """Return the inputs among the columns of a clean table.

        Args:
            rows: of clean.
            inputs: of the pipeline; not used where the task states its own.
        """
        return [name for name in rows.column_names if name not in _NO_INPUTS]


def doubts(labels: Ints, probabilities: Floats, classes: Sequence[str]) -> list[DoubtfulTarget]:
    """Return the rows that another class claims, those with the least margin first.

    Args:
        labels: (n,) class indices.
        probabilities: (n, c) by models that have not seen the row.
        classes: names of the c classes.
    """
    suggested = claims(labels, probabilities)
    rows = np.arange(len(labels))
    others = probabilities.copy()
    others[rows, labels] = -1.0
    margins = probabilities[rows, labels] - others.max(1)
    result = []
    for row in np.argsort(margins, kind="stable").tolist():
        if suggested[row] not in (-1, labels[row]):
            given = classes[labels[row]]
            better = classes[suggested[row]]
            result.append(DoubtfulTarget(row, given, better, float(margins[row])))
    return result


def claims(labels: Ints, probabilities: Floats) -> Ints:
    """Return (n,) the class that claims each row; -1 where none does.

    Args:
        labels: (n,) class indices.
        probabilities: (n, c) by models that have not seen the row.
    """
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    own = probabilities[np.arange(len(labels)), labels]
    # A class without a row claims none.
    thresholds = np.where(counts, np.bincount(labels, own, classes) / np.maximum(counts, 1), 2.0)
    claiming = np.where(probabilities >= thresholds, probabilities, -1.0)
    best: Ints = claiming.argmax(1)
    return np.where(claiming.max(1) < 0, -1, best)


def group_folds(groups: Sequence[str], count: int, seed: int) -> Ints:
    """Return (n,) the fold of each row. Rows of a group are in one fold.

    Args:
        groups: (n,) names.
        count: number of folds.
        seed: of the order of the groups.
    """
    names, numbers = np.unique(np.array(groups), return_inverse=True)
    place = np.random.default_rng(seed).permutation(len(names))
    folds: Ints = place[numbers] % count
    return folds


def _answered(
    baseline: Baseline,
    arrays: Arrays,
    files: Mapping[str, bytes],
    columns: Mapping[str, Sequence[Any]],
    held_out: Ints,
) -> Floats:
    """Return the probabilities (m, c) of held-out rows.

    Args:
        baseline: that was fitted.
        arrays: of the fit.
        files: of the fit.
        columns: (n,) inputs by name.
        held_out: (m,) numbers of the rows.
    """
    featurize = baseline.featurizer(files)
    score = baseline.scorer(arrays)
    parts = []
    for start in range(0, len(held_out), _BATCH):
        some = held_out[start : start + _BATCH].tolist()
        batch = {name: [values[row] for row in some] for name, values in columns.items()}
        logits = score("forward", featurize(batch))["logits"].astype(np.float64)
        exp = np.exp(logits - logits.max(1, keepdims=True))
        parts.append(exp / exp.sum(1, keepdims=True))
    return np.concatenate(parts)
