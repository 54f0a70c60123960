"""Turn the columns of a table into numbers and indices of categories.

What that takes is fitted on train rows. Networks and trees read the same numbers and indices.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, model_validator

from components.core.params import Strict, nearest
from components.fields.base import Reject
from components.fields.moment import moment_text
from components.tasks.shared.encode.tables.text_columns import (
    FreeTextColumn,
    TextAxes,
    TextAxesEncoder,
    fit_texts,
)
from components.tasks.shared.schema.tables.kinds import (
    MOST_INPUTS,
    Input,
    field_of,
    inputs_json,
    longest_value,
    parse_inputs,
)

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Columns = Mapping[str, Sequence[Any]]

# Most values of a column of categories that have an index of their own.
_MOST_VALUES = 1_000
# Most values of all columns together.
_MOST_VALUES_IN_ALL = 1_000_000
# Characters of a name that a client sent in messages, and names that are compared with it.
_LONGEST_HINT = 100
_MOST_COMPARED = 100
# Categories that a form offers.
_CHOICES = 50
# The years 1 to 9999 in seconds since 1970.
_FIRST_SECOND = -62_135_596_800.0
_LAST_SECOND = 253_402_300_799.0
_DAY = 86_400.0
# Parts of a moment that repeat, and after how many units.
_CYCLES = {"month": 12.0, "weekday": 7.0, "hour": 24.0}

# The encoder's file with the arrays of texts.
_TEXTS_FILE = "texts.safetensors"

Part = Literal["year", "month", "weekday", "hour"]


class NumberColumn(Strict):
    """A column of numbers: their range in train, which is null where all are missing."""

    kind: Literal["number"] = "number"
    low: FiniteFloat | None
    median: FiniteFloat | None
    high: FiniteFloat | None


class CategoryColumn(Strict):
    """A column of categories.

    Index 0 stands for a missing value, and the values follow from 1. After them comes the index of
    all others, if train had some. Otherwise a value that train did not have counts as missing.
    """

    kind: Literal["category"] = "category"
    # The most frequent first.
    values: Annotated[list[str], Field(max_length=_MOST_VALUES)]
    has_others: bool
    # Whether train had rows of index 0.
    has_missing: bool

    @model_validator(mode="after")
    def _check_values(self) -> CategoryColumn:
        if len(set(self.values)) < len(self.values):
            raise ValueError("a value stands twice")
        return self

    @property
    def size(self) -> int:
        """Return the number of indices."""
        return 1 + len(self.values) + self.has_others

    @property
    def unknown(self) -> int:
        """Return the index of a value without an index of its own."""
        return self.size - 1 if self.has_others else 0


class TimeColumn(Strict):
    """A column of moments in seconds since 1970: their range in train, and the parts that vary."""

    kind: Literal["time"] = "time"
    low: FiniteFloat | None
    median: FiniteFloat | None
    high: FiniteFloat | None
    parts: Annotated[list[Part], Field(max_length=4)]

    @model_validator(mode="after")
    def _check_parts(self) -> TimeColumn:
        if len(set(self.parts)) < len(self.parts):
            raise ValueError("a part stands twice")
        return self

    def names(self) -> list[str]:
        """Return the names of the numbers that stand for a moment."""
        result = ["age"]
        for part in self.parts:
            if part in _CYCLES:
                result += [f"{part}_sin", f"{part}_cos"]
            else:
                result.append(part)
        return result

    def numbers(self, moments: Floats) -> Iterator[Floats]:
        """Yield the numbers (n,) of moments (n,) in the order of `names`, NaN where one is missing.

        The age is in days since the first moment of train.
        """
        yield (moments - (self.low or 0.0)) / _DAY
        parts = _calendar(moments) if self.parts else {}
        for part in self.parts:
            if part in _CYCLES:
                angles = 2 * np.pi * parts[part] / _CYCLES[part]
                yield np.sin(angles)
                yield np.cos(angles)
            else:
                yield parts[part]


Column = NumberColumn | CategoryColumn | TimeColumn | FreeTextColumn


class FittedColumn(Strict):
    """A column with its kind of input."""

    name: str
    input: Annotated[Input, Field(discriminator="kind")]
    fitted: Annotated[Column, Field(discriminator="kind")]

    @model_validator(mode="after")
    def _check_kind(self) -> FittedColumn:
        if self.input.kind != self.fitted.kind:
            raise ValueError("input and fitted are of different kinds")
        return self


class ColumnsMetadata(Strict):
    """Content of a file with fitted columns in their order, which may come from anywhere."""

    columns: Annotated[list[FittedColumn], Field(min_length=1, max_length=MOST_INPUTS)]

    @model_validator(mode="after")
    def _check_columns(self) -> ColumnsMetadata:
        inputs = {column.name: column.input for column in self.columns}
        if len(inputs) < len(self.columns):
            raise ValueError("a name stands twice")
        parse_inputs(inputs_json(inputs))
        values = 0
        for column in self.columns:
            if isinstance(column.fitted, CategoryColumn):
                values += len(column.fitted.values)
        if values > _MOST_VALUES_IN_ALL:
            raise ValueError(f"{values:,} values of categories are too many")
        return self


@dataclass(frozen=True)
class InputInfo:
    """What a form that asks for a value must know of an input.

    Args:
        name: of the column.
        kind: of the values.
        choices: the most frequent categories.
        example: a usual value. Moments are texts; None: train had no value.
        low: the least value of train. Moments are texts; None: there is no order.
        high: the greatest value of train.
    """

    name: str
    kind: Literal["number", "category", "time", "text"]
    choices: Sequence[str] = ()
    example: float | str | None = None
    low: float | str | None = None
    high: float | str | None = None


class TableColumns:
    """The columns of a table, as fitted on train rows.

    Args:
        inputs: kind of each column.
        columns: what was fitted, in the same order.
        texts: encoders of the columns of texts, by name.

    Attributes:
        numbers: names of the numbers of a row, such as "carat" and "when.year".
        number_owners: column of each of the numbers.
        categories: names of the columns of categories.
        sizes: of each column of categories the number of indices, see `CategoryColumn`.
        has_missing: of each column of categories whether train had rows of index 0.
    """

    def __init__(
        self,
        inputs: Mapping[str, Input],
        columns: Mapping[str, Column],
        texts: Mapping[str, TextAxesEncoder],
    ) -> None:
        self.inputs = inputs
        self._columns = columns
        self._texts = texts
        self._fields = {name: field_of(value) for name, value in inputs.items()}
        self.number_owners = _number_owners(columns)
        self.numbers: Sequence[str] = _number_names(columns)
        self._indices: dict[str, dict[str | None, int]] = {}
        self.sizes: list[int] = []
        self.has_missing: list[bool] = []
        for name, column in columns.items():
            if isinstance(column, CategoryColumn):
                index: dict[str | None, int] = {None: 0}
                index.update((value, number) for number, value in enumerate(column.values, 1))
                self._indices[name] = index
                self.sizes.append(column.size)
                self.has_missing.append(column.has_missing)
        self.categories: Sequence[str] = list(self._indices)

    @classmethod
    def fit(cls, rows: pa.Table, inputs: Mapping[str, Input]) -> TableColumns:
        """Return the columns of train rows.

        Args:
            rows: clean train rows.
            inputs: kind of each column.
        """
        most = max(1, min(_MOST_VALUES, _MOST_VALUES_IN_ALL // max(1, len(inputs))))
        columns: dict[str, Column] = {}
        texts: dict[str, TextAxesEncoder] = {}
        for name, value in inputs.items():
            if value.kind == "text":
                columns[name], texts[name] = fit_texts(rows[name].to_pylist(), value)
            elif value.kind == "category":
                columns[name] = _fit_categories(rows[name], most)
            elif value.kind == "time":
                columns[name] = _fit_moments(_moments(rows[name]))
            else:
                low, median, high = _range(_floats(rows[name]))
                columns[name] = NumberColumn(low=low, median=median, high=high)
        return cls(inputs, columns, texts)

    def metadata(self) -> dict[str, Any]:
        """Return the columns as JSON."""
        columns = []
        for name, fitted in self._columns.items():
            columns.append(FittedColumn(name=name, input=self.inputs[name], fitted=fitted))
        return ColumnsMetadata(columns=columns).model_dump(mode="json")

    def files(self) -> Mapping[str, bytes]:
        """Return the file of the arrays that metadata lack; nothing without a column of texts."""
        from safetensors.numpy import save

        arrays: dict[str, NDArray[Any]] = {}
        for number, name in enumerate(self._texts):
            arrays |= self._texts[name].fitted.arrays(f"{number}.")
        return {_TEXTS_FILE: save(arrays)} if arrays else {}

    @classmethod
    def of(cls, metadata: ColumnsMetadata, files: Mapping[str, bytes]) -> TableColumns:
        """Return the columns of valid metadata.

        Args:
            metadata: of all columns.
            files: encoder files by name.

        Raises:
            ValueError: arrays of texts are missing, or do not fit the metadata.
        """
        inputs = {column.name: column.input for column in metadata.columns}
        columns = {column.name: column.fitted for column in metadata.columns}
        return cls(inputs, columns, _text_encoders(columns, files))

    def matrix(self, columns: Columns | pa.Table) -> tuple[Floats, Indices]:
        """Return the numbers (n, p), NaN where one is missing, and the indices (n, q) of rows.

        Args:
            columns: (n,) normalized values by the name of the column.
        """
        numbers: list[Floats] = []
        indices: list[Indices] = []
        for name, column in self._columns.items():
            values = columns[name]
            if isinstance(column, CategoryColumn):
                indices.append(_index(values, self._indices[name], column.unknown))
            elif isinstance(column, TimeColumn):
                numbers += column.numbers(_moments(values))
            elif isinstance(column, FreeTextColumn):
                numbers += self._texts[name].numbers(_values(values))
            else:
                numbers.append(_floats(values))
        count = len(columns[next(iter(self._columns))])
        return _stack(numbers, count, np.float64), _stack(indices, count, np.int64)

    def normalize(self, columns: Columns) -> dict[str, list[Any]]:
        """Return raw values as clean would write them, in the order of the inputs.

        Args:
            columns: (n,) values by the name of the column, in any order.

        Raises:
            Reject: a column is missing or unknown, or a value is of another kind. The reason names
                a column of the model, and the detail one that was sent.
        """
        if columns.keys() != self._fields.keys():
            self._refuse_names(columns)
        result = {}
        for name in self._fields:
            try:
                result[name] = self._normal_values(name, columns[name])
            except Reject as reject:
                raise Reject(f"{name}_{reject.reason}", f"{name}: {reject.detail}") from None
            except OverflowError:
                raise Reject(f"{name}_not_finite", f"{name}: too many digits") from None
        return result

    def _normal_values(self, name: str, values: Sequence[Any]) -> list[Any]:
        """Return the values of a column as clean would write them.

        Most values are normal already. To see that is faster than to normalize them.
        """
        field = self._fields[name]
        longest = longest_value(self.inputs[name])

        def normalize(value: Any) -> Any:
            """Return a value as clean would write it."""
            if isinstance(value, str) and len(value) > longest:
                raise Reject("too_long", f"{len(value):,} characters")
            return field.normalize(value)

        if name in self._indices:
            known = self._indices[name]
            return [
                value if type(value) is str and value in known else normalize(value)
                for value in values
            ]
        if self.inputs[name].kind == "number":
            return [
                value if type(value) is float and math.isfinite(value) else normalize(value)
                for value in values
            ]
        return [normalize(value) for value in values]

    def _refuse_names(self, columns: Columns) -> None:
        """Raise a Reject for a column that is missing or unknown."""
        unknown = [name for name in columns if name not in self._fields]
        for name in self._fields:
            if name not in columns:
                advice = _hint(name, unknown) or "; null works for a value that is not known"
                raise Reject(f"{name}_is_missing", f"no column {name!r}{advice}")
        hint = _hint(unknown[0], self._fields)
        raise Reject("unknown_column", f"{unknown[0][:_LONGEST_HINT]!r}{hint}")

    def fields(self) -> list[InputInfo]:
        """Return what a form must know of each input."""
        result = []
        for name, column in self._columns.items():
            if isinstance(column, CategoryColumn):
                choices = tuple(column.values[:_CHOICES])
                example = choices[0] if choices else None
                result.append(InputInfo(name, "category", choices, example))
                continue
            if isinstance(column, FreeTextColumn):
                result.append(InputInfo(name, "text"))
                continue
            shown: list[float | str | None] = [column.median, column.low, column.high]
            if isinstance(column, TimeColumn):
                shown = [moment_text(moment) for moment in (column.median, column.low, column.high)]
            result.append(InputInfo(name, column.kind, (), *shown))
        return result


def _number_names(columns: Mapping[str, Column]) -> list[str]:
    """Return the names of the numbers of a row."""
    names = []
    for name, column in columns.items():
        if isinstance(column, NumberColumn):
            names.append(name)
        elif isinstance(column, TimeColumn | FreeTextColumn):
            names += [f"{name}.{part}" for part in column.names()]
    return names


def _number_owners(columns: Mapping[str, Column]) -> list[str]:
    """Return the column of each number of a row."""
    owners = []
    for name, column in columns.items():
        owners += [name] * len(_number_names({name: column}))
    return owners


def _text_encoders(
    columns: Mapping[str, Column], files: Mapping[str, bytes]
) -> dict[str, TextAxesEncoder]:
    """Return the encoders of the columns of texts, by name.

    Args:
        columns: of the table.
        files: encoder files by name.

    Raises:
        ValueError: arrays are missing, or do not fit the columns.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    fitted = {
        name: column for name, column in columns.items() if isinstance(column, FreeTextColumn)
    }
    if not fitted:
        return {}
    if _TEXTS_FILE not in files:
        raise ValueError(f"there is no file {_TEXTS_FILE}")
    try:
        arrays = load(files[_TEXTS_FILE])
    except SafetensorError as error:
        raise ValueError(f"{_TEXTS_FILE} cannot be read: {error}") from None
    encoders = {}
    for number, (name, column) in enumerate(fitted.items()):
        axes = TextAxes.from_arrays(arrays, f"{number}.", column)
        encoders[name] = TextAxesEncoder(column, axes)
    return encoders


