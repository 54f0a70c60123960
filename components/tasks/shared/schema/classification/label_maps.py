"""Labels of a source: other names for them, and doubts about them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BaseModel, BeforeValidator, Field

from components.core.errors import InputError
from components.core.params import Strict
from components.fields.base import Reject
from components.fields.source_values import is_nothing, whole_number
from components.tasks.base import TargetWords

_FEW_NUMBERS = 20
_MOST_SHOWN = 5
# Rows of a code such as a postcode, on average; a count or a price has fewer.
_ROWS_OF_A_CODE = 5
_EXCERPT = 200
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
_JOINTS = re.compile(r"[,;|/+，、；]")
_JOINERS = "\u200c\u200d"
# Invisible, but of other categories: a grapheme joiner, fillers of Hangul, variation selectors.
_BLANK = frozenset("\u034f\u115f\u1160\u3164\uffa0\u2800\ufe0e\ufe0f")
# A list of labels as text, as a CSV holds it: ['a', 'b'].
_ITEM = re.compile(r"""'[^']*'|"[^"]*\"""")
_LISTED = re.compile(rf"\s*\[\s*(?:{_ITEM.pattern})(?:\s*,\s*(?:{_ITEM.pattern}))*\s*\]\s*")


# -- params
def _label_texts(value: Any) -> Any:
    """Return a mapping of labels with YAML's numbers and booleans as text; null stays null."""
    if not isinstance(value, Mapping):
        return value
    return {_label_text(key): _label_text(new) for key, new in value.items()}


