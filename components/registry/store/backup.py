"""Backup and restore of the embedded store.

A backup is one archive of a consistent snapshot, with the hash of every file.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import tempfile
import time
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.errors import EnvironmentFault, InputError
from components.core.files import atomic, remove_tree, sync_tree, to_json
from components.registry.store import tracking_store
from components.registry.store.archive import (
    CHUNK,
    COUNTED,
    DATABASE,
    FILES,
    FORMAT,
    MANIFEST,
    Manifest,
    extract,
    open_archive,
)
from components.registry.store.damage import find_damage

_ARRIVED = "restored-"
_ASIDE = "damaged"
_JOURNALS = ("-journal", "-wal", "-shm")


@dataclass(frozen=True)
class Contents:
    """The contents of a backup.

    Attributes:
        rows: of the tables that a person knows.
        files: how many.
        bytes: of all files.
        missing: model versions whose files were gone already.
    """

    rows: Mapping[str, int]
    files: int
    bytes: int
    missing: int


def backup(root: Path, archive: Path) -> Contents:
    """Write a zip of the store, while runs may go on writing.

    The database is copied in one step of SQLite's backup API. Files come after it, so all files
    that it names are complete. What runs write later is in no row of it.

    Args:
        root: the project.
        archive: to write.

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
    with tempfile.TemporaryDirectory(prefix="gristmill-") as scratch, tracking_store.reached(root):
        tracking_store.correct_artifact_uris(root)
        copied = snapshot(root, Path(scratch) / DATABASE)
        with (
            atomic(archive) as stream,
            zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out,
        ):
            files = {DATABASE: _add(out, copied, DATABASE), **_add_artifacts(out, home)}
            rows, missing = _count(copied, home, files)
            manifest = {"format": FORMAT, "rows": rows, "missing": missing, "files": files}
            out.writestr(MANIFEST, to_json(manifest))
    size = sum(entry["bytes"] for entry in files.values())
    return Contents(rows, len(files) - 1, size, missing)


def _add_artifacts(out: zipfile.ZipFile, home: Path) -> dict[str, dict[str, Any]]:
    """Put the artifacts into the archive. Returns the entries of the manifest."""
    entries: dict[str, dict[str, Any]] = {}
    for path in sorted((home / "artifacts").rglob("*")):
        if path.is_file() and not path.is_symlink():
            name = FILES + path.relative_to(home / "artifacts").as_posix()
            # a run that was just deleted
            with suppress(FileNotFoundError):
                entries[name] = _add(out, path, name)
    return entries


def _check_target(archive: Path) -> None:
    """Refuse to write over anything but an earlier backup."""
    if not archive.exists():
        return
    try:
        with open_archive(archive):
            return
    except InputError:
        raise InputError(
            "is there already, and is no backup", where=str(archive), remedy="name another file"
        ) from None


def restore(root: Path, archive: Path, replace: bool = False) -> Contents:
    """Put a backup in the place of the embedded store.

    The archive is checked whole and unpacked into a new folder. Then one transaction of SQLite
    puts the new rows in the place of the old ones, also for programs that have the database open.
    A database that SQLite cannot read is kept beside the new one, which takes its name by a rename.
    A kill before that step leaves the old store, a kill after it the new one, each with its files.

    Args:
        replace: even where there are runs or models already, which are lost.

    Raises:
        InputError: no whole backup, or a store that is not empty.
        EnvironmentFault: locked, disk full, or another restore runs.
    """
    home = _home(root)
    database = home / DATABASE
    with tracking_store.reached(root), open_archive(archive) as (manifest, source):
        damage = find_damage(database, tracking_store.LOCK_SECONDS) if database.exists() else None
        if not replace:
            _check_empty(database, damage)
        home.mkdir(parents=True, exist_ok=True)
        with _alone(home):
            for folder in scratch_folders(home):
                remove_tree(folder, within=home)
            arrived = home / "artifacts" / f"{_ARRIVED}{uuid.uuid4().hex[:12]}"
            scratch = home / f".{arrived.name}"
            try:
                extract(source, manifest, scratch, archive)
                _prepare(scratch / DATABASE, arrived, home, manifest, archive)
                arrived.parent.mkdir(parents=True, exist_ok=True)
                (scratch / "artifacts").mkdir(exist_ok=True)
                sync_tree(scratch)
                (scratch / "artifacts").replace(arrived)
                if damage:
                    _set_aside(scratch / DATABASE, database)
                else:
                    _exchange(scratch / DATABASE, database)
            except BaseException:
                if not _names(database, arrived):
                    remove_tree(arrived, within=arrived.parent)
                raise
            finally:
                remove_tree(scratch, within=home)
            for other in arrived.parent.iterdir():
                if other != arrived:
                    remove_tree(other, within=arrived.parent)
    rows = {name: manifest.rows[name] for name in COUNTED}
    return Contents(rows, len(manifest.files) - 1, manifest.bytes, manifest.missing)


