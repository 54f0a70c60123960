"""The request log: facts of a sample of the answers, in Parquet parts that a thread writes. It may lose rows, never a request."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.monitoring.masking import scrub
from components.monitoring.params import MonitorParams
from components.monitoring.profile import Profiler

PART = "part-*.parquet"
FLUSH_S = 2.0
_QUEUE, _ROWS = 2000, 2000  # rows that wait for the thread; rows of a part
_DAY_S = 86_400.0
_PRUNE = 1800  # flushes between two looks at the age of the parts
_YIELD_S = 0.0005  # between two rows: whoever answers requests goes first
_TYPES = {
    float: pa.float64(),
    str: pa.string(),
    list: pa.list_(pa.string()),
    tuple: pa.list_(pa.float32()),
}
BASE = pa.schema(
    [
        ("id", pa.string()),
        ("item", pa.int64()),
        ("time", pa.float64()),
        ("version", pa.string()),
        ("prediction", pa.string()),
        ("probability", pa.float64()),
        ("input", pa.string()),
    ]
)


@dataclass(frozen=True)
class LogEntry:
    """One answered query, as it waits to be written."""

    id: str
    item: int  # its place in the request
    time: float  # seconds since 1970
    version: str
    columns: Callable[[], Mapping[str, Any]]  # the raw input; called in the thread
    profiler: Profiler
    prediction: str
    probability: float | None


class RequestLog:
    """What one replica writes, whatever versions it holds.

    A part is written again as a whole until it is full or a day old, so that a kill costs two seconds of rows and a quiet service does not leave thousands of small files.

    Args:
        folder: of all replicas.
        params: sample, rate, bounds.
        replica: tells its parts from others'.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        folder: Path,
        params: MonitorParams,
        replica: str = "0",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder, self.params = folder, params
        self._replica, self._clock = re.sub(r"[^A-Za-z0-9]", "", replica)[-12:] or "0", clock
        self._queue: deque[LogEntry] = deque()
        self._in_hand: set[str] = set()  # ids that have left the queue and are in no part yet
        self._part, self._table, self._ends = Path(), BASE.empty_table(), 0.0
        self._most = max(1.0, params.rows_per_s)
        self._level, self._at = self._most, clock()
        self._writing, self._ending = threading.Lock(), threading.Event()
        self.written, self.dropped = 0, {"queue": 0, "disk": 0}
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._thread.start()

    def wants(self) -> bool:
        """Whether the next answer is to be logged: by chance, and no more than the rate."""
        if self.params.sample < 1 and random.random() >= self.params.sample:  # noqa: S311 (no secret)
            return False
        now = self._clock()
        self._level, self._at = (
            min(self._most, self._level + max(0.0, now - self._at) * self.params.rows_per_s),
            now,
        )
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def put(self, asked: LogEntry) -> None:
        """Leave a row to the thread. Never waits, never fails."""
        if len(self._queue) >= _QUEUE:
            self.dropped["queue"] += 1
        else:
            self._queue.append(asked)

    def waits(self, id_: str) -> bool:
        """Whether rows of a request are not written yet. (The queue first: a row that leaves it is in hand before that.)"""
        return any(each.id == id_ for each in tuple(self._queue)) or id_ in self._in_hand

    def flush(self) -> None:
        """Write what waits. A full disk costs these rows and is counted."""
        with self._writing:
            rows = []
            try:
                for _ in range(len(self._queue)):
                    self._in_hand.add(self._queue[0].id)
                    with suppress(Exception):  # a row that no facts can be made of
                        rows.append(_row(self._queue[0], self.params.keep_text))
                    self._queue.popleft()
                    time.sleep(_YIELD_S)
                if rows:
                    self._write(_table(rows))
            finally:
                self._in_hand.clear()

    def close(self) -> None:
        """Write what waits, and end the thread."""
        self._ending.set()
        self._thread.join(10)
        self.flush()

    def _run(self) -> None:
        for turn in count():
            if turn % _PRUNE == 0:  # without traffic, too
                prune(self.folder, self.params, self._clock())
            if self._ending.wait(FLUSH_S):
                return
            self.flush()

    def _write(self, rows: pa.Table) -> None:
        now = self._clock()
        if not 0 < self._table.num_rows < _ROWS or now >= self._ends or not self._part.is_file():
            self._part, self._table = (
                self.folder / f"part-{int(now * 1000):013d}-{self._replica}.parquet",
                BASE.empty_table(),
            )
            self._ends = now + min(1.0, self.params.max_days / 2) * _DAY_S
        table, part = (
            pa.concat_tables([self._table, rows], promote_options="default"),
            self._part.with_suffix(".part"),
        )
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with part.open("wb") as stream:
                pq.write_table(table, stream, compression="zstd")
            part.replace(self._part)
            self._table, self.written = table, self.written + rows.num_rows
            prune(self.folder, self.params, now)
        except OSError:
            self.dropped["disk"] += rows.num_rows
            with suppress(OSError):
                part.unlink()


