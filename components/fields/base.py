"""What a kind of data must say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class Reject(Exception):
    """A value that cannot be used; `reason` is a short stable name that quarantine counts by."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Change:
    """What cleaning took from a value, in the field's own unit (characters, pixels, tags)."""

    lost: float
    whole: float  # what the value had before
    detail: str = ""  # which of several ways, e.g. the old size


@dataclass(frozen=True)
class Summary:
    """One kind of change over the rows of a stage."""

    changed: int  # rows
    rows: int
    lost: float  # of the changed rows together
    whole: float  # what the changed rows had before
    details: Mapping[str, int]  # the commonest ways, and how many rows went each

    @property
    def share_lost(self) -> str:
        """Return the share of the changed rows' content that is lost, e.g. "58%"; never "0%" or "100%" of what is neither."""
        return percent(self.lost, self.whole)

    def rows_of_all(self, noun: str) -> str:
        """Return e.g. "3,228 of 4,640 texts", or "all 4,640 texts"."""
        return (
            f"all {self.rows:,} {noun}"
            if self.changed == self.rows
            else f"{self.changed:,} of {self.rows:,} {noun}"
        )


def percent(part: float, whole: float) -> str:
    """Return a share in whole percent; what is more than nothing and less than everything is never shown as 0% or 100%."""
    share = part / whole if whole else 0.0
    if 0 < share < 0.01:
        return "less than 1%"
    if 0.99 < share < 1:
        return "more than 99%"
    return f"{share:.0%}"


class Field(Protocol):
    """A kind of data (text, image, category)."""

    arrow: pa.DataType
    equality: str  # how values with the same key are alike, e.g. "equal in every pixel"
    knobs: Mapping[str, str]  # reason of a `Reject` -> the param that changes it

    def normalize(self, value: Any) -> Any:
        """The form that models see, in training and in serving alike. Raises `Reject` when the value is not of this kind."""

    def clean(self, value: Any) -> Any:
        """`normalize`, and refuse what is no use for learning. Raises `Reject`."""

    def changes(self, value: Any, cleaned: Any) -> Mapping[str, Change]:
        """Return what `clean` took from a raw value by kind of change; nothing where it only tidied up."""

    def tell(self, change: str, summary: Summary) -> str:
        """Return one kind of change over many rows as a line for people, with the param that changes it."""

    def key(self, value: Any) -> str:
        """Equal for values that count as the same. Input: a cleaned value."""

    def signature(self, value: Any) -> NDArray[np.uint64] | None:
        """Locality-sensitive bands (b,): similar values share one. None: exact duplicates only."""

    def similar(self, a: Any, b: Any) -> float:
        """Similarity in [0, 1]; confirms a pair that shares a band."""

    def profile(self, value: Any) -> Mapping[str, float | str]:
        """What drift and slices are made of: length, script, brightness, ..."""

    def pieces(self, value: Any) -> Sequence[str]:
        """What it is made of (words), by which drift tells what is new; nothing where a value has no parts."""

    def vector(self, value: Any) -> NDArray[np.float32] | None:
        """Its looks as a few numbers (d,), from which drift learns where it lies among others; None of a kind that `pieces` tell of, and of one without either."""

    def show(self, value: Any) -> str:
        """For a person: HTML-safe text, or an <img> with inline data."""