def _label_text(value: Any) -> Any:
    """Return a number or boolean as YAML writes it, anything else unchanged."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    return value


class LabelParams(Strict):
    """Params of the labels, in the section `ingest`."""

    labels: Annotated[dict[str, str | None], BeforeValidator(_label_texts)] = Field(
        default_factory=dict,
        description="New label by source label, such as {Positive: positive, n/a: null}.",
    )
    label_case: Literal["keep", "fold"] = Field(
        "keep", description="Case of labels (fold: Positive and positive are one)."
    )


# -- conversion
@dataclass(frozen=True)
class LabelRules:
    """Apply `ingest.labels` and `ingest.label_case` to labels.

    Args:
        renames: label -> new label, as in params.yaml.
        fold: whether capital letters become small ones.
    """

    renames: Mapping[str, str | None]
    fold: bool

    def unwrap(self, value: Any) -> Any:
        """Return the label of a list of one, as annotation tools write it; None of an empty list.

        A list as text is a list too. Other values are returned unchanged.

        Raises:
            Reject: there are several labels.
        """
        items = value
        if isinstance(value, str) and _LISTED.fullmatch(value):
            items = [item[1:-1] for item in _ITEM.findall(value)]
        if not isinstance(items, (list, tuple)):
            return value
        present = [item for item in items if item is not None]
        if len(present) > 1:
            raise Reject("several_labels", ", ".join(str(item) for item in present)[:_EXCERPT])
        return self.unwrap(present[0]) if present else None

    def apply(self, text: str) -> str | None:
        """Return the label for a text of the source; None where it says that there is none."""
        word = plain_label(text)
        if is_nothing(word):
            return None
        word = whole_number(word)
        renames = self._plain
        key = word if word in renames else self._cased(word)
        if key not in renames:
            return self._cased(word)
        renamed = renames[key]
        return None if renamed is None else self._cased(renamed)

    def cache_key(self) -> Sequence[Any]:
        """Return the map and the case, as JSON."""
        return [sorted(self.renames.items()), self.fold]

    def _cased(self, label: str) -> str:
        """Return a label in the case that the params want."""
        return label.casefold() if self.fold else label

    @cached_property
    def _plain(self) -> Mapping[str, str | None]:
        """Return the map between plain labels; exact names precede those in another case."""
        plain: dict[str, str | None] = {}
        for old, new in self.renames.items():
            plain[whole_number(plain_label(old))] = plain_label(new or "") or None
        if not self.fold:
            return plain
        return {old.casefold(): new for old, new in plain.items()} | plain


@lru_cache(maxsize=4096)
def plain_label(text: str) -> str:
    """Return a label in Unicode's compatibility form.

    Invisible characters are removed, and spaces are single.
    """
    folded = unicodedata.normalize("NFKC", text)
    visible = "".join(character for character in folded if not _is_invisible(character))
    # Joiners shape letters and emoji; at the ends of a label they do nothing.
    return " ".join(visible.split()).strip(_JOINERS + " ")


def _is_invisible(character: str) -> bool:
    """Return whether a character of a label shows nothing."""
    if character in _JOINERS or character.isspace():
        return False
    return unicodedata.category(character) in ("Cf", "Cc") or character in _BLANK


# -- doubts
def alike_labels(labels: Mapping[str, int]) -> list[list[str]]:
    """Return groups of labels that differ only in capital letters, each with the most frequent
    first.
    """
    groups: dict[str, list[str]] = {}
    for label in sorted(labels, key=lambda name: (-labels[name], name)):
        groups.setdefault(label.casefold(), []).append(label)
    return [group for group in groups.values() if len(group) > 1]


def joined_labels(labels: Collection[str]) -> list[str]:
    """Return labels that are made of other labels: toxic|rude beside toxic and rude."""
    joined = []
    for label in labels:
        parts = [part.strip() for part in _JOINTS.split(label)]
        if len(parts) > 1 and all(part in labels for part in parts):
            joined.append(label)
    return joined


def is_scale(labels: Mapping[str, int]) -> bool:
    """Return whether labels are numbers on a scale: many distinct ones, or fractions.

    Whole numbers up to a few dozen are classes (stars, digits, codes).
    """
    numbers = [_number(label) for label in labels]
    if len(numbers) <= _FEW_NUMBERS or None in numbers:
        return False
    if any(number is not None and not number.is_integer() for number in numbers):
        return True
    return sum(labels.values()) < _ROWS_OF_A_CODE * len(numbers)


def _number(text: str) -> float | None:
    """Return the number that a label is; None for other texts, NaN and infinities."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    """Return the number of rows of each label, sorted by name."""
    entries = values.drop_null().value_counts().to_pylist()
    return dict(sorted((entry["values"], entry["counts"]) for entry in entries))


def _spelling_notes(counts: Mapping[str, int]) -> list[str]:
    """Return a doubt for each group of labels that differ only in case."""
    notes = []
    for group in alike_labels(counts)[:_MOST_SHOWN]:
        listed = ", ".join(f"{label!r} ({counts[label]:,} rows)" for label in group)
        renames = ", ".join(f"{label}: {group[0]}" for label in group[1:])
        notes.append(
            f"labels that differ only in case: {listed}; "
            f"ingest.label_case: fold makes them one, or ingest.labels: {{{renames}}}"
        )
    return notes


class SourceLabels:
    """Rules for labels as a source writes them (ingest)."""

    words = TargetWords(value="label", values="labels", category="class", categories="classes")
    remedies: Mapping[str, str] = {
        "several_labels": (
            "write one label in each row: rows with several labels, and spans of a text, "
            "are not learned yet"
        )
    }

    def value_map(self, options: BaseModel) -> LabelRules:
        """Return the rules of `ingest.labels` and `ingest.label_case`."""
        assert isinstance(options, LabelParams)
        return LabelRules(options.labels, fold=options.label_case == "fold")

    def describe_source(
        self, values: pa.ChunkedArray, column: str, path: str
    ) -> Mapping[str, Mapping[str, int]]:
        """Return {"classes": class -> number of rows}, sorted by name.

        Raises:
            InputError: there are fewer than two.
        """
        counts = _counts(values)
        if len(counts) < 2:
            message = f"has no row with a label among {len(values)}"
            if counts:
                message = (
                    f"has in its {len(values)} rows only the class {next(iter(counts))!r}; "
                    "at least two are needed"
                )
            raise InputError(
                message,
                where=path,
                remedy="bring rows of another class, or set "
                f"ingest.columns.{column} to the column that holds the label",
            )
        return {"classes": counts}

    def count_source(self, description: Mapping[str, Any]) -> Mapping[str, int]:
        """Return the number of classes."""
        return {"classes": len(description["classes"])}

    def source_notes(self, values: pa.ChunkedArray) -> Sequence[str]:
        """Return doubts about labels: missing, alike, words for none, joined, or on a scale."""
        counts = _counts(values)
        if not counts:
            return []
        notes = []
        if values.null_count:
            notes.append(
                f"{values.null_count:,} rows have no label: "
                "clean.unlabelled says what becomes of them"
            )
        notes += _spelling_notes(counts)
        for label in [label for label in counts if label.casefold() in _NO_LABEL][:_MOST_SHOWN]:
            notes.append(
                f"the label {label!r} ({counts[label]:,} rows) may say that there is none: "
                f"ingest.labels: {{{label!r}: null}}"
            )
        for label in joined_labels(counts)[:_MOST_SHOWN]:
            notes.append(
                f"the label {label!r} ({counts[label]:,} rows) may be several labels, "
                "but counts as a class of its own: "
                f"ingest.labels: {{{label!r}: null}} leaves these rows out"
            )
        if is_scale(counts):
            notes.append(
                f"the {len(counts):,} labels are numbers on a scale, and each is taken for a class "
                "of its own; put them into a few ranges first"
            )
        return notes
