"""A split that stays the same while the data grow: rows are recognized by their content."""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.core.errors import InputError
from components.core.files import atomic, sha256
from components.core.tables import read_manifest, read_table
from components.stages.clean.params import CleanParams
from components.stages.clean.split import SECONDS_OF_A_DAY, RowSplits, around_test
from components.tasks import base

_PARTS = ("test", "validation", "train")
# Hexadecimal digits of the SHA-256 of a row's key that are written.
_KEY_DIGITS = 32
# Hexadecimal digits of the file's SHA-256 in its name.
_NAME_DIGITS = 16
_SCHEMA = pa.schema([(name, pa.string()) for name in ("key", "id", "split", "group")])


@dataclass(frozen=True)
class FrozenSplit:
    """Rows of a split, in its order.

    Args:
        keys: beginnings of the SHA-256 of the rows' keys.
        ids: of the rows.
        splits: of the rows.
        groups: of the rows.
    """

    keys: Sequence[str]
    ids: Sequence[str]
    splits: Sequence[str]
    groups: Sequence[str]

    def claim(self, keys: Sequence[str], ids: Sequence[str]) -> dict[int, int]:
        """Return which rows of a source are rows of this split.

        Of several equal rows those with the ids of this split are taken, else the first ones.

        Args:
            keys: SHA-256 of each row's key.
            ids: of the rows.

        Returns:
            Row of the source -> row of this split.
        """
        short_keys = [key[:_KEY_DIGITS] for key in keys]
        names = zip(self.keys, self.ids, strict=True)
        row_of = {name: row for row, name in enumerate(names)}
        claimed: dict[int, int] = {}
        for source_row, name in enumerate(zip(short_keys, ids, strict=True)):
            if name in row_of:
                claimed[source_row] = row_of[name]
        unclaimed: dict[str, deque[int]] = defaultdict(deque)
        rows_with_id = set(claimed.values())
        for row, key in enumerate(self.keys):
            if row not in rows_with_id:
                unclaimed[key].append(row)
        for source_row, key in enumerate(short_keys):
            if source_row not in claimed and unclaimed.get(key):
                claimed[source_row] = unclaimed[key].popleft()
        return claimed


def freeze(clean: Path, task: str, params: CleanParams, folder: Path) -> Path:
    """Write the split of a clean table to a file.

    Args:
        clean: the clean table.
        task: its task.
        params: of clean.
        folder: of the file.

    Returns:
        The file; its name holds its hash.
    """
    schema = base.schema_of(task, read_manifest(clean))
    fields = schema.fields(params)
    inputs = base.input_names(schema)
    rows: list[dict[str, str]] = []
    for part in _PARTS:
        table = read_table(clean, part, ["id", *inputs, "group"])
        keys = base.row_keys(fields, table.select(inputs).to_pydict())
        ids = table["id"].to_pylist()
        groups = table["group"].to_pylist()
        for name, key, group in zip(ids, keys, groups, strict=True):
            digest = hashlib.sha256(key.encode()).hexdigest()
            rows.append({"key": digest[:_KEY_DIGITS], "id": name, "split": part, "group": group})
    draft = folder / "split.part"
    with atomic(draft) as stream:
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), stream, compression="zstd")
    return draft.replace(folder / f"split-{sha256(draft)[:_NAME_DIGITS]}.parquet")


def read(path: Path, shown: str) -> FrozenSplit:
    """Return the split of a file.

    Args:
        path: the file.
        shown: its path, as messages name it.

    Raises:
        InputError: it does not exist, or its name does not hold its hash.
    """
    remedy = (
        "bring it back (data/.state/retrain of the checkout that ran `gristmill retrain`), "
        "or set clean.frozen_split: null for a split made anew"
    )
    if not path.is_file():
        raise InputError("does not exist", where=f"clean.frozen_split: {shown}", remedy=remedy)
    if path.stem != f"split-{sha256(path)[:_NAME_DIGITS]}":
        raise InputError(
            "is not what its name says: it was cut or edited",
            where=f"clean.frozen_split: {shown}",
            remedy=remedy,
        )
    table: Mapping[str, list[Any]] = pq.read_table(path).to_pydict()
    return FrozenSplit(table["key"], table["id"], table["split"], table["group"])


