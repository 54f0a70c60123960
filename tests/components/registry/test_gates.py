from __future__ import annotations

from typing import Any

import pytest
from scipy.stats import binomtest

from components.core.errors import ParamsError
from components.core.params import validate
from components.registry.gates import Gate, GateParams, Rival, all_passed, as_rows, judge_gates, lower_bound, mcnemar

PARAMS = GateParams(baseline_margin=0.01, champion_margin=0.01, alpha=0.05, latency_p95_ms=20, size_mb=5)


def row(name: str = "network", accuracy: float = 0.85, **more: Any) -> dict[str, Any]:
    return {"name": name, "bundle_sha256": name, "test": {"accuracy": accuracy, "loss": 1 - accuracy}, "size_bytes": 4_000_000, "latency_ms": {"p50": 5, "p95": 12}, **more}


def answers(right: str) -> dict[str, bool]:
    return {str(place): sign == "+" for place, sign in enumerate(right)}


def verdicts(winner: dict[str, Any], baseline: dict[str, Any] | None = None, champion: Rival | None = None, correct: str = "++", leaked: int | None = 0, **more: Any) -> dict[str, Gate]:
    gates = judge_gates(winner, baseline, champion, PARAMS, correct=answers(correct), leaked_rows=leaked, **more)
    return {gate.name: gate for gate in gates}


@pytest.mark.parametrize(
    ("gate", "expected", "given"),
    [
        ("baseline", None, {"baseline": None}),
        ("baseline", True, {"baseline": row("classical", 0.80)}),
        ("baseline", True, {"baseline": row("classical", 0.855)}),  # within the margin
        ("baseline", False, {"baseline": row("classical", 0.87)}),
        ("baseline", True, {"baseline": row("network", 0.85)}),  # it is the winner
        ("baseline", False, {"baseline": row("classical", 0.87), "metric": "loss", "goal": "min"}),
        ("baseline", True, {"baseline": row("classical", 0.80), "metric": "loss", "goal": "min"}),
        ("latency", True, {"winner": row(latency_ms={"p95": 20})}),
        ("latency", False, {"winner": row(latency_ms={"p95": 20.1})}),
        ("latency", False, {"winner": row(latency_ms={"p95": float("nan")})}),
        ("latency", None, {"winner": row(latency_ms={})}),
        ("size", False, {"winner": row(size_bytes=5_000_001)}),
        ("size", True, {"winner": row(size_bytes=5_000_000)}),
        ("leak", True, {"leaked": 0}),
        ("leak", False, {"leaked": 1}),
        ("leak", None, {"leaked": None}),
        ("champion", None, {"champion": None}),
        ("champion", None, {"champion": Rival(3, "network", answers("--"))}),  # the same bundle
        ("champion", False, {"champion": Rival(3, "old", answers("++"))}),  # a tie
        ("champion", False, {"champion": Rival(3, "old", {"other": True})}),  # other cases
        ("champion", False, {"champion": Rival(3, "old", {}), "correct": ""}),
        ("champion", False, {"champion": Rival(3, "old", answers("--" + "+" * 8)), "correct": "++" + "+" * 7 + "-"}),  # one better of ten proves nothing
        ("champion", True, {"champion": Rival(3, "old", answers("-" * 9 + "+" * 91)), "correct": "+" * 100}),
        ("champion", False, {"champion": Rival(3, "old", answers("+" * 100)), "correct": "-" + "+" * 99}),  # within the margin, and yet not better
    ],
)
def test_a_gate_judges(gate: str, expected: bool | None, given: dict[str, Any]) -> None:
    assert verdicts(**{"winner": row(), **given})[gate].passed is expected


def test_the_margin_lets_a_small_gain_on_many_cases_pass_that_alone_is_not_significant() -> None:
    # given 3000 cases, 110 won, 100 lost
    mine, theirs = answers("+" * 110 + "-" * 100 + "+" * 2790), answers("-" * 110 + "+" * 100 + "+" * 2790)
    # when judged with and without a margin
    verdict = [judge_gates(row(), None, Rival(1, "old", theirs), PARAMS.model_copy(update={"champion_margin": margin}), correct=mine, leaked_rows=0)[1].passed for margin in (0.01, 0.0)]
    # then only the margin lets it pass
    assert verdict == [True, False]


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (5, 0), (9, 2), (2, 9), (40, 25), (110, 100)])
def test_the_paired_test_agrees_with_the_binomial_test(wins: int, losses: int) -> None:
    reference = binomtest(wins, wins + losses, 0.5) if wins + losses else None
    assert mcnemar(wins, losses) == pytest.approx(reference.pvalue if reference else 1.0)
    one_sided = binomtest(wins, wins + losses, 0.5, alternative="greater").pvalue if reference else 1.0
    assert (lower_bound(wins, losses, 500, 0.05) > 0) == (one_sided < 0.05)


def test_what_does_not_apply_does_not_refuse_and_all_is_json() -> None:
    gates = list(verdicts(row(), leaked=None).values())
    assert all_passed(gates) and not all_passed([*gates, Gate("size", False)])
    assert as_rows(gates)[0] == {"name": "baseline", "passed": None, "value": None, "limit": None, "detail": "there is no classical baseline"}


def test_impossible_limits_are_refused_together() -> None:
    with pytest.raises(ParamsError, match=r"(?s)alpha.*size_mb"):
        validate(GateParams, {"alpha": 0.7, "size_mb": 0}, "params.yaml")
