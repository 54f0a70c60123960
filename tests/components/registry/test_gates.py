from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from components.core.errors import ParamsError
from components.core.params import validate
from components.metrics.calibration import calibration_error
from components.metrics.exact_tests import lower_bound, mcnemar, upper_share
from components.registry.release.gates import (
    ChampionResults,
    Gate,
    GateParams,
    all_passed,
    as_rows,
    from_rows,
    gate_rules,
    judge_gates,
)
from components.registry.versions.test_cases import Cases, name_of

PARAMS = GateParams(
    baseline_margin=0.01, champion_margin=0.01, alpha=0.05, latency_p95_ms=20, size_mb=5
)
TASK = "text_classification"
RULES = gate_rules(TASK, PARAMS)


def row(name: str = "network", accuracy: float = 0.85, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "bundle_sha256": name,
        "test": {"accuracy": accuracy, "loss": 1 - accuracy},
        "size_bytes": 4_000_000,
        "latency_ms": {"p50": 5, "p95": 12},
        **more,
    }


def answers(
    right: str,
    confidence: Sequence[float] = (),
    slices: Mapping[str, Sequence[int]] | None = None,
    test: str = "t",
) -> Cases:
    stats: dict[str, Any] = {"right": [sign == "+" for sign in right]}
    if len(confidence):
        stats["confidence"] = list(confidence)
    return Cases([str(place) for place in range(len(right))], stats, slices, test)


def verdicts(
    winner: dict[str, Any],
    baseline: dict[str, Any] | None = None,
    champion: ChampionResults | None = None,
    cases: Cases | str = "++",
    leaked: int | None = 0,
    **more: Any,
) -> dict[str, Gate]:
    given = answers(cases) if isinstance(cases, str) else cases
    return {
        gate.name: gate
        for gate in judge_gates(
            winner,
            baseline,
            champion,
            RULES,
            cases=given,
            leaked_rows=leaked,
            **{"metric": "accuracy", "goal": "max"} | more,
        )
    }


def rival(right: str, test: str = "t", name: str = "old") -> ChampionResults:
    return ChampionResults(3, name, answers(right, test=test))


CLASSICAL = row("classical", 0.80)


@pytest.mark.parametrize(
    ("gate", "expected", "given"),
    [
        ("baseline", "not applicable", {"baseline": None}),
        ("baseline", "passed", {"baseline": CLASSICAL}),
        ("baseline", "passed", {"baseline": row("classical", 0.855)}),  # within the margin
        ("baseline", "refused", {"baseline": row("classical", 0.87)}),
        ("baseline", "passed", {"baseline": row("network", 0.85)}),  # it is the winner
        (
            "baseline",
            "refused",
            {"baseline": row("classical", 0.87), "metric": "loss", "goal": "min"},
        ),
        ("baseline", "passed", {"baseline": CLASSICAL, "metric": "loss", "goal": "min"}),
        ("baseline", "passed", {"winner": row(over_baseline=[-0.009, 0.1]), "baseline": CLASSICAL}),
        (
            "baseline",
            "borderline",
            {"winner": row(over_baseline=[-0.011, 0.1]), "baseline": CLASSICAL},
        ),  # ahead, and yet perhaps behind by more than the margin
        (
            "baseline",
            "borderline",
            {
                "winner": row(over_baseline=[-0.1, 0.011]),
                "baseline": CLASSICAL,
                "metric": "loss",
                "goal": "min",
            },
        ),
        (
            "baseline",
            "refused",
            {"winner": row(accuracy=0.7, over_baseline=[-0.2, -0.011]), "baseline": CLASSICAL},
        ),
        ("latency", "passed", {"winner": row(latency_ms={"p95": 20})}),
        ("latency", "refused", {"winner": row(latency_ms={"p95": 20.1})}),
        ("latency", "refused", {"winner": row(latency_ms={"p95": float("nan")})}),
        ("latency", "not applicable", {"winner": row(latency_ms={})}),
        (
            "latency",
            "borderline",
            {"winner": row(latency_ms={"p95": 19, "p95_interval": [18, 21]})},
        ),
        ("latency", "refused", {"winner": row(latency_ms={"p95": 23, "p95_interval": [21, 25]})}),
        ("size", "refused", {"winner": row(size_bytes=5_000_001)}),
        ("size", "passed", {"winner": row(size_bytes=5_000_000)}),
        ("leak", "passed", {"leaked": 0}),
        ("leak", "refused", {"leaked": 1}),
        ("leak", "not applicable", {"leaked": None}),
        ("champion", "not applicable", {"champion": None}),
        (
            "champion",
            "not applicable",
            {"champion": rival("--", name="network")},
        ),  # the same bundle
        ("champion", "refused", {"champion": rival("++")}),  # a tie
        ("champion", "refused", {"champion": rival("---")}),  # other cases
        ("champion", "refused", {"champion": rival("--", test="other truths")}),
        ("champion", "refused", {"champion": rival(""), "cases": ""}),
        (
            "champion",
            "borderline",
            {"champion": rival("--" + "+" * 8), "cases": "++" + "+" * 7 + "-"},
        ),  # one better of ten proves nothing
        ("champion", "passed", {"champion": rival("-" * 9 + "+" * 91), "cases": "+" * 100}),
        (
            "champion",
            "refused",
            {"champion": rival("+" * 100), "cases": "-" + "+" * 99},
        ),  # within the margin, and yet not better
        ("calibration", "not applicable", {}),
    ],
)
def test_a_gate_judges(gate: str, expected: str, given: dict[str, Any]) -> None:
    assert verdicts(**{"winner": row(), **given})[gate].verdict == expected


