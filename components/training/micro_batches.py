"""Divide batches into micro-batches that fit the memory.

When a micro-batch does not fit, its size is halved, the step is repeated, and this is
reported.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from components.core.errors import InputError
from components.core.files import to_json, write_atomic
from components.training.batches import Numbers, within
from components.training.fit_config import MEMORY_FILE


class MicroBatches:
    """Division of a batch by the number of tokens that are computed at once.

    Args:
        state: the fit's state folder. The size that fitted the memory is stored there, for
            workers that start again.
        tokens: the size to begin with.
        log: called with a line when the size is halved.
    """

    def __init__(self, state: Path, tokens: int, log: Callable[[str], None]) -> None:
        self._path = state / MEMORY_FILE
        self._log = log
        self.tokens = tokens
        if self._path.exists():
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            self.tokens = min(tokens, stored["tokens"])

    def run(self, rows: Numbers, lengths: Numbers, step: Callable[[list[Numbers]], float]) -> float:
        """Run a step on `rows` in micro-batches and return what the step returns.

        Args:
            rows: (n,) row numbers.
            lengths: tokens of each row of the split.
            step: called with the row numbers of each micro-batch.

        Raises:
            InputError: not even one row fits.
            MemoryShort: one of several workers has too little memory. When all start again,
                they start with half the size.
        """
        while True:
            parts = list(within(rows, lengths, self.tokens)) if len(rows) else []
            try:
                return step(parts)
            except Exception as error:
                if not _is_out_of_memory(error):
                    raise
                largest = max((int(lengths[part].sum()) for part in parts), default=0)
                longest = int(lengths[rows].max(initial=0))
                self._halve(largest, longest)
                if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
                    # The other workers wait in a collective operation.
                    raise MemoryShort(
                        f"out of memory; going on with {self.tokens} tokens at once"
                    ) from None

    def _halve(self, largest: int, longest: int) -> None:
        """Set the size to half of the largest micro-batch, not of the old limit.

        Each try costs several workers a new start.

        Args:
            largest: tokens of the largest micro-batch.
            longest: tokens of the longest row.
        """
        if largest <= longest:
            raise InputError(
                f"the memory does not hold one row of {longest} tokens",
                where="train.micro_batch_tokens",
                remedy="lower tokenize.max_length or take a smaller network",
            ) from None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.tokens = max(longest, largest // 2)
        write_atomic(self._path, to_json({"tokens": self.tokens}))
        self._log(
            f"out of memory: going on with at most {self.tokens} tokens at once, "
            "the rest accumulated; the steps stay the same"
        )


class MemoryShort(RuntimeError):
    """Raised when a worker ran out of memory and the fit can continue with a smaller size."""


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # torch's message on a CPU.
    return "not enough memory" in str(error)
