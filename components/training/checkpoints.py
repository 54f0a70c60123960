"""Write and read checkpoints.

A checkpoint appears whole or not at all, and is written while the fit continues. A newest
one that cannot be read falls back to the one before, and this is reported.
"""

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
        folder: a folder that all workers see. Only the first worker writes.
        log: called with a line when a checkpoint cannot be read.
        keep: how many checkpoints are kept.
        disk_mb: limit for all checkpoints together. The newest is kept at any size.
    """

    def __init__(
        self, folder: Path, log: Callable[[str], None] = print, keep: int = 2, disk_mb: float = 4096
    ) -> None:
        self.folder = folder
        self.log = log
        self.keep = keep
        self.max_bytes = disk_mb * 1e6
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"), reverse=True)

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Copy a state and write it in the background, once the one before is written.

        Raises:
            EnvironmentFault: the checkpoint before could not be written.
        """
        self.flush()
        path = self.folder / f"step-{step:09d}.pt"
        copy = _copy_to_cpu(dict(state))
        try:
            self._pending = self._writer.submit(self._write, path, copy)
        except RuntimeError:
            # The interpreter is shutting down because the parent process is gone. No thread
            # can start any more.
            self._write(path, copy)

    def flush(self) -> None:
        """Wait until the last saved state is on the disk.

        Raises:
            EnvironmentFault: it could not be written.
        """
        pending = self._pending
        self._pending = None
        if pending:
            pending.result()

    def close(self) -> None:
        """Write the pending state and end the writer thread."""
        try:
            self.flush()
        finally:
            self._writer.shutdown()

    def _write(self, path: Path, state: dict[str, Any]) -> None:
        with atomic(path) as stream:
            torch.save(state, stream)
        used_bytes = 0
        for number, checkpoint in enumerate(self._paths()):
            used_bytes += checkpoint.stat().st_size
            if number and (number >= self.keep or used_bytes > self.max_bytes):
                checkpoint.unlink(missing_ok=True)

    def newest(self) -> Mapping[str, Any] | None:
        """Return the newest state that can be read, or None."""
        self.flush()
        for path in self._paths():
            try:
                # Safe: `weights_only` loads tensors and plain values only.
                state: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:
                # A truncated file makes the reader raise errors of many types.
                self.log(
                    f"{path.name} cannot be read ({type(error).__name__}); "
                    "going on from the one before"
                )
                continue
            return state
        return None


def _copy_to_cpu(value: Any) -> Any:
    """Return a value with its tensors copied, so that the fit can continue to change them."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copy_to_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copy_to_cpu(item) for item in value]
    return value
