"""Which columns of a table are meant: by their names, else by what they hold."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.core.errors import GristmillError
from components.stages.ingest import source_files
from components.stages.ingest.columns import Layout, nearest
from components.stages.ingest.params import Files
from components.stages.ingest.sample import ColumnSample, SourceColumns
from components.stages.ingest.source_rows import Record
from components.stages.ingest.stage import read_unit

_FEW = 1_000
_SHORT = 50
_LABELS = (
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
# Words for what comes with a text. Where no other column can be the label, they are not looked at.
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
_CONSTANT = 0.98
_LEAK = 0.98

# question, choices -> the choice; None where nobody can be asked
Ask = Callable[[str, Sequence[str]], str] | None


@dataclass(frozen=True)
class Wanted:
    """The columns that a person named on the command line."""

    text: str | None = None
    label: str | None = None


def choose_columns(
    source: Files,
    root: Path,
    seen: SourceColumns,
    wanted: Layout,
    named: Wanted,
    ask: Ask = None,
) -> dict[str, str]:
    """Return role -> column, for tables; nothing for data whose classes are files or folders.

    Args:
        source: where the rows are.
        root: of the project.
        seen: the columns.
        wanted: the task's columns under their own names.
        named: columns that are not to be guessed.
        ask: a person, where a guess would be a gamble.

    Raises:
        GristmillError: no such column, or a gamble and nobody to ask.
    """
    if not seen.is_table:
        if named.text or named.label:
            raise GristmillError(
                "names a column, but these data have none: a file or folder is a class",
                where="--text" if named.text else "--label",
                remedy="leave it out",
            )
        return {}
    for option, column in (("--text", named.text), ("--label", named.label)):
        if column is not None and column not in seen.columns:
            raise GristmillError(
                f"there is no column {column!r}{nearest(column, seen.columns)}",
                where=option,
                remedy=f"take one of: {', '.join(map(repr, seen.columns))}",
            )
    columns = {}
    if wanted.target is not None:
        role = wanted.target.name
        candidates = [named.label] if named.label else _labels(seen, role, named.text)
        if len(candidates) == 2 and _say_the_same(source, root, candidates):
            candidates = [_in_words(seen, candidates)]
        free = _free(seen, [named.text] if named.text else [])
        columns[role] = _only(candidates, free, "--label", "the label", ask)
    used = list(columns.values())
    inputs = [named.text] if named.text else _inputs(seen, wanted, used)
    if wanted.input.type == pa.binary() and not inputs:
        raise GristmillError(
            f"no column of this table holds pictures: there are {_first_names(seen)}",
            where="--data",
            remedy="give the folder that holds the table and the pictures that it names, "
            "Parquet with the bytes of pictures, or a folder for each class",
        )
    what = f"the {wanted.input.name}"
    column = _only(inputs, _free(seen, used), "--text", what, ask)
    return {wanted.input.name: column, **columns}


def _first_names(seen: SourceColumns) -> str:
    names = list(seen.columns)
    more = f" and {len(names) - 10:,} more" if len(names) > 10 else ""
    return f"{', '.join(map(repr, names[:10]))}{more}"


def _free(seen: SourceColumns, used: Collection[str]) -> dict[str, ColumnSample]:
    # An id may be the name of a picture.
    hidden = {
        name for name in _NO_INPUT if name in seen.columns and not seen.columns[name].is_picture
    }
    return {
        name: column
        for name, column in seen.columns.items()
        if name not in hidden and name not in used
    }


def is_class_like(column: ColumnSample) -> bool:
    """Return whether a column holds a few short values that come again and again."""
    if column.overflow or column.long or column.mean > _SHORT:
        return False
    return 2 <= column.distinct <= min(_FEW, column.filled / 2)


def _labels(seen: SourceColumns, role: str, text: str | None) -> list[str]:
    """Return the columns that may hold the label."""
    named = named_labels(seen, role, text)
    if named:
        return named
    could_be = _class_like(seen, text)
    likely = _likely(could_be)
    if len(likely) == 1 < len(could_be):
        others = ", ".join(repr(name) for name in could_be if name not in likely)
        seen.notes.append(
            f"{likely[0]!r} is taken for the label; --label COLUMN names another: {others}"
        )
    return likely


def named_labels(seen: SourceColumns, role: str, text: str | None = None) -> list[str]:
    """Return the columns whose names say that they hold the label.

    Args:
        seen: the columns.
        role: the name of the task's target.
        text: the column of the input, where it is known.
    """
    free = _free(seen, [text] if text else [])
    if role in free:
        return [role]
    short = {name: column for name, column in free.items() if column.values and not column.long}
    for tier in _LABELS:
        named = [name for name in short if name.casefold() in tier]
        if named:
            return named
    return []


def label_candidates(seen: SourceColumns) -> list[str]:
    """Return the columns that may hold the label, by what they hold."""
    return _likely(_class_like(seen, None))


def _class_like(seen: SourceColumns, text: str | None) -> dict[str, ColumnSample]:
    free = _free(seen, [text] if text else [])
    return {name: column for name, column in free.items() if is_class_like(column)}


def _likely(columns: Mapping[str, ColumnSample]) -> list[str]:
    """Return the columns that are no links, mostly filled, and not named as what comes with a text.

    A rule that leaves no column is not followed.
    """
    rules: list[Callable[[ColumnSample], bool]] = [
        lambda column: not any(value.startswith(_LINKS) for value in column.values),
        lambda column: column.filled * 2 > fullest,
        lambda column: not _is_metadata(column),
    ]
    fullest = max((column.filled for column in columns.values()), default=0)
    left = dict(columns)
    for rule in rules:
        left = {name: column for name, column in left.items() if rule(column)} or left
    return list(left)


def _is_metadata(column: ColumnSample) -> bool:
    """Return whether a column is named as what comes with texts, or says yes or no to a question."""
    words = [word.casefold() for word in _NAME_WORDS.findall(column.name)]
    if words and words[0] in ("is", "has"):
        return True
    return not _METADATA.isdisjoint(words)


def _inputs(seen: SourceColumns, wanted: Layout, used: Collection[str]) -> list[str]:
    """Return the columns that may hold the input: the longest, and those nearly as long."""
    kind = wanted.input.type
    free = {name: each for name, each in _free(seen, used).items() if each.kind == kind}
    if wanted.input.name in free:
        return [wanted.input.name]
    longest = max((column.mean for column in free.values()), default=0.0)
    alike = [name for name, column in free.items() if column.mean > 0.7 * longest]
    return sorted(alike, key=lambda name: -free[name].mean)


def _only(
    candidates: Sequence[str],
    free: Collection[str],
    option: str,
    what: str,
    ask: Ask,
) -> str:
    """Return the one candidate; of several, the one that a person chooses."""
    if len(candidates) == 1:
        return candidates[0]
    choices = list(candidates or free)
    if ask is not None and choices:
        return ask(f"which column holds {what}?", choices)
    if candidates:
        could = f"{what} could be {' or '.join(map(repr, candidates))}"
        raise GristmillError(could, where="--data", remedy=f"say which: {option} COLUMN")
    reason = ": no column is left for it"
    if choices:
        reason = f": there are {', '.join(map(repr, choices))}"
    raise GristmillError(
        f"which column holds {what} cannot be told{reason}",
        where="--data",
        remedy=f"say which: {option} COLUMN",
    )


def _say_the_same(source: Files, root: Path, columns: Sequence[str]) -> bool:
    """Return whether each value of one column goes with one value of the other."""
    pairs = Counter[tuple[str, str]]()
    for values in records(source, root, _COMPARED):
        one, other = (str(values.get(name, "")).strip() for name in columns)
        pairs[one, other] += 1
    firsts = {one for one, _ in pairs}
    seconds = {other for _, other in pairs}
    return len(firsts) == len(seconds) == len(pairs)


def _in_words(seen: SourceColumns, columns: Sequence[str]) -> str:
    """Return the column of words, of two that say the same; else the first."""
    words = [name for name in columns if not seen.columns[name].is_numeric]
    return words[0] if words else columns[0]


def records(source: Files, root: Path, most: int) -> Iterator[Mapping[str, Any]]:
    """Yield the first records of tables, under the names of the source."""
    anything = Layout([], 2**31)
    for unit in source_files.units(source, root):
        for item in islice(read_unit(unit, anything, set()), most):
            most -= 1
            if isinstance(item, Record):
                yield item.values
        if most <= 0:
            return


def column_notes(source: Files, root: Path, seen: SourceColumns, wanted: Layout) -> dict[str, str]:
    """Return what a person should know of some columns: constant ones, and copies of the target.

    Args:
        source: where the rows are.
        root: of the project.
        seen: the columns.
        wanted: the task's columns under the source's names.
    """
    notes = {}
    for name, column in seen.columns.items():
        value, count = column.values.most_common(1)[0] if column.values else ("", 0)
        if column.filled and count / column.filled >= _CONSTANT and column.filled > 1:
            notes[name] = f"nearly always {value!r}" if column.distinct > 1 else "always the same"
    if wanted.target is None or wanted.target.source not in seen.columns:
        return notes
    label = wanted.target.source
    inputs = [column.source for column in wanted.columns if column.role == "input"]
    class_like = [name for name, column in seen.columns.items() if is_class_like(column)]
    others = [name for name in class_like if name != label and name not in notes]
    for name, share in _shares(source, root, label, others).items():
        if share < _LEAK:
            continue
        outcome = "as an input it gives the label away" if name in inputs else "not an input"
        notes[name] = f"tells the label in {share:.0%} of the rows; {outcome}"
    return notes


def _shares(source: Files, root: Path, label: str, others: Sequence[str]) -> dict[str, float]:
    """Return the share of rows whose label is the most frequent one for their value."""
    if not others:
        return {}
    pairs = {name: Counter[tuple[str, str]]() for name in others}
    rows = Counter[str]()
    labels = Counter[str]()
    for values in records(source, root, _COMPARED):
        target = str(values.get(label, "")).strip()
        labels[target] += 1
        for name in others:
            value = str(values.get(name, "")).strip()
            rows[name] += 1
            pairs[name][value, target] += 1
    shares = {}
    for name, counts in pairs.items():
        best: dict[str, int] = {}
        for (value, _), count in counts.items():
            best[value] = max(best.get(value, 0), count)
        shares[name] = sum(best.values()) / max(rows[name], 1)
    # Where nearly all rows have one label, any column tells it.
    if labels and labels.most_common(1)[0][1] / labels.total() > 1 - 2 * (1 - _LEAK):
        return {}
    return shares
