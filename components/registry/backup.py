"""Backup and restore of the embedded store: one archive of a consistent snapshot, every file with its hash."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import stat
import tempfile
import time
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from components.core.errors import EnvironmentFault, InputError
from components.core.files import atomic, remove_tree, sync_tree, to_json
from components.registry import store

DATABASE, MANIFEST, FILES = "mlflow.db", "manifest.json", "artifacts/"
_FORMAT = 1
_CHUNK = 1 << 20
_COUNTED = ("experiments", "runs", "metrics", "registered_models", "model_versions")


@dataclass(frozen=True)
class Contents:
    """What a backup holds."""

    rows: Mapping[str, int]  # of the tables that a person knows
    files: int
    bytes: int
    missing: int  # model versions whose files were gone already


def backup(root: Path, archive: Path) -> Contents:
    """Write a zip of the store, while runs may go on writing.

    The database is copied in one step of SQLite's backup API; files come after it, so all that it names are there in full. What runs write later is in no row of it.

    Raises:
        InputError: there is no embedded store, or a file of that name that is no backup.
        EnvironmentFault: locked, damaged, disk full.
    """
    home = _home(root)
    _check_target(archive)
    if not (home / DATABASE).is_file():
        raise InputError(
            "there is nothing to back up",
            where=str(home / DATABASE),
            remedy="gristmill run fills it",
        )
    with tempfile.TemporaryDirectory(prefix="gristmill-") as scratch, store.reached(root):
        store.settle(root)
        copied = snapshot(root, Path(scratch) / DATABASE)
        files: dict[str, dict[str, Any]] = {}
        with (
            atomic(archive) as stream,
            zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out,
        ):
            files[DATABASE] = _add(out, copied, DATABASE)
            for path in sorted((home / "artifacts").rglob("*")):
                if path.is_file() and not path.is_symlink():
                    name = FILES + path.relative_to(home / "artifacts").as_posix()
                    try:
                        files[name] = _add(out, path, name)
                    except FileNotFoundError:  # a run that was just deleted
                        continue
            rows, missing = _look(copied, home, files)
            facts = {"format": _FORMAT, "rows": rows, "missing": missing, "files": files}
            out.writestr(MANIFEST, to_json(facts))
    return Contents(rows, len(files) - 1, sum(each["bytes"] for each in files.values()), missing)


def _check_target(archive: Path) -> None:
    """Refuse to write over anything but an earlier backup."""
    if not archive.exists():
        return
    try:
        with _opened(archive):
            return
    except InputError:
        raise InputError(
            "is there already, and is no backup", where=str(archive), remedy="name another file"
        ) from None


def restore(root: Path, archive: Path, replace: bool = False) -> Contents:
    """Put a backup in the place of the embedded store.

    Files go into a folder of their own; then one transaction of SQLite changes the database. A kill before it leaves the old store as it was, a kill behind it the new one.

    Args:
        replace: even where there are runs or models already, which are lost.

    Raises:
        InputError: no whole backup, or a store that is not empty.
        EnvironmentFault: locked, disk full.
    """
    home = _home(root)
    with store.reached(root):
        if not replace and is_filled(home / DATABASE):
            raise InputError(
                "holds runs or models already, which would be lost",
                where=str(home / DATABASE),
                remedy="gristmill mlflow backup OTHER keeps them; then restore with --replace",
            )
        with _opened(archive) as (facts, source):
            arrived = home / "artifacts" / f"restored-{uuid.uuid4().hex[:12]}"
            scratch = home / f".{arrived.name}"
            for left in home.glob(".restored-*"):  # by a kill
                remove_tree(left, within=home)
            try:
                _extract(source, facts["files"], scratch, archive)
                _readdress(scratch / DATABASE, arrived, home, archive)
                arrived.parent.mkdir(parents=True, exist_ok=True)
                (scratch / "artifacts").mkdir(exist_ok=True)
                sync_tree(scratch)
                (scratch / "artifacts").replace(arrived)
                _exchange(scratch / DATABASE, home / DATABASE)
            except BaseException:
                if not _names(home / DATABASE, arrived):
                    remove_tree(arrived, within=home)
                raise
            finally:
                remove_tree(scratch, within=home)
        for other in arrived.parent.iterdir():
            if other != arrived:
                remove_tree(other, within=arrived.parent)
    return Contents(
        {name: facts["rows"][name] for name in _COUNTED},
        len(facts["files"]) - 1,
        sum(each["bytes"] for each in facts["files"].values()),
        facts["missing"],
    )


def snapshot(root: Path, target: Path) -> Path:
    """A copy of the database as it is at one moment."""
    source = store.database(root)
    assert source is not None
    with (
        closing(sqlite3.connect(source, timeout=store.LOCK_SECONDS)) as live,
        closing(sqlite3.connect(target)) as copied,
    ):
        _copy(live, copied)
    return target


def is_filled(database: Path) -> bool:
    """Whether a store holds anything that a person would miss."""
    if not database.is_file():
        return False
    with closing(sqlite3.connect(database, timeout=store.LOCK_SECONDS)) as connection:
        tables = {
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        return any(
            connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()  # noqa: S608
            for table in ("runs", "registered_models")
            if table in tables
        )


def _home(root: Path) -> Path:
    database = store.database(root)
    if database is None:
        raise InputError(
            "tracking is at a server, whose database and files have backups of their own",
            where="MLFLOW_TRACKING_URI",
            remedy="unset it to mean the embedded store",
        )
    return database.parent


def _add(out: zipfile.ZipFile, path: Path, name: str) -> dict[str, Any]:
    """Put a file into the archive; what is hashed is what was put there."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as stream, out.open(name, "w", force_zip64=True) as member:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            member.write(chunk)
    return {"sha256": digest.hexdigest(), "bytes": size}


