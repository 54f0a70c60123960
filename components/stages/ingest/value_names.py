"""Names of the values of a column of numbers, as exports of Hugging Face's datasets hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import InputError
from components.stages.ingest.arrow_files import arrow_file
from components.stages.ingest.compressed import is_compressed
from components.stages.ingest.source_rows import TABLES, Unit

_INFO_FILES = ("dataset_info.json", "dataset_infos.json")
_CARDS = ("README.md", "readme.md")
# Key of a feature whose numbers have names.
_NAMED = "class_label"

ValueNames = Mapping[str, tuple[str, ...]]


def with_value_names(units: Sequence[Unit], folder: Path | None) -> tuple[list[Unit], list[str]]:
    """Return units with the names that the numbers of columns stand for, and remarks.

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
        names: ValueNames = _schema_names(unit)
        source = f"the {unit.format.capitalize()} schema"
        if not names and unit.format in TABLES:
            names = folder_names
            source = file
        with_names.append(replace(unit, value_names=tuple(sorted(names.items()))))
        for column, value_names in names.items():
            remarks[_names_remark(column, value_names, source)] = None
    return with_names, list(remarks)


def _names_remark(column: str, names: Sequence[str], source: str) -> str:
    """Return a remark about the names of a column's numbers."""
    shown = ", ".join(f"{number} is {name!r}" for number, name in enumerate(names[:3]))
    if len(names) > 3:
        shown += ", …"
    return f"the numbers of {column!r} are named by {source}: {shown}"


def _schema_names(unit: Unit) -> dict[str, tuple[str, ...]]:
    """Return column -> names of values, from the schema of a Parquet or Arrow file."""
    if unit.format not in ("parquet", "arrow") or is_compressed(unit.paths[0]):
        return {}
    try:
        metadata = _schema(unit).metadata or {}
        info = json.loads(metadata.get(b"huggingface", b"{}"))
    except (pa.ArrowException, OSError, ValueError, RecursionError, InputError):
        # It is refused where it is read.
        return {}
    if not isinstance(info, dict):
        return {}
    return _names_of(info.get("info", {}))


def _schema(unit: Unit) -> pa.Schema:
    """Return the schema of a Parquet or Arrow file."""
    path = unit.paths[0]
    if unit.format == "parquet":
        return pq.read_schema(path)
    with arrow_file(path, unit.name) as file:
        return file.schema


def _folder_names(folder: Path) -> tuple[dict[str, tuple[str, ...]], str]:
    """Return the names of values in files beside the data, and the name of the file."""
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
    """Return column -> names of values, from a description of a data set.

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
    """Return column -> names of values, from features by name or from a list of them."""
    if isinstance(features, Mapping):
        pairs = list(features.items())
    elif isinstance(features, list):
        mappings = [feature for feature in features if isinstance(feature, Mapping)]
        pairs = [(feature.get("name"), feature) for feature in mappings]
    else:
        return {}
    names = {}
    for column, feature in pairs:
        value_names = _value_names(feature)
        if isinstance(column, str) and value_names:
            names[column] = value_names
    return names


def _value_names(feature: Any) -> tuple[str, ...]:
    """Return the names of one feature's values in the order of their numbers; none of others."""
    if not isinstance(feature, Mapping):
        return ()
    if "feature" in feature:
        return _value_names(feature["feature"])
    kind = feature.get("dtype")
    holder = kind.get(_NAMED) if isinstance(kind, Mapping) else feature
    names = holder.get("names") if isinstance(holder, Mapping) else None
    if isinstance(names, list):
        return tuple(map(str, names))
    if not isinstance(names, Mapping) or not all(str(key).isdecimal() for key in names):
        return ()
    by_number = {int(key): str(name) for key, name in names.items()}
    if sorted(by_number) != list(range(len(by_number))):
        return ()
    return tuple(by_number[number] for number in range(len(by_number)))
