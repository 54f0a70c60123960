"""Batches in parts that fit the memory: when one does not, the part is halved and the step done again, and this is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from components.core.errors import InputError
from components.core.files import to_json, write_atomic
from components.training.batches import Numbers, within
from components.training.fit_config import ROOM


class Parts:
    """How many tokens are computed at once.

    Args:
        state: of the fit; what was learned about the memory stays there, for workers that begin anew.
        tokens: to begin with.
        say: where a halving is reported.
    """

    def __init__(self, state: Path, tokens: int, say: Callable[[str], None]) -> None:
        self._note, self._say = state / ROOM, say
        self.tokens = (
            min(tokens, json.loads(self._note.read_text(encoding="utf-8"))["tokens"])
            if self._note.exists()
            else tokens
        )

    def run(self, rows: Numbers, lengths: Numbers, step: Callable[[list[Numbers]], float]) -> float:
        """Do a step with `rows` in parts.

        Raises:
            InputError: not even one row fits.
            MemoryShort: one of several workers has too little; when all begin anew, they begin with half.
        """
        while True:
            parts = list(within(rows, lengths, self.tokens)) if len(rows) else []
            try:
                return step(parts)
            except Exception as error:
                if not _is_memory(error):
                    raise
                self._halve(
                    max((int(lengths[part].sum()) for part in parts), default=0),
                    int(lengths[rows].max(initial=0)),
                )
                if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
                    raise MemoryShort(
                        f"out of memory; going on with {self.tokens} tokens at once"
                    ) from None  # the others are in the middle of a sum

    def _halve(self, largest: int, longest: int) -> None:
        """Half of the largest part, not of what was allowed: each try costs several workers a new start."""
        if largest <= longest:
            raise InputError(
                f"the memory does not hold one row of {longest} tokens",
                where="train.micro_batch_tokens",
                remedy="lower tokenize.max_length or take a smaller network",
            ) from None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.tokens = max(longest, largest // 2)
        write_atomic(self._note, to_json({"tokens": self.tokens}))
        self._say(
            f"out of memory: going on with at most {self.tokens} tokens at once, the rest accumulated; the steps stay the same"
        )


class MemoryShort(RuntimeError):
    """A worker's memory was short; the fit can go on with smaller parts."""


def _is_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(
        error
    )  # the last is how torch says it on a CPU
