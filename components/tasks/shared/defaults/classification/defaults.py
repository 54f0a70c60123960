"""Measure classes: their number, their rows, and labels that are no classes.

Params that small classes need.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

from pydantic import BaseModel

from components.core.errors import InputError
from components.tasks.base import CleanedTargets, Question, Setting
from components.tasks.shared.schema.classification.class_balance import ClassClean
from components.tasks.shared.schema.classification.label_maps import is_scale, joined_labels

# A data set may have one class a row by mistake. Counting stops there.
MOST_CLASSES = 100_000
# Classes that are listed one by one, and the first of more.
_LISTED = 20
_WIDTH = 160
_SHOWN = 5
# Rows of a class: one each for train, validation and test. clean refuses a smaller limit.
_LEAST = 3
_NONE = frozenset(
    ("", "-", "--", "?", "n/a", "na", "none", "nil", "missing", "#n/a", "undefined", "无", "空")
)


class MeasuresClasses(Protocol):
    """Measurements that have the rows by class."""

    @property
    def classes(self) -> ClassCounts:
        """Return the rows by class."""


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


def check_classes(classes: ClassCounts, number_task: str = "") -> None:
    """Refuse labels that are numbers on a scale, nearly all different, or of one class.

    Args:
        classes: rows by class.
        number_task: the task that predicts numbers from the same inputs; "": none does.

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
        what = f"holds numbers on a scale, {span}, {number}"
        remedy = "make a column of a few ranges, such as low, middle, high, and name it: --label"
        if number_task:
            remedy = f"predict the number: --task {number_task}; or {remedy}"
        else:
            what += "; no task here predicts a number"
        raise InputError(what, where="--label", remedy=remedy)
    alone = sum(count == 1 for count in counts.values())
    if len(counts) > _LISTED and alone > len(counts) / 2:
        what = f"holds {len(counts):,} different values in {labelled:,} rows: these are no classes"
        remedy = "name the column of classes: --label COLUMN"
        raise InputError(what, where="--label", remedy=remedy)


class ClassDefaults:
    """The part of a Defaults that concerns classes."""

    target_names: Sequence[Collection[str]] = (
        ("label", "labels", "class", "target", "标签", "类别"),
        (
            "sentiment",
            "category",
            "polarity",
            "topic",
            "intent",
            "emotion",
            "stars",
            "rating",
            "score",
            "情感",
            "分类",
            "评分",
        ),
    )
    renames: str | None = "labels"
    descriptions: Mapping[str, str] = {
        "clean.conflicts": "equal inputs with different labels: drop | majority",
        "clean.min_rows_per_class": "a class with fewer rows is refused, or merged",
        "clean.small_classes": "refuse | merge, into one class `other`",
        "clean.unlabelled": "rows without a label: quarantine | keep, for train.pretrain",
        "train.class_weights": "none | balanced: each class weighs the same",
    }
    remedy_options: Mapping[str, str] = {"with ingest.labels": "with --labels CLASS="}

    def questions(self, measured: MeasuresClasses) -> Sequence[Question]:
        """Return the question whether labels that differ in capitals alone are one."""
        return case_questions(measured.classes)

    def settings_of_targets(self, cleaned: CleanedTargets, options: BaseModel) -> Sequence[Setting]:
        """Return settings for classes with too few rows."""
        return class_settings(cleaned, options)


def case_questions(classes: ClassCounts) -> list[Question]:
    """Return the question whether labels that differ in capitals alone are one."""
    alike = [" | ".join(group) for group in classes.spellings()[:_SHOWN]]
    if not alike:
        return []
    lines = [f"these labels look alike: {labels}" for labels in alike]
    question = "take labels that differ in capitals alone as one?"
    return [Question(lines, question, "label_case", "fold")]


def class_settings(cleaned: CleanedTargets, options: BaseModel) -> list[Setting]:
    """Return settings for classes with too few rows, which clean would refuse.

    Args:
        cleaned: rows by class.
        options: the params of `clean`.

    Raises:
        InputError: fewer than two classes are left, or too few rows of the smallest ones.
    """
    least = cast(ClassClean, options).min_rows_per_class
    counts = cleaned.counts
    if len(counts) < 2:
        raise _too_few_classes(cleaned)
    small = {name: count for name, count in counts.items() if count < least}
    if not small:
        return []
    smallest, count = min(small.items(), key=lambda item: (item[1], item[0]))
    reason = f"{smallest!r} has {_rows(count)}"
    if len(small) > 1:
        reason = f"{len(small):,} classes have fewer than {least:,} usable rows, {reason}"
    lowered = Setting("clean.min_rows_per_class", max(count, _LEAST), reason)
    if count >= _LEAST:
        return [lowered]
    rare = [name for name, rows in small.items() if rows < _LEAST]
    merged = sum(small[name] for name in rare)
    if merged < _LEAST:
        raise _too_few_rows(rare, merged, class_count=len(counts))
    reason = f"{len(rare):,} classes have fewer than {_LEAST} rows and become 'other'"
    return [lowered, Setting("clean.small_classes", "merge", reason)]


def _too_few_rows(rare: Sequence[str], count: int, *, class_count: int) -> InputError:
    """Return the error about classes that stay too small when they are merged.

    Args:
        rare: the classes.
        count: their rows together.
        class_count: number of all classes.
    """
    names = ", ".join(map(repr, rare[:_SHOWN]))
    verb = "have together" if len(rare) > 1 else "has"
    remedy = "bring more rows of these classes"
    # Two classes must be left.
    if class_count - len(rare) >= 2:
        option = ",".join(f"{name}=" for name in rare)
        remedy += f', or drop them: --labels "{option}"'
    return InputError(
        f"{names} {verb} {_rows(count)}: {_LEAST} are needed", where="--data", remedy=remedy
    )


def _too_few_classes(cleaned: CleanedTargets) -> InputError:
    """Return the error about fewer than two classes, with the reasons."""
    names = ", ".join(map(repr, cleaned.counts)) or "not even one"
    causes = cleaned.causes or "the rest repeats others"
    return InputError(
        f"only one class is left of {cleaned.rows:,} rows after cleaning: {names} ({causes})",
        where="--data",
        remedy="bring more rows, or check --text and --label",
    )


def _rows(count: int) -> str:
    if count == 1:
        return "1 usable row"
    return f"{count:,} usable rows"
