"""Damage of the embedded database, and how to repair it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

_LOCKED = ("locked", "busy")
_DAMAGED = (
    "malformed",
    "not a database",
    "no such table",
    "no such column",
    "unsupported file format",
    "is empty",
)
_OTHER_SCHEMA = "out-of-date database schema"


def remedy_for(path: Path, error: Exception) -> str:
    """Return how to repair a database that could not be used.

    Args:
        path: of the database.
        error: of SQLite, SQLAlchemy or MLflow.
    """
    text = str(error)
    if any(words in text for words in _LOCKED):
        return "end the program that holds it, then run the same command again"
    if _OTHER_SCHEMA in text:
        return _other_schema(path)
    if any(words in text for words in _DAMAGED):
        return (
            "gristmill mlflow restore BACKUP --replace brings a backup back. Without a backup move "
            "the file away: the next run makes a new one, without earlier runs and releases"
        )
    return (
        "check that the folder is writable and the disk not full, then run the same command again"
    )


def find_damage(path: Path, timeout_s: float) -> str | None:
    """Return what makes a database unreadable, or None for one that SQLite can use.

    Args:
        path: of a file that is there.
        timeout_s: how long to wait for a lock, in seconds.

    Raises:
        sqlite3.OperationalError: locked, or not to be opened.
    """
    # SQLite takes an empty file for a new database; a store is made whole, so it was cut off.
    if path.stat().st_size == 0:
        return "it is empty"
    try:
        with closing(sqlite3.connect(path, timeout=timeout_s)) as connection:
            answer = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if answer == "ok" else answer


def _other_schema(path: Path) -> str:
    """Return how the schema of another MLflow becomes that of this one."""
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError
    from mlflow.store.db.utils import _get_alembic_config

    with closing(sqlite3.connect(path)) as connection:
        revision = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    try:
        known = ScriptDirectory.from_config(_get_alembic_config("")).get_revision(revision[0])
    except (CommandError, TypeError):
        known = None
    if known is None:
        return (
            "another MLflow wrote it, and this one does not know its schema: "
            "install the MLflow that wrote it, which is in its constraints.txt"
        )
    return (
        "an older MLflow wrote it: keep a copy with gristmill mlflow backup FILE, "
        f"then: mlflow db upgrade 'sqlite:///{path}'"
    )
