"""Show in the report what the parts of a query contribute to its answer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from components.core.page_templates import environment
from components.tasks.base import PartImportance

# Parts in the table of importance.
_MOST_NAMES = 20
# Color of the largest contribution, in percent.
_STRONGEST = 60


def weighted_parts(parts: Sequence[str], weights: Sequence[float]) -> str:
    """Return parts in the color of their contributions, as HTML that is safe.

    Args:
        parts: in order.
        weights: of the parts. The strength of a color is relative to the largest.
    """
    largest = max((abs(weight) for weight in weights), default=0.0) or 1.0
    lines = []
    for part, weight in zip(parts, weights, strict=True):
        color = "s0" if weight > 0 else "s1"
        strength = round(_STRONGEST * abs(weight) / largest)
        lines.append((part, color, strength, f"{weight:+.2f}"))
    return str(_macros().weighted_parts(lines))


def importance_table(importances: Sequence[PartImportance], noun: str, zh: str) -> str:
    """Return the importance of parts as a table with bars, as HTML that is safe.

    Args:
        importances: the most important first.
        noun: what a part is.
        zh: the same in Chinese.
    """
    largest = max((item.size for item in importances), default=0.0) or 1.0
    html: str = _macros().importance_table(importances[:_MOST_NAMES], largest, noun, zh)
    return html


@lru_cache(maxsize=1)
def _macros() -> Any:
    template = environment(Path(__file__).parent).get_template("explained_parts.html.j2")
    return template.module
