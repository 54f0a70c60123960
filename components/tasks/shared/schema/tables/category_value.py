"""Define the field of categories as inputs, which may be missing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from components.fields.base import Reject
from components.fields.category import Category

# Characters of a name. Longer texts are no categories.
_LONGEST = 1_000
_FLAGS = frozenset(("True", "False", "TRUE", "FALSE"))
_WHOLE = re.compile(r"-?\d+\.0+")
# Texts that programs write where there is no name. "none" and "unknown" are names.
_MISSING = frozenset(("", "na", "n/a", "#n/a", "nan", "null"))


def text_of_value(value: Any, refusal: str = "not_a_name") -> str | None:
    """Return a value of a table as text without surrounding white space; None for a missing one.

    Args:
        value: of the source or of a query.
        refusal: reason of the rejection.

    Raises:
        Reject: the value is no text, number or flag.
    """
    if value is None or value != value:
        return None
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, int):
        value = str(value)
    elif isinstance(value, float):
        value = str(int(value)) if value.is_integer() else repr(value)
    if not isinstance(value, str):
        raise Reject(refusal, type(value).__name__)
    text = value.strip()
    return None if text.casefold() in _MISSING else text


class CategoryValue(Category):
    """The name of a category, or None where it is missing. Numbers and flags are names too."""

    def normalize(self, value: Any) -> str | None:  # type: ignore[override]
        """Return the name in NFC without surrounding white space.

        Raises:
            Reject: the value is no text, number or flag, or a text that is too long for a name.
        """
        text = text_of_value(value)
        if text is None:
            return None
        # Programs write flags and whole numbers of columns with gaps like this.
        if text in _FLAGS:
            text = text.casefold()
        elif _WHOLE.fullmatch(text):
            text = text.partition(".")[0]
        name = super().normalize(text)
        if len(name) > _LONGEST:
            raise Reject("too_long", f"{len(name)} characters")
        return name

    clean = normalize  # type: ignore[assignment]

    def keys(self, values: Sequence[Any]) -> list[str]:
        """Return the names, or "" where one is missing."""
        return ["" if value is None else str(value) for value in values]

    def profile(self, value: Any) -> Mapping[str, float | str]:
        """Return the name, which is empty where it is missing."""
        return {"value": "" if value is None else str(value)}

    def show(self, value: Any) -> str:
        """Return the name escaped for HTML, or a dash where it is missing."""
        return "–" if value is None else super().show(value)
