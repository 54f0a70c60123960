"""The archive of a backup. It is checked as a whole before anything of it is used."""

from __future__ import annotations

import hashlib
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Annotated

from pydantic import Field, ValidationError

from components.core.errors import EnvironmentFault, InputError
from components.core.params import Strict

DATABASE = "mlflow.db"
MANIFEST = "manifest.json"
FILES = "artifacts/"
FORMAT = 1
COUNTED = ("experiments", "runs", "metrics", "registered_models", "model_versions")
CHUNK = 1 << 20

_MANIFEST_BYTES = 1 << 28
# What an archive may grow to: backups of weights hardly shrink, databases to a tenth.
_RATIO = 200
_ALWAYS_BYTES = 1 << 28
_NAME_BYTES = 255
_PATH_BYTES = 3000
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_REGULAR = (0, stat.S_IFREG)
# What `zipfile` raises for bytes that are no whole archive.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    LookupError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
)
_TAKE_ANOTHER = "take another file: gristmill mlflow backup makes them"
_DO_NOT_USE = "do not use it"

Count = Annotated[int, Field(ge=0)]


class FileEntry(Strict):
    """What the manifest says of a file."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: Count


class Manifest(Strict):
    """What an archive says that it holds."""

    format: int = Field(ge=FORMAT, le=FORMAT)
    rows: dict[str, Count]
    missing: Count
    files: dict[str, FileEntry]

    @property
    def bytes(self) -> int:
        """Return the size of all files, unpacked."""
        return sum(entry.bytes for entry in self.files.values())


@contextmanager
def open_archive(path: Path) -> Iterator[tuple[Manifest, zipfile.ZipFile]]:
    """Yield the manifest of a backup, and the archive. The contents of its files are not read yet.

    Raises:
        InputError: it is no backup, or one that does not agree with its manifest.
    """
    # a pipe would wait for a writer
    if not path.is_file():
        raise InputError("there is no such file", where=str(path), remedy=_TAKE_ANOTHER)
    try:
        source = zipfile.ZipFile(path)
    except (*_DAMAGE, OSError) as error:
        raise InputError(f"is no backup: {error}", where=str(path), remedy=_TAKE_ANOTHER) from None
    with source:
        manifest = _read_manifest(source, path)
        _compare(source, manifest, path)
        yield manifest, source


def _read_manifest(source: zipfile.ZipFile, path: Path) -> Manifest:
    try:
        if source.getinfo(MANIFEST).file_size > _MANIFEST_BYTES:
            raise ValueError("its manifest is too large")
        manifest = Manifest.model_validate_json(source.read(MANIFEST))
        unknown = [name for name in (DATABASE,) if name not in manifest.files]
        unknown += [name for name in COUNTED if name not in manifest.rows]
        if unknown:
            raise ValueError(f"its manifest does not name {', '.join(unknown)}")
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))[:100]
        what = f"is no backup of this gristmill: {MANIFEST}: {place!r}: {first['msg'][:200]}"
        raise InputError(what, where=str(path), remedy=_TAKE_ANOTHER) from None
    except (*_DAMAGE, OSError) as error:
        what = f"is no backup of this gristmill: {error}"
        raise InputError(what, where=str(path), remedy=_TAKE_ANOTHER) from None
    return manifest


def _compare(source: zipfile.ZipFile, manifest: Manifest, path: Path) -> None:
    """Compare the archive's list of files with the manifest.

    Raises:
        InputError: names, kinds or sizes that a backup does not have.
    """
    entries = source.infolist()
    names = [entry.filename for entry in entries]
    if sorted(names) != sorted([MANIFEST, *manifest.files]):
        _refuse("holds other files than its manifest names", path)
    for entry in entries:
        reason = _reason_against(entry)
        if reason:
            _refuse(f"{reason}: {entry.filename[:200]!r}", path)
        stated = manifest.files.get(entry.filename)
        if stated and stated.bytes != entry.file_size:
            _refuse(f"a file has not the size in the manifest: {entry.filename[:200]!r}", path)
    folders = set[str]()
    for name in names:
        folders.update(parent.as_posix() for parent in PurePosixPath(name).parents)
    if folders & set(names):
        _refuse("a name is both of a file and of a folder", path)
    if manifest.bytes > max(_ALWAYS_BYTES, _RATIO * path.stat().st_size):
        _refuse(f"would grow to {manifest.bytes:,} bytes, too many for its size", path)


def _refuse(what: str, path: Path) -> None:
    raise InputError(what, where=str(path), remedy=_DO_NOT_USE)


def _reason_against(entry: zipfile.ZipInfo) -> str:
    """Return why an entry is none that a backup holds; "" for one that is."""
    if _strays(entry.filename):
        return "a name leads out of the store, or is none"
    if stat.S_IFMT(entry.external_attr >> 16) not in _REGULAR:
        return "holds a link or a device"
    if entry.flag_bits & _ENCRYPTED:
        return "a file is encrypted"
    if entry.compress_type not in _METHODS:
        return "a file is compressed in a way that backups are not"
    return ""


def _strays(name: str) -> bool:
    """Return whether a name is not the plain one of a file that backups hold."""
    if name in (DATABASE, MANIFEST):
        return False
    path = PurePosixPath(name)
    parts = path.parts
    if not name.startswith(FILES) or path.as_posix() != name or ".." in parts:
        return True
    if "\\" in name or any(ord(sign) < 32 for sign in name) or len(name) > _PATH_BYTES:
        return True
    try:
        return any(len(part.encode()) > _NAME_BYTES for part in parts)
    except UnicodeEncodeError:
        return True


def extract(source: zipfile.ZipFile, manifest: Manifest, folder: Path, path: Path) -> None:
    """Write all files below a new folder, and compare each with its hash and size.

    Raises:
        InputError: a file is damaged.
        EnvironmentFault: disk full, or not writable.
    """
    folder.mkdir(parents=True)
    if shutil.disk_usage(folder).free < manifest.bytes:
        raise EnvironmentFault(
            f"has no room for the {manifest.bytes:,} bytes of the backup",
            where=str(folder.parent),
            remedy="free disk space, then run the same command again",
        )
    for name, entry in manifest.files.items():
        target = folder / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out:
                digest = _copy_member(source, name, out, entry.bytes)
        except OSError as error:
            raise EnvironmentFault(
                f"cannot be written: {error.strerror or error}",
                where=str(target),
                remedy="free disk space, then run the same command again",
            ) from error
        except _DAMAGE as error:
            raise InputError(
                f"is damaged: {error}", where=f"{path}: {name}", remedy="take another backup"
            ) from None
        if digest != entry.sha256:
            raise InputError(
                "is damaged: its SHA-256 is not the one in the manifest",
                where=f"{path}: {name}",
                remedy="take another backup",
            )


def _copy_member(
    source: zipfile.ZipFile,
    name: str,
    out: IO[bytes],
    limit: int,
) -> str:
    """Copy no more than the manifest says there is. Returns the digest of what was copied."""
    digest = hashlib.sha256()
    for chunk in _chunks(source, name):
        limit -= len(chunk)
        if limit < 0:
            return ""
        digest.update(chunk)
        out.write(chunk)
    return digest.hexdigest()


def _chunks(source: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    """Yield the bytes of a file. An error of reading is damage, unlike one of writing."""
    try:
        with source.open(name) as member:
            while chunk := member.read(CHUNK):
                yield chunk
    except OSError as error:
        raise zipfile.BadZipFile(f"cannot be read: {error.strerror or error}") from None
