"""Labels that no column holds as a word: class numbers with names elsewhere, a column for each
class, the name of the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.stages.ingest.columns import Column, Layout
from components.stages.ingest.compressed import is_compressed
from components.stages.ingest.source_rows import TABLES, Bad, Record, Unit

# The columns that are added to those of a table.
ONE_HOT = "one_hot"
FILE_LABEL = "file_label"
_TRUE = frozenset({"1", "1.0", "true"})
_FALSE = frozenset({"", "0", "0.0", "false", "nan", "null"})
_INFO_FILES = ("dataset_info.json", "dataset_infos.json")
_CARDS = ("README.md", "readme.md")

ClassNames = Mapping[str, tuple[str, ...]]


def added_columns(unit: Unit) -> list[str]:
    """Return the names of the columns that are added to those of a table.

    Args:
        unit: the table.
    """
    if unit.format not in TABLES:
        return []
    added = []
    if unit.one_hot:
        added.append(ONE_HOT)
    if unit.is_class:
        added.append(FILE_LABEL)
    return added


def read_layout(unit: Unit, wanted: Layout) -> Layout:
    """Return the columns that a reader must find, with those from which others are made.

    Args:
        unit: the table.
        wanted: the columns of the raw table.
    """
    added = added_columns(unit)
    if not added:
        return wanted
    columns = [
        replace(column, must=column.must and column.source not in added)
        for column in wanted.columns
    ]
    if ONE_HOT in added and wanted.columns:
        columns += [Column(name, name, pa.string(), "meta", must=True) for name in unit.one_hot]
    return replace(wanted, columns=columns)


def with_derived(records: Iterable[Record | Bad], unit: Unit) -> Iterator[Record | Bad]:
    """Yield the records of a table with the columns that are made of others.

    Args:
        records: of the table.
        unit: the table.
    """
    names = dict(unit.class_names)
    added = added_columns(unit)
    if not names and not added:
        yield from records
        return
    for record in records:
        if isinstance(record, Bad):
            yield record
            continue
        values = dict(record.values)
        for column, classes in names.items():
            if column in values:
                values[column] = _named(values[column], classes)
        if FILE_LABEL in added:
            values[FILE_LABEL] = unit.label
        if ONE_HOT in added:
            yield _with_one_hot(record, values, unit.one_hot)
        else:
            yield replace(record, values=values)


def _with_one_hot(record: Record, values: dict[str, Any], columns: Sequence[str]) -> Record | Bad:
    """Return a record with the names of the columns that are 1, or its refusal.

    Args:
        record: the record.
        values: its values; extended by the names.
        columns: those that are 1 in the rows of their class and else 0.
    """
    flags = {column: flag_of(values.get(column)) for column in columns}
    for column, flag in flags.items():
        if flag is None:
            return Bad(record.row, "neither_0_nor_1", f"{column}: {values[column]}"[:150])
    ones = [column for column, flag in flags.items() if flag]
    values[ONE_HOT] = ones[0] if len(ones) == 1 else ones
    return replace(record, values=values)


def flag_of(value: Any) -> bool | None:
    """Return whether a value of a column for one class says yes; None for what says neither.

    Args:
        value: of one cell.
    """
    word = "" if value is None else str(value).strip().casefold()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    return None


def _named(value: Any, classes: Sequence[str]) -> Any:
    """Return the name of a class number; -1 is no class, and what is no number stays."""
    if isinstance(value, list):
        return [_named(item, classes) for item in value]
    try:
        number = int(str(value).removesuffix(".0"))
    except ValueError:
        return value
    if number == -1:
        return None
    if 0 <= number < len(classes):
        return classes[number]
    return value


# -- names of classes, as exports of Hugging Face's datasets hold them
def with_class_names(units: Sequence[Unit], folder: Path | None) -> tuple[list[Unit], list[str]]:
    """Return units with the names of the classes that columns of numbers stand for, and remarks.

    Args:
        units: of a source.
        folder: the source, where it is one: it may have a dataset_info.json or a README.md.

    Returns:
        The units in the same order; one remark for each column of numbers.
    """
    folder_names: Mapping[str, tuple[str, ...]] = {}
    file = ""
    if folder:
        folder_names, file = _folder_names(folder)
    with_names = []
    remarks: dict[str, None] = {}
    for unit in units:
        names: ClassNames = _parquet_names(unit)
        source = "the Parquet schema"
        if not names and unit.format in TABLES:
            names = folder_names
            source = file
        with_names.append(replace(unit, class_names=tuple(sorted(names.items()))))
        for column, classes in names.items():
            remarks[_names_remark(column, classes, source)] = None
    return with_names, list(remarks)


def _names_remark(column: str, classes: Sequence[str], source: str) -> str:
    """Return a remark about the names of a column's class numbers."""
    shown = ", ".join(f"{number} is {name!r}" for number, name in enumerate(classes[:3]))
    if len(classes) > 3:
        shown += ", …"
    return f"the numbers of {column!r} are named by {source}: {shown}"


