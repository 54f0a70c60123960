"""Migration from the embedded store to a production store.

Rows are copied one by one with all ids, and both stores are compared afterward.
"""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.errors import EnvironmentFault, InputError
from components.registry.store import tracking_store
from components.registry.store.artifact_upload import upload_artifacts
from components.registry.store.backup import snapshot

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

# the URI of files that a server keeps for its clients
SERVED = "mlflow-artifacts:"
_ROWS = 1000
# an empty MLflow has a row in each
_SEEDED = ("experiments", "workspaces")


@dataclass(frozen=True)
class Moved:
    """What was compared and is equal.

    Attributes:
        rows: table -> rows, where there are any.
        files: how many.
        bytes: of all files.
        again: the rows were there already.
    """

    rows: Mapping[str, int]
    files: int
    bytes: int
    again: bool


def move(root: Path, to: str, artifacts: str) -> Moved:
    """Copy the embedded store into an empty database, and its files to an artifact store.

    Then both are compared, record by record and byte by byte. MLflow's REST API would give runs
    other ids and versions other numbers, and set their times to now. So rows are copied by SQL, all
    of them in one transaction. Files come first, each only once: a second try goes on. The source
    is only read.

    Args:
        root: the project.
        to: URI of a database for SQLAlchemy, such as postgresql://USER@HOST/NAME; libpq finds the
            password in PGPASSWORD or ~/.pgpass.
        artifacts: where the server will keep files (its --artifacts-destination):
            s3://BUCKET/PREFIX, or a folder.

    Raises:
        InputError: no embedded store, or a database that holds other records.
        EnvironmentFault: no connection; something changed meanwhile, or did not arrive.
    """
    source = tracking_store.database(root)
    if source is None or not source.is_file():
        raise InputError(
            "there is no embedded store to move",
            where=tracking_store.tracking_uri(root),
            remedy="unset MLFLOW_TRACKING_URI, and run in the project",
        )
    tracking_store.quiet()
    with (
        tempfile.TemporaryDirectory(prefix="gristmill-") as scratch,
        tracking_store.reached(root),
        closing(sqlite3.connect(source, timeout=tracking_store.LOCK_SECONDS)) as watched,
    ):
        tracking_store.correct_artifact_uris(root)
        before = watched.execute("PRAGMA data_version").fetchone()
        old = _snapshot(snapshot(root, Path(scratch) / "mlflow.db"))
        count, size = upload_artifacts(source.parent / "artifacts", artifacts)
        new = _target(to)
        places = (str(source.parent / "artifacts"), SERVED)
        again = _is_filled(new)
        try:
            if not again:
                with new.begin() as target, old.connect() as reading:
                    _copy(reading, target, places)
                    _check(reading, target, places, "the copy was taken back")
                    if watched.execute("PRAGMA data_version").fetchone() != before:
                        raise EnvironmentFault(
                            "the store was written to meanwhile; the copy was taken back",
                            where=str(source),
                            remedy="end what writes to it, then run the same command again",
                        )
            with new.connect() as target, old.connect() as reading:
                rows = _check(
                    reading, target, places, "it holds other records: take an empty database"
                )
        finally:
            new.dispose()
            old.dispose()
    return Moved(rows, count, size, again)


def _snapshot(database: Path) -> Engine:
    """Return a copy of the store with the tables of this MLflow. The store is not changed."""
    from mlflow.store.db.utils import (
        _all_tables_exist,
        _upgrade_db,
        _verify_schema,
        create_sqlalchemy_engine,
    )

    engine: Engine = create_sqlalchemy_engine(f"sqlite:///{database}")
    if not _all_tables_exist(engine):
        _upgrade_db(engine)
    _verify_schema(engine)
    return engine


def _target(to: str) -> Engine:
    from sqlalchemy import create_engine
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        shown = make_url(to).render_as_string(hide_password=True)
    except SQLAlchemyError:
        raise InputError(
            "is no URI of a database",
            where="--to",
            remedy="postgresql://USER@HOST/NAME, and the password in PGPASSWORD",
        ) from None
    try:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        # without this probe, MLflow would try for minutes
        probe = create_engine(to)
        probe.connect().close()
        probe.dispose()
        # makes the tables where there are none
        engine: Engine = SqlAlchemyStore(to, SERVED + "/").engine
        return engine
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise EnvironmentFault(
            f"cannot be used: {reason}",
            where=shown,
            remedy=(
                "check host, name, user and PGPASSWORD; "
                "pip install -c constraints.txt -e '.[server]' brings the driver"
            ),
        ) from None


