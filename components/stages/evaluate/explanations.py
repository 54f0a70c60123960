"""The section of the report that explains answers of the winner, and tests the explanations.

The deletion test removes the parts that contribute most to an answer, and as many random parts
(comprehensiveness: DeYoung et al. 2020, arXiv:1911.03429). Explanations that mean something name
parts without which the answer loses more support.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.core.page_templates import environment
from components.inference.explanations.methods import (
    TOLERANCE,
    Explanation,
    Explanations,
    Predict,
    answers_or_none,
    explain_queries,
)
from components.inference.explanations.occlusion import support_of
from components.stages.evaluate.params import EvaluateParams
from components.stages.evaluate.report import ShownCase
from components.tasks import base

# Answers that are shown of either kind.
_SHOWN = 4
# Random removals with which one removal is compared.
_REPEATS = 3
_TITLE = "What single answers depend on"
# What each method computes, in both languages.
_METHODS = {
    "exact": (
        "Exact contributions: the model is a sum, and each term is shared by what it is made of.",
        "精确贡献：模型是各项之和，每一项的贡献平分到组成它的部分上。",
    ),
    "integrated_gradients": (
        "Integrated gradients of the network, from an input that says nothing to the query.",
        "网络的积分梯度：从不含信息的输入到查询本身。",
    ),
    "occlusion": (
        "Occlusion: by how much the answer falls when a part is left out.",
        "遮挡法：去掉某一部分后，对回答的支持下降多少。",
    ),
}
_NAMES = {
    "exact": "exact contributions",
    "integrated_gradients": "integrated gradients",
    "occlusion": "occlusion",
}


@dataclass(frozen=True)
class DeletionTest:
    """By how much the support of answers falls when parts of the queries are removed.

    Args:
        cases: number of cases with at least two parts.
        top: mean fall without the parts that contribute most.
        random: mean fall without as many random parts.
        interval: of the mean difference, by a bootstrap over the cases.
    """

    cases: int
    top: float
    random: float
    interval: tuple[float, float]

    @property
    def passed(self) -> bool:
        """Return whether the interval of the difference is above 0."""
        return self.interval[0] > 0


@dataclass(frozen=True)
class Completeness:
    """How far integrated gradients are from the sum that they must have.

    Args:
        median: error, as a share of the change of the score.
        largest: error.
        within: number of cases within the tolerance.
        cases: number of cases.
        points: most points of a path.
    """

    median: float
    largest: float
    within: int
    cases: int
    points: int


@dataclass(frozen=True)
class _Explained:
    """Cases with their answers and explanations.

    Args:
        cases: of test.
        answers: (n,) of the winner.
        explanations: (n,) of the answers.
    """

    cases: Sequence[base.Case[Any]]
    answers: Sequence[Any]
    explanations: Sequence[Explanation]


def explanation_section(
    params: EvaluateParams,
    evaluator: base.TaskEvaluator,
    bundle: Path,
    predict: Predict,
    test: base.AnsweredSplit,
    seed: int,
) -> base.ReportSection | None:
    """Return the section about explanations; None where there are none.

    Args:
        params: of the stage.
        evaluator: of the task.
        bundle: of the winner.
        predict: queries -> answers of the winner.
        test: answers of the winner.
        seed: of every random choice.
    """
    method = params.explain.method
    if method == "none" or not isinstance(evaluator, base.ReportsExplanations):
        return None
    rng = np.random.default_rng(seed)
    count = min(params.explain.cases, len(test.cases))
    sample = rng.choice(len(test.cases), count, replace=False).tolist()
    cases = [test.cases[position] for position in sample]
    answers = [test.answers[position] for position in sample]
    worst = evaluator.report.worst_answers(test.answers, test.cases, _SHOWN).answers
    queries = [case.query for case in cases] + [answer.case.query for answer in worst]
    result = explain_queries(bundle, predict, queries, method)
    explained = _Explained(cases, answers, result.explanations[:count])
    panels = [
        _worst_panel(evaluator, worst, result.explanations[count:]),
        _good_panel(evaluator, explained),
        _importance_panel(evaluator, explained),
        _checks_panel(evaluator, explained, predict, params, result, rng),
    ]
    words, zh = _METHODS[result.method]
    if method not in ("auto", result.method):
        words = f"{words} The winner has no {_NAMES[method]}."
        zh = f"{zh}胜者不支持 {method}。"
    return base.ReportSection(_TITLE, words, [panel for panel in panels if panel], zh)


def _worst_panel(
    evaluator: Any, worst: Sequence[base.WorstAnswer], explanations: Sequence[Explanation]
) -> base.ReportPanel | None:
    """Return the explanations of the worst answers; None where no answer is bad."""
    cases = []
    for answer, explanation in zip(worst, explanations, strict=True):
        html = evaluator.show_parts(answer.case, explanation.parts, explanation.weights)
        cases.append(ShownCase(html, answer.verdict))
    return _cases_panel("Its worst answers", "最差的回答", cases)


def _good_panel(evaluator: Any, explained: _Explained) -> base.ReportPanel | None:
    """Return the explanations of a few other answers, which are right where answers can be."""
    cases = []
    trios = zip(explained.cases, explained.answers, explained.explanations, strict=True)
    for case, answer, explanation in trios:
        can_be_wrong = isinstance(evaluator, base.Abstains)
        if can_be_wrong and not evaluator.is_correct(answer, case.truth):
            continue
        html = evaluator.show_parts(case, explanation.parts, explanation.weights)
        cases.append(
            ShownCase(html, f"answer {evaluator.feedback.text(answer)}, truth {case.truth}")
        )
    return _cases_panel("Other answers", "其他回答", cases[:_SHOWN])


def _cases_panel(title: str, zh: str, cases: Sequence[ShownCase]) -> base.ReportPanel | None:
    """Return cases as HTML, each with a line below it; None where there are none."""
    if not cases:
        return None
    return base.ReportPanel(title, "", _macros().shown(cases), zh=zh)


def _importance_panel(evaluator: Any, explained: _Explained) -> base.ReportPanel | None:
    """Return the importance of parts over all cases; None where no query has a part."""
    importances = importance_of_parts(evaluator, explained.cases, explained.explanations)
    if not importances:
        return None
    unit, zh = evaluator.score_description
    cases = len(explained.cases)
    return base.ReportPanel(
        "Importance over many answers",
        f"Mean contribution without its sign, in {unit}, over {cases} random test cases.",
        evaluator.show_importance(importances),
        zh=f"重要性：{cases} 个随机测试样例上贡献的绝对值的平均，单位为{zh}。",
    )


def _checks_panel(
    evaluator: Any,
    explained: _Explained,
    predict: Predict,
    params: EvaluateParams,
    result: Explanations,
    rng: np.random.Generator,
) -> base.ReportPanel:
    """Return the outcome of the deletion test, and the completeness of integrated gradients."""
    test = deletion_test(
        evaluator,
        predict,
        [case.query for case in explained.cases],
        explained.answers,
        explained.explanations,
        params,
        rng,
    )
    unit, unit_zh = evaluator.score_description
    html = _macros().checks(
        test=test,
        removed=params.explain.removed,
        confidence=params.confidence,
        completeness=completeness(result),
        tolerance=TOLERANCE,
        unit=unit,
        unit_zh=unit_zh,
    )
    return base.ReportPanel("Do the explanations mean something?", "", html, zh="解释有意义吗？")


def deletion_test(
    evaluator: Any,
    predict: Predict,
    queries: Sequence[Any],
    answers: Sequence[Any],
    explanations: Sequence[Explanation],
    params: EvaluateParams,
    rng: np.random.Generator,
) -> DeletionTest | None:
    """Return the outcome of the deletion test; None where no query has two parts.

    Args:
        evaluator: of the task.
        predict: queries -> answers.
        queries: (n,).
        answers: (n,) to the queries.
        explanations: (n,) of the answers.
        params: of the stage.
        rng: of the random parts and of the bootstrap.
    """
    tested = [i for i, explanation in enumerate(explanations) if len(explanation.parts) > 1]
    if not tested:
        return None
    asked = []
    for i in tested:
        parts = explanations[i].parts
        count = min(len(parts) - 1, max(1, round(params.explain.removed * len(parts))))
        order = np.argsort(-np.array(explanations[i].weights), kind="stable")
        removals = [order[:count]]
        removals += [rng.choice(len(parts), count, replace=False) for _ in range(_REPEATS)]
        for removed in removals:
            asked.append(evaluator.without_parts(queries[i], parts, set(removed.tolist())))
    others = answers_or_none(predict, asked)
    falls = []
    for number, i in enumerate(tested):
        full = evaluator.support(answers[i], answers[i])
        first = number * (1 + _REPEATS)
        of_case = others[first : first + 1 + _REPEATS]
        falls.append([full - support_of(evaluator, other, answers[i]) for other in of_case])
    table = np.array(falls)
    differences = table[:, 0] - table[:, 1:].mean(1)
    resampled = rng.integers(0, len(tested), (params.resamples, len(tested)))
    tail = (1 - params.confidence) / 2 * 100
    low, high = np.percentile(differences[resampled].mean(1), [tail, 100 - tail])
    return DeletionTest(
        cases=len(tested),
        top=float(table[:, 0].mean()),
        random=float(table[:, 1:].mean()),
        interval=(float(low), float(high)),
    )


def importance_of_parts(
    evaluator: Any, cases: Sequence[base.Case[Any]], explanations: Sequence[Explanation]
) -> list[base.PartImportance]:
    """Return the importance of the parts of all queries, the most important first.

    Args:
        evaluator: of the task.
        cases: (n,).
        explanations: (n,) of their answers.
    """
    sums: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for case, explanation in zip(cases, explanations, strict=True):
        names = evaluator.part_names(case.query, explanation.parts)
        of_case: dict[str, float] = defaultdict(float)
        for name, weight in zip(names, explanation.weights, strict=True):
            of_case[name] += weight
        for name, weight in of_case.items():
            sums[name] += abs(weight)
            counts[name] += 1
    importances = []
    for name in sorted(sums, key=lambda name: (-sums[name], name)):
        importances.append(base.PartImportance(name, sums[name] / len(cases), counts[name]))
    return importances


def completeness(explanations: Explanations) -> Completeness | None:
    """Return how complete integrated gradients are; None for other methods."""
    if not len(explanations.errors):
        return None
    errors = np.array(explanations.errors)
    return Completeness(
        median=float(np.median(errors)),
        largest=float(errors.max()),
        within=int((errors <= TOLERANCE).sum()),
        cases=len(errors),
        points=explanations.points,
    )


def _macros() -> Any:
    return environment(Path(__file__).parent).get_template("explanations.html.j2").module
