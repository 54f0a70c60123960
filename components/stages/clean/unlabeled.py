"""Rows without a target: they serve pretraining and distillation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

SPLIT = "unlabelled"
Rows = NDArray[np.int64]


def is_for_training(split: str | None) -> bool:
    """Return whether a row's own split allows to train on it."""
    return (split or SPLIT).strip().lower() in (SPLIT, "train", "training")


@dataclass(frozen=True)
class UnlabeledSplit:
    """The rows without a target that stay, and how many were dropped.

    Args:
        positions: (n,) of the rows that stay.
        duplicates: rows that equal another row without a target, or a row with one.
        held_out: further rows, in groups of the source that have a row of validation or test.
    """

    positions: Rows
    duplicates: int
    held_out: int


def split_unlabeled(
    keys: Rows,
    groups: pa.Array,
    known: Rows,
    held_out: pa.Array,
) -> UnlabeledSplit:
    """Return the split of the rows without a target.

    No text of the held-out splits is among them, and none of their groups.

    Args:
        keys: (rows,) equal for rows whose inputs count as the same.
        groups: (rows,) of the source, null where there is none.
        known: keys of the rows with a target.
        held_out: groups of the source that have a row of validation or test.
    """
    is_held_out = pc.is_in(groups, value_set=held_out.drop_null()).to_numpy(zero_copy_only=False)
    candidates = np.flatnonzero(~is_held_out & ~np.isin(keys, known))
    _, first = np.unique(keys[candidates], return_index=True)
    positions = candidates[np.sort(first)]
    left_out = int(is_held_out.sum())
    return UnlabeledSplit(positions, len(keys) - left_out - len(positions), left_out)
