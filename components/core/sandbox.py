"""Work on untrusted files in a child process with limits on time and memory."""

from __future__ import annotations

import json
import os
import pkgutil
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from components.core.errors import (
    BundleError,
    EnvironmentFault,
    GristmillError,
    InputError,
    ParamsError,
)
from components.core.escaping import brief
from components.core.garbage import collect_rarely

SECONDS = 120.0
# Bytes beyond the process's memory at its start. Torch and a small network take 0.2 GiB.
MEMORY = 1400 << 20
_REMEDY = "take another version: gristmill status"
_READY_S = 300.0
_END_S = 10.0
_MOST_ANSWER_BYTES = 64 << 20
_KINDS = {kind.__name__: kind for kind in (BundleError, InputError, EnvironmentFault, ParamsError)}
_CODE = "from components.core.sandbox import answer_calls; answer_calls()"


class SandboxedCall:
    """A child process that calls one function, any number of times.

    It starts and imports the function's module when this object is created. When it dies, a new
    one follows.

    Args:
        work: an importable function of JSON values that returns a JSON value.
        seconds: limit of one call.
        memory: limit in bytes, see `limit_memory`.
    """

    def __init__(
        self, work: Callable[..., Any], seconds: float = SECONDS, memory: int = MEMORY
    ) -> None:
        self._seconds = seconds
        self._memory = memory
        self._name = f"{work.__module__}:{work.__qualname__}"
        self._scratch = tempfile.TemporaryDirectory(prefix="gristmill-")
        self._is_ready = False
        self._process = self._start()

    def __enter__(self) -> SandboxedCall:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._kill()
        self._scratch.cleanup()

    @property
    def pid(self) -> int:
        """Return the process id of the child."""
        return self._process.pid

    def call(self, where: Path, *values: Any) -> Any:
        """Return what the function returns.

        Args:
            where: subject of the work, for messages.
            values: arguments of the function.

        Raises:
            GristmillError: raised by the function.
            BundleError: the function raised another error, did not return in time, needed too
                much memory, or ended its process.
            EnvironmentFault: no process can be started.
        """
        if self._process.poll() is not None and self._is_ready:
            self._kill()
            self._process = self._start()
        self._wait_until_ready()
        try:
            outcome = self._ask(values)
        except TimeoutError:
            self._kill()
            what = f"does not load and answer within {self._seconds:g} s"
        except EOFError:
            what = f"takes down the process that loads it ({self._end()}); {self._bound()}"
        except OverflowError:
            self._kill()
            what = f"gives an answer of more than {_MOST_ANSWER_BYTES >> 20} MiB"
        else:
            if "value" in outcome:
                return outcome["value"]
            if "error" in outcome:
                kind, what, error_where, remedy = outcome["error"]
                raise _KINDS[kind](what, where=error_where or str(where), remedy=remedy or _REMEDY)
            what = f"needs too much memory: {self._bound()}"
        raise BundleError(what, where=str(where), remedy=_REMEDY)

    def _start(self) -> subprocess.Popen[bytes]:
        self._is_ready = False
        python_path = os.pathsep.join(map(os.path.abspath, sys.path))
        return subprocess.Popen(
            [sys.executable, "-c", _CODE, self._name, str(self._memory), str(self._seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Libraries also print the errors that they raise.
            stderr=subprocess.DEVNULL,
            cwd=self._scratch.name,
            env={**os.environ, "PYTHONPATH": python_path},
        )

    def _wait_until_ready(self) -> None:
        if self._is_ready:
            return
        try:
            self._receive(_READY_S)
        except (TimeoutError, EOFError):
            self._kill()
            raise EnvironmentFault(
                f"a child process cannot be started ({self._end()})", remedy="gristmill doctor"
            ) from None
        self._is_ready = True

    def _ask(self, values: tuple[Any, ...]) -> dict[str, Any]:
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(values).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise EOFError from None
        outcome: dict[str, Any] = json.loads(self._receive(self._seconds))
        return outcome

    def _receive(self, seconds: float) -> bytes:
        """Return one line from the child.

        Raises:
            TimeoutError: no line came in time.
            EOFError: the child has ended.
            OverflowError: the line is too long.
        """
        assert self._process.stdout
        deadline = time.monotonic() + seconds
        line = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                part = os.read(self._process.stdout.fileno(), 1 << 20)
                if not part:
                    raise EOFError
                line += part
                if len(line) > _MOST_ANSWER_BYTES:
                    raise OverflowError
        return bytes(line)

    def _bound(self) -> str:
        return f"it may take {self._memory / (1 << 30):.1f} GiB of memory at most"

    def _end(self) -> str:
        """Return how the child ended."""
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream
            try:
                stream.close()
            except BrokenPipeError:
                # The written bytes never reached the child.
                continue


def limit_memory(more: int) -> None:
    """Limit this process to `more` bytes beyond its present memory.

    Private writable pages are counted, because torch and ONNX Runtime do not reserve them ahead:
    their address space is several times as large. An allocation beyond the limit fails.
    """
    memory = psutil.Process().memory_info()
    # Only Linux reports `data`, and only Linux enforces the limit.
    used = getattr(memory, "data", memory.vms)
    _limit(resource.RLIMIT_DATA, used + more)


def _limit(kind: int, value: int) -> None:
    """Set a limit of this process, at most the hard limit."""
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, hard))


def answer_calls() -> None:
    """Answer calls as the child of a `SandboxedCall`, until standard input ends."""
    collect_rarely()
    name, memory, seconds = sys.argv[1:]
    # Output of libraries must not mix with the answers.
    channel = os.dup(1)
    os.dup2(2, 1)
    work = pkgutil.resolve_name(name)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit_memory(int(memory))
    _send(channel, {})
    for line in sys.stdin.buffer:
        _limit_processor(float(seconds))
        _send(channel, _outcome(work, json.loads(line)))


def _limit_processor(seconds: float) -> None:
    """End this process after the time of one call on all processors.

    The limit matters when its parent has died.
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    limit = usage.ru_utime + usage.ru_stime + seconds * (os.cpu_count() or 1) + 1
    _limit(resource.RLIMIT_CPU, int(limit))


def _outcome(work: Callable[..., Any], values: list[Any]) -> dict[str, Any]:
    try:
        return {"value": work(*values)}
    except MemoryError:
        return {"memory": True}
    except GristmillError as error:
        kind = type(error).__name__ if type(error).__name__ in _KINDS else "InputError"
        return {"error": [kind, error.what, error.where, error.remedy]}
    except Exception as error:
        return {"error": ["BundleError", f"fails: {brief(error)}", "", ""]}


def _send(channel: int, value: dict[str, Any]) -> None:
    with os.fdopen(os.dup(channel), "wb") as stream:
        stream.write(json.dumps(value).encode() + b"\n")
