"""Baselines that every classification task has: the prior, and a linear model scored in numpy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel

from components.metrics import classification
from components.tasks.base import NO_INPUTS, Arrays, Scorer, TargetInfo

# A logit whose softmax is zero.
_NEVER = -1e4


class Prior:
    """Baseline that answers the frequencies of the training classes to every query."""

    def fit(
        self,
        rows: pa.Table,
        targets: TargetInfo,
        options: BaseModel,  # noqa: ARG002
        clean: BaseModel,  # noqa: ARG002
        seed: int,  # noqa: ARG002
        validation: pa.Table | None = None,  # noqa: ARG002
        chosen: Mapping[str, bytes] | None = None,  # noqa: ARG002
        inputs: Mapping[str, Any] = NO_INPUTS,  # noqa: ARG002
    ) -> tuple[Arrays, Mapping[str, bytes]]:
        """Return the log-frequencies of the classes, add-one smoothed.

        Args:
            rows: train rows with a column "label".
            targets: of clean, with the classes in the order of their indices.
            options, clean, seed, validation, chosen, inputs: not used.

        Returns:
            {"logits": (c,)}; no files.
        """
        counts = Counter(rows["label"].to_pylist())
        smoothed = np.array([counts[name] + 1 for name in targets["classes"]], dtype=np.float32)
        return {"logits": np.log(smoothed)}, {}

    def featurizer(
        self,
        files: Mapping[str, bytes],  # noqa: ARG002
    ) -> Callable[[Mapping[str, Sequence[Any]]], Arrays]:
        """Return a function that counts the queries, because only their number matters."""
        return lambda inputs: {"rows": np.zeros(len(next(iter(inputs.values()))))}

    def scorer(self, arrays: Arrays) -> Scorer:
        """Return a scorer that gives the same logits to all queries.

        Args:
            arrays: {"logits": (c,)}.
        """

        def score(graph: str, batch: Arrays) -> Arrays:  # noqa: ARG001
            """Return {"logits": (n, c)}, equal in all rows."""
            return {"logits": np.tile(arrays["logits"], (len(batch["rows"]), 1))}

        return score


def linear_arrays(model: Any, classes: int) -> dict[str, Any]:
    """Return the weights of a logistic regression, one row for each class.

    A class without a train row is never answered.

    Args:
        model: a LogisticRegression that was fitted on class indices.
        classes: number of classes.

    Returns:
        "coefficients" (c, features) and "intercept" (c,).
    """
    coefficients = model.coef_
    intercept = model.intercept_
    if len(coefficients) == 1:
        # A binary model has one row, for the second class. The softmax of (0, x) equals the
        # sigmoid of x.
        coefficients = np.vstack([np.zeros_like(coefficients), coefficients])
        intercept = np.array([0.0, intercept[0]])
    arrays = {
        "coefficients": np.zeros((classes, coefficients.shape[1]), np.float32),
        "intercept": np.full(classes, _NEVER, np.float32),
    }
    arrays["coefficients"][model.classes_] = coefficients
    arrays["intercept"][model.classes_] = intercept
    return arrays


Kind = Literal["logistic", "svm", "nb_svm"]
# Inverse strengths of the penalty that validation chooses from, for rows of length 1. The ratios
# of nb_svm are above 1, which asks for smaller ones.
STRENGTHS: Mapping[Kind, Sequence[float]] = {
    "logistic": (4.0, 16.0, 64.0, 256.0),
    "svm": (0.2, 0.7, 2.0, 6.0),
    "nb_svm": (0.1, 0.3, 1.0, 3.0),
}
# Limit of the loss of one row. Without it, a class without a train row would dominate the mean.
_WORST_LOSS = 30.0
_SHARPNESS = np.geomspace(0.05, 40, 68)


class Features(Protocol):
    """A sparse matrix of SciPy, (n, features) in CSR form."""

    shape: tuple[int, int]
    nnz: int
    data: NDArray[np.float64]
    indices: NDArray[np.int32]

    def copy(self) -> Features:
        """Return a copy."""

    def __getitem__(self, rows: NDArray[np.int64]) -> Features:
        """Return some of the rows."""

    def __matmul__(self, other: Any) -> Any:
        """Multiply."""


@dataclass(frozen=True)
class Linear:
    """Scores that are linear in the features.

    Args:
        weights: (c, features).
        intercept: (c,).
    """

    weights: NDArray[np.float64]
    intercept: NDArray[np.float64]

    def scores(self, features: Features) -> NDArray[np.float64]:
        """Return the scores (n, c) of rows.

        Args:
            features: (n, features).
        """
        return np.asarray(features @ self.weights.T + self.intercept)

    def scaled(self, factor: float) -> Linear:
        """Return the model with its scores multiplied by a factor.

        Args:
            factor: positive. The intercept of a class that is never answered stays.
        """
        never = self.intercept <= _NEVER
        return Linear(self.weights * factor, np.where(never, _NEVER, self.intercept * factor))


@dataclass(frozen=True)
class LinearProblem:
    """Rows that a linear model is fitted to, and rows that choose its params.

    Args:
        features: of the train rows.
        target: their class indices.
        validation: features of the rows that choose.
        validation_target: their class indices.
        classes: their number.
        balanced: whether each class weighs the same.
        seed: of the solver.
        folds: parts of the train rows, by their numbers. Each chooses too, with a model that is
            fitted without it: a small validation split alone would choose by chance.
    """

    features: Features
    target: NDArray[np.int64]
    validation: Features
    validation_target: NDArray[np.int64]
    classes: int
    balanced: bool
    seed: int
    folds: Sequence[NDArray[np.int64]] = ()

    @property
    def judged(self) -> NDArray[np.int64]:
        """Return the class indices of the rows that choose: the folds, then validation."""
        targets = [self.target[rows] for rows in self.folds]
        return np.concatenate([*targets, self.validation_target])

    def without(self, rows: NDArray[np.int64]) -> LinearProblem:
        """Return the problem with fewer train rows.

        Args:
            rows: (m,) numbers of the train rows that are left out.
        """
        rest = np.setdiff1d(np.arange(len(self.target)), rows)
        return replace(
            self,
            features=self.features[rest],
            target=self.target[rest],
            folds=(),
        )

    def score(self, scores: NDArray[np.float64]) -> float:
        """Return the mean of accuracy and macro F1 over the rows that choose.

        Args:
            scores: (n, c) of the rows that choose.

        Returns:
            A number 0-1.
        """
        pairs = self.judged * self.classes + scores.argmax(1)
        counts = np.bincount(pairs, minlength=self.classes**2).astype(float)
        confusion = counts.reshape(self.classes, self.classes)
        accuracy = classification.accuracy(confusion)
        macro_f1 = classification.macro_f1(confusion)
        return (accuracy + macro_f1) / 2

    def loss(self, scores: NDArray[np.float64]) -> float:
        """Return the mean cross-entropy over the rows that choose, each bounded.

        Args:
            scores: (n, c) of the rows that choose.

        Returns:
            The mean in nats.
        """
        shifted = scores - scores.max(1, keepdims=True)
        chosen = shifted[np.arange(len(scores)), self.judged]
        losses = np.log(np.exp(shifted).sum(1)) - chosen
        return float(np.minimum(losses, _WORST_LOSS).mean())


def stratified_folds(
    target: NDArray[np.int64],
    count: int,
    seed: int,
) -> list[NDArray[np.int64]]:
    """Return the numbers of the rows of each fold, with like shares of each class.

    Args:
        target: (n,) class indices.
        count: number of folds.
        seed: of the order within a class.

    Returns:
        One ascending array a fold.
    """
    order = np.random.default_rng(seed).permutation(len(target))
    order = order[np.argsort(target[order], kind="stable")]
    return [np.sort(order[start::count]) for start in range(count)]


def judged_scores(
    problem: LinearProblem,
    kind: Kind,
    strength: float,
    model: Linear,
) -> NDArray[np.float64]:
    """Return the scores of the rows that choose, none by a model that learned from the row.

    Args:
        problem: whose rows.
        kind: of the model.
        strength: of the model.
        model: fitted to all train rows.

    Returns:
        (n, c) in the order of `LinearProblem.judged`.
    """
    scores = []
    for rows in problem.folds:
        part = fit_linear(problem.without(rows), kind, strength)
        scores.append(part.scores(problem.features[rows]))
    return np.concatenate([*scores, model.scores(problem.validation)])


def fit_linear(problem: LinearProblem, kind: Kind, strength: float) -> Linear:
    """Fit each class against the rest, by LIBLINEAR (Fan et al. 2008).

    nb_svm is a linear SVM over features that are multiplied by the log-ratio of their counts in a
    class and in the rest (Wang and Manning 2012). The ratios go into the weights afterwards.

    Args:
        problem: of which only the train rows are seen.
        kind: of loss.
        strength: inverse of the penalty's, C.
    """
    present = np.unique(problem.target)
    model = Linear(
        np.zeros((problem.classes, problem.features.shape[1])),
        np.full(problem.classes, float(_NEVER)),
    )
    model.intercept[present] = 0.0
    # Of two classes one score is enough: the other one's is 0.
    fitted = present if len(present) > 2 else present[1:]
    for index in fitted:
        features = problem.features
        positive = problem.target == index
        ratio = np.ones(features.shape[1])
        if kind == "nb_svm":
            ratio = log_count_ratio(features, positive)
            features = features.copy()
            features.data *= ratio[features.indices]
        estimator = _estimator(problem, kind, strength).fit(features, positive)
        model.weights[index] = estimator.coef_[0] * ratio
        model.intercept[index] = estimator.intercept_[0]
    return model


def _estimator(problem: LinearProblem, kind: Kind, strength: float) -> Any:
    """Return an unfitted model of scikit-learn, with the dual solver of LIBLINEAR.

    Args:
        problem: whose seed and class weights are taken.
        kind: of loss.
        strength: C.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    weight = "balanced" if problem.balanced else None
    shared = {"C": strength, "class_weight": weight, "random_state": problem.seed, "dual": True}
    if kind == "logistic":
        return LogisticRegression(solver="liblinear", tol=1e-2, max_iter=1000, **shared)
    return LinearSVC(tol=1e-3, max_iter=2000, **shared)


