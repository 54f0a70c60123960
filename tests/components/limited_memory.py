"""Run code in a process whose private memory is bounded, so that a gathered table breaks it."""

from __future__ import annotations

import subprocess
import sys

_LIMITED = """
import resource

def limit(mebibytes):
    used = int(open("/proc/self/status").read().split("VmData:")[1].split()[0]) << 10
    resource.setrlimit(resource.RLIMIT_DATA, (used + (mebibytes << 20),) * 2)

"""


def output(code: str, *words: str) -> str:
    """The output of code that calls `limit` with how many MiB it may add to what it has.

    Mapped files are not private, so they do not count.
    """
    command = [sys.executable, "-c", _LIMITED + code, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
