"""Load time and peak memory of candidates, each in a process of its own.

A candidate that ends its process, or does not answer, does not come into the process of the stage.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from components.core.errors import EnvironmentFault
from components.core.sandbox import SandboxedCall
from components.inference.predictor import load

# Time of one candidate.
_SECONDS = 300.0
# Bytes beyond those of the process at its start: the memory of no machine is measured beyond it.
_MEMORY = 1 << 40
_QUERIES = 32
_STATUS = Path("/proc/self/status")
_UNKNOWN: Mapping[str, Any] = {"load_ms": None, "peak_memory_bytes": None}


class ProcessCosts:
    """Measurements of candidates in child processes, one after the other in a thread.

    A child imports what its candidate needs and nothing else, as a service would.

    Args:
        bundles: name -> folder of each candidate.
        queries: of validation; the first ones are asked.
    """

    def __init__(self, bundles: Mapping[str, Path], queries: Sequence[Any]) -> None:
        asked = [query.model_dump_json() for query in queries[:_QUERIES]]
        self._executor = ThreadPoolExecutor(max_workers=1)
        self._costs: dict[str, Future[dict[str, Any]]] = {}
        for name, folder in bundles.items():
            self._costs[name] = self._executor.submit(_measure, folder, asked)

    def __enter__(self) -> ProcessCosts:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._executor.shutdown(cancel_futures=True)

    def of(self, name: str) -> dict[str, Any]:
        """Wait for the process of a candidate, and return its costs.

        Args:
            name: of the candidate.

        Returns:
            {"load_ms": milliseconds to load the bundle with its libraries imported,
            "peak_memory_bytes": most resident memory of a process that loaded it and answered}.
            What could not be measured is None.

        Raises:
            GristmillError: the candidate does not load or answer, or ends its process.
        """
        return self._costs[name].result()


def _measure(folder: Path, queries: Sequence[str]) -> dict[str, Any]:
    """Return the costs of a candidate in a process of its own, see `ProcessCosts.of`."""
    try:
        with SandboxedCall(measure_bundle, _SECONDS, _MEMORY) as child:
            costs: dict[str, Any] = child.call(folder, str(folder), queries)
    except EnvironmentFault:
        # The machine has no room for a process, which is not the candidate's fault.
        return dict(_UNKNOWN)
    return costs


def measure_bundle(folder: str, queries: Sequence[str]) -> dict[str, Any]:
    """Return the costs of loading a bundle and of answering in this process.

    Args:
        folder: of the bundle.
        queries: as JSON, at least one.
    """
    path = Path(folder)
    predictor = load(path)
    parsed = [predictor.evaluator.Query.model_validate_json(query) for query in queries]
    predictor.predict(parsed[:1])
    predictor.predict(parsed)
    peak = peak_memory_bytes()
    del predictor
    # The first load imports libraries too.
    start = time.perf_counter()
    load(path)
    seconds = time.perf_counter() - start
    return {"load_ms": seconds * 1000, "peak_memory_bytes": peak}


def peak_memory_bytes(status: Path = _STATUS) -> int | None:
    """Return the most resident memory that a process had; None where it cannot be read.

    Args:
        status: of the process, as Linux writes it.
    """
    try:
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024
    return None
