"""Ask about rows of a table: the part of the facet evaluator.py that tasks on tables share."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from components.core import escaping
from components.core.errors import InputError
from components.metrics.distributions import MOST_NAMES, OTHER
from components.tasks.base import INPUTS, Case, PartImportance
from components.tasks.shared.evaluator.explained_parts import importance_table, weighted_parts
from components.tasks.shared.evaluator.tables.query import Query, columns_of
from components.tasks.shared.schema.tables.kinds import (
    RESERVED,
    Input,
    NumberInput,
    TextInput,
    longest_value,
    parse_inputs,
)

# Most columns whose values are slices, most values of a column, and fewest rows of a value.
_MOST_COLUMNS = 12
_MOST_VALUES = 12
_FEWEST_ROWS = 20
_THIRDS = ("low", "middle", "high")
_LONGEST_VALUE = 40
# Characters of a value in a part of an explanation, and in the report.
_SHOWN = 60
# Values that a page offers.
_CHOICES = 50


class RowQueries:
    """A query is a row: column -> value, or null where it is unknown."""

    Query: type[BaseModel] = Query
    weight_description = "By how much the answer falls when the value is unknown"

    def query(self, row: Mapping[str, Any]) -> BaseModel:
        """Return the query of a row of clean, which are its inputs."""
        return Query({name: value for name, value in row.items() if name not in RESERVED})

    def read(self, argument: str) -> BaseModel:
        """Return the query of an argument: a JSON object, or the path of a file with one.

        Raises:
            InputError: it is neither.
        """
        text = argument
        if not argument.lstrip().startswith("{"):
            text = _read_file(argument)
        try:
            tree = json.loads(text)
        except ValueError as error:
            raise InputError(
                f"is no JSON: {error}",
                where=argument[:_SHOWN],
                remedy="""ask with an object, such as '{"size": 70, "city": "Bonn"}'""",
            ) from None
        return Query.model_validate(tree)

    def columns(self, queries: Sequence[Any]) -> Mapping[str, Sequence[Any]]:
        """Return the values of the queries by column.

        Raises:
            Reject: the queries have different columns.
        """
        return columns_of(queries)

    def slices_of(
        self, rows: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]
    ) -> Sequence[Mapping[str, str]]:
        """Return column -> value of each row: categories with few values, and thirds of numbers.

        Args:
            rows: (n,) of a split of clean.
            inputs: of the pipeline, as JSON. Texts have no slices, however few they are.
        """
        kinds = parse_inputs(inputs)
        texts = {name for name, kind in kinds.items() if isinstance(kind, TextInput)}
        slices: list[dict[str, str]] = [{} for _ in rows]
        used = 0
        for name in rows[0] if rows else ():
            if name in RESERVED or name in texts or used == _MOST_COLUMNS:
                continue
            value_of = _slicer([row[name] for row in rows])
            if value_of is None:
                continue
            used += 1
            for row, row_slices in zip(rows, slices, strict=True):
                value = value_of(row[name])
                if value is not None:
                    row_slices[name] = value
        return slices

    def show(self, case: Case[Any]) -> str:
        """Return the values of the row as HTML."""
        parts = []
        for name, value in case.query.root.items():
            shown = "–" if value is None else escaping.html(_short(value))
            parts.append(f"<b>{escaping.html(name)}</b> {shown}")
        return ", ".join(parts)

    def query_schema(self, profile: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the JSON schema of a row that a model can answer.

        Args:
            profile: of its card, with the kinds of its inputs.
        """
        inputs = parse_inputs(profile.get(INPUTS, {}))
        distributions = profile.get("fields", {})
        properties: dict[str, Any] = {}
        for name, kind in inputs.items():
            counts = distributions.get(f"{name}.value", {}).get("counts", {})
            properties[name] = _property(name, kind, counts)
        return {
            "title": "Query",
            "description": "A row: a value for each column, or null where it is unknown.",
            "type": "object",
            "properties": properties,
            "required": list(inputs),
            "additionalProperties": False,
        }

    def parts(self, query: Any, limit: int) -> Sequence[str]:
        """Return the known values with the names of their columns, at most `limit` parts."""
        parts = []
        for names in _grouped(query, limit):
            values = [f"{name} {_short(query.root[name])}" for name in names]
            parts.append(", ".join(values) + "  ")
        return parts

    def without(self, query: Any, parts: Sequence[str], index: int) -> BaseModel:
        """Return the query with null for the values of the part at an index."""
        left_out = _grouped(query, len(parts))[index]
        return Query({**query.root, **dict.fromkeys(left_out)})

    def report_parts(self, query: Any, limit: int) -> Sequence[str]:
        """Return the known values with the names of their columns, see `parts`."""
        return self.parts(query, limit)

    def without_parts(
        self, query: Any, parts: Sequence[str], indices: Collection[int]
    ) -> BaseModel:
        """Return the query with null for the values of the parts at some indices."""
        groups = _grouped(query, len(parts))
        left_out: list[str] = []
        for index in indices:
            left_out.extend(groups[index])
        return Query({**query.root, **dict.fromkeys(left_out)})

    def part_weights(
        self, query: Any, parts: Sequence[str], elements: NDArray[np.float64]
    ) -> Sequence[float]:
        """Return the sum of the contributions of each part's columns.

        Args:
            query: that was answered.
            parts: of `report_parts`.
            elements: of all columns in the order of the query.
        """
        by_column = dict(zip(query.root, elements.tolist(), strict=True))
        groups = _grouped(query, len(parts))
        weights = []
        for names in groups:
            weights.append(sum(map(by_column.__getitem__, names)))
        return weights

    def part_names(self, query: Any, parts: Sequence[str]) -> Sequence[str]:
        """Return the columns of each part."""
        return [", ".join(names) for names in _grouped(query, len(parts))]

    def show_parts(
        self,
        case: Case[Any],  # noqa: ARG002
        parts: Sequence[str],
        weights: Sequence[float],
    ) -> str:
        """Return the values in color, as HTML."""
        return weighted_parts(parts, weights)

    def show_importance(self, importances: Sequence[PartImportance]) -> str:
        """Return the columns as a table."""
        return importance_table(importances, "column", "列")


