"""Feedback: what people say that answers should have been.

It is stored together with the answer that it is about. It becomes training data only after a person
has reviewed it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from components.core.errors import EnvironmentFault

# Files of clients' feedback, whatever its kind: the name of the first kind stays.
_SENT = "labels-{milliseconds:013d}-{replica}.jsonl"
_ALL_SENT = "labels-*.jsonl"
_REVIEWED = "reviewed.jsonl"
_PER_FILE = 5000
# id of the request, position of the item in it
Key = tuple[str, int]


@dataclass(frozen=True)
class FeedbackEntry:
    """A truth that was sent, and the answer that it is about as the log had it.

    Attributes:
        id: of the request.
        item: the position of the answer in the request.
        truth: what the answer should have been: the fields of `TaskFeedback.Truth` as JSON.
        when: the time when the truth came, in seconds since 1970.
        version: the model version that answered.
        prediction: the answer.
        probability: of the answer, if the model states one.
        input: JSON of the masked input columns; None where texts are not logged.
    """

    id: str
    item: int
    truth: Mapping[str, Any]
    when: float
    version: str
    prediction: str
    probability: float | None
    input: str | None

    @property
    def key(self) -> Key:
        """Return the key of the answer."""
        return self.id, self.item

    def as_row(self) -> dict[str, Any]:
        """Return the fields as one JSON object, with those of the truth among them."""
        row: dict[str, Any] = {}
        for name, value in asdict(self).items():
            row |= value if name == "truth" else {name: value}
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> FeedbackEntry:
        """Return the entry of a JSON object. Fields that are not its own are the truth's."""
        names = {field.name for field in fields(cls)} - {"truth"}
        truth = {name: value for name, value in row.items() if name not in names}
        return cls(truth=truth, **{name: row[name] for name in names})


class FeedbackStore:
    """Stores the feedback of a pipeline.

    Each replica appends to a file of its own. A reviewer appends to a file beside them.

    Args:
        folder: of all replicas.
        limit: entries that may wait for review.
        replica: the part of the file names that tells replicas apart.
    """

    def __init__(self, folder: Path, limit: int, replica: str = "0") -> None:
        self.folder = folder
        self._limit = limit
        self._replica = re.sub(r"[^A-Za-z0-9]", "", replica)[-12:] or "0"
        self._path = Path()
        self._lines = _PER_FILE
        self._keys: set[Key] = set()
        # file -> bytes of it that were read
        self._read: dict[Path, int] = {}

    def refuses(self, key: Key) -> str | None:
        """Return why no truth for an answer is accepted, or None if it is accepted.

        Returns:
            "known" if the answer has a truth, "full" if too many entries wait for review.
        """
        self._read_new_entries()
        if key in self._keys:
            return "known"
        reviewed = self.folder / _REVIEWED
        reviewed_count = 0
        if reviewed.is_file():
            reviewed_count = reviewed.read_bytes().count(b"\n")
        if len(self._keys) - reviewed_count >= self._limit:
            return "full"
        return None

    def add(self, entry: FeedbackEntry) -> None:
        """Store an entry.

        Raises:
            EnvironmentFault: the disk is full or not writable.
        """
        if self._lines >= _PER_FILE:
            milliseconds = int(time.time() * 1000)
            name = _SENT.format(milliseconds=milliseconds, replica=self._replica)
            self._path = self.folder / name
            self._lines = 0
        _append(self._path, [entry.as_row()])
        self._lines += 1

    def entries(self) -> list[FeedbackEntry]:
        """Return one entry for each answer, in the order in which they came.

        Where replicas accepted a truth for the same answer at the same moment, it is the last one.
        """
        entries: list[FeedbackEntry] = []
        for path in sorted(self.folder.glob(_ALL_SENT)):
            entries.extend(FeedbackEntry.from_row(row) for row in _lines(path))
        entries.sort(key=lambda entry: entry.when)
        last = {entry.key: entry for entry in entries}
        return sorted(last.values(), key=lambda entry: entry.when)

    def decided(self) -> dict[Key, str]:
        """Return the decisions of reviewers: answer -> "accepted" or "rejected"."""
        rows = _lines(self.folder / _REVIEWED)
        return {(row["id"], row["item"]): row["decision"] for row in rows}

    def waiting(self) -> list[FeedbackEntry]:
        """Return the entries that nobody has reviewed."""
        decided = self.decided()
        return [entry for entry in self.entries() if entry.key not in decided]

    def decide(self, keys: Iterable[Key], decision: str, by: str) -> None:
        """Record the decision of a reviewer.

        Args:
            keys: the answers whose truths are decided.
            decision: "accepted" or "rejected".
            by: the reviewer.

        Raises:
            EnvironmentFault: the disk is full or not writable.
        """
        _append(
            self.folder / _REVIEWED,
            [
                {"id": id_, "item": item, "decision": decision, "by": by, "when": time.time()}
                for id_, item in keys
            ],
        )

    def _read_new_entries(self) -> None:
        """Read what any replica has added since the last call."""
        for path in self.folder.glob(_ALL_SENT):
            start = self._read.get(path, 0)
            with suppress(OSError), path.open("rb") as stream:
                stream.seek(start)
                block = stream.read()
                block = block[: block.rfind(b"\n") + 1]
                self._read[path] = start + len(block)
                rows = _parse(block.decode("utf-8", "replace"))
                self._keys |= {(row["id"], row["item"]) for row in rows}


def _append(path: Path, rows: list[dict[str, Any]]) -> None:
    """Append rows as lines; half a line that a full disk left is removed again."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    block = "".join(lines).encode("utf-8", "replace")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as stream:
            size = stream.tell()
            if stream.write(block) != len(block):
                stream.truncate(size)
                raise OSError(28, "No space left on device")
    except OSError as error:
        raise EnvironmentFault(
            f"cannot be written: {error.strerror}",
            where=str(path),
            remedy="free disk space, then send it again",
        ) from error


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    if path.is_file():
        yield from _parse(path.read_text(encoding="utf-8"))


def _parse(text: str) -> Iterator[Mapping[str, Any]]:
    for line in text.split("\n"):
        # half a line
        with suppress(ValueError):
            yield json.loads(line)