def _parquet_names(unit: Unit) -> dict[str, tuple[str, ...]]:
    """Return column -> names of classes, from the schema of a Parquet file."""
    if unit.format != "parquet" or not unit.paths or is_compressed(unit.paths[0]):
        return {}
    try:
        metadata = pq.read_schema(unit.paths[0]).metadata or {}
        info = json.loads(metadata.get(b"huggingface", b"{}"))
    except (pa.ArrowException, OSError, ValueError):
        # It is refused where it is read.
        return {}
    if not isinstance(info, dict):
        return {}
    return _names_of(info.get("info", {}))


def _folder_names(folder: Path) -> tuple[dict[str, tuple[str, ...]], str]:
    """Return the names of classes in files beside the data, and the name of the file."""
    for name in _INFO_FILES:
        names = _names_of(_json(folder / name))
        if names:
            return names, name
    for name in _CARDS:
        names = _names_of(_front_matter(folder / name))
        if names:
            return names, name
    return {}, ""


def _json(path: Path) -> Any:
    """Return the content of a JSON file; None where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _front_matter(path: Path) -> Any:
    """Return the YAML between the first two lines of dashes of a README.md; None for none."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    if not text.startswith("---\n") or "\n---" not in text[4:]:
        return None
    try:
        return YAML(typ="safe", pure=True).load(text[4:].split("\n---", 1)[0])
    except YAMLError:
        return None


def _names_of(info: Any) -> dict[str, tuple[str, ...]]:
    """Return column -> names of classes, from a description of a data set.

    It is an object with `features`, or one such object for each configuration, in a list or by
    name. If several differ, none is used.

    Args:
        info: the parsed description.
    """
    inner = info
    if isinstance(info, Mapping):
        if "dataset_info" in info:
            return _names_of(info["dataset_info"])
        if "features" in info:
            return _feature_names(info["features"])
        inner = list(info.values())
    if not isinstance(inner, list):
        return {}
    names = [_feature_names(entry["features"]) for entry in inner if _has_features(entry)]
    if not names or any(other != names[0] for other in names):
        return {}
    return names[0]


def _has_features(info: Any) -> bool:
    """Return whether a part of a description has features."""
    return isinstance(info, Mapping) and "features" in info


def _feature_names(features: Any) -> dict[str, tuple[str, ...]]:
    """Return column -> names of classes, from features by name or from a list of them."""
    if isinstance(features, Mapping):
        pairs = list(features.items())
    elif isinstance(features, list):
        mappings = [feature for feature in features if isinstance(feature, Mapping)]
        pairs = [(feature.get("name"), feature) for feature in mappings]
    else:
        return {}
    names = {}
    for column, feature in pairs:
        classes = _class_names(feature)
        if isinstance(column, str) and classes:
            names[column] = classes
    return names


def _class_names(feature: Any) -> tuple[str, ...]:
    """Return the names of one feature's classes in the order of their numbers; none of others."""
    if not isinstance(feature, Mapping):
        return ()
    if "feature" in feature:
        return _class_names(feature["feature"])
    kind = feature.get("dtype")
    holder = kind.get("class_label") if isinstance(kind, Mapping) else feature
    names = holder.get("names") if isinstance(holder, Mapping) else None
    if isinstance(names, list):
        return tuple(map(str, names))
    if not isinstance(names, Mapping) or not all(str(key).isdecimal() for key in names):
        return ()
    by_number = {int(key): str(name) for key, name in names.items()}
    if sorted(by_number) != list(range(len(by_number))):
        return ()
    return tuple(by_number[number] for number in range(len(by_number)))
