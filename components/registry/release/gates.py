"""Gates: the rules that a winner must pass before it may become champion.

The functions are pure: they turn metrics into results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from components.core.params import Strict
from components.registry.release.gate_results import (
    OVERRIDABLE,
    Gate,
    Verdict,
    all_passed,
    as_rows,
    from_rows,
)
from components.registry.versions.test_cases import Cases
from components.tasks import base
from components.tasks.base import FEEDBACK_SLICE, ChampionComparison

__all__ = [
    "OVERRIDABLE",
    "ChampionResults",
    "Gate",
    "GateParams",
    "GateRules",
    "Verdict",
    "all_passed",
    "as_rows",
    "from_rows",
    "judge_champion",
    "judge_gates",
]


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
        description="Largest error of stated probabilities, or of intervals' coverage, on test.",
    )
    slice_drop: float = Field(
        0.2,
        gt=0,
        le=1,
        description="Most that a slice may lack of the report metric, without a champion.",
    )
    slice_margin: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Most that a slice may lack of the champion's report metric.",
    )
    slice_cases: int = Field(30, ge=1, description="Fewest cases of a slice that is judged.")


@dataclass(frozen=True)
class GateRules:
    """The limits of a pipeline, and how its task compares answers.

    Attributes:
        params: the limits.
        task: comparisons of the task.
        targets: names of what its models know of the target.
    """

    params: GateParams
    task: ChampionComparison
    targets: Sequence[str] = ()

    def can_compare(self, mine: Cases, theirs: Cases) -> bool:
        """Return whether both are answers to the same cases, with what the task compares."""
        known = mine.stats.keys() & theirs.stats.keys()
        return mine.pairs(theirs) and known.issuperset(self.task.statistics)


def gate_rules(task: str, params: GateParams) -> GateRules:
    """Return the rules of a task.

    Args:
        task: its id.
        params: the limits.
    """
    targets = tuple(base.schema(task).targets.Info.model_fields)
    return GateRules(params, base.evaluator(task).gates, targets)


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
    rules: GateRules,
    *,
    cases: Cases,
    leaked_rows: int | None,
    metric: str,
    goal: Literal["min", "max"],
    is_share: bool = True,
    trivial: Mapping[str, Any] | None = None,
) -> list[Gate]:
    """Apply all gates.

    Args:
        winner: its row of the leaderboard.
        baseline: the row of the classical baseline, if the task has one.
        champion: the results of the model that the winner would replace.
        rules: of the pipeline.
        cases: the winner's answers to the test split.
        leaked_rows: rows that are in more than one split; None if they were not counted.
        metric: the deciding one.
        goal: whether a higher or a lower metric is better.
        is_share: whether the metric is a share. The gain of another one is divided by the
            baseline's metric, because its unit is that of the data.
        trivial: the row of the baseline that looks at no input, if the task has one.
    """
    params = rules.params
    unit = 1.0
    if baseline is not None and not is_share:
        unit = abs(float(baseline["test"][metric])) or 1.0
    size = winner.get("size_bytes")
    latency = winner.get("latency_ms", {})
    against_baseline = _against_trivial(winner, trivial, metric, goal) or _against_baseline(
        winner, baseline, metric, goal, params.baseline_margin, unit
    )
    return [
        against_baseline,
        *judge_champion(str(winner["bundle_sha256"]), cases, champion, rules),
        _at_most(
            "latency",
            latency.get("p95"),
            params.latency_p95_ms,
            "p95 of one answer, milliseconds",
            latency.get("p95_interval"),
        ),
        _at_most("size", None if size is None else size / 1e6, params.size_mb, "bundle, megabytes"),
        _calibration(cases, rules),
        _at_most("leak", leaked_rows, 0, "rows that stand in more than one split"),
    ]


def judge_champion(
    bundle_sha256: str, cases: Cases, champion: ChampionResults | None, rules: GateRules
) -> list[Gate]:
    """Apply the gates that compare with the champion: on all cases, and slice by slice.

    Args:
        bundle_sha256: of the winner.
        cases: the winner's answers to the test split.
        champion: the results of the model that the winner would replace.
        rules: of the pipeline.
    """
    if champion is not None and champion.bundle_sha256 == bundle_sha256:
        same = f"same model as the champion, version {champion.version}"
        return [
            Gate(name, None, detail=same, against=champion.version)
            for name in ("champion", "slices")
        ]
    return [_against_champion(champion, cases, rules), _slices(champion, cases, rules)]


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


def _against_trivial(
    winner: Mapping[str, Any], trivial: Mapping[str, Any] | None, metric: str, goal: str
) -> Gate | None:
    """Return a failed gate if the winner is no better than without any input; else None."""
    if trivial is None:
        return None
    sign = 1 if goal == "max" else -1
    value = float(winner["test"][metric])
    least = float(trivial["test"][metric])
    gain = sign * (value - least)
    if gain > 0:
        return None
    detail = f"{metric} on test is {value:.4g}, and {least:.4g} without looking at any input"
    return Gate("baseline", False, gain, 0.0, detail)


def _against_baseline(
    winner: Mapping[str, Any],
    baseline: Mapping[str, Any] | None,
    metric: str,
    goal: str,
    margin: float,
    unit: float,
) -> Gate:
    if baseline is None:
        return Gate("baseline", None, detail="there is no classical baseline")
    if winner["name"] == baseline["name"]:
        return Gate("baseline", True, 0.0, -margin, "the winner is the classical baseline")
    sign = (1 if goal == "max" else -1) / unit
    gain = sign * (float(winner["test"][metric]) - float(baseline["test"][metric]))
    interval = winner.get("over_baseline") or (gain / sign, gain / sign)
    low, high = sorted(sign * float(bound) for bound in interval)
    gain_name = "gain" if unit == 1 else "relative gain"
    return Gate(
        name="baseline",
        passed=low >= -margin,
        value=gain,
        limit=-margin,
        detail=f"{gain_name} of {metric} on test over the classical baseline, paired bootstrap",
        interval=(low, high),
        borderline=low < -margin <= high,
    )


def _against_champion(champion: ChampionResults | None, cases: Cases, rules: GateRules) -> Gate:
    if champion is None:
        return Gate("champion", None, detail="there was no champion to compare with")
    count = len(cases.ids)
    version = champion.version
    note = f"; {champion.note}" if champion.note else ""
    if not rules.can_compare(cases, champion.cases):
        detail = f"version {version} was not measured on the same {count} test cases{note}"
        return Gate("champion", False, detail=detail, against=version)
    if (refusal := _suspect_feedback(champion, rules)) is not None:
        return refusal
    params = rules.params
    theirs = champion.cases.of_ids(cases.ids)
    compared = rules.task.compare(cases.stats, theirs, params.alpha)
    test = f", {compared.test}" if compared.test else ""
    tie = "; a tie does not promote" if compared.gain == 0 else ""
    is_ahead = compared.gain > 0
    is_safe = compared.low >= -params.champion_margin
    return Gate(
        name="champion",
        passed=is_ahead and is_safe,
        value=compared.gain,
        limit=-params.champion_margin,
        detail=f"against version {version} on {count} cases: {compared.counted}{test}{tie}{note}",
        interval=(compared.low, compared.high),
        borderline=is_ahead and not is_safe,
        against=version,
    )


def _suspect_feedback(champion: ChampionResults, rules: GateRules) -> Gate | None:
    """Return a refusal where the champion's answers say that the feedback is wrong, or None."""
    cases = champion.cases
    slices = cases.slices or {}
    feedback = sorted(slices.get(FEEDBACK_SLICE, ()))
    if not feedback:
        return None
    among = {position: number for number, position in enumerate(feedback)}
    slices_of_feedback = {}
    for name, positions in slices.items():
        slices_of_feedback[name] = [among[i] for i in positions if i in among]
    suspicion = rules.task.suspect_feedback(
        cases.select(feedback), slices_of_feedback, rules.params.alpha
    )
    if suspicion is None:
        return None
    return Gate(
        name="champion",
        passed=False,
        value=suspicion.value,
        limit=suspicion.limit,
        detail=f"version {champion.version} {suspicion.detail}",
        against=champion.version,
    )


