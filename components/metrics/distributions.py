"""Describe numbers and names by distributions that hold none of the rows, as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

# the number of quantiles stored of a number
_EDGES = 100
# the number of values stored of a name; the rest are "other"
MOST_NAMES = 200
OTHER = "other"

# Far above what `numbers` and `names` write: hundreds of values.
MOST_VALUES = 2000
MOST_ROWS = 10**12
# Whole numbers up to it fit 64 bits; larger ones would make arrays of objects.
_LARGEST = 1e18

# Nine decimals of smaller numbers would be fewer than six digits.
_SMALL = 1e-4

Rows = Annotated[int, Field(ge=1, le=MOST_ROWS)]
Count = Annotated[int, Field(ge=0, le=MOST_ROWS)]
Number = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]
Counts = Annotated[dict[str, Count], Field(max_length=MOST_VALUES)]


def numbers(values: Sequence[float]) -> dict[str, Any]:
    """Return a distribution of numbers: at up to a hundred of them, how many are no larger."""
    ranked = np.sort(np.clip(np.asarray(values, dtype=float), -_LARGEST, _LARGEST))
    shares = np.linspace(0, 100, _EDGES + 1)
    edges = np.unique(np.percentile(ranked, shares, method="inverted_cdf"))
    return {
        "kind": "numbers",
        "rows": len(ranked),
        "edges": _rounded(edges),
        "below": np.searchsorted(ranked, edges, side="right").tolist(),
    }


def _rounded(values: NDArray[np.float64]) -> list[float]:
    """Return numbers with nine decimals, and small ones with fifteen significant digits."""
    rounded: list[float] = values.round(9).tolist()
    for position in np.flatnonzero(np.abs(values) < _SMALL):
        rounded[position] = float(f"{values[position]:.14e}")
    return rounded


def names(values: Iterable[str]) -> dict[str, Any]:
    """Return a distribution of names: how often each name occurs."""
    counts = Counter(values)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    stored = dict(sorted(ranked[:MOST_NAMES]))
    rest = sum(counts.values()) - sum(stored.values())
    if rest:
        stored[OTHER] = stored.get(OTHER, 0) + rest
    return {
        "kind": "names",
        "rows": sum(counts.values()),
        "counts": stored,
    }


class CardPart(BaseModel):
    """A part of a card from outside: strict, and without infinite numbers."""

    # Keys of later versions are passed over.
    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore")


class NumbersDistribution(CardPart):
    """A distribution of numbers, as `numbers` returns it."""

    kind: Literal["numbers"]
    rows: Rows
    edges: Annotated[list[Number], Field(min_length=1, max_length=MOST_VALUES)]
    below: Annotated[list[Count], Field(min_length=1, max_length=MOST_VALUES)]

    @model_validator(mode="after")
    def _is_distribution(self) -> NumbersDistribution:
        if len(self.edges) != len(self.below):
            raise ValueError("edges and below have different lengths")
        if self.edges != sorted(self.edges) or self.below != sorted(self.below):
            raise ValueError("edges and below must ascend")
        if self.below[-1] > self.rows:
            raise ValueError("below counts more than there are rows")
        return self


class NamesDistribution(CardPart):
    """A distribution of names, as `names` returns it: of each row one."""

    kind: Literal["names"]
    rows: Rows
    counts: Counts

    @model_validator(mode="after")
    def _is_distribution(self) -> NamesDistribution:
        if sum(self.counts.values()) > self.rows:
            raise ValueError("counts add up to more than there are rows")
        return self
