"""A kill -9 at a moment that a test names. Needs the standard library alone.

Copied to a folder of PYTHONPATH as sitecustomize.py, it runs in each process of a project:
KILL_AT names the moment, COUNTS a file that counts runs of the stage ingest, and SLOW keeps that
stage in code in C.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

Hook = Callable[[FrameType, str, Any], None]
STAGE = "components.stages.ingest.stage"


def killer(moment: str, group: int = 0) -> Hook:
    """Return a function for `sys.setprofile` that kills a process group.

    Args:
        moment: "module:function:call or return:n", the nth time.
        group: to kill; 0: that of the process.
    """
    module, name, event, nth = moment.split(":")
    left = int(nth)

    def profile(frame: FrameType, kind: str, _: Any) -> None:
        nonlocal left
        if frame.f_code.co_name == name and kind == event:
            left -= frame.f_globals.get("__name__") == module
            if left == 0:
                os.killpg(group, signal.SIGKILL)

    return profile


def counter(path: str, how: str) -> Hook:
    """Return a function for `sys.setprofile` that counts runs of the stage, and slows them down."""

    def profile(frame: FrameType, kind: str, _: Any) -> None:
        is_run = frame.f_code.co_name == "run" and kind == "call"
        if is_run and frame.f_globals.get("__name__") == STAGE:
            with open(path, "a") as stream:  # noqa: PTH123 (pathlib costs each start 20 ms)
                stream.write("computed\n")
            if how == "numpy":
                import numpy

                numpy.linalg.svd(numpy.random.rand(6000, 6000))
            if how == "holds the lock of the interpreter":
                sum(range(10**10))

    return profile


def install() -> None:
    """Do what the environment says, in processes that compute."""
    words = " ".join(sys.orig_argv)
    if not any(
        name in words for name in ("components.cli stage", "dvc_entry_point", "default_worker")
    ):
        return
    hooks = []
    if "COUNTS" in os.environ:
        hooks.append(counter(os.environ["COUNTS"], os.environ.get("SLOW", "")))
    if "KILL_AT" in os.environ:
        # The process that leads the group of `gristmill run`.
        group = int(os.environ.get("GRISTMILL_OWNER_PID") or 0)
        hooks.append(killer(os.environ["KILL_AT"], group))

    def profile(frame: FrameType, kind: str, argument: Any) -> None:
        for hook in hooks:
            hook(frame, kind, argument)

    if hooks:
        sys.setprofile(profile)


if __name__ == "sitecustomize":
    install()
