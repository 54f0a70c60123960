"""Size of a batch: as many queries as this model on this machine answers fastest.

The size is measured while serving.
"""

from __future__ import annotations

import math

# weight of the newest measurement
_MEMORY = 0.2
# batches between two tries of another size
_LOOK_EVERY = 16
# a smaller batch must be so much cheaper to be preferred: it lets others wait
_BETTER = 0.97


class BatchSizeTuner:
    """Seconds per element by size of batch, in powers of two.

    A larger batch is not always faster. On a CPU an int8 Transformer scores 32 rows in more than 32
    times the time of one row. A small TextCNN needs a quarter of that.

    Args:
        most: queries in a batch.
    """

    def __init__(self, most: int) -> None:
        powers = range(math.ceil(math.log2(most)) + 1)
        self._sizes = sorted({min(most, 1 << power) for power in powers})
        self._costs: dict[int, float] = {}
        self._turns = 0

    def size(self) -> int:
        """Return the queries of the next batch at most.

        It is the largest size that was not measured yet, then the best size. Now and then it is
        another size, because load changes.
        """
        unseen = [size for size in self._sizes if size not in self._costs]
        if unseen:
            return unseen[-1]
        self._turns += 1
        if self._turns % _LOOK_EVERY == 0:
            return self._sizes[self._turns // _LOOK_EVERY % len(self._sizes)]
        best = self._sizes[-1]
        for size in reversed(self._sizes):
            if self._costs[size] < self._costs[best] * _BETTER:
                best = size
        return best

    def measured(self, items: int, elements: int, seconds: float) -> None:
        """Record how long a batch took.

        Args:
            items: scored together.
            elements: of their rows, without padding.
            seconds: that it took.
        """
        nearest = min(self._sizes, key=lambda size: abs(math.log2(size / items)))
        cost = seconds / max(1, elements)
        before = self._costs.get(nearest, cost)
        self._costs[nearest] = before + _MEMORY * (cost - before)
