"""Energy of this machine from the counters of RAPL, which Linux shows for Intel and AMD.

They count processor packages, and memory where the machine can. They count other programs and idle
time too, and neither GPUs nor disks. Nothing is estimated: what cannot be read is unknown.
"""

from __future__ import annotations

import json
import math
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from components.core.files import to_json, write_atomic

POWERCAP = Path("/sys/class/powercap")
# A folder for each GPU of NVIDIA, also in a process that has not imported torch.
_NVIDIA = Path("/proc/driver/nvidia/gpus")
# Seconds between two reads. A counter of 262 kJ wraps around after 11 minutes at 400 W.
_INTERVAL_S = 30.0


class EnergyCounter:
    """Counts the energy of this machine. A counter may wrap around once between two reads.

    Args:
        powercap: the folder in which Linux shows the zones of RAPL.
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._zones = _zones(powercap)
        self._last = _counts(self._zones)
        self._microjoules = 0

    def joules(self) -> float | None:
        """Return the energy since the counter was made; None where a zone cannot be read."""
        counts = _counts(self._zones)
        if self._last is None or counts is None:
            self._last = None
            return None
        for zone, count in counts.items():
            change = count - self._last[zone]
            self._microjoules += change if change >= 0 else change + self._zones[zone]
        self._last = counts
        return self._microjoules / 1e6


def _zones(powercap: Path) -> dict[Path, int]:
    """Return the zones that do not overlap, with the microjoules at which each wraps around.

    Cores are part of their package, and the zone of the platform holds all packages.
    """
    zones = {}
    for folder in sorted(powercap.glob("intel-rapl:*")):
        try:
            name = (folder / "name").read_text(encoding="ascii").strip()
            if name.startswith("package-") or name == "dram":
                zones[folder / "energy_uj"] = _number(folder / "max_energy_range_uj")
        except (OSError, ValueError):
            # A zone that cannot be read leaves a part of the energy out.
            return {}
    return zones


def _counts(zones: Mapping[Path, int]) -> dict[Path, int] | None:
    """Return the microjoules of each zone; None without zones, or if one cannot be read."""
    try:
        return {zone: _number(zone) for zone in zones} or None
    except (OSError, ValueError):
        return None


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


class EnergyMeter:
    """Counts the energy of this machine while a block runs, in a thread.

    With a file, a block that was killed goes on where it was, at most 30 seconds before its end.

    Args:
        file: in the state folder of a stage. None: the block does not resume.
        powercap: see `EnergyCounter`.
    """

    def __init__(self, file: Path | None = None, powercap: Path = POWERCAP) -> None:
        self._file = file
        self._powercap = powercap
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read_often, daemon=True)

    def __enter__(self) -> EnergyMeter:
        self._before = _joules_of(self._file)
        self._counter = EnergyCounter(self._powercap)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def joules(self) -> float | None:
        """Return the energy so far; None where it is unknown.

        It is unknown where a counter cannot be read, and where GPUs or other machines work too.
        """
        with self._lock:
            joules = self._counter.joules()
            if joules is None or self._before is None or _others_work():
                joules = None
            else:
                joules += self._before
            if self._file is not None:
                write_atomic(self._file, to_json({"joules": joules}))
            return joules

    def _read_often(self) -> None:
        while not self._ended.wait(_INTERVAL_S):
            self.joules()


def _joules_of(file: Path | None) -> float | None:
    """Return the energy of a block before it was killed: 0 if it was not; None if it is unknown."""
    if file is None or not file.is_file():
        return 0.0
    try:
        joules = float(json.loads(file.read_text(encoding="utf-8"))["joules"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return joules if math.isfinite(joules) else None


def _others_work() -> bool:
    """Return whether GPUs or other machines may work for this process, or nobody can tell."""
    if any(_NVIDIA.glob("*")):
        return True
    try:
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            return True
        ray = sys.modules.get("ray")
        if ray is None or not ray.is_initialized():
            return False
        alive = [node for node in ray.nodes() if node["Alive"]]
    except Exception:
        # torch is half imported, or the cluster does not answer. A measurement ends no stage.
        return True
    return len(alive) > 1
