"""Count the CPUs that this process may use.

A container's quota and a mask of `taskset` count. The machine's number does not.
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
    """Limits of the CPUs of this process.

    Args:
        machine: CPUs of the machine.
        affinity: CPUs on which the process may run.
        quota: CPUs of time for all processes of the control group together. None: no quota.
        override: CPUs that the environment sets. None: none.
    """

    machine: int
    affinity: int
    quota: float | None
    override: int | None = None

    @property
    def usable(self) -> int:
        """Return the whole CPUs that may be busy at once, at least 1.

        A part of a CPU is not counted, because no process can use it alone.
        """
        if self.override:
            return self.override
        if self.quota is None:
            return max(1, self.affinity)
        return max(1, min(self.affinity, math.floor(self.quota)))

    def __str__(self) -> str:
        """Return the number and why it is lower than the machine's."""
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
        environment: variables, among them perhaps `GRISTMILL_CPUS`. None: those of this process.
    """
    if environment is None:
        environment = os.environ
    machine = os.cpu_count() or 1
    affinity = machine
    if hasattr(os, "sched_getaffinity"):
        affinity = len(os.sched_getaffinity(0))
    quota = min(_quotas(proc), default=None)
    return CpuLimits(machine, affinity, quota, _override(environment.get(OVERRIDE, "")))


def _override(text: str) -> int | None:
    """Return the number of CPUs that the environment sets, or None if it is no positive number."""
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    return None


def usable_cpus() -> int:
    """Return how many CPUs this process may keep busy."""
    return cpu_limits().usable


def thread_settings(limits: CpuLimits, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that keep the threads of numeric libraries within the limits.

    Variables that the environment sets already are left out. The libraries know affinity
    themselves, so without a lower limit there is nothing to set.
    """
    if limits.usable >= limits.affinity:
        return {}
    return {name: str(limits.usable) for name in _THREADS if name not in environment}


def _quotas(proc: Path) -> Iterator[float]:
    """Yield the quotas, in CPUs, of this process's control groups up to the visible root."""
    groups = _lines(proc / "cgroup")
    for line in _lines(proc / "mountinfo"):
        before, _, after = line.partition(" - ")
        fields = before.split()
        kind = after.split()
        if len(fields) < 5 or not kind or kind[0] not in ("cgroup", "cgroup2"):
            continue
        root, mount = (_unescaped(field) for field in fields[3:5])
        is_version_2 = kind[0] == "cgroup2"
        if not is_version_2 and "cpu" not in kind[-1].split(","):
            continue
        path = _path_of(groups, is_version_2)
        if path is None:
            continue
        read = _read_version_2 if is_version_2 else _read_version_1
        yield from _upwards(Path(mount), _relative(path, root), read)


def _path_of(groups: list[str], is_version_2: bool) -> str | None:
    """Return the path of this process's group.

    It is that in the hierarchy of version 2, or in the one of version 1 that controls CPUs.
    """
    for line in groups:
        controllers, _, path = line.partition(":")[2].partition(":")
        if is_version_2 and not controllers:
            return path
        if not is_version_2 and "cpu" in controllers.split(","):
            return path
    return None


def _relative(path: str, root: str) -> PurePosixPath:
    """Return the group's path below the mount.

    A container often sees only its own part of the tree, as the root.
    """
    inner = PurePosixPath(path)
    if inner.is_relative_to(root):
        inner = inner.relative_to(root)
    return PurePosixPath(*(part for part in inner.parts if part not in ("/", "..")))


def _upwards(
    mount: Path, path: PurePosixPath, read: Callable[[Path], float | None]
) -> Iterator[float]:
    """Yield the quotas of a group and of its parents, where they have one."""
    for folder in (mount / path, *(mount / parent for parent in path.parents)):
        quota = read(folder)
        if quota is not None:
            yield quota


def _read_version_2(folder: Path) -> float | None:
    """Return the quota in `cpu.max`: "max 100000", or two numbers of microseconds."""
    words = " ".join(_lines(folder / "cpu.max")).split()
    return _ratio(words[0], words[1]) if len(words) == 2 else None


def _read_version_1(folder: Path) -> float | None:
    """Return the quota in the two files of version 1, of which -1 is no quota."""
    quota = "".join(_lines(folder / "cpu.cfs_quota_us"))
    period = "".join(_lines(folder / "cpu.cfs_period_us"))
    return _ratio(quota, period)


def _ratio(quota: str, period: str) -> float | None:
    """Return quota / period, or None if one of them is no positive number."""
    for text in (quota, period):
        if not (text.isascii() and text.isdigit() and int(text)):
            return None
    return int(quota) / int(period)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _unescaped(field: str) -> str:
    """Return a path of mountinfo, which writes spaces and backslashes in octal."""
    for code, sign in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        field = field.replace(code, sign)
    return field
