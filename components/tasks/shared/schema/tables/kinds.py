"""Define the kinds of inputs that a table may have, as params of `ingest`. Imports without torch.

The inputs of a pipeline go as JSON into the manifests of its tables and into its bundles.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter

from components.core.params import Strict
from components.fields.base import Field as Kind
from components.fields.moment import DateOrder, MomentText
from components.fields.number import DecimalSign, Number
from components.tasks.shared.schema.tables.category_value import CategoryValue
from components.tasks.shared.schema.tables.text_value import LONGEST_TEXT, TextValue

# Most inputs of a table.
MOST_INPUTS = 10_000
# Names of columns that each table has beside its inputs.
RESERVED = frozenset(("id", "target", "label", "group", "split", "time", "origin", "inputs"))
# Characters of an input's name.
LONGEST_NAME = 200
# Characters of a number with its unit, of a category or of a time in a query.
_LONGEST_VALUE = 2_000


class NumberInput(Strict):
    """A column of numbers, which may lack some."""

    kind: Literal["number"] = Field("number", description="Numbers.")
    decimal: DecimalSign = Field(
        ".", description="Decimal sign of numbers in text (the other of . and , is skipped)."
    )
    # Left out where there is none, so that bundles without units keep their bytes.
    unit: str | None = Field(
        None,
        min_length=1,
        max_length=20,
        exclude_if=lambda unit: unit is None,
        description="Unit after numbers in text, such as kg; another one is refused (null: none).",
    )


class CategoryInput(Strict):
    """A column of names, such as cities."""

    kind: Literal["category"] = Field("category", description="Names of categories.")


class TimeInput(Strict):
    """A column of dates or times."""

    kind: Literal["time"] = Field("time", description="Dates or times.")
    order: DateOrder = Field(
        "ymd", description="Order of day, month and year in dates that do not begin with the year."
    )


class TextInput(Strict):
    """A column of texts, such as titles or reviews."""

    kind: Literal["text"] = Field("text", description="Texts in any language.")
    ngrams: int = Field(4, ge=2, le=8, description="Characters of the longest n-gram.")
    width: int = Field(
        32_768,
        ge=256,
        le=262_144,
        description="Most hashed n-grams: those in the most train rows.",
    )
    components: int = Field(
        32, ge=1, le=256, description="Numbers that stand for a text (truncated SVD)."
    )


Input = NumberInput | CategoryInput | TimeInput | TextInput


def _from_name(value: Any) -> Any:
    """Return the input of a kind that is given by its name alone."""
    return {"kind": value} if isinstance(value, str) else value


def _check_names(inputs: dict[str, Input]) -> dict[str, Input]:
    """Refuse names that a column of the table has already, or that no column can have."""
    for name in inputs:
        if name in RESERVED:
            raise ValueError(
                f"{name!r} cannot be an input's name: take another one, and name the column of "
                f"the source in ingest.columns"
            )
        if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
            raise ValueError(f"{name[:60]!r} cannot be an input's name")
    return inputs


# Name of an input -> its kind, in the order of the columns.
Inputs = Annotated[
    dict[
        Annotated[str, Field(max_length=LONGEST_NAME)],
        Annotated[
            Annotated[Input, Field(discriminator="kind")],
            BeforeValidator(_from_name),
        ],
    ],
    Field(max_length=MOST_INPUTS),
    AfterValidator(_check_names),
]
_INPUTS: TypeAdapter[dict[str, Input]] = TypeAdapter(Inputs)
_ENTRY: TypeAdapter[dict[str, str | int]] = TypeAdapter(dict[str, str | int])
# Key of a list of columns.
_COLUMNS = "columns"


def parse_inputs(tree: Mapping[str, Any]) -> dict[str, Input]:
    """Return the inputs from JSON of `inputs_json`, or from name -> kind as in params.

    Raises:
        ValueError: they are not valid.
    """
    if not isinstance(tree, Mapping):
        raise ValueError(f"inputs are no mapping but a {type(tree).__name__}")
    columns = tree.get(_COLUMNS)
    if not isinstance(columns, list):
        return _INPUTS.validate_python(dict(tree))
    entries = [dict(_ENTRY.validate_python(column)) for column in columns]
    inputs = {}
    for entry in entries:
        name = entry.pop("name", "")
        if not isinstance(name, str):
            raise ValueError(f"the name of an input is {name}, which is no text")
        inputs[name] = entry
    if len(inputs) < len(columns):
        raise ValueError("two inputs have one name")
    return _INPUTS.validate_python(inputs)


def inputs_json(inputs: Mapping[str, Input]) -> dict[str, Any]:
    """Return the inputs as JSON, which keeps their order wherever keys are sorted.

    Returns:
        {"columns": [{"name", "kind", …}, …]}; {} where there are no inputs.
    """
    columns = []
    for name, value in inputs.items():
        columns.append({"name": name, **value.model_dump(mode="json")})
    return {_COLUMNS: columns} if columns else {}


def field_of(value: Input) -> Kind:
    """Return the field of an input. No value of it is required."""
    if isinstance(value, NumberInput):
        return Number(decimal=value.decimal, unit=value.unit)
    if isinstance(value, TimeInput):
        return MomentText(order=value.order)
    if isinstance(value, TextInput):
        return TextValue()
    return CategoryValue()


def longest_value(value: Input) -> int:
    """Return the most characters that a query's value of an input may have."""
    return LONGEST_TEXT if isinstance(value, TextInput) else _LONGEST_VALUE