def _look(copied: Path, home: Path, files: Mapping[str, Any]) -> tuple[dict[str, int], int]:
    """Rows of the known tables, and how many model versions have no file in the archive."""
    with closing(sqlite3.connect(copied)) as connection:
        rows = {
            table: int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608
            for table in _COUNTED
        }
        sources = [
            str(source) for (source,) in connection.execute("SELECT source FROM model_versions")
        ]
    inside = [
        FILES + Path(source).relative_to(home / "artifacts").as_posix() + "/"
        for source in sources
        if Path(source).is_relative_to(home / "artifacts")
    ]
    there = sum(any(name.startswith(prefix) for name in files) for prefix in inside)
    return rows, len(sources) - there


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[dict[str, Any], zipfile.ZipFile]]:
    """The manifest of a backup, and the archive.

    Raises:
        InputError: it is none.
    """
    remedy = "take another file: gristmill mlflow backup makes them"
    try:
        source = zipfile.ZipFile(archive)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"is no backup: {error}", where=str(archive), remedy=remedy) from None
    with source:
        try:
            facts = json.loads(source.read(MANIFEST))
            if facts["format"] != _FORMAT or DATABASE not in facts["files"]:
                raise ValueError(f"format {facts['format']}")
            names = sorted(source.namelist())
        except (KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
            raise InputError(
                f"is no backup of this gristmill: {error}", where=str(archive), remedy=remedy
            ) from None
        if names != sorted([MANIFEST, *facts["files"]]) or any(_strays(name) for name in names):
            raise InputError(
                "holds other files than its manifest names, or names outside it",
                where=str(archive),
                remedy="do not use it",
            )
        yield facts, source


def _strays(name: str) -> bool:
    path = PurePosixPath(name)
    return (
        path.is_absolute()
        or ".." in path.parts
        or "\\" in name
        or (name not in (DATABASE, MANIFEST) and not name.startswith(FILES))
    )


def _extract(
    source: zipfile.ZipFile, files: Mapping[str, Any], scratch: Path, archive: Path
) -> None:
    """Write each file and compare it with its hash and size."""
    for name, fact in files.items():
        if stat.S_ISLNK(source.getinfo(name).external_attr >> 16):
            raise InputError(f"holds a link: {name!r}", where=str(archive), remedy="do not use it")
        target = scratch / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with source.open(name) as member, target.open("wb") as out:
                digest = _copied(member, out, int(fact["bytes"]))
        except (zipfile.BadZipFile, EOFError) as error:
            raise InputError(
                f"is damaged: {error}", where=f"{archive}: {name}", remedy="take another backup"
            ) from None
        except OSError as error:
            raise EnvironmentFault(
                f"cannot be written: {error.strerror}",
                where=str(target),
                remedy="free disk space, then run the same command again",
            ) from error
        if digest != fact["sha256"]:
            raise InputError(
                "is damaged: its SHA-256 is not the one in the manifest",
                where=f"{archive}: {name}",
                remedy="take another backup",
            )


def _copied(member: IO[bytes], out: IO[bytes], limit: int) -> str:
    """Copy no more than the manifest says there is; the digest of what was copied."""
    digest = hashlib.sha256()
    while chunk := member.read(min(_CHUNK, limit + 1)):
        digest.update(chunk)
        out.write(chunk)
        limit -= len(chunk)
        if limit < 0:
            return ""
    return digest.hexdigest()


def _readdress(database: Path, arrived: Path, home: Path, archive: Path) -> None:
    """Make the snapshot name its files where they will lie.

    Raises:
        InputError: it is no sound database.
    """
    try:
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            if connection.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("the integrity check fails")
            connection.execute("BEGIN IMMEDIATE")
            store.readdress(connection, f"{store.settled_at(connection)}/artifacts", str(arrived))
            store.settle_at(connection, str(home))
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise InputError(
            f"is damaged: {error}", where=f"{archive}: {DATABASE}", remedy="take another backup"
        ) from None


def _exchange(arrived: Path, live: Path) -> None:
    """The live database becomes a copy of the other: one transaction, which other processes that have it open see as such."""
    if not live.exists():
        os.link(arrived, live)
        return
    with (
        closing(sqlite3.connect(arrived)) as source,
        closing(sqlite3.connect(live, timeout=store.LOCK_SECONDS)) as target,
    ):
        _copy(source, target)


def _copy(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """All pages in one step, so that nobody writes in between. Python's own would wait for a lock for ever."""
    deadline = time.monotonic() + store.LOCK_SECONDS

    def give_up(status: int, *_: int) -> None:
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and time.monotonic() > deadline:
            raise sqlite3.OperationalError("database is locked")

    source.backup(target, progress=give_up)


def _names(database: Path, folder: Path) -> bool:
    """Whether a store's experiments lie in a folder: the exchange has happened."""
    if not database.is_file():
        return False
    with closing(sqlite3.connect(database, timeout=store.LOCK_SECONDS)) as connection:
        return (
            connection.execute(
                "SELECT 1 FROM experiments WHERE substr(artifact_location, 1, length(?1)) = ?1 LIMIT 1",
                (str(folder),),
            ).fetchone()
            is not None
        )
