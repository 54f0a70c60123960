"""Templates of the report's page, and numbers as people read them.

All parts of the page are made in one kind of environment, so that texts of the data are escaped
in the same way everywhere.
"""

from __future__ import annotations

import functools
import math
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from components.core import escaping
from components.core.bundles import shown_size
from components.core.significant_digits import significant_digits

if TYPE_CHECKING:
    from jinja2 import Environment

# Narrow no-break space, between a number and its unit.
_THIN = "\u202f"
# Text of a number that is missing.
MISSING = "–"


@functools.cache
def environment(folder: Path) -> Environment:
    """Return the environment of the templates in a folder, with filters that format numbers.

    It is made once for each folder, so that a template is compiled once.
    It escapes all texts but `markupsafe.Markup`, and spells out what cannot be seen.
    """
    from jinja2 import ChainableUndefined, Environment, FileSystemLoader

    result = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        finalize=_visible,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    result.filters.update(
        percent=percent,
        number=number,
        count=count,
        size=size,
        ratio=ratio,
        watt_hours=watt_hours,
    )
    result.tests["known"] = is_finite
    return result


def _visible(value: Any) -> Any:
    """Return a value as the page shows it; HTML that is safe has been made visible before."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return escaping.terminal_lines(value)
    return value


def is_finite(value: Any) -> TypeGuard[float]:
    """Return whether a value is a finite number."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def percent(value: Any, unit: bool = True) -> str:
    """Return a fraction in percent: 0.849 -> 84.9 %."""
    if not is_finite(value):
        return MISSING
    if unit:
        suffix = _THIN + "%"
    else:
        suffix = ""
    return f"{value * 100:.1f}{suffix}"


def points(value: Any) -> str:
    """Return a difference of fractions in percentage points: 0.004 -> +0.4."""
    if not is_finite(value):
        return MISSING
    return f"{value * 100:+.1f}".replace("-", "−")


def significant(value: Any) -> str:
    """Return a number of any size with three significant digits: 0.00421, 4.13, 1,234."""
    if not is_finite(value):
        return MISSING
    return significant_digits(value, 3).replace("-", "−")


def count(value: Any) -> str:
    """Return a count with separators: 1732 -> 1,732."""
    if is_finite(value):
        return f"{value:,.0f}"
    return MISSING


def number(value: Any) -> str:
    """Return a measured number with about three digits: 0.42, 4.13, 15.4, 251."""
    if not is_finite(value):
        return MISSING
    if abs(value) < 10:
        return f"{value:,.2f}"
    if abs(value) < 100:
        return f"{value:,.1f}"
    return f"{value:,.0f}"


def ratio(value: Any, digits: int = 2) -> str:
    """Return a ratio: 0.254 -> 0.25 ×."""
    if is_finite(value):
        return f"{value:.{digits}f}{_THIN}×"
    return MISSING


def watt_hours(joules: Any) -> str:
    """Return joules in watt-hours: 15120 -> 4.20 Wh."""
    if is_finite(joules):
        return f"{significant(joules / 3600)}{_THIN}Wh"
    return MISSING


def size(value: Any) -> str:
    """Return bytes in decimal units: 412000 -> 412 kB."""
    if is_finite(value):
        return shown_size(value).replace(" ", _THIN)
    return MISSING
