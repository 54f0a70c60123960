"""The columns that a task wants, where a source has them, and how a source's values become theirs."""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import pyarrow as pa

from components.core.errors import InputError, ParamsError
from components.fields.base import Reject
from components.stages.ingest.splits import CANONICAL
from components.tasks.base import Role

# Where a record has the bytes of the picture that a column names; no column of a file has such a name.
PICTURE = "\0picture"
# Bytes of one value where params.yaml states no limit: photos of 100 megapixels fit.
_LONGEST_TEXT = 200_000
_LARGEST_BINARY = 100_000_000
_NOTHING = frozenset({"", "nan", "<na>", "null"})
_JOINERS = "\u200c\u200d"
# Not of the categories of invisible characters: a grapheme joiner, fillers of Hangul, variation selectors.
_BLANK = frozenset("\u034f\u115f\u1160\u3164\uffa0\u2800\ufe0e\ufe0f")
# A list of labels as text, as a CSV holds it: ['a', 'b'].
_ITEM = re.compile(r"""'[^']*'|"[^"]*\"""")
_LISTED = re.compile(rf"\s*\[\s*(?:{_ITEM.pattern})(?:\s*,\s*(?:{_ITEM.pattern}))*\s*\]\s*")
_WHOLE = re.compile(r"([+-]?\d+)\.0+")


