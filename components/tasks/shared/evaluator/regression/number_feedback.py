"""Compare answers of a running service with the numbers that clients send for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from components.core.number_axis import Values, number_text
from components.core.params import Strict
from components.metrics.distributions import CardPart, NumbersDistribution, numbers
from components.tasks.base import TargetInfo

_VALUE = "value"
# Truths may be so many widths of the range of training beyond it: prices rise, units do not change.
_WIDTHS_BEYOND = 10.0
# Largest error in a profile, in units of its scale.
_LARGEST = 1e15
# Decimals of the errors in a profile; see `distributions.numbers`.
_DECIMALS = 9


class NumberTruth(Strict):
    """The number that is right."""

    value: float = Field(allow_inf_nan=False, description="The right number")


class AbsoluteErrors(CardPart):
    """Absolute errors of the answers to the validation split.

    Args:
        scale: unit of the errors.
        errors: their distribution, in this unit.
    """

    scale: Annotated[float, Field(gt=0)]
    errors: NumbersDistribution


class NumberFeedback:
    """Truths and drift of regression."""

    Truth: type[BaseModel] = NumberTruth
    Profile: type[BaseModel] = AbsoluteErrors
    noun = "value"
    outcome = "error"
    features: Mapping[str, Literal["names", "numbers"]] = {_VALUE: "numbers"}

    def check(self, truth: Any, targets: TargetInfo) -> tuple[str, str] | None:
        """Return the field and the reason where a number is far outside the range of training.

        Args:
            truth: of a client.
            targets: of the model, with {"range": [least, largest]}.
        """
        least, largest = targets["range"]
        beyond = max(least - truth.value, truth.value - largest)
        width = largest - least
        # A width that is no number of 64 bits refuses nothing.
        if beyond <= 0 or not beyond > _WIDTHS_BEYOND * width:
            return None
        known = f"{number_text(least)} to {number_text(largest)}"
        return _VALUE, f"is far outside the values of training, {known}"

    def text(self, answer: Any) -> str:
        """Return the number, which the text keeps exactly."""
        return repr(float(answer.value))

    def truth_text(self, truth: Mapping[str, Any]) -> str:
        """Return the number, which the text keeps exactly."""
        return repr(float(truth["value"]))

    def features_of(self, text: str, confidence: float | None) -> Mapping[str, Any]:  # noqa: ARG002
        """Return the number of an answer."""
        return {_VALUE: float(text)}

    def profile(self, answers: Sequence[Any], truths: Sequence[Any]) -> Mapping[str, Any]:
        """Return the distribution of the absolute errors: {"scale", "errors"}.

        Args:
            answers: (n,) to the cases.
            truths: (n,) of the cases.
        """
        errors = _absolute_errors([answer.value for answer in answers], truths)
        # Relative to the median, errors of any unit keep their digits.
        scale = float(np.median(errors[errors > 0])) if errors.any() else 1.0
        return {"scale": scale, "errors": numbers(_in_units(errors, scale).tolist())}

    def worse(
        self, profile: Mapping[str, Any], pairs: Sequence[tuple[str, str]]
    ) -> tuple[float, str]:
        """Return the p value of a rank test that errors are larger, and the change of the median.

        It is the test of Mann and Whitney (1947), one-sided, with the correction for ties. An
        error counts as the next larger one that the profile holds, and so do those of validation.

        Args:
            profile: of `profile`.
            pairs: (n,) the text of an answer, and that of its truth.
        """
        known = profile["errors"]
        edges, starts = np.unique(known["edges"], return_index=True)
        ends = np.append(starts[1:], len(known["edges"])) - 1
        below = np.asarray(known["below"], dtype=np.float64)[ends]
        # One more group for errors that are larger than any in validation.
        before = np.append(np.diff(below, prepend=0.0), 0.0)
        answers = [float(text) for text, _ in pairs]
        errors = _absolute_errors(answers, [float(truth) for _, truth in pairs])
        groups = np.searchsorted(edges, _in_units(errors, profile["scale"]), side="left")
        now = np.bincount(groups, minlength=len(before)).astype(np.float64)
        median = float(edges[np.searchsorted(below, below[-1] / 2)]) * profile["scale"]
        middle = float(np.median(errors))
        change = f"median error {number_text(median, 3)} -> {number_text(middle, 3)}"
        return _larger_p(now, before), change


def _absolute_errors(answers: Sequence[float], truths: Sequence[float]) -> Values:
    """Return (n,) absolute errors, which are finite."""
    with np.errstate(over="ignore"):
        errors = np.abs(np.array(answers, dtype=float) - np.array(truths, dtype=float))
    finite: Values = np.minimum(errors, np.finfo(float).max)
    return finite


def _in_units(errors: Values, scale: float) -> Values:
    """Return errors (n,) as a profile holds them.

    Args:
        errors: absolute ones.
        scale: unit.
    """
    with np.errstate(over="ignore"):
        units: Values = np.minimum(errors / scale, _LARGEST).round(_DECIMALS)
    return units


def _larger_p(first: Values, second: Values) -> float:
    """Return the p value that the values of a first sample are larger, by their counts.

    It is the normal approximation with the correction for ties and for continuity.

    Args:
        first: (k,) values of the sample in each of k ascending groups.
        second: (k,) of the other sample.
    """
    from scipy.special import ndtr

    n = float(first.sum())
    m = float(second.sum())
    if not m:
        return 1.0
    smaller = np.cumsum(second) - second
    # Pairs in which the value of the first sample is larger; a tie is half a pair.
    pairs = float(np.sum(first * (smaller + second / 2)))
    total = n + m
    # As shares: cubes of 10^12 rows have more digits than 64 bits.
    shares = (first + second) / total
    ties = float(np.sum(shares**3))
    if ties >= 1:
        return 1.0
    deviation = math.sqrt(n * m / 12) * math.sqrt((1 - ties) * total**2 / (total - 1))
    distance = (pairs - n * m / 2 - 0.5) / deviation
    return float(ndtr(-distance))
