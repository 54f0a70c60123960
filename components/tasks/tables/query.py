"""Define the query of tasks on tables: one row, as an object of values by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, RootModel

from components.fields.base import Reject
from components.metrics.distributions import OTHER
from components.tasks.base import INPUTS
from components.tasks.tables.columns import moment_text
from components.tasks.tables.inputs import LONGEST_NAME, MOST_INPUTS, Input, parse_inputs

# Characters of a value: a name or a number with its unit.
_LONGEST_TEXT = 2_000
# Categories that a form offers.
_CHOICES = 50
# No whole number of more digits is exact in any table.
_LARGEST = 2**64


def _encodable(text: str) -> str:
    """Return a text that can be encoded as UTF-8.

    Raises:
        ValueError: it holds a lone surrogate.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("the text holds a lone surrogate, which is no character") from None
    return text


_Name = Annotated[str, Field(max_length=LONGEST_NAME), AfterValidator(_encodable)]
_Text = Annotated[str, Field(max_length=_LONGEST_TEXT), AfterValidator(_encodable)]
_Whole = Annotated[int, Field(ge=-_LARGEST, le=_LARGEST)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
Value = bool | _Whole | _Finite | _Text | None


class TableQuery(RootModel[Annotated[dict[_Name, Value], Field(max_length=MOST_INPUTS)]]):
    """A row to answer: a value, or null where it is not known, for each column of the table."""

    model_config = ConfigDict(strict=True)


def query_of(row: Mapping[str, Any], inputs: Mapping[str, Input]) -> TableQuery:
    """Return the query of a row of the clean table.

    Args:
        row: normalized values by column.
        inputs: kind of each column.

    Raises:
        ValidationError: no client may send this query.
    """
    values = {}
    for name, value in inputs.items():
        values[name] = moment_text(row[name]) if value.kind == "time" else row[name]
    return TableQuery.model_validate(values)


def columns_of(queries: Sequence[TableQuery]) -> Mapping[str, Sequence[Any]]:
    """Return queries as raw input columns.

    Raises:
        Reject: they have different columns, or none.
    """
    rows = [query.root for query in queries]
    names = rows[0].keys()
    if not names:
        raise Reject("no_columns")
    for row in rows:
        if row.keys() != names:
            different = sorted(row.keys() ^ names)[0]
            raise Reject("different_columns", f"not all rows have the column {different!r}")
    return {name: [row[name] for row in rows] for name in names}


def query_schema(profile: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the JSON schema of a query to one model, by which clients and pages ask.

    Args:
        profile: of the card of the model, with its inputs and the distributions of their values.
    """
    inputs = parse_inputs(dict(profile.get(INPUTS, {})))
    distributions = profile.get("fields", {})
    properties = {}
    for name, value in inputs.items():
        counts = distributions.get(f"{name}.value", {}).get("counts", {})
        properties[name] = _property(name, value, counts)
    return {
        "title": "Query",
        "description": TableQuery.__doc__,
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _property(name: str, value: Input, counts: Mapping[str, int]) -> dict[str, Any]:
    """Return the JSON schema of one column.

    Args:
        name: of the column.
        value: its kind of input.
        counts: category -> train rows; empty for other kinds.
    """
    types = {"number": ("number", "string"), "category": ("string",), "time": ("string",)}
    schema: dict[str, Any] = {"title": name}
    schema["anyOf"] = [{"type": kind} for kind in (*types[value.kind], "null")]
    choices = sorted(counts, key=lambda choice: (-counts[choice], choice))
    # A missing value is an empty text in the profile, and rare values are counted together.
    choices = [choice for choice in choices if choice not in ("", OTHER)][:_CHOICES]
    if choices:
        schema["examples"] = choices
    return schema
