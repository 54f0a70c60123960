"""Checkpoints: appear whole or not at all; a broken newest one falls back to the one before, and says so."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from components.core.files import write_atomic

_KEEP = 2


class Checkpoints:
    """The newest two states of a fit.

    Args:
        folder: seen by all workers; only the first writes.
        say: where a fallback is reported.
    """

    def __init__(self, folder: Path, say: Callable[[str], None] = print) -> None:
        self.folder, self.say = folder, say

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"), reverse=True)

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Keep a state, drop all but the newest two."""
        stream = io.BytesIO()
        torch.save(dict(state), stream)
        write_atomic(self.folder / f"step-{step:09d}.pt", stream.getvalue())
        for old in self._paths()[_KEEP:]:
            old.unlink(missing_ok=True)

    def newest(self) -> Mapping[str, Any] | None:
        """The newest state that can be read; None when there is none."""
        for path in self._paths():
            try:
                state: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)  # safe: tensors and plain values only
            except Exception as error:  # whatever a truncated file makes the reader raise
                self.say(f"{path.name} cannot be read ({type(error).__name__}); going on from the one before")
                continue
            return state
        return None
