"""Define the query of tasks on tables: one row, as an object of values by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, RootModel

from components.fields.base import Reject
from components.tasks.shared.schema.tables.kinds import LONGEST_NAME, MOST_INPUTS
from components.tasks.shared.schema.tables.text_value import LONGEST_TEXT

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
_Text = Annotated[str, Field(max_length=LONGEST_TEXT), AfterValidator(_encodable)]
_Whole = Annotated[int, Field(ge=-_LARGEST, le=_LARGEST)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
Value = bool | _Whole | _Finite | _Text | None


class Query(RootModel[Annotated[dict[_Name, Value], Field(max_length=MOST_INPUTS)]]):
    """A row to answer: a value, or null where it is not known, for each column of the table."""

    model_config = ConfigDict(strict=True)


def columns_of(queries: Sequence[Query]) -> Mapping[str, Sequence[Any]]:
    """Return queries as raw input columns.

    Raises:
        Reject: they have different columns, or none.
    """
    rows = [query.root for query in queries]
    names = rows[0].keys()
    if not names:
        raise Reject("no_columns")
    for number, row in enumerate(rows, 1):
        if row.keys() != names:
            raise Reject("different_columns", _difference(number, row.keys(), names))
    columns = {}
    for name in names:
        columns[name] = [row[name] for row in rows]
    return columns


def _difference(number: int, names: AbstractSet[str], first: AbstractSet[str]) -> str:
    """Return in what the columns of a row differ from those of the first row."""
    absent = sorted(first - names)
    if absent:
        return f"row {number} has no column {absent[0]!r}, and row 1 has one"
    added = sorted(names - first)
    return f"row {number} has a column {added[0]!r}, and row 1 has none"
