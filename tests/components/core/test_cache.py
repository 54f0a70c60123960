"""The memo: what is kept comes back as it was; what cannot be trusted is not used, and nobody fails for that."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from components.core import cache as module
from components.core.cache import Cache, cache_key

ROWS = pa.table({"text": ["好", None, ""], "number": pa.array([1, 2, 3], pa.int64())})
MORE = pa.concat_tables([ROWS, ROWS.slice(1)])
SCHEMAS = [ROWS.schema, MORE.schema]


def kept(folder: Path, *keys: str) -> list[str]:
    """Keep the same tables under these keys; what was said."""
    said: list[str] = []
    memo = Cache(folder, said.append)
    for key in keys:
        memo.put(key, [ROWS, MORE])
    memo.close()
    return said


def test_tables_come_back_with_their_chunks(tmp_path: Path) -> None:
    assert kept(tmp_path / "a" / "code", "k") == []
    found = Cache(tmp_path / "a" / "code", pytest.fail).get("k", SCHEMAS)
    assert found is not None and found[0].equals(ROWS) and found[1].equals(MORE)
    assert [len(chunk) for chunk in found[1]["text"].chunks] == [
        len(chunk) for chunk in MORE["text"].chunks
    ]


def test_what_was_not_asked_for_goes_and_so_do_all_but_the_latest_states_of_the_code(
    tmp_path: Path,
) -> None:
    for code in ("one", "two", "three"):
        kept(tmp_path / code, "k")
        time.sleep(0.01)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["three", "two"]
    kept(tmp_path / "three", "other")
    assert Cache(tmp_path / "three", pytest.fail).get("k", SCHEMAS) is None
    assert len(list((tmp_path / "three").iterdir())) == 1


@pytest.mark.parametrize("harm", ["cut", "flipped", "emptied", "renamed", "of others"])
def test_a_file_that_is_not_what_its_name_says_is_not_used_and_is_replaced(
    tmp_path: Path, harm: str
) -> None:
    kept(tmp_path / "code", "k")
    (file,) = (tmp_path / "code").iterdir()
    content = file.read_bytes()
    if harm == "renamed":
        file.rename(file.with_name("k-" + "0" * 64 + ".arrow"))
    elif harm == "of others":
        other = Cache(tmp_path / "elsewhere", pytest.fail)
        other.put("k", [MORE.select(["number"]), ROWS])
        other.close()
        file.unlink()
        next((tmp_path / "elsewhere").iterdir()).rename(
            file.with_name(next((tmp_path / "elsewhere").iterdir()).name)
        )
    else:
        file.write_bytes(
            {
                "cut": content[:-9],
                "flipped": content[:99] + bytes([content[99] ^ 1]) + content[100:],
                "emptied": b"",
            }[harm]
        )
    said: list[str] = []
    memo = Cache(tmp_path / "code", said.append)
    assert memo.get("k", SCHEMAS) is None and memo.get("k", SCHEMAS) is None
    assert len(said) == 1 and "the result is the same" in said[0]
    memo.put("k", [ROWS, MORE])
    memo.close()
    assert Cache(tmp_path / "code", pytest.fail).get("k", SCHEMAS) is not None


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "code").write_text("a file where the folder should be")
    said = kept(tmp_path / "code", "a", "b")
    assert len(said) == 1 and "could not be written" in said[0]


def test_a_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    before, handler = (
        resource.getrlimit(resource.RLIMIT_FSIZE),
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        said = kept(tmp_path / "code", "k")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert "could not be written" in said[0] and "File too large" in said[0]
    assert list((tmp_path / "code").iterdir()) == []


def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    memo = Cache(None, pytest.fail)
    memo.put("k", [ROWS])
    memo.close()
    assert memo.get("k", [ROWS.schema]) is None and list(tmp_path.iterdir()) == []


def test_a_key_covers_every_fact() -> None:
    assert (
        cache_key({"a": 1, "b": None})
        == cache_key({"b": None, "a": 1})
        != cache_key({"a": 1, "b": ""})
    )


WRITER = f"""
import sys, pathlib, pyarrow as pa
sys.path.insert(0, {str(Path(module.__file__).parents[2])!r})
from components.core.cache import Cache
folder = pathlib.Path(sys.argv[1])
number = 0
while True:
    memo = Cache(folder, print)
    memo.put("k", [pa.table({{"number": pa.array([number] * 300_000, pa.int64())}})])
    print("writes", flush=True)
    memo.close()
    number += 1
"""


def test_killed_while_it_writes_it_is_whole_or_not_used(tmp_path: Path) -> None:
    schema = pa.schema([("number", pa.int64())])
    for pause in (0.0, 0.006):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "code")], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(3):
            process.stdout.readline()
        time.sleep(pause)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        found = Cache(tmp_path / "code", lambda _: None).get("k", [schema])
        assert found is None or (
            found[0].num_rows == 300_000 and len(set(found[0]["number"].to_pylist())) == 1
        )
    kept(tmp_path / "code", "k")
    assert [path.name[:2] for path in (tmp_path / "code").iterdir()] == [
        "k-"
    ]  # no part of a killed one stays
