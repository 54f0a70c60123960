"""Ctrl-C and SIGTERM: a command tidies up, says how to go on, and ends within ten seconds."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
import time
from contextlib import suppress

import psutil

from components.core.escaping import log_line
from components.orchestration.processes import Identity, alive

EXIT_CODE = 130
# Seconds to tidy up. Code in C, such as a long matrix product, does not see a signal in time.
GRACE_S = 4.0
# Characters of a command that is printed.
_LONGEST = 200
# Seconds between two looks at a process that this one ends with.
_LOOK_S = 0.5
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_pending = threading.Event()
_resume: list[str] = []


def install(grace_s: float = GRACE_S) -> None:
    """Have Ctrl-C and SIGTERM raise KeyboardInterrupt, and end the process where that is not seen.

    To be called in the main thread. A program that is started from here does not inherit it.

    Args:
        grace_s: seconds after which the process ends, whatever it does then.
    """
    for number in _SIGNALS:
        # A shell lets background jobs of a script ignore Ctrl-C.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # The signal is written there at once, also while the main thread runs code in C.
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=_uninstall)
    threading.Thread(target=_watch, args=(reader, grace_s), daemon=True).start()


def end_with(process: Identity) -> None:
    """Send SIGTERM to this process soon after another one has ended, however it ended.

    The kernel can do that for a parent only, and shells such as dash stand between dvc and a stage.
    """

    def watch() -> None:
        while alive(process):
            time.sleep(_LOOK_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def is_pending() -> bool:
    """Return whether the process was told to end."""
    return _pending.is_set()


def resume_with(command: str) -> None:
    """Name the command that goes on, where that is not the one that was called."""
    _resume[:] = [command]


def tell() -> None:
    """Print how to go on; `gristmill run` does so for its stages."""
    if os.environ.get("GRISTMILL_RUN"):
        return
    command = _resume[0] if _resume else shlex.join(["gristmill", *sys.argv[1:]])[:_LONGEST]
    text = log_line(f"stopped; what was finished is kept. To go on: {command}")
    with suppress(OSError):
        os.write(sys.stderr.fileno(), f"{text}\n".encode(errors="replace"))


def signal_group(number: signal.Signals) -> None:
    """Send a signal to all descendants that belong to the process group of this process.

    Ray and its supervisor have sessions of their own, and end when this process has ended.
    """
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(child.pid) == os.getpgrp():
                child.send_signal(number)


def _interrupt(*_: object) -> None:
    _pending.set()
    raise KeyboardInterrupt


def _watch(reader: int, grace_s: float) -> None:
    """End the process some seconds after a signal that would have to end it."""
    while True:
        numbers = set(os.read(reader, 64))
        if any(number in numbers and signal.getsignal(number) is _interrupt for number in _SIGNALS):
            break
    time.sleep(grace_s)
    tell()
    signal_group(signal.SIGKILL)
    os._exit(EXIT_CODE)


def _uninstall() -> None:
    """Give a forked child the usual handlers: the pipe is its parent's."""
    with suppress(ValueError):
        signal.set_wakeup_fd(-1)
        if signal.getsignal(signal.SIGTERM) is _interrupt:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) is _interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)
