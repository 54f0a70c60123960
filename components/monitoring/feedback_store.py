"""Feedback: labels that people send for answers.

A label is stored together with the answer that it is about. It becomes training data only after a
person has reviewed it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.core.errors import EnvironmentFault

_LABELS = "labels-*.jsonl"
_REVIEWED = "reviewed.jsonl"
_PER_FILE = 5000
# id of the request, position of the item in it
Key = tuple[str, int]


@dataclass(frozen=True)
class Label:
    """A label, and the answer that it is about as the log had it.

    Attributes:
        id: of the request.
        item: the position of the answer in the request.
        label: what the answer should have been.
        when: the time when the label came, in seconds since 1970.
        version: the model version that answered.
        prediction: the answer.
        probability: of the answer, if the model states one.
        input: JSON of the masked input columns; None where texts are not logged.
    """

    id: str
    item: int
    label: str
    when: float
    version: str
    prediction: str
    probability: float | None
    input: str | None

    @property
    def key(self) -> Key:
        """Return the key of the answer."""
        return self.id, self.item


class FeedbackStore:
    """Stores the labels of a pipeline.

    Each replica appends to a file of its own. A reviewer appends to a file beside them.

    Args:
        folder: of all replicas.
        limit: labels that may wait for review.
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
        """Return why no label for an answer is accepted, or None if it is accepted.

        Returns:
            "labelled" if the answer has a label, "full" if too many labels wait for review.
        """
        self._read_new_labels()
        if key in self._keys:
            return "labelled"
        reviewed = self.folder / _REVIEWED
        reviewed_count = 0
        if reviewed.is_file():
            reviewed_count = reviewed.read_bytes().count(b"\n")
        if len(self._keys) - reviewed_count >= self._limit:
            return "full"
        return None

    def add(self, label: Label) -> None:
        """Store a label.

        Raises:
            EnvironmentFault: the disk is full or not writable.
        """
        if self._lines >= _PER_FILE:
            milliseconds = int(time.time() * 1000)
            self._path = self.folder / f"labels-{milliseconds:013d}-{self._replica}.jsonl"
            self._lines = 0
        _append(self._path, [asdict(label)])
        self._lines += 1

    def labels(self) -> list[Label]:
        """Return one label for each answer, in the order in which they came.

        Where replicas accepted a label for the same answer at the same moment, it is the last one.
        """
        labels: list[Label] = []
        for path in sorted(self.folder.glob(_LABELS)):
            labels.extend(Label(**row) for row in _lines(path))
        labels.sort(key=lambda label: label.when)
        last = {label.key: label for label in labels}
        return sorted(last.values(), key=lambda label: label.when)

    def decided(self) -> dict[Key, str]:
        """Return the decisions of reviewers: answer -> "accepted" or "rejected"."""
        rows = _lines(self.folder / _REVIEWED)
        return {(row["id"], row["item"]): row["decision"] for row in rows}

    def waiting(self) -> list[Label]:
        """Return the labels that nobody has reviewed."""
        decided = self.decided()
        return [label for label in self.labels() if label.key not in decided]

    def decide(self, keys: Iterable[Key], decision: str, by: str) -> None:
        """Record the decision of a reviewer.

        Args:
            keys: the answers whose labels are decided.
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

    def _read_new_labels(self) -> None:
        """Read what any replica has added since the last call."""
        for path in self.folder.glob(_LABELS):
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
