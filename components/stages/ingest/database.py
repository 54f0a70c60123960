"""Questions to a database for source `sql`, by SQLAlchemy; and its errors, without what nobody should read."""

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
    from sqlalchemy import Connection, Select

_NAME = re.compile(r"\$\{(\w+)\}")
_WHERE = "ingest.source"


@dataclass(frozen=True)
class Database:
    """An open connection, and what is asked of it."""

    connection: Connection
    source: Sql

    def count(self, *, below: Any = None, empty: bool = False) -> int:
        """Rows below a value of the cursor, or those without any."""
        from sqlalchemy import column, func

        cursor: Any = column(self.source.cursor)
        where = cursor.is_(None) if empty else cursor < below
        return int(self.connection.execute(self._select(func.count()).where(where)).scalar_one())

    def rows(self, least: Any, batch: int) -> Iterator[tuple[list[str], list[Sequence[Any]]]]:
        """Names of the columns and rows from a value of the cursor on, in its order, so many at a time; none without rows."""
        from sqlalchemy import column, literal_column

        cursor: Any = column(self.source.cursor)
        query = self._select(literal_column("*")).order_by(cursor)
        found = self.connection.execution_options(
            stream_results=True, max_row_buffer=batch
        ).execute(query if least is None else query.where(cursor >= least))
        names = [str(name) for name in tuple(found.keys())]
        while rows := found.fetchmany(batch):
            yield names, [tuple(row) for row in rows]

    def _select(self, what: Any) -> Select[Any]:
        from sqlalchemy import column, select, table, text

        if self.source.table is not None:
            schema, _, name = self.source.table.rpartition(".")
            return select(what).select_from(table(name, schema=schema or None))
        inner = text((self.source.query or "").strip().rstrip(";")).columns(
            column(self.source.cursor)
        )
        return select(what).select_from(inner.subquery("pulled"))


@contextmanager
def opened(source: Sql, root: Path) -> Iterator[Database]:
    """Connect while the block runs.

    Raises:
        EnvironmentFault: the environment lacks a name, there is no driver, or the database does not answer.
        InputError: the URL is none, or the database refuses what is asked.
    """
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError, SQLAlchemyError
    from sqlalchemy.pool import NullPool

    url, secrets = _filled(source.url)
    try:
        made = make_url(url)
        secrets += [str(made.password)] if made.password else []
        secrets += [
            each
            for name, values in made.normalized_query.items()
            for value in values
            for each in secrets_of(name, value)
        ]
        if re.match(
            r"[^:]*://[^:/]*:[^@]*@[^?]*@", url
        ):  # a password with a bare @: its rest would be taken for a host, and named in errors
            raise ValueError
        if made.get_backend_name() == "sqlite" and made.database and made.database != ":memory:":
            file = root / made.database
            if not file.is_file():  # SQLite would make an empty one
                raise EnvironmentFault(
                    "the database does not exist",
                    where=f"{_WHERE}.url",
                    remedy="set it to the file of the database",
                )
            made = made.set(database=str(file))
        engine = create_engine(made, poolclass=NullPool, hide_parameters=True)
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
            remedy="dialect+driver://user:password@host:port/database, with @ and % of a password as %40 and %25",
        ) from None
    try:
        connection = engine.connect()
    except SQLAlchemyError as error:
        raise EnvironmentFault(
            f"the database does not answer: {_hidden(error, secrets)}",
            where=f"{_WHERE}.url",
            remedy="see that it runs and takes this user, then run the same command again",
        ) from None
    with connection:
        try:
            yield Database(connection, source)
        except OperationalError as error:  # SQLite says so of a column, too, that is not there
            kind = EnvironmentFault if error.connection_invalidated else InputError
            raise kind(
                f"the database says: {_hidden(error, secrets)}",
                where=_WHERE,
                remedy="mend table, query or cursor; if the database was away, run the same command again",
            ) from None
        except SQLAlchemyError as error:
            raise InputError(
                f"the database says: {_hidden(error, secrets)}",
                where=_WHERE,
                remedy="mend ingest.source.table, query or cursor",
            ) from None


def _filled(url: str) -> tuple[str, list[str]]:
    """The URL with what the environment holds, and that. A part of a URL is quoted, but for host and port, which SQLAlchemy does not unquote; a whole one is taken as it is."""
    names = _NAME.findall(url)
    for name in names:
        if not os.environ.get(name):
            raise EnvironmentFault(
                f"the environment holds no {name}",
                where=f"{_WHERE}.url",
                remedy=f"export {name}=…, then run the same command again",
            )
    parts = re.compile(r"(?:[^:/]*://)?([^@/?]*@)?[^/?]*").match(
        url
    )  # dialect, host and port; without the login within them
    assert parts is not None, "it matches the empty text"
    start, stop, end = (*parts.span(1), parts.end())

    def value(found: re.Match[str]) -> str:
        return (
            quote(os.environ[found[1]], safe="")
            if start <= found.start() < stop or found.start() >= end
            else os.environ[found[1]]
        )

    return _NAME.sub(value, url), [os.environ[name] for name in names]


def _hidden(error: Exception, secrets: Sequence[str]) -> str:
    """The first line of what a driver says, without secrets, however they are quoted."""
    text = str(getattr(error, "orig", None) or error)
    for each in sorted(
        {
            form
            for secret in secrets
            for form in (secret, quote(secret), quote(secret, safe=""), quote_plus(secret))
        },
        key=len,
        reverse=True,
    ):
        text = text.replace(each, "…")
    return next(iter(text.strip().splitlines()), type(error).__name__)[:300]


# -- values of a cursor as text, and back
def kind_of(value: Any) -> str:
    """The kind of a cursor's value; "" for what is not one."""
    if isinstance(value, bool):
        return ""
    return next(
        (
            name
            for kind, name in ((int, "integer"), (str, "text"), (datetime, "time"), (date, "day"))
            if isinstance(value, kind)
        ),
        "",
    )


def written(value: Any) -> str:
    """As text."""
    return str(plain(value).isoformat()) if isinstance(value, (datetime, date)) else str(value)


def parsed(kind: str, text: str) -> Any:
    """The value of such a text."""
    read: dict[str, Callable[[str], Any]] = {
        "integer": int,
        "text": str,
        "time": datetime.fromisoformat,
        "day": date.fromisoformat,
    }
    return read[kind](text)


def plain(value: Any) -> Any:
    """Times with a zone in UTC, whatever the session's is."""
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value
