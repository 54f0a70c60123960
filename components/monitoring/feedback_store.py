"""What people say the answer should have been: kept beside the answer it is about, and training data only after a person has looked at it."""

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

_LABELS, _REVIEWED = "labels-*.jsonl", "reviewed.jsonl"
_PER_FILE = 5000
Key = tuple[str, int]  # id of the request, place of the item in it


@dataclass(frozen=True)
class Label:
    """A label, and the answer that it is about as the log had it."""

    id: str
    item: int
    label: str
    when: float  # that it came
    version: str
    prediction: str
    probability: float | None
    input: str | None  # JSON of the scrubbed input columns; None: texts are not kept

    @property
    def key(self) -> Key:
        """Names the answer."""
        return self.id, self.item


class FeedbackStore:
    """The labels of a pipeline: each replica appends to a file of its own, a reviewer to one beside them.

    Args:
        folder: of all replicas.
        limit: labels that may wait for review.
        replica: tells its files from others'.
    """

    def __init__(self, folder: Path, limit: int, replica: str = "0") -> None:
        self.folder, self._limit = folder, limit
        self._replica = re.sub(r"[^A-Za-z0-9]", "", replica)[-12:] or "0"
        self._path, self._lines = Path(), _PER_FILE
        self._keys: set[Key] = set()
        self._read: dict[Path, int] = {}  # file -> bytes of it that were looked at

    def refuses(self, key: Key) -> str | None:
        """Why no label for this answer is taken: it has one, or as many wait for review as may; None: it is."""
        self._look()
        if key in self._keys:
            return "labelled"
        reviewed = self.folder / _REVIEWED
        return (
            "full"
            if len(self._keys) - (reviewed.read_bytes().count(b"\n") if reviewed.is_file() else 0)
            >= self._limit
            else None
        )

    def add(self, label: Label) -> None:
        """Keep a label.

        Raises:
            EnvironmentFault: the disk is full or not writable.
        """
        if self._lines >= _PER_FILE:
            self._path, self._lines = (
                self.folder / f"labels-{int(time.time() * 1000):013d}-{self._replica}.jsonl",
                0,
            )
        _append(self._path, [asdict(label)])
        self._lines += 1

    def labels(self) -> list[Label]:
        """One label for each answer, the last of those of replicas that took one at the same moment, in the order in which they came."""
        found = [
            Label(**facts) for path in sorted(self.folder.glob(_LABELS)) for facts in _lines(path)
        ]
        found.sort(key=lambda label: label.when)
        return sorted({label.key: label for label in found}.values(), key=lambda label: label.when)

    def decided(self) -> dict[Key, str]:
        """What a person has said of labels: answer -> "accepted" or "rejected"."""
        return {
            (facts["id"], facts["item"]): facts["decision"]
            for facts in _lines(self.folder / _REVIEWED)
        }

    def waiting(self) -> list[Label]:
        """Labels that nobody has looked at."""
        decided = self.decided()
        return [label for label in self.labels() if label.key not in decided]

    def decide(self, keys: Iterable[Key], decision: str, by: str) -> None:
        """Write down what a person says.

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

    def _look(self) -> None:
        """Read what was added since the last time, by whatever replica."""
        for path in self.folder.glob(_LABELS):
            start = self._read.get(path, 0)
            with suppress(OSError), path.open("rb") as stream:
                stream.seek(start)
                new = stream.read()
                new = new[: new.rfind(b"\n") + 1]
                self._read[path] = start + len(new)
                self._keys |= {
                    (facts["id"], facts["item"])
                    for facts in _parsed(new.decode("utf-8", "replace"))
                }


def _append(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add lines; half of one, left by a full disk, is taken away again."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(
        "utf-8", "replace"
    )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as stream:
            size = stream.tell()
            if stream.write(text) != len(text):
                stream.truncate(size)
                raise OSError(28, "No space left on device")
    except OSError as error:
        raise EnvironmentFault(
            f"cannot be written: {error.strerror}",
            where=str(path),
            remedy="free disk space, then send it again",
        ) from error


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    yield from _parsed(path.read_text(encoding="utf-8")) if path.is_file() else ()


def _parsed(text: str) -> Iterator[Mapping[str, Any]]:
    for line in text.split("\n"):
        with suppress(ValueError):  # half a line
            yield json.loads(line)
