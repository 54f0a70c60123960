"""Measurements of classes, and the params that follow from them and from the number of rows."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from components.tasks.base import Setting

# A data set may have one class a row by mistake. Counting stops there.
MOST_CLASSES = 100_000
_SHOWN = 5


@dataclass
class ClassCounts:
    """Rows by class, as far as they were read."""

    counts: Counter[str] = field(default_factory=Counter)
    unlabelled: int = 0
    rows: int = 0

    def add(self, label: str | None) -> None:
        """Count one row."""
        self.rows += 1
        if label is None:
            self.unlabelled += 1
        elif label in self.counts or len(self.counts) < MOST_CLASSES:
            self.counts[label] += 1

    @property
    def smallest(self) -> int:
        """Return the rows of the smallest class; 0 where there is no class."""
        return min(self.counts.values(), default=0)

    def spellings(self) -> list[list[str]]:
        """Return the groups of labels that differ in case, width or spaces alone."""
        groups: dict[str, list[str]] = defaultdict(list)
        for label in self.counts:
            folded = unicodedata.normalize("NFKC", label).casefold()
            groups["".join(folded.split())].append(label)
        return [sorted(group) for group in groups.values() if len(group) > 1]


def describe_classes(classes: ClassCounts) -> list[tuple[str, str]]:
    """Return the lines about classes: their number, their sizes, labels that are nearly equal."""
    lines = [("classes", _summary(classes.counts))]
    if classes.unlabelled:
        lines.append(("rows without a label", f"{classes.unlabelled:,}"))
    for group in classes.spellings()[:_SHOWN]:
        lines.append(("labels that look alike", " | ".join(group)))
    return lines


def _summary(counts: Mapping[str, int]) -> str:
    if not counts:
        return "none"
    number = f"{len(counts):,}"
    if len(counts) >= MOST_CLASSES:
        number = f"{MOST_CLASSES:,} or more"
    sizes = sorted(counts.values())
    return f"{number}, of {sizes[0]:,} to {sizes[-1]:,} rows"


def effort_settings(rows: int) -> Sequence[Setting]:  # noqa: ARG001
    """Return the settings of search and compression that depend on the number of rows alone."""
    return []
