"""The log of a pipeline that runs elsewhere, followed: which stage it is in, how long each took, what went wrong."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from components.core.terminal import print_line

_POLL_S = 0.2
_RUNNING = re.compile(rb"^Running stage '(?:.*:)?([a-z]+)'")
_ERROR = re.compile(rb"^(?:error|ERROR): (.*)")
_LONGEST = 500  # characters of an error that are kept


@dataclass(frozen=True)
class Followed:
    """How it ended."""

    code: int
    seconds: Mapping[str, float]  # stage -> how long, of those that ran
    stage: str  # the last one
    error: str  # its first error


def follow(
    process: subprocess.Popen[bytes], log: Path, tell: Callable[[str, Mapping[str, float]], None]
) -> Followed:
    """Echo a log until its writer ends.

    Args:
        process: the writer.
        log: the file.
        tell: called when a stage begins, with its name and the durations of those before.
    """
    seconds: dict[str, float] = {}
    stage, error, began = "", "", time.monotonic()
    with log.open("rb") as stream:
        rest, over = b"", False
        while not over:
            over = process.poll() is not None
            *lines, rest = (rest + stream.read()).split(b"\n")
            for line in [*lines, *([rest] if over and rest else [])]:
                print_line(line.decode("utf-8", "replace"))
                if found := _ERROR.match(line):
                    error = error or found[1].decode("utf-8", "replace")[:_LONGEST]
                if found := _RUNNING.match(line):
                    if stage:
                        seconds[stage] = round(time.monotonic() - began, 1)
                    stage, began = found[1].decode(), time.monotonic()
                    tell(stage, seconds)
            if not over:
                time.sleep(_POLL_S)
    if stage:
        seconds[stage] = round(time.monotonic() - began, 1)
    return Followed(process.returncode, seconds, stage, error)
