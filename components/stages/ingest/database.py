"""Queries to a database for source `sql`, by SQLAlchemy, and its errors without secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from components.core.errors import EnvironmentFault, InputError
from components.stages.ingest.params import Sql, secrets_of

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine, Select

_NAME = re.compile(r"\$\{(\w+)\}")
_WHERE = "ingest.source"


@dataclass(frozen=True)
class Database:
    """An open connection, and what is asked of it."""

    connection: Connection
    source: Sql

    def count(self, *, below: Any = None, empty: bool = False) -> int:
        """Return the number of rows below a value of the cursor, or of those without any."""
        from sqlalchemy import column, func

        cursor: Any = column(self.source.cursor)
        condition = cursor.is_(None) if empty else cursor < below
        query = self._select(func.count()).where(condition)
        return int(self.connection.execute(query).scalar_one())

    def rows(self, least: Any, batch: int) -> Iterator[tuple[list[str], list[Sequence[Any]]]]:
        """Yield the names of the columns with rows in the order of the cursor.

        Args:
            least: value of the cursor of the first row; None: all rows.
            batch: number of rows to yield together; nothing is yielded without rows.
        """
        from sqlalchemy import column, literal_column

        cursor: Any = column(self.source.cursor)
        query = self._select(literal_column("*")).order_by(cursor)
        if least is not None:
            query = query.where(cursor >= least)
        streaming = self.connection.execution_options(stream_results=True, max_row_buffer=batch)
        result = streaming.execute(query)
        names = [str(name) for name in tuple(result.keys())]
        while rows := result.fetchmany(batch):
            yield names, [tuple(row) for row in rows]

    def _select(self, expression: Any) -> Select[Any]:
        """Return a query for an expression over the table, or over the query of the params."""
        from sqlalchemy import column, select, table, text

        if self.source.table is not None:
            schema, _, name = self.source.table.rpartition(".")
            return select(expression).select_from(table(name, schema=schema or None))
        statement = text((self.source.query or "").strip().rstrip(";"))
        inner = statement.columns(column(self.source.cursor))
        return select(expression).select_from(inner.subquery("pulled"))


@contextmanager
def opened(source: Sql, root: Path) -> Iterator[Database]:
    """Connect while the block runs.

    Raises:
        EnvironmentFault: the environment lacks a name, there is no driver, or the database does not
            answer.
        InputError: the URL is none, or the database refuses what is asked.
    """
    from sqlalchemy.exc import OperationalError, SQLAlchemyError

    url, secrets = filled_url(source.url, f"{_WHERE}.url")
    connection = _connect(_engine(url, secrets, root), secrets)
    with connection:
        try:
            yield Database(connection, source)
        except OperationalError as error:
            # SQLite raises it for a missing column, too.
            kind = EnvironmentFault if error.connection_invalidated else InputError
            raise kind(
                f"the database says: {_hidden(error, secrets)}",
                where=_WHERE,
                remedy="mend table, query or cursor; "
                "if the database was away, run the same command again",
            ) from None
        except SQLAlchemyError as error:
            raise InputError(
                f"the database says: {_hidden(error, secrets)}",
                where=_WHERE,
                remedy="mend ingest.source.table, query or cursor",
            ) from None


def _engine(url: str, secrets: list[str], root: Path) -> Engine:
    """Return the engine of a URL.

    Args:
        url: with the values of the environment.
        secrets: what no message may contain; extended by the secrets in the URL.
        root: of the project, to which the file of an SQLite database is relative.

    Raises:
        EnvironmentFault: there is no driver, or no file.
        InputError: the URL is none.
    """
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError
    from sqlalchemy.pool import NullPool

    try:
        address = make_url(url)
        secrets += _url_secrets(address)
        # A password with a bare @: its rest would be taken for a host, and named in errors.
        if re.match(r"[^:]*://[^:/]*:[^@]*@[^?]*@", url):
            raise ValueError
        address = _with_sqlite_path(address, root)
        return create_engine(address, poolclass=NullPool, hide_parameters=True)
    except (NoSuchModuleError, ImportError) as error:
        raise EnvironmentFault(
            f"there is no driver for it: {_hidden(error, secrets)}",
            where=f"{_WHERE}.url",
            remedy="pip install the driver, e.g. psycopg for postgresql+psycopg://",
        ) from None
    except (ArgumentError, ValueError):
        raise InputError(
            "is no URL that SQLAlchemy reads",
            where=f"{_WHERE}.url",
            remedy="dialect+driver://user:password@host:port/database, "
            "with @ and % of a password as %40 and %25",
        ) from None


def _url_secrets(address: URL) -> list[str]:
    """Return the password and the secret parameters of a URL."""
    secrets = [str(address.password)] if address.password else []
    for name, values in address.normalized_query.items():
        for value in values:
            secrets += secrets_of(name, value)
    return secrets


def _with_sqlite_path(address: URL, root: Path) -> URL:
    """Return the URL with an absolute path, where it is that of a file of SQLite.

    Raises:
        EnvironmentFault: the file does not exist.
    """
    database = address.database
    if address.get_backend_name() != "sqlite" or not database or database == ":memory:":
        return address
    file = root / database
    # SQLite would create an empty one.
    if not file.is_file():
        raise EnvironmentFault(
            "the database does not exist",
            where=f"{_WHERE}.url",
            remedy="set it to the file of the database",
        )
    return address.set(database=str(file))


def _connect(engine: Engine, secrets: Sequence[str]) -> Connection:
    """Return a connection.

    Raises:
        EnvironmentFault: the database does not answer.
    """
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return engine.connect()
    except SQLAlchemyError as error:
        raise EnvironmentFault(
            f"the database does not answer: {_hidden(error, secrets)}",
            where=f"{_WHERE}.url",
            remedy="see that it runs and takes this user, then run the same command again",
        ) from None


def filled_url(url: str, where: str) -> tuple[str, list[str]]:
    """Return a URL with the values of the environment, and these values.

    A value is quoted as a part of the URL. Host and port are not quoted, for SQLAlchemy does not
    unquote them, and a value that is the whole URL is not either.

    Raises:
        EnvironmentFault: the environment lacks a name.
    """
    names = _NAME.findall(url)
    for name in names:
        if not os.environ.get(name):
            raise EnvironmentFault(
                f"the environment holds no {name}",
                where=where,
                remedy=f"export {name}=…, then run the same command again",
            )
    # Dialect, host and port; group 1 is the login within them.
    address = re.compile(r"(?:[^:/]*://)?([^@/?]*@)?[^/?]*").match(url)
    assert address is not None, "it matches the empty text"
    login_start, login_end = address.span(1)
    address_end = address.end()

    def value(match: re.Match[str]) -> str:
        """Return the value of a variable, quoted where the URL needs it."""
        text = os.environ[match[1]]
        in_login = login_start <= match.start() < login_end
        if in_login or match.start() >= address_end:
            return quote(text, safe="")
        return text

    return _NAME.sub(value, url), [os.environ[name] for name in names]


def _hidden(error: Exception, secrets: Sequence[str]) -> str:
    """Return the first line of a driver's message, without secrets, however they are quoted."""
    text = str(getattr(error, "orig", None) or error)
    forms: set[str] = set()
    for secret in secrets:
        forms |= {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "…")
    lines = text.strip().splitlines() or [type(error).__name__]
    return lines[0][:300]


# -- values of a cursor as text, and back
def kind_of(value: Any) -> str:
    """Return the kind of a cursor's value; "" for what is not one."""
    if isinstance(value, bool):
        return ""
    # A datetime is a date, too: it comes first.
    kinds = {int: "integer", str: "text", datetime: "time", date: "day"}
    for type_, name in kinds.items():
        if isinstance(value, type_):
            return name
    return ""


def written(value: Any) -> str:
    """Return the value of a cursor as text."""
    if isinstance(value, (datetime, date)):
        return str(plain(value).isoformat())
    return str(value)


def parsed(kind: str, text: str) -> Any:
    """Return the value of a cursor that `written` has made a text.

    Args:
        kind: of the value, as `kind_of` returns it.
        text: the value.
    """
    parsers: dict[str, Callable[[str], Any]] = {
        "integer": int,
        "text": str,
        "time": datetime.fromisoformat,
        "day": date.fromisoformat,
    }
    return parsers[kind](text)


def plain(value: Any) -> Any:
    """Return a time with a zone in UTC, whatever the session's is; other values unchanged."""
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value