class AnswerLogger:
    """What a version of a replica tells the log.

    Args:
        log: of the replica.
        version: its number.
        profiler: made of its bundle's profile.
        columns: queries to raw input columns (`Judge.columns`).
        confidence: of an answer (`Judge.confidence`).
    """

    def __init__(
        self,
        log: RequestLog,
        version: str,
        profiler: Profiler,
        columns: Callable[[Sequence[Any]], Mapping[str, Sequence[Any]]],
        confidence: Callable[[Any], float | None],
    ) -> None:
        self.log = log
        self._version, self._profiler, self._columns, self._confidence = (
            version,
            profiler,
            columns,
            confidence,
        )

    def note(self, id_: str, queries: Sequence[Any], answers: Sequence[Any]) -> None:
        """Log some of a request's answers."""
        for item, (query, answer) in enumerate(zip(queries, answers, strict=True)):
            if self.log.wants():
                columns = _later(self._columns, query)
                self.log.put(
                    LogEntry(
                        id_,
                        item,
                        time.time(),
                        self._version,
                        columns,
                        self._profiler,
                        str(answer.label),
                        self._confidence(answer),
                    )
                )


def _later(
    columns: Callable[[Sequence[Any]], Mapping[str, Sequence[Any]]], query: Any
) -> Callable[[], Mapping[str, Any]]:
    return lambda: {name: values[0] for name, values in columns([query]).items()}


def _row(asked: LogEntry, keep_text: bool) -> dict[str, Any]:
    columns = asked.columns()
    kept = (
        {name: scrub(value) for name, value in columns.items() if isinstance(value, str)}
        if keep_text
        else {}
    )
    told: dict[str, Any] = {
        name: getattr(asked, name)
        for name in ("id", "item", "time", "version", "prediction", "probability")
    }
    return (
        told
        | {"input": json.dumps(kept, ensure_ascii=False) if kept else None}
        | asked.profiler.facts(columns)
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    facts = {
        name: _TYPES[type(value)]
        for row in rows
        for name, value in row.items()
        if name not in BASE.names
    }
    return pa.Table.from_pylist(
        list(rows),
        schema=pa.schema([*BASE, *(pa.field(name, kind) for name, kind in sorted(facts.items()))]),
    )


def prune(folder: Path, params: MonitorParams, now: float) -> None:
    """Delete the oldest parts until the rest is small and young enough: a part is as old as its first row, whose time is in its name."""
    parts = []
    for path in sorted(folder.glob("part-*.par*")):  # half a part of a replica that was killed, too
        with suppress(OSError, ValueError):
            parts.append((path, path.stat().st_size, now - int(path.name.split("-")[1]) / 1000))
    total = sum(size for _, size, _ in parts)
    for path, size, age in parts:
        if total > params.max_mb * 1e6 or age > params.max_days * _DAY_S:
            with suppress(OSError):
                path.unlink(missing_ok=True)
                total -= size


def read_log(
    folder: Path, version: str, since: float = 0.0, until: float = float("inf")
) -> pa.Table:
    """The rows of a version in the order of time, of all replicas; parts that vanish or cannot be read are left out."""
    import pyarrow.compute as pc

    tables = [BASE.empty_table()]
    for path in sorted(folder.glob(PART)):
        with suppress(OSError, pa.ArrowException):
            if path.stat().st_mtime < since:
                continue
            table = pq.read_table(path)
            wanted = pc.and_(
                pc.equal(table["version"], version),
                pc.and_(pc.greater(table["time"], since), pc.less_equal(table["time"], until)),
            )
            tables.append(table.filter(wanted))
    return pa.concat_tables(tables, promote_options="default").sort_by(
        [("time", "ascending"), ("id", "ascending"), ("item", "ascending")]
    )


@dataclass(frozen=True)
class LoggedAnswer:
    """A request of which an answer was logged."""

    id: str
    version: str


def answers_that_begin_with(folder: Path, beginning: str) -> list[LoggedAnswer]:
    """Return the logged requests whose id begins so, each once; parts that vanish or cannot be read are left out."""
    import pyarrow.compute as pc

    matches: dict[str, LoggedAnswer] = {}
    for path in sorted(folder.glob(PART)):
        with suppress(OSError, pa.ArrowException):
            table = pq.read_table(path, columns=["id", "version"])
            for row in table.filter(pc.starts_with(table["id"], beginning)).to_pylist():
                matches[row["id"]] = LoggedAnswer(row["id"], row["version"])
    return list(matches.values())


class Index:
    """Finds the row of an answer; remembers which ids lie in which part, for clients may ask for many that are nowhere.

    Args:
        folder: of the log.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ids: dict[
            Path, tuple[tuple[int, int], NDArray[np.bytes_]]
        ] = {}  # part -> which writing of it, its ids in order

    def find(self, id_: str, item: int) -> dict[str, Any] | None:
        """The row, if it was logged and is still there; newest parts first."""
        parts = sorted(self._folder.glob(PART), reverse=True)
        self._ids = {path: known for path, known in self._ids.items() if path in set(parts)}
        wanted = np.bytes_(id_.encode("utf-8", "replace"))
        for path in parts:
            with suppress(OSError, pa.ArrowException):
                if self._holds(path, wanted):
                    found = pq.read_table(
                        path, filters=[("id", "=", id_), ("item", "=", item)]
                    ).to_pylist()
                    if found:
                        return dict(found[0])
        return None

    def _holds(self, path: Path, wanted: np.bytes_) -> bool:
        told = path.stat()
        stamp = (
            told.st_ino,
            told.st_mtime_ns,
        )  # two writings may lie within one tick of the disk's clock, never in one file
        if path not in self._ids or self._ids[path][0] != stamp:
            self._ids[path] = (
                stamp,
                np.sort(
                    np.array(pq.read_table(path, columns=["id"])["id"].to_pylist(), dtype=np.bytes_)
                ),
            )
        ids = self._ids[path][1]
        place = int(np.searchsorted(ids, wanted))
        return place < len(ids) and bool(ids[place] == wanted)
