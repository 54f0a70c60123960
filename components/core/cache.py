"""What pure work has given before, kept under a key of all that it depends on. It saves time; no result shows whether it was there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.core.files import remove_tree, to_json

_SUFFIX = ".arrow"
_CODES = 2  # a working tree with edits and the HEAD that a retrain runs take turns


class Cache:
    """Tables by key, a file each, whose name holds the SHA-256 of its bytes: what was cut, edited or half written is not used.

    Two processes may use one folder: a file appears whole, and one that has gone is a piece of work to be done again.

    Args:
        folder: of one state of code and libraries; its siblings are those of others. None: nothing is remembered.
        say: told, once, why it could not be read or written; nobody fails for that.
    """

    def __init__(self, folder: Path | None, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say
        self._used: set[str] = set()
        self._waiting: dict[str, Sequence[pa.Table]] = {}
        self._quiet = False
        self._files = _listed(folder)

    def get(self, key: str, schemas: Sequence[pa.Schema]) -> list[pa.Table] | None:
        """What was kept under a key, with these schemas; None where there is nothing that can be used."""
        name = self._files.get(key)
        if self._folder is None or name is None:
            return None
        try:
            content = (self._folder / name).read_bytes()
            if name != _name(key, content):
                raise ValueError("a file in it was cut or edited")
            tables = _unpack(content, len(schemas))
            if [table.schema for table in tables] != list(schemas):
                raise ValueError("a file in it holds something else")
        except FileNotFoundError:  # another process has tidied up
            return None
        except (OSError, ValueError, pa.ArrowException) as error:
            self._tell("is not used", error)
            return None
        self._used.add(name)
        return tables

    def put(self, key: str, tables: Sequence[pa.Table]) -> None:
        """Keep tables, from `close` on."""
        self._waiting[key] = tables

    def close(self) -> None:
        """Write what is to be kept, once the results are on the disk, which may be nearly full; remove what was neither read nor kept, and all but the latest states of the code."""
        if self._folder is None:
            return
        for key, tables in self._waiting.items():
            self._write(self._folder, key, tables)
        with suppress(OSError):
            for path in self._folder.iterdir():
                if path.name not in self._used:
                    path.unlink(missing_ok=True)
            os.utime(self._folder)
            others = sorted(
                (path for path in self._folder.parent.iterdir() if path != self._folder),
                key=lambda path: path.stat().st_mtime_ns,
            )
            for other in others[: 1 - _CODES]:
                remove_tree(other, within=self._folder.parent)

    def _write(self, folder: Path, key: str, tables: Sequence[pa.Table]) -> None:
        """Not synced to the disk: a torn file is known by its name."""
        content = _pack(tables)
        name = _name(key, content)
        part = folder / f".{name}.{os.getpid()}.part"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content)
            part.replace(folder / name)
            self._used.discard(
                self._files.get(key, "")
            )  # what was read under this key, and is grown now
            self._used.add(name)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            self._tell("could not be written", error)

    def _tell(self, what: str, error: Exception) -> None:
        if not self._quiet:
            reason = (
                error.strerror
                if isinstance(error, OSError) and error.strerror
                else str(error).splitlines()[0][:200]
            )
            self._say(
                f"the memory of earlier runs {what} ({reason}): the result is the same, and takes longer"
            )
        self._quiet = True


def cache_key(facts: Mapping[str, Any]) -> str:
    """A key that covers all of these."""
    return hashlib.sha256(to_json(facts).encode()).hexdigest()[:32]


def _name(key: str, content: bytes | memoryview) -> str:
    return f"{key}-{hashlib.sha256(content).hexdigest()}{_SUFFIX}"


def _listed(folder: Path | None) -> dict[str, str]:
    if folder is None or not folder.is_dir():
        return {}
    with suppress(OSError):
        return {
            name.partition("-")[0]: name
            for name in sorted(path.name for path in folder.iterdir())
            if name.endswith(_SUFFIX)
        }
    return {}


def _pack(tables: Sequence[pa.Table]) -> memoryview:
    """Arrow streams one behind another, with the chunks that the tables have; not compressed, which would take longer than it saves."""
    sink = pa.BufferOutputStream()
    for table in tables:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    return memoryview(sink.getvalue())


def _unpack(content: bytes, count: int) -> list[pa.Table]:
    source = pa.BufferReader(content)
    tables = [pa.ipc.open_stream(source).read_all() for _ in range(count)]
    for table in tables:
        table.validate()
    return tables
