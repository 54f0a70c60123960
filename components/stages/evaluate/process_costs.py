"""Load time and peak memory of candidates, each in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any

from components.core.errors import GristmillError
from components.core.sandbox import SandboxedCall
from components.inference.predictor import load

# Time of one candidate. A candidate that takes longer has unknown costs.
_SECONDS = 60.0
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
        self._bundles = bundles
        self._queries = [query.model_dump_json() for query in queries[:_QUERIES]]
        self._costs: dict[str, dict[str, Any]] = {}
        self._stop = Event()
        self._thread = Thread(target=self._measure_all, daemon=True)
        self._thread.start()

    def collect(self, patience_s: float) -> dict[str, dict[str, Any]]:
        """Return the costs of each candidate. No child runs afterwards.

        Args:
            patience_s: seconds after which no further candidate is measured.

        Returns:
            name -> {"load_ms": milliseconds to load the bundle with its libraries imported,
            "peak_memory_bytes": most resident memory of a process that loaded it and answered}.
            What could not be measured is None.
        """
        self._thread.join(patience_s)
        self._stop.set()
        self._thread.join()
        return {name: self._costs.get(name, dict(_UNKNOWN)) for name in self._bundles}

    def _measure_all(self) -> None:
        for name, folder in self._bundles.items():
            if self._stop.is_set():
                return
            try:
                with SandboxedCall(measure_bundle, _SECONDS, _MEMORY) as child:
                    self._costs[name] = child.call(folder, str(folder), self._queries)
            except GristmillError:
                # Costs that are unknown stop nobody: the candidate itself is measured elsewhere.
                continue


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
