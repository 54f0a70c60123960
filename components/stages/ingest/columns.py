"""The columns that a task wants, and the conversion of a source's values into them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from components.core.errors import InputError, ParamsError
from components.fields.base import Field, NoValue, Reject
from components.fields.moment import DateOrder, Moment
from components.fields.source_values import is_nothing, whole_number
from components.stages.ingest.split_names import CANONICAL
from components.tasks.base import Role, ValueMap

# Role of the column by which rows are split in the order of time.
TIME = "time"
# Key of a record for the bytes of the picture that a column names.
# No column of a file has such a name.
PICTURE = "\0picture"
# Source of a column that no source has.
_NO_COLUMN = "\0none"
# Bytes of one value where params.yaml states no limit: photos of 100 megapixels fit.
_LONGEST_TEXT = 200_000
_LARGEST_BINARY = 100_000_000
# Characters of a value in a message.
_EXCERPT = 100


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the text " (did you mean 'x'?)"; empty where no name is similar."""
    by_folded = {candidate.casefold(): candidate for candidate in names}
    matches = difflib.get_close_matches(
        name.casefold(),
        list(by_folded),
        n=1,
        cutoff=0.5,
    )
    if not matches:
        return ""
    return f" (did you mean {by_folded[matches[0]]!r}?)"


@dataclass(frozen=True)
class Column:
    """One column of the raw table.

    Args:
        name: of the column.
        source: its name in the source.
        type: of its values.
        role: what the task uses it for.
        must: whether the source must have it.
        value_map: conversion of its values, of the target only.
        field: its kind; None for a column that each table has.
        nullable: whether a row may lack a value where the source must have the column.
    """

    name: str
    source: str
    type: pa.DataType
    role: Literal["id", "input", "target", "group", "time", "meta", "split"]
    must: bool
    value_map: ValueMap | None = None
    field: Field | None = None
    nullable: bool = False

    @property
    def needs_value(self) -> bool:
        """Return whether each row must have a value."""
        return self.must and not self.nullable

    @property
    def field_settings(self) -> str:
        """Return what the conversion of a value depends on beside its type, for a cache key."""
        if self.field is None or pa.types.is_string(self.type) or pa.types.is_binary(self.type):
            return ""
        return repr(sorted(vars(self.field).items()))

    def convert(self, value: Any, limit: int) -> Any:
        """Return a source's value as a value of this column; None when there is none.

        Raises:
            Reject: the value cannot be converted, or is longer than `limit` bytes.
        """
        if self.value_map is not None:
            value = self.value_map.unwrap(value)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        if pa.types.is_string(self.type):
            return self._word(_bounded(_text(value), limit))
        if pa.types.is_binary(self.type):
            return _bounded(_bytes(value), limit) or None
        return self._normalized(value)

    def _normalized(self, value: Any) -> Any:
        """Return a value of a column that holds neither texts nor bytes, such as a number.

        Raises:
            Reject: it is of another kind. The reason begins with the name of the column.
        """
        assert self.field is not None
        try:
            return self.field.normalize(value)
        except NoValue:
            return None
        except Reject as reject:
            detail = reject.detail or str(value)[:_EXCERPT]
            raise Reject(f"{self.name}_{reject.reason}", f"{self.source}: {detail}") from None

    def _word(self, text: str) -> str | None:
        """Return a text as a value of this column: ids, groups and splits are normalized."""
        if is_nothing(text):
            return None
        if self.value_map is not None:
            return self.value_map.apply(text)
        if self.role in ("input", "target", "meta"):
            return text
        word = whole_number(text.strip())
        if self.role != "split":
            return word
        if word.casefold() not in CANONICAL:
            raise Reject("unknown_split", word)
        return CANONICAL[word.casefold()]


