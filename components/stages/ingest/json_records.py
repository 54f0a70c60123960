"""Records of JSON: an object a line, an array of objects, or one object that holds them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import IO, Any

from components.core.errors import InputError
from components.stages.ingest.columns import Layout
from components.stages.ingest.compressed import open_text
from components.stages.ingest.encodings import detect
from components.stages.ingest.paths import flattened, with_paths
from components.stages.ingest.source_rows import Bad, Record, Unit
from components.stages.ingest.split_names import split_of

_CHUNK = 1 << 16
_MARKS = "\ufeff \t\r\n"
# Characters of one value; a larger one does not fit into memory beside what is made of it.
_LARGEST = 1 << 29
_FIRST_LINE = 1 << 20
_HOLDERS = (
    "data",
    "examples",
    "records",
    "rows",
    "items",
    "instances",
    "documents",
    "annotations",
    "results",
)
_SHOWN_RECORDS = 100
_PRODIGY = frozenset(("_input_hash", "_task_hash", "_session_id", "_view_id"))


def objects(unit: Unit, wanted: Layout, used: set[str]) -> Iterator[Record | Bad]:
    """Yield JSON objects; the row is the line, or the position in an array.

    Raises:
        InputError: the file is empty or cut, or has none of the columns.

    Args:
        unit: the file.
        wanted: the columns of the raw table.
        used: the encodings, to which that of the file is added.
    """
    path = unit.paths[0]
    if path.stat().st_size == 0:
        raise InputError(
            "is empty",
            where=unit.name,
            remedy="put rows into it, or set ingest.source.path to another file",
        )
    encoding = detect(path, unit.encoding, unit.name)
    used.add(encoding)
    seen: dict[str, None] = {}
    count = 0
    with open_text(path, encoding, unit.name, newline="\n") as stream:
        for item in _items(stream, unit):
            if isinstance(item, Bad):
                yield item
                continue
            values = with_paths(item.values, wanted)
            seen.update(dict.fromkeys(values))
            # So that a path that leads nowhere is refused with those that there are.
            if count < _SHOWN_RECORDS:
                seen.update(dict.fromkeys(flattened(item.values)))
                count += 1
            yield Record(item.row, values)
    if seen:
        wanted.check(seen, unit.name)


def _items(stream: IO[str], unit: Unit) -> Iterator[Record | Bad]:
    """Yield the records of a stream in the way in which its beginning is written.

    Args:
        stream: of decoded text.
        unit: the file.
    """
    reader = _Values(stream, unit.name)
    first = reader.peek()
    line = reader.first_line()
    if first == "[" and not (_parses(line) and reader.has_more_lines()):
        return _numbered(reader.elements())
    if unit.format == "jsonl" or (_parses(line) and reader.has_more_lines()) or first not in "[{":
        return _by_line(reader.lines())
    values = list(islice(reader.values(), 2))
    if len(values) == 1 and isinstance(values[0], dict):
        return _numbered(_held(values[0], unit.name))
    return _numbered(_joined(values, reader.values()))


def _joined(first: Iterable[Any], rest: Iterable[Any]) -> Iterator[Any]:
    """Yield the values of two sources in turn."""
    yield from first
    yield from rest


def _parses(line: str) -> bool:
    """Return whether a line is JSON."""
    try:
        json.loads(line.strip(_MARKS).rstrip(","))
    except (ValueError, RecursionError):
        return False
    return True


def _by_line(lines: Iterable[tuple[int, str]]) -> Iterator[Record | Bad]:
    """Yield a record for each line that is not blank."""
    for line, text in lines:
        content = text.strip(_MARKS)
        if not content:
            continue
        try:
            value = _loaded(content)
        except (ValueError, RecursionError) as error:
            yield Bad(line, "malformed_json", f"{error}: {content[:150]}")
            continue
        yield _record(line, value, content)


def _loaded(content: str) -> Any:
    """Return the value of a line; a comma behind it, as in a list, is no mistake."""
    try:
        return json.loads(content)
    except ValueError:
        if not content.endswith(","):
            raise
        return json.loads(content[:-1])


def _numbered(values: Iterable[Any]) -> Iterator[Record | Bad]:
    """Yield the records of an array; the row is the position, from 1."""
    for row, value in enumerate(values, 1):
        yield _record(row, value, None)


def _record(row: int, value: Any, text: str | None) -> Record | Bad:
    """Return a value as a record, or its refusal where it is no object.

    Args:
        row: the line, or the position in an array.
        value: that was parsed.
        text: of the line; None in an array.
    """
    if isinstance(value, dict):
        answer = value.get("answer")
        # Prodigy stores refused annotations beside accepted ones: their answer is not the row's.
        if answer in ("reject", "ignore") and not _PRODIGY.isdisjoint(value):
            return Bad(row, f"annotator_{answer}", json.dumps(value, ensure_ascii=False)[:150])
        return Record(row, value)
    excerpt = json.dumps(value, ensure_ascii=False) if text is None else text
    return Bad(row, "not_an_object", excerpt[:150].strip())


@dataclass
class _Held:
    """One list of records inside an object."""

    key: str
    values: list[Any]


def _held(value: dict[str, Any], where: str) -> Iterator[Any]:
    """Yield the records that one object holds: a list of them, columns, or records by id.

    Raises:
        InputError: several lists could be meant.

    Args:
        value: the object.
        where: name of the file, for messages.
    """
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
        return (
            dict(zip(value["columns"], row, strict=False))
            for row in value["data"]
            if isinstance(row, list)
        )
    inner = next(iter(value.values()), None)
    if len(value) == 1 and isinstance(inner, dict):
        return _held(inner, where)
    lists = [
        _Held(key, held)
        for key, held in value.items()
        if isinstance(held, list) and held and isinstance(held[0], (dict, list))
    ]
    splits = {held.key: split_of(held.key) for held in lists}
    if len(lists) > 1 and "train" in splits.values() and all(splits.values()):
        return _with_splits(lists)
    chosen = _usual_holder(lists)
    if chosen is None and len(lists) == 1:
        chosen = lists[0]
    if chosen is not None:
        return (_as_object(item) for item in chosen.values)
    if len(lists) > 1:
        names = ", ".join(repr(held.key) for held in lists)
        raise InputError(
            f"is one object that holds several lists: {names}",
            where=where,
            remedy="write the list that is meant as a JSON array of its own",
        )
    return _by_column(value)


def _usual_holder(lists: Sequence[_Held]) -> _Held | None:
    """Return the list of objects under the first of the usual names, if there is one."""
    by_name = {held.key: held for held in lists if isinstance(held.values[0], dict)}
    for name in _HOLDERS:
        if name in by_name:
            return by_name[name]
    return None


def _with_splits(lists: Iterable[_Held]) -> Iterator[Any]:
    """Yield the rows of lists that are named after splits, with their split."""
    for held in lists:
        for item in held.values:
            record = _as_object(item)
            yield {"split": split_of(held.key), **record} if isinstance(record, dict) else record


def _as_object(item: Any) -> Any:
    """Return a record of values without names as one with names."""
    if not isinstance(item, list):
        return item
    return {f"column_{number}": value for number, value in enumerate(item, 1)}


def _by_column(value: dict[str, Any]) -> Iterator[Any]:
    """Yield the records of columns `{text: [...], target: [...]}`, also as pandas writes them; else
    the object itself.
    """
    held = list(value.values())
    if (
        held
        and all(isinstance(column, list) for column in held)
        and len({len(column) for column in held}) == 1
    ):
        return (dict(zip(value, row, strict=True)) for row in zip(*held, strict=True))
    if len(held) > 1 and all(isinstance(column, dict) for column in held):
        inner = dict.fromkeys(chain.from_iterable(held))
        if not all(key.isdecimal() for key in value) and all(key.isdecimal() for key in inner):
            return (_row_of_columns(value, key) for key in inner)
        return ({"id": key, **record} for key, record in value.items())
    return iter([value])


def _row_of_columns(columns: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the values that stand under one key of each column."""
    return {name: column.get(key) for name, column in columns.items()}


