"""Log of requests: features of a sample of the answers, in Parquet parts that a thread writes.

The log may lose rows. It never delays or fails a request.
"""

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

from components.monitoring.masking import mask
from components.monitoring.params import MonitorParams
from components.monitoring.profile import Profiler
from components.tasks.base import TaskEvaluator

PART = "part-*.parquet"
FLUSH_S = 2.0
# rows that may wait for the thread
_QUEUE = 2000
# rows of a part
_ROWS = 2000
_DAY_S = 86_400.0
# flushes between two checks of the age of the parts
_PRUNE = 1800
# a pause between two rows, so that requests are answered first
_YIELD_S = 0.0005
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
    """One answered query that waits to be written.

    Attributes:
        id: of the request.
        item: the position of the query in the request.
        time: seconds since 1970.
        version: the model version that answered.
        columns: returns the raw input; called in the thread of the log.
        profiler: computes the features of the input.
        prediction: the answer.
        probability: of the answer, if the model states one.
    """

    id: str
    item: int
    time: float
    version: str
    columns: Callable[[], Mapping[str, Any]]
    profiler: Profiler
    prediction: str
    probability: float | None


class RequestLog:
    """Writes the log of one replica, whatever versions it holds.

    A part is rewritten as a whole until it is full or a day old. So a kill costs two seconds of
    rows, and a quiet service does not leave thousands of small files.

    Args:
        folder: of all replicas.
        params: sample, rate, bounds.
        replica: the part of the file names that tells replicas apart.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        folder: Path,
        params: MonitorParams,
        replica: str = "0",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self.params = params
        self.written = 0
        self.dropped = {"queue": 0, "disk": 0}
        self._replica = re.sub(r"[^A-Za-z0-9]", "", replica)[-12:] or "0"
        self._clock = clock
        self._queue: deque[LogEntry] = deque()
        # ids that have left the queue and are in no part yet
        self._in_progress: set[str] = set()
        self._part = Path()
        self._table = BASE.empty_table()
        self._part_ends = 0.0
        # a token bucket holds the rate of rows
        self._burst = max(1.0, params.rows_per_s)
        self._tokens = self._burst
        self._refilled_at = clock()
        self._writing = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._thread.start()

    def wants(self) -> bool:
        """Return whether to log the next answer: by chance, and no more than the rate allows."""
        # a sample is no secret
        if self.params.sample < 1 and random.random() >= self.params.sample:  # noqa: S311
            return False
        now = self._clock()
        refill = max(0.0, now - self._refilled_at) * self.params.rows_per_s
        self._tokens = min(self._burst, self._tokens + refill)
        self._refilled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def put(self, entry: LogEntry) -> None:
        """Leave an entry to the thread. Never waits, never fails."""
        if len(self._queue) >= _QUEUE:
            self.dropped["queue"] += 1
        else:
            self._queue.append(entry)

    def waits(self, id_: str) -> bool:
        """Return whether rows of a request are not written yet.

        The queue is read first: an entry is in progress before it leaves the queue.
        """
        is_queued = any(entry.id == id_ for entry in tuple(self._queue))
        return is_queued or id_ in self._in_progress

    def flush(self) -> None:
        """Write all entries that wait. A full disk costs these rows, and they are counted."""
        with self._writing:
            rows = []
            try:
                for _ in range(len(self._queue)):
                    entry = self._queue[0]
                    self._in_progress.add(entry.id)
                    # an entry whose features cannot be computed
                    with suppress(Exception):
                        rows.append(_row(entry, self.params.keep_text))
                    self._queue.popleft()
                    time.sleep(_YIELD_S)
                if rows:
                    self._write(_table(rows))
            finally:
                self._in_progress.clear()

    def close(self) -> None:
        """Write all entries that wait, and end the thread."""
        self._closing.set()
        self._thread.join(10)
        self.flush()

    def _run(self) -> None:
        for turn in count():
            # without traffic, too
            if turn % _PRUNE == 0:
                prune(self.folder, self.params, self._clock())
            if self._closing.wait(FLUSH_S):
                return
            self.flush()

    def _write(self, rows: pa.Table) -> None:
        now = self._clock()
        has_room = 0 < self._table.num_rows < _ROWS
        if not has_room or now >= self._part_ends or not self._part.is_file():
            self._part = self.folder / f"part-{int(now * 1000):013d}-{self._replica}.parquet"
            self._table = BASE.empty_table()
            self._part_ends = now + min(1.0, self.params.max_days / 2) * _DAY_S
        table = pa.concat_tables([self._table, rows], promote_options="default")
        part = self._part.with_suffix(".part")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with part.open("wb") as stream:
                pq.write_table(table, stream, compression="zstd")
            part.replace(self._part)
            self._table = table
            self.written += rows.num_rows
            prune(self.folder, self.params, now)
        except OSError:
            self.dropped["disk"] += rows.num_rows
            with suppress(OSError):
                part.unlink()


class AnswerLogger:
    """Logs the answers of one version in a replica.

    Args:
        log: of the replica.
        version: its number.
        profiler: made from its bundle's profile.
        rules: of the task.
    """

    def __init__(
        self, log: RequestLog, version: str, profiler: Profiler, rules: TaskEvaluator
    ) -> None:
        self.log = log
        self._version = version
        self._profiler = profiler
        self._rules = rules

    def log_sample(self, id_: str, queries: Sequence[Any], answers: Sequence[Any]) -> None:
        """Log a sample of a request's answers.

        Args:
            id_: of the request.
            queries: (n,) of the request.
            answers: (n,) to the queries.
        """
        for item, (query, answer) in enumerate(zip(queries, answers, strict=True)):
            if not self.log.wants():
                continue
            entry = LogEntry(
                id=id_,
                item=item,
                time=time.time(),
                version=self._version,
                columns=_lazy_columns(self._rules, query),
                profiler=self._profiler,
                prediction=self._rules.feedback.text(answer),
                probability=self._rules.confidence(answer),
            )
            self.log.put(entry)


def _lazy_columns(rules: TaskEvaluator, query: Any) -> Callable[[], Mapping[str, Any]]:
    return lambda: {name: values[0] for name, values in rules.columns([query]).items()}


def _row(entry: LogEntry, keep_text: bool) -> dict[str, Any]:
    columns = entry.columns()
    inputs = _kept_inputs(columns) if keep_text else {}
    row: dict[str, Any] = {
        name: getattr(entry, name)
        for name in ("id", "item", "time", "version", "prediction", "probability")
    }
    row["input"] = json.dumps(inputs, ensure_ascii=False) if inputs else None
    return row | entry.profiler.features(columns)


def _kept_inputs(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs that are logged: masked texts, and numbers as they are."""
    inputs: dict[str, Any] = {}
    for name, value in columns.items():
        if isinstance(value, str):
            inputs[name] = mask(value)
        elif isinstance(value, int | float):
            inputs[name] = value
    return inputs


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    types: dict[str, Any] = {}
    for row in rows:
        for name, value in row.items():
            if name not in BASE.names:
                types[name] = _TYPES[type(value)]
    features = [pa.field(name, kind) for name, kind in sorted(types.items())]
    return pa.Table.from_pylist(list(rows), schema=pa.schema([*BASE, *features]))


