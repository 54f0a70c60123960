"""ingest with what earlier runs have read in its memo: the same bytes as from scratch, and only new files are read."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.core.errors import InputError
from components.core.files import sha256
from components.core.job import Job
from components.stages.ingest import formats, stage
from components.tasks import base
from tests.components.stages.ingest.conftest import TASKS, Section


class Source:
    """A folder of files, and ingest over it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for number in range(4):
            self.put(
                f"b{number}.csv", [(f"text {number} {row}", "ab"[row % 2]) for row in range(30)]
            )
        self.path("c.jsonl").write_text(
            "".join(
                json.dumps({"text": f"行 {i}", "label": "ab"[i % 2]}, ensure_ascii=False) + "\n"
                for i in range(40)
            )
            + "broken\n",
            encoding="gb18030",
        )
        pq.write_table(
            pa.table({"text": ["one", None, "three"], "label": ["a", "b", "a"]}),
            self.path("d.parquet"),
        )

    def path(self, name: str) -> Path:
        path = self.root / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def put(self, name: str, rows: list[tuple[str, ...]], header: str = "text,label") -> None:
        self.path(name).write_text(
            "\n".join([header, *(",".join(row) for row in rows)]) + "\n", encoding="utf-8"
        )

    def ingest(self, out: str, memo: bool, task: str = "words", **section: Any) -> dict[str, str]:
        """SHA-256 of every output."""
        params = Section.model_validate({"source": {"kind": "files", "path": "source"}, **section})
        place = self.root / f"{out}-{time.monotonic_ns()}"
        outputs = {"raw": place / "raw", "report": place / "report.json"}
        stage.run(
            Job(
                "ingest",
                task,
                7,
                self.root,
                params,
                {},
                {},
                outputs,
                place / "state",
                cache=self.root / "memo" / "code" if memo else None,
            )
        )
        return {
            file.relative_to(place).as_posix(): sha256(file)
            for file in place.rglob("*")
            if file.is_file() and "state" not in file.parts
        }


CHANGES: dict[str, Callable[[Source], object]] = {
    "nothing": lambda source: None,
    "a file that comes first": lambda source: source.put("a.csv", [("new", "a"), ("newer", "b")]),
    "a file in the middle": lambda source: source.put("b1x.csv", [("new", "a")]),
    "a file is gone": lambda source: source.path("b1.csv").unlink(),
    "rows are gone": lambda source: source.put("b1.csv", [("text 1 0", "a")]),
    "labels changed": lambda source: source.path("b2.csv").write_text(
        source.path("b2.csv").read_text().replace(",a", ",z")
    ),
    "a file was rewritten with its size and time": lambda source: rewritten(source.path("b0.csv")),
    "a file was renamed": lambda source: source.path("b3.csv").rename(source.path("a3.csv")),
    "a file grew": lambda source: appended(source.path("b3.csv"), "one more,b\n"),
    "two files with the same bytes": lambda source: source.path("z.csv").write_bytes(
        source.path("b0.csv").read_bytes()
    ),
    "ids that occur in two files": lambda source: [
        source.put(name, [("same id", "a", "i1")], "text,label,id") for name in ("x.csv", "y.csv")
    ],
    "a file in another encoding": lambda source: source.path("e.csv").write_text(
        "text,label\n很好的酒店,a\n", encoding="gb18030"
    ),
    "names that say the split": lambda source: by_split(source),
}


def by_split(source: Source) -> None:
    files = sorted((source.root / "source").iterdir())
    for number, file in enumerate(files):
        file.rename(source.path(f"{'test' if number else 'train'}/{file.name}"))


def rewritten(path: Path) -> None:
    told = path.stat()
    path.write_bytes(path.read_bytes().replace(b"text 0 7", b"TEXT 0 7"))
    os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns))


def appended(path: Path, text: str) -> None:
    with path.open("a") as stream:
        stream.write(text)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.setattr(base, "schema", lambda name: TASKS[name])
    return Source(tmp_path)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of units that were read."""
    names: list[str] = []

    def parse(piece: stage.ParseInput) -> stage.Parsed:
        names.append(piece.unit.name)
        return done(piece)

    done = stage.parse
    monkeypatch.setattr(stage, "parse", parse)
    return names


@pytest.mark.parametrize("change", CHANGES)
def test_the_bytes_are_those_from_scratch(source: Source, change: str) -> None:
    assert source.ingest("first", True) == source.ingest("scratch", False)
    CHANGES[change](source)
    for _ in range(2):
        assert source.ingest("grown", True) == source.ingest("scratch", False)


def test_only_new_files_are_read(source: Source, read: list[str]) -> None:
    source.ingest("first", True)
    source.put("a.csv", [("new", "a")])
    read.clear()
    source.ingest("grown", True)
    assert read == ["a.csv"]
    read.clear()
    source.ingest("again", True)
    assert read == []
    source.ingest("other", True, columns={"text": "text", "label": "label"})
    assert read == []  # says the same
    source.ingest("other", True, max_bytes_per_value=5)
    assert len(read) == 7  # another limit is another reading


def test_a_file_that_cannot_be_read_is_refused_each_time(source: Source) -> None:
    source.ingest("first", True)
    source.path("a.csv").write_text("words,label\nx,a\n")
    for memo in (True, False, True):
        with pytest.raises(InputError, match="has no column 'text'"):
            source.ingest("grown", memo)
    source.path("a.csv").write_bytes(b"")
    with pytest.raises(InputError, match="is empty"):
        source.ingest("grown", True)


WRITES: dict[str, Callable[[Source], object]] = {
    "a file grows": lambda source: appended(source.path("b0.csv"), "late,b\n"),
    "a file comes": lambda source: source.put("a.csv", [("late", "b")]),
    "a file goes": lambda source: source.path("b1.csv").unlink(),
    "a file is replaced by one of its size": lambda source: (
        source.path("new").write_bytes(
            source.path("b3.csv").read_bytes().replace(b"text 3", b"TEXT 3")
        )
        and source.path("new").replace(source.path("b3.csv"))
    ),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_source_that_is_written_to_while_it_is_read_is_refused_and_not_remembered(
    source: Source, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    def reader(unit: Any, wanted: Any, used: set[str]) -> formats.Found:
        if unit.name == "c.jsonl":
            WRITES[write](source)
        yield from formats.objects(unit, wanted, used)

    before = {path: path.read_bytes() for path in source.path("").iterdir()}
    with monkeypatch.context() as patch:
        patch.setitem(stage.READERS, "jsonl", reader)  # type: ignore[call-overload]
        with pytest.raises(InputError, match="source: was written to while it was read"):
            source.ingest("first", True)
    assert source.ingest("grown", True) == source.ingest("scratch", False)
    for path in (*source.path("").iterdir(), *before):
        path.unlink(missing_ok=True)
        if path in before:
            path.write_bytes(before[path])
    assert source.ingest("grown", True) == source.ingest("scratch", False)


def test_class_folders_and_a_memo_that_was_edited(source: Source) -> None:
    for name in ("a/1.txt", "a/2.txt", "b/1.txt"):
        path = source.root / "folders" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}")
    section = {"source": {"kind": "files", "path": "folders"}}
    source.ingest("first", True, **section)
    (source.root / "folders" / "a" / "0.txt").write_text("one more")
    wanted = source.ingest("scratch", False, **section)
    for file in (source.root / "memo" / "code").iterdir():
        file.write_bytes(file.read_bytes()[1:])
    assert source.ingest("grown", True, **section) == wanted
