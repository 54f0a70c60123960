"""Cache the tables of pure work under a key of all that they depend on.

The cache saves time. No result depends on whether an entry was there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.core.files import remove_tree, sha256, to_json
from components.core.mapped_tables import read_mapped

_SUFFIX = ".arrow"
# States of the code whose folders stay: a working tree with edits, and the HEAD of a retrain.
_CODES = 2


class Cache:
    """Tables by key, in one file each, which are mapped into memory.

    The name of a file holds the SHA-256 of its bytes. So a file that was cut, edited or half
    written is not used. Two processes may use one folder: a file appears whole, and the work of
    a file that was deleted is done again.

    Args:
        folder: for one state of code and libraries. Its siblings are for other states. None:
            nothing is cached.
        log: called once with a line when the cache cannot be read or written. This is no error.
    """

    def __init__(self, folder: Path | None, log: Callable[[str], None]) -> None:
        self._folder = folder
        self._log = log
        self._used: set[str] = set()
        self._waiting: dict[str, Sequence[pa.Table]] = {}
        self._has_logged = False
        self._files = _listed(folder)

    def get(self, key: str, schemas: Sequence[pa.Schema]) -> list[pa.Table] | None:
        """Return the tables of a key, or None where there are none of these schemas."""
        name = self._files.get(key)
        if self._folder is None or name is None:
            return None
        try:
            path = self._folder / name
            if name != _name(key, path):
                raise ValueError("a file in it was cut or edited")
            tables = read_mapped(path, len(schemas))
            for table in tables:
                table.validate()
            if [table.schema for table in tables] != list(schemas):
                raise ValueError("a file in it holds something else")
        except FileNotFoundError:
            # Another process has removed it.
            return None
        except (OSError, ValueError, pa.ArrowException) as error:
            self._log_once("is not used", error)
            return None
        self._used.add(name)
        return tables

    def put(self, key: str, tables: Sequence[pa.Table]) -> None:
        """Add tables, which `close` writes."""
        if self._folder is not None:
            self._waiting[key] = tables

    def close(self) -> None:
        """Write the added tables and remove old files.

        Call it when the results are on the disk, which may be nearly full. Files that were
        neither read nor written are removed, and so are all but the latest states of the code.
        """
        if self._folder is None:
            return
        for key, tables in self._waiting.items():
            self._write(self._folder, key, tables)
        with suppress(OSError):
            for path in self._folder.iterdir():
                if path.name not in self._used:
                    path.unlink(missing_ok=True)
            os.utime(self._folder)
            others = [path for path in self._folder.parent.iterdir() if path != self._folder]
            others.sort(key=lambda path: path.stat().st_mtime_ns)
            for other in others[: 1 - _CODES]:
                remove_tree(other, within=self._folder.parent)

    def _write(self, folder: Path, key: str, tables: Sequence[pa.Table]) -> None:
        """Write a file without fsync, because its name shows whether it is whole."""
        part = folder / f".{key}.{os.getpid()}.part"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _pack(tables, part)
            name = _name(key, part)
            part.replace(folder / name)
            # The file that was read under this key is outdated.
            self._used.discard(self._files.get(key, ""))
            self._used.add(name)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            self._log_once("could not be written", error)

    def _log_once(self, what: str, error: Exception) -> None:
        if self._has_logged:
            return
        self._has_logged = True
        if isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        else:
            reason = str(error).splitlines()[0][:200]
        self._log(
            f"the memory of earlier runs {what} ({reason}): "
            "the result is the same, and takes longer"
        )


def cache_key(parts: Mapping[str, Any]) -> str:
    """Return a key that covers all of these values."""
    return hashlib.sha256(to_json(parts).encode()).hexdigest()[:32]


def _name(key: str, path: Path) -> str:
    return f"{key}-{sha256(path)}{_SUFFIX}"


def _listed(folder: Path | None) -> dict[str, str]:
    """Return the names of the files in a folder by key."""
    if folder is None or not folder.is_dir():
        return {}
    with suppress(OSError):
        names = sorted(path.name for path in folder.iterdir())
        return {name.partition("-")[0]: name for name in names if name.endswith(_SUFFIX)}
    return {}


def _pack(tables: Sequence[pa.Table], path: Path) -> None:
    """Write Arrow streams, one after another, with the chunks of the tables.

    They are not compressed, because compression would take longer than it saves.
    """
    with pa.OSFile(str(path), "wb") as sink:
        for table in tables:
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
