"""Define the field of the number that a row is to be answered with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.fields.base import NoValue
from components.fields.number import Number


class TargetNumber(Number):
    """The target of a row: a finite number."""

    knobs: Mapping[str, str] = {"no_number": "clean.unlabelled"}

    def normalize(self, value: Any) -> float:
        """Return the number that a value states.

        Raises:
            NoValue: there is none.
            Reject: the value is no number, or is infinite.
        """
        number = super().normalize(value)
        if number is None:
            raise NoValue("no_number")
        return number

    clean = normalize
