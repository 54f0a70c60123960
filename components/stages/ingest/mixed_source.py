"""Source `mixed`: several sources, with targets mapped onto each other, in chosen proportions."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from components.core.errors import InputError, ParamsError
from components.core.job import Journal
from components.fields.source_values import whole_number
from components.stages.ingest.columns import Layout
from components.stages.ingest.params import Mixed, MixedPart
from components.stages.ingest.source_rows import Unit
from components.tasks.base import ValueMap

# Splits whose rows all stay: they measure, and a share of them would measure something else.
_HELD_OUT = ("validation", "test")


@dataclass(frozen=True)
class PartValues:
    """Conversion of a part's values of the target: its own names first, then those of all parts.

    Args:
        renames: plain value of the part -> value of the mix; None: it stands for no value.
        inner: conversion of the values of the mix.
    """

    renames: Mapping[str, str | None]
    inner: ValueMap

    def unwrap(self, value: Any) -> Any:
        """Return the value in a list of one; other values are returned unchanged."""
        return self.inner.unwrap(value)

    def apply(self, text: str) -> str | None:
        """Return the value for a text of the part; None where it stands for no value."""
        key = _plain(text)
        if key not in self.renames:
            return self.inner.apply(text)
        renamed = self.renames[key]
        return None if renamed is None else self.inner.apply(renamed)

    def cache_key(self) -> Sequence[Any]:
        """Return what the conversion depends on, as JSON."""
        return [sorted(self.renames.items()), self.inner.cache_key()]


def _plain(text: str) -> str:
    """Return a value in Unicode's compatibility form, with single spaces; 5.0 as 5."""
    return whole_number(" ".join(unicodedata.normalize("NFKC", text).split()))


def named(unit: Unit, name: str) -> Unit:
    """Return a unit of a part, whose name begins with that of the part."""
    path = name if unit.name == "." else f"{name}/{unit.name}"
    return replace(unit, name=path, part=name)


def part_layout(wanted: Layout, part: MixedPart, name: str) -> Layout:
    """Return the columns of a part, with its names for values of the target.

    Args:
        wanted: the columns, by the names of the part.
        part: its params.
        name: of the part.

    Raises:
        ParamsError: the target has no names.
    """
    if not part.targets:
        return wanted
    target = wanted.target
    if target is None or target.value_map is None:
        raise ParamsError(
            "the target of this task is a number, which has no other names",
            where=f"params.yaml: ingest.source.parts.{name}.targets",
            remedy="leave it out",
        )
    renames = {_plain(value): renamed for value, renamed in part.targets.items()}
    value_map = PartValues(renames, target.value_map)
    columns = [
        replace(column, value_map=value_map) if column is target else column
        for column in wanted.columns
    ]
    return replace(wanted, columns=columns)


def draw(
    tables: Sequence[pa.Table], parts: Sequence[str], source: Mixed, journal: Journal
) -> list[pa.Table]:
    """Return the rows of units in the proportions of the params.

    A hash of the seed and the id of a row draws it. So a row that was drawn stays when other parts
    change, as long as the number of its part stays. Rows of a canonical validation or test split
    all stay.

    Args:
        tables: raw rows of the units.
        parts: name of the part of each unit; "" for feedback, which all stays.
        source: section of the params.
        journal: where the counts are logged.

    Raises:
        InputError: a part has no rows to draw, or fewer than it should give.
    """
    masks = [_drawable(table) for table in tables]
    available = Counter[str]()
    for part, mask in zip(parts, masks, strict=True):
        available[part] += int(mask.sum())
    wanted = _wanted(source, available)
    limits = {}
    for name, count in wanted.items():
        chosen = [number for number, part in enumerate(parts) if part == name]
        draws = [_draws(tables[number], source.seed)[masks[number]] for number in chosen]
        limits[name] = np.partition(np.concatenate(draws), count - 1)[count - 1]
        journal.log(f"{name}: {count:,} of {available[name]:,} rows are drawn")
    drawn = []
    for table, part, mask in zip(tables, parts, masks, strict=True):
        if part in limits:
            stays = ~mask | (_draws(table, source.seed) <= limits[part])
            table = table.filter(pa.array(stays))
        drawn.append(table)
    return drawn


def _drawable(table: pa.Table) -> np.ndarray:
    """Return a mask of the rows that may be left out: (rows,) booleans."""
    splits = table["split"].to_pylist()
    return np.array([split not in _HELD_OUT for split in splits], bool)


def _draws(table: pa.Table, seed: int) -> np.ndarray:
    """Return a number of each row that depends on its id, its origin and the seed: (rows,)."""
    rows = zip(table["id"].to_pylist(), table["origin"].to_pylist(), strict=True)
    texts = (f"{seed}\0{identity}\0{origin}" for identity, origin in rows)
    digests = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(digests), np.uint64)


def _wanted(source: Mixed, available: Mapping[str, int]) -> dict[str, int]:
    """Return the number of rows of each part that does not give all.

    Parts with a weight give as many rows as they can in these proportions.

    Raises:
        InputError: a part has no rows to draw, or fewer than it should give.
    """
    wanted = {}
    weights = {}
    for name, part in source.parts.items():
        least = part.rows or (1 if part.weight else 0)
        if available.get(name, 0) < least:
            raise InputError(
                f"has {available.get(name, 0):,} rows to draw from, fewer than {least:,}",
                where=f"ingest.source.parts.{name}",
                remedy="lower rows, or leave rows and weight out",
            )
        if part.rows:
            wanted[name] = part.rows
        if part.weight:
            weights[name] = part.weight
    if weights:
        scale = min(available[name] / weight for name, weight in weights.items())
        wanted |= {name: max(1, round(scale * weight)) for name, weight in weights.items()}
    return wanted
