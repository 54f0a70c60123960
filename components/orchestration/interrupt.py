"""Handle Ctrl-C and SIGTERM: a command cleans up, prints how to go on, and ends soon."""

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
# Seconds to clean up. Code in C, such as a long matrix product, does not react to a signal in time.
GRACE_S = 4.0
# Characters of a command that is printed.
_LONGEST = 200
# Bytes of signal numbers that are read at once.
_READ_SIZE = 64
# Seconds between two checks of a process with which this one ends.
_POLL_S = 0.5
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_pending = threading.Event()
# At most one command.
_resume_commands: list[str] = []


def install(grace_s: float = GRACE_S) -> None:
    """Make Ctrl-C and SIGTERM raise KeyboardInterrupt, and end the process if it does not react.

    Call it in the main thread. A program that this process starts does not inherit it.

    Args:
        grace_s: seconds after which the process ends, whatever it does.
    """
    for number in _SIGNALS:
        # A shell lets background jobs of a script ignore Ctrl-C.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # The number of a signal arrives there at once, also while the main thread runs code in C.
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=_uninstall)
    threading.Thread(target=_watch, args=(reader, grace_s), daemon=True).start()


def end_with(process: Identity) -> None:
    """Send SIGTERM to this process soon after another one has ended, however that ended.

    The kernel can do that for a parent alone, but dvc starts a stage through a shell such as dash.

    Args:
        process: the other process.
    """

    def watch() -> None:
        while alive(process):
            time.sleep(_POLL_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def is_pending() -> bool:
    """Return whether the process has got a signal to end."""
    return _pending.is_set()


def resume_with(command: str) -> None:
    """Set the command that goes on, where it is not the one that was called."""
    _resume_commands[:] = [command]


def report() -> None:
    """Print how to go on. In a stage of `gristmill run` that command does so itself."""
    if os.environ.get("GRISTMILL_RUN"):
        return
    command = shlex.join(["gristmill", *sys.argv[1:]])[:_LONGEST]
    if _resume_commands:
        command = _resume_commands[0]
    text = log_line(f"stopped; what was finished is kept. To go on: {command}")
    with suppress(OSError):
        os.write(sys.stderr.fileno(), f"{text}\n".encode(errors="replace"))


def signal_group(number: signal.Signals) -> None:
    """Send a signal to all descendants that belong to the process group of this process.

    Ray and its supervisor have separate sessions, and end when this process has ended.

    Args:
        number: of the signal.
    """
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(child.pid) == os.getpgrp():
                child.send_signal(number)


def _interrupt(*_: object) -> None:
    _pending.set()
    raise KeyboardInterrupt


def _watch(reader: int, grace_s: float) -> None:
    """End the process some seconds after a signal that this module handles.

    Args:
        reader: descriptor from which the numbers of signals are read.
        grace_s: how long to wait.
    """
    is_interrupted = False
    while not is_interrupted:
        is_interrupted = _is_interrupted(os.read(reader, _READ_SIZE))
    time.sleep(grace_s)
    report()
    signal_group(signal.SIGKILL)
    os._exit(EXIT_CODE)


def _is_interrupted(numbers: bytes) -> bool:
    """Return whether one of these signals is handled by this module."""
    return any(number in numbers and signal.getsignal(number) is _interrupt for number in _SIGNALS)


def _uninstall() -> None:
    """Restore the default handlers in a forked child, because the pipe belongs to its parent."""
    with suppress(ValueError):
        signal.set_wakeup_fd(-1)
        if signal.getsignal(signal.SIGTERM) is _interrupt:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) is _interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)