def _least_rows(rows: int) -> int:
    """Return the fewest train rows of a value with an index of its own.

    It is 2 up to 3,000 rows and 10 from 30,000 rows.
    """
    scaled = round(math.sqrt(rows) / 17)
    return max(2, min(10, scaled))


def _fit_categories(values: pa.ChunkedArray, most: int) -> CategoryColumn:
    """Return the column of train values (n,).

    Args:
        values: names, with nulls where one is missing.
        most: values with an index of their own.
    """
    counts = Counter(
        {
            item["values"]: item["counts"]
            for item in pc.value_counts(values.cast(pa.string())).to_pylist()
            if item["values"] is not None
        }
    )
    least = _least_rows(len(values))
    ranked = sorted(counts, key=lambda value: (-counts[value], value))
    frequent = [value for value in ranked[:most] if counts[value] >= least]
    return CategoryColumn(
        values=frequent,
        has_others=len(frequent) < len(ranked),
        has_missing=values.null_count > 0,
    )


def _fit_moments(moments: Floats) -> TimeColumn:
    """Return the column of train moments (n,), NaN where one is missing."""
    low, median, high = _range(moments)
    known = moments[~np.isnan(moments)]
    parts: list[Part] = []
    calendar = _calendar(known)
    for part in get_args(Part):
        if len(known) and np.ptp(calendar[part]) > 0:
            parts.append(part)
    return TimeColumn(low=low, median=median, high=high, parts=parts)