def prune(folder: Path, params: MonitorParams, now: float) -> None:
    """Delete the oldest parts until the rest is small and young enough.

    A part is as old as its first row, whose time is in its name.

    Args:
        folder: of all replicas.
        params: the limits.
        now: seconds since 1970.
    """
    parts = []
    # also the unfinished parts of a replica that was killed
    for path in sorted(folder.glob("part-*.par*")):
        with suppress(OSError, ValueError):
            size = path.stat().st_size
            age = now - int(path.name.split("-")[1]) / 1000
            parts.append((path, size, age))
    total = sum(size for _, size, _ in parts)
    for path, size, age in parts:
        if total > params.max_mb * 1e6 or age > params.max_days * _DAY_S:
            with suppress(OSError):
                path.unlink(missing_ok=True)
                total -= size


def read_log(
    folder: Path, version: str, since: float = 0.0, until: float = float("inf")
) -> pa.Table:
    """Return the rows of a version, of all replicas, in the order of time.

    Parts that vanish or cannot be read are skipped.

    Args:
        folder: of all replicas.
        version: the model version.
        since: rows later than this, in seconds since 1970.
        until: rows not later than this, in seconds since 1970.
    """
    import pyarrow.compute as pc

    tables = [BASE.empty_table()]
    for path in sorted(folder.glob(PART)):
        with suppress(OSError, pa.ArrowException):
            if path.stat().st_mtime < since:
                continue
            table = pq.read_table(path)
            after = pc.greater(table["time"], since)
            before = pc.less_equal(table["time"], until)
            of_version = pc.equal(table["version"], version)
            tables.append(table.filter(pc.and_(of_version, pc.and_(after, before))))
    joined = pa.concat_tables(tables, promote_options="default")
    return joined.sort_by([("time", "ascending"), ("id", "ascending"), ("item", "ascending")])