class _Values:
    """The JSON values of a stream, read in pieces."""

    def __init__(self, stream: IO[str], where: str) -> None:
        self._stream = stream
        self._where = where
        self._buffer = ""
        self._place = 0
        # Lines before the buffer.
        self._lines = 0
        self._ended = False
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """Return the next character that is no space, or nothing at the end."""
        while True:
            while self._place < len(self._buffer) and self._buffer[self._place] in _MARKS:
                self._place += 1
            if self._place < len(self._buffer):
                return self._buffer[self._place]
            if not self._more():
                return ""

    def first_line(self) -> str:
        """Return the first line that is not blank, as far as it is read here."""
        self.peek()
        while (
            "\n" not in self._buffer[self._place :]
            and len(self._buffer) < _FIRST_LINE
            and self._more()
        ):
            pass
        return self._buffer[self._place :].split("\n", 1)[0]

    def has_more_lines(self) -> bool:
        """Return whether something follows the first line."""
        rest = self._buffer[self._place :].partition("\n")[2]
        while not rest.strip(_MARKS):
            size = len(self._buffer)
            if not self._more():
                return False
            rest = self._buffer[size:]
        return True

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield all lines with their numbers."""
        line = 0
        pending = self._buffer
        while True:
            *whole, pending = pending.split("\n")
            for text in whole:
                line += 1
                yield line, text
            chunk = self._stream.read(_CHUNK)
            if not chunk:
                break
            pending = pending + chunk
            if "\n" not in chunk:
                pending = self._until_newline(pending)
        if pending:
            yield line + 1, pending

    def _until_newline(self, pending: str) -> str:
        """Return a long line whole, without joining its pieces one by one."""
        pieces = [pending]
        while chunk := self._stream.read(_CHUNK):
            pieces.append(chunk)
            if "\n" in chunk:
                break
        return "".join(pieces)

    def elements(self) -> Iterator[Any]:
        """Yield the elements of the array that comes next."""
        self._place += 1
        while True:
            character = self.peek()
            if character == "]":
                self._place += 1
                return
            if character == ",":
                self._place += 1
                continue
            yield self._value()

    def values(self) -> Iterator[Any]:
        """Yield values that follow each other to the end."""
        while character := self.peek():
            if character == ",":
                self._place += 1
                continue
            yield self._value()

    def _value(self) -> Any:
        """Return the JSON value that comes next, and move behind it.

        Raises:
            InputError: there is no whole value.
        """
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._place)
            except (ValueError, RecursionError) as error:
                if self._room() and self._more(len(self._buffer)):
                    continue
                raise self._broken(error) from None
            # A number may go on behind the buffer.
            if end < len(self._buffer) or not self._more():
                self._place = end
                return value

    def _room(self) -> bool:
        """Return whether the buffer may grow."""
        return len(self._buffer) - self._place < _LARGEST

    def _more(self, size: int = _CHUNK) -> bool:
        """Read on; what is done with is dropped.

        Args:
            size: number of characters to read at least.

        Returns:
            Whether there were more.
        """
        if self._ended:
            return False
        chunk = self._stream.read(max(size, _CHUNK))
        self._ended = not chunk
        if self._place > _CHUNK:
            self._lines += self._buffer.count("\n", 0, self._place)
            self._buffer = self._buffer[self._place :]
            self._place = 0
        self._buffer += chunk
        return bool(chunk)

    def _broken(self, error: Exception) -> InputError:
        """Return the error for text that is not JSON."""
        position = getattr(error, "pos", self._place)
        line = self._lines + self._buffer.count("\n", 0, position) + 1
        what = getattr(error, "msg", str(error) or type(error).__name__)
        if not self._room():
            what = "one value is larger than fits into memory"
        return InputError(
            f"is no whole JSON: {what}",
            where=f"{self._where}:{line}",
            remedy="mend that line, or write the rows as JSON lines, an object a line",
        )


def keys(unit: Unit, most: int) -> list[str]:
    """Return the names of the columns of the first records.

    Args:
        unit: the file.
        most: number of records that are read.
    """
    names: dict[str, None] = {}
    for item in islice(objects(unit, Layout([], 1), set()), most):
        if isinstance(item, Record):
            names.update(dict.fromkeys(_top(item.values)))
    return list(names)


def _top(record: Mapping[str, Any]) -> list[str]:
    """Return the keys of a record."""
    return list(record)
