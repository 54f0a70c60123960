"""Restore of archives that are not whole, with kills at any moment, over damaged databases."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sample_versions import make_bundle

from components.cli import doctor
from components.core.errors import EnvironmentFault, InputError
from components.registry.release.promotion import history, release
from components.registry.store import archive as archives
from components.registry.store import tracking_store
from components.registry.store.backup import backup, remains, restore
from components.registry.versions.model_versions import champion, fetch, register

MANIFEST, DATABASE = "manifest.json", "mlflow.db"
Members = dict[str, bytes]
Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def released(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a released version."""
    root = shutil.copytree(template, tmp_path_factory.mktemp("released") / "repo")
    bundle = make_bundle(root / "bundle", seed=1)
    version = register(root, "default", bundle, None, {"title": "linear"})
    release(root, "default", version.number, [], mode="auto", who="test", why="first")
    return root


@pytest.fixture(scope="module")
def whole(released: Path) -> Path:
    """A backup of it."""
    backup(released, released.parent / "whole.zip")
    return released.parent / "whole.zip"


@pytest.fixture
def root(released: Path, tmp_path: Path) -> Path:
    """A copy of the released store, for each test."""
    return shutil.copytree(released, tmp_path / "repo")


@pytest.fixture(scope="module")
def before(released: Path, whole: Path) -> dict[str, Any]:
    """The state that was backed up."""
    return state(released)


def reopened(root: Path) -> dict[str, Any]:
    """The state, as a new process sees it: MLflow keeps connections to files that were replaced."""
    return state(shutil.copytree(root, root.parent / "reopened"))


def state(root: Path) -> dict[str, Any]:
    """What a person would miss: the release, and the files of its version."""
    leading = champion(root, "default")
    assert leading is not None
    folder = fetch(root, "default", leading.number, root / "into")
    files = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {"champion": leading.number, "history": history(root, "default"), "files": files}


def bytes_of(root: Path) -> dict[str, bytes]:
    """All files of a store."""
    home = root / "mlflow"
    files = [path for path in sorted(home.rglob("*")) if path.is_file()]
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in files}


# -- archives that are not whole
def unpacked(path: Path) -> tuple[Members, Manifest]:
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    return members, json.loads(members.pop(MANIFEST))


def put(members: Members, manifest: Manifest, name: str, content: bytes) -> None:
    """Add or change a file, with the entry that it should have."""
    members[name] = content
    digest = hashlib.sha256(content).hexdigest()
    manifest["files"][name] = {"sha256": digest, "bytes": len(content)}


def edited_database(members: Members, sql: str) -> bytes:
    """The archive's database after some statements."""
    connection = sqlite3.connect(":memory:")
    connection.deserialize(members[DATABASE])
    connection.executescript(sql)
    return connection.serialize()


def some_file(members: Members) -> str:
    return next(name for name in members if name.endswith("words.json"))


def change_manifest(**changes: Any) -> Callable[[Members, Manifest], None]:
    def change(members: Members, manifest: Manifest) -> None:
        manifest.update(changes)

    return change


def without(key: str) -> Callable[[Members, Manifest], None]:
    def change(members: Members, manifest: Manifest) -> None:
        del manifest[key]

    return change


def with_row(table: str, value: Any) -> Callable[[Members, Manifest], None]:
    def change(members: Members, manifest: Manifest) -> None:
        manifest["rows"][table] = value

    return change


def without_row(members: Members, manifest: Manifest) -> None:
    del manifest["rows"]["runs"]


def with_entry(**changes: Any) -> Callable[[Members, Manifest], None]:
    def change(members: Members, manifest: Manifest) -> None:
        manifest["files"][some_file(members)].update(changes)

    return change


def entry_without(key: str) -> Callable[[Members, Manifest], None]:
    def change(members: Members, manifest: Manifest) -> None:
        del manifest["files"][some_file(members)][key]

    return change


def with_file(name: str) -> Callable[[Members, Manifest], None]:
    def change(members: Members, manifest: Manifest) -> None:
        put(members, manifest, name, b"x")

    return change


def with_sql(sql: str) -> Callable[[Members, Manifest], None]:
    def change(members: Members, manifest: Manifest) -> None:
        put(members, manifest, DATABASE, edited_database(members, sql))

    return change


def without_database(members: Members, manifest: Manifest) -> None:
    del members[DATABASE], manifest["files"][DATABASE]


def damaged_database(members: Members, manifest: Manifest) -> None:
    content = members[DATABASE]
    put(members, manifest, DATABASE, content[:5000] + b"\0" * 9000 + content[14000:])


def no_database(members: Members, manifest: Manifest) -> None:
    put(members, manifest, DATABASE, b"no database" * 500)


