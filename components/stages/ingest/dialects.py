"""How a table of text is written: its delimiter, its quotes, and whether its first line names the
columns.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

from components.core.errors import InputError
from components.stages.ingest.columns import Layout
from components.stages.ingest.compressed import open_text
from components.stages.ingest.encodings import detect
from components.stages.ingest.source_rows import Unit

DELIMITERS = ",;\t|"
_WIDEST = 2**31 - 1
_SAMPLE_CHARACTERS = 1 << 20
_SAMPLE_ROWS = 2000
_MOST_TITLES = 10
_TITLE_SAMPLE = 200
_CONSISTENT = 0.9
_SEPARATOR = re.compile(r'"?sep=(.|\\t)"?', re.IGNORECASE)
_MARK = "\ufeff"
# Backslashes before a quote.
_ESCAPES = re.compile(r'(\\+)"')
# More tables of one source are not compared with each other.
_MOST_SHARED = 100
_INVISIBLE = "\ufeff\u200b\u200e\u200f\u2060 \t"
_DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([ T]\d{1,2}:.*)?|https?://\S+")
_WORDS = re.compile(r"[^\W\d_]+")
_DIGITS = re.compile(r"\d+")
# What stands before a value of the target in files of fastText.
FASTTEXT_MARK = "__label__"
# Names that people give to columns. A cell of them is a name, unless the column has it as a value.
_NAMES = """
    id idx index uid uuid guid no number text texts label labels class classes target category
    categories sentiment content contents review reviews sentence sentences title headline body
    comment comments message messages tweet post document doc question answer query utterance intent
    topic tag tags name date time timestamp score rating stars polarity emotion split fold group
    user username author lang language source url link file filename image img path description
    summary subject abstract
    文本 内容 评论 标签 类别 分类 情感 标题 正文 句子 编号 序号 评分 星级 日期 时间 用户 作者 来源 问题 回答 意图
    图片 文件 文件名 描述 摘要
