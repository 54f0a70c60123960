"""Measure the winner on test cases with a small change that should not matter.

The task declares the changes. The sample is that of the cases to which a change applies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.fields.base import Reject
from components.inference.predictor import Predictor
from components.metrics import bootstrap
from components.stages.evaluate.params import EvaluateParams
from components.tasks import base
from components.training import evaluation


@dataclass(frozen=True)
class ChangeResult:
    """Results with and without a change.

    Args:
        name: of the change.
        zh: the same in Chinese.
        cases: number of cases that it changed.
        before: report metric without the change.
        after: report metric with it.
        difference: paired interval of after - before.
        flipped: number of answers that read otherwise.
    """

    name: str
    zh: str
    cases: int
    before: float
    after: float
    difference: tuple[float, float]
    flipped: int


def measure_changes(
    params: EvaluateParams, predictor: Predictor, test: base.AnsweredSplit, seed: int
) -> list[ChangeResult]:
    """Return the results of each change that applies to some cases.

    Args:
        params: of the stage.
        predictor: the winner.
        test: its answers to the test cases.
        seed: of the sample, the changes and the bootstrap.
    """
    evaluator = predictor.evaluator
    if not isinstance(evaluator, base.ChangesQueries):
        return []
    results = []
    for change in evaluator.query_changes:
        rng = np.random.default_rng(seed)
        pairs = []
        for number in rng.permutation(len(test.cases))[: params.robustness_cases].tolist():
            case = test.cases[number]
            query = change.apply(case.query, rng)
            if query != case.query:
                changed = base.Case(case.id, query, case.truth, case.slices)
                pairs.append((test.answers[number], changed))
        result = _compared(params, predictor, change, pairs, seed)
        if result:
            results.append(result)
    return results


def _compared(
    params: EvaluateParams,
    predictor: Predictor,
    change: base.QueryChange,
    pairs: Sequence[tuple[Any, base.Case[Any]]],
    seed: int,
) -> ChangeResult | None:
    """Return the result of a change; None where no changed query can be answered.

    Args:
        params: of the stage.
        predictor: the winner.
        change: of the task.
        pairs: answers without the change, and cases with it.
        seed: of the bootstrap.
    """
    answered = _answers(predictor, [case for _, case in pairs])
    before = []
    after = []
    cases = []
    for (earlier, case), answer in zip(pairs, answered, strict=True):
        if answer is not None:
            before.append(earlier)
            after.append(answer)
            cases.append(case)
    if not cases:
        return None
    evaluator = predictor.evaluator
    metric = evaluator.report_metric
    earlier_stats = evaluation.per_example_stats(metric, before, cases)
    stats = evaluation.per_example_stats(metric, after, cases)
    difference = bootstrap.paired_interval(
        metric, stats, earlier_stats, params.resamples, params.confidence, seed
    )
    text = evaluator.feedback.text
    flipped = sum(text(one) != text(other) for one, other in zip(before, after, strict=True))
    return ChangeResult(
        name=change.name,
        zh=change.zh,
        cases=len(cases),
        before=metric.value(earlier_stats),
        after=metric.value(stats),
        difference=difference,
        flipped=flipped,
    )


def _answers(predictor: Predictor, cases: Sequence[base.Case[Any]]) -> list[Any]:
    """Return the answers to cases; None where a changed query is of no use."""
    try:
        return evaluation.answer(predictor, cases)
    except Reject:
        answers: list[Any] = []
        for case in cases:
            try:
                answers += predictor.predict([case.query])
            except Reject:
                answers.append(None)
        return answers
