"""Sorted arrays of numbers."""

from __future__ import annotations

import numpy as np
import pytest

from components.core.sorted_arrays import distinct


@pytest.mark.parametrize("numbers", [[], [3], [3, 3, 3], [2, -1, 2, 7, -1]])
def test_each_value_stands_once_and_in_order(numbers: list[int]) -> None:
    values = np.array(numbers, dtype=np.int64)
    assert distinct(values).tolist() == sorted(set(numbers))
    assert values.tolist() == numbers, "the argument stays as it is"


def test_numbers_beyond_63_bits_are_not_mixed_up() -> None:
    values = np.array([2**64 - 1, 2**63, 2**64 - 1, 1], dtype=np.uint64)
    assert distinct(values).tolist() == [1, 2**63, 2**64 - 1]