def _check_empty(database: Path, damage: str | None) -> None:
    """Refuse to replace what a person would miss."""
    if damage:
        raise InputError(
            f"is damaged ({damage}), and would be replaced",
            where=str(database),
            remedy="restore with --replace: it keeps the damaged file beside the new one",
        )
    if is_filled(database):
        raise InputError(
            "holds runs or models already, which would be lost",
            where=str(database),
            remedy="gristmill mlflow backup OTHER keeps them; then restore with --replace",
        )


def scratch_folders(home: Path) -> list[Path]:
    """Return folders that a restore left when it was killed. Nothing of a store lies there."""
    return sorted(home.glob(f".{_ARRIVED}*"))


def remains(home: Path) -> list[Path]:
    """Return what restores left that were killed: scratch folders, and files that no row names."""
    arrived = sorted((home / "artifacts").glob(f"{_ARRIVED}*"))
    unused = [folder for folder in arrived if not _names(home / DATABASE, folder)]
    return [*scratch_folders(home), *unused]


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Keep other restores out while the block runs.

    Raises:
        EnvironmentFault: one runs.
    """
    folder = os.open(home, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise EnvironmentFault(
            "another restore runs", where=str(home), remedy="wait until it has ended"
        ) from None
    finally:
        os.close(folder)


def snapshot(root: Path, target: Path) -> Path:
    """Write a copy of the database as it is at one moment. Returns its path."""
    source = tracking_store.database(root)
    assert source is not None
    with (
        closing(sqlite3.connect(source, timeout=tracking_store.LOCK_SECONDS)) as live,
        closing(sqlite3.connect(target)) as copied,
    ):
        _copy(live, copied)
    return target


def is_filled(database: Path) -> bool:
    """Return whether a store holds anything that a person would miss."""
    if not database.is_file():
        return False
    with closing(sqlite3.connect(database, timeout=tracking_store.LOCK_SECONDS)) as connection:
        return any(
            connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()  # noqa: S608
            for table in ("runs", "registered_models")
            if _has_table(connection, table)
        )


def _home(root: Path) -> Path:
    database = tracking_store.database(root)
    if database is None:
        raise InputError(
            "tracking is at a server, whose database and files have backups of their own",
            where="MLFLOW_TRACKING_URI",
            remedy="unset it to mean the embedded store",
        )
    return database.parent


def _add(out: zipfile.ZipFile, path: Path, name: str) -> dict[str, Any]:
    """Put a file into the archive. Returns its entry of the manifest.

    The hash is of the bytes that were put there.
    """
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as stream, out.open(name, "w", force_zip64=True) as member:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            member.write(chunk)
    return {"sha256": digest.hexdigest(), "bytes": size}


def _count(copied: Path, home: Path, files: Mapping[str, Any]) -> tuple[dict[str, int], int]:
    """Return the rows of the known tables, and how many versions have no file in the archive."""
    artifacts = home / "artifacts"
    with closing(sqlite3.connect(copied)) as connection:
        rows = count_rows(connection)
        found = connection.execute("SELECT source FROM model_versions").fetchall()
    sources = [Path(str(source)) for (source,) in found]
    prefixes = [
        FILES + source.relative_to(artifacts).as_posix() + "/"
        for source in sources
        if source.is_relative_to(artifacts)
    ]
    stored = 0
    for prefix in prefixes:
        stored += any(name.startswith(prefix) for name in files)
    return rows, len(sources) - stored


def _prepare(
    database: Path,
    arrived: Path,
    home: Path,
    manifest: Manifest,
    archive: Path,
) -> None:
    """Check a restored database, and make it name its files where they will lie.

    Raises:
        InputError: it is no sound database, or not the one of the manifest.
    """
    try:
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            if connection.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("the integrity check fails")
            if _runs_code(connection):
                raise sqlite3.DatabaseError("triggers or views stand before its tables")
            if count_rows(connection) != {name: manifest.rows[name] for name in COUNTED}:
                raise sqlite3.DatabaseError("its rows are not those of the manifest")
            connection.execute("BEGIN IMMEDIATE")
            tracking_store.readdress(
                connection, f"{tracking_store.recorded_folder(connection)}/artifacts", str(arrived)
            )
            tracking_store.record_folder(connection, str(home))
            connection.execute("COMMIT")
    except (sqlite3.Error, TypeError, ValueError) as error:
        raise InputError(
            f"is damaged: {error}", where=f"{archive}: {DATABASE}", remedy="take another backup"
        ) from None


def _runs_code(connection: sqlite3.Connection) -> bool:
    """Return whether statements of the archive's maker would run with those of a restore."""
    tables = {table for table, _ in tracking_store.LOCATIONS} | {"gristmill_home"}
    query = "SELECT tbl_name FROM sqlite_master WHERE type IN ('trigger', 'view')"
    return any(name in tables for (name,) in connection.execute(query))