def log_count_ratio(features: Any, positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return how much more frequent each feature is in positive rows than in the rest (features,).

    Rows that have a feature are counted, with one more on either side.

    Args:
        features: (n, features), sparse.
        positive: (n,) true for rows of the class.
    """
    present = features.copy()
    present.data = np.ones_like(present.data)
    inside = 1.0 + positive.astype(float) @ present
    outside = 1.0 + (~positive).astype(float) @ present
    log_inside = np.log(inside / inside.sum())
    log_outside = np.log(outside / outside.sum())
    return np.asarray(log_inside - log_outside)


def sharpness(problem: LinearProblem, scores: NDArray[np.float64]) -> float:
    """Return the factor of scores that gives the least loss (Guo et al. 2017).

    Args:
        problem: whose rows choose.
        scores: (n, c) of these rows.
    """
    return float(min(_SHARPNESS, key=lambda factor: problem.loss(scores * factor)))


def best_linear(
    problem: LinearProblem,
    strengths: Mapping[Kind, Sequence[float]],
) -> tuple[Linear, dict[str, float]]:
    """Return the linear model that is best on the rows that choose, and the strength of each part.

    Each kind is fitted with each of its strengths. The best of a kind are averaged in all
    combinations: averaged linear scores are linear again. Of equals the larger combination wins.

    Args:
        problem: train rows, and the rows that choose.
        strengths: kind -> values of C to try.

    Returns:
        The averaged model; kind -> chosen C of the models in it.
    """
    best: dict[str, Linear] = {}
    scores: dict[str, NDArray[np.float64]] = {}
    chosen: dict[str, float] = {}
    for kind, candidates in strengths.items():
        highest = -1.0
        for strength in candidates:
            model = fit_linear(problem, kind, strength)
            model_scores = judged_scores(problem, kind, strength, model)
            score = problem.score(model_scores)
            if score > highest:
                highest = score
                best[kind] = model
                scores[kind] = model_scores
                chosen[kind] = strength
        factor = sharpness(problem, scores[kind])
        best[kind] = best[kind].scaled(factor)
        scores[kind] = scores[kind] * factor
    means: dict[tuple[str, ...], NDArray[np.float64]] = {}
    for size in range(len(best), 0, -1):
        for group in combinations(best, size):
            means[group] = np.mean([scores[kind] for kind in group], axis=0)
    group = max(means, key=lambda group: problem.score(means[group]))
    weights = np.mean([best[kind].weights for kind in group], axis=0)
    intercept = np.mean([best[kind].intercept for kind in group], axis=0)
    mean = Linear(weights, intercept).scaled(sharpness(problem, means[group]))
    return mean, {kind: chosen[kind] for kind in group}


def mean_linear(problem: LinearProblem, strengths: Mapping[Kind, float]) -> Linear:
    """Return the mean of linear models of given kinds and strengths.

    The rows that choose only make the scores of the kinds comparable.

    Args:
        problem: whose rows.
        strengths: C by kind.
    """
    models = []
    for kind, strength in strengths.items():
        model = fit_linear(problem, kind, strength)
        scores = model.scores(problem.validation)
        factor = sharpness(problem, scores)
        models.append(model.scaled(factor))
    weights = np.mean([model.weights for model in models], axis=0)
    intercept = np.mean([model.intercept for model in models], axis=0)
    return Linear(weights, intercept)