def other_content(members: Members, manifest: Manifest) -> None:
    members[some_file(members)] = b"[]"


def unnamed_file(members: Members, manifest: Manifest) -> None:
    members["artifacts/extra"] = b""


def missing_file(members: Members, manifest: Manifest) -> None:
    del members[some_file(members)]


def large(members: Members, manifest: Manifest) -> None:
    put(members, manifest, "artifacts/zeros", bytes(100 << 20))


MALFORMED: dict[str, Callable[[Members, Manifest], None]] = {
    "no format": without("format"),
    "format 2": change_manifest(format=2),
    "format true": change_manifest(format=True),
    "format text": change_manifest(format="1"),
    "no rows": without("rows"),
    "rows a list": change_manifest(rows=[1]),
    "rows without runs": without_row,
    "a count that is negative": with_row("runs", -1),
    "a count that is text": with_row("runs", "1"),
    "a count that is another": with_row("runs", 10**6),
    "no missing": without("missing"),
    "missing null": change_manifest(missing=None),
    "an unknown key": change_manifest(extra=1),
    "no files": without("files"),
    "files a list": change_manifest(files=[]),
    "files of text": change_manifest(files={DATABASE: "x"}),
    "no database": without_database,
    "no size": entry_without("bytes"),
    "no hash": entry_without("sha256"),
    "size text": with_entry(bytes="2"),
    "size negative": with_entry(bytes=-1),
    "size another": with_entry(bytes=10**9),
    "size beyond": with_entry(bytes=2**70),
    "hash null": with_entry(sha256=None),
    "hash short": with_entry(sha256="ab"),
    "hash in capitals": with_entry(sha256="AB" * 32),
    "hash another": with_entry(sha256="ab" * 32),
    "an entry with more keys": with_entry(mode=511),
    "other content": other_content,
    "a file that the manifest does not name": unnamed_file,
    "a file that is not there": missing_file,
    "a name that leads up": with_file("artifacts/../../../evil"),
    "an absolute name": with_file("/tmp/evil"),
    "a name beside the artifacts": with_file("evil"),
    "a name with a backslash": with_file("artifacts\\..\\evil"),
    "a name with a dot": with_file("artifacts/./evil"),
    "a name with two slashes": with_file("artifacts//evil"),
    "a name of a folder": with_file("artifacts/evil/"),
    "a name with a line break": with_file("artifacts/ev\nil"),
    "a name that is too long": with_file("artifacts/" + "字" * 100),
    "a path that is too long": with_file("artifacts/" + "/".join(["evil"] * 1000)),
    "a file where a folder is": with_file("artifacts"),
    "a journal": with_file("mlflow.db-journal"),
    "a damaged database": damaged_database,
    "bytes that are no database": no_database,
    "an empty database": with_sql("PRAGMA writable_schema=ON; DELETE FROM sqlite_master;"),
    "a database without a table": with_sql("PRAGMA foreign_keys=OFF; DROP TABLE model_versions;"),
    "a trigger": with_sql(
        "CREATE TRIGGER t AFTER UPDATE ON model_versions BEGIN DELETE FROM runs; END;"
    ),
    "a view": with_sql(
        "CREATE TABLE IF NOT EXISTS gristmill_home(x); DROP TABLE gristmill_home;"
        "CREATE VIEW gristmill_home AS SELECT '/' AS folder;"
    ),
}


def repack(whole: Path, target: Path, change: Callable[[Members, Manifest], None]) -> None:
    members, manifest = unpacked(whole)
    change(members, manifest)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr(MANIFEST, json.dumps(manifest))
        for name, content in members.items():
            out.writestr(name, content)


def assert_refused(root: Path, path: Path, words: str = ".") -> None:
    """The archive is refused in words, and nothing of the store or beside it changes."""
    before, around = bytes_of(root), sorted(root.parent.iterdir())
    with pytest.raises(InputError, match=words) as caught:
        restore(root, path, replace=True)
    assert caught.value.remedy
    assert bytes_of(root) == before
    assert sorted(root.parent.iterdir()) == around
    assert not Path("/tmp/evil").exists()


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_archive_is_refused_before_anything_is_replaced(
    root: Path, whole: Path, tmp_path: Path, name: str
) -> None:
    repack(whole, tmp_path / "bad.zip", MALFORMED[name])
    assert_refused(root, tmp_path / "bad.zip")


