"""Compressed files, opened as the bytes that are in them; one that expands without end is
refused.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from components.core.errors import InputError

# A file may always expand to this size, and a larger one to this multiple of itself.
FREE_BYTES = 1 << 28
MOST_TIMES = 100
_DAMAGE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    pa.ArrowException,
)
_ZIP = ".zip"
# A folder that macOS adds to a zip.
_OF_MACOS = "__MACOSX/"
# A zip is a folder, unless its name is that of one text with `.zip` behind it.
_ZIPPED = frozenset({".csv", ".tsv", ".tab", ".txt", ".json", ".jsonl", ".ndjson"})


def _zstd(path: Path) -> IO[bytes]:
    """Open a file that is compressed with zstd."""
    stream: IO[bytes] = pa.input_stream(str(path), compression="zstd")
    return stream


def _zip(path: Path) -> IO[bytes]:
    """Open the one file in a zip.

    Raises:
        ValueError: there are several, or none.
    """
    archive = zipfile.ZipFile(path)
    members = [
        member
        for member in archive.infolist()
        if not member.is_dir() and not member.filename.startswith(_OF_MACOS)
    ]
    if len(members) != 1:
        raise ValueError(f"it holds {len(members):,} files, not one")
    return archive.open(members[0])


OPENERS: Mapping[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _zstd,
    ".zstd": _zstd,
    _ZIP: _zip,
}


def is_compressed(path: Path) -> bool:
    """Return whether a file's suffix says that it is compressed."""
    suffix = path.suffix.lower()
    if suffix == _ZIP:
        return Path(path.stem).suffix.lower() in _ZIPPED
    return suffix in OPENERS


def inner_name(path: Path) -> Path:
    """Return a file's name without the suffix of its compression."""
    return path.with_suffix("") if is_compressed(path) else path


def open_bytes(path: Path, where: str) -> IO[bytes]:
    """Open a file's content, decompressed.

    Args:
        path: the file.
        where: what to call it in an error.

    Raises:
        InputError: while it is read: it is damaged, or expands too far.
    """
    if not is_compressed(path):
        return path.open("rb")
    return io.BufferedReader(_Bounded(path, where), 1 << 16)


def open_text(
    path: Path,
    encoding: str,
    where: str,
    newline: str | None = None,
) -> IO[str]:
    """Open a file's text, decompressed; `newline` as `open` takes it."""
    return io.TextIOWrapper(open_bytes(path, where), encoding=encoding, newline=newline)


def read_bytes(path: Path, where: str) -> bytes:
    """Return all that a file holds, decompressed."""
    with open_bytes(path, where) as stream:
        return stream.read()


class _Bounded(io.RawIOBase):
    """The content of a compressed file, up to a size."""

    def __init__(self, path: Path, where: str) -> None:
        self._where = where
        self._limit = max(FREE_BYTES, MOST_TIMES * path.stat().st_size)
        self._count = 0
        try:
            self._stream = OPENERS[path.suffix.lower()](path)
        except _DAMAGE as error:
            raise self._damaged(error) from None

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer.

        Raises:
            InputError: the file is damaged, or expands too far.
        """
        try:
            content = self._stream.read(len(buffer))
        except _DAMAGE as error:
            raise self._damaged(error) from None
        self._count += len(content)
        if self._count > self._limit:
            what = f"expands to more than {self._limit >> 20:,} MiB, {MOST_TIMES} times its size"
            raise InputError(
                what,
                where=self._where,
                remedy="decompress it yourself, and give the plain file if it is what you expect",
            )
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._stream.close()
        super().close()

    def _damaged(self, error: Exception) -> InputError:
        """Return the error for a file that cannot be decompressed."""
        what = f"is not a whole {Path(self._where).suffix} file: {error}"
        return InputError(
            what, where=self._where, remedy="copy or download it again, or decompress it yourself"
        )
