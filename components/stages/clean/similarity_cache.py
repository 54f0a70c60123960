"""Cache of similarities: a field compares each pair of contents once."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.core.cache import Cache, cache_key
from components.core.mapped_tables import take, write_mapped
from components.core.tables import ROWS_PER_SHARD
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

# Results that are kept until they are asked for.
_PAIRS_AHEAD = 1 << 15
# Characters, or bytes of pictures, that are compared together. It bounds the memory.
_SIZE_AT_ONCE = 1 << 22


class SimilarityCache:
    """Similarities of pairs of rows.

    Args:
        rows: all of them.
        kept: the rows that positions refer to.
        fields: of the input columns.
        threshold: similarity from which on rows are similar.
        cache: cache of earlier runs.
        key: of the params that shape a cleaned value.
    """

    def __init__(
        self,
        rows: Usable,
        kept: Rows,
        fields: Mapping[str, Field],
        threshold: float,
        cache: Cache,
        key: str,
    ) -> None:
        self._rows = rows
        self._kept = kept
        self._fields = fields
        self._threshold = threshold
        self._cache = cache
        self._key = cache_key({"pairs": key})
        self._contents = rows.unique_rows.contents
        # It gives whole numbers of Python without an object for each row.
        self._codes = rows.unique_rows.content_of[rows.raw_rows[kept]].data
        (table,) = cache.get(self._key, [_SCHEMA]) or [_SCHEMA.empty_table()]
        self._cached = {name: self._of_column(table, name) for name in fields}
        self._used = {name: (array("q"), array("d")) for name in fields}
        self._ahead: dict[str, dict[int, float]] = {name: {} for name in fields}

    def _of_column(self, table: pa.Table, column: str) -> tuple[Rows, NDArray[np.float64]]:
        """Return the cached pairs of contents that there still are, and their similarities.

        Args:
            table: of `_SCHEMA`.
            column: of the inputs.

        Returns:
            (pairs,) of `_pair`, ascending; (pairs,) similarities.
        """
        rows = table.filter(pc.field("column") == column)
        one = self._numbers(rows["one"])
        other = self._numbers(rows["other"])
        is_known = (one >= 0) & (other >= 0)
        pairs = one[is_known] * self._contents.num_rows + other[is_known]
        order = np.argsort(pairs)
        return pairs[order], rows["similarity"].to_numpy()[is_known][order]

    def _numbers(self, digests: pa.ChunkedArray) -> Rows:
        """Return (n,) the rows of the contents with these SHA-256; -1 where there is none."""
        known = digests.unique()
        rows_of_known = np.full(len(known) + 1, -1)
        first = 0
        for chunk in self._contents["content"].chunks:
            places = pc.index_in(chunk, value_set=known)
            matches = places.is_valid().to_numpy(zero_copy_only=False)
            rows_of_known[places.drop_null().to_numpy()] = first + np.flatnonzero(matches)
            first += len(chunk)
        numbers: Rows = rows_of_known[pc.index_in(digests, value_set=known).to_numpy()]
        return numbers

    def compare(self, column: str, pairs: Sequence[tuple[int, int]]) -> None:
        """Compare pairs of positions that were not compared before.

        Args:
            column: of the inputs.
            pairs: of positions. The results of the latest ones are kept.
        """
        ahead = self._ahead[column]
        if len(ahead) > _PAIRS_AHEAD:
            ahead.clear()
        keys = {self._pair(one, other): (one, other) for one, other in pairs}
        cached, similarities = self._cached[column]
        wanted = np.array(list(keys), np.int64)
        places = np.searchsorted(cached, wanted)
        is_cached = np.zeros(len(wanted), bool)
        inside = places < len(cached)
        is_cached[inside] = cached[places[inside]] == wanted[inside]
        known = similarities[places[is_cached]].tolist()
        ahead.update(zip(wanted[is_cached].tolist(), known, strict=True))
        new = [pair for key, pair in keys.items() if key not in ahead]
        step = self._pairs_at_once(column)
        for start in range(0, len(new), step):
            part = new[start : start + step]
            self._compare(column, part, self._values(column, part))

    def _pairs_at_once(self, column: str) -> int:
        """Return how many pairs are read and compared together, by the mean size of a value."""
        values = self._rows.unique_rows.contents[f"value.{column}"]
        pairs: int = _SIZE_AT_ONCE * len(values) // max(1, 2 * values.nbytes)
        return max(1, pairs)

    def is_similar(self, column: str, one: int, other: int) -> bool | None:
        """Return whether the values at two positions of an input column are similar.

        None: they were not compared.
        """
        pair = self._pair(one, other)
        similarity = self._ahead[column].get(pair)
        if similarity is None:
            return None
        pairs, similarities = self._used[column]
        pairs.append(pair)
        similarities.append(similarity)
        return similarity >= self._threshold

    def _pair(self, one: int, other: int) -> int:
        """Return the number of the contents of two positions."""
        number: int = self._codes[one] * self._contents.num_rows + self._codes[other]
        return number

    def _values(self, column: str, pairs: Sequence[tuple[int, int]]) -> dict[int, Any]:
        """Return the cleaned values at the positions of pairs."""
        positions = sorted({position for pair in pairs for position in pair})
        values = self._rows.values(column, self._kept[positions]).to_pylist()
        return dict(zip(positions, values, strict=True))

    def _compare(
        self,
        column: str,
        pairs: Sequence[tuple[int, int]],
        values: Mapping[int, Any],
    ) -> None:
        """Compare pairs of positions.

        Args:
            column: of the inputs.
            pairs: of positions; at least one.
            values: position -> value.
        """
        numbers: dict[int, int] = {}
        for pair in pairs:
            for position in pair:
                numbers.setdefault(position, len(numbers))
        similarities = self._fields[column].similarities(
            [values[position] for position in numbers],
            [(numbers[one], numbers[other]) for one, other in pairs],
        )
        for (one, other), similarity in zip(pairs, similarities.tolist(), strict=True):
            self._ahead[column][self._pair(one, other)] = similarity

    def save(self, file: Path | None) -> None:
        """Give the similarities that were used to the cache, for the next run.

        Args:
            file: to which they are written before. None: they are in memory.
        """
        tables = chain.from_iterable(map(self._used_of, self._used))
        if file is None:
            self._cache.put(self._key, [pa.concat_tables([_SCHEMA.empty_table(), *tables])])
        else:
            self._cache.put(self._key, [write_mapped(tables, _SCHEMA, file)])

    def _used_of(self, column: str) -> Iterator[pa.Table]:
        """Yield the similarities of a column that were used, part by part."""
        pairs, similarities = self._used[column]
        for start in range(0, len(pairs), ROWS_PER_SHARD):
            part = np.array(pairs[start : start + ROWS_PER_SHARD], np.int64)
            one, other = np.divmod(part, self._contents.num_rows)
            columns = [
                pa.array([column] * len(part)),
                take(self._contents["content"], one),
                take(self._contents["content"], other),
                pa.array(np.array(similarities[start : start + ROWS_PER_SHARD], np.float64)),
            ]
            yield pa.table(columns, schema=_SCHEMA)