@dataclass(frozen=True)
class LoggedAnswer:
    """A request of which at least one answer was logged."""

    id: str
    version: str


def answers_that_begin_with(folder: Path, beginning: str) -> list[LoggedAnswer]:
    """Return the logged requests whose id begins with a text, once per request.

    Parts that vanish or cannot be read are skipped.
    """
    import pyarrow.compute as pc

    matches: dict[str, LoggedAnswer] = {}
    for path in sorted(folder.glob(PART)):
        with suppress(OSError, pa.ArrowException):
            table = pq.read_table(path, columns=["id", "version"])
            for row in table.filter(pc.starts_with(table["id"], beginning)).to_pylist():
                matches[row["id"]] = LoggedAnswer(row["id"], row["version"])
    return list(matches.values())


class Index:
    """Finds the row of an answer.

    It remembers which ids are in which part: clients may ask for many ids that are nowhere.

    Args:
        folder: of the log.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # part -> the version of its file, and its ids in order
        self._ids: dict[Path, tuple[tuple[int, int], NDArray[np.bytes_]]] = {}

    def find(self, id_: str, item: int) -> dict[str, Any] | None:
        """Return the row of an answer, or None if it was not logged or is no longer there.

        Newest parts are searched first.

        Args:
            id_: of the request.
            item: the position of the answer in the request.
        """
        parts = sorted(self._folder.glob(PART), reverse=True)
        existing = set(parts)
        self._ids = {path: ids for path, ids in self._ids.items() if path in existing}
        wanted = np.bytes_(id_.encode("utf-8", "replace"))
        for path in parts:
            with suppress(OSError, pa.ArrowException):
                if self._has_id(path, wanted):
                    filters = [("id", "=", id_), ("item", "=", item)]
                    rows = pq.read_table(path, filters=filters).to_pylist()
                    if rows:
                        return dict(rows[0])
        return None

    def _has_id(self, path: Path, wanted: np.bytes_) -> bool:
        status = path.stat()
        # two writings may have the same time of the disk's clock, but never the same inode
        stamp = (status.st_ino, status.st_mtime_ns)
        if path not in self._ids or self._ids[path][0] != stamp:
            column = pq.read_table(path, columns=["id"])["id"].to_pylist()
            self._ids[path] = (stamp, np.sort(np.array(column, dtype=np.bytes_)))
        ids = self._ids[path][1]
        position = int(np.searchsorted(ids, wanted))
        return position < len(ids) and bool(ids[position] == wanted)
