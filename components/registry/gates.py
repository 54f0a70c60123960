"""Gates: the rules that a winner must pass before it may become champion. Pure: figures in, verdicts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import Field

from components.core.params import Strict


class GateParams(Strict):
    """The limits, in params.yaml below the stage that applies them."""

    baseline_margin: float = Field(default=0.0, ge=0, le=1, description="how far below the classical baseline the winner may be on test, in units of the deciding metric")
    champion_margin: float = Field(default=0.01, ge=0, le=1, description="a loss against the champion, as a share of the test cases, that must be ruled out")
    alpha: float = Field(default=0.05, gt=0, lt=0.5, description="the chance of not ruling it out rightly")
    latency_p95_ms: float = Field(default=100.0, gt=0, description="95th percentile of the time of one answer, in milliseconds")
    size_mb: float = Field(default=200.0, gt=0, description="size of the bundle, in megabytes (10^6 bytes)")


@dataclass(frozen=True)
class Gate:
    """One verdict."""

    name: str
    passed: bool | None  # None: not applicable
    value: float | None = None
    limit: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class Rival:
    """The champion on the cases of the present test split."""

    version: int
    bundle_sha256: str
    correct: Mapping[str, bool]  # case id -> answered rightly; empty if it cannot be asked


def judge_gates(
    winner: Mapping[str, Any],
    baseline: Mapping[str, Any] | None,
    champion: Rival | None,
    params: GateParams,
    *,
    correct: Mapping[str, bool],
    leaked_rows: int | None,
    metric: str = "accuracy",
    goal: Literal["min", "max"] = "max",
) -> list[Gate]:
    """Apply all gates.

    Args:
        winner: its row of the leaderboard.
        baseline: the row of the classical baseline, if the task has one.
        champion: what the winner would replace.
        params: the limits.
        correct: case id -> answered rightly by the winner, over the test split.
        leaked_rows: rows that stand in more than one split; None if nobody counted.
        metric: the deciding one.
        goal: which way of it is better.
    """
    size, latency = winner.get("size_bytes"), winner.get("latency_ms", {}).get("p95")
    return [
        _against_baseline(winner, baseline, metric, goal, params.baseline_margin),
        _against_champion(winner, champion, correct, params),
        _at_most("latency", latency, params.latency_p95_ms, "p95 of one answer, milliseconds"),
        _at_most("size", None if size is None else size / 1e6, params.size_mb, "bundle, megabytes"),
        _at_most("leak", leaked_rows, 0, "rows that stand in more than one split"),
    ]


def all_passed(gates: Sequence[Gate]) -> bool:
    """Whether no gate refuses; one that does not apply does not."""
    return all(gate.passed is not False for gate in gates)


def as_rows(gates: Sequence[Gate]) -> list[dict[str, Any]]:
    """For JSON: tags, records, reports."""
    return [asdict(gate) for gate in gates]


def _at_most(name: str, value: float | None, limit: float, detail: str) -> Gate:
    if value is None:
        return Gate(name, None, None, limit, "not measured")
    return Gate(name, value <= limit, float(value), limit, detail)


def _against_baseline(winner: Mapping[str, Any], baseline: Mapping[str, Any] | None, metric: str, goal: str, margin: float) -> Gate:
    if baseline is None:
        return Gate("baseline", None, detail="there is no classical baseline")
    mine, theirs = float(winner["test"][metric]), float(baseline["test"][metric])
    if winner["name"] == baseline["name"]:
        return Gate("baseline", True, mine, theirs, "the winner is the classical baseline")
    limit = theirs - margin if goal == "max" else theirs + margin
    return Gate("baseline", mine >= limit if goal == "max" else mine <= limit, mine, limit, f"{metric} on test, the baseline's with margin {margin:g} as the limit")


def _against_champion(winner: Mapping[str, Any], champion: Rival | None, correct: Mapping[str, bool], params: GateParams) -> Gate:
    if champion is None:
        return Gate("champion", None, detail="there is no champion yet")
    if champion.bundle_sha256 == winner["bundle_sha256"]:
        return Gate("champion", None, detail=f"same model as the champion, version {champion.version}")
    if not correct or correct.keys() != champion.correct.keys():
        return Gate("champion", False, detail=f"version {champion.version} was not measured on the same {len(correct)} test cases")
    wins = sum(right and not champion.correct[case] for case, right in correct.items())
    losses = sum(champion.correct[case] and not right for case, right in correct.items())
    low, p = lower_bound(wins, losses, len(correct), params.alpha), mcnemar(wins, losses)
    tie = "; a tie does not promote" if wins == losses else ""
    detail = f"against version {champion.version} on {len(correct)} cases: {wins} won, {losses} lost, McNemar p = {p:.3g}, at least {low:+.4f} with confidence {1 - params.alpha:g}{tie}"
    return Gate("champion", wins > losses and low >= -params.champion_margin, (wins - losses) / len(correct), -params.champion_margin, detail)


def mcnemar(wins: int, losses: int) -> float:
    """The exact two-sided p-value of McNemar's test (1947) for paired answers that differ.

    Args:
        wins: cases that only the first answers rightly.
        losses: cases that only the second answers rightly.
    """
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5))) if wins + losses else 1.0


def lower_bound(wins: int, losses: int, cases: int, alpha: float) -> float:
    """What the difference of two paired accuracies is at least, with confidence 1 - alpha.

    McNemar's exact test turned into a bound: Clopper and Pearson's (1934) for the share of wins among the cases that differ. It is above zero just where the one-sided test rejects.
    """
    from scipy.special import betaincinv

    share = float(betaincinv(wins, losses + 1, alpha)) if wins else 0.0
    return (wins + losses) * (2 * share - 1) / cases
