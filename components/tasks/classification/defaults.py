"""Measure classes: their number, their rows, and labels that are no classes."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from components.core.errors import InputError
from components.tasks.classification.targets.label_maps import is_scale, joined_labels

# A data set may have one class a row by mistake. Counting stops there.
MOST_CLASSES = 100_000
# Classes that are listed one by one, and the first of more.
_LISTED = 20
_WIDTH = 160
_SHOWN = 5
_NONE = frozenset(
    ("", "-", "--", "?", "n/a", "na", "none", "nil", "missing", "#n/a", "undefined", "无", "空")
)


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
    lines = [("classes", _summary(classes.counts, classes.rows))]
    if classes.unlabelled:
        lines.append(("rows without a label", f"{classes.unlabelled:,}"))
    groups = classes.spellings()
    for group in groups[:_SHOWN]:
        lines.append(("labels that look alike", " | ".join(group)))
    blank = [label for label in classes.counts if _means_none(label)]
    if blank:
        listed = ", ".join(f"{label} ({classes.counts[label]:,})" for label in blank)
        lines.append(("labels that may mean none", listed))
        same = ",".join(f"{label}=" for label in blank)
        lines.append(("to leave these rows out", f'--labels "{same}"'))
    joined = joined_labels(classes.counts)
    if joined:
        listed = ", ".join(f"{label} ({classes.counts[label]:,})" for label in joined[:_SHOWN])
        lines.append(("labels that may be several", listed))
        same = ",".join(f"{label}=" for label in joined[:_SHOWN] if "," not in label)
        if same:
            lines.append(("to leave these rows out", f'--labels "{same}"'))
    if groups:
        example = groups[0]
        renames = ",".join(f"{label}={example[-1]}" for label in example[:-1])
        same = f'--set ingest.label_case=fold, or --labels "{renames}"'
        lines.append(("to make them one", same))
    return lines


def _means_none(label: str) -> bool:
    """Return whether a label looks like a gap that somebody filled in."""
    return label.casefold().strip("()[]<>. ") in _NONE


def _summary(counts: Counter[str], rows: int) -> str:
    """Return the classes with their rows: all of a few, the largest and the smallest of many."""
    if not counts:
        return "none"
    number = f"{len(counts):,}"
    if len(counts) >= MOST_CLASSES:
        number = f"more than {MOST_CLASSES:,}"
    number = f"{number} in {rows:,} rows"
    ordered = counts.most_common()
    listed = ", ".join(f"{label} ({count:,})" for label, count in ordered[:_LISTED])
    if len(ordered) <= _LISTED and len(listed) <= _WIDTH:
        return f"{number}: {listed}"
    first = ", ".join(f"{label} ({count:,})" for label, count in ordered[:_SHOWN])
    return f"{number}: {first}, … down to {ordered[-1][0]} ({ordered[-1][1]:,})"


def check_classes(classes: ClassCounts) -> None:
    """Refuse labels that are numbers on a scale, nearly all different, or of one class.

    Raises:
        InputError: it says what the labels look like, and a way out.
    """
    counts = classes.counts
    labelled = sum(counts.values())
    if not counts:
        what = f"has no row with a label among {classes.rows:,}"
        raise InputError(what, where="--label", remedy="name the column of classes: --label COLUMN")
    if len(counts) == 1:
        what = f"has only the class {next(iter(counts))!r} in {labelled:,} rows"
        remedy = (
            "bring rows of another class; of a table, name its column: --label COLUMN; "
            "of texts, give a folder with a file for each class"
        )
        raise InputError(what, where="--label", remedy=remedy)
    if is_scale(counts):
        numbers = sorted(float(label) for label in counts)
        span = f"from {numbers[0]:g} to {numbers[-1]:g}"
        number = f"{len(counts):,} different ones in {labelled:,} rows"
        what = f"holds numbers on a scale, {span}, {number}; no task here predicts a number"
        remedy = "make a column of a few ranges, such as low, middle, high, and name it: --label"
        raise InputError(what, where="--label", remedy=remedy)
    alone = sum(count == 1 for count in counts.values())
    if len(counts) > _LISTED and alone > len(counts) / 2:
        what = f"holds {len(counts):,} different values in {labelled:,} rows: these are no classes"
        remedy = "name the column of classes: --label COLUMN"
        raise InputError(what, where="--label", remedy=remedy)
