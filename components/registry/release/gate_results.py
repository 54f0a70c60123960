"""SimilarityCache of gates, and their way into records and back. Imports nothing that takes time: a trace reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from components.core.errors import InputError
from components.registry.validation import json_value

Verdict = Literal["passed", "refused", "borderline", "not applicable"]
# A person may know better than a statistic. Nobody knows better than a count of leaked rows, a wrong answer over HTTP or a budget that stands in params.yaml.
OVERRIDABLE = ("baseline", "champion", "calibration", "slices")


@dataclass(frozen=True)
class Gate:
    """One verdict."""

    name: str
    passed: bool | None  # None: not applicable
    value: float | None = None
    limit: float | None = None
    detail: str = ""
    interval: tuple[float, float] | None = None  # of the value
    borderline: bool = (
        False  # not passed, and yet not proven to fail: the limit lies within the noise
    )
    against: int | None = None  # the champion's version, where it was compared with one

    @property
    def verdict(self) -> Verdict:
        """In a word."""
        return (
            "not applicable"
            if self.passed is None
            else "passed"
            if self.passed
            else "borderline"
            if self.borderline
            else "refused"
        )


def all_passed(gates: Sequence[Gate]) -> bool:
    """Whether no gate refuses or is in doubt; one that does not apply does not."""
    return all(gate.passed is not False for gate in gates)


def as_rows(gates: Sequence[Gate]) -> list[dict[str, Any]]:
    """For JSON: tags, records, reports."""
    return [asdict(gate) for gate in gates]


def from_rows(rows: Iterable[Mapping[str, Any]]) -> list[Gate]:
    """Of `as_rows`; what another version of gristmill wrote beside is passed over."""
    known = {each.name for each in fields(Gate)}
    return [
        Gate(
            **{key: value for key, value in row.items() if key in known}
            | {"interval": tuple(row["interval"]) if row.get("interval") else None}
        )
        for row in rows
    ]


def from_tag(text: object, where: str) -> list[Gate]:
    """Parse the gates of a version's tag, which anybody who reaches the registry can edit.

    Raises:
        InputError: they are none.
    """
    try:
        gates = from_rows(json_value(text, list, where))
    except (TypeError, AttributeError, ValueError):
        gates = None
    if gates is None or not all(_is_gate(gate) for gate in gates):
        raise InputError(
            "holds no gates as the serve stage writes them",
            where=where,
            remedy="run the serve stage of the pipeline that made it: gristmill run",
        )
    return gates


def _is_gate(gate: Gate) -> bool:
    numbers = (gate.value, gate.limit, *(gate.interval or ()))
    return (
        isinstance(gate.name, str)
        and isinstance(gate.detail, str)
        and gate.passed in (True, False, None)
        and isinstance(gate.borderline, bool)
        and all(number is None or isinstance(number, int | float) for number in numbers)
    )
