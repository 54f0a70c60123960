"""CPUs that a process may use: quotas of nested control groups of both versions, affinity, and what
the environment says.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.core.cpus import OVERRIDE, CpuLimits, cpu_limits, thread_settings


class Groups:
    """A made-up /proc/self and its control groups."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.mount = folder / "proc", folder / "cgroup fs"
        self.proc.mkdir()

    def second(self, path: str, root: str = "/") -> None:
        """Version 2."""
        self._write(
            f"0::{path}\n", f"30 23 0:26 {root} {self._escaped} rw,nosuid - cgroup2 cgroup2 rw\n"
        )

    def first(self, path: str, root: str = "/") -> None:
        """Version 1, with version 2 beside it without controllers, as systemd does it."""
        mounts = (
            f"31 23 0:27 {root} {self._escaped} rw - cgroup cgroup rw,cpu,cpuacct\n32 23 0:28 / "
            "/nowhere rw - cgroup2 none rw\n"
        )
        self._write(f"5:memory:/other\n4:cpu,cpuacct:{path}\n0::/\n", mounts)

    def quota(self, path: str, text: str) -> None:
        folder = self.mount / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(f"{text}\n", encoding="utf-8")

    def quota_first(self, path: str, quota: int, period: int = 100_000) -> None:
        folder = self.mount / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n", encoding="utf-8")
        (folder / "cpu.cfs_period_us").write_text(f"{period}\n", encoding="utf-8")

    @property
    def found(self) -> float | None:
        return cpu_limits(self.proc, {}).quota

    @property
    def _escaped(self) -> str:
        return str(self.mount).replace(" ", r"\040")

    def _write(self, groups: str, mounts: str) -> None:
        (self.proc / "cgroup").write_text(groups, encoding="utf-8")
        (self.proc / "mountinfo").write_text(
            "21 1 8:1 / / rw - ext4 /dev/sda1 rw\nnot a line\n" + mounts, encoding="utf-8"
        )


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    return Groups(tmp_path)


def test_the_smallest_quota_on_the_way_up_counts(groups: Groups) -> None:
    groups.second("/pod/container/job")
    groups.quota("pod", "150000 100000")
    groups.quota("pod/container", "max 100000")
    groups.quota("pod/container/job", "400000 100000")
    assert groups.found == 1.5


def test_a_container_sees_its_own_group_as_the_root(groups: Groups) -> None:
    groups.second("/")
    groups.quota("", "200000 100000")
    assert groups.found == 2.0


def test_a_mount_that_shows_a_part_of_the_tree(groups: Groups) -> None:
    groups.second("/docker/abc/inner", root="/docker/abc")
    groups.quota("inner", "50000 100000")
    assert groups.found == 0.5


def test_version_1(groups: Groups) -> None:
    groups.first("/docker/abc", root="/docker/abc")
    groups.quota_first("", 300_000)
    assert groups.found == 3.0


def test_version_1_nested_and_without_a_quota(groups: Groups) -> None:
    groups.first("/a/b")
    groups.quota_first("a/b", -1)
    assert groups.found is None
    groups.quota_first("a", 125_000, 50_000)
    assert groups.found == 2.5


@pytest.mark.parametrize(
    "text", ["", "max", "many 100000", "-5 100000", "100000 0", "0 100000", "²00000 100000"]
)
def test_what_is_no_quota_is_none(groups: Groups, text: str) -> None:
    groups.second("/")
    groups.quota("", text)
    assert groups.found is None


def test_a_path_outside_the_namespace_stays_below_the_mount(groups: Groups) -> None:
    groups.second("/../../other")
    groups.quota("other", "100000 100000")
    assert groups.found == 1.0


def test_without_proc_there_is_no_quota(tmp_path: Path) -> None:
    assert cpu_limits(tmp_path / "nothing", {}).quota is None


@pytest.mark.parametrize(
    ("affinity", "quota", "override", "usable"),
    [
        (16, 2.0, None, 2),
        (16, 2.9, None, 2),
        (16, 0.5, None, 1),
        (3, 8.0, None, 3),
        (4, None, None, 4),
        (4, 2.0, 7, 7),
    ],
)
def test_the_number_is_whole_and_at_least_one(
    affinity: int, quota: float | None, override: int | None, usable: int
) -> None:
    assert CpuLimits(16, affinity, quota, override).usable == usable


def test_the_reasons_are_shown() -> None:
    assert str(CpuLimits(16, 8, 2.5)) == "2 of 16 (affinity 8, control group quota 2.5)"
    assert str(CpuLimits(16, 16, None)) == "16 of 16"
    assert str(CpuLimits(16, 16, None, 3)) == "3 of 16 (GRISTMILL_CPUS=3)"


@pytest.mark.parametrize(
    ("text", "override"),
    [("3", 3), ("0", None), ("-2", None), ("two", None), ("", None), ("²", None)],
)
def test_the_environment_wins_if_it_is_a_number(text: str, override: int | None) -> None:
    assert cpu_limits(environment={OVERRIDE: text}).override == override


def test_a_mask_of_affinity_counts() -> None:
    cpu = min(os.sched_getaffinity(0))
    program = (
        f"import os; os.sched_setaffinity(0, {{{cpu}}}); "
        "from components.core.cpus import usable_cpus; print(usable_cpus())"
    )
    given = {name: value for name, value in os.environ.items() if name != OVERRIDE}
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=given
    )
    assert answer.stdout == "1\n"


def test_threads_follow_but_a_person_s_own_setting_stays() -> None:
    assert thread_settings(CpuLimits(16, 4, None), {}) == {}
    settings = thread_settings(CpuLimits(16, 4, 2.5), {"MKL_NUM_THREADS": "5"})
    assert settings["OPENBLAS_NUM_THREADS"] == "2"
    assert "MKL_NUM_THREADS" not in settings
