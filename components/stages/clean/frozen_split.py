"""A split that stays as it is while the data grow: which row, by its content, is in which part."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.core.errors import InputError
from components.core.files import atomic, sha256
from components.core.tables import read_table
from components.stages.clean.params import CleanParams
from components.tasks import base

_PARTS = ("test", "validation", "train")
_KEY = 32  # hexadecimal digits that are kept of the SHA-256 of a row's key
_DIGITS = 16  # of the file's SHA-256 in its name
_SCHEMA = pa.schema([(name, pa.string()) for name in ("key", "id", "split", "group")])


@dataclass(frozen=True)
class Frozen:
    """The rows of a split, in its order."""

    keys: Sequence[str]
    ids: Sequence[str]
    splits: Sequence[str]
    groups: Sequence[str]

    @cached_property
    def place(self) -> dict[str, int]:
        """Key -> row."""
        return {key: row for row, key in enumerate(self.keys)}

    def claim(self, keys: Sequence[str], ids: Sequence[str]) -> dict[int, int]:
        """Row of a source -> row of this split. Of several that are equal the one with the old id is taken, else the first.

        Args:
            keys: SHA-256 of each row's key.
            ids: of the rows.
        """
        claimed: dict[int, int] = {}
        for row, key in enumerate(keys):
            place = self.place.get(key[:_KEY])
            if place is not None and (place not in claimed or ids[row] == self.ids[place]):
                claimed[place] = row
        return {row: place for place, row in claimed.items()}

    def held(self, keys: Sequence[str]) -> dict[int, int]:
        """Position -> row of this split, where each key (SHA-256) stands once."""
        return {
            position: self.place[key[:_KEY]]
            for position, key in enumerate(keys)
            if key[:_KEY] in self.place
        }


def freeze(clean: Path, task: str, params: CleanParams, folder: Path) -> Path:
    """Write down the split of a clean table, in a file whose name holds its hash. Returns its path."""
    schema = base.schema(task)
    fields = schema.fields(params)
    inputs = [role.name for role in schema.roles if role.role == "input"]
    rows: list[dict[str, str]] = []
    for part in _PARTS:
        for row in read_table(clean, part, ["id", *inputs, "group"]).to_pylist():
            rows.append(
                {
                    "key": hashlib.sha256(base.row_key(fields, inputs, row).encode()).hexdigest()[
                        :_KEY
                    ],
                    "id": row["id"],
                    "split": part,
                    "group": row["group"],
                }
            )
    draft = folder / "split.part"
    with atomic(draft) as stream:
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), stream, compression="zstd")
    return draft.replace(folder / f"split-{sha256(draft)[:_DIGITS]}.parquet")


def read(path: Path, shown: str) -> Frozen:
    """The split of a file.

    Raises:
        InputError: it is away, or is not what its name says.
    """
    remedy = "bring it back (data/.state/retrain of the checkout that ran `gristmill retrain`), or set clean.frozen_split: null for a split made anew"
    if not path.is_file():
        raise InputError("does not exist", where=f"clean.frozen_split: {shown}", remedy=remedy)
    if path.stem != f"split-{sha256(path)[:_DIGITS]}":
        raise InputError(
            "is not what its name says: it was cut or edited",
            where=f"clean.frozen_split: {shown}",
            remedy=remedy,
        )
    table: Mapping[str, list[Any]] = pq.read_table(path).to_pydict()
    return Frozen(table["key"], table["id"], table["split"], table["group"])


def divide(
    frozen: Frozen,
    held_rows: Mapping[int, int],
    groups: Sequence[str],
    feedback: Collection[int],
    params: CleanParams,
    seed: int,
) -> tuple[list[str], set[int]]:
    """The parts of rows of which some are in a frozen split.

    A new row is for train; or for validation, if the seeded hash of its group says so, which no growth changes. Of feedback a share is for test, too, behind the frozen
    rows: they may hold nothing of what people ask by now, and no model could show on them that it has learned it.

    Args:
        frozen: the split.
        held_rows: position -> row of the split.
        groups: (positions,) equal for rows that are similar.
        feedback: positions of rows that clients labeled.
        params: shares of the new groups.
        seed: of the hash.

    Returns:
        (positions,) parts; and positions that must go, because they are similar to a row of test, or as train rows to one of validation.
    """
    parts = [
        frozen.splits[held_rows[position]] if position in held_rows else ""
        for position in range(len(groups))
    ]
    held = {
        part: {group for group, own in zip(groups, parts, strict=True) if own == part}
        for part in _PARTS
    }
    old = held["test"] | held["validation"] | held["train"]
    mixed = {group for position, group in enumerate(groups) if position not in feedback}
    for position, group in enumerate(groups):
        if not parts[position]:
            drawn = int.from_bytes(hashlib.sha256(f"{seed}/{group}".encode()).digest()[:8]) / 2**64
            tested = params.validation_share + (params.test_share if group not in mixed else 0.0)
            parts[position] = (
                "train"
                if group in old or drawn >= tested
                else "validation"
                if drawn < params.validation_share
                else "test"
            )
    leaking = {
        i
        for i, (part, group) in enumerate(zip(parts, groups, strict=True))
        if part != "test"
        and (group in held["test"] or (part == "train" and group in held["validation"]))
    }
    return parts, leaking