def nearest(name: str, names: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or nothing."""
    folded = {each.casefold(): each for each in names}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.5)
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""


@dataclass(frozen=True)
class LabelRules:
    """What becomes of a label: `ingest.labels` and `ingest.label_case`."""

    renames: Mapping[str, str | None]  # as in params.yaml
    fold: bool  # capital letters are small ones

    def apply(self, label: str) -> str | None:
        """Return the label of a plain label; None where the map says that it is none."""
        renames = self._plain
        known = label if label in renames else self._cased(label)
        if known in renames:
            renamed = renames[known]
            return None if renamed is None else self._cased(renamed)
        return self._cased(label)

    def _cased(self, label: str) -> str:
        return label.casefold() if self.fold else label

    @cached_property
    def _plain(self) -> Mapping[str, str | None]:
        """The map between plain labels; an exact name comes before one in another case."""
        plain = {
            _whole(plain_label(old)): plain_label(new or "") or None
            for old, new in self.renames.items()
        }
        if not self.fold:
            return plain
        return {old.casefold(): new for old, new in plain.items()} | plain


@dataclass(frozen=True)
class Column:
    """One column of the raw table."""

    name: str
    source: str  # its name in the source
    type: pa.DataType
    role: Literal["id", "input", "target", "group", "time", "meta", "split"]
    must: bool  # absent in the source: an error
    labels: LabelRules | None = None  # of the target

    def convert(self, value: Any, limit: int) -> Any:
        """A source's value as this column's; None when there is none.

        Raises:
            Reject: the value cannot be this column's, or is longer than `limit` bytes.
        """
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        if self.role == "target" and isinstance(value, str) and _LISTED.fullmatch(value):
            value = [item[1:-1] for item in _ITEM.findall(value)]
        if self.role == "target" and isinstance(value, (list, tuple)):
            return self.convert(_only_label(value), limit)
        if pa.types.is_string(self.type):
            return self._word(_bounded(_text(value), limit))
        if pa.types.is_binary(self.type):
            return _bounded(_bytes(value), limit) or None
        if isinstance(value, str) and is_nothing(value):
            return None
        try:
            return pa.scalar(value).cast(self.type).as_py()
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise Reject(f"{self.name}_not_{self.type}", str(error)) from None

    def _word(self, text: str) -> str | None:
        if is_nothing(text):
            return None
        if self.role in ("input", "meta"):
            return text
        word = text.strip() if self.labels is None else plain_label(text)
        if is_nothing(word):
            return None
        word = _whole(word)
        if self.role == "target" and self.labels is not None:
            return self.labels.apply(word)
        if self.role != "split":
            return word
        if word.casefold() not in CANONICAL:
            raise Reject("unknown_split", word)
        return CANONICAL[word.casefold()]


@dataclass(frozen=True)
class Layout:
    """All columns of the raw table but `origin`, which every source has."""

    columns: Sequence[Column]
    limit: int  # bytes of one value

    @property
    def input(self) -> Column:
        """The task's first input."""
        return next(column for column in self.columns if column.role == "input")

    @property
    def target(self) -> Column | None:
        """What is to be learned."""
        return next((column for column in self.columns if column.role == "target"), None)

    @property
    def schema(self) -> pa.Schema:
        """Of the raw table."""
        return pa.schema(
            [(column.name, column.type) for column in self.columns] + [("origin", pa.string())]
        )

    def values(self, value: Any, label: str | list[str] | None) -> dict[str, Any]:
        """A record of a source that has one input and its class, and no column names."""
        return {self.input.source: value, **({self.target.source: label} if self.target else {})}

    def row(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The raw row of a record.

        Raises:
            Reject: an input is missing, or a value cannot be used.
        """
        row = {
            column.name: column.convert(self._value(column, values), self.limit)
            for column in self.columns
        }
        for column in self.columns:
            if row[column.name] is None and column.role == "input" and column.must:
                raise Reject(f"no_{column.name}")
        return row

    def _value(self, column: Column, values: Mapping[str, Any]) -> Any:
        """Return a column's value; of one that names pictures, the picture, while others may read the name."""
        if column.role == "input" and PICTURE in values:
            return values[PICTURE]
        return values.get(column.source)

    def check(self, found: Iterable[str], where: str) -> None:
        """Compare with the columns that a source has.

        Raises:
            InputError: one is absent or ambiguous; says which exist, the nearest, and which setting names it.
        """
        names = list(found)
        for column in self.columns:
            if column.must and column.source not in names:
                known = ", ".join(map(repr, names[:30])) or "none"
                what = f"has no column {column.source!r}{nearest(column.source, names)}; its columns: {known}"
                raise InputError(
                    what,
                    where=where,
                    remedy=f"set ingest.columns.{column.name} to the column that holds the {column.name}",
                )
            if names.count(column.source) > 1:
                raise InputError(
                    f"has {names.count(column.source)} columns named {column.source!r}",
                    where=where,
                    remedy="rename all but one",
                )


def _whole(word: str) -> str:
    """Return a whole number without the .0 that pandas writes where a column has a NaN."""
    whole = _WHOLE.fullmatch(word)
    return whole[1] if whole else word


@lru_cache(maxsize=4096)
def plain_label(text: str) -> str:
    """Return a label in Unicode's compatibility form, without invisible characters and with single spaces."""
    folded = unicodedata.normalize("NFKC", text)
    visible = "".join(character for character in folded if not _is_invisible(character))
    # Joiners shape letters and emoji; at the ends of a label they do nothing.
    return " ".join(visible.split()).strip(_JOINERS + " ")


def _is_invisible(character: str) -> bool:
    if character in _JOINERS or character.isspace():
        return False
    return unicodedata.category(character) in ("Cf", "Cc") or character in _BLANK


def layout(
    roles: Sequence[Role],
    names: Mapping[str, str],
    limit: int | None,
    labels: LabelRules | None = None,
) -> Layout:
    """The raw table of a task.

    Args:
        roles: of the task's schema.
        names: role -> column of the source; a role that is not named is looked for under its own name.
        limit: bytes of one value; None: what suits the kind of input.
        labels: what becomes of the target's labels.

    Raises:
        ParamsError: `names` has something that is no role.
    """

    def optional(name: Literal["id", "group", "split"]) -> Column:
        return Column(name, names.get(name, name), pa.string(), name, name in names)

    rules = labels or LabelRules({}, fold=False)
    own = [
        Column(
            name=role.name,
            source=names.get(role.name, role.name),
            type=role.field.arrow,
            role=role.role,
            must=role.required or role.name in names,
            labels=rules if role.role == "target" else None,
        )
        for role in roles
        if role.name not in ("id", "group", "split")
    ]
    columns = [optional("id"), *own, optional("group"), optional("split")]
    known = [column.name for column in columns]
    for name in names:
        if name not in known:
            what = f"{name!r} is not one of {', '.join(known)}{nearest(name, known)}"
            raise ParamsError(
                what,
                where=f"params.yaml: ingest.columns.{name}",
                remedy="columns maps what the task wants to the name that the source gives it",
            )
    if limit is None:
        binary = any(column.role == "input" and pa.types.is_binary(column.type) for column in own)
        limit = _LARGEST_BINARY if binary else _LONGEST_TEXT
    return Layout(columns, limit)


def merged(one: str, other: str) -> str | None:
    """The type of a column that is of these types in two tables: an empty one takes any, and whole numbers may become others. None: they do not go together."""
    if one == other or other == "null":
        return one
    return other if one == "null" else "double" if {one, other} == {"int64", "double"} else None


def is_nothing(text: str) -> bool:
    """Whether a text stands for a missing value: blank, NaN, null."""
    return not text or text.isspace() or (len(text) < 8 and text.strip().casefold() in _NOTHING)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise Reject("not_text") from None
    if isinstance(value, (dict, list)):
        raise Reject("not_text")
    return str(value)


def _only_label(labels: Sequence[Any]) -> Any:
    """Return the label of a list of one, as annotation tools write it; None of an empty list."""
    present = [label for label in labels if label is not None]
    if len(present) > 1:
        raise Reject("several_labels", ", ".join(str(label) for label in present)[:200])
    return present[0] if present else None


def _bytes(value: Any) -> bytes:
    if isinstance(value, dict):  # the way Hugging Face's tables hold an image
        value = value.get("bytes")
    if not isinstance(value, bytes):
        raise Reject("not_bytes")
    return value


def _bounded(value: Any, limit: int) -> Any:
    try:
        size = (
            len(value)
            if isinstance(value, bytes) or value.isascii()
            else len(value.encode("utf-8"))
        )
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON's \uXXXX lets through
        raise Reject("broken_unicode") from None
    if size > limit:
        raise Reject(
            "too_large", f"{size} bytes{'' if isinstance(value, bytes) else ': ' + value[:200]}"
        )
    return value
