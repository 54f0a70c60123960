"""Recognize labels that no single column holds.

There may be a column of 0 and 1 for each class, or a file for each class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from components.core.errors import InputError
from components.orchestration.creation.column_guess import label_candidates, named_labels, records
from components.stages.ingest import source_files
from components.stages.ingest.derived_columns import flag_of
from components.stages.ingest.name_targets import is_target_name
from components.stages.ingest.params import FILE_TARGET, ONE_HOT, Files
from components.stages.ingest.sample import ColumnSample, SourceColumns
from components.stages.ingest.source_rows import TABLES

# Rows in which columns of 0 and 1 are compared.
_COMPARED = 20_000
# Names in a message.
_SHOWN = 5
# Spellings of 0 and 1 in one column.
_MOST_SPELLINGS = 4


@dataclass(frozen=True)
class LabelForm:
    """Settings of a source with which one column holds the label.

    Args:
        settings: keys of ingest.source, with their values.
        column: the column that holds the label with these settings.
        reason: a few words, for a comment.
    """

    settings: Mapping[str, Any]
    column: str
    reason: str


@dataclass
class FlagCounts:
    """Numbers of rows with a 1 in one of some columns, in several, and in none."""

    one: int = 0
    several: int = 0
    none: int = 0


def label_form(source: Files, root: Path, seen: SourceColumns, role: str) -> LabelForm | None:
    """Return how to read a table whose label is not a single column; None where it is one.

    Args:
        source: files of the rows.
        root: of the project.
        seen: the columns of the source.
        role: the name of the task's target.

    Raises:
        InputError: the columns of 0 and 1 do not give each row a single label.
    """
    if source.one_hot:
        return LabelForm({}, ONE_HOT, "ingest.source.one_hot is set")
    if source.classes:
        return LabelForm({}, FILE_TARGET, "ingest.source.classes is set")
    if named_labels(seen, role):
        return None
    flags = [name for name, column in seen.columns.items() if _is_flag(column)]
    candidates = label_candidates(seen)
    if len(flags) > 1:
        counts = _flag_counts(source, root, flags)
        if not counts.several and not counts.none:
            reason = f"in each of {counts.one:,} rows exactly one of them is 1"
            return LabelForm({"one_hot": flags}, ONE_HOT, reason)
        if set(candidates) <= set(flags):
            raise _no_single_label(flags, counts)
    classes = class_files(source, root, seen)
    if not classes:
        return None
    if candidates:
        names = ", ".join(list(classes.values())[:_SHOWN])
        seen.notes.append(
            f"the names of the files are not taken for labels; --label {FILE_TARGET} takes them: "
            f"{names}"
        )
        return None
    return LabelForm({"classes": classes}, FILE_TARGET, "no column holds a label")


def class_files(source: Files, root: Path, seen: SourceColumns) -> dict[str, str]:
    """Return the class of each table by its file name; nothing where these name no classes.

    Args:
        source: files of the rows.
        root: of the project.
        seen: the columns of the source.
    """
    names = [unit.name for unit in source_files.units(source, root) if unit.format in TABLES]
    labels = {name: source_files.table_stem(PurePosixPath(name)) for name in names}
    have_same_columns = len({unit.columns for unit in seen.units}) == 1
    if not have_same_columns or len(set(labels.values())) < 2:
        return {}
    if not all(map(is_target_name, labels.values())):
        return {}
    return labels


def _is_flag(column: ColumnSample) -> bool:
    """Return whether a column holds both 0 and 1, or both true and false, and nothing else."""
    if column.overflow or column.long or not column.values:
        return False
    if len(column.values) > _MOST_SPELLINGS:
        return False
    flags = {flag_of(value) for value in column.values}
    return flags == {True, False}


def _flag_counts(source: Files, root: Path, flags: Sequence[str]) -> FlagCounts:
    """Count the rows with a 1 in one, several and none of the columns."""
    counts = FlagCounts()
    for values in records(source, root, _COMPARED):
        ones = sum(flag_of(values.get(name)) is True for name in flags)
        if ones == 1:
            counts.one += 1
        elif ones:
            counts.several += 1
        else:
            counts.none += 1
    return counts


def _no_single_label(flags: Sequence[str], counts: FlagCounts) -> InputError:
    """Return the error about columns of 0 and 1 that do not give each row a single label."""
    what = f"the columns {_some(flags)} hold 0 and 1"
    yes_or_no = f"take one of them as a question of yes or no: --label {flags[0]}"
    if counts.several:
        return InputError(
            f"{what}, and {counts.several:,} rows have a 1 in several of them: "
            "several labels in one row are not learned yet",
            where="--data",
            remedy=yes_or_no,
        )
    listed = ", ".join(flags)
    return InputError(
        f"{what}, and {counts.none:,} of {counts.none + counts.one:,} rows have a 1 in none",
        where="--data",
        remedy=f"{yes_or_no}; or leave these rows out: --set 'ingest.source.one_hot=[{listed}]'",
    )


def _some(names: Iterable[str]) -> str:
    """Return the first names for a message, and the number of the others."""
    quoted = [repr(name) for name in names]
    text = ", ".join(quoted[:_SHOWN])
    if len(quoted) > _SHOWN:
        text += f" and {len(quoted) - _SHOWN:,} more"
    return text