"""
NAMES = frozenset(_NAMES.split())
Verdict = Literal["header", "row", "unclear"]


@dataclass(frozen=True)
class Dialect:
    """How the rows of a table of text are read."""

    encoding: str
    delimiter: str
    quoted: bool
    skip: int  # lines before the first record
    header: bool
    names: tuple[str, ...]  # of the columns
    # Whether a quote inside a quoted text is written as \\", as Spark does.
    escaped: bool = False


def dialect_of(unit: Unit, wanted: Layout | None = None) -> Dialect:
    """Return how a table is written, judged by its first lines.

    Args:
        unit: a CSV or TSV.
        wanted: columns; a first line that has all that must be there is a header.

    Raises:
        InputError: it cannot be decoded, or the names in params do not fit.
    """
    path = unit.paths[0]
    encoding = detect(path, unit.encoding, unit.name)
    csv.field_size_limit(_WIDEST)  # the library stops at 128 KiB, and reports that as an error
    with open_text(path, encoding, unit.name, newline="") as stream:
        head = stream.read(_SAMPLE_CHARACTERS)
    lines = [line.lstrip(_MARK) for line in io.StringIO(head, newline="")]
    skip, separator = _preamble(lines)
    skip += _title_lines(lines[skip:], separator or DELIMITERS)
    body = lines[skip:]
    # The last line of a sample may be cut.
    if len(head) == _SAMPLE_CHARACTERS and len(body) > 1:
        body = body[:-1]
    delimiter = separator or _delimiter(unit, body)
    escaped = _is_escaped(unit, body, separator)
    if escaped:
        body = [doubled_quotes(line) for line in body]
        delimiter = separator or _delimiter(unit, body)
    quoted = unit.format == "csv" or _is_quoted(unit, encoding, delimiter, escaped=escaped)
    records = list(_records(body, delimiter, quoted))
    if not records:
        return Dialect(encoding, delimiter, quoted, skip, header=True, names=())
    first = records[0]
    rows = records[1:]
    header, names = column_names(unit, first, rows, wanted)
    return Dialect(encoding, delimiter, quoted, skip, header, names, escaped and quoted)


def clean_lines(stream: Iterable[str], *, escaped: bool = False) -> Iterator[str]:
    """Yield lines without the byte order marks that concatenated files have inside.

    Args:
        stream: the lines.
        escaped: whether quotes are escaped by backslashes; they are doubled then.
    """
    for line in stream:
        plain = line.lstrip(_MARK)
        if escaped:
            plain = doubled_quotes(plain)
        yield plain


def doubled_quotes(line: str) -> str:
    """Return a line of Spark's CSV with "" in the place of \\".

    Backslashes count in front of a quote alone: two of them are one, and an odd one escapes the
    quote. All others belong to the text.
    """
    if "\\" not in line:
        return line
    return _ESCAPES.sub(_doubled, line)


def _doubled(match: re.Match[str]) -> str:
    """Return a quote behind backslashes as CSV writes it."""
    count = len(match[1])
    quote = '""' if count % 2 else '"'
    return "\\" * (count // 2) + quote


def _is_escaped(unit: Unit, lines: Sequence[str], separator: str | None) -> bool:
    """Return whether a table can be read only if its quotes are escaped by backslashes.

    Args:
        unit: the table.
        lines: its first lines.
        separator: the delimiter that the file names itself; None: it is guessed.
    """
    if not any(_ESCAPES.search(line) for line in lines):
        return False
    doubled = [doubled_quotes(line) for line in lines]
    plain_delimiter = separator or _delimiter(unit, lines)
    doubled_delimiter = separator or _delimiter(unit, doubled)
    plain_errors = _quoting_errors(lines, plain_delimiter)
    doubled_errors = _quoting_errors(doubled, doubled_delimiter)
    return doubled_errors < plain_errors


def _quoting_errors(lines: Sequence[str], delimiter: str) -> int:
    """Return how many records are quoted wrongly, or have more or fewer fields than the first.

    The last record is not looked at: a sample may have cut it.

    Args:
        lines: of the table.
        delimiter: between the fields.
    """
    errors = 0
    width = 0
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return errors
        except csv.Error as error:
            if "end of data" in str(error):
                return errors
            errors += 1
            continue
        width = width or len(record)
        errors += bool(record) and len(record) != width


def with_shared_headers(units: Sequence[Unit]) -> list[Unit]:
    """Return tables where one without a header has the names of those that have one.

    Args:
        units: of one source.

    Returns:
        The units in the same order. A table gets the names only where all headers are equal and
        it has as many columns.
    """
    looked_at = [unit for unit in units if _may_share(unit)]
    if not 2 <= len(looked_at) <= _MOST_SHARED:
        return list(units)
    dialects = {unit.name: dialect_of(unit) for unit in looked_at}
    headers = {each.names for each in dialects.values() if each.header}
    if len(headers) != 1:
        return list(units)
    names = headers.pop()
    shared = []
    for unit in units:
        dialect = dialects.get(unit.name)
        if dialect and not dialect.header and len(dialect.names) == len(names):
            shared.append(replace(unit, header=False, column_names=names))
        else:
            shared.append(unit)
    return shared


def _may_share(unit: Unit) -> bool:
    """Return whether nothing is said yet of the header of a table that is not empty."""
    unsaid = unit.header == "auto" and not unit.column_names
    return unit.format in ("csv", "tsv") and unsaid and unit.paths[0].stat().st_size > 0


def is_title(line: str) -> bool:
    """Return whether a line that was skipped before a table says something.

    Args:
        line: without a record; a blank line and `sep=;` say nothing.
    """
    if not line.strip(_INVISIBLE + "\r\n" + DELIMITERS):
        return False
    content = line.strip(_INVISIBLE + "\r\n")
    return not _SEPARATOR.fullmatch(content)


def title_rows(rows: Sequence[Sequence[str]]) -> int:
    """Return how many rows with one filled cell are above a table: a title, a date, a note.

    A name of a column alone is no title: it is the header of a table of one column.

    Args:
        rows: the first rows of a table.

    Returns:
        At most `_MOST_TITLES`; 0 where the table begins at once.
    """
    filled = [_filled_cells(row) for row in rows]
    start = next((position for position, count in enumerate(filled) if count > 1), 0)
    if not 0 < start <= _MOST_TITLES or len(rows) - start < 2:
        return 0
    cells = chain.from_iterable(rows[:start])
    if any(_plain(cell).casefold() in NAMES for cell in cells):
        return 0
    wide = sum(count > 1 for count in filled[start:])
    return start if wide >= _CONSISTENT * (len(rows) - start) else 0


def _filled_cells(row: Sequence[str]) -> int:
    """Return how many cells of a row are not blank."""
    return sum(bool(cell.strip()) for cell in row)


def _fits(lines: Sequence[str], delimiter: str) -> bool:
    """Return whether the first line has several filled fields, and most lines as many."""
    first = lines[0] if lines else ""
    filled = [cell for cell in first.split(delimiter) if cell.strip()]
    if len(filled) <= 1:
        return False
    return _consistency(lines, delimiter) >= _CONSISTENT


def _title_lines(lines: Sequence[str], delimiters: str) -> int:
    """Return how many lines of a title or of comments come before a table.

    Blank lines after them are included.

    Args:
        lines: of the table, from the first that is not blank.
        delimiters: that are possible.
    """
    first = lines[:_TITLE_SAMPLE]
    # Texts with &amp; inside have a ; too: a first line that fits the rest is no title.
    if any(_fits(first, delimiter) for delimiter in delimiters):
        return 0
    found = 0
    for delimiter in delimiters:
        starts = []
        rows = []
        reader = csv.reader(first, delimiter=delimiter)
        position = 0
        try:
            for row in reader:
                if any(cell.strip() for cell in row):
                    starts.append(position)
                    rows.append([] if row[0].startswith("# ") else row)
                position = reader.line_num
        except csv.Error:
            continue
        count = title_rows(rows)
        widths = {len(row) for row in rows[count:]}
        if count and len(widths) == 1 and max(widths) > 1:
            found = max(found, starts[count])
    return found


def fitted(values: Sequence[str], count: int) -> Sequence[str]:
    """Return a row without the blank fields that delimiters at its end make.

    Args:
        values: fields of a record.
        count: number of columns.
    """
    if len(values) > count and not any(value.strip() for value in values[count:]):
        return values[:count]
    return values


def column_names(
    unit: Unit, first: Sequence[str], rows: Sequence[Sequence[str]], wanted: Layout | None
) -> tuple[bool, tuple[str, ...]]:
    """Return whether the first record is a header, and the names of the columns.

    Args:
        unit: the table.
        first: its first record.
        rows: some of those that follow.
        wanted: columns, as for `dialect_of`.

    Raises:
        InputError: params name another number of columns than there are.

    Returns:
        Whether the first record is a header; one name a column.
    """
    plain = [_plain(cell) for cell in first]
    header = _is_header(unit, plain, rows, wanted)
    if unit.column_names:
        width = len(_without_tail(plain))
        if len(unit.column_names) != width:
            what = (
                f"has {width} columns, but ingest.source.column_names names "
                f"{len(unit.column_names)}"
            )
            raise InputError(what, where=unit.name, remedy="name each column, from left to right")
        return header, unit.column_names
    if not header:
        return False, tuple(f"column_{number}" for number in range(1, len(first) + 1))
    return True, _header_names(plain, rows)


def _is_header(
    unit: Unit, plain: Sequence[str], rows: Sequence[Sequence[str]], wanted: Layout | None
) -> bool:
    """Return whether the first line of a table names its columns.

    Args:
        unit: the table.
        plain: fields of its first record.
        rows: fields of some records after it.
        wanted: columns of the layout, if it is known.
    """
    if unit.header != "auto":
        return unit.header
    if unit.column_names:
        return list(unit.column_names) == list(plain) or header_verdict(plain, rows) == "header"
    required = [column.source for column in wanted.columns if column.must] if wanted else []
    if required and all(name in plain for name in required):
        return True
    return header_verdict(plain, rows) != "row"


def header_verdict(first: Sequence[str], rows: Sequence[Sequence[str]]) -> Verdict:
    """Return whether a record names the columns of those that follow, as far as it can be told.

    A name of a column is none of the column's own values, no number above numbers, and no long
    text.

    Args:
        first: fields of the record.
        rows: fields of some records after it.

    Returns:
        "header", "row", or "unclear" where nothing tells.
    """
    others = [row for row in rows if list(row) != list(first)]
    columns = [_column(others, index) for index in range(len(first))]
    repeated = [
        bool(cell) and cell in set(values) for cell, values in zip(first, columns, strict=True)
    ]
    named = [
        _is_name(cell) and not again and not _is_one_of_a_series(cell, values)
        for cell, again, values in zip(first, repeated, columns, strict=True)
    ]
    if any(named):
        return "header"
    if _is_counted(first):
        return "header"
    # A table of one column has too little to tell a repeated text from a name.
    if any(repeated) and len(first) > 1:
        return "row"
    filled = [list(filter(None, values)) for values in columns]
    pairs = list(zip(first, filled, strict=True))
    if any(_is_number(cell) and _share_of_numbers(values) > 0.8 for cell, values in pairs):
        return "row"
    if any(_DATE.fullmatch(cell) or cell.startswith(FASTTEXT_MARK) for cell in first):
        return "row"
    if any(
        cell and not _is_number(cell) and _share_of_numbers(values) > _CONSISTENT
        for cell, values in pairs
    ):
        return "header"
    # A record with more cells than all others is no row like them.
    is_whole = any(len(row) >= len(first) for row in others)
    if is_whole and any(_is_long(cell, values) for cell, values in pairs):
        return "row"
    return "unclear"


def _column(rows: Sequence[Sequence[str]], index: int) -> list[str]:
    """Return the values of one column; a row that is too short has none."""
    return [_plain(row[index]) for row in rows if index < len(row)]


def _is_name(cell: str) -> bool:
    """Return whether a cell is a name of a column: words for that, or one such word in an
    identifier such as review_text.
    """
    words = [word.casefold() for word in _WORDS.findall(cell)]
    if not words or len(words) > 3 or len(cell) > 30:
        return False
    known = [word in NAMES for word in words]
    return all(known) or (any(known) and " " not in cell)


def _is_one_of_a_series(cell: str, values: Sequence[str]) -> bool:
    """Return whether the values of a column are the cell with other numbers.

    An example is user1 and user2 below user0.
    """
    word = _DIGITS.sub("", cell)
    return word != cell and any(_DIGITS.sub("", value) == word for value in values)


def is_header_line(line: str) -> bool:
    """Return whether a line holds several names of columns and nothing else.

    Args:
        line: of a text, with any of the usual delimiters.
    """
    for mark in DELIMITERS:
        cells = [_plain(cell.strip(' "')) for cell in line.split(mark)]
        if len(cells) > 1 and all(map(_is_name, cells)):
            return True
    return False


def _is_counted(first: Sequence[str]) -> bool:
    """Return whether the cells count from 0, as pandas names columns that have no names."""
    named = list(first)
    if named and not named[0]:
        named.pop(0)
    return len(named) > 1 and named == [str(index) for index in range(len(named))]


def _is_number(cell: str) -> bool:
    """Return whether a cell is a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _share_of_numbers(values: Sequence[str]) -> float:
    """Return the share of values that are numbers."""
    if not values:
        return 0.0
    return sum(map(_is_number, values)) / len(values)


