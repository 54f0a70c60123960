"""Values inside nested records: `data.text`, `annotations[0].result[0].value.choices[0]`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from components.stages.ingest.columns import Layout

ABSENT = object()  # a record has no such key, as opposed to a list that is empty
_DEEPEST = 12
_MOST = 500
_STEP = re.compile(r"([^.\[\]]+)|\[(\d{1,9})\]")


def is_path(name: str) -> bool:
    """Return whether a column's name may lead into a nested value."""
    return "." in name or "[" in name


def lookup(record: Any, path: str, *, is_target: bool = False) -> Any:
    """Return the value at a path; ABSENT where a key is missing.

    A key that contains dots comes before a path. The path of a target that ends in `[0]` gives the
    whole list where that has more than one element, so that several values are not taken for one.

    Args:
        record: the parsed record.
        path: keys joined by dots, and indices in brackets.
        is_target: whether the path is that of the target.
    """
    steps: list[str | int] = [int(index) if index else key for key, index in _STEP.findall(path)]
    if is_target and len(steps) > 1 and steps[-1] == 0:
        values = _follow(record, steps[:-1])
        if isinstance(values, list) and len(values) > 1:
            return values
    return _follow(record, steps)


def _follow(value: Any, steps: Sequence[str | int]) -> Any:
    """Return the value to which the steps of a path lead."""
    while steps:
        if isinstance(value, Mapping):
            count = _longest_key(value, steps)
            if not count:
                return ABSENT
            key = ".".join(map(str, steps[:count]))
            value = value[key]
            steps = steps[count:]
        elif isinstance(value, list) and isinstance(steps[0], int):
            if steps[0] >= len(value):
                return None
            value = value[steps[0]]
            steps = steps[1:]
        else:
            is_empty = value is None or value == []
            return None if is_empty else ABSENT
    return value


def _longest_key(value: Mapping[str, Any], steps: Sequence[str | int]) -> int:
    """Return how many steps make a key of the mapping together; 0 where none do."""
    for count in range(len(steps), 0, -1):
        if (
            all(isinstance(step, str) for step in steps[:count])
            and ".".join(map(str, steps[:count])) in value
        ):
            return count
    return 0


def with_paths(record: Mapping[str, Any], wanted: Layout) -> Mapping[str, Any]:
    """Return a record with the values of those wanted columns that are paths.

    Args:
        record: the parsed record.
        wanted: the columns of the raw table.
    """
    nested = [
        column
        for column in wanted.columns
        if is_path(column.source) and column.source not in record
    ]
    if not nested:
        return record
    values = {
        column.source: lookup(record, column.source, is_target=column.role == "target")
        for column in nested
    }
    present = {name: value for name, value in values.items() if value is not ABSENT}
    return {**record, **present}


def flattened(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a nested record by path, as `lookup` takes them.

    Args:
        record: the parsed record.

    Returns:
        Path -> value, at most `_MOST` of them.
    """
    leaves: dict[str, Any] = {}
    for path, value in _leaves(record, "", 0):
        leaves[path] = value
        if len(leaves) >= _MOST:
            break
    return leaves


def _leaves(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of each part that has no parts.

    Args:
        value: a part of the record.
        path: of the part; empty for the record.
        depth: of the part, from 0.
    """
    if depth < _DEEPEST and isinstance(value, Mapping) and value and not _is_picture(value):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else key, depth + 1)
    elif depth < _DEEPEST and isinstance(value, list) and value and isinstance(value[0], Mapping):
        yield from _leaves(value[0], f"{path}[0]", depth + 1)
    else:
        yield path, value


def _is_picture(value: Mapping[str, Any]) -> bool:
    """Return whether a mapping is a picture as tables of Hugging Face hold it."""
    return "bytes" in value and isinstance(value["bytes"], (bytes, type(None)))