def divide(
    frozen: FrozenSplit,
    held_rows: Mapping[int, int],
    groups: Sequence[str],
    feedback: Collection[int],
    params: CleanParams,
    seed: int,
) -> RowSplits:
    """Return the parts of rows of which some are in a frozen split.

    A new row is for train; or for validation, if the seeded hash of its group says so, which does
    not change as the data grow. A share of the feedback is for test too, after the frozen rows.
    Frozen rows may have nothing of what clients ask now, so no model could show on them that it
    has learned it.

    Args:
        frozen: the split.
        held_rows: position -> row of the split.
        groups: (positions,) equal for rows that are similar.
        feedback: positions of rows whose targets clients sent.
        params: shares of the new groups.
        seed: of the hash.

    Returns:
        The parts. Leaking rows are similar to a row of test, or as train rows to one of validation.
    """
    parts = [""] * len(groups)
    held: dict[str, set[str]] = defaultdict(set)
    for position, group in enumerate(groups):
        if position in held_rows:
            parts[position] = frozen.splits[held_rows[position]]
            held[parts[position]].add(group)
    old = held["test"] | held["validation"] | held["train"]
    mixed = {group for position, group in enumerate(groups) if position not in feedback}
    for position, group in enumerate(groups):
        if parts[position]:
            continue
        if group in old:
            parts[position] = "train"
        else:
            parts[position] = _new_part(group, group not in mixed, params, seed)
    leaking = set()
    for position, (part, group) in enumerate(zip(parts, groups, strict=True)):
        like_test = part != "test" and group in held["test"]
        like_validation = part == "train" and group in held["validation"]
        if like_test or like_validation:
            leaking.add(position)
    return RowSplits(parts, leaking)


def divide_by_time(
    frozen: FrozenSplit,
    held_rows: Mapping[int, int],
    groups: Sequence[str],
    *,
    feedback: Collection[int],
    moments: NDArray[np.float64],
    params: CleanParams,
    seed: int,
) -> RowSplits:
    """Return the parts of rows by time, around the test rows of a frozen split.

    Test stays. Train and validation are drawn from the other rows by time, those of the frozen
    split too. A share of the feedback is for test, as in `divide`.

    Args:
        frozen: the split.
        held_rows: position -> row of the split.
        groups: (positions,) equal for rows that are similar.
        feedback: positions of rows whose targets clients sent.
        moments: (positions,) in seconds, NaN where there is none.
        params: shares and embargo.
        seed: of the hash.

    Raises:
        InputError: no row of train or of validation is left.
    """
    tested = np.zeros(len(groups), bool)
    for position, row in held_rows.items():
        tested[position] = frozen.splits[row] == "test"
    embargo = params.embargo_days * SECONDS_OF_A_DAY
    _, numbers = np.unique(groups, return_inverse=True)
    by_time = around_test(numbers, moments, tested, params.validation_share, embargo)
    held = {groups[position] for position in held_rows}
    mixed = {group for position, group in enumerate(groups) if position not in feedback}
    splits = list(by_time.splits)
    for position in feedback:
        group = groups[position]
        if group not in held | mixed and _new_part(group, True, params, seed) == "test":
            splits[position] = "test"
    return RowSplits(splits, by_time.leaking, by_time.embargoed, by_time.after_test)


def _new_part(group: str, is_feedback: bool, params: CleanParams, seed: int) -> str:
    """Return the part of a new group by its seeded hash.

    Args:
        group: its name.
        is_feedback: whether clients sent the targets of all rows of it.
        params: shares of the new groups.
        seed: of the hash.
    """
    digest = hashlib.sha256(f"{seed}/{group}".encode()).digest()
    fraction = int.from_bytes(digest[:8]) / 2**64
    if fraction < params.validation_share:
        return "validation"
    test_share = params.test_share if is_feedback else 0.0
    if fraction < params.validation_share + test_share:
        return "test"
    return "train"
