"""Define the interface of the kinds of data: text, image, category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class Reject(Exception):
    """Raised for a value that cannot be used.

    Args:
        reason: a short stable name, by which quarantined rows are counted.
        detail: more about the value.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class NoValue(Reject):
    """Raised where there is no value at all."""


@dataclass(frozen=True)
class Change:
    """What cleaning removed from a value, in the field's own unit (characters, pixels, tags).

    Args:
        lost: amount that was removed.
        whole: amount before.
        detail: the variant of the change, e.g. the old size.
    """

    lost: float
    whole: float
    detail: str = ""


@dataclass(frozen=True)
class Summary:
    """One kind of change over the rows of a stage.

    Args:
        changed: rows that were changed.
        rows: all rows.
        lost: amount that the changed rows lost together.
        whole: amount that they had before.
        details: the most frequent variants -> rows.
    """

    changed: int
    rows: int
    lost: float
    whole: float
    details: Mapping[str, int]

    @property
    def share_lost(self) -> str:
        """Return the share of the changed rows' content that is lost, e.g. "58%".

        See `percent`.
        """
        return percent(self.lost, self.whole)

    def rows_of_all(self, noun: str) -> str:
        """Return e.g. "3,228 of 4,640 texts", or "all 4,640 texts"."""
        if self.changed == self.rows:
            return f"all {self.rows:,} {noun}"
        return f"{self.changed:,} of {self.rows:,} {noun}"


def percent(part: float, whole: float) -> str:
    """Return a share in whole percent, as text.

    A share between nothing and everything is never shown as 0% or 100%.
    """
    share = part / whole if whole else 0.0
    if 0 < share < 0.01:
        return "less than 1%"
    if 0.99 < share < 1:
        return "more than 99%"
    return f"{share:.0%}"


class Field(Protocol):
    """A kind of data (text, image, category).

    Attributes:
        arrow: type of a column.
        equality: how values with the same key are alike, e.g. "equal in every pixel".
        knobs: reason of a `Reject` -> the param that changes it.
    """

    arrow: pa.DataType
    equality: str
    knobs: Mapping[str, str]

    def normalize(self, value: Any) -> Any:
        """Return the form that models see, in training and in serving alike.

        Raises:
            Reject: the value is not of this kind.
        """

    def clean(self, value: Any) -> Any:
        """Return `normalize` of a value that is of use for learning.

        Raises:
            Reject: the value is not of this kind, or of no use for learning.
        """

    def changes(self, value: Any, cleaned: Any) -> Mapping[str, Change]:
        """Return what `clean` removed from a raw value, by kind of change.

        It is empty where `clean` removed nothing of meaning.
        """

    def describe_change(self, change: str, summary: Summary) -> str:
        """Return a line for people about one kind of change over many rows.

        It names the param that changes it.
        """

    def keys(self, values: Sequence[Any]) -> list[str]:
        """Return the keys of cleaned values. Values that count as the same have equal keys."""

    def lsh_bands(self, values: Sequence[Any]) -> NDArray[np.uint64] | None:
        """Return locality-sensitive bands (n, b) of values; similar ones share one of the b.

        None: only exact duplicates are searched.
        """

    def similarities(
        self, values: Sequence[Any], pairs: Sequence[tuple[int, int]]
    ) -> NDArray[np.float64]:
        """Return the similarities (pairs,) of values in [0, 1]. They confirm what bands propose.

        Args:
            values: each once.
            pairs: positions in `values`.
        """

    def profile(self, value: Any) -> Mapping[str, float | str]:
        """Return statistics for drift and slices: length, script, brightness, ..."""

    def pieces(self, value: Any) -> Sequence[str]:
        """Return the parts of a value (words), by which drift detects new content.

        It is empty where a value has no parts.
        """

    def vector(self, value: Any) -> NDArray[np.float32] | None:
        """Return the appearance of a value as a few numbers (d,), for drift.

        None: the kind has `pieces`, or neither.
        """

    def show(self, value: Any) -> str:
        """Return a value for a person: HTML-safe text, or an <img> with inline data."""
