"""How many queries to score together: as many as this model on this machine answers fastest, found out while serving."""

from __future__ import annotations

import math

_MEMORY = 0.2  # weight of the newest measurement
_LOOK_EVERY = 16  # batches between two looks at another size
_BETTER = 0.97  # a smaller batch must be so much cheaper to be preferred: it lets others wait


class Pace:
    """Seconds per element by size of batch, in powers of two.

    More is not always faster: on a CPU an int8 Transformer scores 32 rows in more than 32 times the time of one, where a small
    TextCNN needs a quarter of that.

    Args:
        most: queries in a batch.
    """

    def __init__(self, most: int) -> None:
        self._sizes = sorted(
            {min(most, 1 << power) for power in range(math.ceil(math.log2(most)) + 1)}
        )
        self._costs: dict[int, float] = {}
        self._turns = 0

    def size(self) -> int:
        """Queries of the next batch at most: the largest size that was not seen yet, then the best one, and now and then another, for load changes."""
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
        """Note how long a batch took.

        Args:
            items: scored together.
            elements: of their rows, without padding.
            seconds: that it took.
        """
        size = min(self._sizes, key=lambda each: abs(math.log2(each / items)))
        cost = seconds / max(1, elements)
        before = self._costs.get(size, cost)
        self._costs[size] = before + _MEMORY * (cost - before)
