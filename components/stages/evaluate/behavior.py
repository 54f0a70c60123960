"""Behavior tests of a model: what its answers must do, whatever its metrics are.

The three kinds are those of CheckList (Ribeiro et al. 2020, arXiv:2005.04118).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from components.core.cards import first_mistake
from components.fields.base import Reject
from components.stages.evaluate.params import BehaviorCase, BehaviorTest
from components.tasks import base

Predict = Callable[[Sequence[Any]], Sequence[Any]]
_WHERE = "evaluate.behavior"


@dataclass(frozen=True)
class FailedCase:
    """A case that a model failed.

    Args:
        query: as HTML that is safe.
        changed: likewise; empty where the test has none.
        detail: what was answered, as text.
    """

    query: str
    changed: str
    detail: str


@dataclass(frozen=True)
class BehaviorResult:
    """Result of a behavior test.

    Args:
        name: of the test.
        kind: of the test.
        cases: number of all cases.
        failed: the cases that failed.
    """

    name: str
    kind: str
    cases: int
    failed: Sequence[FailedCase]


def check_tests(tests: Sequence[BehaviorTest], evaluator: base.TaskEvaluator) -> list[str]:
    """Return the mistakes in the queries and truths of tests, before anything runs.

    Args:
        tests: of the params.
        evaluator: of the task.
    """
    mistakes = []
    for number, test in enumerate(tests):
        if test.kind != "invariance" and not isinstance(evaluator, base.MeasuresCloseness):
            mistakes.append(f"{_WHERE}[{number}].kind: this task can only test invariance")
            continue
        for position, case in enumerate(test.cases):
            where = f"{_WHERE}[{number}].cases[{position}]"
            models = {"query": evaluator.Query, "changed": evaluator.Query}
            models["truth"] = evaluator.feedback.Truth
            for name, model in models.items():
                value = getattr(case, name)
                if value is not None:
                    mistakes += _mistakes_of(model, value, f"{where}.{name}")
    return mistakes


def _mistakes_of(model: type[BaseModel], value: Mapping[str, Any], where: str) -> list[str]:
    try:
        model.model_validate(value)
    except ValidationError as error:
        return [f"{where}: {first_mistake(error)}"]
    return []


def run_tests(
    tests: Sequence[BehaviorTest],
    evaluator: base.TaskEvaluator,
    predict: Predict,
    targets: base.TargetInfo,
) -> list[BehaviorResult]:
    """Return the result of each test.

    Args:
        tests: of the params.
        evaluator: of the task.
        predict: queries -> answers of the model.
        targets: of the model.
    """
    results = []
    for test in tests:
        failures = [_failure(test, case, evaluator, predict, targets) for case in test.cases]
        failed = [failure for failure in failures if failure]
        results.append(BehaviorResult(test.name, test.kind, len(test.cases), failed))
    return results


def _truth(case: BehaviorCase, evaluator: base.TaskEvaluator) -> Any:
    return evaluator.feedback.Truth.model_validate(case.truth)


def _failure(
    test: BehaviorTest,
    case: BehaviorCase,
    evaluator: base.TaskEvaluator,
    predict: Predict,
    targets: base.TargetInfo,
) -> FailedCase | None:
    """Return how a model fails a case; None where it passes.

    A truth that no answer can be, or a query of no use, fails: data may change under a test.

    Args:
        test: with the kind and the tolerance.
        case: of the test.
        evaluator: of the task.
        predict: queries -> answers of the model.
        targets: of the model.
    """
    queries = [evaluator.Query.model_validate(case.query)]
    if case.changed is not None:
        queries.append(evaluator.Query.model_validate(case.changed))
    if case.truth is not None:
        mistake = evaluator.feedback.check(_truth(case, evaluator), targets)
        if mistake:
            return _failed(evaluator, queries, " ".join(mistake))
    try:
        answers = [predict([query])[0] for query in queries]
    except Reject as error:
        return _failed(evaluator, queries, f"is of no use: {error.reason}")
    detail = _KINDS[test.kind](test, case, evaluator, answers, targets)
    return _failed(evaluator, queries, detail) if detail else None


def _minimum(
    test: BehaviorTest,
    case: BehaviorCase,
    evaluator: base.TaskEvaluator,
    answers: Sequence[Any],
    targets: base.TargetInfo,  # noqa: ARG001
) -> str:
    """Return what was answered in place of the truth; empty where it was the truth."""
    (answer,) = answers
    text = evaluator.feedback.text(answer)
    wanted = evaluator.feedback.truth_text(case.truth or {})
    if test.tolerance is None:
        passed = text == wanted
    else:
        passed = _closeness(case, evaluator, answer) >= -test.tolerance
    return "" if passed else f"{text}, not {wanted}"


def _invariance(
    test: BehaviorTest,
    case: BehaviorCase,  # noqa: ARG001
    evaluator: base.TaskEvaluator,
    answers: Sequence[Any],
    targets: base.TargetInfo,
) -> str:
    """Return how the change changed the answer; empty where it did not."""
    before, after = [evaluator.feedback.text(answer) for answer in answers]
    if test.tolerance is None:
        passed = before == after
    else:
        passed = _distance(evaluator, answers, targets) <= test.tolerance
    return "" if passed else f"{before} became {after}"


def _direction(
    test: BehaviorTest,  # noqa: ARG001
    case: BehaviorCase,
    evaluator: base.TaskEvaluator,
    answers: Sequence[Any],
    targets: base.TargetInfo,  # noqa: ARG001
) -> str:
    """Return that the change moved the answer away from the truth; empty where it did not."""
    before, after = [_closeness(case, evaluator, answer) for answer in answers]
    if after > before:
        return ""
    wanted = evaluator.feedback.truth_text(case.truth or {})
    return f"closeness to {wanted}: {before:.4g} became {after:.4g}"


# Kind of a test -> what is wrong with the answers to a case; empty where nothing is.
_KINDS = {"minimum": _minimum, "invariance": _invariance, "direction": _direction}


def _distance(
    evaluator: base.TaskEvaluator, answers: Sequence[Any], targets: base.TargetInfo
) -> float:
    before, after = answers
    return evaluator.output_distance(before, after, targets)


def _closeness(case: BehaviorCase, evaluator: Any, answer: Any) -> float:
    return float(evaluator.closeness(answer, _truth(case, evaluator)))


def _failed(evaluator: base.TaskEvaluator, queries: Sequence[Any], detail: str) -> FailedCase:
    """Return a failed case with its queries as HTML.

    Args:
        evaluator: of the task.
        queries: the query, and the changed one if there is one.
        detail: what was answered.
    """
    shown = [evaluator.show(base.Case("", query, None, {})) for query in queries]
    return FailedCase(shown[0], shown[1] if shown[1:] else "", detail)
