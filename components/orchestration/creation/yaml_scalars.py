"""Write scalars as YAML that all versions of YAML read alike."""

from __future__ import annotations

import math
import re
from typing import Any

from components.core.escaping import yaml_string

_PLAIN = re.compile(r"[^\W\d_][\w./+ -]*")
# Words that YAML 1.1 or 1.2 does not read as text.
_RESERVED = frozenset(("null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf"))


def scalar(value: Any) -> str:
    """Return the YAML of a number, a string, a truth value or None.

    Args:
        value: the scalar.

    Raises:
        TypeError: the value is of another type.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, str):
        return _text(value)
    raise TypeError(f"{type(value).__name__} has no YAML here")


def _text(value: str) -> str:
    if _is_plain(value):
        return value
    return yaml_string(value)


def _number(value: float) -> str:
    if not math.isfinite(value):
        return {math.inf: ".inf", -math.inf: "-.inf"}.get(value, ".nan")
    text = repr(value)
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    # 1e-05 is a string in YAML 1.1; 1.0e-05 is a number in both versions.
    if "." not in mantissa:
        mantissa += ".0"
    return f"{mantissa}e{exponent}"


def _is_plain(text: str) -> bool:
    """Return whether a text needs no quotes."""
    if text.casefold() in _RESERVED or text != text.strip() or not text.isprintable():
        return False
    return _PLAIN.fullmatch(text) is not None
