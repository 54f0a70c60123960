"""Turn a row of a table into features. Exported folders have a copy of this module."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.fields.base import Reject
from components.fields.moment import parse_moment
from components.fields.number import parse_number, unit_of, without_unit
from components.tasks.shared.encode.tables.number_scaling import _LARGEST
from components.tasks.shared.encode.tables.table_columns import _CYCLES, _DAY, _calendar
from components.tasks.shared.schema.tables.category_value import _FLAGS, _WHOLE, text_of_value

QUERY = "a value, or null, for each column by its name"
USAGE = """'{"COLUMN": VALUE, …}'"""


def requirements(files: Mapping[str, bytes]) -> tuple[str, ...]:  # noqa: ARG001
    """Return the packages that read, encode and answer."""
    return ("numpy",)


def unsupported(files: Mapping[str, bytes]) -> str:
    """Return why a short script cannot compute the features, or "".

    Args:
        files: of the encoder, by name.
    """
    for column in json.loads(files["encoder.json"])["features"]["columns"]:
        if column["input"]["kind"] == "text":
            return f"column {column['name']!r} is a text of a table, whose n-grams it cannot count"
    return ""


class RowFeatures:
    """The fitted columns and scalings of encoder.json.

    Args:
        folder: of the encoder's files.
    """

    def __init__(self, folder: Path) -> None:
        features = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))["features"]
        self._columns = features["columns"]
        self._scalings = features["numbers"]

    def read(self, argument: str) -> dict[str, Any]:
        """Return the query of an argument of the command line, which is a JSON object."""
        return dict(json.loads(argument))

    def encode(self, query: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Return "features" (1, width).

        Args:
            query: value, or None, by the name of the column.

        Raises:
            Reject: a column is missing or unknown, or a value cannot be used.
        """
        names = {column["name"] for column in self._columns}
        if query.keys() != names:
            raise Reject("other_columns", ", ".join(sorted(names ^ query.keys())))
        numbers: list[float] = []
        indices: list[float] = []
        for column in self._columns:
            value = query[column["name"]]
            if column["input"]["kind"] == "category":
                indices.append(_index(value, column["fitted"]))
            elif column["input"]["kind"] == "time":
                numbers += _moment_numbers(value, column)
            else:
                numbers.append(_number(value, column["input"]))
        return {"features": np.array([_scaled(numbers, self._scalings) + indices], np.float32)}


def _number(value: Any, kind: Mapping[str, Any]) -> float:
    """Return the number of a value, NaN for a missing one."""
    if isinstance(value, str):
        unit = kind.get("unit")
        if unit is not None and unit_of(value) not in (None, unit):
            raise Reject("other_unit", value)
        if unit is not None:
            value = without_unit(value, unit)
        value = parse_number(value, kind["decimal"])
    if value is None or value != value:
        return math.nan
    if not math.isfinite(value):
        raise Reject("not_finite", str(value))
    return float(value)


def _index(value: Any, fitted: Mapping[str, Any]) -> float:
    """Return the index of a category: 0 for a missing one, then the values, then all others."""
    values = fitted["values"]
    text = text_of_value(value)
    unknown = len(values) + 1 if fitted["has_others"] else 0
    index = 0
    if text is not None:
        if text in _FLAGS:
            text = text.casefold()
        elif _WHOLE.fullmatch(text):
            text = text.partition(".")[0]
        name = unicodedata.normalize("NFC", text.strip())
        index = unknown
        if name in values:
            index = values.index(name) + 1
    # Without missing values in train, the most frequent category stands for index 0.
    has_several = bool(values) or fitted["has_others"]
    least = int(has_several and not fitted["has_missing"])
    return float(max(index, least))


def _moment_numbers(value: Any, column: Mapping[str, Any]) -> list[float]:
    """Return the numbers of a moment: days since the first one of train, and parts of the date."""
    moment = None
    if value is not None:
        moment = parse_moment(str(value), column["input"]["order"])
    # A missing moment becomes NaN.
    moments = np.array([moment], dtype=np.float64)
    fitted = column["fitted"]
    numbers = [(moments - (fitted["low"] or 0.0)) / _DAY]
    parts = _calendar(moments)
    for part in fitted["parts"]:
        if part in _CYCLES:
            angles = 2 * np.pi * parts[part] / _CYCLES[part]
            numbers += [np.sin(angles), np.cos(angles)]
        else:
            numbers.append(parts[part])
    return [float(number[0]) for number in numbers]


def _scaled(numbers: Sequence[float], scalings: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the scaled numbers, and after them 1 or 0 for each that may be missing."""
    scaled = []
    flags = []
    for number, scaling in zip(numbers, scalings, strict=True):
        is_missing = math.isnan(number)
        value = scaling["median"]
        if not is_missing:
            clipped = float(np.clip(number, -_LARGEST, _LARGEST))
            value = float(np.interp(clipped, scaling["knots"], scaling["scores"]))
        scaled.append(value)
        if scaling["flags_missing"]:
            flags.append(float(is_missing))
    return scaled + flags