def test_an_archive_that_would_fill_the_disk_is_refused(
    root: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repack(whole, tmp_path / "bad.zip", large)
    monkeypatch.setattr(archives, "_ALWAYS_BYTES", 1 << 20)
    assert_refused(root, tmp_path / "bad.zip", "too many for its size")
    room = shutil._ntuple_diskusage(10, 10, 0)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
    before = bytes_of(root)
    with pytest.raises(EnvironmentFault, match="no room"):
        restore(root, whole, replace=True)
    assert bytes_of(root) == before


def flagged(whole: Path, target: Path, **fields: Any) -> None:
    """The same archive, with other fields in the header of one file."""
    members, manifest = unpacked(whole)
    with zipfile.ZipFile(target, "w") as out:
        out.writestr(MANIFEST, json.dumps(manifest))
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            if name == some_file(members):
                for field, value in fields.items():
                    setattr(info, field, value)
            out.writestr(info, content)


@pytest.mark.parametrize(
    "fields",
    [
        {"external_attr": (stat.S_IFLNK | 0o777) << 16},
        {"external_attr": (stat.S_IFIFO | 0o644) << 16},
        {"external_attr": (stat.S_IFDIR | 0o755) << 16},
        {"compress_type": zipfile.ZIP_LZMA},
        {"compress_type": zipfile.ZIP_BZIP2},
    ],
)
def test_an_archive_with_files_of_another_kind_is_refused(
    root: Path, whole: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    flagged(whole, tmp_path / "bad.zip", **fields)
    assert_refused(root, tmp_path / "bad.zip")


def central_header(content: bytes, name: str) -> int:
    """Where the central directory tells of a file."""
    return content.rindex(name.encode()) - 46


def overwritten(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new + content[at + len(new) :]


def broken_bytes(whole: Path) -> Iterator[bytes]:
    """Archives that `zipfile` stumbles over in different ways."""
    content = whole.read_bytes()
    name = next(name for name in unpacked(whole)[0] if name.endswith("words.json"))
    header = central_header(content, name)
    yield b""
    yield b"no archive"
    yield content[:-2000]
    yield content[2000:]
    yield content[: len(content) // 2] + content[len(content) // 2 + 100 :]
    # encrypted, an unknown method, another checksum, a place behind the end, a later version of zip
    yield overwritten(content, header + 8, struct.pack("<H", 1))
    yield overwritten(content, header + 10, struct.pack("<H", 99))
    yield overwritten(content, header + 16, struct.pack("<L", 0x12345678))
    yield overwritten(content, header + 42, struct.pack("<L", 0xFFFFFFF0))
    yield overwritten(content, header + 6, struct.pack("<H", 0xFFFF))


def test_bytes_that_are_no_whole_archive_are_refused(
    root: Path, whole: Path, tmp_path: Path
) -> None:
    for number, content in enumerate(broken_bytes(whole)):
        bad = tmp_path / f"{number}.zip"
        bad.write_bytes(content)
        assert_refused(root, bad)


def test_a_name_that_is_there_twice_is_refused(root: Path, whole: Path, tmp_path: Path) -> None:
    bad = shutil.copyfile(whole, tmp_path / "bad.zip")
    with zipfile.ZipFile(bad, "a") as out, pytest.warns(UserWarning, match="Duplicate name"):
        out.writestr(DATABASE, b"")
    assert_refused(root, bad)


def test_what_is_no_file_is_refused_at_once(root: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "none"):
        assert_refused(root, path, "no such file")


# -- kills
KILLED = """
import importlib, os, shutil, signal, sys
from pathlib import Path
from components.registry.store import archive, backup, tracking_store as store
root, path, module, name, when, times = sys.argv[1:]
owner = {"archive": archive, "backup": backup, "store": store, "shutil": shutil, "os": os}[module]
real, left = getattr(owner, name), int(times)
def killing(*args, **options):
    global left
    left -= 1
    if when == "before" and left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    value = real(*args, **options)
    if when == "after" and left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return value
setattr(owner, name, killing)
backup.restore(Path(root), Path(path), replace=True)
"""
# module, function, before or after it, at which call; and whether the store is the new one then
MOMENTS = [
    ("archive", "_read_manifest", "before", 1, False),
    ("archive", "_compare", "after", 1, False),
    ("archive", "_copy_member", "after", 1, False),
    ("archive", "_copy_member", "after", 3, False),
    ("backup", "extract", "after", 1, False),
    ("store", "readdress", "after", 1, False),
    ("backup", "_prepare", "after", 1, False),
    ("backup", "sync_tree", "before", 1, False),
    ("backup", "_exchange", "before", 1, False),
    ("backup", "_copy", "before", 1, False),
    ("backup", "_copy", "after", 1, True),
    ("shutil", "rmtree", "before", 1, True),
    ("shutil", "rmtree", "after", 1, True),
    ("shutil", "rmtree", "after", 2, True),
]


def kill(root: Path, path: Path, *moment: Any) -> None:
    words = [sys.executable, "-c", KILLED, str(root), str(path), *map(str, moment)]
    done = subprocess.run(words, cwd=Path(__file__).parents[3])
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize(("module", "name", "when", "times", "is_new"), MOMENTS)
def test_a_kill_leaves_the_old_store_or_the_new_one_whole(
    root: Path, whole: Path, module: str, name: str, when: str, times: int, is_new: bool
) -> None:
    new = state(root)
    tracking_store.client(root).set_registered_model_tag("default", "later", "yes")
    release(root, "default", 1, [], mode="auto", who="test", why="again")
    old = state(root)
    kill(root, whole, module, name, when, times)
    assert state(root) == (new if is_new else old)
    tags = tracking_store.client(root).get_registered_model("default").tags
    assert ("later" in tags) != is_new
    found = next(each for each in doctor.examine(root) if each.name == "MLflow")
    assert found.ok == ("warn" if remains(root / "mlflow") else "ok")
    # the next restore clears up
    restore(root, whole, replace=True)
    assert state(root) == new
    assert not remains(root / "mlflow")
    assert len(list((root / "mlflow" / "artifacts").iterdir())) == 1


# -- damaged databases
def damaged(root: Path) -> dict[str, bytes]:
    """Contents of a database that cannot be used, and none that can."""
    good = (root / "mlflow" / DATABASE).read_bytes()
    return {
        "cut": good[: len(good) // 2],
        "empty": b"",
        "zeros": bytes(8192),
        "text": b"not a database, " * 100,
        "a hole": good[:5000] + bytes(90_000) + good[95_000:],
        "only a header": good[:100],
    }


DAMAGES = ["cut", "empty", "zeros", "text", "a hole", "only a header"]


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_database_is_told_and_restored_over(
    root: Path, whole: Path, before: dict[str, Any], name: str
) -> None:
    database = root / "mlflow" / DATABASE
    content = damaged(root)[name]
    database.write_bytes(content)
    (root / "mlflow" / "mlflow.db-journal").write_bytes(b"of the damaged one")
    with pytest.raises(EnvironmentFault) as caught:
        tracking_store.client(root)
    assert "gristmill mlflow restore BACKUP --replace" in caught.value.remedy
    found = next(each for each in doctor.examine(root) if each.name == "MLflow")
    assert found.ok == "bad" and "gristmill mlflow restore BACKUP --replace" in found.remedy
    with pytest.raises(InputError, match="is damaged") as refused:
        restore(root, whole)
    assert "--replace" in refused.value.remedy
    assert database.read_bytes() == content
    restore(root, whole, replace=True)
    assert reopened(root) == before
    kept = [path for path in (root / "mlflow").glob("mlflow.db.damaged-*") if path.suffix != ""]
    assert content in [path.read_bytes() for path in kept]
    assert not (root / "mlflow" / "mlflow.db-journal").exists()


@pytest.mark.parametrize(
    "moment", [("os", "link", "after", 1), ("backup", "_set_aside", "before", 1)]
)
def test_a_kill_while_a_damaged_database_is_replaced(
    root: Path, whole: Path, before: dict[str, Any], moment: tuple[Any, ...]
) -> None:
    database = root / "mlflow" / DATABASE
    content = damaged(root)["cut"]
    database.write_bytes(content)
    kill(root, whole, *moment)
    assert database.read_bytes() == content
    restore(root, whole, replace=True)
    assert reopened(root) == before


@pytest.mark.parametrize(
    ("sql", "remedy"),
    [
        ("UPDATE alembic_version SET version_num = '451aebb31d03'", "mlflow db upgrade"),
        ("UPDATE alembic_version SET version_num = 'ffffffffffff'", "install the MLflow"),
        ("DROP TABLE runs", "gristmill mlflow restore BACKUP --replace"),
    ],
)
def test_another_schema_is_told_with_what_mends_it(
    root: Path, whole: Path, before: dict[str, Any], sql: str, remedy: str
) -> None:
    with sqlite3.connect(root / "mlflow" / DATABASE) as connection:
        connection.execute(sql)
    with pytest.raises(EnvironmentFault) as caught:
        tracking_store.client(root)
    assert remedy in caught.value.remedy
    restore(root, whole, replace=True)
    assert reopened(root) == before


def test_two_restores_do_not_run_at_once(root: Path, whole: Path) -> None:
    before = bytes_of(root)
    other = os.open(root / "mlflow", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(EnvironmentFault, match="another restore runs"):
        restore(root, whole, replace=True)
    os.close(other)
    assert bytes_of(root) == before