def _range(values: Floats) -> tuple[float | None, float | None, float | None]:
    """Return the least of values (n,), the lower median and the greatest; None without values."""
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        return None, None, None
    return float(known[0]), float(known[(len(known) - 1) // 2]), float(known[-1])


def _calendar(moments: Floats) -> dict[Part, Floats]:
    """Return the parts (n,) of moments (n,), NaN where one is missing.

    Months count from 0, weekdays from Monday, and hours have fractions.
    """
    missing = np.isnan(moments)
    seconds = np.clip(np.where(missing, 0.0, moments), _FIRST_SECOND, _LAST_SECOND)
    dates = np.floor(seconds).astype(np.int64).astype("datetime64[s]")
    months = dates.astype("datetime64[M]").astype(np.int64)
    parts: dict[Part, Floats] = {
        "year": 1970.0 + months // 12,
        "month": months % 12 + 0.0,
        # 1970-01-01 was a Thursday.
        "weekday": (seconds // _DAY + 3) % 7,
        "hour": seconds % _DAY / 3600,
    }
    for values in parts.values():
        values[missing] = np.nan
    return parts


def _hint(name: str, names: Iterable[str]) -> str:
    """Return the nearest of some names for a message, or nothing; see `nearest`.

    Names may come from a client, so that only a few are compared, and not beyond some length.
    """
    compared = [other[:_LONGEST_HINT] for other in islice(names, _MOST_COMPARED)]
    return nearest(name[:_LONGEST_HINT], compared)


def _moments(values: Any) -> Floats:
    """Return moments (n,) in seconds since 1970, NaN where one is missing.

    Args:
        values: texts of `MomentText`.
    """
    texts = values if isinstance(values, pa.ChunkedArray) else pa.array(values, pa.string())
    microseconds = texts.cast(pa.timestamp("us")).cast(pa.int64())
    return _floats(microseconds.cast(pa.float64(), safe=False)) / 1e6


def _values(values: Any) -> Sequence[Any]:
    """Return values (n,) as a list."""
    return values.to_pylist() if isinstance(values, pa.ChunkedArray) else list(values)


def _floats(values: Any) -> Floats:
    """Return numbers (n,) as an array, NaN where one is missing."""
    if isinstance(values, pa.ChunkedArray | pa.Array):
        values = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return np.asarray(values, dtype=np.float64)


def _index(values: Any, index: Mapping[str | None, int], unknown: int) -> Indices:
    """Return the indices (n,) of categories (n,)."""
    if isinstance(values, pa.ChunkedArray):
        encoded = values.cast(pa.string()).combine_chunks().dictionary_encode("encode")
        different = _index(encoded.dictionary.to_pylist(), index, unknown)
        positions: Indices = encoded.indices.to_numpy()
        return different[positions]
    return np.array([index.get(value, unknown) for value in values], dtype=np.int64)


def _stack(columns: Sequence[NDArray[Any]], count: int, kind: type[np.generic]) -> NDArray[Any]:
    """Return columns (n,) as a matrix (n, p).

    Args:
        columns: p of them; there may be none.
        count: n.
        kind: of the values.
    """
    matrix = np.empty((count, len(columns)), dtype=kind)
    for number, column in enumerate(columns):
        matrix[:, number] = column
    return matrix
