"""Prepare a candidate beside a running service, in a child process and within a time limit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.core.errors import EnvironmentFault, GristmillError, InputError
from components.core.garbage import collect_rarely
from components.orchestration.processes import end_with_parent
from components.registry.versions.model_versions import BUNDLE, Version
from components.serving.rollout import version_files
from components.serving.rollout.plan import ServedVersion

_CODE = Path(__file__).parents[3]


class Preparation:
    """Copies and verifies a candidate in a child process, then runs its preflight.

    The caller never waits for the child process and is not affected by its end.

    Args:
        root: of the project.
        version: as the registry has it.
        folder: of the service.
        preflight: checks a copy, in this preparation's thread; None: the copy is not checked.
        limit_s: for the whole preparation, in seconds.
    """

    def __init__(
        self,
        root: Path,
        version: Version,
        folder: Path,
        preflight: Callable[[ServedVersion], object] | None = None,
        limit_s: float = 1800.0,
    ) -> None:
        self._root = root
        self._version = version
        self._folder = folder
        self._preflight = preflight
        self._limit_s = limit_s
        self._deadline = time.monotonic() + limit_s
        self._child: subprocess.Popen[str] | None = None
        self._cancelled = False
        self._outcome: ServedVersion | GristmillError | None = None
        threading.Thread(target=self._run, name="preparation", daemon=True).start()

    def is_of(self, version: Version) -> bool:
        """Return whether this prepares a version, with the same files.

        Args:
            version: as the registry has it.
        """
        return _identity(self._version) == _identity(version)

    def result(self) -> ServedVersion | None:
        """Return the copy that can be served, or None while it is not ready.

        Raises:
            InputError: the candidate cannot be served.
            EnvironmentFault: it cannot be served now, or was not ready within the time limit.
        """
        if isinstance(self._outcome, GristmillError):
            raise self._outcome
        if self._outcome is None and time.monotonic() > self._deadline:
            self.cancel()
            raise EnvironmentFault(
                f"it was not prepared within {self._limit_s:.0f} s",
                where=f"version {self._version.number}",
                remedy="check the disk or network that keeps its files",
            )
        return self._outcome

    def cancel(self) -> None:
        """Cancel the preparation and end its process."""
        self._cancelled = True
        if self._child:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)

    def _run(self) -> None:
        try:
            served = self._copy()
            if self._preflight:
                self._preflight(served)
            self._outcome = served
        except Exception as error:
            self._outcome = version_files.as_fault(error)

    def _copy(self) -> ServedVersion:
        with _scratch(self._folder) as part:
            order = {
                "root": str(self._root),
                "version": asdict(self._version),
                "folder": str(self._folder),
                "part": part,
            }
            code, answer = self._run_child(json.dumps(order))
            return _parse_answer(code, answer)

    def _run_child(self, order: str) -> tuple[int, str]:
        """Run the child process. Return its exit code and its answer."""
        python_path = [str(_CODE)]
        inherited = os.environ.get("PYTHONPATH")
        if inherited:
            python_path.append(inherited)
        self._child = subprocess.Popen(
            [sys.executable, "-m", "components.orchestration.service.version_files_process"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(python_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        if self._cancelled:
            self.cancel()
        answer, _ = self._child.communicate(order)
        return self._child.returncode, answer


def _identity(version: Version) -> tuple[str, int, str, str | None]:
    return version.pipeline, version.number, version.source, version.tags.get(BUNDLE)


def _scratch(folder: Path) -> tempfile.TemporaryDirectory[str]:
    """Make an empty folder in the folder of the service.

    Raises:
        EnvironmentFault: it cannot be made. The candidate is not the cause.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(
            prefix=".", suffix=version_files.PART, dir=folder, ignore_cleanup_errors=True
        )
    except OSError as error:
        raise EnvironmentFault(
            f"no copy can be made: {error.strerror}",
            where=str(folder),
            remedy="free disk space, and make the folder writable",
        ) from None


def _parse_answer(code: int, answer: str) -> ServedVersion:
    """Return the copy that the child process has made.

    Raises:
        InputError, EnvironmentFault: the child process reports the error, or it died.
    """
    if not answer:
        reason = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise InputError(
            f"it takes down the process that prepares it ({reason})",
            remedy="take another version: gristmill status",
        )
    result: dict[str, Any] = json.loads(answer)
    if "edition" in result:
        return ServedVersion.model_validate_json(result["edition"])
    kind = EnvironmentFault if result["passes"] else InputError
    raise kind(result["what"], where=result["where"], remedy=result["remedy"])


def main() -> None:
    """Prepare the candidate that standard input names. Write the result to standard output."""
    collect_rarely()
    output = os.dup(1)
    # The lines that libraries print must not be in the answer.
    os.dup2(2, 1)
    _prefer_for_oom_kill()
    order = json.loads(sys.stdin.read())
    version = Version(**order["version"])
    try:
        served = version_files.prepare(
            Path(order["root"]), version, Path(order["folder"]), Path(order["part"])
        )
        result: dict[str, Any] = {"edition": served.model_dump_json()}
    except BaseException as error:
        fault = version_files.as_fault(error)
        passes = isinstance(fault, EnvironmentFault)
        result = {
            "passes": passes,
            "what": fault.what,
            "where": fault.where,
            "remedy": fault.remedy,
        }
    with os.fdopen(output, "w", encoding="utf-8") as answer:
        answer.write(json.dumps(result))


def _prefer_for_oom_kill() -> None:
    """Make the kernel end this process, and not the service, when memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main()
