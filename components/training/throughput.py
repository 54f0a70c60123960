"""Measure what a fit costs: throughput, useful share, memory, CPU seconds.

The figures go to the journal only. They differ from run to run, and results must not.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import psutil
import torch

from components.tasks.base import Arrays

_NOT_INPUTS = ("target", "weight", "lengths")


class Throughput:
    """Counters from one reading to the next.

    Args:
        device: the device whose memory is measured.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process = psutil.Process()
        self._reset()

    def _reset(self) -> None:
        self._useful = 0
        self._computed = 0
        self._wall_start = time.perf_counter()
        self._cpu_start = time.process_time()

    def count(self, micro_batches: Sequence[Arrays], useful: int) -> None:
        """Count a step.

        Args:
            micro_batches: the arrays of the step. The largest array of a micro-batch says
                how many tokens or pixels are computed.
            useful: tokens or pixels in the rows of the step, without padding.
        """
        self._useful += useful
        for arrays in micro_batches:
            self._computed += max(
                array.size for name, array in arrays.items() if name not in _NOT_INPUTS
            )

    def read(self) -> dict[str, float]:
        """Return the figures since the last reading and reset the counters.

        Returns:
            tokens_per_second of this worker, useful_share, memory_mb (on a GPU the peak)
            and cpu_seconds.
        """
        wall = time.perf_counter() - self._wall_start
        cpu = time.process_time() - self._cpu_start
        if self._device.type == "cuda":
            memory = torch.cuda.max_memory_allocated(self._device)
        else:
            memory = self._process.memory_info().rss
        metrics = {
            "tokens_per_second": self._useful / wall,
            "useful_share": self._useful / max(1, self._computed),
            "memory_mb": memory / 1e6,
            "cpu_seconds": cpu,
        }
        self._reset()
        return metrics
