"""A version's answers to the test cases.

They are stored beside its bundle, so that any two versions can be compared later without the data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from components.core.errors import InputError

if TYPE_CHECKING:
    from components.tasks.base import CaseStats


@dataclass(frozen=True)
class Cases:
    """Answers to one test split, in its order.

    Args:
        ids: (n,) of the cases.
        stats: name -> (n,) statistics of the answers, as the task's evaluator makes them.
        slices: slice ("length: over 100") -> the positions of its cases.
        test: the name of the test split.
    """

    ids: Sequence[str]
    stats: CaseStats
    slices: Mapping[str, Sequence[int]] | None = None
    test: str = ""

    @cached_property
    def positions(self) -> dict[str, int]:
        """Return case id -> position."""
        return {case: position for position, case in enumerate(self.ids)}

    def pairs(self, other: Cases) -> bool:
        """Return whether both are answers to the same cases."""
        if not self.ids or self.test != other.test:
            return False
        return self.positions.keys() == other.positions.keys()

    def select(self, positions: Iterable[int]) -> CaseStats:
        """Return the statistics of some cases, in the order of their positions."""
        chosen = list(positions)
        selected = {}
        for name, values in self.stats.items():
            selected[name] = [values[position] for position in chosen]
        return selected

    def of_ids(self, ids: Iterable[str]) -> CaseStats:
        """Return the statistics of cases by their ids, in that order."""
        return self.select(self.positions[case] for case in ids)

    def to_json(self) -> str:
        """Return the answers as one line of JSON."""
        tree = {"ids": self.ids, **self.stats, "slices": self.slices, "test": self.test}
        return json.dumps(tree, ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Cases:
        """Parse what `to_json` wrote.

        Raises:
            InputError: it is something else.
        """
        try:
            return _of_tree(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InputError(
                f"the answers kept with the version cannot be read ({type(error).__name__})",
                where="registry",
                remedy="register it again from its data: gristmill run",
            ) from None


def _of_tree(tree: Mapping[str, Any]) -> Cases:
    """Return cases from their tree. Statistics without values are left out.

    Raises:
        ValueError: a statistic has not one value for each case, or there is none.
        KeyError, TypeError, AttributeError: the tree is something else.
    """
    stats = {}
    for name, values in tree.items():
        if name in ("ids", "slices", "test") or not values:
            continue
        if len(values) != len(tree["ids"]):
            raise ValueError(f"{name} has {len(values)} values")
        stats[name] = values
    if tree["ids"] and not stats:
        raise ValueError("there are cases, but no statistics of them")
    return Cases(tree["ids"], stats, tree["slices"], tree["test"])


def name_of(ids: Sequence[str], truths: Sequence[str]) -> str:
    """Return the name of a test split: another case, or another truth, gives another name.

    Args:
        ids: (n,) of the cases.
        truths: (n,) of the cases.
    """
    lines = [f"{case}\t{truth}" for case, truth in zip(ids, truths, strict=True)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
