"""A candidate prepared beside a running service: in a process of its own, within a time limit."""

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
from components.orchestration.processes import end_with_parent
from components.registry.versions.model_versions import BUNDLE, Version
from components.serving.rollout import candidate
from components.serving.rollout.plan import ServedVersion

PART = ".part"
_CODE = Path(__file__).parents[3]


class Preparation:
    """A candidate on its way: copied and verified in a child process, then tried out.

    Whatever it does to that process, or however long it takes, the caller only looks.

    Args:
        root: of the project.
        version: as the registry has it.
        folder: of the service.
        preflight: tries a copy out, in this preparation's thread; None: it is not tried out.
        limit_s: for all of it, in seconds.
    """

    def __init__(
        self,
        root: Path,
        version: Version,
        folder: Path,
        preflight: Callable[[ServedVersion], object] | None = None,
        limit_s: float = 1800.0,
    ) -> None:
        self._root, self._version, self._folder = root, version, folder
        self._preflight, self._limit_s = preflight, limit_s
        self._deadline = time.monotonic() + limit_s
        self._child: subprocess.Popen[str] | None = None
        self._cancelled = False
        self._outcome: ServedVersion | GristmillError | None = None
        threading.Thread(target=self._run, name="preparation", daemon=True).start()

    def is_of(self, version: Version) -> bool:
        """Say whether this prepares that version, with these files."""
        mine = self._version
        return (mine.pipeline, mine.number, mine.source, mine.tags.get(BUNDLE)) == (
            version.pipeline,
            version.number,
            version.source,
            version.tags.get(BUNDLE),
        )

    def result(self) -> ServedVersion | None:
        """Return the copy that can be served; None while it is on its way.

        Raises:
            InputError: it cannot be served.
            EnvironmentFault: not now, or not within the time limit.
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
        """Give it up, and end its process."""
        self._cancelled = True
        if self._child:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)

    def _run(self) -> None:
        try:
            edition = self._copy()
            if self._preflight:
                self._preflight(edition)
            self._outcome = edition
        except Exception as error:
            self._outcome = candidate.as_fault(error)

    def _copy(self) -> ServedVersion:
        with _scratch(self._folder) as part:
            order = {
                "root": str(self._root),
                "version": asdict(self._version),
                "folder": str(self._folder),
                "part": part,
            }
            return _read(*self._ask(json.dumps(order)))

    def _ask(self, order: str) -> tuple[int, str]:
        """Run the child. Returns its exit code and its answer."""
        path = os.pathsep.join([str(_CODE), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._child = subprocess.Popen(
            [sys.executable, "-m", "components.orchestration.service.candidate_process"],
            env={**os.environ, "PYTHONPATH": path},
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


def _scratch(folder: Path) -> tempfile.TemporaryDirectory[str]:
    """Make an empty folder in the service's.

    Raises:
        EnvironmentFault: it cannot be made, which is no candidate's fault.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(
            prefix=".", suffix=PART, dir=folder, ignore_cleanup_errors=True
        )
    except OSError as error:
        raise EnvironmentFault(
            f"no copy can be made: {error.strerror}",
            where=str(folder),
            remedy="free disk space, and make the folder writable",
        ) from None


def _read(code: int, answer: str) -> ServedVersion:
    """Return what the child has made.

    Raises:
        InputError, EnvironmentFault: as the child has it, or because it died.
    """
    if not answer:
        reason = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise InputError(
            f"it takes down the process that prepares it ({reason})",
            remedy="take another version: gristmill status",
        )
    facts: dict[str, Any] = json.loads(answer)
    if "edition" in facts:
        return ServedVersion.model_validate_json(facts["edition"])
    kind = EnvironmentFault if facts["passes"] else InputError
    raise kind(facts["what"], where=facts["where"], remedy=facts["remedy"])


def main() -> None:
    """Prepare the candidate that standard input names; write what came of it to standard output."""
    answer_to = os.dup(1)
    # Libraries print what they like, but not into the answer.
    os.dup2(2, 1)
    _die_first()
    order = json.loads(sys.stdin.read())
    version = Version(**order["version"])
    try:
        edition = candidate.prepare(
            Path(order["root"]), version, Path(order["folder"]), Path(order["part"])
        )
        facts: dict[str, Any] = {"edition": edition.model_dump_json()}
    except BaseException as error:
        fault = candidate.as_fault(error)
        passes = isinstance(fault, EnvironmentFault)
        facts = {
            "passes": passes,
            "what": fault.what,
            "where": fault.where,
            "remedy": fault.remedy,
        }
    with os.fdopen(answer_to, "w", encoding="utf-8") as answer:
        answer.write(json.dumps(facts))


def _die_first() -> None:
    """Where memory runs out, the kernel is to end this process and not the service."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main()