def count_rows(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the rows of the tables that a person knows."""
    return {
        table: int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608
        for table in COUNTED
    }


def _set_aside(arrived: Path, live: Path) -> None:
    """Put a database in the place of a damaged one, which stays beside it under another name."""
    moment = time.strftime("%Y%m%d-%H%M%S")
    aside = live.with_name(f"{live.name}.{_ASIDE}-{moment}-{uuid.uuid4().hex[:6]}")
    os.link(live, aside)
    # a journal of the damaged file would be played back into the new one
    for ending in _JOURNALS:
        journal = live.with_name(live.name + ending)
        if journal.exists():
            journal.replace(aside.with_name(aside.name + ending))
    arrived.replace(live)


def _exchange(arrived: Path, live: Path) -> None:
    """Make the live database a copy of the other.

    It is one transaction, which other processes that have the database open see as such.
    """
    if not live.exists():
        os.link(arrived, live)
        return
    with (
        closing(sqlite3.connect(arrived)) as source,
        closing(sqlite3.connect(live, timeout=tracking_store.LOCK_SECONDS)) as target,
    ):
        _copy(source, target)


def _copy(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copy all pages in one step, so that no other process writes in between.

    Python's own would wait for a lock for ever.
    """
    deadline = time.monotonic() + tracking_store.LOCK_SECONDS

    def give_up(status: int, *_: int) -> None:
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and time.monotonic() > deadline:
            raise sqlite3.OperationalError("database is locked")

    source.backup(target, progress=give_up)


def _names(database: Path, folder: Path) -> bool:
    """Return whether rows of a store name a folder: after an exchange they do."""
    if not database.is_file():
        return False
    try:
        with closing(sqlite3.connect(database, timeout=tracking_store.LOCK_SECONDS)) as connection:
            return any(
                _has_table(connection, table)
                and _has_prefix(connection, table, column, str(folder))
                for table, column in tracking_store.LOCATIONS
            )
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        return False


def _has_prefix(connection: sqlite3.Connection, table: str, column: str, prefix: str) -> bool:
    query = f"SELECT 1 FROM {table} WHERE substr({column}, 1, length(?1)) = ?1"  # noqa: S608
    return connection.execute(query, (prefix,)).fetchone() is not None


def _has_table(connection: sqlite3.Connection, name: str) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (name,)).fetchone() is not None
