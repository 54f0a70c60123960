"""Explain answers of a bundle by the best method that it has.

Exact contributions where the model is a sum, integrated gradients where it is a network, and
occlusion for all other models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from components.core.bundles import Card, read_bundle
from components.fields.base import Reject
from components.inference.explanations.occlusion import explain
from components.inference.predictor import (
    ARRAYS,
    bundled_encoder_files,
    load_module_and_encoder,
)
from components.tasks import base

Method = Literal["exact", "integrated_gradients", "occlusion"]
Predict = Callable[[Sequence[Any]], Sequence[Any]]
# Error of integrated gradients that is small enough, as a share of the change of the score. The
# report reads it without torch, which the module of the gradients imports.
TOLERANCE = 0.01
# Most parts of a query. Occlusion asks the model once for each of them.
_MOST_PARTS = 400
_MOST_LEFT_OUT = 36
_BATCH = 64


@dataclass(frozen=True)
class Explanation:
    """What the parts of a query contribute to its answer.

    Args:
        parts: of the query.
        weights: of the parts.
    """

    parts: Sequence[str]
    weights: Sequence[float]


@dataclass(frozen=True)
class Explanations:
    """The explanations of several answers.

    Args:
        method: by which they were computed.
        explanations: one for each query.
        errors: of completeness for each query, as shares; none unless by integrated gradients.
        points: most points of a path; 0 unless by integrated gradients.
    """

    method: Method
    explanations: Sequence[Explanation]
    errors: Sequence[float] = ()
    points: int = 0


def explain_queries(
    folder: Path, predict: Predict, queries: Sequence[Any], method: Method | Literal["auto"]
) -> Explanations:
    """Return the explanations of the answers to queries.

    Args:
        folder: of the bundle.
        predict: queries -> answers of the bundle.
        queries: of cases, as clean writes them.
        method: to try. Where the model has none, it is occlusion.
    """
    card, files = read_bundle(folder)
    evaluator = base.evaluator(card.task)
    assert isinstance(evaluator, base.ReportsExplanations)
    result = None
    if method in ("auto", "exact") and card.runtime == "numpy":
        result = _exact(evaluator, card, files, queries)
    if method in ("auto", "integrated_gradients") and card.runtime == "torch":
        result = _by_gradients(evaluator, card, folder, queries)
    return result or _by_occlusion(evaluator, predict, queries)


def _exact(
    evaluator: Any, card: Card, files: Mapping[str, bytes], queries: Sequence[Any]
) -> Explanations | None:
    """Return exact contributions; None where the model is no sum over elements."""
    from safetensors.numpy import load as load_arrays

    baseline = base.baselines(card.task).baselines[card.architecture]
    if not isinstance(baseline, base.ExactContributions):
        return None
    arrays = load_arrays(files[ARRAYS])
    encoder_files = bundled_encoder_files(files)
    inputs = evaluator.columns(queries)
    outputs = baseline.scorer(arrays)("forward", baseline.featurizer(encoder_files)(inputs))
    directions = _directions(evaluator, outputs["logits"], card)
    elements = baseline.contributions(arrays, encoder_files, inputs, directions)
    if elements is None:
        return None
    return Explanations("exact", _summed(evaluator, queries, elements))


def _by_gradients(
    evaluator: Any, card: Card, folder: Path, queries: Sequence[Any]
) -> Explanations | None:
    """Return integrated gradients; None where the network does not name its input layers."""
    import torch

    from components.inference.explanations.integrated_gradients import integrated_gradients
    from components.models.input_layers import HasInputLayers

    module, encoder = load_module_and_encoder(folder)
    if not isinstance(module, HasInputLayers) or not isinstance(encoder, base.TracesElements):
        return None
    inputs = evaluator.columns(queries)
    batch = encoder.collate(encoder.rows(inputs))  # type: ignore[attr-defined]
    outputs = []
    with torch.inference_mode():
        for start in range(0, len(queries), _BATCH):
            part = {}
            for name, value in batch.items():
                rows = np.ascontiguousarray(value[start : start + _BATCH])
                part[name] = torch.from_numpy(rows)
            outputs.append(module(**part).numpy())  # type: ignore[operator]
    directions = _directions(evaluator, np.concatenate(outputs), card)
    attribution = integrated_gradients(module, batch, directions)
    elements = encoder.elements(inputs, attribution.contributions)
    return Explanations(
        "integrated_gradients",
        _summed(evaluator, queries, elements),
        attribution.errors.tolist(),
        attribution.points,
    )


def _directions(evaluator: Any, outputs: Any, card: Card) -> Any:
    """Return (n, d) the weights of the outputs of each query."""
    return np.stack([evaluator.direction(row, card.targets) for row in outputs])


def _summed(evaluator: Any, queries: Sequence[Any], elements: Sequence[Any]) -> list[Explanation]:
    """Return the contributions of elements as those of parts."""
    explanations = []
    for query, contributions in zip(queries, elements, strict=True):
        parts = evaluator.report_parts(query, _MOST_PARTS)
        weights = evaluator.part_weights(query, parts, contributions)
        explanations.append(Explanation(parts, weights))
    return explanations


def _by_occlusion(evaluator: Any, predict: Predict, queries: Sequence[Any]) -> Explanations:
    """Return by how much the support of each answer falls without each part of its query."""
    parts = [evaluator.report_parts(query, _MOST_LEFT_OUT) for query in queries]
    asked = list(queries)
    for query, of_query in zip(queries, parts, strict=True):
        asked.extend(evaluator.without_parts(query, of_query, {i}) for i in range(len(of_query)))
    answers = answers_or_none(predict, asked)
    explanations = []
    position = len(queries)
    for answer, of_query in zip(answers, parts, strict=False):
        others = answers[position : position + len(of_query)]
        position += len(of_query)
        explanations.append(Explanation(of_query, explain(evaluator, answer, others)))
    return Explanations("occlusion", explanations)


def answers_or_none(predict: Predict, queries: Sequence[Any]) -> list[Any]:
    """Return the answers to queries; None for a query in which nothing of use is left."""
    answers: list[Any] = []
    for start in range(0, len(queries), _BATCH):
        some = queries[start : start + _BATCH]
        try:
            answers.extend(predict(some))
        except Reject:
            answers.extend(_one_by_one(predict, some))
    return answers


def _one_by_one(predict: Predict, queries: Sequence[Any]) -> list[Any]:
    answers: list[Any] = []
    for query in queries:
        try:
            answers.extend(predict([query]))
        except Reject:
            answers.append(None)
    return answers
