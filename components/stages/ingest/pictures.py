"""Pictures that a table lists by their file names: `filename,target` beside a folder of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from components.core.errors import InputError
from components.stages.ingest.columns import PICTURE, Layout
from components.stages.ingest.source_rows import Bad, Record, Unit

# Some of the pictures may not have been downloaded: their rows are set aside.
_SHARE = 0.5


class PictureIndex:
    """Pictures by the names that a table may give them: a path, a file name, a file name without
    suffix.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in paths:
            self._by_name[path.name].append(path)
            self._by_stem[path.stem].append(path)

    def matches(self, value: Any) -> list[Path]:
        """Return the pictures that a value may name; one of the same folders comes before
        others.
        """
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            return []
        name = PurePosixPath(str(value).strip().replace("\\", "/"))
        if not name.name:
            return []
        candidates = self._by_name.get(name.name) or self._by_stem.get(name.name) or []
        parts = [part for part in name.parent.parts if part not in (".", "/", "..")]
        exact = [
            path
            for path in candidates
            if not parts or list(path.parent.parts[-len(parts) :]) == parts
        ]
        return exact or candidates


def names_pictures(records: Sequence[Record], index: PictureIndex) -> bool:
    """Return whether a column of some records names pictures.

    Args:
        records: the first ones of a table.
        index: of the pictures beside the table.
    """
    columns: dict[str, list[Any]] = defaultdict(list)
    for record in records:
        for name, value in record.values.items():
            if value not in (None, ""):
                columns[name].append(value)
    # A number names a picture only where nothing else could be meant: 1.png is also the first row.
    texts = filter(_all_text, columns.values())
    return any(_share(values, index) >= _SHARE for values in texts)


def _all_text(values: Sequence[Any]) -> bool:
    """Return whether all values are texts."""
    return all(isinstance(value, str) for value in values)


def _share(values: Sequence[Any], index: PictureIndex) -> float:
    """Return the share of values that name a picture."""
    if not values:
        return 0.0
    return sum(bool(index.matches(value)) for value in values) / len(values)


def with_pictures(
    records: Iterable[Record | Bad], unit: Unit, wanted: Layout
) -> Iterator[Record | Bad]:
    """Yield records with the bytes of the pictures that they name.

    Args:
        records: of the table.
        unit: the table, followed by the pictures.
        wanted: the columns of the raw table.
    """
    if wanted.input.type != pa.binary():
        yield from records
        return
    index = PictureIndex(unit.paths[1:])
    column = wanted.input.source
    for record in records:
        value = record.values.get(column) if isinstance(record, Record) else None
        if isinstance(record, Bad) or not isinstance(value, (str, int)):
            yield record
        else:
            yield _read(record, value, index, wanted.limit)


def _read(record: Record, value: Any, index: PictureIndex, limit: int) -> Record | Bad:
    """Return a record with its picture, or its refusal.

    Args:
        record: of the table.
        value: that names the picture.
        index: of the pictures.
        limit: most bytes of a picture.

    Raises:
        InputError: the picture cannot be read.
    """
    matches = index.matches(value)
    if not matches:
        return Bad(record.row, "no_such_picture", str(value))
    if len(matches) > 1:
        return Bad(
            record.row,
            "several_pictures",
            f"{value} may be {matches[0].parent.name} or {matches[1].parent.name}",
        )
    size = matches[0].stat().st_size
    if size > limit:
        return Bad(record.row, "too_large", f"{matches[0].name}: {size} bytes")
    try:
        content = matches[0].read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror}",
            where=str(value),
            remedy="see that the file may be read",
        ) from None
    return replace(record, values={**record.values, PICTURE: content}, picture=matches[0].name)
