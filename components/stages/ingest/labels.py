"""What the labels of a source look like: alike but for case, words for nothing, numbers on a
scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pyarrow as pa

from components.stages.ingest.columns import Layout
from components.tasks.classification.targets.class_name import joined_labels

_FEW_NUMBERS = 20
_MOST_SHOWN = 5
# Labels that often mean that there is none.
_NO_LABEL = frozenset(
    {
        "n/a",
        "na",
        "#n/a",
        "none",
        "nil",
        "unknown",
        "unlabeled",
        "unlabelled",
        "-",
        "--",
        "?",
        "无",
        "未知",
        "未标注",
        "空",
    }
)


def label_notes(rows: pa.Table, wanted: Layout, classes: Mapping[str, int]) -> list[str]:
    """Return what is to be said of the labels of raw rows, with the setting that changes it.

    Args:
        rows: raw rows.
        wanted: their columns.
        classes: rows by label, where the target is a class.
    """
    if wanted.target is None or not classes:
        return []
    notes = []
    if missing := rows[wanted.target.name].null_count:
        notes.append(f"{missing:,} rows have no label: clean.unlabelled says what becomes of them")
    for group in alike_labels(classes)[:_MOST_SHOWN]:
        listed = ", ".join(f"{label!r} ({classes[label]:,} rows)" for label in group)
        renames = ", ".join(f"{label}: {group[0]}" for label in group[1:])
        notes.append(
            f"labels that differ only in case: {listed}; "
            f"ingest.label_case: fold makes them one, or ingest.labels: {{{renames}}}"
        )
    for label in [label for label in classes if label.casefold() in _NO_LABEL][:_MOST_SHOWN]:
        notes.append(
            f"the label {label!r} ({classes[label]:,} rows) may say that there is none: "
            f"ingest.labels: {{{label!r}: null}}"
        )
    for label in joined_labels(classes)[:_MOST_SHOWN]:
        notes.append(
            f"the label {label!r} ({classes[label]:,} rows) may be several labels, "
            "but counts as a class of its own: "
            f"ingest.labels: {{{label!r}: null}} leaves these rows out"
        )
    if is_scale(classes):
        notes.append(
            f"the {len(classes):,} labels are numbers on a scale, and each is taken for a class "
            "of its own; put them into a few ranges first"
        )
    return notes


def alike_labels(labels: Mapping[str, int]) -> list[list[str]]:
    """Return groups of labels that differ only in capital letters, each with the most frequent
    first.
    """
    groups: dict[str, list[str]] = {}
    for label in sorted(labels, key=lambda name: (-labels[name], name)):
        groups.setdefault(label.casefold(), []).append(label)
    return [group for group in groups.values() if len(group) > 1]


def is_scale(labels: Mapping[str, int]) -> bool:
    """Return whether labels are numbers on a scale: many distinct ones, or fractions.

    Whole numbers up to a few dozen are classes (stars, digits, codes).
    """
    numbers = [number_of(label) for label in labels]
    if len(numbers) <= _FEW_NUMBERS or any(number is None for number in numbers):
        return False
    fractions = sum(
        1 for number in numbers if number is not None and not float(number).is_integer()
    )
    if fractions:
        return True
    # Codes of 200 classes have many rows each; a count or a price has few.
    return sum(labels.values()) < 5 * len(numbers)


def number_of(text: str) -> float | None:
    """Return the number that a label is; None for other texts, NaN and infinities."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
