"""Define the answer of regression, and how people read it."""

from __future__ import annotations

import math

from pydantic import BaseModel, Field

from components.core.significant_digits import significant_digits

# Numbers from here on are written as powers of ten.
_LARGE = 1e15
_MOST_DECIMALS = 12


class NumberAnswer(BaseModel):
    """A number, and an interval that holds the true number with a stated probability."""

    value: float = Field(description="The most probable number, in the unit of the training data")
    low: float | None = Field(
        None,
        description="Lower end of the interval; null where too few rows were there to state one",
    )
    high: float | None = Field(
        None,
        description="Upper end of the interval; null where too few rows were there to state one",
    )
    coverage: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Probability that the true number is within the interval, ends included",
    )


def answer_text(answer: NumberAnswer) -> str:
    """Return an answer for a person, such as "326 (301 to 355)".

    Its numbers have the digits that the width of the interval leaves meaning to.
    """
    if answer.low is None or answer.high is None:
        return significant_digits(answer.value)
    width = answer.high - answer.low
    value, low, high = [_text(number, width) for number in (answer.value, answer.low, answer.high)]
    return f"{value} ({low} to {high})"


def _text(number: float, width: float) -> str:
    """Return a number of an interval, with the decimals that show two digits of its width."""
    if not width > 0 or abs(number) >= _LARGE:
        return significant_digits(number)
    decimals = min(_MOST_DECIMALS, max(0, 1 - math.floor(math.log10(width))))
    return f"{number:,.{decimals}f}"
