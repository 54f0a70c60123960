"""Cache of similarities: a field compares each pair of contents once."""

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

# A value may be a picture.
_CACHED_VALUES = 512


class SimilarityCache:
    """Similarities of pairs of rows.

    Args:
        rows: all of them.
        kept: the rows that positions refer to.
        fields: of the input columns.
        cache: cache of earlier runs.
        key: of the params that shape a cleaned value.
    """

    def __init__(
        self,
        rows: Usable,
        kept: Rows,
        fields: Mapping[str, Field],
        cache: Cache,
        key: str,
    ) -> None:
        self._rows = rows
        self._kept = kept
        self._fields = fields
        self._cache = cache
        self._contents = rows.contents(kept)
        self._key = cache_key({"pairs": key})
        (table,) = cache.get(self._key, [_SCHEMA]) or [_SCHEMA.empty_table()]
        self._similarities: dict[tuple[str, bytes, bytes], float] = {}
        for row in table.to_pylist():
            pair = (row["column"], row["one"], row["other"])
            self._similarities[pair] = row["similarity"]
        self._used: dict[tuple[str, bytes, bytes], float] = {}
        self._value = lru_cache(maxsize=_CACHED_VALUES)(self._read_value)

    def similarity(self, column: str, one: int, other: int) -> float:
        """Return the similarity of two positions in an input column."""
        pair = (column, self._contents[one].as_py(), self._contents[other].as_py())
        if pair not in self._similarities:
            first = self._value(column, one)
            second = self._value(column, other)
            self._similarities[pair] = self._fields[column].similar(first, second)
        self._used[pair] = self._similarities[pair]
        return self._used[pair]

    def _read_value(self, column: str, position: int) -> Any:
        """Return the cleaned value at a position."""
        return self._rows.value(column, int(self._kept[position]))

    def save(self) -> None:
        """Write the similarities that were used, for the next run."""
        pairs = [
            {"column": column, "one": one, "other": other, "similarity": value}
            for (column, one, other), value in self._used.items()
        ]
        self._cache.put(self._key, [pa.Table.from_pylist(pairs, schema=_SCHEMA)])
