"""How many CPUs this process may use: a container's quota and a mask of `taskset` count, the
machine's number does not.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

OVERRIDE = "GRISTMILL_CPUS"
# OMP_NUM_THREADS is left to Ray, which sets it to the CPUs that a task holds.
_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_MAX_THREADS")
_PROC = Path("/proc/self")


@dataclass(frozen=True)
class CpuLimits:
    """What bounds the CPUs of this process."""

    machine: int
    affinity: int
    # CPUs of time that all processes of the control group get together; None: no quota.
    quota: float | None
    # What the environment sets; None: nothing.
    override: int | None = None

    @property
    def usable(self) -> int:
        """The whole CPUs that may be busy at once, at least 1.

        A part of a CPU is no place for a process, so it is not counted.
        """
        if self.override:
            return self.override
        share = math.floor(self.quota) if self.quota is not None else self.affinity
        return max(1, min(self.affinity, share))

    def __str__(self) -> str:
        """The number and why it is lower than the machine's."""
        reasons = []
        if self.override:
            reasons.append(f"{OVERRIDE}={self.override}")
        if self.affinity < self.machine:
            reasons.append(f"affinity {self.affinity}")
        if self.quota is not None:
            reasons.append(f"control group quota {self.quota:g}")
        why = f" ({', '.join(reasons)})" if reasons else ""
        return f"{self.usable} of {self.machine}{why}"


def cpu_limits(proc: Path = _PROC, environment: Mapping[str, str] | None = None) -> CpuLimits:
    """Read the limits of this process.

    Args:
        proc: the folder of the process below /proc.
        environment: where `GRISTMILL_CPUS` may stand; None: that of this process.
    """
    machine = os.cpu_count() or 1
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine
    quotas = list(_quotas(proc))
    wanted = (os.environ if environment is None else environment).get(OVERRIDE, "")
    override = int(wanted) if wanted.isascii() and wanted.isdigit() and int(wanted) > 0 else None
    return CpuLimits(machine, affinity, min(quotas, default=None), override)


def usable_cpus() -> int:
    """Return how many CPUs this process may keep busy."""
    return cpu_limits().usable


def thread_settings(limits: CpuLimits, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that keep the threads of numeric libraries within the limits.

    What the environment sets already is left out: it wins. The libraries know affinity themselves,
    so without a lower limit there is nothing to set.
    """
    if limits.usable >= limits.affinity:
        return {}
    return {name: str(limits.usable) for name in _THREADS if name not in environment}


def _quotas(proc: Path) -> Iterator[float]:
    """The quotas, in CPUs, of the control groups that this process lies in, from its own up to the
    root that it sees.
    """
    groups = _lines(proc / "cgroup")
    for line in _lines(proc / "mountinfo"):
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or not kind or kind[0] not in ("cgroup", "cgroup2"):
            continue
        root, mount = (_unescaped(field) for field in fields[3:5])
        second = kind[0] == "cgroup2"
        if not second and "cpu" not in kind[-1].split(","):
            continue
        path = _path_of(groups, second)
        if path is None:
            continue
        yield from _upwards(
            Path(mount), _relative(path, root), _read_second if second else _read_first
        )


def _path_of(groups: list[str], second: bool) -> str | None:
    """The path of this process's group in the hierarchy of version 2, or in that of version 1 which
    controls CPUs.
    """
    for line in groups:
        controllers, _, path = line.partition(":")[2].partition(":")
        if second and not controllers:
            return path
        if not second and "cpu" in controllers.split(","):
            return path
    return None


def _relative(path: str, root: str) -> PurePosixPath:
    """The group's path below the mount: a container often sees only its own part of the tree, as
    the root.
    """
    inner = PurePosixPath(path)
    inner = inner.relative_to(root) if inner.is_relative_to(root) else inner
    return PurePosixPath(*(part for part in inner.parts if part not in ("/", "..")))


def _upwards(
    mount: Path, path: PurePosixPath, read: Callable[[Path], float | None]
) -> Iterator[float]:
    for folder in (mount / path, *(mount / parent for parent in path.parents)):
        quota = read(folder)
        if quota is not None:
            yield quota


def _read_second(folder: Path) -> float | None:
    """`cpu.max` of version 2: "max 100000", or two numbers of microseconds."""
    words = " ".join(_lines(folder / "cpu.max")).split()
    return _ratio(words[0], words[1]) if len(words) == 2 else None


def _read_first(folder: Path) -> float | None:
    """The two files of version 1; -1 is no quota."""
    quota, period = ("".join(_lines(folder / f"cpu.cfs_{name}_us")) for name in ("quota", "period"))
    return _ratio(quota, period)


def _ratio(quota: str, period: str) -> float | None:
    if not (quota.isascii() and quota.isdigit() and period.isascii() and period.isdigit()):
        return None
    return int(quota) / int(period) if int(quota) and int(period) else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _unescaped(field: str) -> str:
    """mountinfo writes spaces and backslashes of paths in octal."""
    for code, sign in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        field = field.replace(code, sign)
    return field
