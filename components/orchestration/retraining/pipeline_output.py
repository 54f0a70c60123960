"""Follow the log of a pipeline that runs in another process.

The log tells which stage runs, how long each stage took, and the first error.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from components.core.terminal import print_line

_POLL_S = 0.2
_RUNNING = re.compile(rb"^Running stage '(?:.*:)?([a-z]+)'")
_ERROR = re.compile(rb"^(?:error|ERROR): (.*)")
# Characters of an error that are stored.
_LONGEST = 500


@dataclass(frozen=True)
class PipelineResult:
    """Holds how a pipeline ended.

    Args:
        code: the exit code.
        seconds: stage -> how long it took, for the stages that ran.
        stage: the last one; empty if none began.
        error: the first error in the log; empty without one.
    """

    code: int
    seconds: Mapping[str, float]
    stage: str
    error: str


@dataclass
class _StageProgress:
    """Reads the lines of a log and measures the stages.

    Args:
        on_stage: see `follow`.
    """

    on_stage: Callable[[str, Mapping[str, float]], None]
    stage: str = ""
    error: str = ""
    began: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)

    def read_line(self, line: bytes) -> None:
        """Print a line of the log and note the stage or the error that it names."""
        print_line(line.decode("utf-8", "replace"))
        error = _ERROR.match(line)
        if error and not self.error:
            self.error = error[1].decode("utf-8", "replace")[:_LONGEST]
        running = _RUNNING.match(line)
        if running:
            self.end_stage()
            self.stage = running[1].decode()
            self.began = time.monotonic()
            self.on_stage(self.stage, self.seconds)

    def end_stage(self) -> None:
        """Record the duration of the stage that runs, if any."""
        if self.stage:
            self.seconds[self.stage] = round(time.monotonic() - self.began, 1)


def follow(
    process: subprocess.Popen[bytes],
    log: Path,
    on_stage: Callable[[str, Mapping[str, float]], None],
) -> PipelineResult:
    """Print a log until its writer ends.

    Args:
        process: the writer.
        log: the file.
        on_stage: called when a stage begins, with its name and the durations of those before.

    Returns:
        How the writer ended.
    """
    progress = _StageProgress(on_stage)
    with log.open("rb") as stream:
        rest = b""
        is_over = False
        while not is_over:
            is_over = process.poll() is not None
            *lines, rest = (rest + stream.read()).split(b"\n")
            if is_over and rest:
                lines.append(rest)
            for line in lines:
                progress.read_line(line)
            if not is_over:
                time.sleep(_POLL_S)
    progress.end_stage()
    return PipelineResult(process.returncode, progress.seconds, progress.stage, progress.error)
