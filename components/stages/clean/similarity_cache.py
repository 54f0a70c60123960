"""Whether two rows are one: asked of the field once for each pair of contents, and remembered."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import pyarrow as pa

from components.core.cache import Cache, cache_key
from components.fields.base import Field
from components.stages.clean.duplicates import Rows
from components.stages.clean.usable_rows import Usable

_SCHEMA = pa.schema(
    [
        ("column", pa.string()),
        ("one", pa.binary(32)),
        ("other", pa.binary(32)),
        ("similarity", pa.float64()),
    ]
)

_CACHED_VALUES = 512  # a value may be a picture


class SimilarityCache:
    """Similarities of pairs.

    Args:
        rows: all of them.
        kept: those that are meant by positions.
        fields: of the input columns.
        memo: what earlier runs have found.
        key: of the params that shape a cleaned value.
    """

    def __init__(
        self, rows: Usable, kept: Rows, fields: Mapping[str, Field], memo: Cache, key: str
    ) -> None:
        self._rows, self._kept, self._fields, self._memo = rows, kept, fields, memo
        self._contents = rows.contents(kept)
        self._key = cache_key({"pairs": key})
        (known,) = memo.get(self._key, [_SCHEMA]) or [_SCHEMA.empty_table()]
        self._known = {
            (pair["column"], pair["one"], pair["other"]): pair["similarity"]
            for pair in known.to_pylist()
        }
        self._used: dict[tuple[str, bytes, bytes], float] = {}
        self._value = lru_cache(maxsize=_CACHED_VALUES)(self._read_value)

    def similarity(self, column: str, one: int, other: int) -> float:
        """Of two positions, in an input column."""
        pair = (column, self._contents[one].as_py(), self._contents[other].as_py())
        if pair not in self._known:
            self._known[pair] = self._fields[column].similar(
                self._value(column, one), self._value(column, other)
            )
        self._used[pair] = self._known[pair]
        return self._used[pair]

    def _read_value(self, column: str, position: int) -> Any:
        """Return the cleaned value at a position."""
        return self._rows.values(column, self._kept[[position]])[0].as_py()

    def keep(self) -> None:
        """Those that were asked for, for the next run."""
        pairs = [
            {"column": column, "one": one, "other": other, "similarity": value}
            for (column, one, other), value in self._used.items()
        ]
        self._memo.put(self._key, [pa.Table.from_pylist(pairs, schema=_SCHEMA)])