def _tables() -> list[Table]:
    """Return MLflow's tables, first those to which others refer."""
    import mlflow.store.model_registry.dbmodels.models
    import mlflow.store.tracking.dbmodels.models  # noqa: F401 (each brings its tables)
    from mlflow.store.db.base_sql_model import Base

    return list(Base.metadata.sorted_tables)


def _is_filled(engine: Engine) -> bool:
    from sqlalchemy import text

    with engine.connect() as connection:
        return any(
            connection.execute(text(f"SELECT 1 FROM {table} LIMIT 1")).first()  # noqa: S608
            for table in ("runs", "registered_models")
        )


def _copy(source: Connection, target: Connection, places: tuple[str, str]) -> None:
    from sqlalchemy import delete, insert

    tables = _tables()
    for table in reversed(tables):
        if table.name in _SEEDED:
            target.execute(delete(table))
    for table in tables:
        block: list[dict[str, Any]] = []
        for row in _rows(source, table, places):
            block.append(row)
            if len(block) == _ROWS:
                target.execute(insert(table), block)
                block = []
        if block:
            target.execute(insert(table), block)
    _count_on(target, tables)


def _rows(
    connection: Connection, table: Table, places: tuple[str, str] | None
) -> Iterator[dict[str, Any]]:
    """Yield all rows by primary key, with the locations of their files translated.

    Args:
        connection: to the database.
        table: to read.
        places: the old and the new location of the artifacts; None: nothing is translated.
    """
    from sqlalchemy import select

    order = list(table.primary_key.columns) or list(table.columns)
    columns = [column for name, column in tracking_store.LOCATIONS if name == table.name]
    query = select(table).order_by(*order)
    for row in connection.execution_options(yield_per=_ROWS).execute(query).mappings():
        values = dict(row)
        if places:
            for column in columns:
                values[column] = _translated(values[column], *places)
        yield values


def _translated(value: str | None, old: str, new: str) -> str | None:
    if value is None or not (value == old or value.startswith(old + "/")):
        return value
    return new + (value[len(old) :] or "/")


def _count_on(target: Connection, tables: list[Table]) -> None:
    """Set PostgreSQL's sequences of ids behind the rows, which brought their own ids."""
    from sqlalchemy import func, select, text

    if target.dialect.name != "postgresql":
        return
    for table in tables:
        for column in table.primary_key.columns:
            sequence = target.execute(
                text("SELECT pg_get_serial_sequence(:table, :column)"),
                {"table": table.name, "column": column.name},
            ).scalar()
            if not sequence:
                continue
            highest = target.execute(select(func.max(column))).scalar()
            if highest is not None and int(highest) > 0:
                target.execute(
                    text("SELECT setval(:sequence, :highest)"),
                    {"sequence": sequence, "highest": int(highest)},
                )


def _check(
    source: Connection, target: Connection, places: tuple[str, str], otherwise: str
) -> dict[str, int]:
    """Return the rows by table, if each row is the same on both sides.

    Args:
        source: the embedded store.
        target: the production store.
        places: the old and the new location of the artifacts.
        otherwise: the end of the message if rows differ.

    Raises:
        EnvironmentFault: a row differs.
    """
    counts = {}
    for table in _tables():
        mine = Counter(_digest(row) for row in _rows(source, table, places))
        theirs = Counter(_digest(row) for row in _rows(target, table, None))
        if mine != theirs:
            absent = mine - theirs
            others = theirs - mine
            differing = (row for row in _rows(source, table, places) if _digest(row) in absent)
            example = next(differing, {})
            key = {column.name: example.get(column.name) for column in table.primary_key.columns}
            what = (
                f"{absent.total()} of {mine.total()} rows of table {table.name} are not there, "
                f"such as {key}, and {others.total()} others are; {otherwise}"
            )
            raise EnvironmentFault(
                what, where="--to", remedy="run the same command again with an empty database"
            )
        if mine:
            counts[table.name] = mine.total()
    return counts


def _digest(row: Mapping[str, Any]) -> bytes:
    text = repr(sorted(row.items())).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()
