"""Numbers of any size as text, for logs, terminals, tags and pages."""

from __future__ import annotations

import math

# Outside of these, numbers are written as powers of ten.
_SMALLEST = 1e-5
_LARGEST = 1e9


def significant_digits(value: float, digits: int = 4) -> str:
    """Return a number with some significant digits: 0.007123, 4.128, 523.4, 12,345, 1.468e11.

    Whole digits are never cut, so that a count reads as one.

    Args:
        value: it may be NaN or infinite.
        digits: of the text, at least.
    """
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size and not _SMALLEST <= size < _LARGEST:
        mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
        return f"{mantissa}e{int(power)}"
    decimals = digits - 1
    if size:
        decimals = max(0, digits - 1 - math.floor(math.log10(size)))
    return f"{value:,.{decimals}f}"
