"""Checkpoints: appear whole or not at all, written while the fit goes on; a broken newest one falls back to the one before, and says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from components.core.files import atomic


class Checkpoints:
    """The newest states of a fit.

    Args:
        folder: seen by all workers; only the first writes.
        say: where a fallback is reported.
        keep: how many are kept.
        disk_mb: what all of them may take; the newest is kept whatever it takes.
    """

    def __init__(
        self, folder: Path, say: Callable[[str], None] = print, keep: int = 2, disk_mb: float = 4096
    ) -> None:
        self.folder, self.say, self.keep, self.bytes = folder, say, keep, disk_mb * 1e6
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"), reverse=True)

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Copy a state and write it in the background, once the one before is written: two phases, one in flight.

        Raises:
            EnvironmentFault: the one before could not be written.
        """
        self.flush()
        path, copied = self.folder / f"step-{step:09d}.pt", _copied(dict(state))
        try:
            self._pending = self._writer.submit(self._write, path, copied)
        except RuntimeError:  # the interpreter is being ended around us (whoever started this worker is gone): no thread may begin any more
            self._write(path, copied)

    def flush(self) -> None:
        """Wait until what was saved is on the disk.

        Raises:
            EnvironmentFault: it could not be written.
        """
        pending, self._pending = self._pending, None
        if pending:
            pending.result()

    def close(self) -> None:
        """Write what is left and end the writer."""
        try:
            self.flush()
        finally:
            self._writer.shutdown()

    def _write(self, path: Path, state: dict[str, Any]) -> None:
        with atomic(path) as stream:
            torch.save(state, stream)
        used = 0
        for number, each in enumerate(self._paths()):
            used += each.stat().st_size
            if number and (number >= self.keep or used > self.bytes):
                each.unlink(missing_ok=True)

    def newest(self) -> Mapping[str, Any] | None:
        """The newest state that can be read; None when there is none."""
        self.flush()
        for path in self._paths():
            try:
                state: Mapping[str, Any] = torch.load(
                    path, map_location="cpu", weights_only=True
                )  # safe: tensors and plain values only
            except Exception as error:  # whatever a truncated file makes the reader raise
                self.say(
                    f"{path.name} cannot be read ({type(error).__name__}); going on from the one before"
                )
                continue
            return state
        return None


def _copied(value: Any) -> Any:
    """The value with its tensors copied to memory of their own, so that the fit may go on changing them."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copied(each) for key, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list | tuple) else value
