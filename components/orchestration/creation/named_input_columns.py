"""Choose the columns of a table: by their names, else by their content."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.core.errors import GristmillError
from components.fields.base import Reject
from components.fields.moment import guess_order, parse_moment
from components.stages.ingest import source_files
from components.stages.ingest.columns import Layout, nearest
from components.stages.ingest.params import Files
from components.stages.ingest.sample import ColumnSample, SourceColumns
from components.stages.ingest.source_rows import Record
from components.stages.ingest.stage import read_unit
from components.tasks.base import TargetWords

# Most distinct values of a column that may hold names of targets.
_MOST_NAMES = 1_000
# Most characters of a name, on average.
_NAME_LENGTH = 50
# Words in the names of metadata. They do not count where no other column can be the target.
_METADATA_WORDS = """
    language lang locale country place location city region source client device platform url link
    episode season chapter page section year month day weekday hour date time version
    语言 国家 地点 城市 来源 平台 章节 页码 年 月 日 日期
"""
_METADATA = frozenset(_METADATA_WORDS.split())
_NAME_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_a-zA-Z]+")
_LINKS = ("http://", "https://", "www.")
_NO_INPUT = ("id", "group", "split")
# Rows in which pairs of columns are compared.
_COMPARED = 20_000
# Share of rows from which a column counts as constant.
_CONSTANT = 0.98
# Share of rows from which a column determines the target.
_LEAK = 0.98
# Length of an input column, as a share of the longest one.
_INPUT_LENGTH = 0.7
# The same of a column that may have been meant, and is named.
_OTHER_LENGTH = 0.2
# Columns that a message names.
_SHOWN = 10
_LISTED = 100

# question, choices -> the choice; None without a person to ask
AskChoice = Callable[[str, Sequence[str]], str] | None


@dataclass(frozen=True)
class NamedColumns:
    """The columns that a person names on the command line."""

    text: str | None = None
    target: str | None = None


@dataclass(frozen=True)
class SoughtTarget:
    """The target of a task.

    Args:
        role: its name.
        names: of columns that hold it, in lower case; the first ones count more.
        words: for messages.
    """

    role: str
    names: Sequence[Collection[str]]
    words: TargetWords


def choose_columns(
    source: Files,
    root: Path,
    seen: SourceColumns,
    wanted: Layout,
    named: NamedColumns,
    target: SoughtTarget,
    ask: AskChoice = None,
) -> dict[str, str]:
    """Choose the columns of the input and the target: role -> column.

    The result is empty for data whose targets are files or folders.

    Args:
        source: files of the rows.
        root: of the project.
        seen: the columns of the source.
        wanted: the columns of the task, under the names of the roles.
        named: columns that are not guessed.
        target: of the task.
        ask: asks a person, where a guess would be uncertain.

    Raises:
        GristmillError: there is no such column, or a guess is uncertain and nobody can be asked.
    """
    role = target.role
    category = target.words.category
    if not seen.is_table:
        if named.text or named.target:
            raise GristmillError(
                f"names a column, but these data have none: a file or folder is a {category}",
                where="--text" if named.text else f"--{role}",
                remedy="leave it out",
            )
        return {}
    for option, column in (("--text", named.text), (f"--{role}", named.target)):
        if column is not None:
            check_column(column, seen, option)
    columns = {}
    if wanted.target is not None:
        columns[role] = _choose_target(source, root, seen, target, named, ask)
    used = list(columns.values())
    inputs = [named.text] if named.text else _inputs(seen, wanted, used)
    if wanted.input.type == pa.binary() and not inputs:
        raise GristmillError(
            f"no column of this table holds pictures: there are {first_names(seen)}",
            where="--data",
            remedy="give the folder that holds the table and the pictures that it names, "
            f"Parquet with the bytes of pictures, or a folder for each {category}",
        )
    what = f"the {wanted.input.name}"
    column = only_column(inputs, _free(seen, used), "--text", what, ask)
    return {wanted.input.name: column, **columns}


def check_column(column: str, seen: SourceColumns, option: str) -> None:
    """Raise a GristmillError if a column does not exist.

    Args:
        column: that a person names.
        seen: the columns of the source.
        option: that names it.
    """
    if column not in seen.columns:
        raise GristmillError(
            f"there is no column {column!r}{nearest(column, seen.columns)}",
            where=option,
            remedy=f"take one of: {first_names(seen, _LISTED)}",
        )


def _choose_target(
    source: Files,
    root: Path,
    seen: SourceColumns,
    target: SoughtTarget,
    named: NamedColumns,
    ask: AskChoice,
) -> str:
    """Return the column of the target.

    Raises:
        GristmillError: a guess is uncertain and nobody can be asked.
    """
    candidates = [named.target] if named.target else _likely_targets(seen, target, named.text)
    if len(candidates) == 2 and _map_one_to_one(source, root, candidates):
        candidates = [_in_words(seen, candidates)]
    free = _free(seen, _named_text(named.text))
    return only_column(candidates, free, f"--{target.role}", f"the {target.role}", ask)


def _named_text(text: str | None) -> list[str]:
    return [text] if text else []


def first_names(seen: SourceColumns, shown: int = _SHOWN) -> str:
    """Return the first columns for a message, and the number of the others.

    Args:
        seen: the columns of the source.
        shown: number of the first columns.
    """
    return listed(list(seen.columns), shown)


def listed(names: Sequence[str], shown: int) -> str:
    """Return the first names for a message, and the number of the others."""
    text = ", ".join(map(repr, names[:shown]))
    if len(names) > shown:
        text += f" and {len(names) - shown:,} more"
    return text


def _free(seen: SourceColumns, used: Collection[str]) -> dict[str, ColumnSample]:
    """Return the columns that are not used yet and that may hold an input or a target."""
    free = {}
    for name, column in seen.columns.items():
        # An id may be the name of a picture.
        is_hidden = name in _NO_INPUT and not column.is_picture
        if not is_hidden and name not in used:
            free[name] = column
    return free


def has_few_names(column: ColumnSample) -> bool:
    """Return whether a column holds few short values, which occur again and again.

    Args:
        column: of the source.
    """
    if column.overflow or column.long or column.mean > _NAME_LENGTH:
        return False
    return 2 <= column.distinct <= min(_MOST_NAMES, column.filled / 2)


def _likely_targets(seen: SourceColumns, target: SoughtTarget, text: str | None) -> list[str]:
    """Return the columns that may hold the target."""
    named = named_targets(seen, target, text)
    if named:
        return named
    possible = _with_few_names(seen, text)
    likely = _likely(possible)
    if len(likely) == 1 < len(possible):
        others = ", ".join(repr(name) for name in possible if name not in likely)
        seen.notes.append(
            f"{likely[0]!r} is taken for the {target.role}; "
            f"--{target.role} COLUMN names another: {others}"
        )
    return likely


def named_targets(seen: SourceColumns, target: SoughtTarget, text: str | None = None) -> list[str]:
    """Return the columns that hold the target according to their names.

    Args:
        seen: the columns of the source.
        target: of the task.
        text: the column of the input, where a person names it.
    """
    free = _free(seen, _named_text(text))
    if target.role in free:
        return [target.role]
    short = {name: column for name, column in free.items() if column.values and not column.long}
    for names in target.names:
        named = [name for name in short if name.casefold() in names]
        if named:
            return named
    return []


def target_candidates(seen: SourceColumns) -> list[str]:
    """Return the columns that may hold the target according to their content.

    Args:
        seen: the columns of the source.
    """
    return _likely(_with_few_names(seen, None))


def _with_few_names(seen: SourceColumns, text: str | None) -> dict[str, ColumnSample]:
    free = _free(seen, _named_text(text))
    return {name: column for name, column in free.items() if has_few_names(column)}


def _likely(columns: Mapping[str, ColumnSample]) -> list[str]:
    """Return the columns that hold no links and no dates, are mostly filled and no metadata.

    Those with the fewest names come first. A rule that leaves no column is skipped.
    """
    rules: list[Callable[[ColumnSample], bool]] = [
        lambda column: not any(value.startswith(_LINKS) for value in column.values),
        lambda column: column.filled * 2 > fullest,
        lambda column: not _is_metadata(column),
        lambda column: not _holds_dates(column),
    ]
    fullest = max((column.filled for column in columns.values()), default=0)
    remaining = dict(columns)
    for rule in rules:
        matches = {name: column for name, column in remaining.items() if rule(column)}
        remaining = matches or remaining
    return sorted(remaining, key=lambda name: remaining[name].distinct)


def _holds_dates(column: ColumnSample) -> bool:
    """Return whether all values of a column are dates."""
    if column.is_numeric:
        return False
    order, _ = guess_order(column.values)
    try:
        moments = [parse_moment(value, order) for value in column.values]
    except Reject:
        return False
    return any(moment is not None for moment in moments)


def _is_metadata(column: ColumnSample) -> bool:
    """Return whether a column is named as metadata, or as the answer to a question."""
    words = [word.casefold() for word in _NAME_WORDS.findall(column.name)]
    if words and words[0] in ("is", "has"):
        return True
    return not _METADATA.isdisjoint(words)


def _inputs(seen: SourceColumns, wanted: Layout, used: Collection[str]) -> list[str]:
    """Return the columns that may hold the input: the longest, and those nearly as long."""
    free = {}
    for name, column in _free(seen, used).items():
        if column.kind == wanted.input.type:
            free[name] = column
    if wanted.input.name in free:
        return [wanted.input.name]
    longest = max((column.mean for column in free.values()), default=0.0)
    long = [name for name, column in free.items() if column.mean > _INPUT_LENGTH * longest]
    texts = [name for name in free if name not in long and not has_few_names(free[name])]
    others = [name for name in texts if free[name].mean > _OTHER_LENGTH * longest]
    if len(long) == 1 and others:
        seen.notes.append(
            f"{long[0]!r} has the longest texts and is taken for the {wanted.input.name}; "
            f"--text COLUMN names another: {', '.join(map(repr, others))}"
        )
    return sorted(long, key=lambda name: -free[name].mean)


def only_column(
    candidates: Sequence[str],
    free: Collection[str],
    option: str,
    what: str,
    ask: AskChoice,
) -> str:
    """Return the only candidate, or the one that a person chooses.

    Args:
        candidates: likely columns.
        free: columns to choose from, where there is no candidate.
        option: the option that names the column.
        what: the content of the column, for a message.
        ask: asks a person; None: nobody can be asked.

    Raises:
        GristmillError: there is not exactly one candidate, and nobody can be asked.
    """
    if len(candidates) == 1:
        return candidates[0]
    choices = list(candidates or free)
    if ask is not None and choices:
        return ask(f"which column holds {what}?", choices)
    if candidates:
        names = " or ".join(map(repr, candidates))
        raise GristmillError(
            f"{what} could be {names}", where="--data", remedy=f"say which: {option} COLUMN"
        )
    reason = ": no column is left for it"
    if choices:
        reason = f": there are {listed(choices, _LISTED)}"
    raise GristmillError(
        f"which column holds {what} cannot be told{reason}",
        where="--data",
        remedy=f"say which: {option} COLUMN",
    )


def _map_one_to_one(source: Files, root: Path, columns: Sequence[str]) -> bool:
    """Return whether each value of one column occurs with one value of the other."""
    pairs: set[tuple[str, str]] = set()
    for values in records(source, root, _COMPARED):
        first, second = (str(values.get(name, "")).strip() for name in columns)
        pairs.add((first, second))
    firsts = {first for first, _ in pairs}
    seconds = {second for _, second in pairs}
    return len(firsts) == len(seconds) == len(pairs)


def _in_words(seen: SourceColumns, columns: Sequence[str]) -> str:
    """Return the first column that holds words, else the first column."""
    for name in columns:
        if not seen.columns[name].is_numeric:
            return name
    return columns[0]


def records(source: Files, root: Path, most: int) -> Iterator[Mapping[str, Any]]:
    """Yield the first records of tables, under the column names of the source.

    Args:
        source: files of the rows.
        root: of the project.
        most: number of records and refused rows that are read.
    """
    any_columns = Layout([], 2**31)
    for unit in source_files.units(source, root):
        for item in islice(read_unit(unit, any_columns, set()), most):
            most -= 1
            if isinstance(item, Record):
                yield item.values
        if most <= 0:
            return


def column_notes(
    source: Files, root: Path, seen: SourceColumns, wanted: Layout, value: str
) -> dict[str, str]:
    """Return remarks about columns that are constant, or that determine the target.

    Args:
        source: files of the rows.
        root: of the project.
        seen: the columns of the source.
        wanted: the columns of the task, under the names of the source.
        value: what a target is called.
    """
    notes = _constant_notes(seen)
    if wanted.target is None or wanted.target.source not in seen.columns:
        return notes
    target = wanted.target.source
    inputs = [column.source for column in wanted.columns if column.role == "input"]
    with_few_names = [name for name, column in seen.columns.items() if has_few_names(column)]
    others = [name for name in with_few_names if name != target and name not in notes]
    for name, share in _shares(source, root, target, others).items():
        if share < _LEAK:
            continue
        outcome = f"as an input it gives the {value} away" if name in inputs else "not an input"
        # Rounded down, so that nearly all rows are not called all.
        percent = math.floor(share * 100)
        notes[name] = f"tells the {value} in {percent}% of the rows; {outcome}"
    return notes


def _constant_notes(seen: SourceColumns) -> dict[str, str]:
    """Return a remark about each column with nearly the same value in all rows."""
    notes = {}
    for name, column in seen.columns.items():
        if not column.values or column.filled <= 1:
            continue
        value, count = column.values.most_common(1)[0]
        if count / column.filled < _CONSTANT:
            continue
        notes[name] = "the same in all rows with a value"
        if column.distinct > 1:
            notes[name] = f"nearly always {value!r}"
    return notes


def _shares(
    source: Files,
    root: Path,
    target: str,
    others: Sequence[str],
) -> dict[str, float]:
    """Return the share of rows whose target is the most frequent one for their value.

    Args:
        source: files of the rows.
        root: of the project.
        target: the column of the target.
        others: the columns to measure.

    Returns:
        Column -> share; nothing where nearly all rows have one target.
    """
    if not others:
        return {}
    pairs = {name: Counter[tuple[str, str]]() for name in others}
    rows = Counter[str]()
    targets = Counter[str]()
    for values in records(source, root, _COMPARED):
        value_of_target = str(values.get(target, "")).strip()
        targets[value_of_target] += 1
        for name in others:
            value = str(values.get(name, "")).strip()
            rows[name] += 1
            pairs[name][value, value_of_target] += 1
    if targets:
        _, most = targets.most_common(1)[0]
        # Where nearly all rows have one target, any column determines it.
        if most / targets.total() > 1 - 2 * (1 - _LEAK):
            return {}
    return {name: _majority(counts) / max(rows[name], 1) for name, counts in pairs.items()}


def _majority(pairs: Mapping[tuple[str, str], int]) -> int:
    """Return the number of rows whose target is the most frequent one for their value.

    Args:
        pairs: value and target -> rows.
    """
    most: dict[str, int] = {}
    for (value, _), count in pairs.items():
        most[value] = max(most.get(value, 0), count)
    return sum(most.values())
