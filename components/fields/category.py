"""Define the field of categories."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.core import escaping
from components.fields.base import Change, NoValue, Summary


class Category:
    """The name of a category, such as a city. Numbers are names too.

    Attributes:
        missing: reason of the rejection of a value without a name.
    """

    arrow = pa.string()
    equality = "equal"
    knobs: Mapping[str, str] = {}
    missing = "missing"

    def normalize(self, value: Any) -> str:
        """Return the name in NFC without surrounding white space, as the source wrote it.

        Raises:
            NoValue: there is no name.
        """
        if not isinstance(value, str) or not value.strip():
            raise NoValue(self.missing)
        return unicodedata.normalize("NFC", value.strip())

    clean = normalize

    def changes(self, value: Any, cleaned: Any) -> Mapping[str, Change]:  # noqa: ARG002
        """Return no changes: a name is used whole."""
        return {}

    def describe_change(self, change: str, summary: Summary) -> str:
        """Return the kind of change and its rows."""
        return f"{summary.rows_of_all('names')}: {change}"

    def keys(self, values: Sequence[Any]) -> list[str]:
        """Return the names."""
        return [str(value) for value in values]

    def lsh_bands(self, values: Sequence[Any]) -> NDArray[np.uint64] | None:  # noqa: ARG002
        """Return None: names have no near-duplicates."""
        return None

    def similarities(
        self, values: Sequence[Any], pairs: Sequence[tuple[int, int]]
    ) -> NDArray[np.float64]:
        """Return 1 where names are equal, else 0."""
        return np.array([values[one] == values[other] for one, other in pairs], dtype=float)

    def profile(self, value: Any) -> Mapping[str, float | str]:
        """Return the name as the only statistic."""
        return {"value": str(value)}

    def pieces(self, value: Any) -> Sequence[str]:  # noqa: ARG002
        """Return no parts: a name has none."""
        return ()

    def vector(self, value: Any) -> NDArray[np.float32] | None:  # noqa: ARG002
        """Return None: a name has no appearance."""
        return None

    def show(self, value: Any) -> str:
        """Return the name escaped for HTML."""
        return escaping.html(str(value))
