"""Gates: the rules that a winner must pass before it may become champion. Pure: figures in, verdicts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from components.core.params import Strict
from components.metrics.bounds import calibration_error, lower_bound, mcnemar, upper_share
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
_FEW = 100  # cases from which calibration can be told
_FEEDBACK = "from: feedback"  # the slice of cases that clients labeled, as judges name it


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
    """The champion on the cases of the present test split."""

    version: int
    bundle_sha256: str
    cases: Cases  # empty if it cannot be asked
    note: str = ""  # that it was asked anew, or why it cannot be asked


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
        champion: what the winner would replace.
        params: the limits.
        cases: the winner's answers to the test split.
        leaked_rows: rows that stand in more than one split; None if nobody counted.
        metric: the deciding one.
        goal: which way of it is better.
    """
    size, latency = winner.get("size_bytes"), winner.get("latency_ms", {})
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
    """The gates that compare with the champion: all cases, and slice by slice."""
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
        name,
        high <= limit,
        float(value),
        limit,
        detail,
        (low, high) if interval else None,
        low <= limit < high,
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
    low, high = sorted(
        sign * float(each) for each in winner.get("over_baseline") or (sign * gain, sign * gain)
    )
    return Gate(
        "baseline",
        low >= -margin,
        gain,
        -margin,
        f"gain of {metric} on test over the classical baseline, paired bootstrap",
        (low, high),
        low < -margin <= high,
    )


def _against_champion(champion: ChampionResults | None, cases: Cases, params: GateParams) -> Gate:
    if champion is None:
        return Gate("champion", None, detail="there is no champion yet")
    note = f"; {champion.note}" if champion.note else ""
    if not cases.pairs(champion.cases):
        return Gate(
            "champion",
            False,
            detail=f"version {champion.version} was not measured on the same {len(cases.ids)} test cases{note}",
            against=champion.version,
        )
    if (turned := _turned(champion, params)) is not None:
        return turned
    wins, losses = _duel(cases.known, champion.cases.known)
    low, high = (
        lower_bound(wins, losses, len(cases.ids), params.alpha),
        -lower_bound(losses, wins, len(cases.ids), params.alpha),
    )
    tie = "; a tie does not promote" if wins == losses else ""
    detail = f"against version {champion.version} on {len(cases.ids)} cases: {wins} won, {losses} lost, McNemar p = {mcnemar(wins, losses):.3g}{tie}{note}"
    ahead, safe = wins > losses, low >= -params.champion_margin
    return Gate(
        "champion",
        ahead and safe,
        (wins - losses) / len(cases.ids),
        -params.champion_margin,
        detail,
        (low, high),
        ahead and not safe,
        champion.version,
    )


def _turned(champion: ChampionResults, params: GateParams) -> Gate | None:
    """A refusal where the champion answers the feedback worse than guessing: what is new to it brings a model down to that, below it come labels that are turned round.

    A challenger that learned them would win on the cases that were drawn from them. Guessing, or one answer to everything, is right in the k-th part of each of k classes on
    average, however many cases a class has; the bound of that average is the average of the classes' bounds (exact, after Bonferroni).
    """
    slices = champion.cases.slices or {}
    fed = set(slices.get(_FEEDBACK, ()))
    classes = [
        own
        for name, places in slices.items()
        if name.startswith("class: ") and (own := fed.intersection(places))
    ]
    if len(classes) < 2:
        return None
    right, count = (
        [sum(champion.cases.right[place] for place in own) for own in classes],
        len(classes),
    )
    if (
        sum(
            upper_share(r, len(own), params.alpha / count)
            for r, own in zip(right, classes, strict=True)
        )
        >= 1
    ):
        return None
    share = sum(r / len(own) for r, own in zip(right, classes, strict=True)) / count
    detail = f"version {champion.version} is right in {sum(right)} of the {len(fed)} test cases that are feedback, worse than guessing: are their labels turned round?"
    return Gate("champion", False, share, 1 / count, detail, against=champion.version)


def _duel(mine: Mapping[str, bool], theirs: Mapping[str, bool]) -> tuple[int, int]:
    return sum(right and not theirs[case] for case, right in mine.items()), sum(
        theirs[case] and not right for case, right in mine.items()
    )


def _calibration(cases: Cases, params: GateParams) -> Gate:
    import numpy as np

    if not cases.confidence:
        return Gate("calibration", None, None, params.calibration, "answers state no probability")
    if len(cases.ids) < _FEW:
        return Gate(
            "calibration",
            None,
            None,
            params.calibration,
            f"{len(cases.ids)} cases are too few to tell",
        )
    error, low, high = calibration_error(
        np.array(cases.confidence), np.array(cases.right), params.alpha
    )
    return _at_most(
        "calibration",
        error,
        params.calibration,
        "stated probability against what came true, ten bins",
        (low, high),
    )


def _slices(champion: ChampionResults | None, cases: Cases, params: GateParams) -> Gate:
    """The worst slice.

    No small slice can prove that it is not worse, so here harm is what must be proven: a slice refuses if its bound (exact, corrected for the number of
    slices after Bonferroni) is beyond the limit, is borderline if only its figure is, and passes otherwise.
    """
    found = cases.slices or {}
    fed = set(
        found.get(_FEEDBACK, ())
    )  # judged as a whole: a champion that says one thing to all that is new to it is never wrong about one class of it
    kept = {
        name: places if name == _FEEDBACK else [place for place in places if place not in fed]
        for name, places in found.items()
    }
    large = {name: places for name, places in kept.items() if len(places) >= params.slice_cases}
    if not large:
        return Gate(
            "slices",
            None,
            detail=f"no slice has {params.slice_cases} cases",
            against=champion.version if champion else None,
        )
    if champion is not None and not cases.pairs(champion.cases):
        return Gate(
            "slices",
            None,
            detail=f"version {champion.version} was not measured on the same cases",
            against=champion.version,
        )
    alpha = params.alpha / len(large)
    judged = [
        _slice(name, places, champion, cases, params, alpha) for name, places in large.items()
    ]
    return min(
        judged,
        key=lambda gate: (("refused", "borderline", "passed").index(gate.verdict), gate.value),
    )


def _slice(
    name: str,
    places: Sequence[int],
    champion: ChampionResults | None,
    cases: Cases,
    params: GateParams,
    alpha: float,
) -> Gate:
    mine = {cases.ids[place]: bool(cases.right[place]) for place in places}
    count, right = len(mine), sum(mine.values())
    if champion is None:
        whole, limit = sum(cases.right) / len(cases.right), -params.slice_drop
        gap, high, against = (
            right / count - whole,
            upper_share(right, count, alpha) - whole,
            f"below all cases ({whole:.4f})",
        )
    else:
        wins, losses = _duel(mine, champion.cases.known)
        gap, high, limit = (
            (wins - losses) / count,
            -lower_bound(losses, wins, count, alpha),
            -params.slice_margin,
        )
        against = f"against version {champion.version}: {wins} won, {losses} lost"
    detail = f"worst: {name} ({count} cases, accuracy {right / count:.4f}), {against}"
    return Gate(
        "slices",
        gap >= limit,
        gap,
        limit,
        detail,
        None,
        gap < limit <= high,
        champion.version if champion else None,
    )
