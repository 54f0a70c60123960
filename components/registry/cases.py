"""What a version answered to the test cases: kept beside its bundle, so that any two versions can be compared later, without the data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property


@dataclass(frozen=True)
class Cases:
    """Answers to one test split, in its order.

    Args:
        ids: (n,) of the cases.
        right: (n,) whether each was answered rightly.
        confidence: (n,) the probability stated for the answer; empty where answers state none.
        slices: slice ("length: over 100") -> the places of its cases.
        test: tells one test split from another.
    """

    ids: Sequence[str]
    right: Sequence[bool]
    confidence: Sequence[float] = ()
    slices: Mapping[str, Sequence[int]] | None = None
    test: str = ""

    @cached_property
    def known(self) -> dict[str, bool]:
        """Case id -> answered rightly."""
        return dict(zip(self.ids, self.right, strict=True))

    def pairs(self, other: Cases) -> bool:
        """Whether both were asked the same."""
        return (
            bool(self.ids) and self.test == other.test and self.known.keys() == other.known.keys()
        )

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Cases:
        """Of `to_json`."""
        return Cases(**json.loads(text))


def name_of(ids: Sequence[str], truths: Sequence[str]) -> str:
    """What a test split is called: another case, or another truth, gives another name."""
    return hashlib.sha256(
        "\n".join(f"{each}\t{truth}" for each, truth in zip(ids, truths, strict=True)).encode()
    ).hexdigest()