def _is_long(cell: str, values: Sequence[str]) -> bool:
    """Return whether a cell is a text like the others of its column, and longer than names are."""
    if not values:
        return False
    mean = sum(map(_width, values)) / len(values)
    return _width(cell) > 20 and _width(cell) > 0.4 * mean


def _width(text: str) -> int:
    """Return the columns that a text takes on a terminal: a Han character says as much as a few
    letters.
    """
    return sum(
        2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text[:1000]
    )


def _header_names(plain: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the names of a header, with one for each column that has none.

    Args:
        plain: fields of the header.
        rows: fields of some records after it.
    """
    names = _without_tail(plain)
    behind = chain.from_iterable(row[len(names) : len(plain)] for row in rows)
    if any(cell.strip() for cell in behind):
        names = list(plain)
    if _has_row_names(len(names), rows):
        names = ["", *names]
    return tuple(name or f"column_{number}" for number, name in enumerate(names, 1))


def _without_tail(names: Sequence[str]) -> list[str]:
    """Return names without the empty ones at the end."""
    shorter = list(names)
    while shorter and not shorter[-1]:
        shorter.pop()
    return shorter


def _has_row_names(count: int, rows: Sequence[Sequence[str]]) -> bool:
    """Return whether all rows begin with a number of their own that the header does not name, as R
    writes them.
    """
    if len(rows) < 2 or any(len(row) != count + 1 for row in rows):
        return False
    first = [row[0] for row in rows]
    return (
        all(cell.isdecimal() for cell in first)
        and len(set(first)) == len(first)
        and any(row[-1].strip() for row in rows)
    )


def _plain(cell: str) -> str:
    """Return a cell without blanks and invisible characters around it."""
    return cell.strip().strip(_INVISIBLE)


def _preamble(lines: Sequence[str]) -> tuple[int, str | None]:
    """Return how many lines come before the table, and the delimiter that Excel's `sep=` names."""
    skip = _blank(lines, 0)
    if skip < len(lines):
        separator = _SEPARATOR.fullmatch(lines[skip].strip())
        if separator:
            delimiter = separator[1]
            if delimiter == "\\t":
                delimiter = "\t"
            return _blank(lines, skip + 1), delimiter
    return skip, None


def _blank(lines: Sequence[str], start: int) -> int:
    """Return the index of the first line from `start` on that is not blank."""
    index = start
    while index < len(lines) and not lines[index].strip(_INVISIBLE + "\r\n" + DELIMITERS):
        index += 1
    return index


def _delimiter(unit: Unit, lines: Sequence[str]) -> str:
    """Return the delimiter that cuts the first lines into the same number of fields.

    Args:
        unit: the table.
        lines: its first lines.
    """
    head = lines[0] if lines else ""
    if unit.format == "tsv" and "\t" in head:
        return "\t"
    present = sorted(
        (mark for mark in DELIMITERS if mark in head), key=lambda mark: -head.count(mark)
    )
    if not present:
        return "\t" if unit.format == "tsv" else ","
    shares = {mark: _consistency(lines, mark) for mark in present}
    if shares[present[0]] >= _CONSISTENT:
        return present[0]
    return max(present, key=lambda mark: shares[mark])


def _consistency(lines: Sequence[str], delimiter: str) -> float:
    """Return the share of records that have as many fields as the first."""
    records = list(_records(lines, delimiter, quoted=True))
    if not records:
        return 0.0
    full = len(records[0])
    width = len(_without_tail(records[0]))
    alike = 0
    for record in records:
        if len(record) == full or len(_without_tail(record)) == width:
            alike += 1
    return alike / len(records)


def _records(lines: Sequence[str], delimiter: str, quoted: bool) -> Iterator[list[str]]:
    """Yield the first records that are no blank lines; an error ends them."""
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    count = 0
    try:
        for record in csv.reader(lines, delimiter=delimiter, quoting=quoting):
            if any(cell.strip() for cell in record):
                count += 1
                yield record
            if count >= _SAMPLE_ROWS:
                return
    except csv.Error:
        return


def _is_quoted(unit: Unit, encoding: str, delimiter: str, *, escaped: bool) -> bool:
    """Return whether the quotes of a TSV are quotes: many are written without any, and theirs
    belong to the text.

    Args:
        unit: the table.
        encoding: of the file.
        delimiter: between the fields.
        escaped: whether quotes are escaped by backslashes.
    """
    with open_text(unit.paths[0], encoding, unit.name, newline="") as stream:
        try:
            lines = clean_lines(stream, escaped=escaped)
            for _ in csv.reader(lines, delimiter=delimiter, strict=True):
                pass
        except csv.Error:
            return False
    return True
