"""Params about a number as target. Imports without torch."""

from __future__ import annotations

from pydantic import Field

from components.core.params import Strict
from components.fields.number import DecimalSign
from components.tasks.base import Conflicts


class NumberParams(Strict):
    """Params of the target, in the section `ingest`."""

    decimal: DecimalSign = Field(
        ".", description="Decimal sign of a target in text (the other of . and , is skipped)."
    )


class NumberClean(Strict):
    """Params of `clean` about the target."""

    conflicts: Conflicts = Field(
        "keep", description="What happens to equal inputs with different numbers."
    )
    min_rows: int = Field(50, ge=20, description="Fewest usable rows that are learned from.")
