"""Gates: the rules that a winner must pass before it may become champion.

The functions are pure: they turn metrics into results.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from components.core.params import Strict
from components.metrics.calibration import calibration_error
from components.metrics.exact_tests import lower_bound, mcnemar, upper_share
from components.registry.release.gate_results import (
    OVERRIDABLE,
    Gate,
    Verdict,
    all_passed,
    as_rows,
    from_rows,
)
from components.registry.versions.test_cases import Cases

__all__ = [
    "OVERRIDABLE",
    "ChampionResults",
    "Gate",
    "GateParams",
    "Verdict",
    "all_passed",
    "as_rows",
    "from_rows",
    "judge_champion",
    "judge_gates",
]
# with fewer cases calibration cannot be measured
_MIN_CASES = 100
# the slice of cases that clients labeled, as evaluators name it
_FEEDBACK = "from: feedback"


class GateParams(Strict):
    """The limits: `registry.gates` in params.yaml."""

    baseline_margin: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Loss of the metric against the baseline that must be ruled out.",
    )
    champion_margin: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of test cases lost to the champion that must be ruled out.",
    )
    alpha: float = Field(
        0.05, gt=0, lt=0.5, description="Chance of ruling such a loss out wrongly."
    )
    latency_p95_ms: float = Field(
        100.0, gt=0, description="Most milliseconds of one answer, as 95th percentile."
    )
    size_mb: float = Field(200.0, gt=0, description="Most megabytes (10^6 bytes) of the bundle.")
    calibration: float = Field(
        0.15,
        gt=0,
        le=1,
        description="Largest calibration error on test: root mean square over ten bins.",
    )
    slice_drop: float = Field(
        0.2,
        gt=0,
        le=1,
        description="Most accuracy a slice may lack against all, without a champion.",
    )
    slice_margin: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Most accuracy that a slice may lack against the champion's.",
    )
    slice_cases: int = Field(30, ge=1, description="Fewest cases of a slice that is judged.")


@dataclass(frozen=True)
class ChampionResults:
    """The results of the champion on the cases of the present test split.

    Attributes:
        version: its number.
        bundle_sha256: of its bundle.
        cases: empty if it cannot be evaluated.
        note: that it was evaluated again, or why it cannot be evaluated.
    """

    version: int
    bundle_sha256: str
    cases: Cases
    note: str = ""


def judge_gates(
    winner: Mapping[str, Any],
    baseline: Mapping[str, Any] | None,
    champion: ChampionResults | None,
    params: GateParams,
    *,
    cases: Cases,
    leaked_rows: int | None,
    metric: str = "accuracy",
    goal: Literal["min", "max"] = "max",
) -> list[Gate]:
    """Apply all gates.

    Args:
        winner: its row of the leaderboard.
        baseline: the row of the classical baseline, if the task has one.
        champion: the results of the model that the winner would replace.
        params: the limits.
        cases: the winner's answers to the test split.
        leaked_rows: rows that are in more than one split; None if they were not counted.
        metric: the deciding one.
        goal: whether a higher or a lower metric is better.
    """
    size = winner.get("size_bytes")
    latency = winner.get("latency_ms", {})
    return [
        _against_baseline(winner, baseline, metric, goal, params.baseline_margin),
        *judge_champion(str(winner["bundle_sha256"]), cases, champion, params),
        _at_most(
            "latency",
            latency.get("p95"),
            params.latency_p95_ms,
            "p95 of one answer, milliseconds",
            latency.get("p95_interval"),
        ),
        _at_most("size", None if size is None else size / 1e6, params.size_mb, "bundle, megabytes"),
        _calibration(cases, params),
        _at_most("leak", leaked_rows, 0, "rows that stand in more than one split"),
    ]


def judge_champion(
    bundle_sha256: str, cases: Cases, champion: ChampionResults | None, params: GateParams
) -> list[Gate]:
    """Apply the gates that compare with the champion: on all cases, and slice by slice.

    Args:
        bundle_sha256: of the winner.
        cases: the winner's answers to the test split.
        champion: the results of the model that the winner would replace.
        params: the limits.
    """
    if champion is not None and champion.bundle_sha256 == bundle_sha256:
        same = f"same model as the champion, version {champion.version}"
        return [
            Gate(name, None, detail=same, against=champion.version)
            for name in ("champion", "slices")
        ]
    return [_against_champion(champion, cases, params), _slices(champion, cases, params)]


def _at_most(
    name: str,
    value: float | None,
    limit: float,
    detail: str,
    interval: Sequence[float] | None = None,
) -> Gate:
    if value is None:
        return Gate(name, None, None, limit, "not measured")
    low, high = interval or (value, value)
    return Gate(
        name=name,
        passed=high <= limit,
        value=float(value),
        limit=limit,
        detail=detail,
        interval=(low, high) if interval else None,
        borderline=low <= limit < high,
    )


def _against_baseline(
    winner: Mapping[str, Any],
    baseline: Mapping[str, Any] | None,
    metric: str,
    goal: str,
    margin: float,
) -> Gate:
    if baseline is None:
        return Gate("baseline", None, detail="there is no classical baseline")
    if winner["name"] == baseline["name"]:
        return Gate("baseline", True, 0.0, -margin, "the winner is the classical baseline")
    sign = 1 if goal == "max" else -1
    gain = sign * (float(winner["test"][metric]) - float(baseline["test"][metric]))
    interval = winner.get("over_baseline") or (sign * gain, sign * gain)
    low, high = sorted(sign * float(bound) for bound in interval)
    return Gate(
        name="baseline",
        passed=low >= -margin,
        value=gain,
        limit=-margin,
        detail=f"gain of {metric} on test over the classical baseline, paired bootstrap",
        interval=(low, high),
        borderline=low < -margin <= high,
    )


def _against_champion(champion: ChampionResults | None, cases: Cases, params: GateParams) -> Gate:
    if champion is None:
        return Gate("champion", None, detail="there is no champion yet")
    count = len(cases.ids)
    version = champion.version
    note = f"; {champion.note}" if champion.note else ""
    if not cases.pairs(champion.cases):
        detail = f"version {version} was not measured on the same {count} test cases{note}"
        return Gate("champion", False, detail=detail, against=version)
    if (refusal := _flipped_labels(champion, params)) is not None:
        return refusal
    wins, losses = _paired_wins(cases.known, champion.cases.known)
    low = lower_bound(wins, losses, count, params.alpha)
    high = -lower_bound(losses, wins, count, params.alpha)
    tie = "; a tie does not promote" if wins == losses else ""
    is_ahead = wins > losses
    is_safe = low >= -params.champion_margin
    return Gate(
        name="champion",
        passed=is_ahead and is_safe,
        value=(wins - losses) / count,
        limit=-params.champion_margin,
        detail=(
            f"against version {version} on {count} cases: {wins} won, {losses} lost, "
            f"McNemar p = {mcnemar(wins, losses):.3g}{tie}{note}"
        ),
        interval=(low, high),
        borderline=is_ahead and not is_safe,
        against=version,
    )


def _flipped_labels(champion: ChampionResults, params: GateParams) -> Gate | None:
    """Return a refusal where the champion answers the feedback worse than guessing, or None.

    Data that are new to a model bring it down to guessing. Labels that are flipped bring it below
    that, and a challenger that learned them would win on the cases that were drawn from them.

    Guessing, or one answer to everything, is right in the k-th part of the cases on average over k
    classes, however many cases a class has. The bound of that average is the average of the
    classes' bounds (exact, after Bonferroni).
    """
    slices = champion.cases.slices or {}
    feedback = set(slices.get(_FEEDBACK, ()))
    classes = _feedback_classes(slices, feedback)
    if len(classes) < 2:
        return None
    count = len(classes)
    right = [_count_right(champion.cases, rows) for rows in classes]
    bounds = [
        upper_share(rights, len(rows), params.alpha / count)
        for rights, rows in zip(right, classes, strict=True)
    ]
    if sum(bounds) >= 1:
        return None
    share = sum(rights / len(rows) for rights, rows in zip(right, classes, strict=True)) / count
    detail = (
        f"version {champion.version} is right in {sum(right)} of the {len(feedback)} test cases "
        "that are feedback, worse than guessing: are their labels turned round?"
    )
    return Gate("champion", False, share, 1 / count, detail, against=champion.version)


def _count_right(cases: Cases, positions: Iterable[int]) -> int:
    return sum(cases.right[position] for position in positions)


def _feedback_classes(slices: Mapping[str, Sequence[int]], feedback: set[int]) -> list[set[int]]:
    """Return of each class the positions of its cases that are feedback, if it has any."""
    classes = []
    for name, positions in slices.items():
        if name.startswith("class: "):
            rows = feedback.intersection(positions)
            if rows:
                classes.append(rows)
    return classes


def _paired_wins(mine: Mapping[str, bool], theirs: Mapping[str, bool]) -> tuple[int, int]:
    """Return how many cases only one side answered rightly: mine, theirs."""
    wins = sum(right and not theirs[case] for case, right in mine.items())
    losses = sum(theirs[case] and not right for case, right in mine.items())
    return wins, losses


def _calibration(cases: Cases, params: GateParams) -> Gate:
    import numpy as np

    limit = params.calibration
    if not cases.confidence:
        return Gate("calibration", None, None, limit, "answers state no probability")
    if len(cases.ids) < _MIN_CASES:
        detail = f"{len(cases.ids)} cases are too few to tell"
        return Gate("calibration", None, None, limit, detail)
    error, low, high = calibration_error(
        np.array(cases.confidence), np.array(cases.right), params.alpha
    )
    detail = "stated probability against what came true, ten bins"
    return _at_most("calibration", error, limit, detail, (low, high))


def _slices(champion: ChampionResults | None, cases: Cases, params: GateParams) -> Gate:
    """Return the gate of the worst slice.

    No small slice can prove that it is not worse, so here harm is what must be proven. A slice
    refuses if its bound (exact, corrected for the number of slices after Bonferroni) is beyond the
    limit. It is borderline if only its accuracy is, and passes otherwise.
    """
    slices = _large_slices(cases, params.slice_cases)
    against = champion.version if champion else None
    if not slices:
        detail = f"no slice has {params.slice_cases} cases"
        return Gate("slices", None, detail=detail, against=against)
    if champion is not None and not cases.pairs(champion.cases):
        detail = f"version {champion.version} was not measured on the same cases"
        return Gate("slices", None, detail=detail, against=against)
    alpha = params.alpha / len(slices)
    gates = [
        _slice(name, positions, champion, cases, params, alpha)
        for name, positions in slices.items()
    ]
    order = ("refused", "borderline", "passed")
    return min(gates, key=lambda gate: (order.index(gate.verdict), gate.value))


def _large_slices(cases: Cases, least: int) -> dict[str, Sequence[int]]:
    """Return the slices that have enough cases: slice -> positions of its cases.

    The feedback is a slice of its own, and in no other slice. A champion that gives one answer to
    everything that is new to it is never wrong about one class of it.
    """
    slices = cases.slices or {}
    feedback = set(slices.get(_FEEDBACK, ()))
    large: dict[str, Sequence[int]] = {}
    for name, positions in slices.items():
        if name != _FEEDBACK:
            positions = [position for position in positions if position not in feedback]
        if len(positions) >= least:
            large[name] = positions
    return large


def _slice(
    name: str,
    positions: Sequence[int],
    champion: ChampionResults | None,
    cases: Cases,
    params: GateParams,
    alpha: float,
) -> Gate:
    mine = {cases.ids[position]: bool(cases.right[position]) for position in positions}
    count = len(mine)
    right = sum(mine.values())
    if champion is None:
        whole = sum(cases.right) / len(cases.right)
        limit = -params.slice_drop
        gap = right / count - whole
        high = upper_share(right, count, alpha) - whole
        against = f"below all cases ({whole:.4f})"
    else:
        wins, losses = _paired_wins(mine, champion.cases.known)
        limit = -params.slice_margin
        gap = (wins - losses) / count
        high = -lower_bound(losses, wins, count, alpha)
        against = f"against version {champion.version}: {wins} won, {losses} lost"
    return Gate(
        name="slices",
        passed=gap >= limit,
        value=gap,
        limit=limit,
        detail=f"worst: {name} ({count} cases, accuracy {right / count:.4f}), {against}",
        interval=None,
        borderline=gap < limit <= high,
        against=champion.version if champion else None,
    )
