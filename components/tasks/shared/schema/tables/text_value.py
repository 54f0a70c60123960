"""Define the field of texts as inputs of a table, which may be missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.fields.base import Change, Reject, Summary
from components.fields.text import Text
from components.tasks.shared.schema.tables.category_value import text_of_value

# Characters of a text. Longer ones are cut in clean, and refused in a query.
LONGEST_TEXT = 20_000


class TextValue(Text):
    """A text in any language, or None where it is missing or has nothing readable."""

    def __init__(self) -> None:
        super().__init__(max_characters=LONGEST_TEXT)

    def normalize(self, value: Any) -> str | None:  # type: ignore[override]
        """Return the text after entities, tags, NFKC, control characters and white space.

        Raises:
            Reject: the value is no text, number or flag, or is escaped many times over.
        """
        text = text_of_value(value, "not_text")
        if text is None:
            return None
        try:
            return super().normalize(text)
        except Reject as reject:
            if reject.reason != "empty":
                raise
            return None

    clean = normalize  # type: ignore[assignment]

    def changes(self, value: Any, cleaned: Any) -> Mapping[str, Change]:
        """Return the changes of a text that is not missing."""
        return super().changes(value, cleaned) if cleaned and isinstance(value, str) else {}

    def describe_change(self, change: str, summary: Summary) -> str:
        """Return the line of one kind of change."""
        if change == "cut":
            return f"{summary.rows_of_all(self.noun)} cut at {LONGEST_TEXT:,} characters"
        return super().describe_change(change, summary)

    def keys(self, values: Sequence[Any]) -> list[str]:
        """Return the keys of texts, or "" where one is missing."""
        return super().keys([value or "" for value in values])

    def lsh_bands(self, values: Sequence[Any]) -> NDArray[np.uint64] | None:  # noqa: ARG002
        """Return None: rows of a table with similar texts are no copies."""
        return None

    def similarities(
        self, values: Sequence[Any], pairs: Sequence[tuple[int, int]]
    ) -> NDArray[np.float64]:
        """Return 1 where texts are equal, else 0."""
        return np.array([values[one] == values[other] for one, other in pairs], dtype=float)

    def profile(self, value: Any) -> Mapping[str, float | str]:
        """Return the length in characters, or that the text is missing."""
        if value is None:
            return {"missing": "yes"}
        return {"missing": "no", "length": float(len(value))}

    def pieces(self, value: Any) -> Sequence[str]:  # noqa: ARG002
        """Return no parts: drift of a table is measured by lengths and missing values."""
        return ()

    def show(self, value: Any) -> str:
        """Return the text escaped for HTML, or a dash where it is missing."""
        return "–" if value is None else super().show(value)
