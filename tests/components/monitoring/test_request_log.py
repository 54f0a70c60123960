"""The request log: bounded, masked, and never in the way."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from pathlib import Path

import pyarrow.parquet as pq
from stage_runner import sentences

from components.monitoring import request_log as module
from components.monitoring.request_log import PART, Index, LogEntry, read_log


def rows(folder: Path, version: str = "1") -> list[dict]:
    return read_log(folder, version).to_pylist()


def test_a_row_holds_facts_and_no_text(traffic) -> None:
    log = traffic.log()
    traffic.ask(log, "房间很干净，电话13812345678", "the hotel was noisy")
    log.flush()
    first, second = rows(traffic.folder)
    assert (
        first["id"],
        first["item"],
        second["item"],
        first["version"],
        first["prediction"],
        first["probability"],
    ) == ("a" * 32, 0, 1, "1", "好评", 0.9)
    assert (first["text.length"], first["text.script"], second["text.script"]) == (
        19.0,
        "han",
        "latin",
    )
    assert "hotel" in second["text.words"]
    assert first["input"] is None
    assert b"1381" not in b"".join(path.read_bytes() for path in traffic.folder.iterdir())


def test_a_text_that_may_be_kept_is_masked_first(traffic) -> None:
    log = traffic.log(keep_text=True)
    traffic.ask(log, "房间很干净，电话13812345678")
    log.flush()
    (row,) = rows(traffic.folder)
    assert json.loads(row["input"]) == {"text": "房间很干净，电话<phone>", "title": ""}
    assert row["text.length"] == 19, "facts are of what was asked"


def test_it_samples_and_keeps_to_its_rate(traffic) -> None:
    few = traffic.log(sample=0.25)
    assert 180 < sum(few.wants() for _ in range(1000)) < 320
    slow = traffic.log(rows_per_s=5.0)
    assert sum(slow.wants() for _ in range(100)) == 5
    traffic.now += 0.4
    assert sum(slow.wants() for _ in range(100)) == 2
    slower = traffic.log(rows_per_s=0.1)
    assert sum(slower.wants() for _ in range(100)) == 1
    traffic.now += 10.5
    assert sum(slower.wants() for _ in range(100)) == 1


def test_a_queue_that_nobody_empties_costs_rows_and_is_counted(traffic, monkeypatch) -> None:
    log = traffic.log()
    log._closing.set()
    log._thread.join()
    asked = LogEntry(
        "b" * 32, 0, 1.0, "1", lambda: {"text": "好"}, traffic.recorder(log)._profiler, "好评", 0.9
    )
    for _ in range(2300):
        log.put(asked)
    waiting = len(log._queue)
    log._queue.clear()
    assert (waiting, log.dropped) == (2000, {"queue": 300, "disk": 0})


def test_it_keeps_to_its_bytes_the_oldest_go_first(traffic) -> None:
    sizes = []
    for number in range(6):
        log = traffic.log(max_mb=0.02)
        traffic.now += 1
        traffic.ask(log, *[row["text"] for row in sentences(120, number)], id_=f"{number:032d}")
        log.flush()
        sizes.append(sum(path.stat().st_size for path in traffic.folder.glob(PART)))
    assert max(sizes) <= 20_000
    kept = {row["id"] for row in rows(traffic.folder)}
    assert f"{5:032d}" in kept
    assert f"{0:032d}" not in kept


def test_it_keeps_to_its_days_though_few_answers_come(traffic) -> None:
    log = traffic.log(max_days=3.0)
    for day in range(10):
        traffic.now += 86_400
        traffic.ask(log, "好", id_=f"{day:032d}")
        log.flush()
        traffic.ask(log, "很好", id_=f"{day:032d}")
        log.flush()
    assert {row["id"] for row in rows(traffic.folder)} == {f"{day:032d}" for day in (6, 7, 8, 9)}
    assert len(list(traffic.folder.glob(PART))) == 4, "a part a day"


def gone(path: Path) -> bool:
    """Whether a thread deletes it, given time."""
    deadline = time.monotonic() + 60
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not path.exists()


def test_days_count_without_traffic_and_behind_young_parts(traffic, monkeypatch) -> None:
    monkeypatch.setattr(module, "FLUSH_S", 0.01)
    monkeypatch.setattr(module, "_PRUNE", 2)
    log = traffic.log(max_days=3.0)
    traffic.ask(log, "好", id_="0" * 32)
    log.flush()
    (old,) = traffic.folder.glob(PART)
    half = old.with_name("part-0000000000001-gone.part")
    half.write_bytes("PAR1 房间".encode())
    os.utime(old, (2e9, 2e9))  # as if it had been written again yesterday
    traffic.now += 3 * 86_400 - 1
    assert gone(half) and old.exists()
    traffic.now += 2
    assert gone(old)


def test_a_full_disk_costs_rows_and_nothing_else(traffic) -> None:
    log = traffic.log()
    traffic.ask(log, *[row["text"] for row in sentences(200)], id_="0" * 32)
    before, handler = (
        resource.getrlimit(resource.RLIMIT_FSIZE),
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        log.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert (
        log.dropped["disk"],
        log.written,
        rows(traffic.folder),
        list(traffic.folder.iterdir()),
    ) == (200, 0, [], [])
    traffic.ask(log, "好", id_="1" * 32)
    log.flush()
    assert [row["id"] for row in rows(traffic.folder)] == ["1" * 32]


def test_two_replicas_and_one_that_started_again_write_side_by_side(traffic) -> None:
    one, other = traffic.log("svc#model#aa"), traffic.log("svc#model#bb")
    for number in range(3):
        traffic.ask(one, "好的", id_=f"{number:032d}")
        traffic.ask(other, "坏的", id_=f"{number + 10:032d}")
        one.flush()
        other.flush()
    assert len(list(traffic.folder.glob(PART))) == 2, "a part is written again until it is full"
    traffic.now += 1
    again = traffic.log("svc#model#aa")
    traffic.ask(again, "好的", id_=f"{3:032d}", version="2")
    again.flush()
    assert sorted(row["id"] for row in rows(traffic.folder)) == [
        f"{n:032d}" for n in (0, 1, 2, 10, 11, 12)
    ]
    assert [row["version"] for row in rows(traffic.folder, "2")] == ["2"]


def test_a_part_that_is_no_parquet_hides_no_other(traffic) -> None:
    log = traffic.log()
    traffic.ask(log, "好的")
    log.flush()
    (traffic.folder / "part-0000000000000-x.parquet").write_bytes(b"PAR1 cut off")
    assert len(rows(traffic.folder)) == 1
    index = Index(traffic.folder)
    assert index.find("a" * 32, 0)["prediction"] == "好评"
    assert (index.find("a" * 32, 1), index.find("好", 0)) == (None, None)
    traffic.ask(log, "好的", id_="c" * 32)
    log.flush()
    assert index.find("c" * 32, 0)["id"] == "c" * 32, "the part was written again"


def test_a_full_part_is_followed_by_another(traffic) -> None:
    log = traffic.log()
    for number in range(4):
        traffic.now += 1
        traffic.ask(log, *["好"] * 700, id_=f"{number:032d}")
        log.flush()
    assert sorted(pq.read_metadata(path).num_rows for path in traffic.folder.glob(PART)) == [
        700,
        2100,
    ]
