"""A version's answers to the test cases.

They are stored beside its bundle, so that any two versions can be compared later without the data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from components.core.errors import InputError


@dataclass(frozen=True)
class Cases:
    """Answers to one test split, in its order.

    Args:
        ids: (n,) of the cases.
        right: (n,) whether each was answered rightly.
        confidence: (n,) the probability stated for the answer; empty where answers state none.
        slices: slice ("length: over 100") -> the positions of its cases.
        test: the name of the test split.
    """

    ids: Sequence[str]
    right: Sequence[bool]
    confidence: Sequence[float] = ()
    slices: Mapping[str, Sequence[int]] | None = None
    test: str = ""

    @cached_property
    def known(self) -> dict[str, bool]:
        """Return case id -> answered rightly."""
        return dict(zip(self.ids, self.right, strict=True))

    def pairs(self, other: Cases) -> bool:
        """Return whether both are answers to the same cases."""
        if not self.ids or self.test != other.test:
            return False
        return self.known.keys() == other.known.keys()

    def to_json(self) -> str:
        """Return the answers as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Cases:
        """Parse what `to_json` wrote.

        Raises:
            InputError: it is something else.
        """
        try:
            return Cases(**json.loads(text))
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(
                f"the answers kept with the version cannot be read ({type(error).__name__})",
                where="registry",
                remedy="register it again from its data: gristmill run",
            ) from None


def name_of(ids: Sequence[str], truths: Sequence[str]) -> str:
    """Return the name of a test split: another case, or another truth, gives another name.

    Args:
        ids: (n,) of the cases.
        truths: (n,) of the cases.
    """
    lines = [f"{case}\t{truth}" for case, truth in zip(ids, truths, strict=True)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
