"""What a fit costs: throughput, useful share, memory, CPU-seconds. Told to the journal only: times differ from run to run, and results must not."""

from __future__ import annotations

import time
from collections.abc import Sequence

import psutil
import torch

from components.tasks.base import Arrays


class Throughput:
    """Counts from reading to reading.

    Args:
        device: whose memory counts.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._process = device, psutil.Process()
        self._begin()

    def _begin(self) -> None:
        self._useful, self._computed = 0, 0
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def count(self, arrays: Sequence[Arrays], useful: int) -> None:
        """Take in the parts of a step: `useful` tokens or pixels are in its rows, the largest array says how many are computed."""
        self._useful += useful
        self._computed += sum(
            max(
                each.size
                for name, each in part.items()
                if name not in ("target", "weight", "lengths")
            )
            for part in arrays
        )

    def read(self) -> dict[str, float]:
        """tokens_per_second (of this worker), useful_share, memory_mb (its peak on a GPU), cpu_seconds; then begin anew."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        memory = (
            torch.cuda.max_memory_allocated(self._device)
            if self._device.type == "cuda"
            else self._process.memory_info().rss
        )
        figures = {
            "tokens_per_second": self._useful / wall,
            "useful_share": self._useful / max(1, self._computed),
            "memory_mb": memory / 1e6,
            "cpu_seconds": cpu,
        }
        self._begin()
        return figures
