"""Results of gates, and how they are written to records and read back.

This module imports nothing that takes time, because a trace reads gates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from components.core.errors import InputError
from components.registry.validation import json_value

Verdict = Literal["passed", "refused", "borderline", "not applicable"]
# A person may know better than a statistic. Nobody knows better than a count of leaked rows, a
# wrong answer over HTTP or a budget in params.yaml.
OVERRIDABLE = ("baseline", "champion", "calibration", "slices")


@dataclass(frozen=True)
class Gate:
    """The result of one gate.

    Attributes:
        name: of the gate.
        passed: None: not applicable.
        value: that was measured.
        limit: of the value.
        detail: for a person.
        interval: of the value.
        borderline: not passed, and not proven to fail: the limit lies within the noise.
        against: the champion's version, where it was compared with one.
    """

    name: str
    passed: bool | None
    value: float | None = None
    limit: float | None = None
    detail: str = ""
    interval: tuple[float, float] | None = None
    borderline: bool = False
    against: int | None = None

    @property
    def verdict(self) -> Verdict:
        """Return the result in a word."""
        if self.passed is None:
            return "not applicable"
        if self.passed:
            return "passed"
        if self.borderline:
            return "borderline"
        return "refused"


def all_passed(gates: Sequence[Gate]) -> bool:
    """Return whether no gate is refused or borderline; one that does not apply is neither."""
    return all(gate.passed is not False for gate in gates)


def as_rows(gates: Sequence[Gate]) -> list[dict[str, Any]]:
    """Return gates for JSON: tags, records, reports."""
    return [asdict(gate) for gate in gates]


def from_rows(rows: Iterable[Mapping[str, Any]]) -> list[Gate]:
    """Return the gates of `as_rows`; fields of another version of gristmill are ignored."""
    return [_from_row(row) for row in rows]


def _from_row(row: Mapping[str, Any]) -> Gate:
    names = {field.name for field in fields(Gate)}
    values = {key: value for key, value in row.items() if key in names}
    values["interval"] = tuple(row["interval"]) if row.get("interval") else None
    return Gate(**values)


def from_tag(text: object, where: str) -> list[Gate]:
    """Parse the gates of a version's tag, which anybody who reaches the registry can edit.

    Args:
        text: of the tag.
        where: the version and the tag, for the message.

    Raises:
        InputError: the tag holds no gates.
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
