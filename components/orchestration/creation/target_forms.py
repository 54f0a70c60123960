"""Recognize targets that no single column holds.

There may be a column of 0 and 1, or a file, for each value of the target.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from components.core.errors import InputError
from components.orchestration.creation.named_input_columns import (
    SoughtTarget,
    named_targets,
    records,
    target_candidates,
)
from components.stages.ingest import source_files
from components.stages.ingest.derived_columns import flag_of
from components.stages.ingest.name_targets import is_target_name
from components.stages.ingest.params import FILE_TARGET, FILE_TARGETS_KEY, ONE_HOT, Files
from components.stages.ingest.sample import ColumnSample, SourceColumns
from components.stages.ingest.source_rows import TABLES

# Rows in which columns of 0 and 1 are compared.
_COMPARED = 20_000
# Names in a message.
_SHOWN = 5
# Spellings of 0 and 1 in one column.
_MOST_SPELLINGS = 4


@dataclass(frozen=True)
class TargetForm:
    """Settings of a source with which one column holds the target.

    Args:
        settings: keys of ingest.source, with their values.
        column: the column that holds the target with these settings.
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


def target_form(
    source: Files, root: Path, seen: SourceColumns, target: SoughtTarget
) -> TargetForm | None:
    """Return how to read a table whose target is not a single column; None where it is one.

    Args:
        source: files of the rows.
        root: of the project.
        seen: the columns of the source.
        target: of the task.

    Raises:
        InputError: the columns of 0 and 1 do not give each row a single value.
    """
    if source.one_hot:
        return TargetForm({}, ONE_HOT, "ingest.source.one_hot is set")
    if source.file_targets:
        return TargetForm({}, FILE_TARGET, f"{FILE_TARGETS_KEY} is set")
    if named_targets(seen, target):
        return None
    flags = [name for name, column in seen.columns.items() if _is_flag(column)]
    candidates = target_candidates(seen)
    if len(flags) > 1:
        counts = _flag_counts(source, root, flags)
        if not counts.several and not counts.none:
            reason = f"in each of {counts.one:,} rows exactly one of them is 1"
            return TargetForm({"one_hot": flags}, ONE_HOT, reason)
        if set(candidates) <= set(flags):
            raise _no_single_target(flags, counts, target)
    values = target_files(source, root, seen)
    if not values:
        return None
    if candidates:
        names = ", ".join(list(values.values())[:_SHOWN])
        seen.notes.append(
            f"the names of the files are not taken for {target.words.values}; "
            f"--{target.role} {FILE_TARGET} takes them: {names}"
        )
        return None
    return TargetForm(file_settings(values), FILE_TARGET, f"no column holds a {target.words.value}")


def file_settings(values: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of a source whose files name the target.

    Args:
        values: file -> value of the target.
    """
    key = FILE_TARGETS_KEY.rpartition(".")[2]
    return {key: dict(values)}


def target_files(source: Files, root: Path, seen: SourceColumns) -> dict[str, str]:
    """Return the target of each table by its file name; nothing where these name no targets.

    Args:
        source: files of the rows.
        root: of the project.
        seen: the columns of the source.
    """
    names = [unit.name for unit in source_files.units(source, root) if unit.format in TABLES]
    values = {name: source_files.table_stem(PurePosixPath(name)) for name in names}
    have_same_columns = len({unit.columns for unit in seen.units}) == 1
    if not have_same_columns or len(set(values.values())) < 2:
        return {}
    if not all(map(is_target_name, values.values())):
        return {}
    return values


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


def _no_single_target(flags: Sequence[str], counts: FlagCounts, target: SoughtTarget) -> InputError:
    """Return the error about columns of 0 and 1 that do not give each row a single value."""
    what = f"the columns {_some(flags)} hold 0 and 1"
    yes_or_no = f"take one of them as a question of yes or no: --{target.role} {flags[0]}"
    if counts.several:
        return InputError(
            f"{what}, and {counts.several:,} rows have a 1 in several of them: "
            f"several {target.words.values} in one row are not learned yet",
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