@pytest.mark.parametrize(
    ("trivial", "metric", "goal", "expected"),
    [
        (0.84, "accuracy", "max", "passed"),
        (0.85, "accuracy", "max", "refused"),
        (0.9, "accuracy", "max", "refused"),
        (0.84, "loss", "min", "passed"),
        (0.9, "loss", "min", "refused"),
    ],
)
def test_a_winner_that_is_no_better_than_without_any_input_is_refused(
    trivial: float, metric: str, goal: str, expected: str
) -> None:
    # given a winner with 0.85, which is the classical baseline itself
    judged = verdicts(
        row(),
        baseline=row(),
        trivial=row("trivial", trivial),
        metric=metric,
        goal=goal,
    )
    # then it is compared with the baseline that reads no input
    assert judged["baseline"].verdict == expected


def test_a_champion_whose_statistics_are_others_is_not_compared() -> None:
    other = answers("+-")
    damaged = Cases(other.ids, {"confidence": [0.9, 0.8]}, None, "t")
    judged = verdicts(row(), champion=ChampionResults(3, "old", damaged), cases="++")
    assert judged["champion"].verdict == "refused"
    assert judged["champion"].detail == "version 3 was not measured on the same 2 test cases"


def test_the_margin_lets_a_small_gain_on_many_cases_pass_that_alone_is_not_significant() -> None:
    # given 3000 cases, 110 won, 100 lost
    mine, theirs = (
        answers("+" * 110 + "-" * 100 + "+" * 2790),
        answers("-" * 110 + "+" * 100 + "+" * 2790),
    )
    # when judged with and without a margin
    verdict = [
        judge_gates(
            row(),
            None,
            ChampionResults(1, "old", theirs),
            gate_rules(TASK, PARAMS.model_copy(update={"champion_margin": margin})),
            cases=mine,
            leaked_rows=0,
            metric="accuracy",
            goal="max",
        )[1].verdict
        for margin in (0.01, 0.0)
    ]
    # then only the margin lets it pass; without one it is for a person to say
    assert verdict == ["passed", "borderline"]


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (5, 0), (9, 2), (2, 9), (40, 25), (110, 100)])
def test_the_paired_test_agrees_with_the_binomial_test(wins: int, losses: int) -> None:
    reference = binomtest(wins, wins + losses, 0.5) if wins + losses else None
    assert mcnemar(wins, losses) == pytest.approx(reference.pvalue if reference else 1.0)
    one_sided = (
        binomtest(wins, wins + losses, 0.5, alternative="greater").pvalue if reference else 1.0
    )
    assert (lower_bound(wins, losses, 500, 0.05) > 0) == (one_sided < 0.05)


def test_the_bound_of_a_share_is_that_of_clopper_and_pearson() -> None:
    for right, cases in ((0, 7), (3, 7), (7, 7), (80, 100)):
        assert upper_share(right, cases, 0.05) == pytest.approx(
            binomtest(right, cases).proportion_ci(0.9, "exact").high
        )