def _property(name: str, kind: Input, counts: Mapping[str, int]) -> dict[str, Any]:
    """Return the JSON schema of a column.

    Args:
        name: of the column.
        kind: of its values.
        counts: of the values of train, if they are names.
    """
    title = name
    types: list[dict[str, Any]] = [{"type": "string"}, {"type": "null"}]
    if isinstance(kind, NumberInput):
        types.insert(0, {"type": "number"})
        if kind.unit is not None:
            title = f"{name} ({kind.unit})"
    if isinstance(kind, TextInput):
        types[0]["maxLength"] = longest_value(kind)
    result: dict[str, Any] = {"title": title, "anyOf": types}
    common = sorted(counts, key=lambda value: (-counts[value], value))
    # The sum of the rare names has a name too, which is none of them.
    hidden = {"", OTHER} if len(counts) > MOST_NAMES else {""}
    choices = [value for value in common if value not in hidden][:_CHOICES]
    if choices:
        result["examples"] = choices
    return result


def _read_file(argument: str) -> str:
    """Return the content of a file.

    Raises:
        InputError: there is none.
    """
    try:
        return Path(argument).read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise InputError(
            "is neither a JSON object nor a file that can be read",
            where=argument[:_SHOWN],
            remedy="""ask with an object, such as '{"size": 70, "city": "Bonn"}'""",
        ) from None


def _grouped(query: Any, limit: int) -> list[list[str]]:
    """Return the names of known values in at most `limit` groups, in order."""
    known = [name for name, value in query.root.items() if value is not None]
    size = max(1, -(-len(known) // limit))
    return [known[start : start + size] for start in range(0, len(known), size)]


def _slicer(values: Sequence[Any]) -> Callable[[Any], str | None] | None:
    """Return a function from a value of a column to its slice; None: the column has no slices.

    Args:
        values: (n,) of all rows.
    """
    known = [value for value in values if value is not None]
    counts = Counter(known)
    if len(counts) < 2:
        return None
    if isinstance(known[0], str):
        frequent = {value for value, count in counts.items() if count >= _FEWEST_ROWS}
        if not frequent or len(counts) > _MOST_VALUES:
            return None
        return lambda value: value[:_LONGEST_VALUE] if value in frequent else None
    if len(known) < 3 * _FEWEST_ROWS:
        return None
    cuts = np.quantile(np.array(known, dtype=float), [1 / 3, 2 / 3])
    if cuts[0] >= cuts[1]:
        return None

    def third(value: Any) -> str | None:
        """Return the third of the values that a number belongs to."""
        if value is None:
            return None
        return _THIRDS[int(np.searchsorted(cuts, float(value), side="left"))]

    return third


def _short(value: Any) -> str:
    """Return a value in few characters."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)[:_SHOWN]
