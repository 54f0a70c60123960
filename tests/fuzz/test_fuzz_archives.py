"""Whatever an archive holds, restore takes it whole, or raises `InputError` and changes nothing."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import tempfile
import zipfile
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import TEXTS, as_bytes, changed_bytes, changed_tree

from components.core.errors import InputError
from components.registry.store import tracking_store
from components.registry.store.archive import COUNTED, DATABASE, FORMAT, MANIFEST
from components.registry.store.backup import restore

Archive = tuple[dict[str, Any], dict[str, bytes]]


@pytest.fixture(autouse=True)
def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@cache
def small_database() -> bytes:
    """The tables that restore looks at, much smaller than MLflow's."""
    columns: dict[str, list[str]] = {table: ["name"] for table in COUNTED}
    for table, column in tracking_store.LOCATIONS:
        columns.setdefault(table, []).append(column)
    with closing(sqlite3.connect(":memory:")) as connection:
        for table, names in columns.items():
            connection.execute(f"CREATE TABLE {table} ({', '.join(names)})")
        connection.execute("INSERT INTO model_versions VALUES ('default', '/old/artifacts/x', '')")
        tracking_store.record_folder(connection, "/old")
        connection.commit()
        return connection.serialize()


@cache
def whole() -> tuple[bytes, bytes]:
    """The manifest and the file of artifacts of an archive that can be restored."""
    content = b"weights" * 100
    rows = {table: int(table == "model_versions") for table in COUNTED}
    files = {name: entry(data) for name, data in contents(content).items()}
    manifest = {"format": FORMAT, "rows": rows, "missing": 0, "files": files}
    return as_bytes(manifest), content


def contents(artifact: bytes) -> dict[str, bytes]:
    return {DATABASE: small_database(), "artifacts/x/weights": artifact}


def entry(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def packed(manifest: bytes, members: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr(MANIFEST, manifest)
        for name, content in members.items():
            out.writestr(name, content)
    return target.getvalue()


def try_restore(archive: bytes) -> bool:
    """Restore into a store that holds a file. Returns whether the archive was taken."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "repo"
        kept = root / "mlflow" / "artifacts" / "kept"
        kept.parent.mkdir(parents=True)
        kept.write_bytes(b"old")
        path = Path(scratch) / "archive.zip"
        path.write_bytes(archive)
        database = root / "mlflow" / DATABASE
        try:
            restore(root, path)
        except InputError as error:
            assert error.remedy
            assert kept.read_bytes() == b"old"
            assert not database.exists()
            assert sorted(each.name for each in (root / "mlflow").iterdir()) == ["artifacts"]
            return False
        finally:
            assert sorted(each.name for each in Path(scratch).iterdir()) == ["archive.zip", "repo"]
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return True


def test_the_archive_itself_is_restored() -> None:
    manifest, artifact = whole()
    assert try_restore(packed(manifest, contents(artifact)))


@given(st.data())
def test_changed_bytes(data: st.DataObject) -> None:
    manifest, artifact = whole()
    try_restore(data.draw(changed_bytes(packed(manifest, contents(artifact)))))


@given(st.data())
def test_a_changed_manifest(data: st.DataObject) -> None:
    manifest, artifact = whole()
    tree = json.loads(manifest)
    change = st.one_of(changed_tree(tree).map(as_bytes), changed_bytes(manifest))
    try_restore(packed(data.draw(change), contents(artifact)))


@given(TEXTS, st.binary(max_size=20))
def test_another_name(name: str, content: bytes) -> None:
    """A file of any name that manifest and archive agree upon."""
    manifest, artifact = whole()
    name = name.encode("utf-8", "replace").decode()
    tree = json.loads(manifest)
    tree["files"][f"artifacts/{name}"] = entry(content)
    members = {**contents(artifact), f"artifacts/{name}": content}
    try_restore(packed(as_bytes(tree), members))


@given(st.data())
def test_another_database(data: st.DataObject) -> None:
    """A database of which some pages are changed, with the hash of the changed one."""
    manifest, artifact = whole()
    changed = data.draw(changed_bytes(small_database()))
    tree = json.loads(manifest)
    tree["files"][DATABASE] = entry(changed)
    try_restore(packed(as_bytes(tree), {**contents(artifact), DATABASE: changed}))