def stated(cases: int, overconfident: float, seed: int) -> tuple[Any, Any]:
    """Confidences, and what comes true less often by a constant."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.55, 0.95, cases)
    return confidence, rng.random(cases) < confidence - overconfident


def test_the_calibration_error_is_not_made_of_noise_and_its_bounds_hold() -> None:
    for gap in (0.0, 0.1, 0.2):
        found = [calibration_error(*stated(400, gap, seed), 0.05) for seed in range(200)]
        squares = np.array([error**2 for error, _, _ in found])
        covered = np.mean([low <= gap <= high for _, low, high in found])
        assert covered > 0.85  # two bounds of 95% each
        assert (
            abs(squares.mean() - gap**2) < 0.003
        )  # the plain error of perfectly calibrated answers would be 0.07, whose square is 0.005


@pytest.mark.parametrize(
    ("gap", "cases", "expected"),
    [
        (0.0, 2000, "passed"),
        (0.3, 2000, "refused"),
        (0.15, 2000, "borderline"),
        (0.3, 99, "not applicable"),
    ],
)
def test_calibration_is_judged_by_its_interval(gap: float, cases: int, expected: str) -> None:
    confidence, right = stated(cases, gap, 1)
    gate = verdicts(
        row(), cases=answers("".join("-+"[int(each)] for each in right), confidence.tolist())
    )["calibration"]
    assert gate.verdict == expected, gate


@pytest.mark.parametrize(
    ("slice_", "theirs", "expected"),
    [
        ("+" * 50, None, "passed"),
        ("-" * 50, None, "refused"),
        (
            "+" * 32 + "-" * 18,
            None,
            "borderline",
        ),  # 0.64 of 50 against 0.96 of all: the figure is beyond 0.2, its bound is not
        ("-" * 29, None, "passed"),  # too few cases to be judged: the class of all others is
        ("-" * 25 + "+" * 25, "-" * 25 + "+" * 25, "passed"),  # the champion's is as hard
        ("-" * 25 + "+" * 25, "+" * 50, "refused"),
        ("-" * 4 + "+" * 46, "+" * 50, "borderline"),  # 4 of 50 lost: 8 points, which may be noise
        ("-" * 2 + "+" * 48, "+" * 50, "passed"),
    ],
)
def test_a_slice_refuses_where_harm_is_proven(
    slice_: str, theirs: str | None, expected: str
) -> None:
    whole = slice_ + "+" * 450
    slices = {
        "class: 差评": list(range(len(slice_))),
        "class: 好评": list(range(len(slice_), len(whole))),
    }
    champion = None if theirs is None else rival(theirs + "+" * 449 + "-")
    gate = verdicts(row(), cases=answers(whole, (), slices), champion=champion)["slices"]
    assert gate.verdict == expected, gate
    assert expected == "passed" or "差评" in gate.detail


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        ("+" * 16 + "-" * 24, "passed"),  # 40% of 40: guessing would do as well
        ("+" * 10 + "-" * 30, "refused"),  # 25%: nobody is so wrong by chance
        ("-" * 4, "passed"),  # too few to tell
    ],
)
def test_a_champion_that_is_worse_than_guessing_on_feedback_says_that_its_labels_are_turned_round(
    theirs: str, expected: str
) -> None:
    # given a challenger that is right wherever the labels of the feedback are, and a champion that is as good on what was there before
    whole = "+" * 200 + theirs
    slices = {
        "class: 差评": list(range(0, len(whole), 2)),
        "class: 好评": list(range(1, len(whole), 2)),
        "from: feedback": list(range(200, len(whole))),
    }
    champion = ChampionResults(3, "old", answers(whole, (), slices))
    gate = verdicts(row(), cases=answers("+" * len(whole), (), slices), champion=champion)[
        "champion"
    ]
    assert gate.verdict == expected and ("turned round" in gate.detail) == (
        expected == "refused"
    ), gate


def test_a_champion_that_says_one_thing_to_all_that_is_new_to_it_may_be_beaten() -> None:
    # given feedback of which a third is bad, a champion that calls all of it bad, and a challenger that is right in 80% of either class
    fed, kept = "+" * 50 + "-" * 100, "+" * 200
    mine = "+" * 40 + "-" * 10 + "+" * 80 + "-" * 20
    slices = {
        "class: 差评": [*range(100), *range(200, 250)],
        "class: 好评": [*range(100, 200), *range(250, 350)],
        "from: source": list(range(200)),
        "from: feedback": list(range(200, 350)),
    }
    gates = verdicts(
        row(),
        cases=answers(kept + mine, (), slices),
        champion=ChampionResults(3, "old", answers(kept + fed, (), slices)),
    )
    assert (gates["champion"].verdict, gates["slices"].verdict) == ("passed", "passed"), gates
    # and harm to what was there before is found as ever
    worse = verdicts(
        row(),
        cases=answers("-" * 40 + "+" * 160 + mine, (), slices),
        champion=ChampionResults(3, "old", answers(kept + fed, (), slices)),
    )
    assert (
        worse["slices"].verdict == "refused" and "class: 差评 (100 cases" in worse["slices"].detail
    )


def test_what_does_not_apply_does_not_refuse_and_all_is_json() -> None:
    gates = list(verdicts(row(), leaked=None).values())
    assert (
        all_passed(gates)
        and not all_passed([*gates, Gate("size", False)])
        and not all_passed([Gate("champion", False, borderline=True)])
    )
    assert from_rows(as_rows(gates)) == gates
    # and what another version of gristmill wrote is read
    assert from_rows(
        [{"name": "size", "passed": True, "value": 1.0, "limit": 2.0, "detail": "", "new": 1}]
    ) == [Gate("size", True, 1.0, 2.0)]


def test_cases_are_kept_as_one_line_and_another_truth_is_another_test() -> None:
    cases = answers("+-", [0.5, 0.75], {"script: 汉": [0]}, name_of(["a", "b"], ["正", "负"]))
    assert Cases.from_json(cases.to_json()) == cases
    assert (
        len(
            {
                name_of(["a", "b"], ["正", "负"]),
                name_of(["a", "b"], ["正", "正"]),
                name_of(["b", "a"], ["正", "负"]),
            }
        )
        == 3
    )


def test_impossible_limits_are_refused_together() -> None:
    with pytest.raises(ParamsError, match=r"(?s)alpha.*size_mb"):
        validate(GateParams, {"alpha": 0.7, "size_mb": 0}, "params.yaml")