def _calibration(cases: Cases, rules: GateRules) -> Gate:
    limit = rules.params.calibration
    measured = rules.task.calibration(cases.stats, rules.params.alpha)
    if isinstance(measured, str):
        return Gate("calibration", None, None, limit, measured)
    interval = (measured.low, measured.high)
    return _at_most("calibration", measured.error, limit, measured.detail, interval)


def _slices(champion: ChampionResults | None, cases: Cases, rules: GateRules) -> Gate:
    """Return the gate of the worst slice.

    No small slice can prove that it is not worse, so here harm is what must be proven. A slice
    refuses if its bound (corrected for the number of slices after Bonferroni) is beyond the limit.
    It is borderline if only its gain is, and passes otherwise.
    """
    params = rules.params
    slices = _large_slices(cases, params.slice_cases)
    against = champion.version if champion else None
    if not slices:
        detail = f"no slice has {params.slice_cases} cases"
        return Gate("slices", None, detail=detail, against=against)
    if champion is not None and not rules.can_compare(cases, champion.cases):
        detail = f"version {champion.version} was not measured on the same cases"
        return Gate("slices", None, detail=detail, against=against)
    alpha = params.alpha / len(slices)
    gates = [
        _slice(name, positions, champion, cases, rules, alpha) for name, positions in slices.items()
    ]
    order = ("refused", "borderline", "passed")
    return min(gates, key=lambda gate: (order.index(gate.verdict), gate.value))


def _large_slices(cases: Cases, least: int) -> dict[str, Sequence[int]]:
    """Return the slices that have enough cases: slice -> positions of its cases.

    The feedback is a slice of its own, and in no other slice. A champion that gives one answer to
    everything that is new to it is never wrong about the cases of which it is the true one.
    """
    slices = cases.slices or {}
    feedback = set(slices.get(FEEDBACK_SLICE, ()))
    large: dict[str, Sequence[int]] = {}
    for name, positions in slices.items():
        if name != FEEDBACK_SLICE:
            positions = [position for position in positions if position not in feedback]
        if len(positions) >= least:
            large[name] = positions
    return large


def _slice(
    name: str,
    positions: Sequence[int],
    champion: ChampionResults | None,
    cases: Cases,
    rules: GateRules,
    alpha: float,
) -> Gate:
    mine = cases.select(positions)
    if champion is None:
        limit = -rules.params.slice_drop
        compared = rules.task.compare_with_all(mine, cases.stats, alpha)
        against = compared.counted
    else:
        limit = -rules.params.slice_margin
        theirs = champion.cases.of_ids(cases.ids[position] for position in positions)
        compared = rules.task.compare(mine, theirs, alpha)
        against = f"against version {champion.version}: {compared.counted}"
    level = rules.task.describe_level(mine)
    return Gate(
        name="slices",
        passed=compared.gain >= limit,
        value=compared.gain,
        limit=limit,
        detail=f"worst: {name} ({len(positions)} cases, {level}), {against}",
        interval=None,
        borderline=compared.gain < limit <= compared.high,
        against=champion.version if champion else None,
    )