@dataclass(frozen=True)
class Layout:
    """All columns of the raw table but `origin`, which every source has.

    Args:
        columns: in the order of the table.
        limit: bytes of one value.
    """

    columns: Sequence[Column]
    limit: int

    @property
    def input(self) -> Column:
        """Return the first input of the task."""
        return next(column for column in self.columns if column.role == "input")

    @property
    def target(self) -> Column | None:
        """Return the column to predict; None for a task without one."""
        return next((column for column in self.columns if column.role == "target"), None)

    @property
    def schema(self) -> pa.Schema:
        """Return the schema of the raw table."""
        fields = [(column.name, column.type) for column in self.columns]
        return pa.schema([*fields, ("origin", pa.string())])

    def values(self, value: Any, target: str | list[str] | None) -> dict[str, Any]:
        """Return the record of a source that has one input and its target, and no column names."""
        values = {self.input.source: value}
        if self.target:
            values[self.target.source] = target
        return values

    def row(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the raw row of a record.

        Raises:
            Reject: an input is missing, or a value cannot be used.
        """
        row = {
            column.name: column.convert(self._value(column, values), self.limit)
            for column in self.columns
        }
        for column in self.columns:
            if row[column.name] is None and column.role == "input" and column.needs_value:
                raise Reject(f"no_{column.name}")
        return row

    def _value(self, column: Column, values: Mapping[str, Any]) -> Any:
        """Return the value of a column in a record.

        An input that names a picture gets the picture. Other columns may read the name.
        """
        if column.role == "input" and PICTURE in values:
            return values[PICTURE]
        return values.get(column.source)

    def check(self, source_columns: Iterable[str], where: str) -> None:
        """Compare with the columns that a source has.

        Raises:
            InputError: one is absent or ambiguous; the message lists the columns, the most similar
                one, and the setting that names it.
        """
        names = list(source_columns)
        for column in self.columns:
            if column.must and column.source not in names:
                raise _absent(column, names, where)
            count = names.count(column.source)
            if count > 1:
                raise InputError(
                    f"has {count} columns named {column.source!r}",
                    where=where,
                    remedy="rename all but one",
                )


def _absent(column: Column, names: Sequence[str], where: str) -> InputError:
    """Return the error for a column that a source lacks."""
    listed = ", ".join(map(repr, names[:30])) or "none"
    suggestion = nearest(column.source, names)
    return InputError(
        f"has no column {column.source!r}{suggestion}; its columns: {listed}",
        where=where,
        remedy=f"set ingest.columns.{column.name} to the column that holds the {column.name}",
    )


def layout(
    roles: Sequence[Role],
    names: Mapping[str, str],
    limit: int | None,
    value_map: ValueMap | None = None,
    time_order: DateOrder = "ymd",
) -> Layout:
    """Return the columns of the raw table of a task.

    Args:
        roles: of the task's schema.
        names: role -> column of the source; other roles are read from the column of their name.
        limit: bytes of one value; None: what suits the kind of input.
        value_map: conversion of the target's values; None: they stay as they are.
        time_order: of day, month and year in the column of times.

    Raises:
        ParamsError: `names` has something that is no role.
    """
    role_columns = [
        _role_column(role, names, value_map)
        for role in roles
        if role.name not in ("id", "group", "split")
    ]
    used = {column.source for column in role_columns}
    columns = [
        # The ids of rows may name their pictures.
        _optional_column("id", names, ()),
        *role_columns,
        _optional_column("group", names, used),
        _optional_column("split", names, used),
    ]
    if TIME in names:
        columns.append(_time_column(names[TIME], time_order))
    column_names = [column.name for column in columns]
    for name in names:
        if name not in column_names:
            listed = ", ".join([*column_names, TIME])
            raise ParamsError(
                f"{name!r} is not one of {listed}{nearest(name, column_names)}",
                where=f"params.yaml: ingest.columns.{name}",
                remedy="columns maps what the task wants to the name that the source gives it",
            )
    if limit is None:
        inputs = [column for column in role_columns if column.role == "input"]
        is_binary = any(pa.types.is_binary(column.type) for column in inputs)
        limit = _LARGEST_BINARY if is_binary else _LONGEST_TEXT
    return Layout(columns, limit)


def _role_column(role: Role, names: Mapping[str, str], value_map: ValueMap | None) -> Column:
    """Return the column of a role of the task's schema."""
    return Column(
        name=role.name,
        source=names.get(role.name, role.name),
        type=role.field.arrow,
        role=role.role,
        must=role.required or role.name in names,
        value_map=value_map if role.role == "target" else None,
        field=role.field,
        nullable=role.nullable,
    )


def _optional_column(
    name: Literal["id", "group", "split"], names: Mapping[str, str], used: Container[str]
) -> Column:
    """Return a column that each raw table has, and that a source may lack.

    Args:
        name: of the column.
        names: role -> column of the source.
        used: columns of the source that the task reads. They are nothing else unless named so.
    """
    source = names.get(name, name)
    if name not in names and source in used:
        source = _NO_COLUMN
    return Column(
        name=name,
        source=source,
        type=pa.string(),
        role=name,
        must=name in names,
    )


def _time_column(source: str, order: DateOrder) -> Column:
    """Return the column by which rows are split in the order of time."""
    field = Moment(order=order)
    return Column(
        TIME,
        source,
        field.arrow,
        "time",
        must=True,
        field=field,
        nullable=True,
    )


def merged(one: str, other: str) -> str | None:
    """Return the type of a column that is of these types in two tables; None: they do not fit.

    An empty column fits any type. Whole numbers fit floats.
    """
    if one == other or other == "null":
        return one
    if one == "null":
        return other
    return "double" if {one, other} == {"int64", "double"} else None


def _text(value: Any) -> str:
    """Return a value as text.

    Raises:
        Reject: it is no text.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise Reject("not_text") from None
    if isinstance(value, (dict, list)):
        raise Reject("not_text")
    return str(value)


def _bytes(value: Any) -> bytes:
    """Return a value as bytes.

    Raises:
        Reject: it is no binary value.
    """
    # Hugging Face's tables hold an image as a dict.
    if isinstance(value, dict):
        value = value.get("bytes")
    if not isinstance(value, bytes):
        raise Reject("not_bytes")
    return value


def _bounded(value: Any, limit: int) -> Any:
    """Return a text or bytes unchanged.

    Raises:
        Reject: it is longer than `limit` bytes, or no valid Unicode.
    """
    size = len(value)
    if not isinstance(value, bytes) and not value.isascii():
        try:
            size = len(value.encode("utf-8"))
        except UnicodeEncodeError:
            # Half of a surrogate pair, which JSON's \uXXXX lets through.
            raise Reject("broken_unicode") from None
    if size <= limit:
        return value
    excerpt = f"{size} bytes"
    if not isinstance(value, bytes):
        excerpt += f": {value[:200]}"
    raise Reject("too_large", excerpt)
