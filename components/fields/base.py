"""What a kind of data must say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class Reject(Exception):
    """A value that cannot be used; `reason` is a short stable name that quarantine counts by."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class Field(Protocol):
    """A kind of data (text, image, category)."""

    arrow: pa.DataType

    def normalise(self, value: Any) -> Any:
        """The form that models see, in training and in serving alike. Raises `Reject` when the value is not of this kind."""

    def clean(self, value: Any) -> Any:
        """`normalise`, and refuse what is no use for learning. Raises `Reject`."""

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
